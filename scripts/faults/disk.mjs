// npm run test:disk: a disk that is full, a limit of file sizes, a folder that may not be written or is removed, files that are
// replaced or vanish while they are read, two processes that write the same checkpoint. Whatever happens is an error with its code; the
// old checkpoint stays whole; the model can still be used; and the run, gone on with, ends in the bits of an undisturbed one.
//   node scripts/faults/disk.mjs [--seconds 20] [--short]
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readCsv, readPictures, readSafetensors, SequenceModel, writeSafetensors } from 's4-node'
import { beside, numbers, runText, start } from './options.mjs'

const { seconds } = numbers({ seconds: [20, 2] })
const folder = mkdtempSync(join(tmpdir(), 's4-disk-'))
// The programs of unprivileged users must reach it.
chmodSync(folder, 0o755)
after(() => rmSync(folder, { recursive: true }))
const linux = process.platform === 'linux'
const works = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0

/**
 * A program that trains three epochs, with a checkpoint after each, on a disk that refuses the second: what it gives is compared with
 * an undisturbed run. `refuse` and `allow` are its text for making the disk refuse and take files.
 */
const training = (path, { refuse, allow, code = 'ERR_S4_CHECKPOINT' }) => `
  import assert from 'node:assert/strict'
  import { execFileSync } from 'node:child_process'
  import * as fs from 'node:fs'
  import { dirname } from 'node:path'
  import { SequenceModel } from 's4-node'
  const options = { input: 1, output: 1, features: 32, layers: 2, state: 16, loss: 'mse', dropout: 0.2, device: 'cpu', threads: 1 }
  const x = { data: Float32Array.from({ length: 400 }, (_, i) => Math.sin(i)), shape: [2, 200, 1] }
  const data = [1, 2, 3].map(() => ({ input: x, target: x }))
  const path = ${JSON.stringify(path)}
  const run = { epochs: 3, seed: 5 }
  const bits = (m) => m.parameters().map((p) => [p.name, [...p.value.data]])
  const whole = await SequenceModel.create(options)
  await whole.fit(data, run)
  const model = await SequenceModel.create(options)
  const before = () => fs.existsSync(path) ? fs.readFileSync(path) : undefined
  await assert.rejects(async () => {
    for await (const e of model.train(data, { ...run, checkpoint: path })) if (e.type === 'epoch' && e.epoch === 0) { ${refuse} }
  }, { name: 'S4Error', code: '${code}' })
  const { steps } = model.progress
  assert.ok(steps >= 3 && steps < 9, steps + ' updates')
  const old = before()
  if (old !== undefined) assert.deepEqual((await SequenceModel.load(path)).progress.epochs, 1)
  // By save, too; the model predicts, streams and trains as if nothing had been.
  await assert.rejects(model.save(path), { name: 'S4Error', code: '${code}' })
  assert.deepEqual(before(), old)
  const left = fs.existsSync(dirname(path)) ? fs.readdirSync(dirname(path)).filter((name) => name.startsWith('.tmp')) : []
  assert.deepEqual(left, [])
  assert.ok((await model.predict(x)).data.every(Number.isFinite))
  assert.ok(model.stream({ batch: 2 }).push(x).data.every(Number.isFinite))
  ${allow}
  await model.save(path)
  const loaded = await SequenceModel.load(path, { device: 'cpu', threads: 1 })
  for (const m of [model, loaded]) {
    await m.fit(data, { resume: true })
    assert.deepEqual(bits(m), bits(whole))
    assert.deepEqual(m.progress, whole.progress)
  }
  console.log('as undisturbed')`

async function trained(source, options) {
  const { code, signal, out, err } = await runText(source, { seconds: 120, ...options })
  assert.deepEqual([code, signal, out.trim()], [0, null, 'as undisturbed'], err)
}

