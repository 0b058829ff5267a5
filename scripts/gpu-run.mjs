// Runs on a GPU machine the tests and timings that gpu-pack.mjs has packed, with no CUDA library visible to them but the driver's, and
// writes a report.
//   bash gpu-run.sh [--only ITEM,ITEM] [--skip ITEM,ITEM] [--out FOLDER] [--limit SECONDS] [--jobs N]     all items unless told
//   node scripts/gpu-run.mjs --merge OUT.json REPORT.json …      joins reports of several calls, the later item of a name counts
// Ends with 1 when an item failed. FOLDER (./gpu-report) gets report.json and log.txt. Built-in modules only.
import { AsyncLocalStorage } from 'node:async_hooks'
import { spawn, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { shareOf } from './gpu-shares.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const node = process.execPath
/** Libraries of the CUDA toolkit, none of which may be loaded by a process of ours. */
const toolkit =
  /lib(cudart|cublas|cublasLt|cufft|cufftw|nvrtc|nvrtc-builtins|curand|cusparse|cusolver|cudnn|nvJitLink)\b/

/** The environment of our programs: LD_LIBRARY_PATH holds at most a folder with the driver's own libraries. */
function driverOnly() {
  const { LD_LIBRARY_PATH: path = '', ...env } = process.env
  env.S4_GOLDEN = join(root, '__test__/fixtures/golden')
  const loader = spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? ''
  if (loader.includes('libcuda.so.1')) return { env, how: 'LD_LIBRARY_PATH cleared' }
  const folders = [...path.split(':'), '/usr/local/nvidia/lib64', '/usr/local/nvidia/lib']
  const home = folders.find((f) => f !== '' && existsSync(join(f, 'libcuda.so.1')))
  if (home === undefined) return { env, how: 'LD_LIBRARY_PATH cleared; no libcuda.so.1 was found' }
  // The driver is where the loader does not look by itself: its own libraries and nothing beside them are shown.
  const only = mkdtempSync(join(tmpdir(), 's4-driver-'))
  for (const name of readdirSync(home))
    if (/^lib(cuda|nvidia-(ptxjitcompiler|nvvm|gpucomp|ml))\.so/.test(name))
      symlinkSync(join(home, name), join(only, name))
  return {
    env: { ...env, LD_LIBRARY_PATH: only },
    how: `LD_LIBRARY_PATH holds links to ${readdirSync(only).join(', ')} alone`,
  }
}
const { env, how } = driverOnly()

/**
 * What an item that runs beside others has: processor cores, as taskset has them, and a GPU. Each program makes as many threads as it
 * sees cores: many programs with all of them would stand in each other's way.
 */
const own = new AsyncLocalStorage()

/** Runs a program; its output and whether it ended well, in time. */
function program(command, args, { seconds = 300, extra = {} } = {}) {
  const { cores, gpu } = own.getStore() ?? {}
  const [first, ...rest] =
    cores === undefined ? [command, ...args] : ['taskset', '-c', cores, command, ...args]
  return new Promise((done) => {
    const child = spawn(first, rest, {
      cwd: root,
      env: { ...env, ...gpu, ...extra },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: what it has started must not go on beside the timings once it is stopped.
      detached: true,
    })
    let text = ''
    const take = (data) => (text += data)
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, 'SIGKILL')
    }, seconds * 1000)
    child.on('error', (e) => take(`${command}: ${e.message}\n`))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (late) text += `\nstopped after ${seconds} s`
      done({ text, ok: code === 0 && !late, code, signal })
    })
  })
}

/** A program for a child process: it trains, predicts and streams on the GPU, then prints the libraries that are mapped into it. */
const inside = `
  import { readFileSync } from 'node:fs'
  import { SequenceModel, diagnose } from 's4-node'
  const x = { data: Float32Array.from({ length: 400 }, (_, i) => Math.sin(i)), shape: [2, 200, 1] }
  const model = await SequenceModel.create({ input: 1, output: 1, features: 16, layers: 2, state: 16, loss: 'mse' })
  let loss
  for await (const e of model.train([{ input: x, target: x }, { input: x, target: x }], { epochs: 2 })) loss = e.loss
  await model.predict(x)
  model.stream({ batch: 2 }).push(x)
  console.log(JSON.stringify({ device: model.device, loss, diagnosis: diagnose() }))
  console.log([...new Set(readFileSync('/proc/self/maps', 'utf8').match(/\\/\\S*(cuda|nvidia|cublas|cufft|nvrtc|curand)\\S*\\.so\\S*/gi))].join('\\n'))
`

