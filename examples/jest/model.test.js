// Jest as it comes, with CommonJS. Models are made once a file and disposed of when it ends.
const { SequenceModel } = require('s4-node')

/** One sine of 64 samples: (batch, length, channels). */
const wave = { data: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i / 5)), shape: [1, 64, 1] }
let model

beforeAll(async () => {
  model = await SequenceModel.create({
    features: 8,
    layers: 2,
    state: 16,
    loss: 'mse',
    seed: 1,
    device: 'cpu',
  })
})
afterAll(() => model.dispose())

test('a stream gives what the whole sequence gives', async () => {
  const { data } = await model.predict(wave)
  const stream = model.stream({ batch: 1 })
  const streamed = [...wave.data].flatMap((x) => [
    ...stream.push({ data: Float32Array.of(x), shape: [1, 1, 1] }).data,
  ])
  stream.dispose()
  expect(streamed).toHaveLength(data.length)
  streamed.forEach((y, t) => expect(y).toBeCloseTo(data[t], 4))
})

test('training lowers the loss', async () => {
  const batches = [{ input: wave, target: wave }]
  const epochs = await model.fit(batches, { epochs: 20, lr: 1e-2 })
  expect(epochs.at(-1).loss).toBeLessThan(epochs[0].loss)
})

test('a wrong shape is an error with a code, and harms nothing', async () => {
  const wrong = { data: new Float32Array(3), shape: [1, 64, 1] }
  await expect(model.predict(wrong)).rejects.toMatchObject({ name: 'S4Error', code: 'ERR_S4_SHAPE' })
  expect((await model.predict(wave)).data).toHaveLength(64)
})
