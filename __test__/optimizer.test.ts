/** AdamW over layers and parameters of a user's own, and layers and optimisers as files. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  AdamW,
  readSafetensors,
  S4Block,
  S4Layer,
  SequenceModel,
  writeSafetensors,
  type OwnParameter,
} from 's4-node'
import { model, noisy, refuses, rejects } from './helpers.js'

const device = 'cpu'
const folder = mkdtempSync(join(tmpdir(), 's4-optimizer-'))
const sizes = { features: 3, state: 4, device, seed: 5 } as const
const u = noisy([2, 20, 3], 1)
const dy = noisy([2, 20, 3], 2)

/** A layer with gradients. */
function learned(seed = 5): S4Layer {
  const layer = new S4Layer({ ...sizes, seed })
  layer.forward(u)
  layer.backward(dy)
  return layer
}
const valuesOf = (layer: S4Layer | S4Block) => layer.parameters().map(({ value }) => Array.from(value.data))
const norm = (xs: ArrayLike<number>[]) =>
  Math.sqrt(xs.reduce((s, x) => Array.from(x).reduce((t, g) => t + g * g, s), 0))

test('a parameter of one’s own is updated as PyTorch’s AdamW does', (t) => {
  // torch.optim.AdamW([w], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01) of PyTorch 2.15 in float64
  const w = { name: 'w', data: Float64Array.of(1, -2, 0.5), grad: new Float64Array(3) }
  using optimizer = new AdamW([w], { lr: 0.1, weightDecay: 0.01 })
  const steps = [
    { grad: [0.1, -0.2, 0.3], want: [0.8990000099999991, -1.8980000049999997, 0.39950000333333324] },
    { grad: [-1, 0.5, 0], want: [0.9654817296897057, -1.9403235302122328, 0.3320946810758212] },
    { grad: [0.01, 0.02, -4], want: [1.015963225535165, -1.9749152040910334, 0.3915954449752982] },
    { grad: [2, 2, 2], want: [0.9819186901232043, -2.0368336499219826, 0.4091200552129549] },
  ]
  for (const { grad, want } of steps) {
    w.grad.set(grad)
    const norms = optimizer.step()
    t.true(Math.abs((norms[0] as number) - norm([grad])) < 1e-12)
    for (const [i, x] of w.data.entries())
      t.true(Math.abs(x - (want?.[i] as number)) < 1e-12, `${x} ${want?.[i]}`)
  }
})

test('gradients are clipped by their norm over layers and parameters together', (t) => {
  const layer = learned()
  const own = { name: 'own', data: Float32Array.of(1, 1), grad: Float32Array.of(30, 40) }
  const layerNorm = norm(layer.parameters().map(({ grad }) => grad.data))
  // With so large an eps an update is all but proportional to the gradient: value − lr·g·c/eps.
  const options = { lr: 1e3, ssmLr: 0, weightDecay: 0, beta1: 0, beta2: 0, eps: 1e6, clip: 1 }
  const before = valuesOf(layer)
  const grads = layer.parameters().map(({ grad, group }) => ({ grad: Array.from(grad.data), group }))
  using optimizer = new AdamW([layer, own], options)
  const norms = optimizer.step()
  t.true(Math.abs((norms[0] as number) / layerNorm - 1) < 1e-5)
  t.is(norms[1], 50)
  const scale = 1 / Math.hypot(layerNorm, 50)
  t.true(Math.abs((own.data[0] as number) - (1 - 1e-3 * 30 * scale)) < 1e-6)
  t.true(scale < 0.02)
  for (const [p, values] of valuesOf(layer).entries()) {
    const { grad, group } = grads[p] as (typeof grads)[number]
    for (const [i, x] of values.entries()) {
      const moved = group === 'ssm' ? 0 : -1e-3 * (grad[i] as number) * scale
      t.true(Math.abs(x - ((before[p]?.[i] as number) + moved)) < 1e-6)
    }
  }
})

test('groups name parameters of every layer, of one layer, and one’s own', (t) => {
  const [a, b] = [learned(), learned(6)]
  const own = { name: 'head', data: Float32Array.of(1), grad: Float32Array.of(1) }
  const before = [valuesOf(a), valuesOf(b)]
  using optimizer = new AdamW([a, b, own], {
    lr: 0.01,
    ssmLr: 0.001,
    groups: [
      { name: '1.*', freeze: true },
      { name: 'kernel.inv_dt', freeze: true },
      { name: 'head', lr: 0.5, weightDecay: 0 },
    ],
  })
  optimizer.step()
  t.deepEqual(valuesOf(b), before[1], 'the second layer is frozen')
  for (const [p, { name, value }] of a.parameters().entries())
    if (name === 'kernel.inv_dt') t.deepEqual(Array.from(value.data), before[0]?.[p])
    else t.notDeepEqual(Array.from(value.data), before[0]?.[p], name)
  t.true(Math.abs((own.data[0] as number) - 0.5) < 1e-6)
  refuses(t, 'ERR_S4_VALUE', () => new AdamW([a, own], { groups: [{ name: 'tail', lr: 1 }] }))
})

test('a gradient that is not finite updates nothing at all', (t) => {
  const layer = learned()
  const own = { name: 'own', data: Float32Array.of(1), grad: Float32Array.of(NaN) }
  const before = valuesOf(layer)
  using optimizer = new AdamW([layer, own])
  const error = refuses(t, 'ERR_S4_NONFINITE', () => optimizer.step())
  t.regex(error.message, /own/)
  t.deepEqual([valuesOf(layer), own.data[0]], [before, 1])
  own.grad[0] = 1
  optimizer.step()
  t.notDeepEqual(valuesOf(layer), before)
})

