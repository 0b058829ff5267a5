// npm test: sets up and runs every check; all of them run even when one fails. Ends with 'N passed, N failed'.
//   npm test                  the addon under test shares its compilation with the Rust tests: optimised, with debug assertions
//   npm test -- --release     the addon as it is shipped, with the kernel images of a release: compiles everything once more
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import {
  allImages,
  build,
  buildJavaScript,
  checkedImages,
  fetchNvrtc,
  fewestImages,
  fewImages,
  installPackages,
  root,
  run,
  shareCompilation,
} from './setup.mjs'

const release = process.argv.includes('--release')
shareCompilation()

const npm = (...args) => run('npm', ['run', '--silent', ...args])
const node = (...args) => run(process.execPath, args)

/** The folder of the addon under test, so that the one that `npm start` uses is not overwritten. */
const own = join(root, 'target', 'test-addon')

/** Builds the addon by the command `build:native`, but with debug assertions and into its own folder. */
function buildTestAddon() {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const [command, ...words] = scripts['build:native'].split(' ')
  words.splice(words.indexOf('--output-dir'), 2, '--output-dir', own)
  if (!run('npx', [command, ...words.filter((word) => word !== '--release')])) return false
  const addon = readdirSync(own).find((name) => name.endsWith('.node'))
  process.env.NAPI_RS_NATIVE_LIBRARY_PATH = join(own, addon)
  return buildJavaScript()
}

/** Whether the addon has every kernel image that was asked for; no GPU is needed for that. */
function kernels() {
  if (!nvrtc) {
    console.log('not built: no NVRTC on this machine (python3 with pip fetches it)')
    return !pip
  }
  const program = `import { diagnose } from 's4-node'; console.log(diagnose().kernels.join(' '))`
  const options = { cwd: root, encoding: 'utf8' }
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], options)
  const missing = process.env.S4_CUDA_ARCHS.split(' ')
    .map((arch) => (arch.startsWith('compute_') ? arch : `sm_${arch}`))
    .filter((arch) => !stdout.trim().split(' ').includes(arch))
  const checked = process.env.S4_CUDA_SYNTAX
    ? `; checked without an image: ${process.env.S4_CUDA_SYNTAX}`
    : ''
  console.log(missing.length === 0 ? stdout.trim() + checked : `missing: ${missing.join(' ')}`)
  return missing.length === 0
}

const mayHaveGpu =
  process.platform !== 'linux' || ['/dev/nvidiactl', '/dev/dxg'].some((path) => existsSync(path))

/**
 * Flags of cargo that name every test program. Without a GPU those of crates/cuda would only say that they skip what they test, after a
 * minute and a half of compiling; the lints read them all the same.
 */
function testTargets() {
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 }
  const { stdout } = spawnSync('cargo', ['metadata', '--no-deps', '--format-version=1', '--locked'], options)
  const programs = JSON.parse(stdout).packages.flatMap(({ name, targets }) =>
    targets.filter(({ kind }) => kind.includes('test') && (mayHaveGpu || name !== 's4-cuda')),
  )
  return ['--lib', ...programs.flatMap(({ name }) => ['--test', name])]
}

/** Test programs of the crates that compute on the CPU. */
let programs = []
function rust() {
  const tests = ['test', '--workspace', '--locked', ...testTargets()]
  const ok = run('cargo', [...tests, '--quiet'])
  // Where cargo has put them: to build these crates alone would build everything again with other features.
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 }
  const { stdout } = spawnSync('cargo', [...tests, '--no-run', '--message-format=json', '--quiet'], options)
  programs = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter((m) => m.executable && m.profile.test && /\b(s4-)?(cpu|nn)#/.test(m.package_id))
    .map((m) => ({ file: m.executable, cwd: dirname(m.manifest_path) }))
  return ok && programs.length > 0
}

/** Runs the API's tests with external memory refused, as in Electron; possible on Linux only. */
function cage() {
  if (process.platform === 'linux') return node('scripts/cage.mjs')
  console.log('skipped: Linux alone')
  return true
}

/** The short forms of the programs that try faults; CONTRIBUTING.md names the long ones. */
function faults() {
  const short = (name, ...flags) => node(...flags, `scripts/faults/${name}.mjs`, '--short')
  const ended = [
    short('kill'),
    short('workers', '--expose-gc'),
    short('disk'),
    short('exit'),
    short('soak', '--expose-gc'),
    short('large', '--expose-gc'),
  ]
  return ended.every(Boolean)
}

/** SIMD levels below the highest of this CPU, at which the Rust tests run; where the system does not say what the CPU has, all. */
function lowerLevels() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return ['portable', 'avx2']
  return readFileSync('/proc/cpuinfo', 'utf8').includes(' avx512vl') ? ['portable', 'avx2'] : ['portable']
}

// Quick checks come first.
const checks = [
  [
    'source: sizes of files, import circles, the paper’s map',
    () => node('--test', 'scripts/rust-imports.test.mjs') && node('scripts/check-source.mjs'),
  ],
  ['TypeScript lints', () => npm('lint')],
  ['TypeScript format', () => npm('format', '--', '--check')],
  ['Rust format', () => run('cargo', ['fmt', '--all', '--check'])],
  ['workflows', () => npm('lint:workflows')],
  [
    'Rust lints',
    () =>
      run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--quiet', '--', '-D', 'warnings']),
  ],
  ['Rust tests', rust],
  // The Rust tests above use the highest SIMD level of this CPU; these run the same programs at lower levels.
  ...lowerLevels().map((level) => [
    `CPU tests with S4_SIMD=${level}`,
    () =>
      programs.length > 0 &&
      programs.every(({ file, cwd }) =>
        run(file, ['--quiet'], { cwd, env: { ...process.env, S4_SIMD: level } }),
      ),
  ]),
  ['addon and JavaScript', () => (release ? (build(), true) : buildTestAddon())],
  ['GPU kernels', kernels],
  ['generated types', () => node('scripts/check-types.mjs', ...(release ? [] : [own]))],
  ['tests through the public API', () => npm('ava')],
  ['the same without external memory', cage],
  ['every recipe in miniature', () => node('--test', 'scripts/recipes.test.mjs')],
  ['faults, in short: kills, workers, disks, exits, memory', faults],
  ['tests of the command', () => run('npm', ['test', '--silent', '-w', 'cli'])],
]

installPackages()
const nvrtc = fetchNvrtc()
const pip = spawnSync('python3', ['-m', 'pip', '--version']).status === 0
// Unless the caller named some; a build that cannot make one of them fails.
if (process.env.S4_CUDA_ARCHS === fewImages)
  if (release) process.env.S4_CUDA_ARCHS = allImages
  else {
    if (!mayHaveGpu) process.env.S4_CUDA_ARCHS = fewestImages
    process.env.S4_CUDA_SYNTAX ??= mayHaveGpu ? checkedImages.withGpu : checkedImages.withoutGpu
  }
if (nvrtc) process.env.S4_CUDA_REQUIRE = '1'
const results = []
for (const [name, check] of checks) {
  console.log(`\n── ${name}`)
  const start = performance.now()
  const ok = check()
  results.push([name, ok, (performance.now() - start) / 1000])
}
console.log('\n── summary')
for (const [name, ok, seconds] of results)
  console.log(`${ok ? 'passed' : 'FAILED'}  ${name} (${seconds.toFixed(0)} s)`)
if (!nvrtc) console.log('note: GPU kernels were not built here (no NVRTC)')
const failed = results.filter(([, ok]) => !ok).length
console.log(`\n${results.length - failed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
