/** One map seen in several ways: convolution, chunks, steps; algorithms; dtypes; lengths; gradients. */
import test from 'ava'
import { AdamW, S4Block, S4Layer, windows, type S4LayerOptions, type TensorLike } from '../index.js'
import { close, device, f64, model, noise, noisy, refuses, relative } from './helpers.js'

const inner = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, x, i) => sum + x * (b[i] as number), 0)

const kinds: Partial<S4LayerOptions>[] = [
  { mode: 's4' },
  { mode: 's4', init: 'legt' },
  { mode: 's4', init: 'fourier', nSsm: 2 },
  { mode: 's4', init: 'hippo' },
  { mode: 's4', channels: 2, dtPerState: true },
  { mode: 's4d' },
  { mode: 's4d', init: 'lin', discretization: 'bilinear' },
  { mode: 's4d', init: 'inv' },
  { mode: 's4d', init: 'real', imagTransform: 'softplus' },
]

for (const kind of kinds) {
  test(`convolution = chunks = steps, ${JSON.stringify(kind)}`, (t) => {
    using l = new S4Layer({ features: 4, state: 16, ...kind })
    const [batch, len] = [2, 150]
    const u = noisy([batch, len, 4])
    const whole = l.forward(u)
    const outputs = whole.y.shape[2] as number
    close(
      t,
      'fft = chunk',
      l.forward(u, { algorithm: 'fft' }).y,
      l.forward(u, { algorithm: 'chunk' }).y,
      1e-5,
    )
    const cut = (from: number, to: number) => {
      const data = new Float32Array(batch * (to - from) * 4)
      for (let b = 0; b < batch; b++)
        data.set(u.data.subarray((b * len + from) * 4, (b * len + to) * 4), b * (to - from) * 4)
      return { data, shape: [batch, to - from, 4] }
    }
    for (const size of [1, 7, 64]) {
      const out = new Float32Array(whole.y.data.length)
      let state = l.initialState(batch)
      for (let at = 0; at < len; at += size) {
        const part = l.forward(cut(at, Math.min(at + size, len)), { state })
        state = part.state!
        const n = part.y.shape[1] as number
        for (let b = 0; b < batch; b++)
          out.set(
            part.y.data.subarray(b * n * outputs, (b + 1) * n * outputs) as Float32Array,
            (b * len + at) * outputs,
          )
      }
      close(t, `chunks of ${size}`, out, whole.y, 1e-5)
      close(t, `state after chunks of ${size}`, state, whole.state!, 1e-5)
    }
    let state = l.initialState(batch)
    const out = new Float32Array(whole.y.data.length)
    for (let s = 0; s < len; s++) {
      const { data } = cut(s, s + 1)
      const step = l.step({ data, shape: [batch, 4] }, state)
      state = step.state
      for (let b = 0; b < batch; b++)
        out.set(step.y.data.subarray(b * outputs, (b + 1) * outputs) as Float32Array, (b * len + s) * outputs)
    }
    close(t, 'steps', out, whole.y, 1e-5)
    close(t, 'state after steps', state, whole.state!, 1e-5)
  })

  test(`f64 finite differences of u, state and every parameter, ${JSON.stringify(kind)}`, (t) => {
    if (!f64(t)) return t.pass()
    for (const algorithm of ['fft', 'chunk'] as const) {
      using l = new S4Layer({ features: 2, state: 8, ...kind, dtype: 'f64', algorithm })
      const u = { data: Float64Array.from(noise(2 * 70 * 2)), shape: [2, 70, 2] }
      const state = { data: Float64Array.from(noise(2 * 2 * 8, 5)), shape: [2, 2, 4, 2] }
      const first = l.forward(u, { state })
      const g = first.y.data.map((_, i) => Math.sin(i))
      const gs = first.state!.data.map((_, i) => Math.cos(i))
      const value = () => {
        const out = l.forward(u, { state })
        return inner(out.y.data, g) + inner(out.state!.data, gs)
      }
      l.zeroGrad()
      l.forward(u, { state })
      const { du, dstate } = l.backward(
        { data: g, shape: first.y.shape },
        { dstate: { data: gs, shape: first.state!.shape } },
      )
      const difference = (array: Float64Array, i: number, apply: () => void) => {
        const [x, h] = [array[i] as number, 1e-5]
        array[i] = x + h
        apply()
        const above = value()
        array[i] = x - h
        apply()
        const below = value()
        array[i] = x
        apply()
        return (above - below) / (2 * h)
      }
      const check = (what: string, array: Float64Array, gradient: ArrayLike<number>, apply: () => void) => {
        const picks = [0, array.length >> 1, array.length - 1]
        const scale = Math.max(...Array.from(gradient, Math.abs), 1e-3)
        for (const i of picks) {
          const e = Math.abs(difference(array, i, apply) - (gradient[i] as number)) / scale
          t.true(e <= 1e-6, `${algorithm} ${what}[${i}]: ${e}`)
        }
      }
      check('u', u.data, du.data, () => {})
      check('state', state.data, dstate!.data, () => {})
      for (const { name, shape, value: start, grad } of l.parameters()) {
        const array = Float64Array.from(start.data)
        check(name, array, grad.data, () => l.setParameter(name, { data: array, shape }))
      }
    }
  })
}

