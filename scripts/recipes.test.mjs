// node --test scripts/recipes.test.mjs: every recipe runs from its data to its figures, and what was interrupted goes on bit for bit.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { readSafetensors } from 's4-node'
import { plannedEpochs } from './recipe-plan.mjs'

const script = fileURLToPath(new URL('recipe.mjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 's4-recipes-'))
after(() => rmSync(folder, { recursive: true }))
const recipes = readdirSync(fileURLToPath(new URL('../recipes', import.meta.url)))
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -5))
const run = (...args) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
const history = (out) =>
  readFileSync(join(out, 'history.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

for (const name of recipes)
  test(`${name} --smoke`, () => {
    const out = join(folder, name)
    const began = performance.now()
    const { status, stderr } = run(name, '--smoke', '--out', out)
    assert.equal(status, 0, stderr)
    const seconds = (performance.now() - began) / 1000
    assert.ok(seconds < 20, `${seconds} s`)
    const events = history(out)
    const epochs = events.filter(({ event }) => event === 'epoch')
    assert.deepEqual([events[0].event, events.at(-1).event, epochs.length], ['start', 'end', 2])
    assert.ok(epochs.every(({ loss }) => Number.isFinite(loss)))
    const result = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'))
    assert.equal(result.recipe, name)
    assert.ok(existsSync(join(out, result.checkpoint.file)))
    const figures = Object.values(result.tests)
    assert.ok(figures.length > 0)
    for (const { accuracy, correct, of, confusion, mse } of figures)
      if (mse === undefined) {
        assert.equal(correct / of, accuracy)
        const all = confusion.flat().reduce((a, b) => a + b, 0)
        const right = confusion.reduce((sum, row, i) => sum + row[i], 0)
        assert.deepEqual([all, right], [of, correct])
      } else assert.ok(mse > 0 && Number.isFinite(mse))
  })

/** Parameters of two checkpoints, bit for bit. */
function sameParameters(a, b) {
  const [x, y] = [a, b].map((path) => readSafetensors(path).tensors)
  assert.deepEqual(Object.keys(x).toSorted(), Object.keys(y).toSorted())
  for (const [name, { data }] of Object.entries(x))
    assert.deepEqual(Buffer.from(data.buffer), Buffer.from(y[name].data.buffer), name)
}

/** A recipe with dropout and augmentation, long enough to be interrupted; a checkpoint after every update. */
const long = (out, ...more) =>
  'digits --smoke --set train.epochs=12 --checkpoint-every 0'.split(' ').concat('--out', out, more)

test('a run that is killed or told to end goes on to the same bits', async () => {
  const whole = join(folder, 'whole')
  assert.equal(run(...long(whole)).status, 0)
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT']) {
    const out = join(folder, signal)
    const child = spawn(process.execPath, [script, ...long(out)], { stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', (code, by) => resolve(by ?? code)))
    while (!existsSync(join(out, 'history.jsonl')) || history(out).length < 3) await wait(5)
    child.kill(signal)
    // A run that is told to end does so by itself.
    assert.equal(await ended, signal === 'SIGKILL' ? signal : 0)
    assert.ok(!existsSync(join(out, 'result.json')), 'interrupted before its end')
    const resumed = run(...long(out, '--resume'))
    assert.equal(resumed.status, 0, resumed.stderr)
    sameParameters(join(whole, 'final.safetensors'), join(out, 'final.safetensors'))
  }
})

test('a curve over two calls: the first leaves the run unjudged, the second ends it', () => {
  const out = join(folder, 'two')
  const args = ['lra-text', '--smoke', '--out', out, '--set', 'train.epochs=100000']
  assert.equal(run(...args, '--minutes', '0.03', '--ahead', '0.03').status, 0)
  assert.ok(!existsSync(join(out, 'result.json')))
  const first = history(out)
  assert.equal(first.at(-1).event, 'paused')
  assert.equal(run(...args, '--minutes', '0.05', '--resume').status, 0)
  const second = history(out).slice(first.length)
  assert.equal(second[0].resumedAt.epoch, first.at(-1).epoch)
  // An epoch that was begun keeps the curve that it was begun with.
  if (first.at(-1).batch > 0) assert.equal(second[1].of, first.at(-2).of)
  assert.equal(second.at(-1).event, 'end')
  assert.ok(existsSync(join(out, 'result.json')))
})

test('epochs are planned by the time that is left', () => {
  const base = { done: 4, most: 30, minutes: 10, ahead: 0, elapsed: 300 }
  assert.equal(plannedEpochs(base), 30, 'nothing is known yet')
  // .92 of 600 s are 552 s, of which 300 are over: 252 s are 8 epochs of 30 s.
  assert.equal(plannedEpochs({ ...base, secondsPerEpoch: 30 }), 12)
  assert.equal(plannedEpochs({ ...base, secondsPerEpoch: 1 }), 30, "no more than the recipe's")
  assert.equal(plannedEpochs({ ...base, secondsPerEpoch: 30, elapsed: 590 }), 4, 'no time left')
  // 600 − 300 + .92 · 300 = 576 s.
  assert.equal(plannedEpochs({ ...base, ahead: 5, secondsPerEpoch: 30 }), 23)
  assert.equal(plannedEpochs({ ...base, plan: [9, 9, 9, 9, 7] }), 7)
  assert.equal(plannedEpochs({ ...base, plan: [9] }), 4, 'a plan that ends')
})
