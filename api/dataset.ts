import { describe, rejectUnknownOptions, size } from './check.js'
import { fail } from './error.js'
import { checkTensor, floats, integers, shapeText, type Floats, type TensorLike } from './tensor.js'

/** One batch: input (batch, len, input) or tokens (batch, len), and what should come out. */
export interface Batch {
  /** Values or tokens. */
  input: TensorLike
  /** Values (batch, [len,] output), or labels (batch, [len]) as a tensor or a plain array; a negative label is left out. */
  target: TensorLike | ArrayLike<number>
  /** Length of each row, 1 … len; what lies beyond may be anything, NaN too. */
  lengths?: ArrayLike<number>
  /** Weight of each output row, 0 or more: losses, metrics and gradients are Σ weight·value/Σ weight. Target values of weight 0 may be anything. */
  weights?: TensorLike | ArrayLike<number>
  /** Sampling-rate ratio. */
  rate?: number
}

/** One example without a batch: input (len, input) or tokens (len); with `batchSize` examples become batches, shorter ones padded. */
export interface Sample {
  /** (len, input), or tokens (len). */
  input: TensorLike
  /** A label, values (output), or per step: values (len, output), labels (len); len is that of its own input. */
  target: number | TensorLike
}

/** Anything that can be iterated: an array, a generator, an async iterable. Iterated once an epoch. */
export type Dataset = Iterable<Batch | Sample> | AsyncIterable<Batch | Sample>

/** The order of one epoch of a run: where the array is shuffled, and how many of its items were taken already. */
export interface EpochOrder {
  /** Of the run, and the epoch: each has an order of its own. */
  shuffle?: { seed: number; epoch: number } | undefined
  /** Items that are left out at its start. */
  skip?: number
}

/** Refuses what cannot be iterated. */
export function checkDataset(op: string, dataset: unknown): void {
  const d = dataset as Partial<Iterable<unknown> & AsyncIterable<unknown>> | undefined | null
  if (
    d === undefined ||
    d === null ||
    (typeof d[Symbol.iterator] !== 'function' && typeof d[Symbol.asyncIterator] !== 'function') ||
    typeof d === 'string'
  ) {
    throw fail('ERR_S4_DATA', op, 'an iterable of batches', typeof dataset)
  }
}

/** Refuses what no batch can be collected by. */
export function checkBatchSize(op: string, batchSize: unknown): void {
  if (batchSize !== undefined && !(Number.isSafeInteger(batchSize) && (batchSize as number) >= 1))
    throw fail('ERR_S4_VALUE', op, 'batchSize of 1 or more', batchSize)
}

/** Batches of a dataset; with `batchSize`, examples are collected; an array may be shuffled. */
export async function* batches(
  op: string,
  dataset: Dataset,
  batchSize?: number,
  { shuffle, skip = 0 }: EpochOrder = {},
): AsyncGenerator<Batch> {
  checkDataset(op, dataset)
  checkBatchSize(op, batchSize)
  const source = shuffle === undefined ? dataset : shuffled(op, dataset, shuffle)
  let left = skip
  if (batchSize === undefined) {
    for await (const batch of source) if (left-- <= 0) yield batch as Batch
    return
  }
  let collected: Sample[] = []
  for await (const sample of source) {
    if (left-- > 0) continue
    collected.push(sample as Sample)
    if (collected.length === batchSize) {
      yield collate(op, collected)
      collected = []
    }
  }
  if (collected.length > 0) yield collate(op, collected)
}

/**
 * The same batches, each made while the one before it is in use: the next is asked for once the consumer has started its native
 * call, so a slow source and the computation overlap. One batch more than was used may have been read when the consumer stops.
 */
export async function* readAhead<T>(source: AsyncGenerator<T>): AsyncGenerator<T> {
  let next = source.next()
  try {
    for (;;) {
      const { done, value } = await next
      if (done) return
      next = new Promise<void>((resolve) => setImmediate(resolve)).then(() => source.next())
      next.catch(() => undefined)
      yield value
    }
  } finally {
    void source.return(undefined).catch(() => undefined)
  }
}

/** 32 bits of a run's seed and an epoch, each bit of both in all of them. */
function mixed(seed: number, epoch: number): number {
  let h = 0x9e3779b9
  for (const word of [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, epoch >>> 0]) {
    h = Math.imul(h ^ word, 0x85ebca6b)
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
    h ^= h >>> 16
  }
  return h >>> 0
}

function shuffled(
  op: string,
  dataset: Dataset,
  { seed, epoch }: { seed: number; epoch: number },
): (Batch | Sample)[] {
  if (!Array.isArray(dataset)) throw fail('ERR_S4_DATA', op, 'an array, to shuffle it', 'another iterable')
  const out = [...(dataset as (Batch | Sample)[])]
  let state = mixed(seed, epoch)
  for (let i = out.length - 1; i > 0; i--) {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    const j = Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * (i + 1))
    const [a, b] = [out[i], out[j]]
    out[i] = b as Batch | Sample
    out[j] = a as Batch | Sample
  }
  return out
}

