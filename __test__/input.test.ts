/** Every kind of bad input gets its code before any work, and loses nothing. */
import { writeFileSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  devices,
  fftConv,
  hippo,
  nplr,
  readCsv,
  readSafetensors,
  S4Block,
  S4Layer,
  SequenceModel,
  AdamW,
  windows,
  writeSafetensors,
  type TensorLike,
} from '../index.js'
import { batch, drain, model, noisy, refuses, rejects, small } from './helpers.js'

const layer = () => new S4Layer({ features: 4, state: 8 })

test('shapes', (t) => {
  using l = layer()
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(noisy([2, 5, 3])))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(noisy([2, 5])))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward({ data: new Float32Array(7), shape: [1, 2, 4] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward({ data: new Float32Array(0), shape: [0, 5, 4] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward({ data: new Float32Array(0), shape: [1, 0, 4] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward({ data: new Float32Array(4), shape: [-1, -1, 4] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward({ data: new Float32Array(4), shape: [2 ** 40, 2 ** 40, 4] }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(undefined as never))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(noisy([2, 5, 4]), { state: noisy([1, 4, 4, 2]) }))
  refuses(t, 'ERR_S4_SHAPE', () => l.forward(noisy([2, 5, 4]), { lengths: [5] }))
  l.forward(noisy([2, 5, 4]))
  refuses(t, 'ERR_S4_SHAPE', () => l.backward(noisy([2, 4, 4])))
  refuses(t, 'ERR_S4_SHAPE', () => l.step(noisy([2, 4]), l.initialState(1)))
  refuses(t, 'ERR_S4_SHAPE', () => l.setParameter('D', noisy([5])))
  t.notThrows(() => l.forward(noisy([2, 5, 4])))
})

test('dtypes', (t) => {
  using l = layer()
  refuses(t, 'ERR_S4_DTYPE', () => l.forward({ data: new BigInt64Array(20), shape: [1, 5, 4] }))
  refuses(t, 'ERR_S4_DTYPE', () => l.forward({ data: ['a', 'b', 'c', 'd'] as never, shape: [1, 1, 4] }))
  refuses(t, 'ERR_S4_DTYPE', () => l.forward({ data: 'text' as never, shape: [1, 1, 4] }))
  for (const bad of [null, undefined, '2', 2n, true, {}, []]) {
    const data = [1, 2, 3, bad] as number[]
    refuses(t, 'ERR_S4_DTYPE', () => l.forward({ data, shape: [1, 1, 4] }))
    // Whole numbers may be 64-bit ones.
    if (bad !== 2n) refuses(t, 'ERR_S4_DTYPE', () => l.forward(noisy([4, 5, 4]), { lengths: data }))
  }
  const ints = l.forward({ data: Int16Array.of(1, 2, 3, 4), shape: [1, 1, 4] })
  t.deepEqual(ints.y.data, l.forward({ data: [1, 2, 3, 4], shape: [1, 1, 4] }).y.data)
  refuses(t, 'ERR_S4_DTYPE', () => new S4Layer({ features: 4, dtype: 'f16' as never }))
  refuses(t, 'ERR_S4_DTYPE', () => l.forward(noisy([1, 5, 4]), { lengths: [2.5] }))
})

test('values', (t) => {
  using l = layer()
  for (const bad of [NaN, Infinity, -Infinity]) {
    const u = noisy([2, 5, 4])
    u.data[7] = bad
    refuses(t, 'ERR_S4_VALUE', () => l.forward(u))
    refuses(t, 'ERR_S4_VALUE', () => l.setParameter('D', { data: [bad, 1, 1, 1], shape: [1, 4] }))
    refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([2, 5, 4]), { rate: bad }))
  }
  t.true(l.parameters().every((p) => p.value.data.every((x) => Number.isFinite(x))))
  refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([2, 5, 4]), { rate: 0 }))
  for (const flag of ['save', 'training', 'finalState'])
    refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([2, 5, 4]), { [flag]: 1 }))
  refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([2, 5, 4]), { lengths: [6, 1] }))
  refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([2, 5, 4]), { lengths: [0, 1] }))
  refuses(t, 'ERR_S4_VALUE', () => l.kernel(0))
  refuses(t, 'ERR_S4_VALUE', () => l.setParameter('E', noisy([4])))
  for (const interval of [-1, null, [NaN]])
    refuses(t, 'ERR_S4_VALUE', () =>
      l.step(noisy([1, 4]), l.initialState(1), { interval: interval as number }),
    )
})

