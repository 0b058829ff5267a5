import { SequenceModel } from 's4-node'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import type { Command } from './command.js'

export const bench: Command = {
  name: 'bench',
  summary: 'how fast this machine trains, predicts and streams',
  operands: [],
  options: [
    { name: 'features', kind: 'count', min: 1, help: 'features of the network', otherwise: '64' },
    { name: 'layers', kind: 'count', min: 1, help: 'its blocks', otherwise: '4' },
    { name: 'state', kind: 'count', min: 2, help: 'size of the state of each feature', otherwise: '64' },
    { name: 'length', kind: 'count', min: 1, help: 'samples of a sequence', otherwise: '4096' },
    { name: 'batchSize', kind: 'count', min: 1, help: 'sequences in a batch', otherwise: '4' },
    { name: 'seconds', kind: 'number', min: 0, help: 'for each measurement, at least', otherwise: '1' },
    jsonSpec,
    ...deviceSpecs,
  ],
  notes:
    'Prints the median time of a training step, of a prediction, and of one sample of a stream, each after a warm-up.',
  async run({ values }) {
    const {
      features = 64,
      layers = 4,
      state = 64,
      length = 4096,
      batchSize = 4,
      seconds = 1,
    } = values as Record<string, number>
    using model = await SequenceModel.create({
      ...deviceOf(values),
      input: 1,
      output: 1,
      features,
      layers,
      state,
      loss: 'mse',
      seed: 0,
    })
    const wave = Float32Array.from({ length: batchSize * length }, (_, t) => Math.sin(t / 7))
    const input = { data: wave, shape: [batchSize, length, 1] }
    // As many equal batches as the time asks for.
    const train = await timed(seconds, trainingSteps(model, input))
    const predict = await timed(seconds, async () => void (await model.predict(input)))
    using stream = model.stream({ batch: 1 })
    const sample = { data: new Float32Array([0.5]), shape: [1, 1, 1] }
    const push = await timed(seconds, async () => void stream.push(sample))
    const samples = batchSize * length
    const figures = {
      device: model.device,
      network: { layers, features, state },
      batch: { sequences: batchSize, samples: length },
      trainStep: { milliseconds: 1000 * train, samplesPerSecond: samples / train },
      predict: { milliseconds: 1000 * predict, samplesPerSecond: samples / predict },
      stream: { milliseconds: 1000 * push, samplesPerSecond: 1 / push },
    }
    if (values['json']) console.log(JSON.stringify(figures))
    else {
      console.log(
        `${layers} blocks of ${features} features, state ${state}, on ${model.device}; ${batchSize} × ${length} samples`,
      )
      for (const name of ['trainStep', 'predict', 'stream'] as const) {
        const { milliseconds, samplesPerSecond } = figures[name]
        console.log(
          `${LABELS[name].padEnd(20)}${milliseconds.toPrecision(4).padStart(10)} ms${Math.round(samplesPerSecond).toLocaleString('en').padStart(16)} samples/s`,
        )
      }
    }
    return 0
  },
}

const LABELS = { trainStep: 'training step', predict: 'prediction', stream: 'sample of a stream' }

/** One update a call, all of one training. */
function trainingSteps(
  model: SequenceModel,
  input: { data: Float32Array; shape: number[] },
): () => Promise<void> {
  const batches = (function* () {
    for (;;) yield { input, target: input }
  })()
  const events = model.train(batches, { epochs: 1, lr: 1e-4, seed: 0 })[Symbol.asyncIterator]()
  return async () => {
    for (;;) {
      const { value, done } = await events.next()
      if (done || value.type === 'step') return
    }
  }
}

/** The median time of a call in seconds. */
async function timed(least: number, call: () => Promise<void>): Promise<number> {
  for (let i = 0; i < 3; i++) await call()
  const times: number[] = []
  for (const began = performance.now(); times.length < 5 || performance.now() - began < 1000 * least;) {
    const start = performance.now()
    await call()
    times.push((performance.now() - start) / 1000)
  }
  return times.toSorted((a, b) => a - b)[times.length >> 1] as number
}
