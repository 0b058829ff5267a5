/** Checkpoints: whole, bit-equal, refused when damaged. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { SequenceModel } from '../index.js'
import { batch, drain, model, noisy, rejects } from './helpers.js'

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
