// npm test: sets up and runs every check; all of them run even when one fails. Ends with 'N passed, N failed'.
import { fetchNvrtc, build, installPackages, root, run } from './setup.mjs'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const npm = (...args) => run('npm', ['run', '--silent', ...args])
const checks = [
  ['Rust format', () => run('cargo', ['fmt', '--all', '--check'])],
  [
    'Rust lints',
    () =>
      run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--quiet', '--', '-D', 'warnings']),
  ],
  ['Rust tests', () => run('cargo', ['test', '--workspace', '--locked', '--quiet'])],
  ['addon and JavaScript', () => (build(), true)],
  [
    'generated types are current',
    () => run('git', ['diff', '--exit-code', '--stat', '--', 'index.d.ts', 'api/*.d.ts']),
  ],
  ['TypeScript lints', () => npm('lint')],
  ['TypeScript format', () => npm('format', '--', '--check')],
  ['tests through the public API', () => npm('ava')],
  ['tests of the command', () => run('npm', ['test', '--silent', '-w', 'cli'])],
]

installPackages()
fetchNvrtc()
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
if (!existsSync(join(root, '.cuda'))) console.log('note: GPU kernels were not built here (no NVRTC)')
const failed = results.filter(([, ok]) => !ok).length
console.log(`\n${results.length - failed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
