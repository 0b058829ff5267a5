/** Examples of any lengths collected into batches: padding changes nothing. */
import test from 'ava'
import type { Sample } from '../index.js'
import { close, model, noise, rejects } from './helpers.js'

const lens = [5, 9, 3]
const input = (n: number, seed: number) => ({ data: noise(n, seed), shape: [n, 1] })
const labels = (n: number) => ({ data: Int32Array.from({ length: n }, (_, i) => (i * n) % 3), shape: [n] })

test('labels and values of every step, of examples of several lengths', async (t) => {
  const cases: [object, (n: number) => Sample['target']][] = [
    [{ loss: 'crossEntropy', output: 3 }, labels],
    [{ loss: 'mse', output: 2 }, (n) => ({ data: noise(2 * n, n), shape: [n, 2] })],
  ]
  for (const [options, target] of cases) {
    using m = await model(options)
    const samples = lens.map((n) => ({ input: input(n, n), target: target(n) }))
    const alone = await m.evaluate(samples, { batchSize: 1 })
    const all = await m.evaluate(samples, { batchSize: 3 })
    t.is(all.rows, 17)
    t.deepEqual([all.rows, all.accuracy], [alone.rows, alone.accuracy])
    close(t, JSON.stringify(options), [all.loss], [alone.loss], 1e-6)
    const events = await m.fit(samples, { batchSize: 3 })
    close(t, 'loss of the update', [events[0]?.loss as number], [alone.loss], 1e-6)
  }
})

test('labels of every step, of examples of one length', async (t) => {
  using m = await model({ loss: 'crossEntropy', output: 3 })
  const samples = [1, 2].map((seed) => ({ input: input(6, seed), target: labels(6) }))
  t.is((await m.evaluate(samples, { batchSize: 2 })).rows, 12)
})

test('tokens and labels as 64-bit integers', async (t) => {
  using m = await model({ encoder: 'embedding', vocabulary: 5, output: 3, loss: 'crossEntropy' })
  const wide = (x: Int32Array) => BigInt64Array.from(x, BigInt)
  const samples = lens.map((n) => ({ input: labels(n), target: labels(n) }))
  const same = samples.map(({ input: x, target: y }) => ({
    input: { data: wide(x.data), shape: x.shape },
    target: { data: wide(y.data), shape: y.shape },
  }))
  t.deepEqual(await m.evaluate(same, { batchSize: 3 }), await m.evaluate(samples, { batchSize: 3 }))
})

test('a target that does not fit its own input', async (t) => {
  using classes = await model({ loss: 'crossEntropy', output: 3 })
  const pair = (target: object) => [
    { input: input(5, 1), target: labels(5) },
    { input: input(9, 2), target },
  ]
  for (const target of [labels(8), { data: noise(9), shape: [9, 1] }])
    await rejects(t, 'ERR_S4_SHAPE', classes.evaluate(pair(target) as Sample[], { batchSize: 2 }))
  using values = await model({ output: 2 })
  for (const shape of [
    [4, 2],
    [6, 2],
    [5, 1],
  ]) {
    const target = { data: noise((shape[0] as number) * (shape[1] as number)), shape }
    const good = { input: input(5, 1), target: { data: noise(10), shape: [5, 2] } }
    const samples = [good, { input: input(5, 2), target }]
    await rejects(t, 'ERR_S4_SHAPE', values.evaluate(samples, { batchSize: 2 }))
  }
  const data = [1, null, 3, 4, 5] as number[]
  const bad = { input: { data, shape: [5, 1] }, target: { data: noise(10), shape: [5, 2] } }
  await rejects(t, 'ERR_S4_DTYPE', values.evaluate([bad], { batchSize: 1 }))
})