test('options', async (t) => {
  for (const o of [
    { state: 7 },
    { state: 0 },
    { state: -2 },
    { state: 1e9 },
    { channels: 0 },
    { nSsm: 3 },
    { mode: 's5' },
    { init: 'x' },
    { dtMin: -1 },
    { dtMin: 1, dtMax: 0.1 },
    { colour: 1 },
    { discretization: 'zoh' },
    { rank: 99 },
    { truncate: 0 },
    { dtMin: NaN },
  ]) {
    refuses(t, 'ERR_S4_VALUE', () => new S4Layer({ features: 4, ...(o as object) }))
  }
  for (const features of [0, -4, 2.5, 1e12, '4'])
    refuses(t, 'ERR_S4_VALUE', () => new S4Layer({ features: features as number }))
  refuses(t, 'ERR_S4_VALUE', () => new S4Layer({ features: 4, device: 'tpu' as never }))
  refuses(t, 'ERR_S4_VALUE', () => new S4Layer({ features: 4, threads: 0 }))
  refuses(t, 'ERR_S4_VALUE', () => new S4Layer(null as never))
  refuses(t, 'ERR_S4_VALUE', () => new S4Block({ features: 4, dropout: 1 }))
  refuses(t, 'ERR_S4_VALUE', () => new S4Block({ features: 4, norm: 'group' as never }))
  using l = layer()
  refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([1, 5, 4]), { algorithm: 'dft' as never }))
  refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([1, 5, 4]), { colour: 1 } as never))
  refuses(t, 'ERR_S4_VALUE', () => new AdamW([l], { lr: -1 }))
  for (const lr of [NaN, '1', 1n]) refuses(t, 'ERR_S4_VALUE', () => new AdamW([l], { lr: lr as number }))
  using m = await model()
  for (const layers of [[m], [l, null], [undefined], [], {}, null, l])
    refuses(t, 'ERR_S4_VALUE', () => new AdamW(layers as never))
  for (const bad of [null, 'fft', 5, []])
    refuses(t, 'ERR_S4_VALUE', () => l.forward(noisy([1, 5, 4]), bad as never))
  await rejects(t, 'ERR_S4_VALUE', m.fit([batch()], { colour: 1 } as never))
  await rejects(t, 'ERR_S4_VALUE', m.fit([batch()], null as never))
  using block = new S4Block({ features: 4, state: 8, norm: 'none', residual: false })
  const official: Record<string, TensorLike> = {}
  for (const p of block.parameters()) official[p.name] = p.value
  S4Block.fromStateDict(official).dispose()
  refuses(t, 'ERR_S4_VALUE', () => S4Block.fromStateDict(official, {}, { colour: 1 } as never))
  refuses(t, 'ERR_S4_VALUE', () => S4Block.fromStateDict(official, {}, { algorithm: 'dft' as never }))
  for (const bad of [
    { data: ['1'], shape: [1] },
    { data: undefined, shape: [] },
    null,
    { data: [1, null], shape: [2] },
  ])
    t.throws(() => S4Block.fromStateDict({ ...official, 'layer.D': bad as never }), { name: 'S4Error' })
  for (const o of [
    { layers: 0 },
    { output: 0 },
    { encoder: 'conv' },
    { loss: 'l1' },
    { pooling: 'median' },
    { encoder: 'embedding' },
    { features: 2 ** 30 },
  ]) {
    await rejects(t, 'ERR_S4_VALUE', SequenceModel.create({ ...small, ...(o as object) }))
  }
  for (const kind of ['x', 5, undefined]) {
    refuses(t, 'ERR_S4_VALUE', () => hippo(kind as never, 4))
    refuses(t, 'ERR_S4_VALUE', () => nplr(kind as never, 4))
  }
  refuses(t, 'ERR_S4_VALUE', () => nplr('legs', 3))
})

test('former names of options are refused by their present ones', async (t) => {
  const old = { features: 4, mode: 's4d', disc: 'bilinear' } as never
  for (const make of [() => new S4Layer(old), () => new S4Block(old)]) {
    const error = refuses(t, 'ERR_S4_VALUE', make)
    t.regex(error.message, /'discretization'.*former name 'disc'/)
  }
  await rejects(t, 'ERR_S4_VALUE', SequenceModel.create(old))
  using m = await model()
  for (const schedule of ['warmupCosine', () => 1, null, {}]) {
    const error = await rejects(t, 'ERR_S4_VALUE', m.fit([batch()], { schedule: schedule as never }))
    t.regex(error.message, /schedules\.warmupCosine\(\)/)
  }
})

