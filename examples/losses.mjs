// A rare class learned by its weight, with smoothed labels and padding that is ignored; the metrics of each epoch.
import { SequenceModel } from 's4-node'

const [rows, len, pad] = [24, 60, 9]
const rare = Array.from({ length: rows * len }, (_, i) => (i % 17 < 2 ? 1 : 0))
const input = { data: Float32Array.from(rare, (x, i) => x + 0.8 * Math.sin(i * i)), shape: [rows, len, 1] }
const batch = { input, target: rare.map((x, i) => (i % len < 50 ? x : pad)) }
const of = { input: 1, output: 2, features: 16, layers: 2, loss: 'crossEntropy', ignoreLabel: pad, seed: 1 }
const model = await SequenceModel.create({ ...of, labelSmoothing: 0.05, classWeights: [1, 7], dropPath: 0.1 })
const run = { epochs: 25, lr: 0.01, spareNormsAndBiases: true, validation: [batch] }
for await (const { type, epoch, accuracy, validation } of model.train([batch], run))
  if (type === 'epoch' && epoch % 6 === 0)
    console.log(epoch, accuracy.toFixed(3), validation.f1.macro.toFixed(3))
const { rows: counted, confusion, perplexity } = await model.evaluate([batch])
console.log(`${counted} labels, confusion ${JSON.stringify(confusion)}, perplexity ${perplexity.toFixed(2)}`)
