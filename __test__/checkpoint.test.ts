/** Checkpoints: whole, bit-equal, refused when damaged. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { SequenceModel } from '../index.js'
import { batch, drain, model, noisy, rejects, root } from './helpers.js'

const run = promisify(execFile)
const api = pathToFileURL(join(root, 'build', 'index.js')).href

test('save, load, and train on: the same bits', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 's4-'))
  const path = join(folder, 'm.safetensors')
  using m = await model({ dropout: 0.2 })
  await drain(m.train([batch(2, 50, 3), batch(2, 50, 4)], { epochs: 2, seed: 5 }))
  await m.save(path, { extra: '{"mine":1}' })
  t.deepEqual(readdirSync(folder), ['m.safetensors'], 'no temporary file is left')
  using same = await SequenceModel.load(path)
  t.is(same.extra, '{"mine":1}')
  t.deepEqual(same.config, m.config)
  const x = noisy([2, 40, 1])
  t.deepEqual((await same.predict(x)).data, (await m.predict(x)).data)
  const more = async (trained: SequenceModel) => {
    const losses: number[] = []
    for await (const e of trained.train([batch(2, 50, 6), batch(2, 50, 7)], { epochs: 4, resume: true }))
      losses.push(e.loss)
    return losses
  }
  t.deepEqual(await more(same), await more(m))
  using bytes = await SequenceModel.fromBytes(await m.toBytes())
  t.deepEqual((await bytes.predict(x)).data, (await m.predict(x)).data)
})

test('bytes keep the number format that they were made in', async (t) => {
  using m = await model({ dtype: 'f64', device: 'cpu' })
  const bytes = await m.toBytes()
  using same = await SequenceModel.fromBytes(bytes, { device: 'cpu' })
  t.is(same.dtype, 'f64')
  const x = noisy([2, 40, 1])
  t.deepEqual((await same.predict(x)).data, (await m.predict(x)).data)
  using single = await SequenceModel.fromBytes(bytes, { device: 'cpu', dtype: 'f32' })
  t.is(single.dtype, 'f32')
  await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.fromBytes(bytes.slice(0, 100)))
})

test('damaged files are refused with the reason', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 's4-'))
  const path = join(folder, 'm.safetensors')
  using m = await model()
  await m.save(path)
  const good = readFileSync(path)
  const damage: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    short: good.subarray(0, good.length - 10),
    header: Buffer.concat([Buffer.from([255, 255, 255, 255, 255, 255, 255, 127]), good.subarray(8)]),
    text: Buffer.from('not a checkpoint at all'),
  }
  const nan = Buffer.from(good)
  nan.writeFloatLE(NaN, good.length - 8)
  damage['nan'] = nan
  for (const [name, bytes] of Object.entries(damage)) {
    writeFileSync(path, bytes)
    const error = await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.load(path))
    t.true(error.got.length > 0, name)
  }
  writeFileSync(path, good)
  await t.notThrowsAsync(async () => (await SequenceModel.load(path)).dispose())
  await rejects(t, 'ERR_S4_CHECKPOINT', m.save(join(folder, 'no', 'such', 'folder.safetensors')))
})

test('the same model is the same bytes, in every process', async (t) => {
  const source = `
    import { createHash } from 'node:crypto'
    import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
    import { join } from 'node:path'
    import { tmpdir } from 'node:os'
    const { SequenceModel, writeSafetensors } = await import(${JSON.stringify(api)})
    const folder = mkdtempSync(join(tmpdir(), 's4-'))
    const hash = (bytes) => createHash('sha256').update(bytes).digest('hex')
    const m = await SequenceModel.create({ input: 1, output: 1, features: 8, layers: 2, loss: 'mse', seed: 3, device: 'cpu', threads: 1 })
    const x = { data: Float32Array.from({ length: 20 }, (_, i) => Math.sin(i)), shape: [1, 20, 1] }
    await m.fit([{ input: x, target: x }], { ema: 0.5 })
    await m.save(join(folder, 'm'), { extra: '{"mine":1}' })
    const stream = m.stream()
    stream.push(x)
    const metadata = Object.fromEntries(Array.from({ length: 20 }, (_, i) => ['name ' + i, String(i)]))
    writeSafetensors(join(folder, 'w'), { a: x, b: x }, metadata)
    const file = (name) => hash(readFileSync(join(folder, name)))
    console.log([file('m'), hash(await m.toBytes({ extra: '{"mine":1}' })), hash(stream.save()), file('w')].join())
    rmSync(folder, { recursive: true })`
  const hashes = await Promise.all(
    [0, 1, 2].map(async () => {
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source])
      return stdout.trim()
    }),
  )
  t.is(new Set(hashes).size, 1, hashes.join('\n'))
  const [saved, bytes] = hashes[0]!.split(',')
  t.is(saved, bytes, 'save and toBytes')
  t.regex(saved!, /^[0-9a-f]{64}$/)
})

test('a checkpoint goes through a pipe; what cannot be written is an error', async (t) => {
  if (process.platform === 'win32') return t.pass()
  const source = `
    const { SequenceModel } = await import(${JSON.stringify(api)})
    const m = await SequenceModel.create({ input: 1, output: 1, features: 8, layers: 1, device: 'cpu' })
    await m.save('/dev/stdout')
    if (process.platform === 'linux') await m.save('/dev/full').then(() => process.exit(2), (e) => console.error(e.code))`
  // A pipe of the shell's: Node's own for a child is a socket, which nobody can open by its path.
  const command = `'${process.execPath}' --input-type=module -e "$SOURCE" | cat`
  const env = { ...process.env, SOURCE: source }
  const { stdout, stderr } = await run('/bin/sh', ['-c', command], { encoding: 'buffer', env })
  using m = await SequenceModel.fromBytes(stdout, { device: 'cpu' })
  t.is(m.config.features, 8)
  t.deepEqual(
    createHash('sha256')
      .update(await m.toBytes())
      .digest(),
    createHash('sha256').update(stdout).digest(),
  )
  if (process.platform === 'linux') t.is(stderr.toString().trim(), 'ERR_S4_CHECKPOINT')
})