/** Refuses keys that a batch or an example has not. */
export function rejectUnknownKeys(op: string, what: string, x: unknown, names: readonly string[]): void {
  if (typeof x !== 'object' || x === null) throw fail('ERR_S4_DATA', op, what, describe(x))
  const unknown = Object.keys(x).find((key) => !names.includes(key))
  if (unknown !== undefined)
    throw fail('ERR_S4_DATA', op, `${what} of ${names.join(', ')}`, `the unknown key '${unknown}'`)
}

/** Examples of any lengths as one padded batch with `lengths`. */
export function collate(op: string, samples: readonly Sample[]): Batch {
  for (const sample of samples) rejectUnknownKeys(op, 'an example', sample, ['input', 'target'])
  const inputs = samples.map((s) => checkTensor(op, 'input', s?.input, [1, 2]))
  const lens = inputs.map((x) => x.shape[0] as number)
  const len = Math.max(...lens)
  const width = inputs[0]?.shape[1]
  for (const x of inputs) {
    if (x.shape[1] !== width)
      throw fail('ERR_S4_SHAPE', op, `examples of width ${width ?? 'tokens'}`, shapeText(x.shape))
  }
  const rows = samples.length
  const input: TensorLike = {
    data: padded(op, 'input', inputs, len * (width ?? 1)),
    shape: width === undefined ? [rows, len] : [rows, len, width],
  }
  const ragged = lens.some((n) => n !== len)
  const lengths = ragged ? { lengths: Int32Array.from(lens) } : {}
  if (samples.every((s) => typeof s.target === 'number')) {
    return { input, target: samples.map((s) => s.target as number), ...lengths }
  }
  const targets = samples.map((s) => checkTensor(op, 'target', s.target, [1, 2]))
  const [count, columns] = (targets[0] as TensorLike).shape as [number, number?]
  if (columns !== undefined) {
    targets.forEach((t, row) => {
      if (t.shape[0] !== lens[row] || t.shape[1] !== columns)
        throw fail('ERR_S4_SHAPE', op, `target [${lens[row]}, ${columns}]`, shapeText(t.shape))
    })
    // Padding is left out of the loss by weight 0.
    const weights = new Float64Array(rows * len)
    lens.forEach((n, row) => weights.fill(1, row * len, row * len + n))
    return {
      input,
      target: { data: padded(op, 'target', targets, len * columns), shape: [rows, len, columns] },
      ...lengths,
      ...(ragged ? { weights } : {}),
    }
  }
  if (targets.every((t) => t.shape.length === 1 && t.shape[0] === count)) {
    return { input, target: { data: padded(op, 'target', targets, count), shape: [rows, count] }, ...lengths }
  }
  targets.forEach((t, row) => {
    if (t.shape.length !== 1 || t.shape[0] !== lens[row])
      throw fail(
        'ERR_S4_SHAPE',
        op,
        `targets of ${count} values, or of as many labels as their inputs have steps`,
        `${shapeText(t.shape)} beside an input of ${lens[row]} steps`,
      )
  })
  // A label below 0 is left out of the loss.
  return { input, target: { data: padded(op, 'target', targets, len, -1), shape: [rows, len] }, ...lengths }
}

/** One row a tensor, each filled up to `width` numbers. */
function padded(
  op: string,
  what: string,
  parts: readonly TensorLike[],
  width: number,
  padding = 0,
): Float64Array {
  const out = new Float64Array(parts.length * width).fill(padding)
  parts.forEach(({ data }, row) => {
    // Tokens and labels may be 64-bit integers.
    out.set(
      data instanceof BigInt64Array ? integers(op, what, data) : floats(op, what, data, 'f64'),
      row * width,
    )
  })
  return out
}

/** Windows over a long series, (len, features), for next-values prediction. */
export interface WindowOptions {
  /** Samples of a window. */
  length: number
  /** Samples between the starts of two windows. Default `length`. */
  stride?: number
  /** Samples ahead that a step is to predict. Default 1. */
  horizon?: number
}

/** Examples { input (length, 1), target (length, horizon) }: at every step the next `horizon` values. */
export function windows(series: ArrayLike<number>, options: WindowOptions): Generator<Sample> {
  const op = 'windows'
  rejectUnknownOptions(op, options, ['length', 'stride', 'horizon'])
  const { length, stride = length, horizon = 1 } = options
  for (const [what, n] of Object.entries({ length, stride, horizon })) size(op, what, n)
  if (typeof series !== 'object' || series === null)
    throw fail('ERR_S4_DTYPE', op, 'a series as an array of numbers', typeof series)
  const values = floats(op, 'series', series, 'f64')
  if (values.length < length + horizon) {
    throw fail('ERR_S4_DATA', op, `a series of at least ${length + horizon} samples`, values.length)
  }
  return windowsOf(values, length, stride, horizon)
}

function* windowsOf(series: Floats, length: number, stride: number, horizon: number): Generator<Sample> {
  for (let start = 0; start + length + horizon <= series.length; start += stride) {
    const input = new Float64Array(length)
    const target = new Float64Array(length * horizon)
    for (let t = 0; t < length; t++) {
      input[t] = series[start + t] as number
      for (let k = 0; k < horizon; k++) target[t * horizon + k] = series[start + t + 1 + k] as number
    }
    yield { input: { data: input, shape: [length, 1] }, target: { data: target, shape: [length, horizon] } }
  }
}
