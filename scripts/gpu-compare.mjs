// Times two unpacked builds of this project in turns on one GPU and fails where the second is slower than the first.
//   node scripts/gpu-compare.mjs OLD NEW [--rounds 5] [--seconds MOST] [--most 1.03] [--json FILE] [--run 'timings high step' …]
// OLD and NEW are folders as gpu-pack.mjs packs them (`.gpu/rust/timings`, `benches/gpu.mjs`). Built-in modules only.
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    most: { type: 'string', default: '1.03' },
    seconds: { type: 'string', default: '86400' },
    json: { type: 'string' },
    // Instead of all: one program with its words, any number of times.
    run: { type: 'string', multiple: true },
  },
})
const trees = positionals.map((folder) => resolve(folder))
if (trees.length !== 2) throw new Error('two folders: the old build, then the new one')

/** What is run in each tree, in this order. */
const allRuns = [
  ...['highest', 'high', 'bf16'].map((p) => ['timings', [p, 'dense', 'ssm', 'two-sided', 'step']]),
  ['timings', ['highest', 'fft']],
  ...['highest', 'high', 'bf16'].map((p) => ['node', ['benches/gpu.mjs', 'train', p]]),
  ['node', ['benches/gpu.mjs', 'step']],
]
const runs =
  values.run?.map((line) => line.split(' ')).map(([program, ...words]) => [program, words]) ?? allRuns

/** Every time of a program's output, by the words before it. */
function times(tree, [program, args]) {
  const file = program === 'node' ? process.execPath : join(tree, '.gpu/rust/timings')
  if (program !== 'node' && !existsSync(file)) throw new Error(`${file} is missing`)
  const { stdout, stderr, status } = spawnSync(file, program === 'node' ? ['--expose-gc', ...args] : args, {
    cwd: tree,
    encoding: 'utf8',
    env: { ...process.env, S4_DEVICE: 'cuda' },
    timeout: 120_000,
  })
  if (status !== 0) throw new Error(`${tree}: ${program} ${args.join(' ')} ended with ${status}\n${stderr}`)
  const found = []
  for (const line of stdout.split('\n')) {
    const at = line.indexOf(': ')
    if (at < 0 || /^cuda|memory held|kernels in this build/i.test(line)) continue
    // The precision stands in the arguments; words differ in nothing else between the trees.
    const head = line.slice(0, at).replace(/[Ff]lip|anticausal/, 'anticausal')
    for (const [, words, value] of line
      .slice(at + 2)
      .matchAll(/([a-zA-Z +-]*?)\s?(\d+\.\d+)(?= ms|\)|,|;|$| \()/g))
      found.push([`${args.join(' ')} | ${head} | ${words.trim() || 'time'}`, Number(value)])
  }
  return found
}

const samples = [new Map(), new Map()]
const end = performance.now() + Number(values.seconds) * 1000
let rounds = 0
for (; rounds < Number(values.rounds) && performance.now() < end; rounds++)
  for (const run of runs) {
    // The order alternates, so that neither tree always meets the warmer chip.
    for (const i of rounds % 2 === 0 ? [0, 1] : [1, 0])
      for (const [name, ms] of times(trees[i], run)) {
        if (!samples[i].has(name)) samples[i].set(name, [])
        samples[i].get(name).push(ms)
      }
  }

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1]
const rows = []
for (const [name, old] of samples[0]) {
  const now = samples[1].get(name)
  if (now === undefined) continue
  // What two runs of one build differ by: half the range of the old build's samples.
  const spread = (Math.max(...old) - Math.min(...old)) / 2 / median(old)
  rows.push({ name, old: median(old), new: median(now), ratio: median(now) / median(old), spread })
}
rows.sort((a, b) => b.ratio - a.ratio)
for (const { name, old, new: now, ratio, spread } of rows)
  console.log(`${ratio.toFixed(3)}  ${old} -> ${now}  ±${(100 * spread).toFixed(1)} %  ${name}`)
const slow = rows.filter((row) => row.ratio > Number(values.most))
if (values.json) writeFileSync(values.json, JSON.stringify(rows, null, 1) + '\n')
console.log(
  `${rounds} rounds, ${rows.length} times compared, ${slow.length} slower than ${values.most} times the old`,
)
process.exitCode = rows.length === 0 ? 1 : slow.length > 0 ? 2 : 0
