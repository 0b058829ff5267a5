// Runs the tests of the API as in Electron ≥ 21, whose V8 memory cage refuses external array buffers (N-API status 22): here in plain
// Node, whose functions for them are replaced by ones that refuse. It shows that no result needs external memory, without running
// Electron itself. Needs Linux and a C compiler.
//   node scripts/cage.mjs [FILE …]    after npm run build and tsc -p __test__/tsconfig.json; NAPI_RS_NATIVE_LIBRARY_PATH names
//                                     another addon
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must, root, run } from './setup.mjs'

const names = ['napi_create_external_arraybuffer', 'napi_create_external_buffer']
const folder = mkdtempSync(join(tmpdir(), 's4-cage-'))
const built = readdirSync(join(root, 'crates/node')).find((file) => file.endsWith('.node'))
const addon = process.env.NAPI_RS_NATIVE_LIBRARY_PATH ?? (built && join(root, 'crates/node', built))
must('Looking for the addon (npm run build)', addon !== undefined)

// Symbols of Node's executable cannot be overridden. In a copy of the addon they are therefore renamed, to names of the same length
// that a small shared library defines.
let bytes = readFileSync(addon, 'latin1')
for (const name of names) bytes = bytes.replaceAll(name, name.replace(/^napi/, 'cage'))
const caged = join(folder, 'caged.node')
writeFileSync(caged, bytes, 'latin1')
const source = join(folder, 'shim.c')
writeFileSync(
  source,
  names.map((name) => `int ${name.replace(/^napi/, 'cage')}(void) { return 22; }\n`).join(''),
)
const shim = join(folder, 'shim.so')
const compiler = process.env.CC ?? 'cc'
must(
  compiler,
  spawnSync(compiler, ['-shared', '-fPIC', '-o', shim, source], { stdio: 'inherit' }).status === 0,
)

const env = { ...process.env, LD_PRELOAD: shim, NAPI_RS_NATIVE_LIBRARY_PATH: caged }
must(
  'The suite in the cage',
  run(process.execPath, ['node_modules/ava/entrypoints/cli.mjs', ...process.argv.slice(2)], { env }),
)
