import { types } from 'node:util'
import { describe, membersOf, rejectUnknownOptions, stepRatio, wholeNumber } from './check.js'
import { fail, readGiven } from './error.js'
import {
  allocate,
  checkTensor,
  finite,
  floats,
  integers,
  shapeText,
  stepsIntervals,
  type Floats,
  type TensorLike,
} from './tensor.js'

/** One batch: inputs, and the targets that the model should give for them. */
export interface Batch {
  /** Values (batch, len, input), or tokens (batch, len). */
  input: TensorLike
  /**
   * Values (batch, len, output) or labels (batch, len); with pooling (batch, output) or (batch). Labels may be a plain
   * array, and a negative one is left out of the loss.
   */
  target: TensorLike | ArrayLike<number>
  /** Length of each sequence, 1 to len. What lies beyond may be anything, NaN too. */
  lengths?: ArrayLike<number>
  /**
   * Time from the step before to each step, (batch, len) or as many numbers, as a multiple of the interval that the model is
   * trained at: finite and above 0, anything in the padding. A step's Δ is multiplied by it, as by `interval` of
   * {@link ModelStream.push}: a step's input is taken to have lasted that long. The first step's is the time since a state that is
   * carried. Two-sided layers go back over the same time; `truncate` is `ERR_S4_UNSUPPORTED`. The SSM is then a recurrence a
   * step, whatever the algorithm. Default 1 for all.
   */
  intervals?: TensorLike | ArrayLike<number>
  /**
   * Weight of each target, 0 or more: one for each sequence with pooling, else one for each time step. Losses, metrics and
   * gradients are Σ weight·value/Σ weight. Target values of weight 0 may be anything.
   */
  weights?: TensorLike | ArrayLike<number>
  /** Ratio of sampling rates, by which every step size is multiplied: 2 for data sampled half as often. Default 1. */
  rate?: number
}

/** One example of a dataset. With the option `batchSize` examples are collected into batches, the shorter ones padded. */
export interface Sample {
  /** Values (len, input), or tokens (len). */
  input: TensorLike
  /**
   * With pooling a label or values (output); without it labels (len) or values (len, output), with the len of its input.
   */
  target: number | TensorLike
  /** Time from the step before to each step, (len), as in {@link Batch.intervals}. Default 1 for all. */
  intervals?: TensorLike | ArrayLike<number>
}

/**
 * Batches, or examples with `batchSize`, as anything that can be iterated: an array, a generator, an async iterable.
 * Iterated once per epoch.
 */
export type Dataset = Iterable<Batch | Sample> | AsyncIterable<Batch | Sample>

/** What a dataset that is a function is told of the epoch for which it is called. */
export interface DatasetPass {
  /** Number of the epoch, from 0. */
  readonly epoch: number
  /** The run's seed. */
  readonly seed: number
  /** Number of this rank, from 0; without others 0. */
  readonly rank: number
  /** Number of ranks; without others 1. */
  readonly worldSize: number
  /** The signal of the training. */
  readonly signal: AbortSignal | undefined
}

/**
 * A dataset of every epoch. Of several ranks each is to give its own part, such as `urls.filter((_, i) => i % worldSize === rank)`: all that it
 * gives is this rank's.
 */
export type DatasetOfPass = (pass: DatasetPass) => Dataset

/** Which items an epoch takes from the dataset, and in which order. */
export interface EpochOrder {
  /** Shuffles an array in an order that the run's seed and the number of the epoch determine. */
  shuffle?: { seed: number; epoch: number } | undefined
  /** Number of items at the start that are left out, because a run that is resumed has taken them already. */
  skip?: number
  /** Takes only the batches of one rank: batch i goes to rank i mod worldSize. */
  shard?: Shard | undefined
}

/** The part of a dataset's batches that a rank takes. */
export interface Shard {
  readonly rank: number
  readonly worldSize: number
}

/** What iterates a dataset, by name in errors: `dataset` or `validation`. */
export interface DatasetSource {
  readonly what: 'dataset' | 'validation'
  readonly dataset: Dataset
  readonly batchSize?: number | undefined
}