async function linking() {
  const addon = readdirSync(join(root, 'crates/node')).find((file) => file.endsWith('.node'))
  const ldd = await program('ldd', [join(root, 'crates/node', addon)])
  const child = await program(node, ['--input-type=module', '-e', inside], { seconds: 120 })
  const [first, ...mapped] = child.text.trim().split('\n')
  const onGpu = child.ok && JSON.parse(first).device.startsWith('cuda')
  const ok =
    ldd.ok &&
    onGpu &&
    !/cuda|nvidia|cublas|nvrtc/i.test(ldd.text) &&
    child.ok &&
    !mapped.some((l) => toolkit.test(l))
  const needs = ldd.text
    .trim()
    .split('\n')
    .map((l) => l.trim().split(' ')[0])
  return {
    ok,
    text: `${ldd.text}\n${child.text}`,
    detail: { ldd: needs, mapped, first: child.ok ? JSON.parse(first) : child.text.slice(-600) },
  }
}

/** Rust test programs: counts and the names of what failed. */
function rust(names) {
  return async (seconds) => {
    const all = { ok: true, text: '', detail: {}, passed: 0, failures: [] }
    for (const name of names) {
      const { text, ok } = await program(join(root, '.gpu/rust', name), ['--nocapture', '--test-threads=1'], {
        seconds,
      })
      const [, passed = 0] = /(\d+) passed/.exec(text) ?? []
      all.text += `── ${name}\n${text}\n`
      all.passed += Number(passed)
      // A test that finds no GPU is skipped, which counts as a failure on a GPU machine.
      const skipped = (text.match(/skipped: /g) ?? []).length
      if (!ok || Number(passed) === 0 || skipped > 0) all.ok = false
      all.failures.push(
        ...(text.match(/^test .* FAILED$/gm) ?? []),
        // Some tests that pass panic on purpose.
        ...(ok ? [] : (text.match(/^.*panicked at.*\n.*/gm) ?? [])).map((l) => l.slice(0, 400)),
      )
      all.detail[name] = {
        passed: Number(passed),
        skipped,
        checks: text.match(/^.*checks, worst.*$/gm) ?? [],
      }
    }
    return all
  }
}

