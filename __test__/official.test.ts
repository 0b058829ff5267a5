/** Checkpoints of the official PyTorch code through the public API: whole models and single blocks, read and written back. */
import { readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  readSafetensors,
  S4Block,
  SequenceModel,
  writeSafetensors,
  type FileTensor,
  type OfficialConfig,
  type OfficialModelConfig,
} from '../index.js'
import { f64, refuses, rejects, relative, root } from './helpers.js'
import { dict, savedByTorch, text } from './torch-files.js'

const fixtures = join(root, '__test__', 'fixtures')
const official = (name: string) => join(fixtures, 'official', name)
/** What the official code made: checkpoint files, their configuration, and `cases` inputs with their outputs. */
const index = JSON.parse(readFileSync(official('index.json'), 'utf8')) as Record<
  string,
  { files: string[]; config: OfficialModelConfig; cases: number }
>
const folder = await mkdtemp(join(tmpdir(), 's4-official-'))
test.after.always(() => rm(folder, { recursive: true }))

/** The types, shapes and bits of the tensors in a safetensors file. */
function stored(file: Uint8Array): Record<string, unknown> {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  const data = Buffer.from(file.subarray(8 + length))
  return Object.fromEntries(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, x]) => [name, [x.dtype, x.shape, data.subarray(...x.data_offsets).toString('hex')]]),
  )
}

/** Inputs as `predict` takes them: 64-bit tokens fit 32 bits. */
const input = ({ data, shape }: FileTensor, tokens: boolean) => ({
  data: tokens ? Int32Array.from(data) : data,
  shape,
})

test('twelve checkpoints of the official code are here', (t) => t.true(Object.keys(index).length >= 12))

for (const [name, { files, config, cases }] of Object.entries(index)) {
  test(`${name}: outputs are the official ones, and it is written back bit for bit`, async (t) => {
    const io = readSafetensors(official(`${name}.io.safetensors`)).tensors
    for (const file of [...files, `${name}.safetensors`]) {
      const path = official(file)
      using model = await SequenceModel.fromOfficial(path, { config })
      t.is(model.dtype, 'f32')
      t.true(Array.isArray(model.notes) && Object.isFrozen(model.notes))
      for (let i = 0; i < cases; i++) {
        const { data, shape } = await model.predict(
          input(io[`x${i}`] as FileTensor, model.config.encoder === 'embedding'),
        )
        const want = io[`y${i}`] as FileTensor
        t.deepEqual([...shape], [...want.shape])
        const error = relative(data, want.data)
        t.true(error <= 1e-5, `${file} x${i}: ${error}`)
      }
      const back = await model.toOfficial(path, { config })
      t.deepEqual(stored(back), stored(readFileSync(official(`${name}.safetensors`))), file)
      // Any model of ours can be kept as one of ours.
      using again = await SequenceModel.fromBytes(await model.toBytes())
      t.deepEqual([again.config, again.notes], [model.config, []])
    }
  })
}

test('what had to be assumed reaches the caller', async (t) => {
  const path = official('v4-post-layer.pt')
  using whole = await SequenceModel.fromOfficial(path, { config: index['v4-post-layer']!.config })
  t.deepEqual(whole.notes, [])
  using part = await SequenceModel.fromOfficial(path, {
    config: { dt_transform: 'softplus', pooling: 'mean' },
  })
  t.regex(part.notes.join('\n'), /residual: assumed 'R'/)
  t.deepEqual(part.config, whole.config)
  await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.fromOfficial(path))
  using lightning = await SequenceModel.fromOfficial(official('v4-lightning.ckpt'))
  t.is(lightning.config.layers, 2)
})

