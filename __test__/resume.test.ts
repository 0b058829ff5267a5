/** A run that goes on is the run that never stopped: order, dropout, schedule, counts, from any epoch and from within one. */
import { mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import test, { type ExecutionContext } from 'ava'
import {
  schedules,
  SequenceModel,
  type Batch,
  type Dataset,
  type Progress,
  type Sample,
  type TrainEvent,
  type TrainOptions,
} from '../index.js'
import { batch, drain, model, noise, noisy, rejects } from './helpers.js'

const samples: Sample[] = Array.from({ length: 10 }, (_, i) => ({
  input: { data: noise(20, i + 1), shape: [20, 1] },
  target: { data: noise(20, i + 50), shape: [20, 1] },
}))
const runOptions: TrainOptions = {
  batchSize: 3,
  shuffle: true,
  seed: 2 ** 40 + 7,
  epochs: 4,
  schedule: schedules.plateau({ factor: 0.5, patience: 0 }),
}
const network = { dropout: 0.2, norm: 'batch' } as const

/** What an event says, without its speed. */
const said = (event: TrainEvent) => ({ ...event, samplesPerSecond: 0 })
const bits = (m: SequenceModel) => m.parameters().map((p) => [...p.value.data])

/** Trains a second model in pieces of one event, a checkpoint between two, and compares it with the undisturbed run. */
async function inPieces(t: ExecutionContext, dataset: Dataset, given: TrainOptions): Promise<Progress> {
  using whole = await model(network)
  const want: unknown[] = []
  for await (const e of whole.train(dataset, given)) want.push(said(e))
  const seen: unknown[] = []
  const { batchSize } = given
  let m = await model(network)
  for (let left = true, resume = false; left; resume = true) {
    left = false
    // Seed, shuffle, schedule, epochs and carried states are the run's.
    const options = resume ? { resume, ...(batchSize !== undefined && { batchSize }) } : given
    for await (const e of m.train(dataset, options)) {
      seen.push(said(e))
      left = true
      break
    }
    const bytes = await m.toBytes()
    m.dispose()
    m = await SequenceModel.fromBytes(bytes)
  }
  t.deepEqual(seen, want)
  t.deepEqual(bits(m), bits(whole))
  t.deepEqual(whole.progress, m.progress)
  m.dispose()
  return whole.progress
}

test('a run resumed after every event is the undisturbed run, bit for bit', async (t) => {
  t.deepEqual(await inPieces(t, samples, runOptions), { steps: 16, epochs: 4, samples: 4 * 10 * 20 })
})

test('carried states go on too, from zero at each epoch', async (t) => {
  const data = [1, 2, 3].map((seed) => batch(2, 20, seed))
  const given = { carryState: true, epochs: 2, seed: 3, ema: 0.9 }
  t.deepEqual(await inPieces(t, data, given), { steps: 6, epochs: 2, samples: 2 * 3 * 2 * 20 })
  using m = await model(network)
  const error = await rejects(t, 'ERR_S4_SHAPE', drain(m.train([batch(2), batch(1)], { carryState: true })))
  t.regex(error.message, /carryState/)
  t.is(m.progress.steps, 1)
})

test('what can be walked again goes on from within an epoch; a seed of its own order each', async (t) => {
  using whole = await model(network)
  await drain(whole.train(new Set(samples), { batchSize: 3, epochs: 2 }))
  using m = await model(network)
  for await (const e of m.train(new Set(samples), { batchSize: 3, epochs: 2 })) if (e.step === 6) break
  t.deepEqual(m.progress, { steps: 6, epochs: 1, samples: 16 * 20 })
  await rejects(t, 'ERR_S4_UNSUPPORTED', drain(m.train(samples, { batchSize: 3, resume: true, seed: 3 })))
  await drain(m.train(new Set(samples), { batchSize: 3, resume: true }))
  t.deepEqual(bits(m), bits(whole))
  const order = async (seed: number, epochs: number) => {
    using one = await model({ seed: 1 })
    const losses: number[] = []
    for await (const e of one.train(samples, { batchSize: 1, shuffle: true, lr: 0, ssmLr: 0, seed, epochs }))
      if (e.type === 'step') losses.push(e.loss)
    return losses.slice(-10)
  }
  const orders = await Promise.all([order(7, 1), order(7, 2), order(8, 1), order(7 + 2 ** 32, 1)])
  t.is(new Set(orders.map(String)).size, 4)
  t.is(new Set(orders.map((x) => String(x.toSorted()))).size, 1, 'the same examples')
})

test('a run that has its epochs does nothing more; a file without a run cannot go on', async (t) => {
  using m = await model()
  t.deepEqual(m.progress, { steps: 0, epochs: 0, samples: 0 })
  await drain(m.train([batch()], { epochs: 2 }))
  t.is(await drain(m.train([batch()], { resume: true })), 0)
  using bare = await SequenceModel.fromBytes(await m.toBytes({ optimizer: false }))
  await rejects(t, 'ERR_S4_CHECKPOINT', drain(bare.train([batch()], { resume: true })))
  using fresh = await model()
  await rejects(t, 'ERR_S4_CHECKPOINT', drain(fresh.train([batch()], { resume: true })))
  await rejects(t, 'ERR_S4_VALUE', fresh.update({ lr: 1 }))
  await rejects(t, 'ERR_S4_CHECKPOINT', fresh.fit([batch()], { resume: true }))
  t.true((await drain(bare.train([batch()]))) > 0)
})

/** Paths in `folder`, and devices, that no checkpoint can be written to after every epoch. */
function paths(folder: string): string[] {
  const links = {
    toFolder: 'inner',
    toSlash: 'inner/',
    toNowhere: 'nowhere/file',
    circle: 'circle',
    toNull: '/dev/null',
  }
  mkdirSync(join(folder, 'inner'))
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(folder, name))
  const devices =
    process.platform === 'linux' ? ['/dev/null', '/dev/full', '/dev/stdout', '/proc/self/fd/1'] : []
  return [...Object.keys(links).map((name) => join(folder, name)), ...devices]
}

