// Training by two ranks on a machine with two GPUs, by NCCL: node scripts/distributed-check.mjs [--dry] [--out FILE] [--reviews aclImdb] [--only PART,PART]
// Needs the addon with kernels for the GPUs, and a libnccl.so.2: S4_NCCL_LIBRARY, or that of a Python's PyTorch. Prints one JSON
// object and writes it to benches/gpu-report-2.json; exit status 1 where a check fails or a limit is missed. Some six minutes.
// --dry: the same program with ranks as worker threads on the CPU, small sizes, no NCCL, no limits of time; writes only to --out.
import { execFileSync, fork, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'

const worker = fileURLToPath(new URL('distributed-rank.mjs', import.meta.url))
const { values: args } = parseArgs({
  options: {
    dry: { type: 'boolean' },
    out: { type: 'string' },
    reviews: { type: 'string' },
    only: { type: 'string' },
  },
})
const { dry = false } = args
const report2 = fileURLToPath(new URL('../benches/gpu-report-2.json', import.meta.url))
const out = args.out ?? (dry || args.only ? undefined : report2)
const began = performance.now()
const seconds = (from = began) => Math.round((performance.now() - from) / 10) / 100
/** Beyond these seconds of the whole program the parts that take long are left out. */
const ENOUGH = 330
/** Seconds that a rank may take. */
const LONGEST = 170
const folder = mkdtempSync(join(tmpdir(), 's4-distributed-check-'))
const report = { dry, checks: {}, limits: {}, failures: [] }

/** Where NCCL is: asked of Python, which is not made to import PyTorch. */
function ncclLibrary() {
  if (process.env.S4_NCCL_LIBRARY) return process.env.S4_NCCL_LIBRARY
  const program = `
import glob, importlib.util, os, site, sys, sysconfig
roots = [sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"], *site.getsitepackages(), *sys.path]
spec = importlib.util.find_spec("torch")
if spec and spec.submodule_search_locations: roots.insert(0, os.path.dirname(list(spec.submodule_search_locations)[0]))
names = ["nvidia/nccl/lib/libnccl.so.2", "torch/lib/libnccl.so.2", "torch/lib/libnccl*.so*", "nvidia/*/lib/libnccl.so*"]
found = [path for root in roots for name in names for path in glob.glob(os.path.join(root, name))]
print(found[0] if found else "")`
  for (const python of ['python3', '/opt/torch/.venv/bin/python3', 'python']) {
    try {
      const path = execFileSync(python, ['-c', program], { encoding: 'utf8' }).trim()
      if (path !== '') return path
    } catch {}
  }
  return undefined
}

/** A port that nothing listens on. */
async function freePort() {
  const server = createServer().listen(0)
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return String(port)
}

/** Starts a rank with its task; `result` gives what it has written, its exit code and how long it ran. */
function start(task, ranks = {}) {
  const written = join(folder, `${Math.random()}.json`)
  // NVLink multicast stays off: docs/distributed.md.
  const env = { NCCL_NVLS_ENABLE: '0', ...process.env, ...ranks }
  const data = JSON.stringify({ ...task, dry, out: written })
  const from = performance.now()
  let noises = ''
  const child = dry
    ? new Worker(worker, { env, argv: [data], stderr: true })
    : fork(worker, [data], { env, silent: true })
  child.stderr.on('data', (piece) => (noises += piece))
  const said = []
  let listener
  child.on('message', (message) => {
    said.push(message)
    listener?.(message)
  })
  const kill = (signal) => (dry ? child.terminate() : child.kill(signal))
  const timer = setTimeout(() => kill('SIGKILL'), LONGEST * 1000)
  const result = once(child, 'exit').then(([code, signal]) => {
    clearTimeout(timer)
    let results
    try {
      results = JSON.parse(readFileSync(written, 'utf8'))
    } catch {}
    return { ...results, code, signal, seconds: seconds(from), stderr: noises.slice(-1500) }
  })
  /** Waits until the rank has said that it has made so many updates, or has ended. */
  const reached = (updates) =>
    Promise.race([
      result,
      new Promise((resolve) => {
        const look = (message) => message.updates >= updates && resolve()
        said.forEach(look)
        listener = look
      }),
    ])
  return { kill, result, reached }
}

/** Starts two ranks by what a shell loop sets. */
async function pair(task, own = [{}, {}]) {
  const port = await freePort()
  return own.map((more, rank) =>
    start(
      { ...task, ...more },
      {
        RANK: String(rank),
        WORLD_SIZE: '2',
        LOCAL_RANK: String(rank),
        LOCAL_WORLD_SIZE: '2',
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: port,
      },
    ),
  )
}

const only = args.only?.split(',')
// These are compared with one rank.
if (only?.some((name) => ['shell loop', 'torchrun', 'scaling'].includes(name))) only.push('alone')

/** Runs a part, if it is asked for; what it throws is a failure, and the rest goes on. */
async function part(name, work) {
  if (only && !only.includes(name)) return
  const from = performance.now()
  try {
    report.checks[name] = { ...(await work()), seconds: seconds(from) }
  } catch (error) {
    report.checks[name] = { error: error.stack, seconds: seconds(from) }
    report.failures.push(`${name}: ${error.message}`)
  }
}

function must(what, holds, detail) {
  if (!holds) throw new Error(`${what}${detail === undefined ? '' : `: ${JSON.stringify(detail)}`}`)
}

/** The largest |a − b|, of numbers above 1 by their size; NaN where they are not of one length. */
const difference = (a, b) =>
  a?.length > 0 && a.length === b?.length
    ? a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]) / Math.max(1, Math.abs(b[i]))), 0)
    : NaN
