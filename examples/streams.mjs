// Many live streams of one model, computed together: node streams.mjs [streams] [seconds]
import { setTimeout as sleep } from 'node:timers/promises'
import { SequenceModel } from 's4-node'
const [count, seconds] = [Number(process.argv[2] ?? 200), Number(process.argv[3] ?? 2)]
const model = await SequenceModel.create({ input: 1, output: 1, features: 32, loss: 'mse' })
const streams = model.streams({ slots: count })
const delays = []
async function sensor(stream, frames) {
  for (; frames > 0; frames--) {
    const start = await sleep(100, performance.now() + 100)
    await stream.push({ data: Float32Array.from({ length: 10 }, Math.random), shape: [10, 1] })
    delays.push(performance.now() - start)
  }
}
await Promise.all(Array.from({ length: count }, () => sensor(streams.open(), seconds * 10)))
const late = delays.toSorted((a, b) => a - b)[Math.floor(0.99 * delays.length)].toFixed(0)
console.log(`${count} streams, ${delays.length} frames of ten samples: 99 % answered within ${late} ms`)
