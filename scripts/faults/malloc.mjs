// What the C library's allocator has handed out: where glibc and a C compiler are, or not at all.
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A function that gives the bytes in use, compiled into `folder`; undefined, with a line on the console, where it cannot be made. */
export function mallocInUse(folder) {
  const source = join(dirname(fileURLToPath(import.meta.url)), 'malloc.c')
  const file = join(folder, 'malloc.node')
  const { status } = spawnSync('cc', ['-O1', '-shared', '-fPIC', '-o', file, source], { stdio: 'ignore' })
  if (process.platform !== 'linux' || status !== 0) {
    console.log('skipped: bytes in use, which need glibc and a C compiler')
    return undefined
  }
  const module = { exports: {} }
  process.dlopen(module, file)
  return module.exports
}