test("the paper's Algorithm 1 is one more view of bilinear layers, and zero-order hold is refused", (t) => {
  const bilinear = kinds.filter((kind) => kind.mode === 's4' || kind.discretization === 'bilinear')
  for (const kind of [...bilinear, { mode: 's4', bidirectional: true } as const]) {
    using l = new S4Layer({ features: 4, state: 16, device: 'cpu', ...kind })
    for (const len of [1, 2, 37, 150]) {
      const u = noisy([2, len, 4])
      const [fft, cauchy] = (['fft', 'cauchy'] as const).map((algorithm) => {
        l.zeroGrad()
        const { y } = l.forward(u, { algorithm, lengths: [len, (len + 1) >> 1] })
        const { du } = l.backward(noisy([...y.shape], 3))
        return [y, du, ...l.parameters().map((p) => p.grad)]
      })
      fft!.forEach((truth, i) => {
        const name = `${JSON.stringify(kind)}, length ${len}, ${i}`
        // What one sample cannot move has a gradient of zero both ways.
        if (Math.hypot(...truth.data) > 1e-6) close(t, name, cauchy![i]!, truth, i < 1 ? 1e-5 : 1e-4)
      })
    }
  }
  using zoh = new S4Layer({ features: 4, state: 8, mode: 's4d', device: 'cpu' })
  const error = refuses(t, 'ERR_S4_UNSUPPORTED', () => zoh.forward(noisy([1, 9, 4]), { algorithm: 'cauchy' }))
  t.regex(error.message, /bilinear/)
})

test('two-sided: fft = chunk, and lengths are each row alone', (t) => {
  for (const bidirectional of [false, true]) {
    using l = new S4Layer({ features: 4, state: 16, bidirectional })
    const u = noisy([3, 130, 4])
    const lengths = [130, 64, 17]
    for (const algorithm of ['fft', 'chunk'] as const) {
      const all = l.forward(u, { lengths, algorithm })
      lengths.forEach((n, b) => {
        const data = u.data.slice(b * 130 * 4, (b * 130 + n) * 4)
        const alone = l.forward({ data, shape: [1, n, 4] }, { algorithm: 'fft' })
        close(t, `row ${b}`, all.y.data.slice(b * 130 * 4, (b * 130 + n) * 4), alone.y, 1e-5)
        t.true(all.y.data.slice((b * 130 + n) * 4, (b + 1) * 130 * 4).every((x) => x === 0))
        if (!bidirectional)
          close(t, `state ${b}`, all.state!.data.slice(b * 64, (b + 1) * 64), alone.state!, 1e-5)
      })
    }
  }
})

