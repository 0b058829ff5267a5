// One rank of scripts/distributed-check.mjs: trains as its task says and writes what came of it.
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { joinGroup, schedules, SequenceModel } from '../build/index.js'

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

// With this eps AdamW does not make a whole step of what rounding leaves of a gradient that is nothing.
const EQUAL = { batchSize: 64 / worldSize, lr: 1e-3, eps: 1e-4, clip: 1, shuffle: true, seed: 1 }

/**
 * The same data as one rank with the joint batch, which has as many rows: gradients of the first update, losses of 50, parameters after
 * ten.
 */
async function equal(norm) {
  const options = { ...SMALL, norm, features: dry ? 8 : 64, layers: dry ? 1 : 2 }
  const sync = norm === 'batch' ? { syncBatchNorm: true } : {}
  const data = examplesOf(320, dry ? 64 : 512)
  const first = await SequenceModel.create(options)
  const from = performance.now()
  let [joined, gradients] = []
  await train(first, data.slice(0, 64), { ...EQUAL, ...sync, shuffle: false }, () => {
    joined = Math.round(performance.now() - from)
    // The round of the ranks that ends the epoch begins with gradients of 0.
    gradients = first.parameters().flatMap(({ grad }) => Array.from(grad.data))
  })
  first.dispose()
  const model = await SequenceModel.create(options)
  const [losses, gradNorms, events] = [[], [], []]
  let parameters
  await train(model, data, { ...EQUAL, ...sync, epochs: 10 }, (event) => {
    losses.push(event.loss)
    gradNorms.push(event.gradNorm)
    events.push({ ...event, rank: 0, samplesPerSecond: 0 })
    if (event.step === 10) parameters = parametersOf(model)
  })
  const { data: outputs } = await model.predict({
    data: data[0].input.data,
    shape: [1, ...data[0].input.shape],
  })
  out.joined ??= joined
  out[`equal-${norm}`] = {
    gradients,
    losses,
    gradNorms,
    parameters,
    outputs: Array.from(outputs),
    bits: bitsOf(model),
    events: JSON.stringify(events),
  }
  model.dispose()
}

/** Dropout, batch norm, clipping, a running average, weights' decay, an uneven end: the ranks stay the same bits. */
async function everything(syncBatchNorm) {
  const options = { ...SMALL, features: dry ? 8 : 64, layers: 2, norm: 'batch', dropout: 0.2 }
  const model = await SequenceModel.create({ ...options, seed: 10 + rank })
  const data = examplesOf(203, 64)
  const epochs = dry ? 2 : 39
  await train(
    model,
    data,
    { epochs, batchSize: 8, clip: 0.5, ema: 0.99, weightDecay: 0.01, shuffle: true, syncBatchNorm },
    () => true,
  )
  const { data: outputs } = await model.predict({ data: data[0].input.data, shape: [1, 64, 1] })
  model.swapAverage()
  const average = bitsOf(model)
  model.swapAverage()
  out[`everything-${syncBatchNorm ? 'sync' : 'local'}`] = {
    bits: [bitsOf(model), average, ...outputs].join(' '),
    updates: model.progress.steps,
  }
  model.dispose()
}

/** The training steps of the published experiments, as in benches/gpu.mjs. */
const experiments = {
  sCIFAR: { features: 512, len: 1024, rows: 50, input: 3, output: 10, norm: 'layer' },
  'Path-X': { features: 256, len: 16384, rows: 16, input: 1, output: 2, norm: 'batch' },
  speech: { features: 128, len: 16000, rows: 16, input: 1, output: 35, norm: 'batch' },
  ListOps: {
    features: 256,
    len: 2048,
    rows: 50,
    encoder: 'embedding',
    vocabulary: 20,
    output: 10,
    norm: 'batch',
  },
}

/** Median milliseconds of an update of an experiment with so many rows of `len` steps a rank, and its number of parameters. */
async function updateTime(options, rows, len, [warm, measured]) {
  const size = dry ? { features: 8, layers: 1, state: 8 } : { layers: 6, state: 64 }
  const model = await SequenceModel.create({
    ...options,
    ...size,
    bidirectional: true,
    dropout: 0.1,
    pooling: 'mean',
    ...host,
    ...(dry ? {} : { precision: 'high' }),
  })
  const tokens = options.encoder === 'embedding'
  const shape = tokens ? [rows, len] : [rows, len, options.input]
  const count = shape.reduce((a, b) => a * b, 1)
  const data = tokens
    ? Int32Array.from({ length: count }, (_, i) => (i * 7) % options.vocabulary)
    : Float32Array.from({ length: count }, (_, i) => Math.sin(i))
  const batch = {
    input: { data, shape },
    target: Int32Array.from({ length: rows }, (_, i) => (i * 7) % options.output),
  }
  // Each rank takes every worldSize-th batch.
  const batches = Array.from({ length: (warm + measured + 1) * worldSize }, () => batch)
  const times = []
  await train(model, batches, { epochs: 1, lr: 1e-3, clip: 1 }, () => times.push(performance.now()))
  const each = times.slice(warm, warm + measured).map((time, i) => time - times[warm + i - 1])
  const parameters = model.parameters().reduce((sum, { value }) => sum + value.data.length, 0)
  model.dispose()
  return { milliseconds: each.toSorted((a, b) => a - b)[each.length >> 1], parameters }
}

