// What the tarballs hold, what it asks of a system, and how packages of ESM, CommonJS, bundlers and TypeScript resolve it.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { command, library, platforms, tarballs, tools, work } from './project.mjs'

const unpacked = new Map(
  tarballs.map((path) => {
    const folder = join(work, 'unpacked', basename(path, '.tgz'))
    mkdirSync(folder, { recursive: true })
    execFileSync('tar', ['-xzf', path, '-C', folder, '--strip-components=1'])
    return [path, folder]
  }),
)
const list = (folder) =>
  readdirSync(folder, { recursive: true })
    .filter((path) => statSync(join(folder, path)).isFile())
    .toSorted()

test('the library holds what a user needs, and nothing else', () => {
  const of = list(unpacked.get(library))
  const allowed =
    /^(CHANGELOG\.md|LICENSE|README\.md|package\.json|[\w/-]+\.d\.c?ts|lib\/native\/(load\.cjs|binding\.cjs|check\.js)|lib\/(?!native)[\w/-]+\.c?js)$/
  assert.deepEqual(
    of.filter((path) => !allowed.test(path)),
    [],
  )
  for (const path of [
    'index.d.ts',
    'index.d.cts',
    'lib/index.js',
    'lib/index.cjs',
    'lib/native/load.cjs',
    'LICENSE',
  ])
    assert.ok(of.includes(path), path)
})

test('the command holds its program, its recipes and the series of its demo', () => {
  const of = list(unpacked.get(command))
  const allowed =
    /^(LICENSE|README\.md|package\.json|bin\/s4\.mjs|recipe\.schema\.json|recipes\/[\w-]+\.json|data\/(README\.md|ecg_mitdb208\.csv)|dist\/src\/.*\.js)$/
  assert.deepEqual(
    of.filter((path) => !allowed.test(path)),
    [],
  )
  for (const path of [
    'dist/src/main.js',
    'data/ecg_mitdb208.csv',
    'recipe.schema.json',
    'recipes/etth1.json',
  ])
    assert.ok(of.includes(path), path)
})

test('a platform’s package holds the addon and the licences of what is linked in', () => {
  assert.ok(platforms.length > 0)
  for (const path of platforms) {
    const folder = unpacked.get(path)
    const { main, os, cpu } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    assert.deepEqual(
      list(folder),
      ['LICENSE', 'README.md', 'THIRD-PARTY.md', 'package.json', main].toSorted(),
    )
    assert.ok(os.length === 1 && cpu.length === 1)
    const licences = readFileSync(join(folder, 'THIRD-PARTY.md'), 'utf8')
    for (const name of ['rustfft', 'napi', 'gemm', 'safetensors', 'rayon'])
      assert.match(licences, new RegExp(`^\\| ${name} \\|`, 'm'))
    assert.doesNotMatch(licences, /\b(A?GPL|SSPL|BUSL)-/)
  }
})

test('the manifests: one version, no scripts, nothing of development', () => {
  const versions = new Set()
  for (const path of tarballs) {
    const manifest = JSON.parse(readFileSync(join(unpacked.get(path), 'package.json'), 'utf8'))
    versions.add(manifest.version)
    for (const field of ['scripts', 'devDependencies', 'workspaces', 'ava', 'napi'])
      assert.equal(manifest[field], undefined, field)
    if (path === library) {
      assert.equal(manifest.dependencies, undefined)
      assert.equal(Object.keys(manifest.optionalDependencies).length, 7)
      for (const version of Object.values(manifest.optionalDependencies))
        assert.equal(version, manifest.version)
    }
    if (path === command) assert.equal(manifest.dependencies['s4-node'], manifest.version)
  }
  assert.equal(versions.size, 1)
})

test('links of the documents lead somewhere', () => {
  let links = 0
  for (const [, folder] of unpacked)
    for (const path of list(folder).filter((name) => /(README|CHANGELOG)\.md$/.test(name)))
      for (const [, link] of readFileSync(join(folder, path), 'utf8').matchAll(/\]\(([^)\s]+)\)/g)) {
        links++
        if (/^(https:\/\/|#)/.test(link)) continue
        assert.ok(existsSync(join(folder, dirname(path), link.split('#')[0])), `${path}: ${link}`)
      }
  assert.ok(links > 0)
})

test('no symbol newer than glibc 2.28, and no library but those of every Linux', (t) => {
  const gnu = platforms.filter((path) => path.includes('-gnu-'))
  if (gnu.length === 0) return t.skip('no package for glibc')
  if (spawnSync('objdump', ['--version']).status !== 0) return t.skip('no objdump (binutils)')
  for (const path of gnu) {
    const folder = unpacked.get(path)
    const addon = join(
      folder,
      list(folder).find((name) => name.endsWith('.node')),
    )
    const options = { encoding: 'utf8', maxBuffer: 1 << 28 }
    const symbols = execFileSync('objdump', ['-T', addon], options)
    const versions = [...symbols.matchAll(/\bGLIBC_(\d+)\.(\d+)(?:\.\d+)?\b/g)].map(
      ([, a, b]) => Number(a) * 1000 + Number(b),
    )
    assert.ok(versions.length > 50, 'symbols were found')
    const newest = Math.max(...versions)
    t.diagnostic(`${basename(addon)}: newest symbol GLIBC_${Math.floor(newest / 1000)}.${newest % 1000}`)
    assert.ok(newest <= 2028, `GLIBC_${newest / 1000}`)
    const needed = [...execFileSync('objdump', ['-p', addon], options).matchAll(/NEEDED\s+(\S+)/g)].map(
      (match) => match[1],
    )
    assert.deepEqual(
      needed.filter((name) => !/^(lib(c|m|dl|pthread|rt|gcc_s)\.so\.\d|ld-linux)/.test(name)),
      [],
    )
  }
})

test('publint', () => {
  for (const path of tarballs) {
    const { status, stdout } = spawnSync(
      process.execPath,
      [join(tools, 'publint/src/cli.js'), 'run', '--strict', path],
      {
        encoding: 'utf8',
      },
    )
    assert.equal(status, 0, stdout)
    assert.match(stdout, /All good/, stdout)
  }
})

test('types for ESM, CommonJS, bundlers, node16, nodenext (@arethetypeswrong/cli)', () => {
  const cli = join(tools, '@arethetypeswrong/cli/dist/index.js')
  const { status, stdout } = spawnSync(process.execPath, [cli, library, '--no-emoji', '--no-color'], {
    encoding: 'utf8',
  })
  assert.equal(status, 0, stdout)
  assert.match(stdout, /No problems found/)
  for (const way of ['node16 \\(from CJS\\)', 'node16 \\(from ESM\\)', 'bundler'])
    assert.match(stdout, new RegExp(`${way} +│ OK`))
})
