/**
 * Training by several ranks through the API, on the CPU: ranks are worker threads, which alone may share a CPU. What they compute is
 * compared with one rank on the joint batch.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { joinGroup, SequenceModel, type SequenceModelOptions } from '../index.js'
import { freePort, model, ranks, train, type SharedTask } from './distributed-ranks.js'
import { difference, runRank, type RankResult } from './distributed-worker.js'
import { rejects } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-distributed-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** One rank alone. */
const alone = (task: SharedTask) => runRank({ rank: 0, worldSize: 1, port: 0, model, ...task })

/** What events say of the training, without rank and speed. */
const figures = (result: RankResult | undefined) =>
  (result?.events ?? []).map((event) =>
    Object.entries(event).flatMap(([key, value]) =>
      key === 'rank' || key === 'samplesPerSecond' ? [] : [value],
    ),
  )

/** All numbers of a value, in their order. */
function numbersOf(x: unknown): number[] {
  if (typeof x === 'number') return [x]
  return typeof x === 'object' && x !== null ? Object.values(x).flatMap(numbersOf) : []
}

for (const [name, worldSize, examples, more] of [
  ['two ranks, batches that come out even', 2, 24, {}],
  ['two ranks, an uneven end', 2, 27, {}],
  ['three ranks, of which one has less', 3, 17, {}],
  ['a dataset that is walked by position', 2, 23, { generator: true }],
  ['a shuffled dataset', 2, 27, { shuffle: true }],
] as const) {
  test(`${name}: as one rank on the joint batch`, async (t) => {
    const { generator = false, shuffle = false } = more as { generator?: boolean; shuffle?: boolean }
    const options = { ...train, shuffle }
    const task = { examples, validation: 7, generator }
    const all = await ranks(worldSize, { ...task, train: { ...options, batchSize: 4 } })
    const one = await alone({ ...task, train: { ...options, batchSize: 4 * worldSize } })
    t.is(one.error, undefined)
    for (const [rank, result] of all.entries()) {
      t.is(result?.error, undefined)
      t.true(result?.events.every((event) => event.rank === rank))
      t.true(difference(result?.parameters ?? [], one.parameters) < 1e-9)
      t.true(difference(numbersOf(figures(result)), numbersOf(figures(one))) < 1e-8)
      // Ranks are the same bits.
      t.deepEqual(result?.parameters, all[0]?.parameters)
      t.deepEqual(figures(result), figures(all[0]))
      t.is(result?.steps, one.steps)
    }
  })
}

test('rank 0 alone writes the checkpoint, with which any number of ranks goes on', async (t) => {
  const checkpoint = join(folder, 'run.safetensors')
  const task = { examples: 24 }
  const whole = await alone({ ...task, train: { ...train, epochs: 3, batchSize: 12 } })
  await ranks(
    3,
    { ...task, train: { ...train, epochs: 1, batchSize: 4, checkpoint } },
    {
      1: { train: { ...train, epochs: 1, batchSize: 4, checkpoint: join(folder, 'of-another.safetensors') } },
    },
  )
  t.throws(() => statSync(join(folder, 'of-another.safetensors')))
  // Rank 0 has the file; the other begins with anything.
  const two = await ranks(
    2,
    { ...task, train: { epochs: 3, batchSize: 6, resume: true, checkpoint } },
    { 0: { load: checkpoint } },
  )
  for (const result of two) {
    t.is(result?.error, undefined)
    t.is(result?.steps, whole.steps)
    t.true(difference(result?.parameters ?? [], whole.parameters) < 1e-9)
  }
})

test('ranks with other options are refused on all of them', async (t) => {
  const task = { examples: 12, train: { ...train, batchSize: 4 } }
  for (const own of [{ train: { ...task.train, lr: 0.02 } }, { model: { ...model, features: 4 } }]) {
    const all = await ranks(2, task, { 1: own })
    for (const result of all) {
      t.is(result?.error?.code, 'ERR_S4_DISTRIBUTED')
      t.regex(result?.error?.message ?? '', /rank 1/)
      t.is(result?.refused, undefined)
    }
  }
})

