/** Time steps with intervals of their own: whole sequences against held inputs, single steps, streams and finite differences. */
import test from 'ava'
import { S4Block, S4Layer, SequenceModel, type Batch, type S4LayerOptions, type Tensor } from '../index.js'
import { close, device, f64, model, noise, noisy, refuses } from './helpers.js'

const kinds: Partial<S4LayerOptions>[] = [
  { mode: 's4' },
  { mode: 's4', init: 'legt' },
  { mode: 's4', init: 'hippo' },
  { mode: 's4', channels: 2, dtPerState: true },
  { mode: 's4d' },
  { mode: 's4d', channels: 2 },
  { mode: 's4d', init: 'lin', discretization: 'bilinear' },
  { mode: 's4d', init: 'real', imagTransform: 'softplus' },
]

/** Intervals from 0.25 to 3, some of them 1 and some equal to the one before. */
const uneven = (n: number, seed = 7): Float32Array =>
  noise(n, seed).map((x, i) => (i % 4 < 2 ? 1 : 0.25 + 2.75 * Math.abs(x)))

/** Time step t of u (batch, len, features). */
function at({ data, shape }: { data: Float32Array; shape: number[] }, t: number) {
  const [batch, len, features] = shape as [number, number, number]
  const step = new Float32Array(batch * features)
  for (let b = 0; b < batch; b++)
    step.set(data.subarray((b * len + t) * features, (b * len + t + 1) * features), b * features)
  return { data: step, shape: [batch, features] }
}

for (const kind of kinds) {
  const name = JSON.stringify(kind)

  test(`a sequence with intervals = its steps, ${name}`, (t) => {
    using l = new S4Layer({ features: 4, state: 16, ...kind })
    const [batch, len] = [2, 150]
    const u = noisy([batch, len, 4])
    const intervals = uneven(batch * len)
    const start = noisy([batch, 4, 8, 2], 3)
    for (const algorithm of ['auto', 'fft', 'chunk'] as const) {
      const whole = l.forward(u, { intervals, state: start, algorithm })
      const outputs = whole.y.shape[2] as number
      const stepped = new Float32Array(whole.y.data.length)
      let state: { data: ArrayLike<number>; shape: readonly number[] } = start
      for (let s = 0; s < len; s++) {
        const step = l.step(at(u, s), state as Tensor, { interval: [intervals[s]!, intervals[len + s]!] })
        for (let b = 0; b < batch; b++)
          stepped.set(
            step.y.data.subarray(b * outputs, (b + 1) * outputs) as Float32Array,
            (b * len + s) * outputs,
          )
        state = step.state
      }
      close(t, `outputs, ${algorithm}`, whole.y, stepped, 1e-5)
      close(t, `state, ${algorithm}`, whole.state!, state.data, 1e-5)
    }
  })

  test(`intervals of 1 are a regular sequence, ${name}`, (t) => {
    const gradients = (options: object) => {
      using l = new S4Layer({ features: 4, state: 16, ...kind })
      const u = noisy([2, 150, 4])
      const { y, state } = l.forward(u, { ...options, state: noisy([2, 4, 8, 2], 3), lengths: [150, 97] })
      const dy = noisy([...y.shape], 4)
      const { du, dstate } = l.backward(dy, { dstate: noisy([2, 4, 8, 2], 5) })
      return [y, state!, du, dstate!, ...l.parameters().map((p) => p.grad)]
    }
    const regular = gradients({})
    gradients({ intervals: { data: Array(300).fill(1), shape: [2, 150] }, algorithm: 'chunk' }).forEach(
      (got, i) => close(t, `array ${i}`, got, regular[i]!, i < 4 ? 1e-5 : 1e-4),
    )
  })
}

for (const bidirectional of [false, true])
  test(`zero-order hold equals held inputs on a fine grid, bidirectional ${bidirectional}`, (t) => {
    using l = new S4Layer({ features: 4, state: 16, mode: 's4d', discretization: 'zoh', bidirectional })
    const len = 90
    const u = noisy([1, len, 4])
    const intervals = Array.from({ length: len }, (_, i) => [1, 4, 2, 1, 7][i % 5] as number)
    const ends: number[] = []
    const fine: number[] = []
    for (let s = 0; s < len; s++) {
      for (let k = 0; k < (intervals[s] as number); k++) fine.push(...u.data.subarray(4 * s, 4 * s + 4))
      ends.push(fine.length / 4 - 1)
    }
    const held = l.forward({ data: Float32Array.from(fine), shape: [1, fine.length / 4, 4] })
    const got = l.forward(u, { intervals })
    close(
      t,
      'outputs where inputs change',
      got.y,
      ends.flatMap((e) => Array.from(held.y.data.subarray(4 * e, 4 * e + 4))),
      1e-5,
    )
    if (!bidirectional) close(t, 'state', got.state!, held.state!, 1e-5)
  })

