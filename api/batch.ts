// What a model takes, checked against its description, in the addon's types.
import type { BatchInput } from '#binding'
import { rejectUnknownKeys, type Batch } from './dataset.js'
import { fail } from './error.js'
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
export function nativeInput(op: string, { config, dtype }: ModelShape, x: TensorLike): NativeInput {
  const width = inputWidth(config)
  if (width === undefined) {
    const [batch, len] = checkTensor(op, 'tokens', x, 2).shape as [number, number]
    return { data: integers(op, 'tokens', x.data), batch, len }
  }
  const [batch, len, given] = checkTensor(op, 'input', x, 3).shape as [number, number, number]
  if (given !== width) throw fail('ERR_S4_SHAPE', op, `input (batch, len, ${width})`, shapeText(x.shape))
  return { data: floats(op, 'input', x.data, dtype), batch, len }
}

/** The numbers of `{ data, shape }` of these ranks, or of a plain array. */
function numbersOf(
  op: string,
  what: string,
  x: TensorLike | ArrayLike<number>,
  ranks?: readonly number[],
): TensorLike['data'] {
  return 'shape' in x ? checkTensor(op, what, x, ranks).data : x
}

/** A checked batch as the addon takes it. */
export function nativeBatch(op: string, model: ModelShape, batch: Batch): BatchInput {
  rejectUnknownKeys(op, 'a batch', batch, ['input', 'target', 'lengths', 'weights', 'rate'])
  const { data, batch: rows, len } = nativeInput(op, model, batch.input)
  const { config, dtype, algorithm } = model
  const pooled = config.pooling !== 'none'
  const count = pooled ? rows : rows * len
  const { target: given } = batch
  if (typeof given !== 'object' || given === null)
    throw fail('ERR_S4_DATA', op, 'a target for each row', String(given))
  let target
  if (config.loss === 'crossEntropy') {
    target = integers(op, 'target', numbersOf(op, 'target', given, pooled ? [1] : [1, 2]))
    if (target.length !== count) throw fail('ERR_S4_SHAPE', op, `${count} labels`, `${target.length}`)
  } else {
    if (!('shape' in given)) throw fail('ERR_S4_SHAPE', op, 'target as { data, shape }', 'an array')
    target = shaped(op, 'target', given, pooled ? [rows, config.output] : [rows, len, config.output], dtype)
  }
  let weights
  if (batch.weights !== undefined) {
    if (typeof batch.weights !== 'object' || batch.weights === null)
      throw fail('ERR_S4_SHAPE', op, `${count} weights`, String(batch.weights))
    const values = numbersOf(op, 'weights', batch.weights)
    if (values.length !== count) throw fail('ERR_S4_SHAPE', op, `${count} weights`, `${values.length}`)
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
