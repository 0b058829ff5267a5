/** A file that cannot be loaded is told in a sentence: each way it can fail, made to happen in folders laid out as npm installs. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { root } from './helpers.js'

const node = join(root, 'crates', 'node')
const addon =
  process.env.NAPI_RS_NATIVE_LIBRARY_PATH ??
  join(
    node,
    readdirSync(node).find((file) => file.endsWith('.node'))!,
  )
/** `linux-x64-gnu` and the like, as packages are called. */
const { glibcVersionRuntime } = (process.report.getReport() as { header: { glibcVersionRuntime?: string } })
  .header
const libc = { linux: glibcVersionRuntime === undefined ? '-musl' : '-gnu', win32: '-msvc' }[
  process.platform as string
]
const here = `${process.platform}-${process.arch}${libc ?? ''}`

const folder = mkdtempSync(join(tmpdir(), 's4-load-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

interface Place {
  /** Package of this platform: its name, version and file, the addon itself where none is given. */
  package?: { platform?: string; version?: string; file?: Buffer }
  /** File that NAPI_RS_NATIVE_LIBRARY_PATH names. */
  named?: string
  /** Code to run before the library is loaded. */
  before?: string
}

let places = 0
/** What loading prints in a project where s4-node 0.1.0 is installed so: 'loaded', or code and message. */
function load(place: Place): string {
  const project = join(folder, String(places++))
  const modules = join(project, 'node_modules')
  const library = join(modules, 's4-node')
  mkdirSync(join(library, 'lib', 'native'), { recursive: true })
  writeFileSync(join(library, 'package.json'), JSON.stringify({ name: 's4-node', version: '0.1.0' }))
  cpSync(join(node, 'load.cjs'), join(library, 'lib', 'native', 'load.cjs'))
  if (place.package) {
    const { platform = here, version = '0.1.0', file } = place.package
    const name = `s4-node-${platform}`
    mkdirSync(join(modules, name))
    const manifest = { name, version, main: `s4-node.${platform}.node` }
    writeFileSync(join(modules, name, 'package.json'), JSON.stringify(manifest))
    const path = join(modules, name, manifest.main)
    if (file) writeFileSync(path, file)
    else symlinkSync(addon, path)
  }
  const { NAPI_RS_NATIVE_LIBRARY_PATH: _, ...env } = process.env
  if (place.named) env.NAPI_RS_NATIVE_LIBRARY_PATH = place.named
  const source = `${place.before ?? ''}
    const { binding, failure: e } = require('s4-node/lib/native/load.cjs')
    if (e) console.log(e.name, e.code, e.message)
    else console.log(typeof binding.diagnose === 'function' ? 'loaded' : 'empty')`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', source], {
    cwd: project,
    env,
    encoding: 'utf8',
  })
  return status === 0 ? stdout.trim() : `ended with ${status}: ${stderr}`
}

const start = 'S4Error ERR_S4_LOAD s4-node cannot load its compiled part: '
const as = (properties: Record<string, string>) =>
  Object.entries(properties)
    .map(([name, value]) => `Object.defineProperty(process, '${name}', { value: '${value}' });`)
    .join('')
const linux = here.startsWith('linux')

test('the package of this platform is found', (t) => {
  t.is(load({ package: {} }), 'loaded')
  t.is(load({ named: addon }), 'loaded')
})

test('no package: what left it out, and what to do', (t) => {
  const text = load({})
  t.true(text.startsWith(`${start}the package s4-node-${here} is not installed`), text)
  t.regex(text, /--omit=optional.*package-lock\.json/)
})

test('a package for another platform', (t) => {
  const other = here === 'darwin-arm64' ? 'linux-x64-gnu' : 'darwin-arm64'
  const text = load({ package: { platform: other } })
  t.true(text.startsWith(`${start}node_modules holds s4-node-${other}, for another platform`), text)
  t.regex(text, new RegExp(`this is ${here}.*npm install`))
})

test('a package for another C library', (t) => {
  if (!linux) return t.log('skipped: Linux alone') as undefined
  const other = here.endsWith('gnu') ? here.replace('gnu', 'musl') : here.replace('musl', 'gnu')
  const text = load({ package: { platform: other } })
  t.true(text.startsWith(`${start}node_modules holds s4-node-${other}, for another C library`), text)
})

test('a platform that has no package', (t) => {
  const text = load({ before: as({ platform: 'freebsd' }) })
  t.regex(text, /there is none for freebsd-\w+, only for linux-x64-gnu, .*built from its source/)
  t.true(text.startsWith(start), text)
})

test('a package of another version', (t) => {
  const text = load({ package: { version: '0.0.9' } })
  t.true(text.startsWith(`${start}s4-node is 0.1.0 and s4-node-${here} is 0.0.9; delete node_modules`), text)
})

