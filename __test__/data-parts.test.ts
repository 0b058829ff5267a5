/** Splits without leaks, scales, calendars, windows, and the order in which examples come. */
import test from 'ava'
import { SequenceModel, type Sample } from 's4-node'
import { Forecaster } from 's4-node/tasks'
import {
  batched,
  calendar,
  collate,
  mapped,
  prefetch,
  Scaler,
  shuffled,
  split,
  tableFrom,
  windows,
} from 's4-node/data'
import { device, noise, refuses, rejects } from './helpers.js'

const numbers = (tensor: Sample['input']) => Array.from(tensor.data as Float64Array)
const targetOf = (sample: Sample) => numbers(sample.target as Sample['input'])
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = []
  for await (const item of items) out.push(item)
  return out
}
const sum = (x: Iterable<number>) => [...x].reduce((a, b) => a + b, 0)

test('splits: in order, in time, at random, by label, by group', async (t) => {
  const inOrder = split(10)
  t.deepEqual(
    Object.entries(inOrder).map(([name, rows]) => [name, [...rows]]),
    [
      ['train', [0, 1, 2, 3, 4, 5, 6]],
      ['validation', [7]],
      ['test', [8, 9]],
    ],
  )
  const day = (n: number) => new Date(Date.UTC(2020, 0, n))
  const table = await tableFrom({ x: [1, 2, 3, 4], when: [day(1), day(2), day(3), day(4)] })
  const inTime = split(table, { at: { validation: '2020-01-02T12:00Z', test: day(4) } })
  t.deepEqual(
    Object.values(inTime).map((rows) => [...rows]),
    [[0, 1], [2], [3]],
  )
  const labels = Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? 'rare' : 'usual'))
  const groups = Array.from({ length: 60 }, (_, i) => i % 7)
  const parts = { train: 0.5, validation: 0.25, test: 0.25 }
  for (const options of [
    { by: 'random', parts },
    { by: 'label', keys: labels, parts },
    { by: 'group', keys: groups, parts },
  ] as const) {
    const found = split(60, { ...options, seed: 3 })
    const rows = Object.values(found).flatMap((x) => [...x])
    t.deepEqual(
      rows.toSorted((a, b) => a - b),
      Array.from({ length: 60 }, (_, i) => i),
      `${options.by}: every row once`,
    )
    t.deepEqual(split(60, { ...options, seed: 3 }), found, `${options.by}: the same again`)
    t.notDeepEqual(split(60, { ...options, seed: 4 }), found)
    if (options.by === 'label')
      t.deepEqual(
        Object.values(found).map((x) => [...x].filter((i) => labels[i] === 'rare').length),
        [10, 5, 5],
      )
    if (options.by === 'group') {
      const of = Object.values(found).map((x) => new Set([...x].map((i) => groups[i])))
      t.is(sum(of.map((set) => set.size)), 7, 'no group in two parts')
    }
  }
  refuses(t, 'ERR_S4_DATA', () => split(2))
  refuses(t, 'ERR_S4_DATA', () => split(table, { at: { test: '2030-01-01' } }))
  refuses(t, 'ERR_S4_VALUE', () => split(10, { parts: { train: 0.5, test: 0.4 } }))
})

test('scales are those of the training part, leave gaps out, go back, and are JSON', async (t) => {
  const table = await tableFrom({ a: [3, 1, 4, 1, 5, 9, 2, 6, NaN, 1000], b: Array(10).fill(7) as number[] })
  const train = table.slice(0, 9)
  // Of 3 1 4 1 5 9 2 6: mean 31/8, variance 173/8 − (31/8)²; median 3.5, quartiles 1.75 and 5.25.
  for (const [kind, offset, scale] of [
    ['zScore', 3.875, Math.sqrt(173 / 8 - (31 / 8) ** 2)],
    ['minMax', 1, 8],
    ['robust', 3.5, 3.5],
  ] as const) {
    const scaler = Scaler.fit(train, { kind })
    t.deepEqual(
      [scaler.columns, scaler.offset[0], scaler.offset[1], scaler.scale[1]],
      [['a', 'b'], offset, 7, 1],
    )
    t.true(Math.abs(scaler.scale[0]! - scale) < 1e-14)
    const scaled = scaler.transform(table)
    t.true(Math.abs(scaled.column('a')[9]! - (1000 - offset) / scale) < 1e-11)
    t.true(Number.isNaN(scaled.column('a')[8]))
    t.deepEqual([...scaled.column('b')], Array(10).fill(0))
    const again = Scaler.fromJSON(JSON.parse(JSON.stringify(scaler)) as ReturnType<Scaler['toJSON']>)
    const back = again.inverse({ a: scaled.column('a') })
    t.true(Math.abs(back.column('a')[5]! - 9) < 1e-12)
  }
  t.deepEqual(Scaler.fit(table, { columns: ['b'] }).columns, ['b'])
  refuses(t, 'ERR_S4_DATA', () => Scaler.fit({ a: [NaN, NaN] }))
  refuses(t, 'ERR_S4_DATA', () => Scaler.fromJSON({ columns: ['a'], offset: [0], scale: [0] }))
  refuses(t, 'ERR_S4_DATA', () => Scaler.fit(table).transform({ c: [1] }))
})

