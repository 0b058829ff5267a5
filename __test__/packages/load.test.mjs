// What goes wrong between npm and the addon, made to happen with the real packages; and bundlers, with the library inside and outside.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { empty, installed, library, must, run } from './project.mjs'

const program = "import { diagnose } from 's4-node'\nconsole.log('ran', diagnose().version)\n"

/** Imports the library as an application does, and prints what it is told. */
function load(folder) {
  const code =
    "import('s4-node').then((m) => console.log('ran', m.diagnose().version), (e) => console.log(e.code, e.message))"
  return run(folder, ['node', '-e', code])
}

/** The folder of the platform's package, and its addon. */
function platform(folder) {
  const modules = join(folder, 'node_modules')
  const name = readdirSync(modules).find((one) => one.startsWith('s4-node-'))
  const addon = join(
    modules,
    name,
    readdirSync(join(modules, name)).find((file) => file.endsWith('.node')),
  )
  return { modules, name, addon }
}

function told(folder, sentence) {
  const { status, text } = load(folder)
  assert.equal(status, 0, text)
  assert.match(text, /^ERR_S4_LOAD s4-node cannot load its compiled part: /)
  assert.match(text, sentence)
}

test('as installed', () => assert.match(load(installed()).text, /^ran \d/))

test('installed with optional dependencies left out', () => {
  const folder = empty()
  must(folder, ['npm', 'install', '--offline', '--omit=optional', '--no-audit', '--no-fund', library])
  told(folder, /is not installed.*--omit=optional/)
})

test('node_modules of another platform, of another C library', () => {
  const folder = installed()
  const { modules, name } = platform(folder)
  renameSync(join(modules, name), join(modules, 's4-node-darwin-arm64'))
  told(folder, /holds s4-node-darwin-arm64, for another platform/)
  if (process.platform !== 'linux') return
  const libc = name.endsWith('gnu') ? name.replace('gnu', 'musl') : name.replace('musl', 'gnu')
  renameSync(join(modules, 's4-node-darwin-arm64'), join(modules, libc))
  told(folder, /for another C library/)
})

test('a file cut short, emptied, overwritten, gone', () => {
  const folder = installed()
  const { addon } = platform(folder)
  const whole = statSync(addon).size
  for (const size of [whole - 1, whole >> 1, 100, 0]) {
    truncateSync(addon, size)
    told(folder, /is damaged/)
  }
  writeFileSync(addon, '<!doctype html>')
  told(folder, /is damaged/)
  rmSync(addon)
  told(folder, /cannot be read \(ENOENT\)/)
})

describe('bundlers', () => {
  let folder
  /** Where there is no node_modules above. */
  let far
  before(() => {
    folder = installed()
    far = empty()
    mkdirSync(join(folder, 'out'))
    writeFileSync(join(folder, 'app.mjs'), program)
  })
  function refused(file) {
    const { status, text } = run(far, ['node', file])
    assert.notEqual(status, 0, text)
    assert.match(text, /it was put into a bundle.*esbuild --external:s4-node; webpack externals.*Vite ssr/)
    assert.match(text, /ERR_S4_LOAD/)
  }
  const ran = (file) => assert.match(must(folder, ['node', file]), /^ran \d/)

  test('esbuild', async () => {
    const { build } = await import('esbuild')
    const common = {
      absWorkingDir: folder,
      entryPoints: ['app.mjs'],
      bundle: true,
      platform: 'node',
      logLevel: 'silent',
    }
    for (const format of ['cjs', 'esm']) {
      const name = `esbuild.${format === 'cjs' ? 'cjs' : 'mjs'}`
      const { warnings } = await build({ ...common, format, outfile: join(far, name) })
      assert.deepEqual(warnings, [])
      refused(name)
      await build({ ...common, format, outfile: join(folder, 'out', name), external: ['s4-node'] })
      ran(join('out', name))
    }
    // With node_modules beside it even a bundle finds the addon.
    await build({ ...common, format: 'cjs', outfile: join(folder, 'out', 'inside.cjs') })
    ran(join('out', 'inside.cjs'))
  })

  test('webpack', async () => {
    const { default: webpack } = await import('webpack')
    const build = (path, externals) =>
      new Promise((resolve, reject) =>
        webpack(
          {
            mode: 'production',
            target: 'node20',
            context: folder,
            entry: './app.mjs',
            output: { path, filename: 'webpack.cjs' },
            externals,
          },
          (error, stats) => (error ? reject(error) : resolve(stats.compilation)),
        ),
      )
    const inside = await build(far)
    assert.deepEqual([...inside.errors, ...inside.warnings], [])
    refused('webpack.cjs')
    await build(join(folder, 'out'), { 's4-node': 'commonjs s4-node' })
    ran(join('out', 'webpack.cjs'))
  })

  test('Vite', async () => {
    const { build } = await import('vite')
    const made = (outDir, ssr) =>
      build({
        root: folder,
        logLevel: 'error',
        configFile: false,
        ssr,
        build: {
          ssr: 'app.mjs',
          outDir,
          emptyOutDir: false,
          rollupOptions: { output: { entryFileNames: 'vite.mjs' } },
        },
      })
    await made(far, { noExternal: true })
    refused('vite.mjs')
    await made(join(folder, 'out'), { external: ['s4-node'] })
    ran(join('out', 'vite.mjs'))
  })

  test('a bundle for a browser says where the library runs', async () => {
    const { build } = await import('esbuild')
    const outfile = join(far, 'browser.mjs')
    await build({
      absWorkingDir: folder,
      entryPoints: ['app.mjs'],
      bundle: true,
      format: 'esm',
      external: ['node:*'],
      outfile,
      logLevel: 'silent',
    })
    const { status, text } = run(far, [
      'node',
      '--import',
      'data:text/javascript,delete globalThis.process.getBuiltinModule',
      outfile,
    ])
    assert.notEqual(status, 0)
    assert.match(text, /it runs in Node\.js.*not in a browser or a sandboxed renderer/)
  })
})