const short = ({ code, signal, seconds: s, error: thrown, stderr }) => ({
  code,
  signal,
  seconds: s,
  thrown,
  stderr,
})

/** Notes a figure and its limit; where it is missed on GPUs the program fails. */
function limit(name, got, want, holds) {
  report.limits[name] = { got, want, holds }
  if (!holds && !dry) report.failures.push(`${name}: ${got}, not ${want}`)
}

/** Gives the results of ranks that ended well. */
async function ended(started) {
  const results = await Promise.all(started.map(({ result }) => result))
  for (const result of results) must('a rank to end well', result.code === 0 && !result.error, short(result))
  return results
}

/** Length of the difference of two vectors, of the length of the second; NaN where they are not of one length. */
function relative(a, b) {
  if (!(a?.length > 0 && a.length === b?.length)) return NaN
  const length = (f) => Math.sqrt(b.reduce((sum, _, i) => sum + f(i) ** 2, 0))
  return length((i) => a[i] - b[i]) / length((i) => b[i])
}

/** Two ranks against one on the joint batch, with a norm. */
function compare(norm, one, [a, b]) {
  const name = `equal-${norm}`
  const [of1, of2] = [one[name], a[name]]
  const figures = {
    updates: of1.losses.length,
    gradientsOfTheFirst: relative(of2.gradients, of1.gradients),
    gradNormOfTheFirst: Math.abs(of2.gradNorms[0] - of1.gradNorms[0]) / of1.gradNorms[0],
    parametersAfterTen: relative(of2.parameters, of1.parameters),
    losses: Math.max(...of1.losses.map((loss, i) => Math.abs(of2.losses[i] - loss) / Math.abs(loss))),
    loss: of1.losses.at(-1),
    outputs: difference(of2.outputs, of1.outputs),
  }
  must(
    'gradients that are not all zeros',
    of1.gradients.some((x) => x !== 0),
  )
  must('gradients of the first update to 1e-5', figures.gradientsOfTheFirst <= 1e-5, figures)
  must('parameters after ten updates to 1e-5', figures.parametersAfterTen <= 1e-5, figures)
  must('50 updates', of1.losses.length === 50 && of2.losses.length === 50, figures)
  must('losses of all updates to 1e-4', figures.losses <= 1e-4, figures)
  must('events alike on both ranks', of2.events === b[name].events)
  must('the same bits on both ranks', of2.bits === b[name].bits)
  must('the same outputs on both ranks', difference(of2.outputs, b[name].outputs) === 0)
  return figures
}

const norms = ['layer', 'batch']
const equals = norms.map((norm) => `equal-${norm}`)

