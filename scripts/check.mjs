// npm run check: the checks while editing, of one crate or the API. No CUDA images are compiled.
//   npm run check                        what has changed since the last commit, crates and API
//   npm run check -- cpu nn              these crates: format, lints, tests
//   npm run check -- api [views …]       the TypeScript API on the addon as it was last built: types, lints, tests (of these files)
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { installPackages, must, root, run, shareCompilation } from './setup.mjs'

shareCompilation()
// An empty list of architectures: crates/cuda is built without kernels.
process.env.S4_CUDA_ARCHS = ''
delete process.env.S4_CUDA_REQUIRE

const crates = readdirSync(join(root, 'crates')).filter((name) =>
  existsSync(join(root, 'crates', name, 'Cargo.toml')),
)

/** The names of crates with changed files, and `api` where TypeScript or scripts have changed, or nothing has. */
function changed() {
  const { stdout } = spawnSync('git', ['status', '--porcelain', '-uall'], { cwd: root, encoding: 'utf8' })
  const paths = stdout.split('\n').map((line) => line.slice(3).split(' -> ').at(-1))
  const names = new Set(
    paths.map((path) => /^crates\/(\w+)\/.*\.(?:rs|toml)$/.exec(path)?.[1]).filter(Boolean),
  )
  if (names.size === 0 || paths.some((path) => /\.(ts|mjs)$/.test(path))) names.add('api')
  return [...names]
}

function checkCrate(name) {
  const crate = `s4-${name}`
  must(`The format of ${crate}`, run('cargo', ['fmt', '-p', crate, '--check']))
  const lints = ['clippy', '-p', crate, '--all-targets', '--quiet', '--', '-D', 'warnings']
  must(`The lints of ${crate}`, run('cargo', lints))
  // All programs run, also after one that fails.
  const all = ['test', '-p', crate, '--tests', '--no-fail-fast', '--', '--quiet']
  must(`The tests of ${crate}`, run('cargo', all))
}

function checkApi(tests) {
  const npm = (...args) => run('npm', ['run', '--silent', ...args])
  const addon = readdirSync(join(root, 'crates', 'node')).some((name) => name.endsWith('.node'))
  must('Looking for the addon (npm run build:native makes it)', addon)
  must('The compilation of the API', npm('build:ts') && npm('build:types'))
  must('The lints', npm('lint'))
  must('The format (npm run format mends it)', npm('format', '--', '--check'))
  must('The compilation of the tests', run('npx', ['tsc', '-p', '__test__/tsconfig.json']))
  const files = tests.map((name) => `build/__test__/${name}.test.js`)
  must('The tests', run('npx', ['ava', ...files]))
}

installPackages()
const start = performance.now()
const asked = process.argv.slice(2)
const api = asked.indexOf('api')
const tests = api < 0 ? [] : asked.splice(api).slice(1)
const unknown = asked.filter((name) => !crates.includes(name))
must(`'${unknown.join(' ')}' are no crates; there are ${crates.join(', ')}, and api:`, unknown.length === 0)
const names = process.argv.length > 2 ? [...asked, ...(api < 0 ? [] : ['api'])] : changed()
console.log(`Checking ${names.join(', ')}`)
for (const name of names) {
  if (name === 'api') checkApi(tests)
  else checkCrate(name)
}
must('The layout of the source', run(process.execPath, ['scripts/check-source.mjs']))
console.log(`\nall is well after ${((performance.now() - start) / 1000).toFixed(0)} s`)
