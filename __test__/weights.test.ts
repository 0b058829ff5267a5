/** Weights, accumulation and what does not count, through the public API; right values are closed forms written here. */
import test from 'ava'
import type { Batch, SequenceModelOptions } from '../index.js'
import { batch, close, drain, model, noise, noisy, rejects } from './helpers.js'

/** (Σ weight·(y − target)², Σ weight) of a batch by the model's own outputs. */
function sums(y: ArrayLike<number>, { target, weights }: Batch): [number, number] {
  const values = (target as { data: ArrayLike<number> }).data
  const w = weights as ArrayLike<number>
  let [loss, weight] = [0, 0]
  for (let i = 0; i < w.length; i++) {
    loss += (w[i] as number) * ((y[i] as number) - (values[i] as number)) ** 2
    weight += w[i] as number
  }
  return [loss, weight]
}

const weighted = (rows: number, seed: number, weight: number): Batch => ({
  ...batch(rows, 50, seed),
  target: noisy([rows, 50, 1], seed + 100),
  weights: noise(rows * 50, seed + 200).map((w) => weight * (0.1 + Math.abs(w))),
})

test('an evaluation and an epoch are means by weight over their batches', async (t) => {
  using m = await model({ output: 1 })
  const data = [weighted(2, 1, 1), weighted(3, 2, 0.01), weighted(1, 3, 4)]
  let [loss, weight] = [0, 0]
  for (const one of data) {
    const [l, w] = sums((await m.predict(one.input)).data, one)
    ;[loss, weight] = [loss + l, weight + w]
  }
  close(t, 'evaluation', [(await m.evaluate(data)).loss], [loss / weight], 1e-5)
  const [epoch] = await m.fit(data, { lr: 0, ssmLr: 0, validation: data })
  close(t, 'epoch and validation', [epoch!.loss, epoch!.validation!.loss], Array(2).fill(loss / weight), 1e-5)
})

test('accumulated batches are the joint batch; update takes rates and clipping', async (t) => {
  const parts = [weighted(2, 1, 1), weighted(1, 2, 0.01), weighted(3, 3, 4)]
  const all = (of: (b: Batch) => ArrayLike<number>) =>
    Float32Array.from(parts.flatMap((p) => Array.from(of(p))))
  const data = (x: unknown) => (x as { data: ArrayLike<number> }).data
  const joint: Batch = {
    input: { data: all((p) => data(p.input)), shape: [6, 50, 1] },
    target: { data: all((p) => data(p.target)), shape: [6, 50, 1] },
    weights: all((p) => p.weights as ArrayLike<number>),
  }
  using a = await model({ output: 1 })
  using b = await model({ output: 1 })
  for (const one of parts) await a.accumulate(one)
  await b.accumulate(joint)
  const [u, v] = [
    await a.update({ lr: 1e-3, ssmLr: 1e-4, clip: 0.01 }),
    await b.update({ lr: 1e-3, ssmLr: 1e-4, clip: 0.01 }),
  ]
  close(t, 'loss and norm', [u.loss, u.gradNorm], [v.loss, v.gradNorm], 1e-5)
  for (const [i, p] of a.parameters().entries())
    close(t, p.name, p.value.data, b.parameters()[i]!.value.data, 1e-5)
  t.deepEqual(a.progress, { steps: 1, epochs: 0, samples: 300 })
  await rejects(t, 'ERR_S4_VALUE', a.update({ rate: 1 } as object))
})

test('smoothed labels whose classes have the weight 0 are a part of the joint batch too', async (t) => {
  const options: Partial<SequenceModelOptions> = {
    loss: 'crossEntropy',
    output: 3,
    pooling: 'mean',
    labelSmoothing: 0.2,
    classWeights: [0, 2, 0.5],
  }
  const labels = [[0], [1, 2], [0, 0], [2]]
  const parts = labels.map((target, i) => ({ input: noisy([target.length, 50, 1], i + 1), target }))
  const joint: Batch = {
    input: {
      data: Float32Array.from(parts.flatMap(({ input }) => Array.from(input.data as ArrayLike<number>))),
      shape: [6, 50, 1],
    },
    target: labels.flat(),
  }
  // Those of weight 0 first, in the middle, last.
  for (const order of [
    [0, 1, 2, 3],
    [1, 0, 2, 3],
    [1, 3, 2, 0],
    [0, 2, 1, 3],
  ]) {
    using a = await model(options)
    using b = await model(options)
    for (const i of order) await a.accumulate(parts[i]!)
    await b.accumulate(joint)
    const [u, v] = [await a.update({ lr: 1e-3, clip: 0.01 }), await b.update({ lr: 1e-3, clip: 0.01 })]
    close(t, `loss and norm ${order}`, [u.loss, u.gradNorm], [v.loss, v.gradNorm], 1e-5)
    for (const [i, p] of a.parameters().entries())
      close(t, `${p.name} ${order}`, p.value.data, b.parameters()[i]!.value.data, 1e-5)
    // The evaluation, before and after, is one of both forms.
    const [one, other] = [await a.evaluate(parts), await a.evaluate([joint])]
    close(t, `evaluation ${order}`, [one.loss], [other.loss], 1e-5)
  }
  // By themselves their mean is divided by 0: there is no update.
  using c = await model(options)
  await rejects(t, 'ERR_S4_DATA', drain(c.train([parts[0]!, parts[2]!])))
  t.is(c.progress.steps, 0)
})

