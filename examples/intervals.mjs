// Learn from samples that came at uneven times, then follow a stream of them: node intervals.mjs [epochs]
import { SequenceModel } from 's4-node'
const options = { input: 1, output: 1, features: 16, layers: 2, state: 16, mode: 's4d', dtMin: 0.05, dtMax: 0.5, seed: 1 }
const model = await SequenceModel.create({ ...options, loss: 'mse' })
const examples = Array.from({ length: 32 }, (_, k) => {
  const intervals = Float32Array.from({ length: 64 }, (_, i) => 0.5 + 1.5 * Math.abs(Math.sin(7 * i + k)))
  let time = k
  const wave = intervals.map((gap) => Math.sin(0.9 * (time += gap)))
  return { input: { data: wave.map((x, i) => (i % 4 ? 0 : x)), shape: [64, 1] }, target: { data: wave, shape: [64, 1] }, intervals }
})
const history = await model.fit(examples, { batchSize: 8, epochs: Number(process.argv[2] ?? 30), lr: 1e-2, ssmLr: 1e-2 })
console.log(`mean squared error of the three in four samples that it is not shown: ${history.at(-1).loss.toFixed(3)}`)
const [{ input, intervals }] = examples
console.log(model.stream().push({ data: input.data, shape: [1, 64, 1] }, { interval: intervals }).data.subarray(60))