test('parameters of one’s own are refused by what is wrong with them, at once and at a step', (t) => {
  const layer = learned()
  const good = (): { name: string; data: Float32Array; grad: Float32Array } => ({
    name: 'w',
    data: new Float32Array(2),
    grad: new Float32Array(2),
  })
  for (const [code, wrong] of [
    ['ERR_S4_VALUE', { ...good(), name: '' }],
    ['ERR_S4_VALUE', { ...good(), name: '0.D' }],
    ['ERR_S4_VALUE', { ...good(), name: 7 }],
    ['ERR_S4_DTYPE', { ...good(), data: [1, 2] }],
    ['ERR_S4_DTYPE', { ...good(), data: new Float32Array(0), grad: new Float32Array(0) }],
    ['ERR_S4_DTYPE', { ...good(), grad: new Float64Array(2) }],
    ['ERR_S4_SHAPE', { ...good(), grad: new Float32Array(3) }],
  ] as const)
    refuses(t, code, () => new AdamW([layer, wrong as unknown as OwnParameter]))
  refuses(t, 'ERR_S4_VALUE', () => new AdamW([good(), good()]))
  const changing = good()
  using optimizer = new AdamW([layer, changing])
  const before = valuesOf(layer)
  changing.grad = new Float32Array(1)
  refuses(t, 'ERR_S4_SHAPE', () => optimizer.step())
  changing.data = changing.grad
  refuses(t, 'ERR_S4_SHAPE', () => optimizer.step())
  t.deepEqual(valuesOf(layer), before)
})

for (const kind of ['S4Layer', 'S4Block'] as const) {
  test(`a saved ${kind} with its optimiser goes on bit for bit`, async (t) => {
    const make = (): S4Layer | S4Block =>
      kind === 'S4Layer'
        ? new S4Layer({ ...sizes, mode: 's4d', bidirectional: true })
        : new S4Block({ ...sizes, norm: 'batch', glu: true, dropout: 0 })
    const [file, moments] = [join(folder, `${kind}.safetensors`), join(folder, `${kind}.adamw`)]
    const own = { name: 'own', data: Float64Array.of(3), grad: Float64Array.of(0.25) }
    const update = (layer: S4Layer | S4Block, optimizer: AdamW) => {
      layer.zeroGrad()
      layer.forward(u, { training: true })
      layer.backward(dy)
      optimizer.step(0.5)
    }
    const whole = make()
    const optimizer = new AdamW([whole, own], { lr: 0.02 })
    for (let i = 0; i < 3; i++) update(whole, optimizer)
    await whole.save(file)
    await optimizer.save(moments)
    const held = own.data[0]
    for (let i = 0; i < 2; i++) update(whole, optimizer)

    const loaded =
      kind === 'S4Layer' ? await S4Layer.load(file, { device }) : await S4Block.load(file, { device })
    t.deepEqual(loaded.config, whole.config)
    const again = { name: 'own', data: Float64Array.of(held as number), grad: own.grad }
    const restored = new AdamW([loaded, again], { lr: 0.02 })
    await restored.restore(moments)
    for (let i = 0; i < 2; i++) update(loaded, restored)
    t.deepEqual(valuesOf(loaded), valuesOf(whole))
    t.deepEqual(loaded.forward(u).y, whole.forward(u).y)
    t.is(again.data[0], own.data[0])

    await loaded.save(`${file}.2`)
    await whole.save(`${file}.3`)
    const hash = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
    t.is(hash(`${file}.2`), hash(`${file}.3`))
  })
}

test('files of another kind and of other parameters are refused, and nothing changes', async (t) => {
  const layer = learned()
  const [file, moments] = [join(folder, 'layer'), join(folder, 'moments')]
  await layer.save(file)
  using optimizer = new AdamW([layer])
  optimizer.step()
  await optimizer.save(moments)
  const network = await model({ device })
  const whole = join(folder, 'model')
  await network.save(whole)
  await rejects(t, 'ERR_S4_CHECKPOINT', S4Block.load(file, { device }))
  await rejects(t, 'ERR_S4_CHECKPOINT', S4Layer.load(whole, { device }))
  await rejects(t, 'ERR_S4_CHECKPOINT', S4Layer.load(moments, { device }))
  const error = await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.load(file, { device }))
  t.regex(error.message, /S4Layer/)
  await rejects(t, 'ERR_S4_CHECKPOINT', optimizer.restore(file))
  await rejects(t, 'ERR_S4_CHECKPOINT', S4Layer.load(join(folder, 'none'), { device }))
  using wider = new AdamW([new S4Layer({ ...sizes, features: 4 })])
  await rejects(t, 'ERR_S4_CHECKPOINT', wider.restore(moments))

  const { tensors, metadata } = readSafetensors(moments)
  const damaged = async (changed: object, meta = metadata) => {
    writeSafetensors(join(folder, 'damaged'), { ...tensors, ...changed } as never, meta)
    await rejects(t, 'ERR_S4_CHECKPOINT', optimizer.restore(join(folder, 'damaged')))
  }
  const before = await saved(optimizer)
  const last = Object.keys(tensors).at(-1) as string
  const negative = { ...tensors['0.D.v'], data: Float32Array.of(-1, 1, 1) }
  await damaged({ '0.D.v': { ...negative, shape: tensors['0.D.v']?.shape } })
  await damaged({ extra: { data: [1], shape: [1] } })
  await damaged({ [last]: { data: [1], shape: [1] } })
  await damaged({}, { ...metadata, step: '-1' })
  await damaged({}, { ...metadata, step: '1e3' })
  t.deepEqual(await saved(optimizer), before)
})

async function saved(optimizer: AdamW): Promise<object> {
  const file = join(folder, 'state')
  await optimizer.save(file)
  return readSafetensors(file)
}