test('a batch that counts nothing does not end a run; what does not count may be NaN', async (t) => {
  using m = await model({ loss: 'crossEntropy', output: 3, pooling: 'mean' })
  const x = noisy([2, 50, 1])
  const none = { input: x, target: [-1, -1] }
  const some = { input: x, target: [1, -1] }
  const events = await drain(m.train([none, some, none], { epochs: 2 }))
  t.is(events, 4)
  t.is(m.progress.steps, 2)
  await rejects(t, 'ERR_S4_DATA', drain(m.train([none])))
  await rejects(t, 'ERR_S4_DATA', m.evaluate([none]))
  t.is((await m.evaluate([none, some])).rows, 1)
  using values = await model({ output: 1 })
  const clean = {
    input: noisy([2, 4, 1]),
    target: noisy([2, 4, 1]),
    lengths: [4, 2],
    weights: [1, 0, 1, 1, 1, 1, 0, 0],
  }
  const dirty = structuredClone(clean)
  for (const i of [6, 7]) dirty.input.data[i] = NaN
  for (const i of [1, 6, 7]) dirty.target.data[i] = NaN
  t.deepEqual(await values.evaluate([dirty]), await values.evaluate([clean]))
  const { input, lengths } = dirty
  t.deepEqual(
    (await values.predict(input, { lengths })).data,
    (await values.predict(clean.input, { lengths })).data,
  )
})

test('unknown keys of a batch or an example are refused by name', async (t) => {
  using m = await model()
  const error = await rejects(t, 'ERR_S4_DATA', drain(m.train([{ ...batch(), lenghts: [50, 50] } as Batch])))
  t.regex(error.message, /lenghts/)
  const example = { input: noisy([5, 1]), target: noisy([5, 1]), rate: 2 }
  const refused = await rejects(t, 'ERR_S4_DATA', m.evaluate([example], { batchSize: 1 }))
  t.regex(refused.message, /rate/)
})

test('members of a class are members', async (t) => {
  const reads: string[] = []
  class Lazy {
    readonly path = 'a field of its own'
    readonly #of: Record<string, unknown>
    constructor(of: object) {
      this.#of = of as Record<string, unknown>
    }
    #read(name: string) {
      reads.push(name)
      return this.#of[name] as never
    }
    get input() {
      return this.#read('input')
    }
    get target() {
      return this.#read('target')
    }
  }
  class LazyBatch extends Lazy {
    get weights() {
      reads.push('weights')
      return undefined as never
    }
  }
  using m = await model()
  const plain = batch()
  const want = await m.evaluate([plain])
  t.deepEqual(await m.evaluate([new LazyBatch(plain)]), want)
  t.deepEqual(reads.toSorted(), ['input', 'target', 'weights'], 'each is read once')
  t.deepEqual(await m.evaluate([Object.create(plain) as Batch]), want)
  const example = { input: noisy([5, 1]), target: noisy([5, 1]) }
  t.deepEqual(
    await m.evaluate([new Lazy(example)], { batchSize: 1 }),
    await m.evaluate([example], { batchSize: 1 }),
  )
  // Options too: what a class gives is not passed over.
  class Options {
    get lr() {
      return -1
    }
  }
  await rejects(t, 'ERR_S4_VALUE', m.fit([plain], new Options()))
})

test('a batch that a signal has left out is not part of the update, and any other is', async (t) => {
  const parts = [batch(2, 50, 1), batch(2, 50, 2)]
  using a = await model()
  using b = await model()
  for (const one of parts) await b.accumulate(one)
  const want = await b.update()
  // Fired before, and behind a call that is under way: it never begins. Fired later: it ends.
  await rejects(t, 'ERR_S4_ABORTED', a.accumulate(batch(2, 50, 9), { signal: AbortSignal.abort() }))
  await a.accumulate(parts[0]!)
  const early = new AbortController()
  const busy = a.predict(noisy([64, 5000, 1]))
  const left = a.accumulate(batch(2, 50, 9), { signal: early.signal })
  early.abort('because')
  const error = await rejects(t, 'ERR_S4_ABORTED', left)
  t.regex(error.message, /SequenceModel.accumulate.*because/)
  await busy
  const late = new AbortController()
  const added = a.accumulate(parts[1]!, { signal: late.signal })
  setTimeout(() => late.abort(), 0)
  const isIn = await added.then(
    () => true,
    () => false,
  )
  if (!isIn) await a.accumulate(parts[1]!)
  t.deepEqual(await a.update(), want)
})

test('an update that fails leaves its options; an average in place waits with the group', async (t) => {
  using a = await model()
  using b = await model()
  for (const m of [a, b]) {
    await m.fit([batch()], { lr: 0.01, ema: 0.5 })
    await m.accumulate(batch(2, 50, 3))
  }
  a.swapAverage()
  await rejects(t, 'ERR_S4_UNSUPPORTED', a.update({ lr: 5 }))
  await rejects(t, 'ERR_S4_UNSUPPORTED', a.accumulate(batch(2, 50, 4)))
  a.swapAverage()
  await rejects(t, 'ERR_S4_VALUE', a.update({ lr: 5, beta1: 2 }))
  await a.update()
  await b.update()
  await rejects(t, 'ERR_S4_VALUE', a.update({ lr: 5 }))
  const values = (m: typeof a) => m.parameters().map((p) => [...p.value.data])
  t.deepEqual(values(a), values(b))
  const [next] = await a.fit([batch()], { resume: true, epochs: 2 })
  t.is(next?.lr, 0.01)
})

test('samples are time steps without padding', async (t) => {
  using m = await model()
  const padded = { ...batch(2), lengths: [50, 20] }
  for await (const _ of m.train([padded, batch(2)])) void _
  t.is(m.progress.samples, 170)
  await m.accumulate(padded)
  await m.update()
  t.is(m.progress.samples, 240)
})