test('whole networks: predict = chunks of 1, 7, 64, 1000 = pushes', async (t) => {
  for (const options of [
    { norm: 'layer' },
    { norm: 'batch' },
    { norm: 'layer', mode: 's4d', prenorm: false },
    { norm: 'batch', mode: 's4d' },
  ] as const) {
    using m = await model({ ...options, layers: 4, features: 16, state: 16 })
    const x = noisy([2, 1100, 1])
    if (options.norm === 'batch') {
      for await (const _ of m.train([{ input: x, target: x }], { epochs: 1, lr: 0, ssmLr: 0 }));
    }
    const whole = await m.predict(x)
    for (const size of [1, 7, 64, 1000]) {
      using stream = m.stream({ batch: 2 })
      const out = new Float32Array(whole.data.length)
      for (let at = 0; at < 1100; at += size) {
        const n = Math.min(size, 1100 - at)
        const data = new Float32Array(2 * n)
        for (let b = 0; b < 2; b++) data.set(x.data.subarray(b * 1100 + at, b * 1100 + at + n), b * n)
        const y = stream.push({ data, shape: [2, n, 1] }).data
        for (let b = 0; b < 2; b++) out.set(y.subarray(b * n, (b + 1) * n) as Float32Array, b * 1100 + at)
      }
      t.is(stream.position, 1100)
      close(t, `${JSON.stringify(options)} chunks of ${size}`, out, whole, 1e-5)
    }
  }
})

test('streams save, restore and fork', async (t) => {
  using m = await model()
  using a = m.stream()
  a.push(noisy([1, 33, 1]))
  const saved = a.save()
  using fork = a.fork()
  const next = noisy([1, 20, 1], 9)
  const expected = a.push(next).data
  t.deepEqual(fork.push(next).data, expected)
  using b = m.stream()
  b.restore(saved)
  t.deepEqual(b.push(next).data, expected)
  b.reset()
  t.is(b.position, 0)
  t.throws(() => b.restore(saved.slice(0, 10)), { code: 'ERR_S4_CHECKPOINT' })
  using wide = m.stream({ batch: 2 })
  t.throws(() => wide.restore(saved), { code: 'ERR_S4_CHECKPOINT' })
})

test('a push takes its interval as one number, one a row, or one a row and sample', async (t) => {
  using m = await model()
  const x = noisy([2, 5, 1])
  const push = (interval: number | number[]) => {
    using stream = m.stream({ batch: 2 })
    return stream.push(x, { interval }).data
  }
  const one = push(2)
  t.notDeepEqual(one, push(1))
  t.deepEqual(push([2, 2]), one)
  t.deepEqual(push(Array(10).fill(2)), one)
  t.throws(() => push([2, 2, 2]), { code: 'ERR_S4_SHAPE' })
  t.throws(() => push(null as never), { code: 'ERR_S4_VALUE' })
})

test('a loop of one’s own with AdamW learns', (t) => {
  using block = new S4Block({ features: 4, state: 8 })
  using adam = new AdamW([block], { lr: 1e-2 })
  const u = noisy([2, 60, 4])
  const losses: number[] = []
  for (let i = 0; i < 30; i++) {
    block.zeroGrad()
    const { y } = block.forward(u, { training: true })
    const dy = y.data.map((v, k) => v - Math.tanh(u.data[k] as number))
    losses.push(inner(dy, dy))
    block.backward({ data: dy, shape: y.shape })
    adam.step()
  }
  t.true((losses.at(-1) as number) < 0.3 * (losses[0] as number), losses.join(' '))
})

test('windows', (t) => {
  const all = [...windows([0, 1, 2, 3, 4, 5], { length: 3, stride: 1, horizon: 2 })]
  t.is(all.length, 2)
  t.deepEqual([...(all[1]!.input.data as Float64Array)], [1, 2, 3])
  t.deepEqual([...((all[1]!.target as TensorLike).data as Float64Array)], [2, 3, 3, 4, 4, 5])
})

test('the final state is an option: the same output and gradients without it', (t) => {
  const u = noisy([2, 37, 4])
  const dy = noisy([2, 37, 4])
  // The CPU computes the rest in the same order; a GPU may take other kernels.
  const tolerance = device() === 'cpu' ? 0 : 1e-5
  for (const algorithm of ['fft', 'chunk'] as const) {
    using l = new S4Layer({ features: 4, state: 8, algorithm })
    const both = l.forward(u)
    const du = l.backward(dy).du
    const gradients = l.parameters().map((p) => [...p.grad.data])
    l.zeroGrad()
    const alone = l.forward(u, { finalState: false })
    close(t, `${algorithm}: y`, alone.y, both.y, tolerance)
    t.truthy(both.state)
    t.false('state' in alone)
    close(t, `${algorithm}: du`, l.backward(dy).du, du, tolerance)
    l.parameters().forEach((p, i) => {
      t.true(relative(p.grad.data, gradients[i] as number[]) <= 10 * tolerance, `${algorithm}: ${p.name}`)
    })
  }
})
