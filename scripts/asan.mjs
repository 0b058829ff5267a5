// npm run asan: runs the tests of the CPU's crates under AddressSanitizer, for every SIMD level that this CPU has. Needs Linux on
// x86-64, but no nightly compiler. Exits with 1 when a test fails or the sanitizer reports an error.
import { readFileSync } from 'node:fs'
import { run } from './setup.mjs'

const flags = readFileSync('/proc/cpuinfo', 'utf8')
const levels = [
  ['portable', true],
  ['avx2', /\bavx2\b/.test(flags) && /\bfma\b/.test(flags)],
  ['avx512', /\bavx512f\b/.test(flags)],
]
const packages = ['s4-backend', 's4-cpu', 's4-nn', 's4-ssm', 's4-data'].flatMap((name) => ['-p', name])
const target = ['--target', 'x86_64-unknown-linux-gnu', '--target-dir', 'target/asan']
let ok = true
for (const [level, there] of levels) {
  console.log(`\n── S4_SIMD=${level}${there ? '' : ': not on this CPU'}`)
  if (!there) continue
  const env = { ...process.env, RUSTC_BOOTSTRAP: '1', RUSTFLAGS: '-Zsanitizer=address', S4_SIMD: level }
  // Documentation tests are linked without the sanitizer.
  const tests = ['--lib', '--bins', '--tests']
  const passed = run('cargo', ['test', '--locked', '--quiet', ...target, ...packages, ...tests], { env })
  console.log(`${level}: ${passed ? 'clean' : 'FAILED'}`)
  ok = passed && ok
}
process.exit(ok ? 0 : 1)
