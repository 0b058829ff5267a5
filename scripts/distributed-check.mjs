// Training by two ranks on a machine with two GPUs, by NCCL: node scripts/distributed-check.mjs [--dry] [--out report.json]
// Needs the addon with kernels for the GPUs, and a libnccl.so.2: S4_NCCL_LIBRARY, or that of a Python's PyTorch. Prints one JSON
// object; exit status 1 where a check fails. --dry: the same program with ranks as worker threads on the CPU, small sizes, no NCCL.
import { execFileSync, fork, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'

const worker = fileURLToPath(new URL('distributed-rank.mjs', import.meta.url))
const { values: args } = parseArgs({ options: { dry: { type: 'boolean' }, out: { type: 'string' } } })
const { dry = false } = args
const began = performance.now()
const seconds = (from = began) => Math.round((performance.now() - from) / 10) / 100
/** Beyond these seconds of the whole program the optional parts are left out. */
const ENOUGH = 62
const folder = mkdtempSync(join(tmpdir(), 's4-distributed-check-'))
const report = { dry, checks: {}, failures: [] }

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
  const out = join(folder, `${Math.random()}.json`)
  // NVLink multicast stays off: docs/distributed.md.
  const env = { NCCL_NVLS_ENABLE: '0', ...process.env, ...ranks }
  const data = JSON.stringify({ ...task, dry, out })
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
  const timer = setTimeout(() => kill('SIGKILL'), 75_000)
  const result = once(child, 'exit').then(([code, signal]) => {
    clearTimeout(timer)
    let written
    try {
      written = JSON.parse(readFileSync(out, 'utf8'))
    } catch {}
    return { ...written, code, signal, seconds: seconds(from), stderr: noises.slice(-1500) }
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

/** Runs a part; what it throws is a failure, and the rest goes on. */
async function part(name, work) {
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
const short = ({ code, signal, seconds: s, error, stderr }) => ({ code, signal, seconds: s, error, stderr })

/** Two ranks against one on the joint batch. */
function compare(one, ranks) {
  for (const result of [one, ...ranks])
    must('a rank to end well', result.code === 0 && !result.error, short(result))
  const [a, b] = ranks
  const parameters = difference(a.equal.parameters, one.equal.parameters)
  const losses = Math.max(
    ...one.equal.losses.map((loss, i) => Math.abs(a.equal.losses[i] - loss) / Math.abs(loss)),
  )
  const figures = {
    updates: one.equal.losses.length,
    gradNormFirst: Math.abs(a.equal.gradNorms[0] - one.equal.gradNorms[0]) / one.equal.gradNorms[0],
    parametersAfterTen: parameters,
    losses,
    loss: one.equal.losses.at(-1),
  }
  must('gradients of the first update to 1e-5', figures.gradNormFirst <= 1e-5, figures)
  must('parameters after ten updates to 1e-5', parameters <= 1e-5, figures)
  must('losses of all updates to 1e-4', losses <= 1e-4, figures)
  must('as many updates', a.equal.losses.length === one.equal.losses.length, figures)
  must('events alike on both ranks', a.equal.events === b.equal.events)
  must('the same bits on both ranks', a.equal.bits === b.equal.bits)
  return figures
}

async function main() {
  if (!dry) {
    process.env.S4_NCCL_LIBRARY ??= ncclLibrary() ?? ''
    report.nccl = process.env.S4_NCCL_LIBRARY
    if (report.nccl === '') delete process.env.S4_NCCL_LIBRARY
  }
  let [one, ranks] = []
  await part('alone', async () => {
    one = await start({ parts: ['equal', 'speed'] }).result
    must('one rank to end well', one.code === 0 && !one.error, short(one))
    report.device = one.device
    return short(one)
  })
  await part('shell loop', async () => {
    const started = await pair({ parts: ['equal', 'everything', 'speed', 'strong'] })
    ranks = await Promise.all(started.map(({ result }) => result))
    const figures = compare(one, ranks)
    must(
      'the same bits with dropout, clipping and averages',
      ranks[0].everything.bits === ranks[1].everything.bits,
    )
    return { ...figures, everything: { updates: ranks[0].everything.updates }, join: ranks[0].join }
  })
  await part('scaling', async () => {
    const [t1, t2, half] = [one.speed, ranks[0].speed, ranks[0].strong]
    must(
      'times of both',
      [t1, t2, half].every((t) => t?.milliseconds > 0),
      { t1, t2, half },
    )
    return {
      model: t1.model,
      oneGpu: t1.milliseconds,
      twoGpus: t2.milliseconds,
      weakEfficiency: t1.milliseconds / t2.milliseconds,
      twoGpusHalfTheRows: half.milliseconds,
      strongSpeedup: t1.milliseconds / half.milliseconds,
    }
  })
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
  const python = ['python3', '/opt/torch/.venv/bin/python3', process.env.S4_TORCH_PYTHON].filter(Boolean)
  const hasTorch = (path) =>
    spawnSync(path, ['-c', 'import importlib.util as i; assert i.find_spec("torch")']).status === 0
  if (!dry && seconds() < ENOUGH)
    await part('torchrun', async () => {
      const path = python.find(hasTorch)
      must('a Python with PyTorch', path !== undefined)
      const outs = [0, 1].map((rank) => join(folder, `torchrun-${rank}.json`))
      const task = JSON.stringify({ parts: ['equal'], dry, out: join(folder, 'torchrun-RANK.json') })
      const flags = [
        '-m',
        'torch.distributed.run',
        '--no-python',
        '--nproc-per-node=2',
        '--master-port',
        await freePort(),
      ]
      const child = spawn(path, [...flags, process.execPath, worker, task], {
        env: { NCCL_NVLS_ENABLE: '0', ...process.env },
        stdio: ['ignore', 'inherit', 'pipe'],
      })
      let noises = ''
      child.stderr.on('data', (piece) => (noises += piece))
      const timer = setTimeout(() => child.kill('SIGTERM'), 40_000)
      const [code] = await once(child, 'exit')
      clearTimeout(timer)
      must('torchrun to end well', code === 0, noises.slice(-3000))
      const results = outs.map((out) => ({ ...JSON.parse(readFileSync(out, 'utf8')), code: 0 }))
      must(
        'the store of torchrun',
        results.every(({ source }) => source === 'torch'),
      )
      return compare(one, results)
    })
  else report.checks.torchrun = { skipped: dry ? 'on the CPU' : 'the time is over' }
}

try {
  await main()
} finally {
  rmSync(folder, { recursive: true, force: true })
}
report.seconds = seconds()
report.ok = report.failures.length === 0
if (args.out) writeFileSync(args.out, `${JSON.stringify(report, null, 2)}\n`)
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode = report.ok ? 0 : 1