test('what a layer cannot do', (t) => {
  using two = new S4Layer({ features: 4, state: 8, bidirectional: true })
  refuses(t, 'ERR_S4_UNSUPPORTED', () => two.forward(noisy([1, 5, 4]), { state: noisy([1, 4, 4, 2]) }))
  refuses(t, 'ERR_S4_UNSUPPORTED', () => two.step(noisy([1, 4]), noisy([1, 4, 4, 2])))
  using short = new S4Layer({ features: 4, state: 8, truncate: 3 })
  refuses(t, 'ERR_S4_UNSUPPORTED', () => short.step(noisy([1, 4]), noisy([1, 4, 4, 2])))
  refuses(t, 'ERR_S4_UNSUPPORTED', () => short.forward(noisy([1, 5, 4]), { algorithm: 'chunk' }))
})

test('precision on the CPU is the highest, whatever is asked', (t) => {
  const y = (['highest', 'high', 'bf16'] as const).map((precision) => {
    using l = new S4Layer({ features: 4, state: 8, device: 'cpu', precision })
    return [...l.forward(noisy([2, 70, 4])).y.data]
  })
  t.deepEqual(y[1], y[0])
  t.deepEqual(y[2], y[0])
  refuses(t, 'ERR_S4_VALUE', () => new S4Layer({ features: 4, precision: 'fp8' as never }))
  for (const memoryLimit of [0, -1, 1.5, NaN, '1G'])
    refuses(t, 'ERR_S4_VALUE', () => new S4Layer({ features: 4, memoryLimit: memoryLimit as never }))
})

test('the CUDA device without a GPU says why', (t) => {
  if (devices().some((d) => d.kind === 'cuda')) {
    t.log('skipped: this machine has a GPU')
    t.pass()
    return
  }
  const error = refuses(t, 'ERR_S4_DEVICE', () => new S4Layer({ features: 4, device: 'cuda' }))
  t.regex(error.got, /NVIDIA|GPU|kernels/)
})

test('training data', async (t) => {
  using m = await model()
  const good = batch()
  const before = m.parameters().map((p) => [...p.value.data])
  const bad: [Parameters<typeof rejects>[1], object][] = [
    ['ERR_S4_SHAPE', { ...good, input: noisy([2, 50, 2]) }],
    ['ERR_S4_SHAPE', { ...good, target: noisy([2, 49, 1]) }],
    ['ERR_S4_SHAPE', { ...good, lengths: [1] }],
    ['ERR_S4_VALUE', { ...good, lengths: [51, 1] }],
    ['ERR_S4_VALUE', { ...good, input: { data: new Float32Array(100).fill(NaN), shape: [2, 50, 1] } }],
    ['ERR_S4_VALUE', { ...good, target: { data: new Float32Array(100).fill(Infinity), shape: [2, 50, 1] } }],
    ['ERR_S4_DATA', { input: good.input }],
    ['ERR_S4_DATA', { ...good, target: 3 }],
    ['ERR_S4_SHAPE', { ...good, weights: null }],
    ['ERR_S4_SHAPE', { ...good, lengths: null }],
  ]
  for (const [code, b] of bad) await rejects(t, code, drain(m.train([b as never], { epochs: 1 })))
  await rejects(t, 'ERR_S4_DATA', drain(m.train([], { epochs: 1 })))
  await rejects(t, 'ERR_S4_DATA', drain(m.train(5 as never, { epochs: 1 })))
  await rejects(t, 'ERR_S4_VALUE', drain(m.train([good], { epochs: 0 })))
  await rejects(t, 'ERR_S4_VALUE', drain(m.train([good], { lr: NaN })))
  await rejects(t, 'ERR_S4_VALUE', drain(m.train([good], { momentum: 1 } as never)))
  await rejects(t, 'ERR_S4_VALUE', drain(m.train([good], { schedule: { kind: 'cyclic' } as never })))
  t.deepEqual(
    m.parameters().map((p) => [...p.value.data]),
    before,
    'nothing was lost',
  )
  t.is(await drain(m.train([good])), 2)
  t.is((await m.fit([good])).length, 1)
  using tokens = await model({
    encoder: 'embedding',
    vocabulary: 5,
    output: 3,
    loss: 'crossEntropy',
    pooling: 'mean',
  })
  await rejects(t, 'ERR_S4_VALUE', tokens.predict({ data: [0, 1, 5], shape: [1, 3] }))
  await rejects(
    t,
    'ERR_S4_VALUE',
    drain(tokens.train([{ input: { data: [0, 1, 2], shape: [1, 3] }, target: [3] }], {})),
  )
})