test('a model that was trained goes back, is read again, and computes what it did', async (t) => {
  const { config } = index['v4-post-layer']!
  const path = official('v4-post-layer.pt')
  using model = await SequenceModel.fromOfficial(path, { config, threads: 1 })
  const x = readSafetensors(official('v4-post-layer.io.safetensors')).tensors['x0'] as FileTensor
  const target = Array.from({ length: x.shape[0] as number }, (_, i) => i % model.config.output)
  const before = await model.predict(x)
  await model.fit([{ input: x, target }], { epochs: 3, lr: 0.01 })
  const after = await model.predict(x)
  t.true(relative(after.data, before.data) > 1e-3)
  const file = join(folder, 'trained.safetensors')
  writeFileSync(file, await model.toOfficial(path, { config }))
  const { tensors } = readSafetensors(file)
  t.deepEqual([...(tensors['model.layers.0.layer.layer.kernel.l_kernel'] as FileTensor).data], [0])
  using again = await SequenceModel.fromOfficial(file, { config })
  const error = relative((await again.predict(x)).data, after.data)
  t.true(error <= 1e-6, `${error}`)
})

test('what cannot be mapped is named, with the key or the option', async (t) => {
  const path = official('v4-post-layer.safetensors')
  const { config } = index['v4-post-layer']!
  const { tensors } = readSafetensors(path)
  const file = join(folder, 'changed.safetensors')
  for (const [key, reason] of [
    ['model.layers.1.layer.input_gate.weight', /a gate/],
    ['encoder.1.pe', /encoder\.1\.pe/],
    ['surprise', /'surprise'/],
  ] as const) {
    writeSafetensors(file, { ...tensors, [key]: { data: [1], shape: [1] } })
    const { message } = await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.fromOfficial(file, { config }))
    t.true(message.includes(key) && reason.test(message), message)
  }
  const model = config['model'] as Record<string, unknown>
  for (const [option, value] of [
    ['_name_', 'sashimi'],
    ['pool', { _name_: 'pool', stride: 2, expand: null }],
    ['residual', 'A'],
    ['norm', 'group'],
  ] as const) {
    const other = { ...config, model: { ...model, [option]: value } }
    const { message } = await rejects(
      t,
      'ERR_S4_CHECKPOINT',
      SequenceModel.fromOfficial(path, { config: other }),
    )
    t.true(message.includes(option), message)
  }
  // The original must be the model's own.
  using loaded = await SequenceModel.fromOfficial(path, { config })
  const lm = index['v4-lm']!
  await rejects(
    t,
    'ERR_S4_CHECKPOINT',
    loaded.toOfficial(official(lm.files[0] as string), { config: lm.config }),
  )
  await rejects(t, 'ERR_S4_CHECKPOINT', loaded.toOfficial(join(folder, 'absent.pt')))
  await rejects(t, 'ERR_S4_VALUE', SequenceModel.fromOfficial(path, { colour: 1 } as never))
})

/** A golden case of one block: tensors with the official names of version 4, outputs made by the official module. */
function golden(name: string) {
  const file = readSafetensors(join(fixtures, 'golden', `${name}.ckpt.safetensors`))
  const { tensors } = readSafetensors(join(fixtures, 'golden', `${name}.golden.safetensors`))
  // Golden files keep time last.
  const swap = ({ data, shape }: FileTensor) => {
    const [batch, rows, columns] = shape as [number, number, number]
    const out = new Float64Array(batch * rows * columns)
    for (let b = 0; b < batch; b++)
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++)
          out[(b * columns + j) * rows + i] = data[(b * rows + i) * columns + j] as number
    return { data: out, shape: [batch, columns, rows] }
  }
  const config = JSON.parse(file.metadata['config'] as string) as OfficialConfig
  return {
    tensors: file.tensors,
    config,
    u: swap(tensors['u'] as FileTensor),
    y: swap(tensors['y'] as FileTensor),
  }
}

