// Thousands of live streams of one model: each socket would be one; here timers push ten samples each, ten times a second.
import { SequenceModel } from 's4-node'

const [count, seconds] = [Number(process.argv[2] ?? 200), Number(process.argv[3] ?? 2)]
const model = await SequenceModel.create({ input: 1, output: 1, features: 32, layers: 3, loss: 'mse' })
const streams = model.streams({ slots: count })
const delays = []
const device = async (stream, i) => {
  for (let frame = 0; frame < seconds * 10; frame++) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    const start = performance.now()
    await stream.push({ data: Float32Array.from({ length: 10 }, (_, t) => Math.sin(t + i)), shape: [10, 1] })
    delays.push(performance.now() - start)
  }
}
await Promise.all(Array.from({ length: count }, (_, i) => device(streams.open(), i)))
const late = delays.sort((a, b) => a - b)[Math.floor(0.99 * delays.length)]
console.log(
  `${count} streams, ${delays.length} frames of ten samples: 99 % answered within ${late.toFixed(0)} ms`,
)
