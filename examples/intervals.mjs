// Learn from samples that came at uneven times, then follow a stream of them: node intervals.mjs [epochs]
import { SequenceModel } from 's4-node'
const size = { input: 1, output: 1, features: 16, layers: 2, state: 16, dtMin: 0.05, dtMax: 0.5, seed: 1 }
const model = await SequenceModel.create({ ...size, mode: 's4d', loss: 'mse' })
const tensor = (data) => ({ data, shape: [data.length, 1] })
const examples = Array.from(Array(32).keys(), (time) => {
  const intervals = Float32Array.from(Array(64).keys(), (i) => 0.5 + 1.5 * Math.abs(Math.sin(7 * i + time)))
  const wave = intervals.map((gap) => Math.sin(0.9 * (time += gap)))
  return { input: tensor(wave.map((x, i) => (i % 4 ? 0 : x))), target: tensor(wave), intervals }
})
const options = { batchSize: 8, epochs: Number(process.argv[2] ?? 30), lr: 0.01, ssmLr: 0.01 }
const { loss } = (await model.fit(examples, options)).at(-1)
console.log(`mean squared error: ${loss.toFixed(3)}, of a wave 0.5`)
const { data } = model.stream().push({ data: [1, 0, 0, 0], shape: [1, 4, 1] }, { interval: [1, 0.5, 2, 1.5] })
console.log('streamed:', ...data)