test('a rank whose data throws, and one that ends its loop, are named by the others', async (t) => {
  for (const what of ['throw', 'break'] as const) {
    const task = { examples: 60, train: { ...train, batchSize: 2 } }
    const [first, second] = await ranks(2, task, { 1: { after: { updates: 3, what } } })
    t.is(first?.error?.code, 'ERR_S4_PEER')
    t.regex(first?.error?.message ?? '', what === 'throw' ? /rank 1: .*no more data/ : /rank 1: .*ended/)
    // What it has may be half updated.
    t.is(first?.refused, 'ERR_S4_PEER')
    t.is(second?.error?.message, what === 'throw' ? 'no more data' : undefined)
    t.is(second?.refused, undefined)
  }
})

test('ranks that all end their loop at the same update have no error', async (t) => {
  const all = await ranks(2, {
    examples: 60,
    train: { ...train, batchSize: 2 },
    after: { updates: 4, what: 'break' },
  })
  for (const result of all) t.deepEqual([result?.error, result?.steps], [undefined, 4])
  t.deepEqual(all[0]?.parameters, all[1]?.parameters)
})

test('a rank that ends without a word, and one that hangs, are named within the time', async (t) => {
  for (const what of ['exit', 'hang'] as const) {
    const began = performance.now()
    const task = { examples: 60, train: { ...train, batchSize: 2 }, timeout: 3000 }
    const [first, second] = await ranks(2, task, { 1: { after: { updates: 3, what } } })
    t.is(first?.error?.code, 'ERR_S4_PEER')
    t.regex(first?.error?.message ?? '', /rank \[?1/)
    t.is(first?.refused, 'ERR_S4_PEER')
    if (what === 'hang') t.is(second?.error?.code, 'ERR_S4_PEER')
    t.true(performance.now() - began < 60_000)
  }
})

test('ranks that do not come are said, and a group of one is none', async (t) => {
  const masterPort = await freePort()
  const began = performance.now()
  await rejects(
    t,
    'ERR_S4_DISTRIBUTED',
    joinGroup({ rank: 0, worldSize: 2, masterAddress: '127.0.0.1', masterPort, timeout: 500 }),
  )
  t.true(performance.now() - began < 30_000)
  const group = await joinGroup({ rank: 0, worldSize: 1 })
  t.deepEqual([group.rank, group.worldSize, group.localRank], [0, 1, 0])
  const one = await SequenceModel.create({ ...(model as SequenceModelOptions), device: 'cpu' })
  const two = await SequenceModel.create({ ...(model as SequenceModelOptions), device: 'cpu' })
  const data = [{ input: { data: new Float32Array(20).fill(0.5), shape: [2, 10, 1] }, target: [0, 1] }]
  const events = []
  for await (const e of one.train(data, { distributed: group })) events.push(e)
  await two.fit(data)
  t.deepEqual(
    one.parameters().map((p) => p.value.data),
    two.parameters().map((p) => p.value.data),
  )
  t.true(events.every((event) => event.rank === undefined))
  await group.close()
  await rejects(t, 'ERR_S4_DISTRIBUTED', one.fit(data, { distributed: group }))
  await rejects(t, 'ERR_S4_VALUE', one.fit(data, { distributed: {} as never }))
  one.dispose()
  two.dispose()
})

test('ranks on the CPU that are processes are refused', async (t) => {
  const masterPort = String(await freePort())
  const program = `
    import { joinGroup, SequenceModel } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
    const group = await joinGroup({ timeout: 30000 })
    const model = await SequenceModel.create(${JSON.stringify({ ...model, device: 'cpu' })})
    const data = [{ input: { data: new Float32Array(20), shape: [2, 10, 1] }, target: [0, 1] }]
    try { await model.fit(data, { distributed: group }) } catch (error) { console.log(error.code) }
    await group.close()`
  const codes = await Promise.all(
    ['0', '1'].map(async (RANK) => {
      const env = {
        ...process.env,
        RANK,
        WORLD_SIZE: '2',
        LOCAL_RANK: '0',
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: masterPort,
      }
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], { env })
      let out = ''
      child.stdout.on('data', (piece) => (out += piece))
      child.stderr.on('data', (piece) => t.log(String(piece)))
      await once(child, 'exit')
      return out.trim()
    }),
  )
  // Rank 0's is of the other process, or it has heard of it.
  t.deepEqual(codes.slice(1), ['ERR_S4_DISTRIBUTED'])
  t.regex(codes[0] ?? '', /ERR_S4_(DISTRIBUTED|PEER)/)
})