/** The gradient of Σ y·dy + Σ state·dstate, by central differences of sixth order along a random direction. */
function differences(
  forward: () => { y: Tensor; state?: Tensor },
  [dy, dstate]: [ArrayLike<number>, ArrayLike<number>],
  move: (by: number) => void,
): number {
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((sum, x, i) => sum + x * (b[i] as number), 0)
  const value = (by: number) => {
    move(by)
    const { y, state } = forward()
    move(-by)
    return dot(y.data, dy) + (state === undefined || dstate.length === 0 ? 0 : dot(state.data, dstate))
  }
  const h = 6e-4
  const pair = (k: number) => value(k * h) - value(-k * h)
  return (45 * pair(1) - 9 * pair(2) + pair(3)) / (60 * h)
}

for (const kind of [
  ...kinds,
  { mode: 's4', bidirectional: true },
  { mode: 's4d', bidirectional: true, channels: 2 },
] as Partial<S4LayerOptions>[])
  test(`gradients are finite differences, ${JSON.stringify(kind)}`, (t) => {
    if (!f64(t)) return t.pass()
    using l = new S4Layer({ features: 4, state: 8, dtype: 'f64', seed: 3, ...kind })
    const [batch, len] = [2, 70]
    const wide = (shape: number[], seed: number) => ({
      data: Float64Array.from(noisy(shape, seed).data),
      shape,
    })
    const u = wide([batch, len, 4], 1)
    const state = l.hasState ? { state: wide([batch, 4, 4, 2], 2) } : {}
    const options = { ...state, intervals: uneven(batch * len), lengths: [len, 66] }
    const first = l.forward(u, options)
    const dy = wide([...first.y.shape], 3)
    const dstate = wide([batch, 4, 4, 2], 4)
    const back = l.backward(dy, l.hasState ? { dstate } : {})
    // What lies beyond a sequence's length is 0 whatever it is compared with.
    const forward = () => l.forward(u, { ...options, save: false })
    const check = (what: string, values: Float64Array, grad: ArrayLike<number>, write: () => void) => {
      for (let round = 0; round < 2; round++) {
        const direction = Float64Array.from(noise(values.length, 11 + round))
        const want = differences(forward, [dy.data, dstate.data], (by) => {
          for (let i = 0; i < values.length; i++) values[i]! += by * direction[i]!
          write()
        })
        const got = Array.from(grad).reduce((sum, g, i) => sum + g * direction[i]!, 0)
        const size = Math.hypot(...Array.from(grad))
        // The differences themselves have a rounding error of about 1e-11.
        t.true(Math.abs(got - want) <= 1e-8 * size + 1e-10, `${what}: ${got} is not ${want}`)
      }
    }
    check('u', u.data, back.du.data, () => undefined)
    if (state.state !== undefined) check('state', state.state.data, back.dstate!.data, () => undefined)
    for (const { name, value, grad } of l.parameters()) {
      const values = Float64Array.from(value.data)
      check(name, values, grad.data, () => l.setParameter(name, { data: values, shape: value.shape }))
    }
    return undefined
  })

test('a small step takes the derivative of its factor from a series', (t) => {
  if (!f64(t)) return t.pass()
  using l = new S4Layer({
    features: 2,
    state: 4,
    mode: 's4d',
    dtype: 'f64',
    realTransform: 'none',
    imagTransform: 'none',
  })
  // One mode that does not move at all, and one that hardly does.
  const set = (name: string, data: number[]) =>
    l.setParameter(name, { data, shape: l.parameters().find((p) => p.name === name)!.value.shape })
  const real = [0, 1e-6, 0.5, 0]
  set('kernel.A_real', real)
  set('kernel.A_imag', [0, 0, 3, 1e-7])
  const u = noisy([1, 9, 2])
  const intervals = uneven(9)
  l.forward(u, { intervals })
  const dy = noisy([1, 9, 2], 2)
  l.backward(dy)
  const grad = l.parameters().find((p) => p.name === 'kernel.A_real')!.grad.data
  for (let i = 0; i < 4; i++) {
    const want = differences(
      () => l.forward(u, { intervals, save: false }),
      [dy.data, []],
      (by) => {
        real[i]! += by
        set('kernel.A_real', real)
      },
    )
    t.true(Math.abs(grad[i]! - want) <= 1e-8 * Math.max(1, Math.abs(want)), `${i}: ${grad[i]} is not ${want}`)
  }
  return undefined
})

