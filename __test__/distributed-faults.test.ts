/** What a rank that refuses, is aborted, leaves or ends early does to the others and to itself: ranks are worker threads on the CPU. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { SequenceModel, type SequenceModelOptions } from '../index.js'
import { model, ranks, train } from './distributed-ranks.js'
import { examplesOf, runRank } from './distributed-worker.js'

const folder = mkdtempSync(join(tmpdir(), 's4-distributed-faults-'))
test.after.always(() => rmSync(folder, { recursive: true }))

test('a rank whose signal fires while it waits for the others is aborted at once', async (t) => {
  const task = { examples: 12, train: { ...train, batchSize: 4 } }
  const [first] = await ranks(2, task, { 0: { abortAfter: 500 }, 1: { idle: 4000 } })
  t.is(first?.error?.code, 'ERR_S4_ABORTED')
  t.true((first?.seconds ?? NaN) < 20)
  // Nothing has been joined, and nothing is half updated.
  t.is(first?.refused, undefined)
})

test('a signal within the training ends this rank, and the others hear of it', async (t) => {
  const task = { examples: 60, train: { ...train, epochs: 1e6, batchSize: 2 } }
  const [first, second] = await ranks(2, task, { 1: { abortAfter: 1500 } })
  t.is(second?.error?.code, 'ERR_S4_ABORTED')
  t.is(first?.error?.code, 'ERR_S4_PEER')
  t.regex(first?.error?.message ?? '', /rank 1: it has failed/)
})

test('options that one rank refuses end the others at once, and the group trains afterwards', async (t) => {
  const second = { ...train, batchSize: 4 }
  const task = { examples: 12, train: second, second }
  const all = await ranks(2, task, { 1: { train: { ...second, lr: -1 } } })
  const [first, other] = all
  t.true((first?.seconds ?? NaN) < 30)
  for (const result of all) {
    t.is(result?.error, undefined)
    t.is(result?.steps, 4)
  }
  t.deepEqual(first?.parameters, other?.parameters)
})

test('a training that does not begin leaves the run before it', async (t) => {
  const checkpoint = join(folder, 'before.safetensors')
  await runRank({
    rank: 0,
    worldSize: 1,
    port: 0,
    model,
    examples: 12,
    train: { ...train, batchSize: 4, checkpoint },
  })
  const task = { examples: 12, load: checkpoint, train: { ...train, batchSize: 4 } }
  const second = { batchSize: 4, resume: true, epochs: 3 }
  // The models differ, of which rank 0 hears when it has begun.
  const all = await ranks(2, { ...task, second }, { 1: { train: { ...train, batchSize: 2 } } })
  for (const result of all) {
    t.is(result?.savedSteps, 6)
    t.is(result?.error, undefined)
  }
})

test('a rank that leaves its group within a training is named by the others', async (t) => {
  const task = { examples: 60, train: { ...train, batchSize: 2 } }
  const [first, second] = await ranks(2, task, { 1: { after: { updates: 3, what: 'close' } } })
  t.is(first?.error?.code, 'ERR_S4_PEER')
  t.regex(first?.error?.message ?? '', /rank 1: it has left the group/)
  t.is(second?.error?.code, 'ERR_S4_PEER')
  t.regex(second?.error?.message ?? '', /rank 1: it has left the group/)
})

test('ranks with batch norm give the same outputs wherever the loop ends', async (t) => {
  const all = await ranks(2, {
    model: { ...model, norm: 'batch' },
    examples: 60,
    train: { ...train, batchSize: 2 },
    after: { updates: 4, what: 'break' },
  })
  for (const result of all) t.is(result?.error, undefined)
  t.deepEqual(all[0]?.outputs, all[1]?.outputs)
  t.true(all[0]?.outputs.every(Number.isFinite))
})

test('an epoch under way whose states are carried is not gone on with by several ranks', async (t) => {
  const host = { device: 'cpu', dtype: 'f64', threads: 1 } as const
  const one = await SequenceModel.create({ ...(model as SequenceModelOptions), ...host })
  for await (const event of one.train(examplesOf(12), { batchSize: 4, carryState: true })) {
    if (event.type === 'step' && event.step === 2) break
  }
  const load = join(folder, 'carried.safetensors')
  await one.save(load, { optimizer: true })
  one.dispose()
  const all = await ranks(2, { examples: 12, load, train: { batchSize: 4, resume: true } })
  t.is(all[0]?.error?.code, 'ERR_S4_UNSUPPORTED')
  t.is(all[1]?.error?.code, 'ERR_S4_PEER')
  t.regex(all[1]?.error?.message ?? '', /rank 0: it has failed: .*anew/)
})
