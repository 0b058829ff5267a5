// npm run test:soak: a stream that is pushed 10⁸ samples, and a thousand models that are made, trained, saved, loaded and disposed of or
// forgotten. What the C library's allocator has handed out, the threads of the process and its file descriptors are the same at the end
// as after a tenth of the way, and so is the resident memory of the stream. That of the models is printed: freed memory that the
// allocator keeps for each of their threads, and V8's growing young generation, are in it.
//   node --expose-gc scripts/faults/soak.mjs [--samples 1e8] [--cycles 1000] [--short]
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { SequenceModel } from 's4-node'
import { mallocInUse } from './malloc.mjs'
import { numbers, since } from './options.mjs'

const { samples, cycles } = numbers({ samples: [1e8, 4e6], cycles: [1000, 60] })
const began = performance.now()
const device = { device: 'cpu', threads: 1 }

const folder = mkdtempSync(join(tmpdir(), 's4-soak-'))
const inUse = mallocInUse(folder)

/** What the process holds, after a collection of garbage: until the threads of collected models have ended, or for five seconds. */
async function holdings(threads) {
  const count = (name) => (process.platform === 'linux' ? readdirSync(`/proc/self/${name}`).length : 0)
  for (let i = 0; i < 100; i++) {
    globalThis.gc?.()
    // Finalizers of collected objects run in later turns of the event loop.
    await wait(50)
    if (count('task') <= threads) break
  }
  return {
    threads: count('task'),
    descriptors: count('fd'),
    mib: process.memoryUsage().rss / 2 ** 20,
    inUse: (inUse?.() ?? 0) / 2 ** 20,
  }
}
const text = (held) =>
  `${held.inUse.toFixed(1)} MiB in use, ${held.mib.toFixed(1)} resident, ${held.threads} threads, ${held.descriptors} descriptors`

/**
 * Runs `work` so many times in ten parts and prints what the process holds after each. From the first part on nothing may grow: bytes in
 * use by no more than 2 MiB, resident memory by no more than `slack` MiB.
 */
async function flat(name, times, slack, work) {
  const after = []
  for (let part = 0; part < 10; part++) {
    for (let i = 0; i < Math.ceil(times / 10); i++) await work(part, i)
    after.push(await holdings(after[0]?.threads ?? base.threads))
  }
  const tenths = (key) => after.map((held) => held[key].toFixed(1)).join(' ')
  console.log(`${name}: after each tenth ${tenths('inUse')} MiB in use, ${tenths('mib')} resident`)
  const [first, last] = [after[0], after.at(-1)]
  assert.ok(
    last.threads <= first.threads && last.descriptors <= first.descriptors,
    `${text(first)} → ${text(last)}`,
  )
  assert.ok(last.inUse - first.inUse <= 2, `${name}: ${text(first)} → ${text(last)}`)
  assert.ok(last.mib - first.mib <= slack, `${name}: ${text(first)} → ${text(last)}`)
  console.log(`${name}: ${text(first)} → ${text(last)}; ${since(began)}`)
}

const chunk = 4096
const model = await SequenceModel.create({
  input: 1,
  output: 1,
  features: 4,
  layers: 1,
  state: 4,
  pooling: 'none',
  loss: 'mse',
  seed: 1,
  ...device,
})
const stream = model.stream({ batch: 1 })
const base = await holdings(Infinity)
const data = new Float32Array(chunk)
let largest = 0
await flat(`${samples.toExponential(0)} samples in pushes of ${chunk}`, samples / chunk, 8, (part, i) => {
  for (let t = 0; t < chunk; t++) data[t] = Math.sin(0.01 * (t + i))
  const y = stream.push({ data, shape: [1, chunk, 1] }).data
  largest = Math.max(largest, Math.abs(y[chunk - 1]))
})
assert.equal(stream.position, 10 * Math.ceil(samples / chunk / 10) * chunk)
assert.ok(Number.isFinite(largest) && largest > 0 && largest < 100, `outputs up to ${largest}`)
stream.dispose()
model.dispose()

const file = join(folder, 'm.safetensors')
const x = { data: Float32Array.from({ length: 200 }, (_, i) => Math.sin(i)), shape: [2, 100, 1] }
await flat(`${cycles} models made, trained, saved, loaded, streamed`, cycles, Infinity, async (_, i) => {
  const options = {
    input: 1,
    output: 1,
    features: 16,
    layers: 2,
    state: 16,
    loss: 'mse',
    dropout: 0.1,
    ...device,
  }
  const made = await SequenceModel.create(options)
  await made.fit([{ input: x, target: x }], { epochs: 2, checkpoint: file })
  const loaded = await SequenceModel.load(file, device)
  const pushed = loaded.stream({ batch: 2 }).push(x)
  assert.ok(pushed.data.every(Number.isFinite))
  // Every third pair is left to the collector, with its stream.
  if (i % 3 !== 0) {
    made.dispose()
    loaded.dispose()
  }
})
rmSync(folder, { recursive: true })
