// npm test: sets up and runs every check; all of them run even when one fails. Ends with 'N passed, N failed'.
import { spawnSync } from 'node:child_process'
import { dirname } from 'node:path'
import { allImages, build, fetchNvrtc, fewImages, installPackages, root, run } from './setup.mjs'

const npm = (...args) => run('npm', ['run', '--silent', ...args])
/** The addon must hold an image of the kernels for each architecture of a release, though nothing here can run them. */
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
  console.log(missing.length === 0 ? stdout.trim() : `missing: ${missing.join(' ')}`)
  return missing.length === 0
}

/** Test programs of the crates that compute on the CPU. */
let programs = []
function rust() {
  const tests = ['test', '--workspace', '--locked']
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

const checks = [
  ['Rust format', () => run('cargo', ['fmt', '--all', '--check'])],
  [
    'Rust lints',
    () =>
      run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--quiet', '--', '-D', 'warnings']),
  ],
  ['Rust tests', rust],
  // The run above took the best level of this CPU; a level that it lacks would only be that one again.
  ...['portable', 'avx2'].map((level) => [
    `CPU tests with S4_SIMD=${level}`,
    () =>
      programs.length > 0 &&
      programs.every(({ file, cwd }) =>
        run(file, ['--quiet'], { cwd, env: { ...process.env, S4_SIMD: level } }),
      ),
  ]),
  ['addon and JavaScript', () => (build(), true)],
  ['GPU kernels of every architecture', kernels],
  [
    'generated types are current',
    () => {
      const { stdout } = spawnSync('git', ['status', '--porcelain', '--', 'index.d.ts', 'api/*.d.ts'], {
        cwd: root,
        encoding: 'utf8',
      })
      // What is staged is as it will be committed.
      const stale = stdout.split('\n').filter((line) => line !== '' && line[1] !== ' ')
      console.log(stale.join('\n'))
      return stale.length === 0
    },
  ],
  ['TypeScript lints', () => npm('lint')],
  ['TypeScript format', () => npm('format', '--', '--check')],
  ['tests through the public API', () => npm('ava')],
  ['tests of the command', () => run('npm', ['test', '--silent', '-w', 'cli'])],
]

installPackages()
const nvrtc = fetchNvrtc()
const pip = spawnSync('python3', ['-m', 'pip', '--version']).status === 0
// Every image, unless the caller named some; a build that cannot make one of them fails.
if (process.env.S4_CUDA_ARCHS === fewImages) process.env.S4_CUDA_ARCHS = allImages
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
