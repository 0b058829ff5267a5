import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readSafetensors, SequenceModel } from 's4-node'

const command = fileURLToPath(new URL('../../bin/s4.mjs', import.meta.url))
const official = fileURLToPath(new URL('../../../__test__/fixtures/official/', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 's4-import-'))
after(() => rmSync(folder, { recursive: true }))
const s4 = (...args: string[]) =>
  spawnSync(process.execPath, [command, 'import', ...args], { encoding: 'utf8' })
const index = JSON.parse(readFileSync(join(official, 'index.json'), 'utf8')) as Record<
  string,
  { config: Record<string, unknown> }
>
const written = (name: string, config: unknown) => {
  const file = join(folder, name)
  writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config))
  return file
}

/** Distance of the outputs of a model of ours from those that the official code gave, relative. */
async function distance(model: string, io: string): Promise<number> {
  using loaded = await SequenceModel.load(model)
  const { tensors } = readSafetensors(join(official, io))
  const { data } = await loaded.predict(tensors.x0)
  const want = Array.from(tensors.y0.data)
  assert.equal(data.length, want.length)
  const sum = (f: (i: number) => number) => want.reduce((total: number, _, i) => total + f(i) ** 2, 0)
  return Math.sqrt(sum((i) => data[i] - want[i]) / sum((i) => want[i]))
}

test('a checkpoint of Lightning, by its own hyper-parameters', async () => {
  const out = join(folder, 'lightning.safetensors')
  const done = s4(join(official, 'v4-lightning.ckpt'), out)
  assert.equal(done.status, 0, done.stderr)
  assert.match(
    done.stdout,
    /lightning\.safetensors: s4d?, \d+ × \d+, state \d+, from \d+ \w+ to \d+, pooling \w+/,
  )
  assert.equal(done.stderr, '')
  assert.ok((await distance(out, 'v4-lightning.io.safetensors')) <= 1e-5)
})

test('a bare state dict, by a configuration in a file; what was assumed is said', async () => {
  const [whole, part] = [join(folder, 'whole.safetensors'), join(folder, 'part.safetensors')]
  const post = join(official, 'v4-post-layer.pt')
  const done = s4(post, whole, '--config', written('whole.json', index['v4-post-layer'].config))
  assert.equal(done.status, 0, done.stderr)
  const some = s4(post, part, '--config', written('part.json', { dt_transform: 'softplus', pooling: 'mean' }))
  assert.equal(some.status, 0, some.stderr)
  assert.match(some.stderr, /^assumed: residual: /m)
  for (const out of [whole, part])
    assert.ok((await distance(out, 'v4-post-layer.io.safetensors')) <= 1e-5, out)
})

test('what is wrong is said in a line, and nothing is written', () => {
  const out = join(folder, 'none.safetensors')
  const post = join(official, 'v4-post-layer.pt')
  for (const [args, status, reason] of [
    [[post, out], 1, /dt_transform/],
    [[join(official, 'index.json'), out], 1, /zip archive/],
    [[join(folder, 'absent.pt'), out], 1, /absent\.pt/],
    [[post, out, '--config', written('yaml.json', 'model:\n  layer: s4\n')], 1, /yaml\.json is not JSON/],
    [[post, out, '--config', written('list.json', [])], 1, /config/],
    [[post], 2, /missing required argument 'OUT\.safetensors'/],
    [[post, out, '--colour', 'red'], 2, /colour/],
  ] as const) {
    const done = s4(...args)
    assert.equal(done.status, status, `${args.join(' ')}: ${done.stderr}`)
    assert.match(done.stderr, reason)
    assert.equal(done.stdout, '')
  }
  assert.ok(!existsSync(out))
})
