/** `inspect`: figures against the model's own kernels and gradients, and the advice on step sizes. */
import test from 'ava'
import { SequenceModel, type SequenceModelOptions } from '../index.js'
import { device, f64, noise, noisy } from './helpers.js'

const small: SequenceModelOptions = {
  input: 1,
  output: 1,
  features: 6,
  layers: 2,
  state: 8,
  loss: 'mse',
  seed: 2,
}

test('memory and gain are those of the kernels, times those of the sampling interval', async (t) => {
  for (const mode of ['s4', 's4d'] as const) {
    using model = await SequenceModel.create({ ...small, mode, dtMin: 0.01, device: device() })
    const { layers, frequencies } = await model.inspect({ samplingInterval: 0.25 })
    t.is(layers.length, 2)
    for (const [block, layer] of layers.entries()) {
      const len = 1 << 13
      const { data } = model.kernel(block, len)
      t.is(layer.name, `blocks.${block}`)
      for (let h = 0; h < 6; h++) {
        const kernel = Float64Array.from(data.subarray(h * len, (h + 1) * len))
        const whole = kernel.reduce((sum, k) => sum + k * k, 0)
        for (const [part, { steps, seconds }] of [
          [0.5, layer.memory.half],
          [0.9, layer.memory.most],
          [0.99, layer.memory.nearlyAll],
        ] as const) {
          const energy = (n: number) => kernel.subarray(0, n).reduce((sum, k) => sum + k * k, 0) / whole
          // The float32 kernel is right to some 1e-6 of it.
          t.true(
            energy(steps[h]!) >= part - 1e-4 && energy(steps[h]! - 1) <= part + 1e-4,
            `${mode} ${h} ${part}`,
          )
          t.is(seconds![h], steps[h]! * 0.25)
        }
        for (const f of [0, 20, 37]) {
          const turn = 2 * Math.PI * frequencies[f]!
          let [re, im] = [0, 0]
          kernel.forEach((k, i) => {
            re += k * Math.cos(turn * i)
            im -= k * Math.sin(turn * i)
          })
          const gain = layer.gain.data[h * 38 + f]!
          t.true(Math.abs(gain - Math.hypot(re, im)) <= 1e-3 * (1 + gain), `${mode} ${h} ${f}: ${gain}`)
        }
        t.true(Math.abs(layer.timescales.steps[h]! * layer.stepSizes[h]! - 1) < 1e-12)
        t.true(layer.stepSizes[h]! > 0.0099 && layer.stepSizes[h]! < 0.101)
      }
    }
  }
})

test('the influence of inputs is the gradient, by finite differences', async (t) => {
  if (!f64(t)) return t.pass()
  using model = await SequenceModel.create({
    ...small,
    output: 2,
    norm: 'batch',
    dtype: 'f64',
    device: 'cpu',
  })
  const batch = { input: noisy([1, 9, 1], 5), target: noisy([1, 9, 2], 6) }
  await model.accumulate(batch)
  const gradients = () => model.parameters().map((p) => [...p.grad.data])
  const before = gradients()
  const data = { data: Float64Array.from(noise(18, 3)), shape: [2, 9, 1] }
  const { influence, layers } = await model.inspect({ data, lengths: [9, 6] })
  t.deepEqual(gradients(), before)
  t.deepEqual(influence!.shape, [2, 9])
  const last = (x: Float64Array, row: number) => {
    const y = model.predictSync({ data: x, shape: [2, 9, 1] }).data
    const at = (row * 9 + (row === 0 ? 8 : 5)) * 2
    return y[at]! + y[at + 1]!
  }
  for (let i = 0; i < 18; i++) {
    const row = i < 9 ? 0 : 1
    const moved = (by: number) => last(data.data.with(i, data.data[i]! + by), row)
    const expected = Math.abs(moved(1e-6) - moved(-1e-6)) / 2e-6
    t.true(
      Math.abs(influence!.data[i]! - expected) < 1e-6 * (1 + expected),
      `${i}: ${influence!.data[i]} ${expected}`,
    )
  }
  for (const { change } of layers) t.true(change! > 0.001 && Number.isFinite(change))
  // At another rate, and with intervals, as predictions at that rate and with these intervals.
  const intervals = Float64Array.from({ length: 18 }, (_, i) => 0.3 + (i % 5))
  for (const call of [{ rate: 2.5 }, { intervals }]) {
    const at = await model.inspect({ data, ...call })
    const sum = (x: Float64Array, row: number) => {
      const y = model.predictSync({ data: x, shape: [2, 9, 1] }, call).data
      return y[(row * 9 + 8) * 2]! + y[(row * 9 + 8) * 2 + 1]!
    }
    for (let i = 0; i < 18; i++) {
      const moved = (by: number) => sum(data.data.with(i, data.data[i]! + by), i < 9 ? 0 : 1)
      const expected = Math.abs(moved(1e-6) - moved(-1e-6)) / 2e-6
      const found = at.influence!.data[i]!
      t.true(Math.abs(found - expected) < 1e-6 * (1 + expected), `${i}: ${found} ${expected}`)
    }
  }
  // Sequences of 100 steps at rate 4 are as long as 400 of the training, and as one of them lasts a quarter of theirs.
  const slow = await model.inspect({ length: 100, rate: 4, samplingInterval: 2 })
  const usual = await model.inspect({ length: 400, samplingInterval: 0.5 })
  t.deepEqual(slow.advice, usual.advice)
  t.deepEqual(slow.layers, usual.layers)
  t.deepEqual([slow.length, slow.rate, slow.samplingInterval], [100, 4, 2])
  t.regex(
    slow.text,
    /^for sequences of 100 steps \(3\.33 min\), each as long as 4 of the training; in those:\n/,
  )
  using tokens = await SequenceModel.create({
    encoder: 'embedding',
    vocabulary: 5,
    output: 5,
    loss: 'crossEntropy',
    features: 4,
    layers: 1,
    state: 4,
    device: device(),
  })
  const found = await tokens.inspect({ data: { data: [1, 2, 3, 4], shape: [1, 4] } })
  t.true(found.influence!.data.every((x) => x > 0))
})

