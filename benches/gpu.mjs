// Whole training steps and whole streams on the GPU, through the public API: the sizes of the published S4 experiments.
//   S4_DEVICE=cuda node benches/gpu.mjs train|step|intervals [precision]        median wall-clock time; memory that the model holds (what it took
//   at most, since it keeps what it took), and memory as nvidia-smi sees it, with CUDA's own
import { spawnSync } from 'node:child_process'
import { SequenceModel } from 's4-node'

const median = (times) => times.toSorted((a, b) => a - b)[times.length >> 1]
const memory = () => {
  const { stdout } = spawnSync('nvidia-smi', ['--query-gpu=memory.used', '--format=csv,noheader'], {
    encoding: 'utf8',
  })
  return stdout?.trim() ?? 'unknown'
}
const random = (n) => Float32Array.from({ length: n }, () => Math.random() * 2 - 1)
const labels = (n, classes) => Int32Array.from({ length: n }, (_, i) => (i * 7) % classes)

const experiments = {
  sCIFAR: { features: 512, len: 1024, batch: 50, input: 3, output: 10, norm: 'layer' },
  'Path-X': { features: 256, len: 16384, batch: 16, input: 1, output: 2, norm: 'batch' },
  speech: { features: 128, len: 16000, batch: 16, input: 1, output: 35, norm: 'batch' },
  ListOps: {
    features: 256,
    len: 2048,
    batch: 50,
    encoder: 'embedding',
    vocabulary: 20,
    output: 10,
    norm: 'batch',
  },
  reviews: {
    features: 256,
    state: 4,
    len: 2560,
    batch: 16,
    encoder: 'embedding',
    vocabulary: 256,
    output: 2,
    norm: 'batch',
  },
  small: { layers: 4, features: 64, len: 1024, batch: 8, input: 1, output: 10, norm: 'batch' },
}

/** Forward, backward, AdamW; bidirectional, GLU, six blocks, four in the small model. */
async function train(precision) {
  for (const [name, { len, batch, ...options }] of Object.entries(experiments)) {
    const model = await SequenceModel.create({
      layers: 6,
      state: 64,
      ...options,
      bidirectional: true,
      dropout: 0.1,
      pooling: 'mean',
      loss: 'crossEntropy',
      precision,
    })
    const shape = options.encoder === 'embedding' ? [batch, len] : [batch, len, options.input]
    const count = shape.reduce((a, b) => a * b, 1)
    const data = options.encoder === 'embedding' ? labels(count, options.vocabulary) : random(count)
    const one = { input: { data, shape }, target: labels(batch, options.output) }
    const ms = (await trainingStep(model, one)).toFixed(2)
    const held = (model.counters().deviceMemory / 1e9).toFixed(2)
    console.log(
      `${name} ${options.layers ?? 6} × ${options.features}, ${batch} × ${len}, ${precision}: ${ms} ms a training step, ${held} GB held, ${memory()} in use`,
    )
    model.dispose()
  }
}

/** The median of the milliseconds that an update by one batch takes, after four that are not counted. */
async function trainingStep(model, batch) {
  const times = []
  let last = performance.now()
  for await (const event of model.train(Array(24).fill(batch), { lr: 1e-3, clip: 1 })) {
    if (event.type !== 'step') continue
    times.push(performance.now() - last)
    last = performance.now()
  }
  return median(times.slice(4))
}

/** One sample a row through 8 × 512, from a host array to a host array. */
async function step(precision) {
  const sizes = { input: 1, output: 1, features: 512, layers: 8, state: 64, loss: 'mse', precision }
  const model = await SequenceModel.create(sizes)
  for (const batch of [1, 64, 1024]) {
    const stream = model.stream({ batch })
    const x = { data: random(batch), shape: [batch, 1, 1] }
    for (let i = 0; i < 20; i++) stream.push(x)
    const times = Array.from({ length: 200 }, () => {
      const start = performance.now()
      stream.push(x)
      return performance.now() - start
    })
    stream.dispose()
    console.log(`step 8 × 512, batch ${batch}, ${precision}: ${median(times).toFixed(3)} ms`)
  }
  model.dispose()
}

/** A training step with intervals of its own for each time step, beside the regular one: 6 × 128, 16 × 16,384; and inference. */
async function intervals(precision) {
  const [batch, len] = [16, 16384]
  const regular = { input: { data: random(batch * len), shape: [batch, len, 1] }, target: labels(batch, 10) }
  const uneven = { ...regular, intervals: random(batch * len).map((x) => 0.5 + Math.abs(x)) }
  const layers = {
    input: 1,
    output: 10,
    features: 128,
    layers: 6,
    state: 64,
    pooling: 'mean',
    loss: 'crossEntropy',
    precision,
  }
  for (const [name, options] of Object.entries({ S4D: { mode: 's4d' }, S4: { mode: 's4' } })) {
    const steps = []
    const predictions = []
    for (const one of [regular, uneven]) {
      const model = await SequenceModel.create({ ...layers, ...options })
      steps.push(await trainingStep(model, one))
      const forward = []
      for (let i = 0; i < 6; i++) {
        const start = performance.now()
        await model.predict(one.input, { intervals: one.intervals })
        forward.push(performance.now() - start)
      }
      predictions.push(median(forward.slice(2)))
      model.dispose()
    }
    const line = ([one, other]) =>
      `regular ${one.toFixed(2)} ms, with intervals ${other.toFixed(2)} ms, ratio ${(other / one).toFixed(2)}`
    console.log(
      `${name} 6 × 128, ${batch} × ${len}, ${precision}: a training step ${line(steps)}; a prediction ${line(predictions)}`,
    )
  }
}

const [what = 'train', precision = 'highest'] = process.argv.slice(2)
await { train, step, intervals }[what](precision)
