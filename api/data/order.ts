// The order of examples, and how they come: shuffled, changed, in batches of like lengths, read ahead.
import { rejectUnknownOptions, wholeNumber } from '../check.js'
import { collate as collated, type Batch, type Sample } from '../dataset.js'
import { describe, fail, readGiven } from '../error.js'
import { ofEpoch, shuffled as shuffledInPlace } from '../tasks/random.js'
import { checkTensor } from '../tensor.js'
import { elementsOf, isIterable, isOnce, walkable } from './source.js'

/** Something to iterate, at once or asynchronously. */
export type Items<T> = Iterable<T> | AsyncIterable<T>

function checkItems(op: string, x: unknown): object {
  const right = readGiven(op, 'dataset', () => typeof x === 'object' && x !== null && isIterable(x))
  if (!right) throw fail('ERR_S4_DATA', op, 'dataset as an iterable', describe(x))
  return x as object
}

/** What `walk` makes of a dataset at each walk, whose number from 0 it is given. */
function walks<T, R>(
  op: string,
  dataset: Items<T>,
  walk: (items: () => AsyncGenerator<T>, epoch: number) => AsyncGenerator<R>,
): AsyncIterable<R> {
  const given = checkItems(op, dataset)
  let epoch = 0
  return walkable(isOnce(op, 'dataset', given), () =>
    walk(() => elementsOf(op, 'dataset', given) as AsyncGenerator<T>, epoch++),
  )
}

/** Options of what differs from walk to walk. */
export interface WalkOptions {
  /** Number of the first walk: where a training is resumed, the epochs that it has had. Default 0. */
  epoch?: number
}

const firstWalk = (op: string, { epoch = 0 }: WalkOptions): number =>
  wholeNumber(op, 'epoch', epoch, 0, Number.MAX_SAFE_INTEGER)

/** Options of {@link shuffled}. */
export interface ShuffleOptions extends WalkOptions {
  /** Number of items among which the next is chosen. All of an array, and of windows. Default 1024. */
  buffer?: number
  /** Seed of the order. Default 0. */
  seed?: number
}

/**
 * The items of a dataset in an order that seed and number of the walk determine: of an array, or of {@link TableWindows}, any order; of
 * other iterables each is chosen among `buffer` items, so that a dataset larger than memory can be shuffled.
 */
export function shuffled<T>(dataset: Items<T>, options: ShuffleOptions = {}): AsyncIterable<T> {
  const op = 'shuffled'
  const given = rejectUnknownOptions(op, options, ['buffer', 'seed', 'epoch'])
  const { buffer = 1024, seed = 0 } = given
  wholeNumber(op, 'buffer', buffer, 1, 2 ** 31)
  wholeNumber(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER)
  const epoch = firstWalk(op, given)
  return walks(op, dataset, async function* (items, walk) {
    const random = ofEpoch(seed, epoch + walk)
    const listed = readGiven(op, 'dataset', () => {
      const { length, at } = dataset as { length?: unknown; at?: unknown }
      return typeof length === 'number' && typeof at === 'function' ? length : undefined
    })
    if (listed !== undefined) {
      const order = shuffledInPlace(
        Array.from({ length: listed }, (_, i) => i),
        random,
      )
      const list = dataset as unknown as { at(i: number): T }
      for (const i of order) yield readGiven(op, 'dataset', () => list.at(i))
      return
    }
    const held: T[] = []
    for await (const item of items()) {
      if (held.length < buffer) {
        held.push(item)
        continue
      }
      const i = Math.floor(random() * held.length)
      const next = held[i] as T
      held[i] = item
      yield next
    }
    yield* shuffledInPlace(held, random)
  })
}

/**
 * What `change` makes of each item, such as a variation of an example; it may be asynchronous. It is given the item, its number in the
 * walk and the number of the walk, so that each epoch varies in its own way; `epoch` is the number of the first.
 *
 * @example
 * const louder = mapped(audioFolder('recordings/'), ({ input, label }) => ({ input: gain(input), label }))
 */
