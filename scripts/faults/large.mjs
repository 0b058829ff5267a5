// npm run test:large: trains from data that are larger than memory and made while they are read: of text (a table) bytes, rows, windows,
// of samples (32-bit floats, 64 channels) bytes, frames; then shuffled examples, batches, updates. The memory of the process is the same
// at the end as after 0.4 GB, when all buffers have been full. A GB of text takes half a minute of a core, one of samples two seconds.
//   node --expose-gc scripts/faults/large.mjs [--gigabytes 20] [--short] [--samples]
import assert from 'node:assert/strict'
import { SequenceModel } from 's4-node'
import { pcmFrames, prefetch, shuffled, tableRows, windows } from 's4-node/data'
import { numbers, since } from './options.mjs'

const isSamples = process.argv.includes('--samples')
if (isSamples) process.argv.splice(process.argv.indexOf('--samples'), 1)
const { gigabytes } = numbers({ gigabytes: [20, 0.2] })
const began = performance.now()
const columns = 64
const names = Array.from({ length: columns }, (_, c) => `x${c}`)
/** Most that memory may grow after that, in MiB: what allocators keep back. */
const slack = 96

/** Text of so many rows, which is given out again and again: the sum of waves, to two digits. */
function rowsOfText(count) {
  let text = ''
  for (let t = 0; t < count; t++) {
    const row = names.map((_, c) =>
      (50 * Math.sin(((c + 1) * t) / 97) + ((t * 31 + c * 17) % 100) / 10).toFixed(2),
    )
    text += `${row.join(',')}\n`
  }
  return new TextEncoder().encode(text)
}

/** The same waves as floats. */
const rowsOfSamples = (count) =>
  new Uint8Array(
    Float32Array.from({ length: count * columns }, (_, i) =>
      Math.sin((((i % columns) + 1) * Math.floor(i / columns)) / 97),
    ).buffer,
  )

const block = isSamples ? rowsOfSamples(8192) : rowsOfText(8192)
const wanted = gigabytes * 1e9
let given = 0
async function* bytes() {
  if (!isSamples) yield `${names.join(',')}\n`
  for (; given < wanted; given += block.length) yield block
}

let examples = 0
/** An example of each thousand frames: 128 of them, and of the next the first channel. */
async function* ofFrames() {
  for await (const frames of pcmFrames(bytes(), { format: 'f32le', channels: columns, frames: 1024 })) {
    examples++
    yield {
      input: { data: frames.slice(0, 128 * columns), shape: [128, columns] },
      target: { data: frames.slice(128 * columns, 128 * columns + 1), shape: [1] },
    }
  }
}
async function* ofRows() {
  for await (const rows of tableRows(bytes(), { batch: 1024 }))
    if (rows.rows > 128)
      for (const sample of windows(rows, { length: 128, horizon: 1, stride: 128, targets: ['x0'] })) {
        examples++
        yield sample
      }
}

const held = []
function look(step) {
  const part = Math.floor((10 * given) / wanted)
  if (part <= held.length - 1 || given === 0) return
  globalThis.gc?.()
  held.push({ given, mib: process.memoryUsage().rss / 2 ** 20 })
  console.log(
    `${(given / 1e9).toFixed(2)} GB, ${step} updates, ${held.at(-1).mib.toFixed(0)} MiB, ${since(began)}`,
  )
}

const model = await SequenceModel.create({
  input: columns,
  output: 1,
  features: 4,
  layers: 1,
  state: 4,
  pooling: 'last',
  loss: 'mse',
  device: 'cpu',
  seed: 1,
})
let last
for await (const event of model.train(
  prefetch(shuffled(isSamples ? ofFrames() : ofRows(), { buffer: 512 }), 64),
  {
    batchSize: 64,
    lr: 1e-3,
  },
)) {
  if (event.type === 'step') {
    last = event
    look(event.step)
  }
}
look(last.step)
assert.ok(given >= wanted && examples > 0 && Number.isFinite(last.loss))
const isSteady = (x) => x.given >= Math.min(4e8, wanted / 2)
const [first, final] = [held.find(isSteady).mib, held.at(-1).mib]
assert.ok(final - first <= slack, `${first.toFixed(0)} MiB → ${final.toFixed(0)} MiB`)
const seconds = (performance.now() - began) / 1000
console.log(
  `${(given / 1e9).toFixed(2)} GB of ${isSamples ? 'samples' : 'text'}, ${examples} examples, ${last.step} updates: ${first.toFixed(0)} MiB → ${final.toFixed(0)} MiB, ` +
    `${(given / 1e6 / seconds).toFixed(0)} MB/s`,
)
model.dispose()