test('calendars have the numbers of the clock and of the calendar of the zone', (t) => {
  // 31 December 2020, 23:30 in London is 1 January 2021, 00:30 in Berlin, a Friday.
  const times = [Date.UTC(2020, 11, 31, 23, 30)]
  const london = calendar(times)
  const berlin = calendar(times, {
    zone: 'Europe/Berlin',
    fields: ['hour', 'weekday', 'month', 'dayOfYear', 'day', 'minute'],
  })
  const of = (parts: Record<string, Float64Array>, name: string) => parts[name]![0]!
  t.is(of(london, 'hour'), 23 / 23 - 0.5)
  t.is(of(london, 'weekday'), 3 / 6 - 0.5)
  t.is(of(london, 'dayOfYear'), 365 / 365 - 0.5)
  t.is(of(london, 'minute'), 30 / 59 - 0.5)
  t.is(of(berlin, 'hour'), -0.5)
  t.is(of(berlin, 'weekday'), 4 / 6 - 0.5)
  t.is(of(berlin, 'month'), -0.5)
  t.is(of(berlin, 'day'), -0.5)
  refuses(t, 'ERR_S4_DATA', () => calendar(times, { zone: 'Mars/Olympus' }))
})

const rows = (count: number) => ({
  x: Float64Array.from({ length: count }, (_, t) => t),
  y: Float64Array.from({ length: count }, (_, t) => 100 + t),
})

test('windows: blocks and steps, inputs and targets, strides, parts that reach back', (t) => {
  const block = windows(rows(10), { length: 3, horizon: 2 })
  t.deepEqual([block.length, block.features, block.targets], [6, ['x', 'y'], ['x', 'y']])
  t.deepEqual(block.at(1).input.shape, [3, 2])
  t.deepEqual(numbers(block.at(1).input), [1, 101, 2, 102, 3, 103])
  t.deepEqual(targetOf(block.at(1)), [4, 104, 5, 105])
  t.is(block.row(1), 4)
  const steps = windows(rows(10), {
    length: 3,
    horizon: 2,
    target: 'steps',
    inputs: ['y'],
    targets: ['x'],
    stride: 4,
  })
  t.is(steps.length, 2)
  t.deepEqual(numbers(steps.at(1).input), [104, 105, 106])
  t.deepEqual((steps.at(1).target as Sample['input']).shape, [3, 2])
  t.deepEqual(targetOf(steps.at(1)), [5, 6, 6, 7, 7, 8])
  const part = { length: 4, horizon: 1, inputs: ['x'] }
  t.deepEqual(
    [...windows(rows(10), { ...part, rows: { from: 6, reachBack: true } })].map(targetOf),
    [[6], [7], [8], [9]],
    'every row of the part is predicted',
  )
  // Each step predicts: the first target of the first window is the part's first row, and none is before it.
  const reached = windows(rows(10), { ...part, target: 'steps', rows: { from: 5, reachBack: true } })
  t.deepEqual([...reached].map(targetOf), [
    [5, 6, 7, 8],
    [6, 7, 8, 9],
  ])
  t.deepEqual([...windows(rows(11), { ...part, rows: { from: 6 } })].map(targetOf), [[10]])
  t.deepEqual(targetOf(windows(rows(10), { ...part, rows: { to: 5 } }).at(0)), [4])
  refuses(t, 'ERR_S4_DATA', () => windows(rows(4), { length: 3, horizon: 2 }))
})

test('windows copy nothing that they need not', async (t) => {
  const { x } = rows(1000)
  const one = windows(await tableFrom({ x }), { length: 100, horizon: 5 })
  t.true((one.at(7).input.data as Float64Array).buffer === x.buffer)
  t.true(((one.at(7).target as Sample['input']).data as Float64Array).buffer === x.buffer)
  const two = windows(rows(1000), { length: 100, horizon: 5 })
  t.true((two.at(7).input.data as Float64Array).buffer === (two.at(8).input.data as Float64Array).buffer)
})

