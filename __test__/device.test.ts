/** The CPU against the GPU: outputs, every gradient, training, streams, checkpoints and states that move between them. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  S4Block,
  S4Layer,
  SequenceModel,
  type DeviceOptions,
  type S4BlockOptions,
  type S4Layer as Layer,
  type SequenceModelOptions,
} from '../index.js'
import { batch, close, drain, gpuTest, model, noisy, refuses } from './helpers.js'

type Options = Partial<S4BlockOptions>

/** What each precision of the GPU is allowed (‖a − b‖/‖b‖): outputs, gradients. */
const classes = { highest: [1e-5, 1e-4], high: [2e-3, 5e-3], bf16: [1e-2, 5e-2] } as const

const layers: Options[] = [
  { mode: 's4' },
  { mode: 's4', init: 'legt', nSsm: 2 },
  { mode: 's4', init: 'fourier' },
  { mode: 's4', init: 'hippo', channels: 2, dtPerState: true },
  { mode: 's4', bidirectional: true },
  { mode: 's4', truncate: 40 },
  { mode: 's4d' },
  { mode: 's4d', init: 'lin', discretization: 'bilinear' },
  { mode: 's4d', init: 'real', imagTransform: 'softplus', bidirectional: true },
]

const blocks: Options[] = [
  {},
  { norm: 'batch', prenorm: false, activation: 'relu' },
  { norm: 'none', glu: false, finalActivation: 'tanh', residual: false },
  { mode: 's4d', activation: 'silu', bidirectional: true },
]

/** The truth: the same parameters, float64, on the CPU. */
function truth<L extends Layer | S4Block>(exact: L, gpu: L): L {
  for (const p of gpu.parameters())
    exact.setParameter(p.name, { data: Float64Array.from(p.value.data), shape: [...p.shape] })
  return exact
}

const doubled = (x: { data: ArrayLike<number>; shape: readonly number[] }) => ({
  data: Float64Array.from(x.data),
  shape: [...x.shape],
})

gpuTest('Algorithm 1 on the GPU: NaN beyond its digits, zero-order hold is refused', (t) => {
  using layer = new S4Layer({ features: 2, state: 4, device: 'cuda', algorithm: 'cauchy' })
  const u = noisy([1, 16, 2], 1)
  t.true(layer.forward(u).y.data.every(Number.isFinite))
  for (const rate of [1e30, 1e-30]) t.true(layer.forward(u, { rate }).y.data.every(Number.isNaN))
  using held = new S4Layer({ features: 2, state: 4, mode: 's4d', discretization: 'zoh', device: 'cuda' })
  refuses(t, 'ERR_S4_UNSUPPORTED', () => held.forward(u, { algorithm: 'cauchy' }))
})