async function correctness(one) {
  let ranks
  await part('shell loop', async () => {
    ranks = await ended(await pair({ parts: equals }))
    return {
      joined: ranks[0].joined,
      ...Object.fromEntries(norms.map((norm) => [norm, compare(norm, one, ranks)])),
    }
  })
  await part('everything on', async () => {
    const names = ['everything-local', 'everything-sync']
    const [a, b] = await ended(await pair({ parts: names }))
    for (const name of names) {
      must(`the same bits of both ranks, ${name}`, a[name].bits === b[name].bits)
      must('500 updates', dry || a[name].updates >= 500, a[name].updates)
    }
    must('other statistics with the option', a[names[0]].bits !== a[names[1]].bits)
    return Object.fromEntries(names.map((name) => [name, a[name].updates]))
  })
}

async function faults() {
  for (const [name, timeout] of [
    ['kill', 15_000],
    ['hang', 6000],
  ])
    await part(name, async () => {
      const [first, second] = await pair({ parts: ['long'], timeout }, [
        {},
        dry && name === 'hang' ? { hang: true } : {},
      ])
      await Promise.all([first.reached(20), second.reached(20)])
      const from = performance.now()
      if (name === 'kill') void second.kill('SIGKILL')
      else if (!dry) second.kill('SIGSTOP')
      const result = await first.result
      const after = seconds(from)
      if (name === 'hang') void second.kill('SIGKILL')
      await second.result
      const { error, refused } = result.long ?? {}
      must('a coded error', error?.code === 'ERR_S4_PEER' && result.code === 0, { error, ...short(result) })
      must('rank 1 by name', /rank 1\b/.test(error.message), error)
      must('no further work with the model', refused === 'ERR_S4_PEER', refused)
      must('the end within the time', after < timeout / 1000 + 8, after)
      return { error, secondsAfter: after, timeout: timeout / 1000 }
    })
  await part('throw', async () => {
    const [a, b] = await ended(await pair({ parts: ['throw'], timeout: 15_000 }))
    const { error, refused } = a.throw
    must('a coded error', error?.code === 'ERR_S4_PEER', a.throw)
    must('rank 1 and its error by name', /rank 1: .*no more data/.test(error.message), error)
    must('no further work with the model', refused === 'ERR_S4_PEER', a.throw)
    must("the caller's own error on rank 1", b.throw.error?.message === 'no more data', b.throw)
    return { error }
  })
  await part('nonfinite', async () => {
    const [a, b] = await ended(await pair({ parts: ['nonfinite'], timeout: 15_000 }))
    for (const { nonfinite } of [a, b]) {
      must('a coded error', nonfinite.error?.code === 'ERR_S4_NONFINITE', nonfinite)
      must('rank 1 by name', /rank 1\b/.test(nonfinite.error.message), nonfinite)
      must('finite parameters', nonfinite.finite === true, nonfinite)
    }
    must('the same bits on both ranks', a.nonfinite.bits === b.nonfinite.bits)
    must('a group that goes on', a.nonfinite.again === b.nonfinite.again)
    return { error: a.nonfinite.error }
  })
}

async function scaling(one) {
  await part('scaling', async () => {
    const [two] = await ended(await pair({ parts: ['scaling'] }))
    const table = {}
    for (const [name, t1] of Object.entries(one.scaling)) {
      const t2 = two.scaling[name]
      const row = {
        rows: t1.rows,
        length: t1.length,
        parameters: t1.parameters,
        oneGpu: t1.whole,
        twoGpus: t2.whole,
        twoGpusHalfTheRows: t2.half,
        weak: (2 * t1.whole) / t2.whole,
        strong: t1.whole / t2.half,
        reduction: Math.max(0, t2.idle - t1.idle),
      }
      must('times of all', Object.values(row).every(Number.isFinite), row)
      limit(`weak scaling, ${name}`, row.weak, '>= 1.9', row.weak >= 1.9)
      if (['Path-X', 'speech'].includes(name))
        limit(`strong scaling, ${name}`, row.strong, '>= 1.6', row.strong >= 1.6)
      limit(
        `milliseconds of the reduction, ${name}`,
        row.reduction,
        '<= 0.2, or 2 % of the step',
        row.reduction <= Math.max(0.2, 0.02 * t1.whole),
      )
      table[name] = row
    }
    return table
  })
}