test('what can be checked is checked before any work', async (t) => {
  using m = await model()
  const folder = mkdtempSync(join(tmpdir(), 's4-'))
  const file = join(folder, 'file')
  writeFileSync(file, '')
  const wrong: [string, object][] = [
    ['ERR_S4_CHECKPOINT', { checkpoint: join(folder, 'no', 'm.safetensors') }],
    ['ERR_S4_CHECKPOINT', { checkpoint: join(file, 'm.safetensors') }],
    ['ERR_S4_CHECKPOINT', { checkpoint: folder }],
    ['ERR_S4_CHECKPOINT', { checkpoint: `${folder}/` }],
    ['ERR_S4_CHECKPOINT', { checkpoint: join(folder, 'new/') }],
    ...(process.platform === 'win32' ? [] : paths(folder)).map((checkpoint): [string, object] => [
      'ERR_S4_CHECKPOINT',
      { checkpoint },
    ]),
    ['ERR_S4_SHAPE', { validation: [batch(), { input: noisy([2, 50, 1]), target: noisy([2, 49, 1]) }] }],
    ['ERR_S4_DATA', { validation: [] }],
    ['ERR_S4_DATA', { validation: 5 }],
    ['ERR_S4_VALUE', { schedule: schedules.warmup }],
    ['ERR_S4_VALUE', { resume: 'yes' }],
    ['ERR_S4_VALUE', { shuffle: 'yes' }],
    ['ERR_S4_VALUE', { carryState: 1 }],
    ['ERR_S4_VALUE', { signal: 5 }],
    ['ERR_S4_VALUE', { epochs: 0 }],
    ['ERR_S4_VALUE', { onEvent: 5 }],
  ]
  const before = bits(m)
  for (const [code, bad] of wrong) {
    let events = 0
    const given = { onEvent: () => events++, ...bad } as object
    await rejects(t, code as 'ERR_S4_VALUE', m.fit([batch()], given))
    t.is(events, 0, JSON.stringify(bad))
  }
  t.deepEqual(bits(m), before)
  t.is(m.progress.steps, 0)
})