test('files', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 's4-'))
  const path = join(folder, 'a.csv')
  writeFileSync(path, 't,x\n1,2\n2,\n3,abc\n')
  refuses(t, 'ERR_S4_DATA', () => readCsv(path, { column: 'x' }))
  refuses(t, 'ERR_S4_DATA', () => readCsv(path, { column: 'y' }))
  refuses(t, 'ERR_S4_DATA', () => readCsv(join(folder, 'none.csv')))
  writeFileSync(path, 't,x\n1,2\n2,\n3,4\n')
  refuses(t, 'ERR_S4_DATA', () => readCsv(path, { column: 'x' }))
  t.deepEqual([...readCsv(path, { column: 'x', gaps: 'linear' })], [2, 3, 4])
  writeFileSync(path, '0,2020,2020b\n1,2,3\n4,5,6\n')
  t.deepEqual([...readCsv(path, { column: '2020' })], [2, 5])
  t.deepEqual([...readCsv(path, { column: '0' })], [1, 4])
  refuses(t, 'ERR_S4_DATA', () => readCsv(path, { column: '1' }))
  refuses(t, 'ERR_S4_DATA', () => readCsv(path, { column: '' }))
  refuses(t, 'ERR_S4_DATA', () => readCsv(path, { column: 3 }))
  for (const column of [-1, 0.5, NaN, null, {}])
    refuses(t, 'ERR_S4_VALUE', () => readCsv(path, { column: column as never }))
  writeFileSync(path, 't,x,2020b\n1,2,3\n4,5,6\n')
  t.deepEqual([...readCsv(path, { column: 1 })], [2, 5])
  t.deepEqual([...readCsv(path)], [3, 6])
  writeFileSync(path, 't,x\n1,2\n')
  refuses(t, 'ERR_S4_CHECKPOINT', () => readSafetensors(path))
  refuses(t, 'ERR_S4_CHECKPOINT', () => readSafetensors(join(folder, 'none')))
  for (const data of [
    [1, null],
    [1, 2n],
  ])
    refuses(t, 'ERR_S4_DTYPE', () => writeSafetensors(path, { a: { data: data as number[], shape: [2] } }))
  refuses(t, 'ERR_S4_SHAPE', () => writeSafetensors(path, { a: null as never }))
  const scalar = join(folder, 'scalar')
  writeSafetensors(scalar, { a: { data: [3], shape: [] } })
  t.deepEqual(readSafetensors(scalar).tensors, { a: { data: Float32Array.of(3), shape: [] } })
  await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.load(path))
  await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.load(join(folder, 'none')))
  refuses(t, 'ERR_S4_CHECKPOINT', () => S4Block.fromStateDict(path, {}))
})

test('convolution', (t) => {
  refuses(t, 'ERR_S4_SHAPE', () => fftConv(noisy([1, 4, 2]), noisy([1, 3, 4])))
  refuses(t, 'ERR_S4_SHAPE', () => fftConv(noisy([1, 4, 2]), noisy([1, 2, 5])))
  refuses(t, 'ERR_S4_SHAPE', () => fftConv(noisy([1, 4, 2]), noisy([1, 2, 4]), noisy([2, 2])))
  refuses(t, 'ERR_S4_VALUE', () =>
    fftConv(noisy([1, 4, 2]), { data: new Float32Array(8).fill(NaN), shape: [1, 2, 4] }),
  )
  for (const options of [{ twosided: true }, { twoSided: 1 }, null])
    refuses(t, 'ERR_S4_VALUE', () => fftConv(noisy([1, 4, 2]), noisy([2, 2, 4]), undefined, options as never))
  const y = fftConv(
    { data: [1, 2, 3], shape: [1, 3, 1] },
    { data: [1, 10], shape: [1, 1, 2] },
    { data: [100], shape: [1, 1] },
  )
  t.deepEqual(
    [...y.data].map((x) => Math.round(x)),
    [101, 212, 323],
  )
})

test('windows of a series', (t) => {
  for (const options of [
    {},
    { length: 0 },
    { length: 2, stride: 0.5 },
    { length: 2, step: 1 },
    undefined,
    null,
  ])
    refuses(t, 'ERR_S4_VALUE', () => windows([1, 2, 3, 4], options as never))
  for (const series of [[1, '2', 3], [1, null, 3], new BigInt64Array(4), 'text', null, 5])
    refuses(t, 'ERR_S4_DTYPE', () => windows(series as never, { length: 1 }))
  refuses(t, 'ERR_S4_DATA', () => windows([1, 2, 3], { length: 3 }))
})
