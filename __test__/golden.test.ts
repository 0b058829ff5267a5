/** The golden files through the public API: blocks with their gradients, kernels, 20 training updates, streams of the trained model. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readSafetensors, S4Block, S4Layer, SequenceModel, type FileTensor } from '../index.js'
import { f64, relative, root } from './helpers.js'

const folder = join(root, '__test__', 'fixtures', 'golden')
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.golden.safetensors'))
  .map((file) => file.replace('.golden.safetensors', ''))

interface Golden {
  config: Record<string, unknown>
  get(name: string): FileTensor
  names: string[]
}

function golden(name: string): Golden {
  const { tensors, metadata } = readSafetensors(join(folder, `${name}.golden.safetensors`))
  return {
    config: JSON.parse(metadata['config'] ?? '{}') as Record<string, unknown>,
    names: Object.keys(tensors),
    get(what) {
      const found = tensors[what]
      if (found === undefined) throw new Error(`${name} has no ${what}`)
      return found
    },
  }
}

/** (batch, a, b) → (batch, b, a): golden files keep time last. */
function swapLast({ data, shape }: { data: ArrayLike<number>; shape: readonly number[] }) {
  const [batch, rows, columns] = shape as [number, number, number]
  const out = new Float64Array(batch * rows * columns)
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++)
        out[(b * columns + j) * rows + i] = data[(b * rows + i) * columns + j] as number
  return { data: out, shape: [batch, columns, rows] }
}

const blocks = names.filter((name) => existsSync(join(folder, `${name}.ckpt.safetensors`)))
test('all block cases are here', (t) => t.true(blocks.length >= 24))

for (const name of blocks) {
  test(`${name}: official block, outputs and gradients`, (t) => {
    const file = golden(name)
    // C recovered from C̃ is less sharp where modes are near marginal (README of the golden files).
    const soft = /fourier|hippo/.test(name)
    const { L, l_max: longest } = file.config as { L: number; l_max: number | null }
    const config = { ...file.config, ...(longest !== null && longest < L ? { truncate: longest } : {}) }
    for (const [dtype, outputs, gradients] of [
      ['f32', 1e-5, 1e-4],
      ['f64', soft ? 1e-9 : 1e-10, 1e-8],
    ] as const) {
      if (dtype === 'f64' && !f64(t)) continue
      using block = S4Block.fromStateDict(join(folder, `${name}.ckpt.safetensors`), config, { dtype })
      const check = (what: string, got: ArrayLike<number>, tolerance: number) => {
        const error = relative(got, file.get(what).data)
        t.true(error <= tolerance, `${dtype} ${what}: ${error} > ${tolerance}`)
      }
      const { y } = block.forward(swapLast(file.get('u')))
      check('y', swapLast(y).data, outputs)
      const { du } = block.backward(swapLast(file.get('g')))
      check('grad.u', swapLast(du).data, gradients)
      for (const p of block.parameters()) check(`grad.${p.name}`, p.grad.data, gradients)
    }
  })
}

test('long kernels', (t) => {
  const longs = names.filter((n) => n.startsWith('long_'))
  t.true(longs.length >= 2)
  for (const name of longs) {
    const file = golden(name)
    const { H, L, d_state: state } = file.config as { H: number; L: number; d_state: number }
    using layer = new S4Layer({ features: H, state, dtTransform: 'exp' })
    for (const p of layer.parameters())
      if (p.name !== 'D') layer.setParameter(p.name, file.get(p.name.replace('kernel.', 'param.')))
    const error = relative(layer.kernel(L).data, file.get('kernel').data)
    t.true(error <= 1e-5, `${name}: ${error}`)
  }
})

for (const name of names.filter((n) => n.startsWith('train_'))) {
  test(`${name}: 20 updates`, async (t) => {
    const file = golden(name)
    const c = file.config as Record<'H' | 'd_state' | 'depth' | 'classes' | 'd_input' | 'steps', number>
    for (const [dtype, tolerance] of [
      ['f32', 1e-4],
      ['f64', 1e-8],
    ] as const) {
      if (dtype === 'f64' && !f64(t)) continue
      using model = await SequenceModel.create({
        input: c.d_input,
        output: c.classes,
        features: c.H,
        layers: c.depth,
        state: c.d_state,
        mode: file.config['mode'] === 'diag' ? 's4d' : 's4',
        dtTransform: 'exp',
        pooling: 'mean',
        finalNorm: false,
        dtype,
      })
      for (const p of model.parameters()) model.setParameter(p.name, file.get(`init.${p.name}`))
      const batch = { input: file.get('u'), target: Array.from(file.get('labels').data) }
      await model.accumulate(batch)
      for (const p of model.parameters()) {
        const error = relative(p.grad.data, file.get(`grad0.${p.name}`).data)
        t.true(error <= tolerance, `${dtype} grad0.${p.name}: ${error}`)
      }
      model.zeroGrad()
      const losses: number[] = []
      const data = Array.from({ length: c.steps }, () => batch)
      for await (const e of model.train(data, { lr: 4e-3, ssmLr: 1e-3, weightDecay: 0.01 }))
        if (e.type === 'step') losses.push(e.loss)
      const error = relative(losses, file.get('losses').data)
      t.true(error <= tolerance, `${dtype} losses: ${error}`)
      if (dtype === 'f64') {
        for (const p of model.parameters()) {
          const off = relative(p.value.data, file.get(`final.${p.name}`).data)
          t.true(off <= 1e-6, `final.${p.name}: ${off}`)
        }
      }
    }
  })
}