/** The reviews: two ranks of 16 rows against one of 16, as many epochs. */
async function reviews() {
  const folders = [
    args.reviews,
    process.env.S4_ACL_IMDB,
    'aclImdb',
    '../shared/aclImdb',
    '/work/shared/aclImdb',
  ]
  const found = folders.find((path) => path !== undefined && existsSync(join(path, 'train', 'pos')))
  if (found === undefined || seconds() > ENOUGH) {
    const why =
      found === undefined ? 'no folder aclImdb (--reviews FOLDER, or S4_ACL_IMDB)' : 'the time is over'
    report.checks.reviews = { skipped: why }
    console.error(`reviews: skipped, ${why}`)
    return
  }
  await part('reviews', async () => {
    const task = { parts: ['reviews'], reviews: found }
    const [one] = await ended([start(task)])
    const [two, other] = await ended(await pair(task))
    const [t1, t2] = [one.reviews, two.reviews]
    must('the same accuracy on both ranks', t2.accuracy === other.reviews.accuracy)
    must('half the updates', Math.abs(2 * t2.updates - t1.updates) <= 12, { t1, t2 })
    // To the best accuracy of one GPU.
    const best = t1.curve.reduce((a, b) => (b.accuracy > a.accuracy ? b : a))
    const reached = t2.curve.find(({ accuracy }) => accuracy >= best.accuracy)
    const ratio = reached === undefined ? Infinity : reached.seconds / best.seconds
    limit(
      'reviews, seconds of two GPUs to the best accuracy of one, by those of one',
      ratio,
      '<= 0.6',
      ratio <= 0.6,
    )
    return { one: t1, two: t2, ratio, secondsOfAllEpochs: t2.seconds / t1.seconds }
  })
}

/** The same ranks, started by torchrun, whose store is spoken with. */
async function torchrun(one) {
  const pythons = ['python3', '/opt/torch/.venv/bin/python3', process.env.S4_TORCH_PYTHON].filter(Boolean)
  const hasTorch = (path) =>
    spawnSync(path, ['-c', 'import importlib.util as i; assert i.find_spec("torch")']).status === 0
  if (dry) return (report.checks.torchrun = { skipped: 'on the CPU' })
  await part('torchrun', async () => {
    const path = pythons.find(hasTorch)
    must('a Python with PyTorch', path !== undefined)
    const outs = [0, 1].map((rank) => join(folder, `torchrun-${rank}.json`))
    const task = JSON.stringify({ parts: equals, dry, out: join(folder, 'torchrun-RANK.json') })
    const flags = ['-m', 'torch.distributed.run', '--no-python', '--nproc-per-node=2']
    flags.push('--master-port', await freePort())
    const child = spawn(path, [...flags, process.execPath, worker, task], {
      env: { NCCL_NVLS_ENABLE: '0', ...process.env },
      stdio: ['ignore', 'inherit', 'pipe'],
    })
    let noises = ''
    child.stderr.on('data', (piece) => (noises += piece))
    const timer = setTimeout(() => child.kill('SIGTERM'), 90_000)
    const [code] = await once(child, 'exit')
    clearTimeout(timer)
    must('torchrun to end well', code === 0, noises.slice(-3000))
    const results = outs.map((file) => JSON.parse(readFileSync(file, 'utf8')))
    must(
      'the store of torchrun',
      results.every(({ source, error }) => source === 'torch' && !error),
      results.map(({ source, error }) => ({ source, error })),
    )
    return Object.fromEntries(norms.map((norm) => [norm, compare(norm, one, results)]))
  })
}

async function main() {
  if (!dry) {
    process.env.S4_NCCL_LIBRARY ??= ncclLibrary() ?? ''
    report.nccl = process.env.S4_NCCL_LIBRARY
    if (report.nccl === '') delete process.env.S4_NCCL_LIBRARY
  }
  let one
  await part('alone', async () => {
    ;[one] = await ended([start({ parts: [...equals, 'scaling'] })])
    report.device = one.device
    return short(one)
  })
  if (one === undefined && !only) return
  await correctness(one)
  await faults()
  await torchrun(one)
  await scaling(one)
  await reviews()
}

try {
  await main()
} finally {
  rmSync(folder, { recursive: true, force: true })
}
report.seconds = seconds()
report.ok = report.failures.length === 0
if (out) writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`)
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode = report.ok ? 0 : 1
