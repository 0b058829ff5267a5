// npm run test:kill: a training program is killed by SIGKILL at random moments of its updates, evaluations and writing of checkpoints.
// After each kill the checkpoint must be whole and no older than the last one that was said to be written; and the run, gone on with
// until the next kill and at last to its end, must end in the same bits as one that was never disturbed.
//   node scripts/faults/kill.mjs [--kills 100] [--seed 1] [--short]
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { readSafetensors, SequenceModel } from 's4-node'
import { generator } from '../recipe-random.mjs'
import { beside, numbers, since, start } from './options.mjs'

const { kills, seed } = numbers({ kills: [100, 6], seed: [1, 1] })
const random = generator(seed)
const folder = mkdtempSync(join(tmpdir(), 's4-kill-'))
const program = beside('training.mjs')
const began = performance.now()

const phases = { u: 'updates', w: 'writing', v: 'evaluation' }
const lines = (out) => out.split('\n').slice(0, -1)

/** Parameters, moments and averages of a file, and its progress. */
async function contents(path) {
  const { tensors } = readSafetensors(path)
  const model = await SequenceModel.load(path, { device: 'cpu', threads: 1 })
  const { progress } = model
  model.dispose()
  const bits = Object.entries(tensors).map(([name, { data }]) => [
    name,
    Buffer.from(data.buffer).toString('base64'),
  ])
  return { progress, bits: bits.toSorted() }
}

const undisturbed = start([program, join(folder, 'a.safetensors'), join(folder, 'whole.safetensors')])
const { code, err, out } = await undisturbed.ended
assert.equal(code, 0, err)
const whole = await contents(join(folder, 'whole.safetensors'))
const parts = { u: 0, w: 0, v: 0 }
for (const line of lines(out)) if (line[0] in parts) parts[line[0]]++
console.log(`undisturbed: ${whole.progress.steps} updates, ${parts.w} checkpoints, ${parts.v} evaluations`)

/** Lets the program run until it has begun a part of this kind a few times more, and kills it a moment later. */
async function killed(checkpoint, final) {
  const kind = ['u', 'w', 'w', 'v'][Math.floor(random() * 4)]
  // An evaluation comes once an epoch.
  let left = 1 + Math.floor(random() * (kind === 'v' ? 1 : 6))
  const delay = random() * 4
  const run = start([program, checkpoint, final])
  let seen = 0
  await new Promise((resolve) => {
    run.child.stdout.on('data', () => {
      for (const line of lines(run.out()).slice(seen)) {
        seen++
        if (line[0] === kind && --left === 0) resolve()
      }
    })
    run.child.once('close', resolve)
  })
  await wait(delay)
  run.child.kill('SIGKILL')
  return run.ended
}

const counts = { updates: 0, writing: 0, evaluation: 0 }
let [done, rounds, remains, ended] = [0, 0, 0, 0]
while (done < kills) {
  rounds++
  const [checkpoint, final] = ['c', 'f'].map((name) => join(folder, `${name}${rounds}.safetensors`))
  let written = -1
  const inThisRound = 1 + Math.floor(random() * 8)
  for (let i = 0; i < inThisRound && done < kills; i++) {
    const { signal, code: exit, out: said, err: wrong } = await killed(checkpoint, final)
    // A run that was quicker than its kill is a resumed run like any other.
    if (signal !== 'SIGKILL') {
      assert.equal(exit, 0, wrong)
      ended++
      break
    }
    done++
    const all = lines(said)
    const phase = all.findLast((line) => line[0] in phases)
    if (phase !== undefined) counts[phases[phase[0]]]++
    const last = (letter) => Number(all.findLast((line) => line[0] === letter)?.slice(2) ?? -1)
    written = Math.max(written, last('W'))
    const begun = Math.max(written, last('w'))
    if (existsSync(checkpoint)) {
      const { progress } = await contents(checkpoint)
      assert.ok(progress.steps >= written, `kill ${done}: ${progress.steps} updates of ${written} written`)
      assert.ok(progress.steps <= begun, `kill ${done}: ${progress.steps} updates, ${begun} begun`)
    } else assert.equal(written, -1, `kill ${done}: the checkpoint is gone`)
  }
  const resumed = await start([program, checkpoint, final]).ended
  assert.equal(resumed.code, 0, resumed.err)
  assert.deepEqual(await contents(final), whole, `round ${rounds}: another end than undisturbed`)
  const names = readdirSync(folder).filter((name) => name.startsWith('.tmp'))
  remains += names.length
  for (const name of names) rmSync(join(folder, name))
}
rmSync(folder, { recursive: true })
const where = Object.entries(counts).map(([name, n]) => `${n} in ${name}`)
console.log(
  `${done} kills (${where.join(', ')}) of ${rounds} runs, seed ${seed}: every checkpoint whole, every run ended in the same bits; ` +
    `${ended} runs were quicker than their kill; ${remains} temporary files were left; ${since(began)}`,
)