for (const [precision, [outputs, gradients]] of Object.entries(classes)) {
  const on = { device: 'cuda', precision } as DeviceOptions
  for (const options of precision === 'highest' ? layers : layers.slice(0, 5)) {
    gpuTest(`${precision}: a layer on the GPU is the CPU's, ${JSON.stringify(options)}`, (t) => {
      for (const [rows, len] of [
        [2, 150],
        [3, 1],
        [1, 1031],
      ] as const) {
        const two = options.bidirectional === true
        const zoh = options.mode === 's4d' && options.discretization !== 'bilinear'
        for (const algorithm of ['fft', 'chunk', 'cauchy'] as const) {
          if (algorithm === 'chunk' && options.truncate !== undefined) continue
          if (algorithm === 'cauchy' && zoh) continue
          using gpu = new S4Layer({ features: 6, state: 16, ...options, ...on, algorithm })
          using cpu = truth(
            new S4Layer({ features: 6, state: 16, ...options, device: 'cpu', dtype: 'f64', algorithm }),
            gpu,
          )
          t.is(gpu.device, 'cuda:0')
          const u = noisy([rows, len, 6], 3)
          // A call that a state enters runs by chunks, whatever was asked for.
          const carried = !two && options.truncate === undefined && algorithm !== 'cauchy'
          const start = carried ? noisy([...gpu.initialState(rows).shape], 5) : undefined
          const got = gpu.forward(u, { ...(start && { state: start }) })
          const want = cpu.forward(doubled(u), { ...(start && { state: doubled(start) }) })
          const name = `${algorithm} ${rows} × ${len}`
          close(t, `${name} y`, got.y, want.y, outputs)
          const dy = noisy([...got.y.shape], 7)
          const ds = got.state === undefined ? undefined : noisy([...got.state.shape], 8)
          if (got.state !== undefined) close(t, `${name} state`, got.state, want.state!, outputs)
          const a = gpu.backward(dy, { ...(ds && { dstate: ds }) })
          const b = cpu.backward(doubled(dy), { ...(ds && { dstate: doubled(ds) }) })
          close(t, `${name} du`, a.du, b.du, gradients)
          if (a.dstate !== undefined) close(t, `${name} dstate`, a.dstate, b.dstate!, gradients)
          const exact = cpu.parameters()
          gpu.parameters().forEach((p, i) => {
            // What one sample cannot move has a gradient of zero on both sides.
            const zero = Math.hypot(...exact[i]!.grad.data) < 1e-9
            if (!zero) close(t, `${name} grad ${p.name}`, p.grad, exact[i]!.grad, gradients)
          })
          close(t, `${name} kernel`, gpu.kernel(len), cpu.kernel(len), outputs)
        }
      }
    })
  }

  for (const options of precision === 'highest' ? blocks : blocks.slice(0, 2)) {
    gpuTest(`${precision}: a block on the GPU is the CPU's, ${JSON.stringify(options)}`, (t) => {
      using gpu = new S4Block({ features: 8, state: 16, ...options, ...on })
      using cpu = truth(new S4Block({ features: 8, state: 16, ...options, device: 'cpu', dtype: 'f64' }), gpu)
      const u = noisy([3, 200, 8], 4)
      const dy = noisy([3, 200, 8], 6)
      close(
        t,
        'y',
        gpu.forward(u, { training: true }).y,
        cpu.forward(doubled(u), { training: true }).y,
        outputs,
      )
      close(t, 'du', gpu.backward(dy).du, cpu.backward(doubled(dy)).du, gradients)
      const exact = cpu.parameters()
      gpu.parameters().forEach((p, i) => close(t, `grad ${p.name}`, p.grad, exact[i]!.grad, gradients))
    })
  }
}

const networks: Partial<SequenceModelOptions>[] = [
  { norm: 'layer', dropout: 0.2 },
  { norm: 'batch', mode: 's4d', loss: 'gaussian' },
  { bidirectional: true, pooling: 'mean', loss: 'crossEntropy', output: 4, tiedDropout: true, dropout: 0.1 },
  { encoder: 'embedding', vocabulary: 7, output: 7, loss: 'crossEntropy', prenorm: false },
  { feedForward: 2, dropPath: 0.4, dropout: 0.2, norm: 'batch', prenorm: false },
  {
    encoder: 'embedding',
    vocabulary: 7,
    output: 7,
    loss: 'crossEntropy',
    labelSmoothing: 0.1,
    classWeights: [1, 0.5, 2, 1, 0, 3, 1],
    ignoreLabel: 2,
    feedForward: 1,
    dropPath: 0.3,
  },
  { loss: 'quantile', quantiles: [0.2, 0.6] },
]

/** Two batches that suit a model. */
function twoBatches(options: Partial<SequenceModelOptions>) {
  return [1, 2].map((seed) => {
    const [rows, len] = [3, 90]
    const ints = (n: number, most: number) =>
      Int32Array.from({ length: n }, (_, i) => (i * (seed + 2) + (i >> 2)) % most)
    const input =
      options.encoder === 'embedding'
        ? { data: ints(rows * len, 7), shape: [rows, len] }
        : noisy([rows, len, 1], seed)
    if (options.loss !== 'crossEntropy') return { input, target: noisy([rows, len, 1], seed + 5) }
    const n = options.pooling === 'mean' ? rows : rows * len
    return {
      input,
      target: { data: ints(n, options.output!), shape: options.pooling === 'mean' ? [rows] : [rows, len] },
    }
  })
}