test('a prediction with intervals is what a stream gives, in the padding too', async (t) => {
  for (const options of [
    { mode: 's4d' },
    { mode: 's4', norm: 'batch' },
    { encoder: 'none', features: 1 },
  ] as const) {
    using m = await model({ layers: 2, ...options })
    const x = noisy([2, 40, 1])
    const intervals = uneven(80)
    const y = await m.predict(x, { intervals })
    using stream = m.stream({ batch: 2 })
    close(t, 'pushed', stream.push(x, { interval: intervals }), y, 1e-5)
    close(t, 'at once', m.predictSync(x, { intervals: { data: intervals, shape: [2, 40] } }), y, 0)
    // Anything may stand in the padding.
    const [padded, unknown] = [Float32Array.from(x.data), Float32Array.from(intervals)]
    padded.fill(NaN, 70)
    unknown.fill(-1, 70)
    const short = await m.predict(
      { data: padded, shape: [2, 40, 1] },
      { intervals: unknown, lengths: [40, 30] },
    )
    const width = y.shape[2] as number
    close(t, 'before the padding', short.data.subarray(0, 70 * width), y.data.subarray(0, 70 * width), 1e-5)
    t.true(short.data.subarray(70 * width).every((v) => v === 0))
  }
})

test('a block and its gradient take intervals', (t) => {
  using block = new S4Block({ features: 4, state: 8, mode: 's4d' })
  const u = noisy([2, 30, 4])
  const ones = block.forward(u, { intervals: Array(60).fill(1) }).y
  close(t, 'ones', ones, block.forward(u).y, 1e-5)
  const { y } = block.forward(u, { intervals: uneven(60) })
  t.notDeepEqual(y.data, ones.data)
  const { du } = block.backward(noisy([2, 30, 4], 2))
  t.true(du.data.every(Number.isFinite))
  t.true(block.parameters().every((p) => p.grad.data.some((g) => g !== 0)))
})

test('training, evaluation and accumulation use the intervals', async (t) => {
  const options = {
    input: 1,
    output: 1,
    features: 8,
    layers: 2,
    state: 8,
    mode: 's4d',
    device: device(),
  } as const
  const batch = (more: object = {}): Batch => ({
    input: noisy([2, 40, 1]),
    target: noisy([2, 40, 1], 2),
    ...more,
  })
  const intervals = uneven(80)
  using m = await SequenceModel.create({ ...options, loss: 'mse' })
  const target = noisy([2, 40, 1], 2).data
  const loss = (y: Tensor) => target.reduce((sum, v, i) => sum + (y.data[i]! - v) ** 2, 0) / target.length
  const want = loss(await m.predict(noisy([2, 40, 1]), { intervals }))
  close(t, 'evaluate', [(await m.evaluate([batch({ intervals })])).loss], [want], 1e-5)
  t.true(Math.abs((await m.evaluate([batch()])).loss - want) > 1e-4)
  await m.accumulate(batch({ intervals }))
  close(t, 'update', [(await m.update({ lr: 0, ssmLr: 0 })).loss], [want], 1e-5)
  // With ones a run is the regular run.
  const losses = async (more: object) => {
    using fresh = await SequenceModel.create({ ...options, loss: 'mse' })
    return (await fresh.fit([batch(more)], { epochs: 5, lr: 1e-3 })).map((e) => e.loss)
  }
  close(t, 'ones', await losses({ intervals: Array(80).fill(1) }), await losses({}), 1e-5)
})

test('carried states go on over the intervals', async (t) => {
  using m = await model({ layers: 2, loss: 'mse', mode: 's4d' })
  const [x, target, intervals] = [noisy([1, 60, 1]), noisy([1, 60, 1], 2), uneven(60)]
  const part = (from: number, to: number): Batch => ({
    input: { data: x.data.subarray(from, to), shape: [1, to - from, 1] },
    target: { data: target.data.subarray(from, to), shape: [1, to - from, 1] },
    intervals: intervals.subarray(from, to),
  })
  const y = await m.predict(x, { intervals })
  const want = (from: number, to: number) => {
    let sum = 0
    for (let i = from; i < to; i++) sum += (y.data[i]! - target.data[i]!) ** 2
    return sum / (to - from)
  }
  const losses: number[] = []
  for await (const e of m.train([part(0, 25), part(25, 60)], { carryState: true, lr: 0, ssmLr: 0 }))
    if (e.type === 'step') losses.push(e.loss)
  close(t, 'losses', losses, [want(0, 25), want(25, 60)], 1e-5)
})

