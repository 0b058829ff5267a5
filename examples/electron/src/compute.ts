// The process that computes: Node with Electron's memory rules, in which s4-node works as anywhere. One model; one stream a page.
import { type MessagePortMain } from 'electron'
import { S4Error, SequenceModel } from 's4-node'
import type { Answer, Ask } from './messages.js'

/** Here a small network that was never trained; an application loads its own with SequenceModel.load(path). */
const model = await SequenceModel.create({ features: 16, layers: 2, state: 32, loss: 'mse', seed: 1 })

function serve(port: MessagePortMain): void {
  const stream = model.stream({ batch: 1 })
  const answer = async ({ id, samples }: Ask): Promise<Answer> => {
    try {
      const { data } = await stream.pushAsync({ data: samples, shape: [1, samples.length, 1] })
      return { id, predicted: Float32Array.from(data) }
    } catch (error) {
      if (!(error instanceof S4Error)) throw error
      return { id, code: error.code, message: error.message }
    }
  }
  // Samples are answered in the order in which they come: a stream has one state.
  let last = Promise.resolve()
  port.on('message', ({ data }) => {
    last = last.then(async () => port.postMessage(await answer(data as Ask)))
  })
  port.once('close', () => {
    void last.then(() => stream.dispose())
  })
  port.start()
}

process.parentPort.on('message', ({ ports }) => {
  for (const port of ports) serve(port)
})