test('windows with what is known ahead, a calendar, gaps, masks, and scales of their own', async (t) => {
  const hour = (n: number) => new Date(Date.UTC(2020, 0, 1, n))
  const values = [1, 2, NaN, 4, 5, 6, 7, 8]
  const table = await tableFrom({
    x: values,
    plan: values.map((_, i) => 10 * i),
    at: values.map((_, i) => hour(i)),
  })
  const block = windows(table, {
    length: 2,
    horizon: 2,
    known: ['plan'],
    calendar: ['hour'],
    rows: { from: 3 },
  })
  t.deepEqual(block.features, ['x', 'plan', 'hour'])
  const clock = (n: number) => n / 23 - 0.5
  // Two rows that were seen, then the two of the horizon, whose x is not there yet.
  t.deepEqual(numbers(block.at(0).input), [
    4,
    30,
    clock(3),
    5,
    40,
    clock(4),
    0,
    50,
    clock(5),
    0,
    60,
    clock(6),
  ])
  t.deepEqual(targetOf(block.at(0)), [6, 7])
  const steps = windows(table, { length: 2, horizon: 2, known: ['plan'], target: 'steps', rows: { from: 3 } })
  t.deepEqual(steps.features, ['x', 'plan +1', 'plan +2'])
  t.deepEqual(numbers(steps.at(0).input), [4, 40, 50, 5, 50, 60])
  const skipped = windows(table, { length: 2, horizon: 1, inputs: ['x'] })
  t.deepEqual(
    [...skipped].map((_, i) => skipped.row(i)),
    [5, 6, 7],
    'no window has the gap',
  )
  const masked = windows(table, { length: 2, horizon: 1, inputs: ['x'], gaps: 'fill', masks: true })
  t.deepEqual(
    [...masked].map((_, i) => masked.row(i)),
    [3, 4, 5, 6, 7],
    'no target is a gap',
  )
  t.deepEqual(numbers(masked.at(0).input), [2, 1, 2, 0])
  const own = windows({ x: [1, 3, 5, 7] }, { length: 2, horizon: 1, instance: 'zScore' })
  t.deepEqual([numbers(own.at(1).input), targetOf(own.at(1))], [[-1, 1], [3]])
  t.deepEqual([own.scaler(1).offset[0], own.scaler(1).scale[0]], [4, 1])
  // What comes later fills no gap before the first value, and a window of gaps has no scales.
  const late = { x: [NaN, NaN, NaN, 5, 6, NaN, NaN, NaN, 8], y: [0, 1, 2, 3, 4, 5, 6, 7, 8] }
  const filling = { length: 3, horizon: 1, inputs: ['x'], targets: ['y'], gaps: 'fill' } as const
  t.deepEqual(
    [...windows(late, filling)].map(({ input }) => numbers(input)),
    [
      [5, 6, 6],
      [6, 6, 6],
      [6, 6, 6],
    ],
  )
  const scaled = windows(late, { ...filling, inputs: ['x', 'y'], instance: 'zScore' })
  t.deepEqual(
    [...scaled].map((_, i) => scaled.row(i)),
    [6, 7],
  )
  refuses(t, 'ERR_S4_VALUE', () => windows(rows(10), { length: 3, target: 'steps', instance: 'zScore' }))
})

const examples = (lengths: readonly number[]): Sample[] =>
  lengths.map((n, i) => ({ input: { data: new Float32Array(n).fill(i), shape: [n, 1] }, target: i }))

test('shuffles: every item once, an order of its own each walk, the same order for the same seed and epoch', async (t) => {
  const items = Array.from({ length: 500 }, (_, i) => i)
  async function* stream() {
    yield* items
  }
  for (const source of [() => items, stream, () => ({ [Symbol.asyncIterator]: stream })]) {
    const once = await all(shuffled<number>(source(), { buffer: 50, seed: 1 }))
    t.notDeepEqual(once, items)
    t.deepEqual(
      once.toSorted((a, b) => a - b),
      items,
    )
    t.deepEqual(await all(shuffled<number>(source(), { buffer: 50, seed: 1 })), once)
  }
  const walk = shuffled(items, { seed: 1 })
  const orders = [await all(walk), await all(walk)]
  t.notDeepEqual(orders[0], orders[1])
  t.deepEqual(
    await all(shuffled(items, { seed: 1, epoch: 1 })),
    orders[1],
    'a resumed run goes on with its epoch',
  )
  const early = (await all(shuffled<number>({ [Symbol.asyncIterator]: stream }, { buffer: 50 }))).slice(0, 50)
  t.true(Math.max(...early) < 100, 'nothing is read further ahead than the buffer')
})