test('a full disk', async (t) => {
  const program = join(folder, 'full.mjs')
  const disk = join(folder, 'disk')
  mkdirSync(disk)
  const filler = JSON.stringify(join(disk, 'filler'))
  writeFileSync(
    program,
    training(join(disk, 'm.safetensors'), {
      refuse: `try { fs.writeFileSync(${filler}, Buffer.alloc(64 << 20)) } catch {}`,
      allow: `fs.rmSync(${filler})`,
    }).replace("'s4-node'", JSON.stringify(new URL('../../build/index.js', import.meta.url).href)),
  )
  const names = [['-m'], ['-r', '-m']].find((flags) => linux && works('unshare', ...flags, 'true'))
  if (names === undefined) return t.skip('no mount namespace: needs Linux with unshare')
  const mount = `mount -t tmpfs -o size=1m tmpfs "$0" && exec "$1" "$2"`
  const args = [...names, 'sh', '-c', mount, disk, process.execPath, program]
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 120_000 })
  assert.deepEqual([status, stdout.trim()], [0, 'as undisturbed'], stderr)
  return undefined
})

test('a limit of file sizes', async (t) => {
  if (!linux || !works('prlimit', '--version')) return t.skip('needs prlimit, on Linux')
  const limit = (size) => `execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=${size}:'])`
  return trained(
    training(join(folder, 'limited.safetensors'), { refuse: limit(4096), allow: limit('unlimited') }),
  )
})

test('a folder that is removed', () => {
  const inner = JSON.stringify(join(folder, 'removed'))
  mkdirSync(join(folder, 'removed'))
  return trained(
    training(join(folder, 'removed', 'm.safetensors'), {
      refuse: `fs.rmSync(${inner}, { recursive: true })`,
      allow: `fs.mkdirSync(${inner})`,
    }),
  )
})

test('a folder that becomes a file', () => {
  const inner = JSON.stringify(join(folder, 'replaced'))
  mkdirSync(join(folder, 'replaced'))
  return trained(
    // Nothing below it can be looked at while it is a file.
    training(join(folder, 'replaced', 'm.safetensors'), {
      refuse: `fs.rmSync(${inner}, { recursive: true }); fs.writeFileSync(${inner}, '')`,
      allow: `fs.rmSync(${inner}); fs.mkdirSync(${inner})`,
    }).replace('fs.existsSync(dirname(path))', 'fs.statSync(dirname(path)).isDirectory()'),
  )
})

test('a checkpoint whose name a folder takes', () => {
  const inner = JSON.stringify(join(folder, 'taken.safetensors'))
  return trained(
    training(join(folder, 'taken.safetensors'), {
      refuse: `fs.rmSync(path); fs.mkdirSync(${inner})`,
      allow: `fs.rmSync(${inner}, { recursive: true })`,
    })
      .replace('if (old !== undefined) assert', 'if (false) assert')
      .replace('fs.existsSync(path) ? fs.readFileSync(path) : undefined', 'undefined'),
  )
})

test('a folder that may not be written', async (t) => {
  // For the superuser every folder may be written: the program runs as another user.
  const root = process.getuid?.() === 0
  if (process.platform === 'win32') return t.skip('Windows has no such permissions')
  const inner = join(folder, 'shut')
  mkdirSync(inner)
  if (root) spawnSync('chown', ['65534:65534', inner])
  const user = root ? { uid: 65534, gid: 65534, env: { ...process.env, HOME: '/' } } : {}
  const may = await runText(`await import('s4-node')`, user)
  if (may.code !== 0)
    return t.skip(`another user may not read the project: ${may.err.trim().split('\n').at(-1)}`)
  const dir = JSON.stringify(inner)
  return trained(
    training(join(inner, 'm.safetensors'), {
      refuse: `fs.chmodSync(${dir}, 0o555)`,
      allow: `fs.chmodSync(${dir}, 0o755)`,
    }),
    user,
  )
})

