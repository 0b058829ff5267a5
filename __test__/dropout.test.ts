/** Dropout draws new masks for every training forward, the same ones in every run, and backward those of its forward. */
import test from 'ava'
import { S4Block, type SequenceModel } from '../index.js'
import { batch, drain, f64, model, noise, noisy } from './helpers.js'

const options = { features: 4, state: 8, dropout: 0.5, seed: 3 }
const training = true

test('a block in a loop of one’s own', (t) => {
  const u = noisy([2, 30, 4])
  const three = (evaluate: boolean) => {
    using block = new S4Block(options)
    return [0, 1, 2].map(() => {
      if (evaluate) block.forward(u)
      const y = [...block.forward(u, { training }).y.data]
      return [y, [...block.backward(noisy([2, 30, 4], 7)).du.data]]
    })
  }
  const run = three(false)
  for (const [a, b] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ] as const) {
    t.notDeepEqual(run[a]?.[0], run[b]?.[0], `y of ${a} and ${b}`)
    t.notDeepEqual(run[a]?.[1], run[b]?.[1], `du of ${a} and ${b}`)
  }
  t.deepEqual(three(true), run, 'the same again; a forward without training draws nothing')
})

test('blocks of two seeds drop other units of the same input', (t) => {
  const u = noisy([2, 30, 4])
  const dropped = (seed: number) => {
    using block = new S4Block({ ...options, seed, residual: false })
    return [...block.forward(u, { training }).y.data].map((y) => y === 0)
  }
  t.true(dropped(3).some((x) => x) && !dropped(3).every((x) => x))
  t.deepEqual(dropped(3), dropped(3))
  t.notDeepEqual(dropped(3), dropped(4))
})

test('backward goes through the masks of its own forward', (t) => {
  if (!f64(t)) return t.pass()
  const u = { data: Float64Array.from(noise(2 * 30 * 4)), shape: [2, 30, 4] }
  const dy = { data: Float64Array.from(noise(2 * 30 * 4, 5)), shape: [2, 30, 4] }
  /** A new block's second training forward. */
  const second = () => {
    const block = new S4Block({ ...options, dtype: 'f64' })
    block.forward(u, { training })
    return { block, y: block.forward(u, { training }).y.data }
  }
  const value = () => {
    const { block, y } = second()
    block.dispose()
    return Array.from(y).reduce((sum, x, i) => sum + x * (dy.data[i] as number), 0)
  }
  using block = second().block
  const { du } = block.backward(dy)
  for (const i of [0, 57, 130, 239]) {
    const [x, h] = [u.data[i] as number, 1e-5]
    u.data[i] = x + h
    const above = value()
    u.data[i] = x - h
    const below = value()
    u.data[i] = x
    const error = Math.abs((above - below) / (2 * h) - (du.data[i] as number))
    t.true(error <= 1e-6, `du[${i}]: ${error}`)
  }
})

const all = (m: SequenceModel, what: 'value' | 'grad') => m.parameters().map((p) => [...p[what].data])

test('batches of one update', async (t) => {
  const one = batch()
  const gradients = async () => {
    using m = await model({ dropout: 0.5 })
    const out: number[][][] = []
    for (let i = 0; i < 3; i++) {
      m.zeroGrad()
      await m.accumulate(one)
      out.push(all(m, 'grad'))
    }
    return out
  }
  const [a, b, c] = await gradients()
  t.notDeepEqual(a, b)
  t.notDeepEqual(a, c)
  t.notDeepEqual(b, c)
  t.deepEqual(await gradients(), [a, b, c], 'the same in every run')
})

test('an update of one batch is one of train()', async (t) => {
  const data = [1, 2, 3].map((seed) => batch(2, 50, seed))
  using trained = await model({ dropout: 0.5 })
  await drain(trained.train(data, {}))
  using m = await model({ dropout: 0.5 })
  for (const one of data) {
    await m.accumulate(one)
    await m.update()
  }
  t.deepEqual(all(m, 'value'), all(trained, 'value'))
})
