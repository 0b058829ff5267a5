// One rank of scripts/distributed-check.mjs: trains as its task says and writes what came of it.
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { joinGroup, SequenceModel } from '../build/index.js'

const task = JSON.parse(process.argv[2])
const { dry } = task
const say = (message) => (parentPort ? parentPort.postMessage(message, []) : process.send?.(message))
const group = await joinGroup({ timeout: task.timeout ?? 30_000 })
const { rank, worldSize } = group
const distributed = worldSize > 1 ? { distributed: group } : {}
const out = { rank, source: group.source, device: group.device }
const host = { device: dry ? 'cpu' : group.device, ...(dry ? { threads: 1 } : { precision: 'highest' }) }
// The algorithm is chosen by the number of rows, which two ranks do not have alike.
const SMALL = { input: 1, output: 10, state: 64, pooling: 'mean', seed: 3, algorithm: 'chunk', ...host }

/** Sequences of ten classes. */
function examplesOf(count, length) {
  return Array.from({ length: count }, (_, i) => {
    const data = Float32Array.from(
      { length },
      (__, t) => Math.sin(0.02 * (1 + (i % 10)) * t + i) + 0.1 * Math.cos(i * t),
    )
    return { input: { data, shape: [length, 1] }, target: i % 10 }
  })
}

/** The bits of all parameters. */
function bitsOf(model) {
  const hash = createHash('sha256')
  for (const { value } of model.parameters()) hash.update(value.data)
  return hash.digest('hex')
}

const parametersOf = (model) => model.parameters().flatMap(({ value }) => Array.from(value.data))

/** Trains, and calls `each` after every update until it gives false. */
async function train(model, data, options, each) {
  for await (const event of model.train(data, { ...options, ...distributed })) {
    if (event.type === 'step' && each(event) === false) break
  }
}

/** The same data as one rank with the joint batch: losses of 50 updates, parameters after ten. */
async function equal() {
  const model = await SequenceModel.create({ ...SMALL, features: dry ? 8 : 64, layers: dry ? 1 : 2 })
  const data = examplesOf(320, dry ? 64 : 512)
  const [losses, gradNorms, events] = [[], [], []]
  let parameters
  const from = performance.now()
  // With this eps AdamW does not make a whole step of what rounding leaves of a gradient that is nothing.
  const options = {
    epochs: 10,
    batchSize: 64 / worldSize,
    lr: 1e-3,
    eps: 1e-4,
    clip: 1,
    shuffle: true,
    seed: 1,
  }
  await train(model, data, options, (event) => {
    if (losses.length === 0) out.join = Math.round(performance.now() - from)
    losses.push(event.loss)
    gradNorms.push(event.gradNorm)
    events.push({ ...event, rank: 0, samplesPerSecond: 0 })
    if (event.step === 10) parameters = parametersOf(model)
  })
  out.equal = { losses, gradNorms, parameters, bits: bitsOf(model), events: JSON.stringify(events) }
  model.dispose()
}

/** Dropout, batch norm, clipping, a running average, weights decay, an uneven end: the ranks stay the same bits. */
async function everything() {
  const options = { ...SMALL, features: dry ? 8 : 64, layers: 2, norm: 'batch', dropout: 0.2 }
  const model = await SequenceModel.create({ ...options, seed: 10 + rank })
  const data = examplesOf(203, 64)
  await train(
    model,
    data,
    { epochs: dry ? 1 : 25, batchSize: 8, clip: 0.5, ema: 0.99, shuffle: true },
    () => true,
  )
  model.swapAverage()
  const average = bitsOf(model)
  model.swapAverage()
  out.everything = { bits: bitsOf(model) + average, updates: model.progress.steps }
  model.dispose()
}

/** Milliseconds of an update of 6 layers of 512 features, N 64, `rows` sequences of 1,024 steps a rank. */
async function speed(rows) {
  const size = dry ? { features: 8, layers: 1, state: 8 } : { features: 512, layers: 6, state: 64 }
  const model = await SequenceModel.create({
    input: 1,
    output: 10,
    pooling: 'mean',
    ...host,
    precision: undefined,
    ...size,
  })
  const [warm, measured] = dry ? [2, 4] : [12, 40]
  const length = dry ? 64 : 1024
  const data = new Float32Array(rows * length).map((_, i) => Math.sin(i))
  const batch = {
    input: { data, shape: [rows, length, 1] },
    target: Array.from({ length: rows }, (_, i) => i % 10),
  }
  // Each rank takes every worldSize-th batch.
  const batches = Array.from({ length: (warm + measured + 1) * worldSize }, () => batch)
  const times = []
  await train(model, batches, { epochs: 1 }, () => times.push(performance.now()))
  const milliseconds = (times[warm + measured - 1] - times[warm - 1]) / measured
  model.dispose()
  return { model: { ...size, rows, length, updates: measured }, milliseconds }
}

/** Trains until another rank is lost. */
async function long() {
  const model = await SequenceModel.create({ ...SMALL, features: dry ? 8 : 128, layers: 2 })
  const data = examplesOf(64, dry ? 32 : 512)
  let updates = 0
  try {
    await train(model, data, { epochs: 1e6, batchSize: 16 }, () => {
      if (++updates % 10 === 0) say({ updates })
      if (task.hang && updates > 25) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 40_000)
    })
    out.long = { error: { message: 'no error' } }
  } catch ({ code, message }) {
    out.long = { error: { code, message } }
  }
  try {
    model.parameters()
  } catch ({ code }) {
    out.long.refused = code
  }
  model.dispose()
}

const parts = {
  equal,
  everything,
  long,
  speed: async () => (out.speed = await speed(dry ? 4 : 50)),
  strong: async () => (out.strong = await speed(dry ? 2 : 25)),
}
try {
  for (const name of task.parts) await parts[name]()
} catch ({ code, message }) {
  out.error = { code, message }
}
writeFileSync(task.out.replace('RANK', rank), JSON.stringify(out))
await group.close()
// What a lost rank has left on the device is not waited for.
if (!parentPort) process.exit(0)