for (const options of networks) {
  gpuTest(`20 updates on the GPU and on the CPU, ${JSON.stringify(options)}`, async (t) => {
    const batches = twoBatches(options)
    const train = async (device: 'cpu' | 'cuda') => {
      using m = await model({ features: 16, state: 16, ...options, device })
      const losses: number[] = []
      const options20 = { epochs: 10, lr: 1e-3, ssmLr: 1e-3, clip: 1, seed: 3 }
      for await (const e of m.train(batches, options20)) if (e.type === 'step') losses.push(e.loss)
      const evaluation = await m.evaluate(batches)
      // Batch norm: a bias before it has no gradient but rounding, by which AdamW moves it all the same; no loss of training sees that, but
      // running means lag behind it. So evaluations are compared at the same parameters.
      using onCpu = await SequenceModel.fromBytes(await m.toBytes(), { device: 'cpu' })
      return {
        losses,
        evaluation,
        evaluationOnCpu: await onCpu.evaluate(batches),
        parameters: m.parameters().map((p) => [p.name, [...p.value.data]] as const),
      }
    }
    const [gpu, again, cpu] = [await train('cuda'), await train('cuda'), await train('cpu')]
    t.is(gpu.losses.length, 20)
    t.deepEqual(again, gpu, 'the same seed gives the same bits')
    close(t, 'losses', gpu.losses, cpu.losses, 1e-4)
    const figures = (evaluation: typeof cpu.evaluation) => [
      ...Object.values(evaluation).filter((x): x is number => typeof x === 'number'),
      ...(evaluation.confusion?.flat() ?? []),
    ]
    t.is(figures(gpu.evaluation).length, figures(gpu.evaluationOnCpu).length)
    close(t, 'metrics', figures(gpu.evaluation), figures(gpu.evaluationOnCpu), 1e-5)
    if (options.norm !== 'batch')
      close(t, 'metrics of both runs', figures(gpu.evaluation), figures(cpu.evaluation), 1e-4)
    t.deepEqual(
      gpu.parameters.map(([name]) => name),
      cpu.parameters.map(([name]) => name),
    )
  })
}

gpuTest(
  'later forwards of a block and later batches of an update drop the same units on both devices',
  async (t) => {
    const options = { features: 8, state: 16, dropout: 0.5, seed: 3, residual: false }
    using gpu = new S4Block({ ...options, device: 'cuda' })
    using cpu = new S4Block({ ...options, device: 'cpu' })
    const u = noisy([2, 90, 8])
    for (let i = 0; i < 3; i++) {
      const [a, b] = [gpu, cpu].map((block) => [...block.forward(u, { training: true }).y.data])
      t.deepEqual(
        a?.map((y) => y === 0),
        b?.map((y) => y === 0),
        `forward ${i}`,
      )
    }
    const gradients = async (device: 'cpu' | 'cuda') => {
      using m = await model({ dropout: 0.5, device })
      await m.accumulate(batch())
      m.zeroGrad()
      await m.accumulate(batch())
      return m.parameters().find((p) => p.name === 'decoder.weight')!.grad
    }
    close(t, 'gradients of the second batch', await gradients('cuda'), await gradients('cpu'), 1e-4)
  },
)

