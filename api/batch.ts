// What a model takes, checked against its description, in the addon's types.
import type { BatchInput } from '#binding'
import { batchMembers, type Batch } from './dataset.js'
import { describe, fail, reading } from './error.js'
import type { ModelConfig, SsmAlgorithm } from './options.js'
import {
  checkTensor,
  floats,
  integers,
  rateOf,
  rowLengths,
  shaped,
  shapeText,
  type Dtype,
  type TensorLike,
} from './tensor.js'

/** What decides the form of a model's inputs and targets. */
export interface ModelShape {
  readonly config: Readonly<ModelConfig>
  readonly dtype: Dtype
  readonly algorithm: SsmAlgorithm
}

/** A sequence as the addon takes it: values (batch, len, width), or tokens (batch, len). */
export interface NativeInput {
  data: Float32Array | Float64Array | Int32Array
  batch: number
  len: number
}

/** Values that a sample has; none where the model takes tokens. */
export function inputWidth({ encoder, features, input }: Readonly<ModelConfig>): number | undefined {
  if (encoder === 'embedding') return undefined
  return encoder === 'none' ? features : input
}

/** Checked input: values (batch, len, input), or tokens (batch, len). */
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

/** The numbers of `{ data, shape }` of these ranks, or of a plain array. */
function numbersOf(op: string, what: string, x: unknown, ranks?: readonly number[]): TensorLike['data'] {
  return hasShape(op, what, x) ? checkTensor(op, what, x, ranks).data : (x as ArrayLike<number>)
}

/** Whether it is `{ data, shape }` rather than a plain array. */
const hasShape = (op: string, what: string, x: unknown) =>
  reading(op, what, () => {
    if (typeof x !== 'object' || x === null)
      throw fail('ERR_S4_DATA', op, `${what} as { data, shape } or an array of numbers`, describe(x))
    return 'shape' in x
  })

/** Refuses another count of numbers. */
function checkCount(op: string, what: string, unit: string, data: TensorLike['data'], count: number): void {
  const given: unknown = reading(op, what, () => data.length)
  if (given !== count)
    throw fail('ERR_S4_SHAPE', op, `${what} of ${count} ${unit}`, typeof given === 'number' ? given : describe(data))
}

const MEMBERS = ['input', 'target', 'lengths', 'weights', 'rate'] as const

/** A checked batch as the addon takes it; `what` is its name in errors. */
export function nativeBatch(op: string, model: ModelShape, given: unknown, what: string): BatchInput {
  const batch = batchMembers<Batch>(op, what, given, MEMBERS)
  const { data, batch: rows, len } = nativeInput(op, model, batch.input)
  const { config, dtype, algorithm } = model
  const pooled = config.pooling !== 'none'
  const count = pooled ? rows : rows * len
  let target
  if (config.loss === 'crossEntropy') {
    const labels = numbersOf(op, 'target', batch.target, pooled ? [1] : [1, 2])
    checkCount(op, 'target', 'labels', labels, count)
    target = integers(op, 'target', labels)
  } else {
    if (!hasShape(op, 'target', batch.target))
      throw fail('ERR_S4_SHAPE', op, 'target as { data, shape }', 'an array')
    const shape = pooled ? [rows, config.output] : [rows, len, config.output]
    target = shaped(op, 'target', batch.target, shape, dtype)
  }
  let weights
  if (batch.weights !== undefined) {
    const values = numbersOf(op, 'weights', batch.weights)
    checkCount(op, 'weights', 'numbers', values, count)
    weights = floats(op, 'weights', values, dtype)
  }
  return {
    input: data,
    target,
    batch: rows,
    len,
    lengths: rowLengths(op, batch.lengths, rows),
    weights,
    rate: rateOf(op, batch.rate),
    algorithm,
  }
}