/** The tensors with the names and forms of version 3: Im Λ with its sign, one step size a feature, a diagonal B without its first axis. */
function asVersion3(tensors: Record<string, FileTensor>, diagonal: boolean): Record<string, FileTensor> {
  const names: Record<string, string> = {
    'layer.D': 'D',
    'layer.kernel.inv_dt': 'kernel.kernel.log_dt',
    'layer.kernel.A_real': diagonal ? 'kernel.kernel.inv_A_real' : 'kernel.kernel.inv_w_real',
    'layer.kernel.A_imag': diagonal ? 'kernel.kernel.A_imag' : 'kernel.kernel.w_imag',
    'layer.kernel.l_kernel': 'kernel.kernel.L',
  }
  return Object.fromEntries(
    Object.entries(tensors).map(([name, x]) => {
      const theirs = names[name] ?? name.replace('layer.kernel.', 'kernel.kernel.')
      if (name.endsWith('A_imag')) return [theirs, { ...x, data: x.data.map((v) => -v) }]
      if (name.endsWith('inv_dt')) return [theirs, { ...x, shape: [x.shape[0] as number] }]
      if (diagonal && name.endsWith('.B')) return [theirs, { ...x, shape: x.shape.slice(1) }]
      return [theirs, x]
    }),
  )
}

test('blocks: files of torch and names of version 3 give the official outputs', (t) => {
  for (const name of ['dplr_legs', 'dplr_channels', 'dplr_bidir', 'diag_inv_bil']) {
    const { tensors, config, u, y } = golden(name)
    const prefixed = Object.fromEntries(Object.entries(tensors).map(([key, x]) => [`net.0.${key}`, x]))
    const version3 = asVersion3(tensors, name.startsWith('diag'))
    const under = {
      hyper_parameters: dict({ mode: text(config.mode as string), disc: text(config.disc as string) }),
    }
    for (const [what, file, given] of [
      ['v4.pt', savedByTorch(tensors), config],
      ['v4.ckpt', savedByTorch(prefixed, 'state_dict', under), undefined],
      ['v3.pt', savedByTorch(version3), { ...config, mode: name.startsWith('diag') ? 'diag' : 'nplr' }],
    ] as const) {
      const path = join(folder, `${name}-${what}`)
      writeFileSync(path, file)
      using block = S4Block.fromStateDict(path, given)
      const error = relative(block.forward(u).y.data, y.data)
      t.true(error <= 1e-5, `${name} ${what}: ${error}`)
    }
    using named = S4Block.fromStateDict(version3, config)
    t.true(relative(named.forward(u).y.data, y.data) <= 1e-5, `${name}, named tensors of version 3`)
    if (!f64(t)) continue
    using exact = S4Block.fromStateDict(join(folder, `${name}-v3.pt`), config, { dtype: 'f64' })
    t.true(relative(exact.forward(u).y.data, y.data) <= 1e-10, `${name} in f64`)
  }
})

test('blocks: what is not one block is refused by its key', (t) => {
  const { tensors, config } = golden('dplr_legs')
  const refusal = (given: Record<string, FileTensor>, options: OfficialConfig = config) =>
    refuses(t, 'ERR_S4_CHECKPOINT', () => S4Block.fromStateDict(given, options)).message
  t.regex(
    refusal({ ...tensors, 'encoder.weight': { data: Float32Array.of(1), shape: [1] } }),
    /encoder\.weight/,
  )
  t.regex(refusal({}), /layer\.kernel\.inv_dt/)
  t.regex(refusal(readSafetensors(official('v4-post-layer.safetensors')).tensors), /one block/)
  t.regex(refusal(tensors, { ...config, bidirectional: true }), /bidirectional/)
  t.regex(refusal(tensors, { ...config, mode: 'diag' }), /mode/)
  t.regex(refusal(tensors, { ...config, activation: 'elu' }), /activation/)
  const path = join(folder, 'bare.pt')
  writeFileSync(path, savedByTorch(tensors))
  t.regex(refuses(t, 'ERR_S4_CHECKPOINT', () => S4Block.fromStateDict(path)).message, /a configuration/)
})
