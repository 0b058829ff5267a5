// Batches of a recipe's examples: order, length buckets, padding.
import { generator, shuffle } from './recipe-random.mjs'

/**
 * Examples of an epoch, in groups that become batches. With `bucket` b, each run of b batches in the shuffled order is sorted by
 * length before it is cut, so that rows of a batch have similar lengths; the batches come in random order.
 */
export function grouped(examples, { batchSize, bucket = 0, random }) {
  const order = random === undefined ? [...examples] : shuffle([...examples], random)
  const groups = []
  const pool = batchSize * Math.max(bucket, 1)
  for (let at = 0; at < order.length; at += pool) {
    const part = order.slice(at, at + pool)
    if (bucket > 0) part.sort((a, b) => a.length - b.length)
    for (let k = 0; k < part.length; k += batchSize) groups.push(part.slice(k, k + batchSize))
  }
  return bucket > 0 && random !== undefined ? shuffle(groups, random) : groups
}

/** One batch of classified sequences; lengths are padded to a multiple of `pad`, which keeps the number of shapes small. */
function classified(group, { values, tokens, pad, rate, random, draw, channels }) {
  const rows = group.map((example) => (tokens ?? values)(example, random, draw))
  const lengths = Int32Array.from(rows, (row) => row.length / channels)
  const longest = Math.max(...lengths)
  const length = Math.ceil(longest / pad) * pad
  const data =
    tokens === undefined
      ? new Float32Array(rows.length * length * channels)
      : new Int32Array(rows.length * length)
  rows.forEach((row, i) => data.set(row, i * length * channels))
  return {
    input: { data, shape: tokens === undefined ? [rows.length, length, channels] : [rows.length, length] },
    target: group.map((example) => example.target),
    ...(lengths.every((n) => n === length) ? {} : { lengths }),
    ...(rate === undefined ? {} : { rate }),
  }
}

/** Batches of one training epoch (at most `count`), from `skip` on; the same for the same seed and epoch. */
export function* trainingBatches(
  dataset,
  { batchSize, bucket, pad = 1, seed, epoch, skip = 0, count = Infinity },
) {
  const groups = grouped(dataset.train, { batchSize, bucket, random: generator(seed * 7919 + epoch) })
  for (let i = skip; i < Math.min(groups.length, count); i++) {
    // A generator a batch, so that a run that goes on in the middle of an epoch draws the same numbers.
    const random = generator((seed * 7919 + epoch) * 65537 + i)
    if (dataset.batch !== undefined) {
      yield dataset.batch(groups[i], random)
      continue
    }
    // What the rows of a batch have in common, its sampling rate among it.
    const draw = dataset.draw?.(random)
    const { values, tokens } = dataset
    const channels = dataset.model.input ?? 1
    yield classified(groups[i], { values, tokens, pad, rate: draw?.rate, random, draw, channels })
  }
}

/** Groups of a test set with their batches, sorted by length. */
export function* testBatches(dataset, set, { batchSize, pad = 1 }) {
  const sorted = set.examples.toSorted((a, b) => a.length - b.length)
  for (const group of grouped(sorted, { batchSize })) {
    const batch =
      dataset.batch !== undefined
        ? dataset.batch(group)
        : classified(group, { ...set, pad, channels: dataset.model.input ?? 1 })
    yield { group, batch }
  }
}
