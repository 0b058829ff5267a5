// Sets up a clone: installs npm packages and the CUDA compiler library (optional), builds the addon and the JavaScript. Uses no modules
// but Node's own, so that it runs before any package is installed.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createHash } from 'node:crypto'

/**
 * The kernel images of a build from source: machine code for Hopper, and PTX, which the driver compiles for every other chip. Minutes
 * quicker to build than `allImages`.
 */
export const fewImages = '90a compute_75 compute_80'
/**
 * What `npm test` reads and checks without making an image: with `fewImages`, one for each generation between which the kernels' source
 * distinguishes (__CUDA_ARCH__ from 750, 800, 900 with and without Hopper's own instructions). Where there is no GPU to run anything, it
 * makes `fewestImages`: machine code, which takes every stage of the compiler, and PTX.
 */
export const checkedImages = { withGpu: 'compute_100', withoutGpu: 'compute_80 compute_100' }
export const fewestImages = '90a compute_75'
/** The kernel images of a release: machine code for every generation of chips, and PTX for later ones. */
export const allImages = '75 80 86 89 90a 100 120 compute_75 compute_80'
process.env.S4_CUDA_ARCHS ??= fewImages

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Runs a command in the project's folder with its output shown; true when it ended well. */
export function run(command, args, options = {}) {
  const shell = process.platform === 'win32'
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', shell, ...options })
  if (error) console.error(`${command}: ${error.message}`)
  return status === 0
}

/** Ends with a sentence when a step fails. */
export function must(what, ok) {
  if (ok) return
  console.error(`\n${what} failed; the lines above say why.`)
  process.exit(1)
}

function has(command) {
  return (
    spawnSync(command, ['--version'], { stdio: 'ignore', shell: process.platform === 'win32' }).status === 0
  )
}

/**
 * What cargo compiles for the Rust tests then serves an addon built for tests as well: the napi-rs CLI names the target, so all
 * commands must, and the profiles `dev` and `test` become one.
 */
export function shareCompilation() {
  const { stdout } = spawnSync('rustc', ['-vV'], { encoding: 'utf8' })
  const host = /^host: (.+)$/m.exec(stdout ?? '')?.[1]
  if (host !== undefined) process.env.CARGO_BUILD_TARGET ??= host
  // A panic says its line without them; a debugger needs them (CARGO_PROFILE_TEST_DEBUG=1).
  process.env.CARGO_PROFILE_DEV_DEBUG ??= '0'
  process.env.CARGO_PROFILE_TEST_DEBUG ??= '0'
  // Nor does it link across the parts of a crate.
  process.env.CARGO_PROFILE_DEV_LTO ??= 'off'
  process.env.CARGO_PROFILE_TEST_LTO ??= 'off'
  // What makes the next build quicker makes the first one slower.
  if (!existsSync(join(root, 'target'))) process.env.CARGO_INCREMENTAL ??= '0'
}

/** Installs the locked packages unless node_modules already holds them. */
export function installPackages() {
  const lock = readFileSync(join(root, 'package-lock.json'))
  const stamp = join(root, 'node_modules', '.s4-lock')
  const wanted = createHash('sha256').update(lock).digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  console.log('Installing npm packages …')
  must('npm ci', run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']))
  writeFileSync(stamp, wanted)
}

/** Fetches NVRTC for the GPU kernels where Python is there; without it the addon is built for the CPU alone. True when it is there. */
export function fetchNvrtc() {
  const fetched = run(process.execPath, [join(root, 'scripts', 'nvrtc.mjs')])
  if (!fetched) console.log('Building without GPU kernels.')
  return fetched
}

function newest(path) {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  return Math.max(
    0,
    ...readdirSync(path)
      .filter((n) => n !== 'target' && n !== 'node_modules')
      .map((n) => newest(join(path, n))),
  )
}

function addonTime() {
  const folder = join(root, 'crates', 'node')
  return Math.max(
    0,
    ...readdirSync(folder)
      .filter((n) => n.endsWith('.node'))
      .map((n) => statSync(join(folder, n)).mtimeMs),
  )
}

/** Compiles the API, its public types and the command; true when all ended well. */
export function buildJavaScript() {
  const npm = (...args) => run('npm', ['run', '--silent', ...args])
  return npm('build:ts') && npm('build:types') && npm('build', '-w', 'cli')
}

/** Builds addon and JavaScript where sources are newer than what was built. */
export function build({ force = false } = {}) {
  if (!has('cargo')) must('Rust is needed to build from source (https://rustup.rs): looking for cargo', false)
  const sources = [
    'Cargo.toml',
    'Cargo.lock',
    ...readdirSync(join(root, 'crates'))
      .filter((name) => name !== 'node' && name !== 'testing')
      .map((name) => `crates/${name}`),
    'crates/node/src',
  ]
  if (force || addonTime() < Math.max(...sources.map((s) => newest(join(root, s))))) {
    console.log('Building the addon (a few minutes the first time) …')
    must('The build of the addon', run('npm', ['run', '--silent', 'build:native']))
  }
  must('The build of the JavaScript', buildJavaScript())
}

export function setup(options) {
  installPackages()
  fetchNvrtc()
  build(options)
}