test('examples are collected with their intervals', async (t) => {
  using m = await model({ loss: 'mse', mode: 's4d' })
  const example = (len: number, seed: number, more: object = {}) => ({
    input: noisy([len, 1], seed),
    target: noisy([len, 1], seed + 1),
    ...more,
  })
  const examples = [
    example(9, 1, { intervals: uneven(9, 1) }),
    example(5, 3),
    example(7, 5, { intervals: { data: uneven(7, 2), shape: [7] } }),
  ]
  const { loss, rows } = await m.evaluate(examples, { batchSize: 3 })
  let sum = 0
  for (const e of examples) {
    const alone = await m.evaluate([e], { batchSize: 1 })
    sum += alone.loss * alone.rows
  }
  close(t, 'loss', [loss], [sum / rows], 1e-5)
  // Shuffled, each keeps its own: at a rate of 0 the losses of an epoch are those of the examples, in some order.
  const losses = async (shuffle: boolean) => {
    const seen: number[] = []
    for await (const e of m.train(examples, { batchSize: 1, shuffle, lr: 0, ssmLr: 0, seed: 2 }))
      if (e.type === 'step') seen.push(e.loss)
    return seen
  }
  const [inOrder, shuffled] = [await losses(false), await losses(true)]
  t.notDeepEqual(shuffled, inOrder)
  close(t, 'shuffled', shuffled.toSorted(), inOrder.toSorted(), 1e-5)
})

test('a model that is told the intervals learns what one that is not cannot', async (t) => {
  // The phase of a wave goes on by its interval: what comes next can be known with the intervals alone.
  const batches = Array.from({ length: 4 }, (_, k): Batch => {
    const [rows, len] = [8, 64]
    const gaps = noise(rows * len, 20 + k).map((x) => 0.5 + 1.5 * Math.abs(x))
    const [input, target] = [new Float32Array(rows * len), new Float32Array(rows * len)]
    for (let b = 0; b < rows; b++) {
      let time = 10 * Math.abs(gaps[b * len]!)
      for (let i = 0; i < len; i++) {
        time += gaps[b * len + i]!
        input[b * len + i] = i % 4 === 0 ? Math.sin(0.9 * time) : 0
        target[b * len + i] = Math.sin(0.9 * time)
      }
    }
    const shape = [rows, len, 1]
    return { input: { data: input, shape }, target: { data: target, shape }, intervals: gaps }
  })
  const loss = async (told: boolean) => {
    const options = {
      input: 1,
      output: 1,
      features: 16,
      layers: 2,
      state: 16,
      mode: 's4d',
      loss: 'mse',
      seed: 1,
    } as const
    using m = await SequenceModel.create({ ...options, dtMin: 0.05, dtMax: 0.5, device: device() })
    const dataset = told ? batches : batches.map(({ input, target }) => ({ input, target }))
    return (await m.fit(dataset, { epochs: 15, lr: 1e-2, ssmLr: 1e-2 })).at(-1)!.loss
  }
  const [told, untold] = [await loss(true), await loss(false)]
  t.true(told < 0.5 * untold, `${told} beside ${untold}`)
})

test('what cannot be an interval is refused before any work', async (t) => {
  using l = new S4Layer({ features: 2, state: 4, mode: 's4d' })
  const u = noisy([1, 3, 2])
  for (const wrong of [0, -1, NaN, Infinity, 1e-60])
    refuses(t, 'ERR_S4_VALUE', () => l.forward(u, { intervals: [1, wrong, 1] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(u, { intervals: [1, 1] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(u, { intervals: { data: [1, 1, 1], shape: [3, 1] } }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(u, { intervals: 1 as never }))
  using cut = new S4Layer({ features: 2, state: 4, truncate: 2 })
  refuses(t, 'ERR_S4_UNSUPPORTED', () => cut.forward(u, { intervals: [1, 1, 1] }))
  using m = await model({ loss: 'mse' })
  const before = await m.toBytes()
  const batch = (intervals: number[]) => ({ input: noisy([1, 3, 1]), target: noisy([1, 3, 1]), intervals })
  await t.throwsAsync(m.fit([batch([1, 0, 1])]), { code: 'ERR_S4_VALUE', message: /intervals/ })
  await t.throwsAsync(m.evaluate([batch([1, 1])]), { code: 'ERR_S4_SHAPE', message: /intervals/ })
  await t.throwsAsync(m.predict(noisy([1, 3, 1]), { intervals: [1, -2, 1] }), { code: 'ERR_S4_VALUE' })
  t.deepEqual(await m.toBytes(), before)
})