/** A signal of 4 s at three sampling rates: what a model for it should remember does not depend on them. */
const INTERVALS = [0.016, 0.004, 0.001]

test('step sizes a hundred times too large and too small are called so', async (t) => {
  for (const samplingInterval of INTERVALS)
    for (const mode of ['s4', 's4d'] as const) {
      const length = Math.round(4 / samplingInterval)
      const kinds: string[][] = []
      for (const factor of [1, 100, 0.01]) {
        using model = await SequenceModel.create({
          ...small,
          features: 32,
          state: 32,
          mode,
          // From the length of the signal to ten steps.
          dtMin: (1 / length) * factor,
          dtMax: 0.1 * factor,
          device: device(),
        })
        const { advice, text } = await model.inspect({ length, samplingInterval })
        kinds.push(advice.map(({ kind, layer }) => `${kind} ${layer}`))
        for (const each of advice) t.true(text.includes(each.text))
        if (factor === 1) t.regex(text, /nothing looks wrong$/)
        if (factor === 100) t.regex(text, /too large/)
        if (factor === 0.01) t.regex(text, /too small for sequences of \d+ steps \(4 s\)/)
      }
      t.deepEqual(
        kinds,
        [[], ['stepTooLarge 0', 'stepTooLarge 1'], ['stepTooSmall 0', 'stepTooSmall 1']],
        `${mode} at ${samplingInterval} s`,
      )
    }
})

test('what does nothing, and what does not die away, is named', async (t) => {
  using model = await SequenceModel.create({ ...small, device: device() })
  const set = (name: string, change: (data: Float32Array, shape: readonly number[]) => void) => {
    const { value } = model.parameters().find((p) => p.name === name)!
    const data = Float32Array.from(value.data)
    change(data, value.shape)
    model.setParameter(name, { data, shape: value.shape })
  }
  const weight = 'blocks.0.output_linear.0.weight'
  set(weight, (data, [rows, columns]) => {
    for (let r = 0; r < rows!; r++) for (const h of [1, 4]) data[r * columns! + h] = 0
  })
  const first = await model.inspect()
  t.deepEqual(first.layers[0]!.idleHeads, [1, 4])
  t.deepEqual(
    first.advice.map(({ kind, layer }) => [kind, layer]),
    [['idleHeads', 0]],
  )
  set(weight, (data) => data.fill(0))
  set('blocks.0.output_linear.0.bias', (data) => data.fill(0))
  const second = await model.inspect({ data: noisy([1, 300, 1]) })
  t.deepEqual(
    second.advice.map(({ kind, layer }) => [kind, layer]),
    [['idleLayer', 0]],
  )
  t.is(second.layers[0]!.change, 0)
  using growing = await SequenceModel.create({
    ...small,
    mode: 's4d',
    realTransform: 'none',
    device: device(),
  })
  const real = growing.parameters().find((p) => p.name === 'blocks.1.layer.kernel.A_real')!
  growing.setParameter(real.name, { data: real.value.data.map(() => -0.01), shape: real.value.shape })
  const { advice, layers } = await growing.inspect({ length: 300 })
  t.deepEqual(
    advice.map(({ kind, layer }) => [kind, layer]),
    [['unstable', 1]],
  )
  t.is(layers[1]!.memory.half.steps[0], Infinity)
})