test('batches of like lengths hold little padding, in random order, each example once', async (t) => {
  const lengths = Array.from(noise(256, 5), (x) => 20 + Math.floor(10 * (x + 1)) * 5)
  const batches = await all(batched(examples(lengths), { size: 16, seed: 2 }))
  const padding = sum(batches.map((b) => b.input.shape[0]! * b.input.shape[1]!)) / sum(lengths) - 1
  t.true(padding < 0.1, `${padding}`)
  t.deepEqual(
    batches.flatMap((b) => [...(b.target as number[])]).toSorted((a, b) => a - b),
    lengths.map((_, i) => i),
  )
  t.notDeepEqual(
    batches.map((b) => b.input.shape[1]),
    batches.map((b) => b.input.shape[1]).toSorted((a, b) => a! - b!),
  )
  t.is((await all(batched(examples([3, 4, 5]), { size: 2, dropLast: true }))).length, 1)
  const targets = async (dataset: AsyncIterable<{ target: unknown }>) =>
    (await all(dataset)).map((b) => b.target)
  const walked = batched(examples(lengths), { size: 16, seed: 2 })
  const [first, second] = [await targets(walked), await targets(walked)]
  t.notDeepEqual(first, second)
  t.deepEqual(
    await targets(batched(examples(lengths), { size: 16, seed: 2, epoch: 1 })),
    second,
    'a resumed run',
  )
  const one = collate(examples([2, 3]))
  t.deepEqual(
    [one.input.shape, [...(one.lengths as Int32Array)], one.target],
    [
      [2, 3, 1],
      [2, 3],
      [0, 1],
    ],
  )
})

test('mapping varies with the walk; reading ahead keeps order and errors, and asks for no more than it may', async (t) => {
  const seen = mapped([1, 2], async (x, index, walk) => 100 * walk + 10 * index + x)
  t.deepEqual(await all(seen), [1, 12])
  t.deepEqual(await all(seen), [101, 112])
  const later = mapped([1, 2], (x, index, walk) => 100 * walk + 10 * index + x, { epoch: 3 })
  t.deepEqual(
    [await all(later), await all(later)],
    [
      [301, 312],
      [401, 412],
    ],
  )
  let asked = 0
  const source = {
    async *[Symbol.asyncIterator]() {
      for (let i = 0; i < 10; i++) {
        asked++
        yield i
      }
    },
  }
  for await (const i of prefetch(source, 3)) {
    await new Promise((resolve) => setTimeout(resolve, 2))
    t.true(asked <= i + 4, `${asked} asked for at ${i}`)
    if (i > 2) t.true(asked >= Math.min(10, i + 3), `${asked} asked for at ${i}`)
  }
  const own = new Error('of the source')
  const broken = mapped([1, 2, 3], (x) => {
    if (x === 3) throw own
    return x
  })
  const got: number[] = []
  const error = await t.throwsAsync(async () => {
    for await (const x of prefetch(broken, 2)) got.push(x)
  })
  t.is(error, own)
  t.deepEqual(got, [1, 2])
  await rejects(t, 'ERR_S4_DATA', async () => void (await all(mapped(5 as never, (x) => x))))
})

test('a model trains on windows, on batches of like lengths, and on what is shuffled, for several epochs', async (t) => {
  using model = await SequenceModel.create({
    input: 1,
    output: 1,
    features: 4,
    layers: 1,
    state: 4,
    pooling: 'last',
    loss: 'mse',
    device: device(),
  })
  const wave = Float64Array.from({ length: 200 }, (_, i) => Math.sin(i / 5))
  const cut = windows({ wave }, { length: 20, horizon: 1, stride: 2 })
  for (const dataset of [cut, shuffled(cut), prefetch(mapped(cut, (x) => x)), [...cut]]) {
    const events = await model.fit(dataset, { epochs: 2, batchSize: 32, lr: 0.01 })
    t.is(events.length, 2)
    t.true(events[1]!.loss < events[0]!.loss)
  }
  t.is((await model.fit(batched(cut, { size: 32 }), { epochs: 2, lr: 0.01 })).length, 2)
})

test('a forecaster takes a table, and parts of one, as it takes its columns', async (t) => {
  const count = 400
  const load = Float64Array.from({ length: count }, (_, i) => Math.sin(i / 4) + noise(count, 3)[i]! / 10)
  const at = Array.from({ length: count }, (_, i) => new Date(36e5 * i))
  const table = await tableFrom({ load, site: Array<string>(count).fill('a'), at })
  const options = {
    horizon: 4,
    lookBack: 24,
    features: 4,
    layers: 1,
    state: 4,
    epochs: 1,
    seed: 1,
    device: device(),
  } as const
  using ofTable = await Forecaster.fit(table, options)
  using ofColumns = await Forecaster.fit({ load }, options)
  t.deepEqual(ofTable.targets, ['load'], 'text and time are no series')
  const forecast = await ofTable.forecast(table.tail(48))
  t.deepEqual(forecast, await ofColumns.forecast({ load: load.subarray(-48) }))
  t.is((forecast['load'] as { mean: Float64Array }).mean.length, 4)
  const several = await Forecaster.fit([table.slice(0, 200), table.slice(200)], options)
  several.dispose()
})
