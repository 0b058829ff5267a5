/** Damaged and hostile checkpoints: each is refused with its reason, nothing in it is run, and the library works on. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { S4Block, SequenceModel } from '../index.js'
import { refuses, rejects, root } from './helpers.js'
import { hostileFiles } from './hostile-files.js'
import { savedByTorch } from './torch-files.js'

const folder = await mkdtemp(join(tmpdir(), 's4-hostile-'))
test.after.always(() => rm(folder, { recursive: true }))

test('every one is refused with its reason, and nothing is run', async (t) => {
  const trace = join(folder, 'trace')
  const files = hostileFiles(`touch ${trace}`)
  t.true(files.length >= 50, `${files.length}`)
  t.is(new Set(files.map(({ what }) => what)).size, files.length)
  const path = join(folder, 'hostile.pt')
  for (const { what, file, reason } of files) {
    writeFileSync(path, file)
    const { message } = await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.fromOfficial(path))
    t.regex(message, reason, what)
    t.true(message.length < 1000, `${what}: ${message.length} characters`)
    const ofBlock = refuses(t, 'ERR_S4_CHECKPOINT', () => S4Block.fromStateDict(path, {}))
    t.is(ofBlock.message, message, what)
  }
  t.false(existsSync(trace), 'a command was run')
  // The writer of these files is right where nothing is wrong, and the library works on.
  writeFileSync(path, savedByTorch({ w: { data: [1, 2, 3, 4], shape: [2, 2] } }))
  const { message } = await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.fromOfficial(path))
  t.regex(message, /'w'/)
  using model = await SequenceModel.fromOfficial(
    join(root, '__test__', 'fixtures', 'official', 'v4-lightning.ckpt'),
  )
  t.true(model.parameters().length > 0)
})

test('damaged bytes of a sound checkpoint are refused or give finite numbers', async (t) => {
  const sound = readFileSync(join(root, '__test__', 'fixtures', 'official', 'v4-lightning.ckpt'))
  const path = join(folder, 'damaged.ckpt')
  let refused = 0
  for (let i = 0; i < 200; i++) {
    const damaged = Buffer.from(sound)
    damaged[(i * 2654435761) % sound.length]! ^= 1 << (i % 8)
    writeFileSync(path, damaged)
    try {
      using model = await SequenceModel.fromOfficial(path)
      t.true(model.parameters().every(({ value }) => value.data.every(Number.isFinite)))
    } catch (error) {
      t.is((error as { code?: string }).code, 'ERR_S4_CHECKPOINT', String(error))
      refused += 1
    }
  }
  t.true(refused > 100, `${refused}`)
})
