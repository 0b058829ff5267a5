// npm run bench: measures the times of single operations and of whole models on this machine. Times are medians; since machines are
// noisy, compare ratios within one run.
//   npm run bench            everything          npm run bench -- node    only through the Node API
//   npm run bench -- rust    only the crates              npm run bench -- data    only the readers of files
//   npm run bench -- generate (block, train, stream, fleet)       only that case of the Node API
import { cpus } from 'node:os'
import { run, setup } from './setup.mjs'

const what = process.argv[2] ?? 'all'
setup()
console.log(`\n${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}\n`)
let ok = true
if (what === 'all' || what === 'data') {
  console.log('── readers, through the Node API')
  ok = run(process.execPath, ['benches/data.mjs']) && ok
}
if (what === 'all' || what === 'rust') {
  for (const [crate, bench] of [
    ['s4-cpu', 'dense_ops'],
    ['s4-cpu', 'ssm_ops'],
    ['s4-cpu', 'chunk_ops'],
    ['s4-nn', 'model'],
  ]) {
    console.log(`── ${crate}: ${bench}`)
    ok = run('cargo', ['bench', '--quiet', '--locked', '-p', crate, '--bench', bench]) && ok
  }
}
if (!['rust', 'data'].includes(what)) {
  console.log('── through the Node API')
  // Each case runs in a process of its own, so that its peak memory is measured separately.
  const cases = [
    ['block'],
    ['train', 'auto'],
    ['train', 'fft'],
    ['train', 'chunk'],
    ['intervals'],
    ['stream'],
    ['fleet'],
    ['generate'],
  ]
  for (const args of cases.filter(([name]) => ['all', 'node', name].includes(what)))
    ok = run(process.execPath, ['--expose-gc', 'benches/node.mjs', ...args]) && ok
}
process.exit(ok ? 0 : 1)