test('a new run whose first batch is refused leaves the run before it', async (t) => {
  const wrong = { ...batch(), input: { data: new Float32Array(100).fill(NaN), shape: [2, 50, 1] } }
  const run = async (disturbed: boolean) => {
    using m = await model(network)
    await m.fit([batch()], { lr: 0.01 })
    if (disturbed) {
      const before = m.progress
      await rejects(t, 'ERR_S4_VALUE', m.fit([wrong], { lr: 1 }))
      await rejects(t, 'ERR_S4_VALUE', m.fit([batch()], { lr: 1, validation: [batch(), wrong] }))
      await rejects(t, 'ERR_S4_VALUE', m.accumulate(wrong))
      await rejects(t, 'ERR_S4_DATA', m.fit([]))
      t.deepEqual(m.progress, before)
    }
    await m.fit([batch()], { resume: true, epochs: 3 })
    return bits(m)
  }
  t.deepEqual(await run(true), await run(false))
})

/** Noise whose targets count nothing. */
const uncounted = (rows = 2, steps = 50): Batch => ({
  ...batch(rows, steps),
  weights: new Float32Array(rows * steps),
})

test('a resumed run whose first batch is refused keeps its options, its epochs and its place', async (t) => {
  const wrong = { ...batch(), input: { data: new Float32Array(100).fill(NaN), shape: [2, 50, 1] } }
  const run = async (disturbed: boolean) => {
    using m = await model(network)
    const shrinking = schedules.plateau({ factor: 0.5, patience: 0 })
    await m.fit([batch()], { lr: 0.01, epochs: 2, schedule: shrinking })
    if (disturbed) {
      const before = await m.toBytes()
      const resume = { resume: true, lr: 1, epochs: 9, clip: 1e-3, schedule: schedules.constant() }
      await rejects(t, 'ERR_S4_VALUE', m.fit([wrong], resume))
      await rejects(t, 'ERR_S4_VALUE', m.fit([uncounted(), wrong], resume))
      await rejects(t, 'ERR_S4_DATA', m.fit([], resume))
      await rejects(t, 'ERR_S4_DATA', m.fit([uncounted()], resume))
      t.deepEqual(await m.toBytes(), before)
    }
    const lrs: number[] = []
    for await (const e of m.train([batch(), batch(2, 50, 7)], { resume: true, epochs: 3 }))
      if (e.type === 'step') lrs.push(e.lr)
    t.is(lrs.length, 2)
    return [lrs, bits(m)]
  }
  t.deepEqual(await run(true), await run(false))
})

test('new options count from an epoch on that has nothing left but what counts nothing', async (t) => {
  using m = await model(network)
  const data = [batch(), uncounted()]
  await m.fit([batch(), uncounted()], { lr: 0.01, epochs: 1 })
  // Left after the first update of an epoch: what is left of it makes no update.
  for await (const e of m.train(data, { resume: true, epochs: 2 })) if (e.type === 'step') break
  const lrs: number[] = []
  for await (const e of m.train(data, { resume: true, epochs: 4, lr: 1e-4 }))
    if (e.type === 'step') lrs.push(e.lr)
  t.deepEqual(lrs, [1e-4, 1e-4])
})

test('gradients that no update has used are gone with the next run, also where that is refused', async (t) => {
  using m = await model(network)
  await m.fit([batch()], { lr: 0.01 })
  await m.accumulate(batch())
  await rejects(t, 'ERR_S4_DATA', m.fit([uncounted()]))
  await rejects(t, 'ERR_S4_VALUE', m.update())
})

