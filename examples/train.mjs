// Train a classifier on sequences and save it: is the sine slow or fast?
import { SequenceModel } from 's4-node'

const [batch, len] = [16, 256]
const model = await SequenceModel.create({
  input: 1,
  output: 2,
  features: 16,
  layers: 2,
  state: 16,
  pooling: 'mean',
  loss: 'crossEntropy',
})

// a dataset is any iterable (or async iterable) of batches
const epoch = () => Array.from({ length: 10 }, makeBatch)
for (let round = 0; round < 3; round++) {
  // fresh data every round; `resume` goes on with the run, of which this is one epoch more
  for await (const event of model.train(epoch(), { epochs: round + 1, lr: 1e-2, resume: round > 0 })) {
    if (event.type === 'epoch') console.log(`loss ${event.loss.toFixed(3)}`)
  }
}

const test = makeBatch()
const { data } = await model.predict(test.input)
const right = Array.from(test.target).filter(
  (label, row) => label === (data[2 * row + 1] > data[2 * row] ? 1 : 0),
).length
console.log(`${right} of ${batch} right`)

const path = process.argv[2] ?? 'sines.safetensors'
await model.save(path)
const loaded = await SequenceModel.load(path)
console.log(
  'the loaded model gives the same outputs:',
  (await loaded.predict(test.input)).data.every((value, i) => value === data[i]),
)
model.dispose()
loaded.dispose()

function makeBatch() {
  const input = new Float32Array(batch * len)
  const target = new Int32Array(batch)
  for (let row = 0; row < batch; row++) {
    target[row] = Math.random() < 0.5 ? 0 : 1
    const speed = (target[row] === 0 ? 0.05 : 0.15) * (1 + 0.3 * Math.random())
    const phase = 6.28 * Math.random()
    for (let t = 0; t < len; t++)
      input[row * len + t] = Math.sin(speed * t + phase) + 0.5 * (Math.random() - 0.5)
  }
  return { input: { data: input, shape: [batch, len, 1] }, target }
}
