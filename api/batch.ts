// Inputs and batches that a caller gives to a model: checked against the model's configuration, and converted to the types
// that the addon takes.
import type { BatchInput } from '#binding'
import { batchMembers, type Batch } from './dataset.js'
import { describe, fail, readGiven } from './error.js'
import type { ModelConfig, SsmAlgorithm } from './options.js'
import {
  checkTensor,
  floats,
  integers,
  rateOf,
  rowLengths,
  floatsOfShape,
  shapeText,
  stepsIntervals,
  type Dtype,
  type TensorLike,
} from './tensor.js'

/** What the form of a model's inputs and targets depends on. */
export interface ModelShape {
  readonly config: Readonly<ModelConfig>
  readonly dtype: Dtype
  readonly algorithm: SsmAlgorithm
}

/** An input in the addon's types: values (batch, len, width), or tokens (batch, len). */
export interface NativeInput {
  data: Float32Array | Float64Array | Int32Array
  batch: number
  len: number
}

/** Number of values that the model's input has at each time step; undefined where it takes tokens. */
export function inputWidth({ encoder, features, input }: Readonly<ModelConfig>): number | undefined {
  if (encoder === 'embedding') return undefined
  return encoder === 'none' ? features : input
}

/** Checks an input, values (batch, len, input) or tokens (batch, len), and converts it to the addon's types. */
export function nativeInput(op: string, { config, dtype }: ModelShape, x: unknown): NativeInput {
  const width = inputWidth(config)
  if (width === undefined) {
    const tokens = checkTensor(op, 'tokens', x, 2)
    const [batch, len] = tokens.shape as [number, number]
    return { data: integers(op, 'tokens', tokens.data), batch, len }
  }
  const input = checkTensor(op, 'input', x, 3)
  const [batch, len, given] = input.shape as [number, number, number]
  if (given !== width) throw fail('ERR_S4_SHAPE', op, `input (batch, len, ${width})`, shapeText(input.shape))
  return { data: floats(op, 'input', input.data, dtype), batch, len }
}

/** The numbers of a plain array, or of `{ data, shape }`, whose number of sizes must be one of `ranks`. */
function numbersOf(
  op: string,
  what: 'target' | 'weights',
  x: unknown,
  ranks?: readonly number[],
): TensorLike['data'] {
  return hasShape(op, what, x) ? checkTensor(op, what, x, ranks).data : (x as ArrayLike<number>)
}

/** Whether it is `{ data, shape }` rather than a plain array. A batch without a target is no data. */
const hasShape = (op: string, what: 'target' | 'weights', x: unknown) =>
  readGiven(op, what, () => {
    const code = what === 'target' ? 'ERR_S4_DATA' : 'ERR_S4_SHAPE'
    if (typeof x !== 'object' || x === null)
      throw fail(code, op, `${what} as { data, shape } or an array of numbers`, describe(x))
    return 'shape' in x
  })

/** Refuses another count of numbers. */
function checkCount(
  op: string,
  what: string,
  unit: string,
  data: TensorLike['data'],
  targetCount: number,
): void {
  const given: unknown = readGiven(op, what, () => data.length)
  if (given !== targetCount)
    throw fail(
      'ERR_S4_SHAPE',
      op,
      `${what} of ${targetCount} ${unit}`,
      typeof given === 'number' ? given : describe(data),
    )
}

const MEMBERS = ['input', 'target', 'lengths', 'intervals', 'weights', 'rate'] as const

/** A checked batch as the addon takes it; `what` is its name in errors. */
export function nativeBatch(op: string, model: ModelShape, given: unknown, what: string): BatchInput {
  const batch = batchMembers<Batch>(op, what, given, MEMBERS)
  const { data, batch: rows, len } = nativeInput(op, model, batch.input)
  const { config, dtype, algorithm } = model
  const pooled = config.pooling !== 'none'
  const targetCount = pooled ? rows : rows * len
  let target
  if (config.loss === 'crossEntropy') {
    const labels = numbersOf(op, 'target', batch.target, pooled ? [1] : [1, 2])
    checkCount(op, 'target', 'labels', labels, targetCount)
    target = integers(op, 'target', labels)
  } else {
    if (!hasShape(op, 'target', batch.target))
      throw fail('ERR_S4_SHAPE', op, 'target as { data, shape }', 'an array')
    const shape = pooled ? [rows, config.output] : [rows, len, config.output]
    target = floatsOfShape(op, 'target', batch.target, shape, dtype)
  }
  let weights
  if (batch.weights !== undefined) {
    const values = numbersOf(op, 'weights', batch.weights)
    checkCount(op, 'weights', 'numbers', values, targetCount)
    weights = floats(op, 'weights', values, dtype)
  }
  return {
    input: data,
    target,
    batch: rows,
    len,
    lengths: rowLengths(op, batch.lengths, rows),
    intervals: stepsIntervals(op, batch.intervals, [rows, len], dtype),
    weights,
    rate: rateOf(op, batch.rate),
    algorithm,
  }
}