/** The four steps with all rows a rank, and with half of them; and with next to no work, of which the reduction is what ranks add. */
async function scaling() {
  const length = (len) => (dry ? 64 : len)
  const updates = dry ? [2, 4] : [8, 24]
  out.scaling = {}
  for (const [name, { len, rows: published, ...experiment }] of Object.entries(experiments)) {
    const rows = dry ? 4 : published
    const whole = await updateTime(experiment, rows, length(len), updates)
    const half = worldSize > 1 ? await updateTime(experiment, rows / 2, length(len), updates) : undefined
    const idle = await updateTime(experiment, 2, 16, dry ? updates : [20, 100])
    out.scaling[name] = {
      rows,
      length: length(len),
      parameters: whole.parameters,
      whole: whole.milliseconds,
      half: half?.milliseconds,
      idle: idle.milliseconds,
    }
  }
}

/** Reviews of aclImdb by characters: 16 rows a rank and update, the seconds of the training and the accuracy on reviews that it has not seen. */
async function reviews() {
  const { aclImdb } = await import('./recipe-text.mjs')
  const maxLength = 1024
  const { train: all, tests, model: shape } = aclImdb(task.reviews, { maxLength })
  const samples = (examples) =>
    examples.map(({ tokens, length, target }) => ({
      input: { data: Int32Array.from(tokens.subarray(0, length)), shape: [length] },
      target,
    }))
  const model = await SequenceModel.create({
    ...shape,
    ...(dry ? { features: 8, layers: 1, state: 8 } : { features: 256, layers: 6, state: 4 }),
    bidirectional: true,
    norm: 'batch',
    pooling: 'mean',
    loss: 'crossEntropy',
    seed: 1,
    ...host,
    ...(dry ? {} : { precision: 'high' }),
  })
  const every = tests[0].examples.filter((_, i) => i % (dry ? 1 : 5) === 0)
  const epochs = dry ? 2 : 6
  const updates = Math.ceil(all.length / (16 * worldSize)) * epochs
  const options = {
    epochs,
    validation: samples(every),
    batchSize: 16,
    // Twice the rows an update: √2 times the rate, as AdamW takes it. The cosine ends where the accuracy no longer swings.
    lr: 4e-3 * Math.sqrt(worldSize),
    schedule: schedules.warmupCosine({ warmup: Math.floor(updates / 20), total: updates }),
    ssmLr: 1e-3 * Math.sqrt(worldSize),
    weightDecay: 0.05,
    clip: 1,
  }
  // Seconds of training behind each epoch, without those of the evaluations: from an epoch's last update to its event.
  const curve = []
  const from = performance.now()
  let [last, evaluated] = [from, 0]
  // Each rank's batch norm is by its own 16 rows, as that of one.
  const trainOptions = { ...options, shuffle: true, ...distributed }
  for await (const event of model.train(samples(all), trainOptions)) {
    const now = performance.now()
    if (event.type === 'epoch') {
      evaluated += now - last
      curve.push({ seconds: (now - from - evaluated) / 1000, accuracy: event.validation.accuracy })
    }
    last = now
  }
  const { seconds, accuracy } = curve.at(-1)
  out.reviews = { seconds, accuracy, curve, updates: model.progress.steps, tested: every.length }
  model.dispose()
}

/** Trains until another rank throws (`throw`), or has a loss that is not finite (`nonfinite`). */
async function fault(kind) {
  const create = () => SequenceModel.create({ ...SMALL, features: dry ? 8 : 64, layers: 1 })
  const model = await create()
  const data = examplesOf(32 * worldSize, 64)
  let taken = 0
  function* walk() {
    for (const sample of data) {
      taken++
      if (kind === 'throw' && rank === 1 && taken > 40) throw new RangeError('no more data')
      yield sample
    }
  }
  if (kind === 'nonfinite' && rank === 1) for (const { input } of data.slice(32)) input.data.fill(3e38)
  const outcome = {}
  try {
    await train(model, { [Symbol.iterator]: walk }, { epochs: 1, batchSize: 4 }, () => true)
  } catch ({ code, message }) {
    outcome.error = { code, message }
  }
  try {
    outcome.bits = bitsOf(model)
    outcome.finite = parametersOf(model).every(Number.isFinite)
  } catch ({ code }) {
    outcome.refused = code
  }
  model.dispose()
  if (kind === 'nonfinite') {
    // The group goes on.
    const again = await create()
    await train(again, examplesOf(16, 64), { epochs: 2, batchSize: 4 }, () => true)
    outcome.again = bitsOf(again)
    again.dispose()
  }
  out[kind] = outcome
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
  'equal-layer': () => equal('layer'),
  'equal-batch': () => equal('batch'),
  'everything-local': () => everything(false),
  'everything-sync': () => everything(true),
  long,
  scaling,
  reviews,
  throw: () => fault('throw'),
  nonfinite: () => fault('nonfinite'),
}
try {
  for (const name of task.parts) await parts[name]()
} catch ({ code, message, stack }) {
  out.error = { code, message, stack }
}
writeFileSync(task.out.replace('RANK', rank), JSON.stringify(out))
await group.close()
// What a lost rank has left on the device is not waited for.
if (!parentPort) process.exit(0)
