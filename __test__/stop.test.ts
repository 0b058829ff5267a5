/** `stop` ends a training as if it had come to its end: what is kept, what is told, how a run goes on, and with which data. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { Classifier, type TaskEvent } from 's4-node/tasks'
import { rejects } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-stop-'))
test.after.always(() => rmSync(folder, { recursive: true }))

const examples = Array.from({ length: 60 }, (_, i) => ({
  input: Float32Array.from({ length: 20 }, (__, t) => Math.sin((1 + (i % 2)) * t + i)),
  label: i % 2,
}))
const options = {
  device: 'cpu',
  threads: 1,
  features: 8,
  layers: 1,
  state: 4,
  batchSize: 4,
  epochs: 6,
} as const

/** Fits, and stops at the first event that `when` finds. */
async function stopped(when: (event: TaskEvent) => boolean, more: object = {}) {
  const controller = new AbortController()
  const events: TaskEvent[] = []
  const classifier = await Classifier.fit(examples, {
    ...options,
    ...more,
    stop: controller.signal,
    onEvent: (event) => {
      events.push(event)
      if (when(event)) controller.abort()
    },
  })
  const answers = await classifier.predict(examples.slice(0, 4).map(({ input }) => input))
  classifier.dispose()
  return {
    events,
    end: events.at(-1) as TaskEvent & { type: 'end' },
    answers: answers.map((a) => a.probability),
  }
}

test('in an epoch: the best one so far is kept, no update more is made, and the run goes on undisturbed', async (t) => {
  const run = mkdtempSync(join(folder, 'run-'))
  const { end, events, answers } = await stopped((e) => e.type === 'step' && e.epoch === 3, { folder: run })
  t.is(end.type, 'end')
  t.deepEqual([end.reason, end.epoch], ['stop', 2])
  t.is(events.findLast((e) => e.type === 'step')?.epoch, 3)
  t.is(events.filter((e) => e.type === 'step' && e.epoch === 3).length, 1)
  const whole = await stopped(() => false)
  // The epochs before are those of a training that is not stopped, and so is what was kept of them.
  const two = await stopped((e) => e.type === 'epoch' && e.epoch === 2)
  t.deepEqual([two.end.reason, two.end.epoch], ['stop', 2])
  t.is(two.end.bestEpoch, end.bestEpoch)
  t.deepEqual(answers, two.answers)
  const resumed = await stopped(() => false, { folder: run, resume: true })
  t.is(resumed.end.reason, whole.end.reason)
  const others = examples.map(({ input, label }, i) => ({
    input: i === 7 ? input.map((x) => x + 1) : input,
    label,
  }))
  const renamed = examples.map(({ input, label }, i) => ({ input, label: i === 7 ? 1 - label : label }))
  for (const wrong of [others, renamed]) {
    const error = await rejects(t, 'ERR_S4_CHECKPOINT', () =>
      Classifier.fit(wrong, { ...options, folder: run, resume: true }),
    )
    t.regex(error.message, /same data/)
  }
  t.deepEqual(resumed.answers, whole.answers)
})

test('in the first epoch: the parameters of then are judged and kept, and a run begins anew', async (t) => {
  const run = mkdtempSync(join(folder, 'first-'))
  const { end, events } = await stopped((e) => e.type === 'step', { folder: run })
  t.deepEqual([end.reason, end.epoch, end.bestEpoch], ['stop', 1, 1])
  t.is(events.filter((e) => e.type === 'step').length, 1)
  t.true(existsSync(join(run, 'best.safetensors')))
  t.false(existsSync(join(run, 'last.safetensors')))
  const whole = await stopped(() => false)
  t.deepEqual((await stopped(() => false, { folder: run, resume: true })).answers, whole.answers)
})
