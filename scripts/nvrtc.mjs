// Fetches NVRTC 12.8 (the CUDA run-time compiler) and the CUDA headers into .cuda/ with Python's pip; needs no
// GPU and no CUDA toolkit. crates/cuda/build.rs finds them there. Built-in modules only.
//   node scripts/nvrtc.mjs [--force]
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const wheels = ['nvidia-cuda-nvrtc-cu12==12.8.93', 'nvidia-cuda-runtime-cu12==12.8.90']
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '.cuda')
const stamp = join(root, 'stamp')

function run(command, args) {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? null : String(error?.message ?? stderr)
}

function main() {
  if (existsSync(stamp) && !process.argv.includes('--force')) {
    console.log(`NVRTC is in ${root}`)
    return 0
  }
  const python = ['python3', 'python'].find((p) => run(p, ['-m', 'pip', '--version']) === null)
  if (!python) {
    console.log(
      'NVRTC was not fetched: no python3 with pip on this machine. The build goes on without GPU kernels.',
    )
    return 1
  }
  rmSync(root, { recursive: true, force: true })
  const folder = join(root, 'wheels')
  mkdirSync(folder, { recursive: true })
  for (const wheel of wheels) {
    const problem = run(python, [
      '-m',
      'pip',
      'download',
      '--no-deps',
      '--quiet',
      '--disable-pip-version-check',
      '--only-binary',
      ':all:',
      '-d',
      folder,
      wheel,
    ])
    if (problem) {
      console.log(
        `NVRTC was not fetched: ${problem.trim().split('\n').at(-1)}. The build goes on without GPU kernels.`,
      )
      return 1
    }
  }
  // A wheel is a zip file; Python unpacks it everywhere.
  for (const file of readdirSync(folder)) {
    const problem = run(python, ['-m', 'zipfile', '-e', join(folder, file), root])
    if (problem) throw new Error(problem)
  }
  rmSync(folder, { recursive: true })
  writeFileSync(stamp, wheels.join('\n') + '\n')
  // Cargo looks at this file to know that the kernels must be built.
  const now = new Date()
  utimesSync(join(root, '..', 'crates', 'cuda', 'build.rs'), now, now)
  console.log(`NVRTC is in ${root}`)
  return 0
}

process.exitCode = main()