export function mapped<T, R>(
  dataset: Items<T>,
  change: (item: T, index: number, walk: number) => R | Promise<R>,
  options: WalkOptions = {},
): AsyncIterable<R> {
  const op = 'mapped'
  const epoch = firstWalk(op, rejectUnknownOptions(op, options, ['epoch']))
  if (typeof change !== 'function') throw fail('ERR_S4_VALUE', op, 'change as a function', describe(change))
  return walks(op, dataset, async function* (items, walk) {
    let index = 0
    for await (const item of items()) yield await change(item, index++, epoch + walk)
  })
}

/** Reads up to `count` items (default 4) ahead of their use, so that reading and training overlap. */
export function prefetch<T>(dataset: Items<T>, count: number = 4): AsyncIterable<T> {
  const op = 'prefetch'
  wholeNumber(op, 'count', count, 1, 1 << 20)
  return walks(op, dataset, async function* (items) {
    const source = items()
    const waiting: Promise<IteratorResult<T>>[] = []
    const ask = () => {
      const next = source.next()
      // What fails is told where its turn comes.
      next.catch(() => undefined)
      waiting.push(next)
    }
    try {
      for (let i = 0; i < count; i++) ask()
      for (;;) {
        const { done, value } = await (waiting.shift() as Promise<IteratorResult<T>>)
        if (done) return
        ask()
        yield value as T
      }
    } finally {
      void source.return(undefined).catch(() => undefined)
    }
  })
}

/** One batch of examples of any lengths: the shorter ones are padded, and `lengths` says where each ends. */
export function collate(examples: readonly Sample[]): Batch {
  const op = 'collate'
  const list = readGiven(op, 'examples', () => {
    if (!Array.isArray(examples)) throw fail('ERR_S4_DATA', op, 'examples in an array', describe(examples))
    return Array.from(examples as unknown[])
  })
  if (list.length === 0) throw fail('ERR_S4_DATA', op, 'examples, at least one', 'none')
  return collated(op, 'examples', list)
}

/** Options of {@link batched}. */
export interface BatchOptions extends WalkOptions {
  /** Examples of a batch. */
  size: number
  /** Number of examples that are sorted by length before they are divided into batches. Default 32 batches. */
  buffer?: number
  /** Seed of the order of batches. Default 0. */
  seed?: number
  /** Whether an incomplete last batch is left out. Default false. */
  dropLast?: boolean
}

/**
 * Batches of examples of like lengths, so that little is padding: `buffer` examples are sorted by their lengths and divided, and
 * the batches come in random order. For `model.fit`, without its option `batchSize`.
 */
export function batched(dataset: Items<Sample>, options: BatchOptions): AsyncIterable<Batch> {
  const op = 'batched'
  const given = rejectUnknownOptions(op, options, ['size', 'buffer', 'seed', 'dropLast', 'epoch'])
  const size = wholeNumber(op, 'size', given.size, 1, 1 << 24)
  const { buffer = 32 * size, seed = 0, dropLast = false } = given
  wholeNumber(op, 'buffer', buffer, 1, 2 ** 31)
  wholeNumber(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER)
  if (typeof dropLast !== 'boolean')
    throw fail('ERR_S4_VALUE', op, 'dropLast true or false', describe(dropLast))
  const epoch = firstWalk(op, given)
  const held = Math.max(size, Math.floor(buffer / size) * size)
  return walks(op, dataset, async function* (items, walk) {
    const random = ofEpoch(seed, epoch + walk)
    let waiting: { sample: Sample; length: number }[] = []
    const release = function* (isLast: boolean) {
      // A stable sort, so that examples of one length keep their order.
      const sorted = waiting.toSorted((a, b) => a.length - b.length)
      waiting = []
      const groups = Array.from({ length: Math.ceil(sorted.length / size) }, (_, i) =>
        sorted.slice(i * size, (i + 1) * size),
      ).filter((group) => !(isLast && dropLast) || group.length === size)
      for (const group of shuffledInPlace(groups, random))
        yield collated(
          op,
          'dataset',
          group.map((x) => x.sample),
        )
    }
    for await (const sample of items()) {
      const input = readGiven(op, 'input', () => (sample as Partial<Sample> | null | undefined)?.input)
      const { shape } = checkTensor(op, 'input of each example of dataset', input, [1, 2])
      waiting.push({ sample, length: shape[0] as number })
      if (waiting.length === held) yield* release(false)
    }
    yield* release(true)
  })
}
