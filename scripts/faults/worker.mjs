// What a worker thread of workers.mjs does, by workerData.work, saying so to its parent.
import { parentPort, workerData } from 'node:worker_threads'
import { SequenceModel } from 's4-node'

const { work, size, steps } = workerData
const options = {
  input: 1,
  output: 1,
  features: size,
  layers: 2,
  state: 16,
  loss: 'mse',
  device: 'cpu',
  threads: 1,
}
const x = { data: Float32Array.from({ length: 400 }, (_, i) => Math.sin(i)), shape: [2, 200, 1] }
const batches = {
  *[Symbol.iterator]() {
    for (let i = 0; i < steps; i++) yield { input: x, target: x }
  },
}
const say = (text) => parentPort.postMessage(text, [])

const model = await SequenceModel.create(options)
say('begun')
const works = {
  async train() {
    let last
    for await (const event of model.train(batches)) {
      if (event.type === 'step') last = event.loss
      say('step')
    }
    return last
  },
  async stream() {
    const stream = model.stream({ batch: 2 })
    let last
    for (let i = 0; i < steps; i++) {
      last = (await stream.pushAsync(x)).data.at(-1)
      say('push')
    }
    return last
  },
  async both() {
    return [await works.train(), await works.stream()].join()
  },
  /** Ends this thread from within a callback, with work under way. */
  async exit() {
    const stream = model.stream({ batch: 2 })
    stream.pushAsync(x).catch(() => {})
    await model.fit(batches, { onEvent: () => process.exit(0) })
  },
  async throw() {
    await model.fit(batches, {
      onEvent() {
        throw new Error('thrown on purpose')
      },
    })
  },
}
say({ end: await works[work]() })