test('a run in which no target counts leaves the run before it', async (t) => {
  using m = await model(network)
  await m.fit([batch()], { lr: 0.01 })
  const [before, progress] = [await m.toBytes(), m.progress]
  await rejects(t, 'ERR_S4_DATA', m.fit([uncounted(), uncounted()], { lr: 1, epochs: 7 }))
  t.deepEqual(await m.toBytes(), before)
  t.deepEqual(m.progress, progress)
  using fresh = await model(network)
  const untrained = await fresh.toBytes()
  await rejects(t, 'ERR_S4_DATA', fresh.fit([uncounted()]))
  t.deepEqual(await fresh.toBytes(), untrained)
})

test('an update that is not finite does not count: what follows is the run without it', async (t) => {
  const huge = { ...batch(), target: { data: new Float32Array(100).fill(3e38), shape: [2, 50, 1] } }
  const run = async (disturbed: boolean) => {
    // Dropout masks, bias corrections and the schedule go by the number of updates.
    using m = await model({ dropout: 0.2, norm: 'none', glu: false })
    const schedule = schedules.warmupCosine({ warmup: 2, total: 6 })
    await m.fit([batch()], { lr: 0.01, schedule })
    if (disturbed) {
      const before = await m.toBytes()
      const error = await rejects(t, 'ERR_S4_NONFINITE', m.fit([huge], { resume: true, epochs: 2, lr: 0.01 }))
      t.is(error.step, 2)
      t.deepEqual(await m.toBytes(), before)
      await m.accumulate(huge)
      await rejects(t, 'ERR_S4_NONFINITE', m.update())
      t.deepEqual(await m.toBytes(), before)
    }
    const steps: number[] = []
    for await (const e of m.train([batch(2, 50, 3)], { resume: true, epochs: 4 }))
      if (e.type === 'step') steps.push(e.step)
    t.deepEqual(steps, [2, 3, 4])
    return bits(m)
  }
  t.deepEqual(await run(true), await run(false))
})

test('a checkpoint through a link replaces what the link leads to', async (t) => {
  if (process.platform === 'win32') return t.pass()
  const folder = mkdtempSync(join(tmpdir(), 's4-'))
  symlinkSync('later', join(folder, 'link'))
  using m = await model()
  await m.fit([batch()], { checkpoint: join(folder, 'link'), epochs: 2 })
  t.deepEqual(readdirSync(folder).toSorted(), ['later', 'link'])
  using same = await SequenceModel.load(join(folder, 'later'))
  t.deepEqual(same.progress, m.progress)
})

test('a validation that runs once loses nothing, or is refused before training', async (t) => {
  const examples: Batch[] = [batch(2, 50, 7), batch(1, 50, 8), batch(2, 50, 9)]
  function* generator() {
    yield* examples
  }
  async function* asynchronous() {
    yield* examples
  }
  const shared = examples.values()
  const once: [string, () => Dataset, boolean][] = [
    ['a generator', generator, true],
    ['an asynchronous generator', asynchronous, true],
    ['an iterator', () => examples.values(), true],
    ['a stream of Node', () => Readable.from(examples), true],
    ['a stream of the web', () => Readable.toWeb(Readable.from(examples)) as unknown as Dataset, true],
    // By its form it could be walked again.
    ['an iterable of one iterator', () => ({ [Symbol.iterator]: () => shared }), false],
    ['a set', () => new Set(examples), false],
  ]
  const validate = async (validation: Dataset) => {
    using m = await model(network)
    return (await m.fit([batch()], { validation })).map((e) => e.validation)
  }
  const want = await validate(examples)
  t.is(want[0]?.rows, 250)
  for (const [what, make, seen] of once) {
    t.deepEqual(await validate(make()), want, what)
    if (!seen) continue
    using m = await model(network)
    const source = make()
    const before = bits(m)
    const error = await rejects(t, 'ERR_S4_DATA', m.fit([batch()], { validation: source, epochs: 2 }))
    t.regex(error.message, /validation/, what)
    t.deepEqual(bits(m), before)
    // Nothing was read from it, and the one epoch that is left may have it.
    t.deepEqual(await validate(source), want, what)
    await m.fit([batch()])
    await m.fit([batch()], { resume: true, epochs: 2, validation: make() })
    t.is(m.progress.epochs, 2)
  }
})