test('a device that is full', async (t) => {
  if (!existsSync('/dev/full')) return t.skip('no /dev/full')
  const model = await SequenceModel.create({ input: 1, output: 1, features: 8, layers: 1, device: 'cpu' })
  await assert.rejects(model.save('/dev/full'), { code: 'ERR_S4_CHECKPOINT' })
  assert.throws(() => writeSafetensors('/dev/full', { x: { data: [1], shape: [1] } }), {
    code: 'ERR_S4_CHECKPOINT',
  })
  const x = { data: [1, 2], shape: [1, 2, 1] }
  assert.ok((await model.predict(x)).data.every(Number.isFinite))
  model.dispose()
  return undefined
})

test('files that are replaced and vanish while they are read', async () => {
  const path = join(folder, 'changing.safetensors')
  const table = join(folder, 'changing.csv')
  const picture = join(folder, 'changing.png')
  const whole = readFileSync(new URL('../../crates/data/tests/files/rgb.png', import.meta.url))
  const writer = start([beside('replace.mjs'), path, table, picture], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  try {
    while (!existsSync(picture)) await new Promise((resolve) => setTimeout(resolve, 10))
    const seen = {}
    const tried = async (what, call) => {
      try {
        seen[`${what} ${await call()}`] = (seen[`${what} ${await call()}`] ?? 0) + 1
      } catch (error) {
        assert.match(String(error.code), /^ERR_S4_(CHECKPOINT|DATA)$/, `${what}: ${error.stack}`)
        seen[`${what} ${error.code}`] = (seen[`${what} ${error.code}`] ?? 0) + 1
      }
    }
    const until = performance.now() + seconds * 1000
    while (performance.now() < until) {
      await tried('model', async () => {
        const model = await SequenceModel.load(path, { device: 'cpu', threads: 1 })
        const { features } = model.config
        model.dispose()
        assert.ok(features === 4 || features === 8)
        return features
      })
      await tried('tensors', () => {
        const { tensors } = readSafetensors(path)
        return tensors['encoder.weight'].data.length
      })
      await tried('table', () => {
        const series = readCsv(table)
        // A file that is written in its place while it is read may give lines of both.
        assert.ok(series.every(Number.isFinite))
        return 'read'
      })
      await tried('picture', async () => (await readPictures([picture])).count)
    }
    assert.ok(Object.keys(seen).length >= 5, JSON.stringify(seen))
    console.log(`# ${JSON.stringify(seen)}`)
  } finally {
    writer.child.kill('SIGKILL')
    await writer.ended
  }
  assert.ok(whole.length > 0)
})

test('a checkpoint that two processes write at once', async () => {
  const path = join(folder, 'shared.safetensors')
  const source = (features) => `
    import { SequenceModel } from 's4-node'
    const model = await SequenceModel.create({ input: 1, output: 1, features: ${features}, layers: 1, device: 'cpu' })
    const until = performance.now() + ${seconds * 1000}
    let saves = 0
    for (; performance.now() < until; saves++) await model.save(${JSON.stringify(path)})
    console.log(saves)`
  const both = [8, 16].map((features) => runText(source(features), { seconds: seconds + 60 }))
  const seen = new Map()
  const writing = { goes: true }
  const whole = Promise.all(both).finally(() => (writing.goes = false))
  while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10))
  while (writing.goes) {
    const model = await SequenceModel.load(path, { device: 'cpu', threads: 1 })
    const { features } = model.config
    seen.set(features, (seen.get(features) ?? 0) + 1)
    model.dispose()
  }
  const ends = await whole
  for (const { code, err } of ends) assert.equal(code, 0, err)
  assert.deepEqual(
    [...seen.keys()].toSorted((a, b) => a - b),
    [8, 16],
  )
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('.tmp')),
    [],
  )
  console.log(
    `# ${ends.map(({ out }) => out.trim()).join(' and ')} saves, ${[...seen.values()].join(' and ')} loads of each`,
  )
})
