import { describe, membersOf, rejectUnknownOptions, size } from './check.js'
import { fail, reading } from './error.js'
import { checkTensor, finite, floats, integers, shapeText, type Floats, type TensorLike } from './tensor.js'

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

/** What iterates a dataset, by name in errors: `dataset` or `validation`. */
export interface DatasetSource {
  readonly what: 'dataset' | 'validation'
  readonly dataset: Dataset
  readonly batchSize?: number | undefined
}

/** Refuses what cannot be iterated, and a size of batches that none can be collected by. */
export function checkDataset(op: string, { what, dataset, batchSize }: DatasetSource): void {
  const iterable = reading(op, what, () => {
    const d = dataset as Partial<Iterable<unknown> & AsyncIterable<unknown>> | undefined | null
    return (
      typeof d === 'object' &&
      d !== null &&
      (typeof d[Symbol.iterator] === 'function' || typeof d[Symbol.asyncIterator] === 'function')
    )
  })
  if (!iterable) throw fail('ERR_S4_DATA', op, `${what} as an iterable of batches`, describe(dataset))
  if (batchSize !== undefined) size(op, 'batchSize', batchSize)
}

/** A walk over a dataset. What its own iterator throws passes as it is; the elements of an array are read here. */
function walk(op: string, { what, dataset }: DatasetSource): Iterable<unknown> | AsyncIterable<unknown> {
  return reading(op, what, () => {
    if (Array.isArray(dataset)) return elementsOf(op, what, dataset)
    const d = dataset as Partial<Iterable<unknown> & AsyncIterable<unknown>>
    const iterator: unknown = d[Symbol.asyncIterator]?.() ?? d[Symbol.iterator]?.()
    if (typeof (iterator as Partial<Iterator<unknown>> | null | undefined)?.next !== 'function')
      throw fail('ERR_S4_DATA', op, `${what} whose iterator has next()`, describe(iterator))
    return typeof d[Symbol.asyncIterator] === 'function'
      ? { [Symbol.asyncIterator]: () => iterator as AsyncIterator<unknown> }
      : { [Symbol.iterator]: () => iterator as Iterator<unknown> }
  })
}

function* elementsOf(op: string, what: string, array: readonly unknown[]): Generator<unknown> {
  const length = () => reading(op, what, () => array.length)
  for (let i = 0; i < length(); i++) yield reading(op, what, () => array[i])
}

/** Batches of a dataset; with `batchSize`, examples are collected; an array may be shuffled. */
export async function* batches(
  op: string,
  source: DatasetSource,
  { shuffle, skip = 0 }: EpochOrder = {},
): AsyncGenerator<Batch> {
  checkDataset(op, source)
  const { batchSize, what } = source
  const items = shuffle === undefined ? walk(op, source) : shuffled(op, source, shuffle)
  let left = skip
  if (batchSize === undefined) {
    for await (const batch of items) if (left-- <= 0) yield batch as Batch
    return
  }
  let collected: Sample[] = []
  for await (const sample of items) {
    if (left-- > 0) continue
    collected.push(sample as Sample)
    if (collected.length === batchSize) {
      yield collate(op, what, collected)
      collected = []
    }
  }
  if (collected.length > 0) yield collate(op, what, collected)
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
  { what, dataset }: DatasetSource,
  { seed, epoch }: { seed: number; epoch: number },
): unknown[] {
  checkShuffled(op, dataset)
  const out = [...elementsOf(op, what, dataset)]
  let state = mixed(seed, epoch)
  for (let i = out.length - 1; i > 0; i--) {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    const j = Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * (i + 1))
    const [a, b] = [out[i], out[j]]
    out[i] = b
    out[j] = a
  }
  return out
}

/** Refuses to shuffle what is no array. */
export function checkShuffled(op: string, dataset: unknown): asserts dataset is unknown[] {
  if (!reading(op, 'dataset', () => Array.isArray(dataset)))
    throw fail('ERR_S4_DATA', op, 'dataset as an array, to shuffle it', 'another iterable')
}

/** The members of a batch or an example, each read once; what it has not is refused by name. */
export function batchMembers<T>(op: string, what: string, x: unknown, names: readonly (keyof T & string)[]): Partial<T> {
  const members = membersOf(op, what, x, 'ERR_S4_DATA')
  const unknown = Object.keys(members).find((key) => !(names as readonly string[]).includes(key))
  if (unknown !== undefined)
    throw fail('ERR_S4_DATA', op, `${what} of ${names.join(', ')}`, `the unknown key '${unknown}'`)
  return members as Partial<T>
}

/** Examples of any lengths as one padded batch with `lengths`. */
export function collate(op: string, what: string, given: readonly unknown[]): Batch {
  const samples = given.map((x) => batchMembers<Sample>(op, `each example of ${what}`, x, ['input', 'target']))
  const inputs = samples.map((s) => checkTensor(op, 'input', s.input, [1, 2]))
  const lens = inputs.map((x) => x.shape[0] as number)
  const len = Math.max(...lens)
  const width = inputs[0]?.shape[1]
  for (const x of inputs) {
    if (x.shape[1] !== width)
      throw fail('ERR_S4_SHAPE', op, `input of width ${width ?? 'tokens'} in every example`, shapeText(x.shape))
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
  const { length, stride = length, horizon = 1 } = rejectUnknownOptions(op, options, [
    'length',
    'stride',
    'horizon',
  ])
  for (const [what, n] of Object.entries({ length, stride, horizon })) size(op, what, n)
  if (typeof series !== 'object' || series === null)
    throw fail('ERR_S4_DTYPE', op, 'a series as an array of numbers', typeof series)
  const values = finite(op, 'series', floats(op, 'series', series, 'f64'))
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