gpuTest('checkpoints move between the devices, both ways, with the optimiser', async (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 's4-')), 'm.safetensors')
  const batches = [batch(2, 80, 3), batch(2, 80, 4)]
  const x = noisy([2, 60, 1], 9)
  for (const [from, to] of [
    ['cuda', 'cpu'],
    ['cpu', 'cuda'],
  ] as const) {
    using first = await model({ dropout: 0.1, device: from })
    await drain(first.train(batches, { epochs: 3, seed: 5 }))
    await first.save(path)
    using moved = await SequenceModel.load(path, { device: to })
    using stayed = await SequenceModel.load(path, { device: from })
    t.true(moved.device.startsWith(to))
    for (const [i, p] of moved.parameters().entries())
      t.deepEqual(p.value.data, first.parameters()[i]!.value.data, `${p.name} moves bit for bit`)
    close(t, `${from} → ${to} outputs`, await moved.predict(x), await first.predict(x), 1e-5)
    const more = async (m: SequenceModel) => {
      const losses: number[] = []
      for await (const e of m.train(batches, { epochs: 6, resume: true }))
        if (e.type === 'step') losses.push(e.loss)
      return losses
    }
    const [a, b, c] = [await more(moved), await more(first), await more(stayed)]
    t.deepEqual(c, b, 'on the same device the same bits')
    close(t, `${from} → ${to} training goes on`, a, b, 1e-4)
  }
})

/** Header and bytes of a safetensors file: the order of what its header says means nothing. */
function contents(file: Uint8Array): [unknown, number[]] {
  const size = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true))
  return [JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + size))), [...file.subarray(8 + size)]]
}

gpuTest('streams: the same weights and the same state on either device', async (t) => {
  for (const norm of ['layer', 'batch'] as const) {
    using gpu = await model({ device: 'cuda', layers: 3, norm })
    using cpu = await SequenceModel.fromBytes(await gpu.toBytes(), { device: 'cpu' })
    using a = gpu.stream({ batch: 2 })
    using b = cpu.stream({ batch: 2 })
    for (const n of [1, 1, 7, 64, 300]) {
      const x = noisy([2, n, 1], n)
      close(t, `${norm} push of ${n}`, a.push(x), b.push(x), 1e-5)
    }
    const saved = a.save()
    b.restore(saved)
    a.restore(b.save())
    t.deepEqual(contents(a.save()), contents(saved), 'a state moves bit for bit')
    const x = noisy([2, 20, 1], 77)
    close(t, `${norm} after the move`, b.push(x), a.push(x), 1e-5)
  }
})

gpuTest('several models share the GPU, each in its own queue', async (t) => {
  const models = await Promise.all([1, 2, 3].map((seed) => model({ device: 'cuda', seed, features: 16 })))
  const x = noisy([2, 300, 1])
  const alone: number[][] = []
  for (const m of models) alone.push([...(await m.predict(x)).data])
  const together = await Promise.all(models.map((m) => m.predict(x)))
  t.deepEqual(
    together.map((y) => [...y.data]),
    alone,
  )
  for (const m of models) m.dispose()
})

gpuTest('a steady step asks for no memory and waits once, for what it gives', async (t) => {
  using m = await model({ device: 'cuda', features: 32, state: 32 })
  // Large enough for the page-locked way, small enough for the direct one.
  for (const data of [batch(2, 50), batch(8, 4000)]) {
    const train = (n: number) =>
      drain(m.train(Array(n).fill(data), { epochs: m.progress.epochs + 1, resume: m.progress.epochs > 0 }))
    await train(5)
    const before = m.counters()
    await train(10)
    const after = m.counters()
    t.is(after.allocations - before.allocations, 0, 'memory in training')
    t.is(after.hostWaits - before.hostWaits, 10, 'one wait an update: its loss')
  }
  // What is between two reads, the whole forward and backward, waits for nothing.
  for (let i = 0; i < 2; i++) await m.accumulate(batch(2, 50))
  const begun = m.counters()
  for (let i = 0; i < 10; i++) await m.accumulate(batch(2, 50, i))
  t.deepEqual(m.counters(), begun, 'gradients are enqueued')
  for (const size of [1, 200]) {
    using stream = m.stream({ batch: 2 })
    for (let i = 0; i < 3; i++) stream.push(noisy([2, size, 1], i))
    const before = m.counters()
    for (let i = 0; i < 20; i++) stream.push(noisy([2, size, 1], i))
    const after = m.counters()
    t.is(after.allocations - before.allocations, 0, 'memory in a stream')
    t.is(after.hostWaits - before.hostWaits, 20, 'one wait a push: its output')
  }
})