/** Runs files of the suite through the public API: counts, and the names of what failed. */
async function tests(files, seconds, extra) {
  const args = ['node_modules/ava/entrypoints/cli.mjs', '--tap', '--concurrency=4', ...files]
  const environment = { S4_DEVICE: 'cuda', CI: '1', ...extra }
  const { text, ok } = await program(node, args, { seconds, extra: environment })
  const failures = []
  for (const part of text.split(/^(?=(?:not )?ok \d+ - )/m).filter((p) => p.startsWith('not ok')))
    failures.push(part.slice(0, 700))
  const count = (pattern) => (text.match(pattern) ?? []).length
  const passed = count(/^ok \d+ - (?!.*# SKIP)/gm)
  const skips = [...new Set(text.match(/skipped: [^\n]*/g) ?? [])]
  return { ok: ok && failures.length === 0 && passed > 0, text, passed, failures, detail: { skips } }
}

/** Files of the suite that have an item of their own. */
const table = 'wrong.test.js'

/** The suite but for the table of wrong values; `arch` forces one image of the kernels through the driver. */
function suite(arch) {
  const folder = 'build/__test__'
  return (seconds) => {
    const files = readdirSync(join(root, folder)).filter(
      (name) => name.endsWith('.test.js') && name !== table,
    )
    const paths = files.map((name) => `${folder}/${name}`)
    return tests(paths, seconds, arch ? { S4_CUDA_ARCH: arch } : {})
  }
}

/** The table of wrong values, in parts beside each other. */
async function wrongValues(seconds) {
  const parts = 4
  const runs = await Promise.all(
    Array.from({ length: parts }, (_, i) =>
      tests([`build/__test__/${table}`], seconds, { S4_TABLE_PART: `${i + 1}/${parts}` }),
    ),
  )
  return {
    ok: runs.every((run) => run.ok),
    text: runs.map((run) => run.text).join('\n'),
    passed: runs.reduce((sum, run) => sum + run.passed, 0),
    failures: runs.flatMap((run) => run.failures),
    detail: runs.flatMap((run) => run.text.match(/\d+ exports, .* failures, \d+ s/g) ?? []),
  }
}

/** The golden cases through the command. */
function verify(algorithm, precision) {
  return async (seconds) => {
    const args = [
      'cli/bin/s4.mjs',
      'verify',
      env.S4_GOLDEN,
      '--device',
      'cuda',
      '--algorithm',
      algorithm,
      '--precision',
      precision,
    ]
    const { text, ok } = await program(node, args, { seconds })
    const lines = text.trim().split('\n')
    const failures = lines.filter((l) => / past |unknown|cannot be run|ERR_S4/.test(l))
    return {
      ok,
      text,
      passed: lines.filter((l) => /^\S+ \S+ \d\.\d+e[+-]\d+$/.test(l)).length,
      failures: failures.slice(0, 60).map((l) => l.slice(0, 300)),
      detail: { summary: lines.slice(-2) },
    }
  }
}

/** Runs `s4 demo`, as `npm start` does; it must find the GPU without being told. */
async function start(seconds) {
  const folder = mkdtempSync(join(tmpdir(), 's4-start-'))
  const { text, ok } = await program(node, ['cli/bin/s4.mjs', 'demo', '--out', folder], { seconds })
  return {
    ok: ok && /on .*\(cuda:0\)/.test(text) && existsSync(join(folder, 'index.html')),
    text,
    detail: {
      lines: text
        .split(/[\n\r]/)
        .filter((l) => /electrocardiogram|updates|beats|streamed|report|marks|s4 demo/.test(l))
        .slice(-8),
    },
  }
}

/** One tool of compute-sanitizer, `undefined` where there is none, over the test that launches every kernel at small shapes, or over a part of it. */
async function sanitized(tool, seconds, extra) {
  const homes = ['/usr/local/cuda/bin/compute-sanitizer', '/opt/cuda/bin/compute-sanitizer']
  const path = homes.find((p) => existsSync(p)) ?? 'compute-sanitizer'
  if (spawnSync(path, ['--version']).error !== undefined) return undefined
  const options = ['--tool', tool, '--error-exitcode', '9', '--print-limit', '20']
  const test = [join(root, '.gpu/rust/against_cpu'), 'every_kernel', '--nocapture', '--test-threads=1']
  const { text, ok } = await program(path, [...options, ...test], { seconds, extra })
  const summary = text.match(/^=+ (ERROR|RACECHECK) SUMMARY.*$/gm) ?? []
  const clean = ok && summary.length > 0 && /[1-9] passed/.test(text) && !/skipped: /.test(text)
  const failures = clean
    ? []
    : (text.match(/^(=+ |test |kernels that were not|stopped).*$/gm) ?? []).slice(0, 20)
  const detail = [...summary, ...(text.match(/^\d+ kernels$/gm) ?? [])]
  return { ok: clean, text, detail, failures }
}

const absent = { ok: true, text: '', detail: 'skipped: no compute-sanitizer on this machine' }

/** The whole test; it fails where it misses a kernel. */
function sanitizer(tool) {
  return async (seconds) => {
    const run = await sanitized(tool, seconds, {})
    if (run === undefined) return absent
    const { text, ...rest } = run
    return { ...rest, text: rest.ok ? '' : text.slice(0, 200_000) }
  }
}

/** The parts of the test side by side, for a tool that takes a tenth of a second a launch; together they must have launched every kernel. */
function sanitizerByParts(tool) {
  const parts = ['common', 'highest', 'high', 'bf16', 'compute_80', 'compute_80-bf16', 'compute_75']
  return async (seconds) => {
    const began = performance.now()
    const runs = await Promise.all(
      parts.map(async (name) => {
        const run = await sanitized(tool, seconds, { S4_EVERY: name })
        return run && { name, seconds: Math.round((performance.now() - began) / 1000), ...run }
      }),
    )
    if (runs.includes(undefined)) return absent
    const names = (list) =>
      runs.flatMap(({ text }) => new RegExp(`^${list}: (.+)$`, 'm').exec(text)?.[1].split(' ') ?? [])
    const launched = new Set(names('launched'))
    const left = [...new Set(names('there are'))].filter((name) => !launched.has(name))
    const ok = runs.every((run) => run.ok) && left.length === 0
    const missed = left.length === 0 ? [] : [`kernels that were not launched: ${left.join(' ')}`]
    return {
      ok,
      text: ok ? '' : runs.map((run) => `── ${run.name}\n${run.text.slice(0, 30_000)}`).join('\n'),
      detail: [
        ...runs.map((run) => `${run.name}, ${run.seconds} s: ${run.detail.join(' ')}`),
        `${launched.size} kernels`,
      ],
      failures: [...missed, ...runs.flatMap((run) => run.failures.map((line) => `${run.name}: ${line}`))],
    }
  }
}

/** Times of the operations in one precision class. */
function timings(...args) {
  return async (seconds) => {
    const { text, ok } = await program(join(root, '.gpu/rust/timings'), args, { seconds })
    return { ok, text, detail: { lines: text.trim().split('\n') } }
  }
}

/** Times PyTorch's convolution on the same machine for comparison; skipped where the machine has no PyTorch. */
async function peer(seconds) {
  const has = await program('python3', ['-c', 'import torch; assert torch.cuda.is_available()'], { seconds })
  if (!has.ok) return { ok: true, text: has.text, detail: 'skipped: no torch with a GPU on this machine' }
  const { text, ok } = await program('python3', ['benches/torch_conv.py'], { seconds })
  return { ok, text, detail: { lines: text.trim().split('\n') } }
}

/** Whole models through the public API. */
function bench(programs, extra = { S4_DEVICE: 'cuda' }) {
  return async (seconds) => {
    const out = { ok: true, text: '', detail: { lines: [] } }
    for (const args of programs) {
      const { text, ok } = await program(node, ['--expose-gc', ...args], { seconds, extra })
      out.ok &&= ok
      out.text += text
      out.detail.lines.push(...text.trim().split('\n').slice(0, 12))
    }
    return out
  }
}

/** Live streams of one model on two cores of the processor, which are not two threads of one core. */
function fleet(seconds) {
  const { stdout } = spawnSync('lscpu', ['-p=CPU,CORE'], { encoding: 'utf8' })
  const lines = (stdout ?? '').split('\n').filter((line) => /^\d/.test(line))
  const firstOf = new Map(lines.map((line) => line.split(',').toReversed()).toReversed())
  const cores = firstOf.size > 1 ? [...firstOf.values()].slice(0, 2).join(',') : undefined
  return own.run({ cores }, () => bench([['benches/node.mjs', 'fleet']], { S4_DEVICE: 'cpu' })(seconds))
}

/** A recipe that is killed, and told to end, within an epoch, goes on to the bits of an undisturbed run. */
async function resumed(seconds) {
  const args = ['--test', '--test-reporter=tap', '--test-name-pattern=killed', 'scripts/recipes.test.mjs']
  const { text, ok } = await program(node, args, { seconds, extra: { S4_DEVICE: 'cuda' } })
  const passed = Number(/^# pass (\d+)$/m.exec(text)?.[1] ?? 0)
  return { ok: ok && passed === 1, text, passed, failures: ok ? [] : [text.slice(0, 2000)] }
}

/** What `generate` is timed with. */
const generation = '--feed-forward 0 --contexts 1024,20000 --batches 1,256 --seconds 2'

/** The items of a run: name, function, and the largest number of seconds. */
const items = [
  ['linking', linking, 120],
  ['rust', rust(['unit', 'conformance', 'against_cpu']), 520],
  ['ava', suite(), 480],
  ['wrong-values', wrongValues, 300],
  ['verify-chunk', verify('chunk', 'highest'), 120],
  ['verify-fft', verify('fft', 'highest'), 120],
  ['verify-cauchy', verify('cauchy', 'highest'), 120],
  ['start', start, 240],
  ['resumed', resumed, 120],
  ['ava-compute_80', suite('compute_80'), 480],
  ['ava-compute_75', suite('compute_75'), 480],
  ['sanitizer-memcheck', sanitizer('memcheck'), 240],
  ['sanitizer-racecheck', sanitizerByParts('racecheck'), 400],
  ['sanitizer-initcheck', sanitizer('initcheck'), 240],
  ['sanitizer-synccheck', sanitizer('synccheck'), 240],
  ...['high', 'bf16'].flatMap((p) => ['chunk', 'fft'].map((a) => [`verify-${a}-${p}`, verify(a, p), 120])),
  ['timings', timings(), 200],
  ['timings-high', timings('high', 'dense', 'ssm', 'two-sided'), 100],
  ['timings-torch', peer, 100],
  ['bench-step', bench([['benches/gpu.mjs', 'step']]), 60],
  ['bench-intervals', bench([['benches/gpu.mjs', 'intervals']]), 60],
  [
    'bench-train',
    bench([
      ['benches/gpu.mjs', 'train', 'highest'],
      ['benches/gpu.mjs', 'train', 'high'],
    ]),
    150,
  ],
  ['bench-generate', bench([`benches/generation.mjs ${generation}`.split(' ')]), 60],
  ['bench-fleet', fleet, 60],
  [
    'bench',
    bench([['block'], ['train', 'auto'], ['stream']].map((args) => ['benches/node.mjs', ...args])),
    100,
  ],
]

function machine() {
  const smi = spawnSync(
    'nvidia-smi',
    ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'],
    { encoding: 'utf8' },
  )
  const commit = join(root, '.gpu/commit')
  return {
    gpu: smi.stdout?.trim() || 'nvidia-smi gave nothing',
    cpu: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores`,
    node: process.version,
    commit: existsSync(commit) ? readFileSync(commit, 'utf8') : 'unknown',
    libraries: how,
  }
}

function merge([target, ...sources]) {
  const read = sources.map((path) => JSON.parse(readFileSync(path, 'utf8')))
  const byName = new Map(
    read.flatMap((r) => r.items.map((item) => [item.name, { ...item, machine: item.machine ?? r.machine }])),
  )
  const order = new Map(items.map(([name], i) => [name, i]))
  const all = [...byName.values()].toSorted((a, b) => (order.get(a.name) ?? 99) - (order.get(b.name) ?? 99))
  writeFileSync(target, JSON.stringify({ items: all }, null, 1) + '\n')
  return 0
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string' },
      skip: { type: 'string' },
      out: { type: 'string' },
      limit: { type: 'string' },
      jobs: { type: 'string' },
      merge: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  })
  const names = items.map(([name]) => name)
  if (values.help) {
    console.log(`items: ${names.join(' ')}`)
    return 0
  }
  if (values.merge) return merge(positionals)
  const listed = (text) => text?.split(',').filter((name) => name !== '')
  const unknown = [...(listed(values.only) ?? []), ...(listed(values.skip) ?? [])].filter(
    (n) => !names.includes(n),
  )
  if (unknown.length > 0) throw new Error(`no item ${unknown.join(', ')}; there are ${names.join(' ')}`)
  const chosen = items.filter(
    ([n]) => (listed(values.only)?.includes(n) ?? true) && !listed(values.skip)?.includes(n),
  )
  const out = resolve(values.out ?? 'gpu-report')
  mkdirSync(out, { recursive: true })
  const end = performance.now() + Number(values.limit ?? 86400) * 1000
  const report = { when: new Date().toISOString(), machine: machine(), items: [] }
  console.log(`${report.machine.gpu}; ${report.machine.commit}; ${how}`)
  const place = new Map(items.map(([name], i) => [name, i]))
  async function one([name, body, most]) {
    const left = (end - performance.now()) / 1000
    const began = performance.now()
    let result = { ok: false, text: '', detail: 'no time was left' }
    if (left > 5)
      result = await body(Math.min(most, left)).catch((e) => ({
        ok: false,
        text: String(e?.stack),
        detail: String(e),
      }))
    const { text, ...kept } = result
    const seconds = Number(((performance.now() - began) / 1000).toFixed(1))
    appendFileSync(join(out, 'log.txt'), `\n════ ${name}\n${text}\n`)
    report.items.push({ name, seconds, ...kept })
    report.items.sort((x, y) => place.get(x.name) - place.get(y.name))
    writeFileSync(join(out, 'report.json'), JSON.stringify(report, null, 1) + '\n')
    const counts = [
      result.passed && `${result.passed} passed`,
      result.failures?.length && `${result.failures.length} failures`,
    ]
    console.log(
      [`${result.ok ? 'passed' : 'FAILED'} ${name}`, `${seconds} s`, ...counts].filter(Boolean).join(', '),
    )
  }
  // Timings run alone, after all other items.
  const timed = chosen.filter(([name]) => /^(timings|bench)/.test(name))
  const rest = chosen.filter((item) => !timed.includes(item))
  const jobs = Number(values.jobs ?? 1)
  // The longest first, so that none of them ends long after the others.
  if (jobs > 1) rest.sort((x, y) => y[2] - x[2])
  const visible = process.env.CUDA_VISIBLE_DEVICES?.split(',')
  const gpus = visible ?? report.machine.gpu.split('\n').map((_, i) => String(i))
  const worker = async () => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await one(item)
  }
  await Promise.all(Array.from({ length: jobs }, (_, i) => own.run(shareOf(i, jobs, gpus), worker)))
  for (const item of timed) await one(item)
  return report.items.every((item) => item.ok) ? 0 : 1
}

process.exitCode = await main()
