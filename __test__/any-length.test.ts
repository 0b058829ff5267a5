/** Lengths that are no multiple of eight: a device may compute them with padding, of which nothing is seen. */
import test from 'ava'
import type { Batch, SequenceModelOptions } from '../index.js'
import { close, gpuTest, model, noisy } from './helpers.js'

const labels = (n: number, classes: number) =>
  Int32Array.from({ length: n }, (_, i) => (i * 5 + (i >> 3)) % classes)

/** x (rows, len, 1) with zeros up to `to` time steps. */
function stretched(x: ArrayLike<number>, rows: number, len: number, to: number) {
  const data = new Float32Array(rows * to)
  for (let i = 0; i < rows * len; i++) data[Math.floor(i / len) * to + (i % len)] = x[i]!
  return { data, shape: [rows, to, 1] }
}

test('dropout draws for a length as for the next multiple of eight with that length', async (t) => {
  const [rows, len, to] = [3, 67, 72]
  const [input, target] = [noisy([rows, len, 1], 3), noisy([rows, len, 1], 4)]
  const options = { dropout: 0.4, seed: 5 }
  using short = await model(options)
  using long = await model(options)
  await short.accumulate({ input, target })
  await long.accumulate({
    input: stretched(input.data as Float32Array, rows, len, to),
    target: stretched(target.data as Float32Array, rows, len, to),
    lengths: Int32Array.of(len, len, len),
  })
  const gradients = (m: typeof short) => m.parameters().map((p) => [...p.grad.data])
  t.deepEqual(gradients(short), gradients(long))
  t.true(
    gradients(short)
      .flat()
      .some((g) => g !== 0),
  )
})

const networks: Partial<SequenceModelOptions>[] = [
  { loss: 'mse', dropout: 0.3 },
  { loss: 'crossEntropy', output: 4, norm: 'batch', bidirectional: true, dropout: 0.3, ignoreLabel: 2 },
  { loss: 'crossEntropy', output: 4, pooling: 'mean', encoder: 'embedding', vocabulary: 9 },
  { loss: 'crossEntropy', output: 4, pooling: 'last', mode: 's4d' },
]
for (const options of networks)
  gpuTest(`lengths of any number, on both devices, ${JSON.stringify(options)}`, async (t) => {
    using gpu = await model({ ...options, device: 'cuda' })
    using cpu = await model({ ...options, device: 'cpu' })
    for (const [len, lengths] of [
      [67, undefined],
      [121, Int32Array.of(121, 66, 3)],
    ] as const) {
      const rows = 3
      const targets = options.pooling === undefined ? rows * len : rows
      const shape = options.pooling === undefined ? [rows, len] : [rows]
      const batch: Batch = {
        input:
          options.encoder === 'embedding'
            ? { data: labels(rows * len, 9), shape: [rows, len] }
            : noisy([rows, len, 1], len),
        target: options.loss === 'mse' ? noisy([rows, len, 1], 6) : { data: labels(targets, 4), shape },
        weights: { data: Float32Array.from({ length: targets }, (_, i) => (i % 3) / 2), shape },
        ...(lengths && { lengths }),
        ...(options.mode === 's4d' && { intervals: noisy([rows, len], 9).data.map((x) => 1 + Math.abs(x)) }),
      } as Batch
      const call = { lengths, intervals: batch.intervals }
      const [a, b] = [await gpu.predict(batch.input, call), await cpu.predict(batch.input, call)]
      t.deepEqual(a.shape, b.shape)
      close(t, `outputs of ${len}`, a, b, 1e-5)
      const [e, f] = [await gpu.evaluate([batch]), await cpu.evaluate([batch])]
      close(t, `evaluation of ${len}`, [e.loss, e.rows], [f.loss, f.rows], 1e-5)
      for (const m of [gpu, cpu]) {
        m.zeroGrad()
        await m.accumulate(batch)
      }
      // Whatever is added to the features of all time steps alike, each path's batch norm takes away: the gradient of encoder.bias is
      // exactly zero there, and what rounding leaves of its sum counts by the gradient of the weights beside it.
      const gradients = (m: typeof cpu) =>
        new Map(m.parameters().map((p) => [p.name, Array.from(p.grad.data)]))
      const [got, exact] = [gradients(gpu), gradients(cpu)]
      const length = (x: number[] = []) => Math.hypot(...x)
      for (const [name, want] of exact) {
        const isZero = options.norm === 'batch' && name === 'encoder.bias'
        const beside = isZero ? exact.get('encoder.weight') : undefined
        const off =
          length(want.map((x, k) => x - got.get(name)![k]!)) / Math.max(length(want), length(beside))
        t.true(off <= 1e-4, `gradient of ${name}, ${len}: ${off}`)
      }
    }
  })
