// The release build of the addon for one platform. For Linux by cargo-zigbuild, against glibc 2.28 or musl whatever this machine
// has; both come from PyPI into target/zig, and need no root.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { allImages, fetchNvrtc, fewImages, must, root, run } from '../setup.mjs'

/** The oldest glibc that the packages run on: Debian 10, Ubuntu 20.04, RHEL 8. */
export const glibc = '2.28'
const wheels = ['ziglang==0.17.1', 'cargo-zigbuild==0.24.1']
const venv = join(root, 'target', 'zig')

/** Where `addonFor` puts what it builds. */
export const addons = join(root, 'target', 'packages', 'addons')

/** This machine's target, as Rust names it. */
export function hostTarget() {
  const { stdout } = spawnSync('rustc', ['-vV'], { encoding: 'utf8' })
  return /^host: (.+)$/m.exec(stdout ?? '')?.[1]
}

/** Zig and cargo-zigbuild, fetched once; the folder of their commands. */
function zig() {
  const bin = join(venv, 'bin')
  const stamp = join(venv, wheels.join(' '))
  if (!existsSync(stamp)) {
    rmSync(venv, { recursive: true, force: true })
    mkdirSync(join(root, 'target'), { recursive: true })
    must('python3 -m venv', run('python3', ['-m', 'venv', venv]))
    const install = ['install', '--quiet', '--disable-pip-version-check', '--only-binary', ':all:', ...wheels]
    must('Fetching Zig (pip)', run(join(bin, 'pip'), install))
    writeFileSync(stamp, '')
  }
  return bin
}

/** Builds `s4-node.<platform>.node` for a target of Rust's, with the GPU kernels where the target can have a GPU; the file. */
export function addonFor(target) {
  const linux = target.includes('-linux-')
  if (process.env.S4_CUDA_ARCHS === fewImages) process.env.S4_CUDA_ARCHS = allImages
  // No NVIDIA driver exists for macOS.
  if (target.includes('-apple-')) process.env.S4_CUDA_ARCHS = ''
  if (process.env.S4_CUDA_ARCHS !== '') {
    must('Fetching NVRTC', fetchNvrtc())
    process.env.S4_CUDA_REQUIRE = '1'
  }
  const spelled = target.endsWith('-linux-gnu') ? `${target}.${glibc}` : target
  const command = ['build', '--platform', '--release', ...(linux ? ['-x'] : []), '--target', spelled]
  const paths = [
    '--manifest-path',
    'crates/node/Cargo.toml',
    '--output-dir',
    addons,
    '--no-js',
    '--dts',
    'native.d.ts',
  ]
  const env = { ...process.env }
  if (linux) env.PATH = `${zig()}${delimiter}${env.PATH}`
  mkdirSync(addons, { recursive: true })
  must(
    `The build of the addon for ${target}`,
    run('npx', ['napi', ...command, ...paths, '--', '--locked'], { env }),
  )
  return readdirSync(addons)
    .filter((name) => name.endsWith('.node'))
    .map((name) => join(addons, name))
}