test('a damaged file: empty, not a library, cut short', (t) => {
  const bytes = readFileSync(addon)
  const files = [Buffer.alloc(0), Buffer.from('<html>404</html>'), Buffer.alloc(4096)]
  // Elsewhere than on Linux the system itself finds that a library was cut short.
  if (linux) files.push(bytes.subarray(0, 40), bytes.subarray(0, bytes.length >> 1), bytes.subarray(0, -1))
  for (const file of files) {
    const text = load({ package: { file } })
    t.true(text.startsWith(start), text)
    t.regex(text, /s4-node\.\S+\.node is damaged.*npm install/)
  }
})

test('a file that the system refuses', (t) => {
  if (!linux) return t.log('skipped: Linux alone') as undefined
  // A whole header and nothing behind it that a loader could use.
  const file = Buffer.from(readFileSync(addon).subarray(0, 4096))
  file.writeBigUInt64LE(0n, 40)
  file.writeUInt16LE(0, 60)
  file.writeUInt16LE(0, 56)
  const text = load({ package: { file } })
  t.true(text.startsWith(start), text)
  t.regex(text, /cannot be opened \(.+\); delete node_modules/)
})

test('a library of another system, or for another processor', (t) => {
  const foreign = Buffer.from('\xcf\xfa\xed\xfe'.padEnd(64, '\0'), 'latin1')
  if (here.startsWith('darwin')) foreign.write('\x7fELF', 'latin1')
  t.regex(load({ package: { file: foreign } }), /is for (darwin|linux), and this is /)
  if (!linux) return
  const file = Buffer.from(readFileSync(addon))
  file.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18)
  const text = load({ package: { file } })
  t.regex(text, /is for (arm64|x64), and this process is \w+; delete node_modules/)
  t.true(text.startsWith(start), text)
})

test('the file that NAPI_RS_NATIVE_LIBRARY_PATH names is not there', (t) => {
  const text = load({ named: '/nowhere/s4.node' })
  t.true(
    text.startsWith(`${start}/nowhere/s4.node cannot be read (ENOENT); NAPI_RS_NATIVE_LIBRARY_PATH names it`),
    text,
  )
})

test('a system whose glibc is older than the library asks for', (t) => {
  if (!here.endsWith('gnu')) return t.log('skipped: glibc alone') as undefined
  const file = join(folder, 'future.node')
  // Linked to a libc.so.6 with a version that no glibc has.
  const [source, old] = [join(folder, 'future.c'), join(folder, 'libc.c')]
  const [versions, stub] = [join(folder, 'versions.map'), join(folder, 'libc.so.6')]
  const c = process.env.CC ?? 'cc'
  if (spawnSync(c, ['--version']).status !== 0) return t.log('skipped: no C compiler') as undefined
  writeFileSync(old, 'void s4_future(void) {}\n')
  writeFileSync(versions, 'GLIBC_2.99 { global: s4_future; };\n')
  execFileSync(c, [
    '-shared',
    '-fPIC',
    '-nostdlib',
    '-Wl,-soname,libc.so.6',
    `-Wl,--version-script,${versions}`,
    '-o',
    stub,
    old,
  ])
  writeFileSync(
    source,
    'extern void s4_future(void); int napi_register_module_v1(void) { s4_future(); return 0; }\n',
  )
  execFileSync(c, ['-shared', '-fPIC', '-nostdlib', '-o', file, source, stub])
  t.regex(load({ named: file }), /it needs glibc 2\.28 or newer \(2\.99 was asked for\).*Debian 10/)
})

test('who imports the library in a clone can catch the error, on every version of Node', (t) => {
  const source = "import('s4-node').catch((e) => console.log('caught', e.code))"
  const env = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/s4.node' }
  const { stdout, status } = spawnSync(process.execPath, ['-e', source], { cwd: root, env, encoding: 'utf8' })
  t.deepEqual([status, stdout.trim()], [0, 'caught ERR_S4_LOAD'])
})

test('where there is no Node, as in a renderer or a browser', (t) => {
  const text = load({
    before: `
      const { readFileSync } = require('node:fs')
      const code = readFileSync(require.resolve('s4-node/lib/native/load.cjs'), 'utf8')
      const run = new (require('node:vm').Script)('(function (require, module) {' + code + '})')
      const module = {}
      run.runInNewContext()((name) => ({ name: 's4-node', version: '0.1.0' }), module)
      console.log(module.exports.failure.code, module.exports.failure.message)
      process.exit()`,
  })
  t.regex(
    text,
    /^ERR_S4_LOAD .*it runs in Node\.js .*utility processes, not in a browser or a sandboxed renderer/,
  )
})

test('inside a bundle: how to leave it out', (t) => {
  const text = load({
    before: `
      const { readFileSync } = require('node:fs')
      const code = readFileSync(require.resolve('s4-node/lib/native/load.cjs'), 'utf8')
      const module = {}
      new Function('require', 'module', code)((name) => ({ name: 's4-node', version: '0.1.0' }), module)
      console.log(module.exports.failure.code, module.exports.failure.message)
      process.exit()`,
  })
  t.regex(text, /^ERR_S4_LOAD .*put into a bundle.*esbuild --external:s4-node; webpack.*Rollup.*Vite/)
})