/**
 * Whether a dataset can be walked only once, by its form: an iterator or generator, a web ReadableStream, a stream of Node.
 * Nothing is read from it.
 */
export function runsOnce(op: string, { what, dataset }: DatasetSource): boolean {
  return readGiven(op, what, () => {
    const { next, getReader, pipe } = dataset as { next?: unknown; getReader?: unknown; pipe?: unknown }
    return [next, getReader, pipe].some((method) => typeof method === 'function')
  })
}

/** Refuses what cannot be iterated, and a size of batches that none can be collected by. */
export function checkDataset(
  op: string,
  { what, dataset, batchSize }: Omit<DatasetSource, 'dataset'> & { dataset: unknown },
): void {
  const iterable = readGiven(op, what, () => {
    const d = dataset as Partial<Iterable<unknown> & AsyncIterable<unknown>> | undefined | null
    return (
      typeof d === 'object' &&
      d !== null &&
      (typeof d[Symbol.iterator] === 'function' || typeof d[Symbol.asyncIterator] === 'function')
    )
  })
  if (!iterable) throw fail('ERR_S4_DATA', op, `${what} as an iterable of batches`, describe(dataset))
  if (batchSize !== undefined) wholeNumber(op, 'batchSize', batchSize)
}

/** A walk over a dataset. What its own iterator throws passes as it is; the elements of an array are read here. */
function walk(op: string, { what, dataset }: DatasetSource): Iterable<unknown> | AsyncIterable<unknown> {
  return readGiven(op, what, () => {
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

/** The elements of a caller's array, each read once, with what reading one may throw. */
export function* elementsOf(op: string, what: string, array: readonly unknown[]): Generator<unknown> {
  const length = () => readGiven(op, what, () => array.length)
  for (let i = 0; i < length(); i++) {
    yield readGiven(op, what, () => {
      const element = array[i]
      // It is awaited further on, which looks for a `then`; what that throws is told here.
      void (element as Partial<PromiseLike<unknown>> | null | undefined)?.then
      return element
    })
  }
}

/**
 * The batches of a dataset for one epoch. With `batchSize` the dataset gives examples, which are collected into batches.
 */
export async function* batches(
  op: string,
  source: DatasetSource,
  { shuffle, skip = 0, shard = { rank: 0, worldSize: 1 } }: EpochOrder = {},
): AsyncGenerator<Batch> {
  checkDataset(op, source)
  const { batchSize, what } = source
  const items = shuffle === undefined ? walk(op, source) : shuffled(op, source, shuffle)
  let toSkip = skip
  // Number of the batch, from the first that is not left out.
  let number = 0
  const isOwn = () => number++ % shard.worldSize === shard.rank
  if (batchSize === undefined) {
    for await (const batch of items) if (toSkip-- <= 0 && isOwn()) yield batch as Batch
    return
  }
  let examples: Sample[] = []
  for await (const sample of items) {
    if (toSkip-- > 0) continue
    examples.push(sample as Sample)
    if (examples.length === batchSize) {
      if (isOwn()) yield collate(op, what, examples)
      examples = []
    }
  }
  if (examples.length > 0 && isOwn()) yield collate(op, what, examples)
}

/**
 * The items of `source`, of which each is asked for while the one before it is in use: a slow source and the native
 * computation overlap. When the consumer stops, one item more than it has used may have been read.
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

/** A hash of a run's seed and the number of an epoch: 32 bits, of which each depends on every bit of both. */
function hashOf(seed: number, epoch: number): number {
  let h = 0x9e3779b9
  for (const word of [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, epoch >>> 0]) {
    h = Math.imul(h ^ word, 0x85ebca6b)
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
    h ^= h >>> 16
  }
  return h >>> 0
}

/** A shuffled copy of an array of batches or examples, in an order that seed and epoch determine. */
function shuffled(
  op: string,
  { what, dataset }: DatasetSource,
  { seed, epoch }: { seed: number; epoch: number },
): unknown[] {
  checkShuffled(op, dataset)
  const items = [...elementsOf(op, what, dataset)]
  let randomState = hashOf(seed, epoch)
  for (let i = items.length - 1; i > 0; i--) {
    // A step of the random number generator mulberry32.
    randomState = (randomState + 0x6d2b79f5) >>> 0
    let t = Math.imul(randomState ^ (randomState >>> 15), randomState | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    const j = Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * (i + 1))
    const [a, b] = [items[i], items[j]]
    items[i] = b
    items[j] = a
  }
  return items
}

/** Refuses to shuffle a dataset that is not an array. */
export function checkShuffled(op: string, dataset: unknown): asserts dataset is unknown[] {
  if (!readGiven(op, 'dataset', () => Array.isArray(dataset)))
    throw fail('ERR_S4_DATA', op, 'dataset as an array, to shuffle it', 'another iterable')
}

/** The members of a batch or an example, each read once; what it has not is refused by name. */
export function batchMembers<T>(
  op: string,
  what: string,
  x: unknown,
  names: readonly (keyof T & string)[],
): Partial<T> {
  const members = membersOf(op, what, x, 'ERR_S4_DATA', names)
  const unknown = Object.keys(members).find((key) => !(names as readonly string[]).includes(key))
  if (unknown !== undefined)
    throw fail('ERR_S4_DATA', op, `${what} of ${names.join(', ')}`, `the unknown key '${unknown}'`)
  return members as Partial<T>
}

/** Collects examples of any lengths into one batch: the shorter are padded, and `lengths` says where each ends. */
export function collate(op: string, what: string, given: readonly unknown[]): Batch {
  const samples = given.map((x) =>
    batchMembers<Sample>(op, `each example of ${what}`, x, ['input', 'target', 'intervals']),
  )
  const inputs = samples.map((s) => checkTensor(op, 'input', s.input, [1, 2]))
  const inputLengths = inputs.map((x) => x.shape[0] as number)
  const len = inputLengths.reduce((longest, n) => Math.max(longest, n), 0)
  const width = inputs[0]?.shape[1]
  for (const x of inputs) {
    if (x.shape[1] !== width)
      throw fail(
        'ERR_S4_SHAPE',
        op,
        `input of width ${width ?? 'tokens'} in every example`,
        shapeText(x.shape),
      )
  }
  const rows = samples.length
  const input: TensorLike = {
    data: padded(op, 'input', inputs, len * (width ?? 1)),
    shape: width === undefined ? [rows, len] : [rows, len, width],
  }
  const intervals = collatedIntervals(op, samples, inputLengths, len)
  const lengthsDiffer = inputLengths.some((n) => n !== len)
  const lengths = {
    ...(lengthsDiffer && { lengths: Int32Array.from(inputLengths) }),
    ...(intervals && { intervals }),
  }
  if (samples.every((s) => typeof s.target === 'number')) {
    return { input, target: samples.map((s) => s.target as number), ...lengths }
  }
  const targets = samples.map((s) => checkTensor(op, 'target', s.target, [1, 2]))
  const [count, columns] = (targets[0] as TensorLike).shape as [number, number?]
  if (columns !== undefined) {
    targets.forEach((t, row) => {
      if (t.shape[0] !== inputLengths[row] || t.shape[1] !== columns)
        throw fail('ERR_S4_SHAPE', op, `target [${inputLengths[row]}, ${columns}]`, shapeText(t.shape))
    })
    // The weight 0 leaves the targets of padding out of the loss.
    const weights = allocate(op, [rows, len], 'f64')
    inputLengths.forEach((n, row) => weights.fill(1, row * len, row * len + n))
    return {
      input,
      target: { data: padded(op, 'target', targets, len * columns), shape: [rows, len, columns] },
      ...lengths,
      ...(lengthsDiffer ? { weights } : {}),
    }
  }
  if (targets.every((t) => t.shape.length === 1 && t.shape[0] === count)) {
    return { input, target: { data: padded(op, 'target', targets, count), shape: [rows, count] }, ...lengths }
  }
  targets.forEach((t, row) => {
    if (t.shape.length !== 1 || t.shape[0] !== inputLengths[row])
      throw fail(
        'ERR_S4_SHAPE',
        op,
        `targets of ${count} values, or of as many labels as their inputs have steps`,
        `${shapeText(t.shape)} beside an input of ${inputLengths[row]} steps`,
      )
  })
  // The labels of padding are -1, which leaves them out of the loss.
  return { input, target: { data: padded(op, 'target', targets, len, -1), shape: [rows, len] }, ...lengths }
}

/** The intervals of all examples, (examples, len) with 1 in the padding and where an example has none; undefined where none has. */
function collatedIntervals(
  op: string,
  samples: readonly Partial<Sample>[],
  inputLengths: readonly number[],
  len: number,
): TensorLike | undefined {
  if (samples.every((s) => s.intervals === undefined)) return undefined
  const data = allocate(op, [samples.length, len], 'f64').fill(1) as Floats
  samples.forEach((s, row) => {
    const own = stepsIntervals(op, s.intervals, [inputLengths[row] as number], 'f64')
    if (own === undefined) return
    for (const interval of own) stepRatio(op, 'intervals', interval)
    data.set(own, row * len)
  })
  return { data, shape: [samples.length, len] }
}

/** The numbers of several tensors one after the other, each filled up to `width` numbers with `padding`. */
function padded(
  op: string,
  what: string,
  tensors: readonly TensorLike[],
  width: number,
  padding = 0,
): Floats {
  const filled = allocate(op, [tensors.length, width], 'f64')
  if (padding !== 0) filled.fill(padding)
  tensors.forEach(({ data }, row) => {
    // Tokens and labels may be 64-bit integers, which `floats` refuses.
    filled.set(
      types.isBigInt64Array(data) ? integers(op, what, data) : floats(op, what, data, 'f64'),
      row * width,
    )
  })
  return filled
}

/** Options of {@link windows}: how a long series is cut into examples. */
export interface WindowOptions {
  /** Time steps of a window. */
  length: number
  /** Time steps between the starts of two windows. Default `length`. */
  stride?: number
  /** Number of the following values that each time step is to predict. Default 1. */
  horizon?: number
}

/**
 * Cuts a series into examples { input (length, 1), target (length, horizon) }, in which every time step has the next
 * `horizon` values as target.
 */
export function windows(series: ArrayLike<number>, options: WindowOptions): Generator<Sample> {
  const op = 'windows'
  const {
    length,
    stride = length,
    horizon = 1,
  } = rejectUnknownOptions(op, options, ['length', 'stride', 'horizon'])
  for (const [what, n] of Object.entries({ length, stride, horizon })) wholeNumber(op, what, n)
  if (typeof series !== 'object' || series === null)
    throw fail('ERR_S4_DTYPE', op, 'a series as an array of numbers', typeof series)
  const values = finite(op, 'series', floats(op, 'series', series, 'f64'))
  if (values.length < length + horizon) {
    throw fail('ERR_S4_DATA', op, `a series of at least ${length + horizon} samples`, values.length)
  }
  return windowsWithNextValues(values, length, stride, horizon)
}

/** The examples of {@link windows}, whose arguments have been checked. */
function* windowsWithNextValues(
  series: Floats,
  length: number,
  stride: number,
  horizon: number,
): Generator<Sample> {
  for (let start = 0; start + length + horizon <= series.length; start += stride) {
    const input = allocate('windows', [length], 'f64')
    const target = allocate('windows', [length, horizon], 'f64')
    for (let t = 0; t < length; t++) {
      input[t] = series[start + t] as number
      for (let k = 0; k < horizon; k++) target[t * horizon + k] = series[start + t + 1 + k] as number
    }
    yield { input: { data: input, shape: [length, 1] }, target: { data: target, shape: [length, horizon] } }
  }
}
