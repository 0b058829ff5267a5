// npm run test:workers: worker threads that create models, train and stream, and are ended in the middle: by terminate(), by
// process.exit and exceptions within callbacks, or with the process while they are unref'd. The other workers compute what they
// compute alone, the process lives, and nothing is left of those that ended: no thread, no file descriptor, no memory of a model.
//   node scripts/faults/workers.mjs [--workers 400] [--seed 1] [--short]
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { generator } from '../recipe-random.mjs'
import { mallocInUse } from './malloc.mjs'
import { beside, numbers, runText, since } from './options.mjs'

const { workers, seed } = numbers({ workers: [400, 12], seed: [1, 1] })
const random = generator(seed)
const began = performance.now()
const file = beside('worker.mjs')

/** Starts a worker; `ended` gives its exit code, its error and what it gave at its end. */
function begin(work, { size = 16, steps = 40 } = {}) {
  const worker = new Worker(file, { workerData: { work, size, steps } })
  let [end, error] = []
  const begun = new Promise((resolve) => {
    worker.on('message', (message) => {
      if (message === 'begun') resolve()
      else if (message.end !== undefined) end = message.end
    })
    worker.once('exit', resolve)
  })
  worker.once('error', (e) => (error = e))
  const ended = new Promise((resolve) => worker.once('exit', (code) => resolve({ code, error, end })))
  return { worker, begun, ended }
}

// Eight at once, of which one is terminated.
const alone = await begin('both').ended
assert.equal(alone.code, 0, alone.error)
for (let i = 0; i < (workers > 100 ? 10 : 1); i++) {
  const eight = Array.from({ length: 8 }, () => begin('both'))
  await eight[i % 8].begun
  await wait(random() * 50)
  await eight[i % 8].worker.terminate()
  const ends = await Promise.all(eight.map(({ ended }) => ended))
  for (const [k, { code, end, error }] of ends.entries())
    if (k !== i % 8) assert.deepEqual([code, end, error], [0, alone.end, undefined])
}
console.log(`eight workers, one terminated: the other seven end with ${alone.end}; ${since(began)}`)

const folder = mkdtempSync(join(tmpdir(), 's4-workers-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const inUse = mallocInUse(folder)

/** What the process holds, after a collection of garbage. */
async function holdings() {
  // Threads of ended workers go when their environment has gone, a moment after the exit event.
  await wait(200)
  const count = (name) => (process.platform === 'linux' ? readdirSync(`/proc/self/${name}`).length : 0)
  return {
    threads: count('task'),
    descriptors: count('fd'),
    resident: process.memoryUsage().rss / 2 ** 20,
    inUse: (inUse?.() ?? 0) / 2 ** 20,
  }
}

// The models of these workers take about 10 MiB each with gradients and moments, so that one that stays is seen.
const size = 256
const counts = {}
let after
const warmUp = Math.ceil(workers / 4)
for (let i = 0; i < workers; i++) {
  if (i === warmUp) after = await holdings()
  const work = ['train', 'stream', 'both', 'exit', 'throw'][Math.floor(random() * 5)]
  const { worker, begun, ended } = begin(work, { size, steps: 1000 })
  // Some are terminated while their program is still loaded or their model made.
  const runs = random() < 0.7
  if (runs) await begun
  await wait(random() * 40)
  if (work !== 'exit' && work !== 'throw') worker.terminate()
  const { code, error } = await ended
  if (work === 'throw') assert.match(String(error?.message), /on purpose/)
  else assert.equal(error, undefined, String(error))
  // Node gives a thread that was terminated before its program ran the code 0.
  if (runs || code !== 0) assert.equal(code, work === 'exit' ? 0 : 1, work)
  counts[work] = (counts[work] ?? 0) + 1
}
const last = await holdings()
const grown = (key) => (last[key] - after[key]) / (workers - warmUp)
const figures =
  `${after.threads} → ${last.threads} threads, ${after.descriptors} → ${last.descriptors} descriptors, ` +
  `${after.inUse.toFixed(0)} → ${last.inUse.toFixed(0)} MiB in use, ${after.resident.toFixed(0)} → ${last.resident.toFixed(0)} resident`
assert.ok(last.threads <= after.threads && last.descriptors <= after.descriptors, figures)
// The allocator keeps what threads gave back, more where many ran at once: resident memory shows a model that stays, and no less.
assert.ok(grown('inUse') < 2 && grown('resident') < 5, figures)
console.log(
  `${workers} workers ended in the middle (${JSON.stringify(counts)}): ${figures} after the first ${warmUp}; ${since(began)}`,
)

// A worker that was unref'd does not keep the process; it ends with it in the middle of its work.
for (let i = 0; i < (workers > 100 ? 20 : 2); i++) {
  const source = `
    import { Worker } from 'node:worker_threads'
    const worker = new Worker(${JSON.stringify(file)}, { execArgv: [], workerData: { work: 'both', size: 16, steps: 100000 } })
    worker.on('message', (m) => { if (m === 'step') { worker.removeAllListeners(); worker.unref() } })`
  const { code, signal, err } = await runText(source)
  assert.deepEqual([code, signal, err], [0, null, ''])
}
console.log(`unref'd workers end with the process; seed ${seed}; ${since(began)}`)
