/** The GPU backend's host side at the sizes of the published experiments, on a driver that does nothing (`fixtures/driver.c`). */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { diagnose } from '../index.js'
import { root } from './helpers.js'

/** Most GB that a training step may hold: bidirectional, GLU, six blocks, N 64. With `high`, the states that enter the chunks are kept. */
const experiments = {
  sCIFAR: {
    limit: { highest: 2.8, high: 3.7 },
    features: 512,
    len: 1024,
    batch: 50,
    input: 3,
    output: 10,
    norm: 'layer',
  },
  'Path-X': {
    limit: { highest: 5.9, high: 8 },
    features: 256,
    len: 16384,
    batch: 16,
    input: 1,
    output: 2,
    norm: 'batch',
  },
  speech: {
    limit: { highest: 3, high: 4 },
    features: 128,
    len: 16000,
    batch: 16,
    input: 1,
    output: 35,
    norm: 'batch',
  },
  ListOps: {
    limit: { highest: 2.5, high: 3.7 },
    features: 256,
    len: 2048,
    batch: 50,
    encoder: 'embedding',
    vocabulary: 20,
    output: 10,
    norm: 'batch',
  },
} as const

/** Trains on the machine's only "GPU"; prints what is held, asked for and waited for in five steady updates. */
const child = `
  import { SequenceModel } from 's4-node'
  const { limit, len, batch, ...options } = JSON.parse(process.argv[1])
  const model = await SequenceModel.create({
    ...options, device: 'cuda', layers: 6, state: 64, bidirectional: true, dropout: 0.1, pooling: 'mean', loss: 'crossEntropy',
  })
  const tokens = options.encoder === 'embedding'
  const shape = tokens ? [batch, len] : [batch, len, options.input]
  const data = new (tokens ? Int32Array : Float32Array)(shape.reduce((a, b) => a * b, 1))
  const one = { input: { data, shape }, target: new Int32Array(batch) }
  const train = async (n) => {
    for await (const _ of model.train(Array(n).fill(one), { clip: 1, epochs: model.progress.epochs + 1, resume: model.progress.epochs > 0 }));
  }
  await train(4)
  const before = model.counters()
  await train(5)
  const after = model.counters()
  console.log(JSON.stringify({
    device: model.device,
    held: after.deviceMemory / 1e9,
    allocations: after.allocations - before.allocations,
    waits: after.hostWaits - before.hostWaits,
  }))
`

/** All that a model does, with work beside the queue in training: predictions, saving, dropped batches and failures in between. */
const mixed = `
  import { SequenceModel } from 's4-node'
  const { layers, feedForward } = JSON.parse(process.argv.at(-1))
  const model = await SequenceModel.create({
    input: 2, output: 2, features: 32, layers, feedForward, state: 64, bidirectional: true, pooling: 'mean', loss: 'mse', dropout: 0.1, device: 'cuda',
    precision: 'high',
  })
  const x = (batch, len) => ({ data: new Float32Array(batch * len * 2), shape: [batch, len, 2] })
  const one = (batch, len) => ({ input: x(batch, len), target: { data: new Float32Array(batch * 2), shape: [batch, 2] } })
  const train = async (...data) => {
    for await (const _ of model.train(data, { epochs: model.progress.epochs + 1, resume: model.progress.epochs > 0 })) await model.predict(x(1, 100))
  }
  await train(one(4, 256), one(4, 256), one(2, 1000), one(4, 256))
  await train(one(4, 256), {}).catch(() => {})
  const bytes = await model.toBytes()
  await train(one(3, 64), one(4, 256), one(4, 256))
  const again = await SequenceModel.fromBytes(bytes, { device: 'cuda' })
  model.dispose()
  await again.predict(x(2, 50))
  console.log(JSON.stringify({ device: again.device }))
  again.dispose()
  await new Promise((later) => setTimeout(later, 200))
`

/** A small model's updates: of one length, of two in turn, of a new one each time. */
const updates = `
  import { SequenceModel } from 's4-node'
  const model = await SequenceModel.create({
    input: 2, output: 2, features: 64, layers: 4, state: 64, bidirectional: true, pooling: 'mean', loss: 'mse', dropout: 0.1, device: 'cuda',
    precision: 'high',
  })
  const one = (len) => ({
    input: { data: new Float32Array(8 * len * 2), shape: [8, len, 2] }, target: { data: new Float32Array(16), shape: [8, 2] },
  })
  const lens = [...Array(20).fill(256), ...Array(10).fill([256, 128]).flat(), ...Array.from({ length: 20 }, (_, i) => 512 + 8 * i)]
  for await (const _ of model.train(lens.map(one), { clip: 1, ema: 0.9 }));
  console.log(JSON.stringify({ device: model.device }))
  model.dispose()
  await new Promise((later) => setTimeout(later, 200))
`

/** A model that does not fit, a smaller batch that does, a stream. A steady step holds 61 MB; the batch that fails leaves
 * what is in use scattered, so the next holds up to 4 MB more. */
const limited = `
  import { SequenceModel } from 's4-node'
  const model = await SequenceModel.create({
    input: 1, output: 1, features: 64, layers: 2, state: 64, loss: 'mse', device: 'cuda', memoryLimit: 68e6,
  })
  const x = (batch) => ({ data: new Float32Array(batch * 2000), shape: [batch, 2000, 1] })
  const train = async (batch) => {
    for await (const _ of model.train([{ input: x(batch), target: x(batch) }], { epochs: model.progress.epochs + 1, resume: model.progress.epochs > 0 }));
  }
  const codes = []
  for (const batch of [4, 400, 4]) codes.push(await train(batch).then(() => 'fits', (e) => e.code))
  const held = model.counters().deviceMemory
  const stream = model.stream({ batch: 2 })
  const push = (n) => { for (let i = 0; i < n; i++) stream.push({ data: new Float32Array(2), shape: [2, 1, 1] }) }
  push(5)
  const before = model.counters()
  push(10)
  const after = model.counters()
  console.log(JSON.stringify({
    codes, within: held <= 68e6,
    allocations: after.allocations - before.allocations,
    waits: after.hostWaits - before.hostWaits,
  }))
`

/** What comes back is NaN: the loss of every update, and the activations behind it. */
const diverging = `
  import { SequenceModel } from 's4-node'
  const model = await SequenceModel.create({ input: 1, output: 1, features: 8, layers: 2, state: 8, loss: 'mse', device: 'cuda' })
  const x = { data: new Float32Array(100), shape: [2, 50, 1] }
  const one = { input: x, target: x }
  const seen = []
  for (const data of [[one], [one, one], [one, {}]]) {
    try {
      for await (const e of model.train(data)) seen.push(e.step)
    } catch ({ code, step, tensor }) {
      seen.push([code, step, tensor])
    }
  }
  console.log(JSON.stringify({ seen }))
`

/** Models that come and go. */
const passing = `
  import { SequenceModel } from 's4-node'
  for (let i = 0; i < 3; i++) {
    const model = await SequenceModel.create({ input: 1, output: 1, features: 8, layers: 2, state: 8, loss: 'mse', device: 'cuda' })
    await model.predict({ data: new Float32Array(100), shape: [2, 50, 1] })
    model.dispose()
  }
  await new Promise((later) => setTimeout(later, 200))
  console.log(JSON.stringify({ ended: true }))
`

/** A process that exits while the thread of a model frees it, or trains it. */
const exiting = `
  import { SequenceModel } from 's4-node'
  const { training } = JSON.parse(process.argv.at(-1))
  const model = await SequenceModel.create({ input: 1, output: 1, features: 64, layers: 4, state: 64, loss: 'mse', device: 'cuda' })
  const x = { data: new Float32Array(400), shape: [2, 200, 1] }
  await model.predict(x)
  console.log(JSON.stringify({ exits: true }))
  if (training) {
    let steps = 0
    for await (const _ of model.train(Array(1000).fill({ input: x, target: x }))) if (++steps === 20) process.exit(7)
    process.exit(8)
  }
  model.dispose()
  process.exit(7)
`

/** What each wish for a device comes to. */
const wishes = `
  import { SequenceModel, diagnose } from 's4-node'
  const { state } = JSON.parse(process.argv.at(-1))
  const seen = { cuda: diagnose().cuda.split('\\n')[0] }
  for (const device of ['auto', 'cuda'])
    seen[device === 'cuda' ? 'asked' : device] = await SequenceModel.create({ input: 1, output: 1, features: 8, layers: 1, state, loss: 'mse', device })
      .then((m) => m.device, (e) => e.code + ': ' + e.message)
  console.log(JSON.stringify(seen))
`

/** Runs children on the driver that does nothing; `undefined` where there can be none, with the reason printed. */
function onNothing(
  t: ExecutionContext,
): ((script: string, options?: object, driver?: Record<string, string>) => unknown) | undefined {
  const folder = mkdtempSync(join(tmpdir(), 's4-driver-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const source = join(root, '__test__/fixtures/driver.c')
  const library = join(folder, 'libcuda.so.1')
  const compiled = spawnSync('cc', ['-shared', '-fPIC', '-w', '-o', library, source], { stdio: 'ignore' })
  // Either name: a machine with a driver of its own may have both.
  symlinkSync(library, join(folder, 'libcuda.so'))
  const kernels = diagnose().kernels.length
  if (process.platform !== 'linux' || compiled.status !== 0 || kernels === 0) {
    t.log(`skipped: needs Linux, a C compiler, and GPU kernels in the build (${kernels} images)`)
    t.pass()
    return undefined
  }
  // This chip's own image, whatever the rest of the suite runs on.
  const { S4_CUDA_ARCH: _, ...rest } = process.env
  const env = { ...rest, LD_LIBRARY_PATH: folder }
  return (script, options = {}, driver = {}) => {
    const args = ['--input-type=module', '-e', script, JSON.stringify(options)]
    const all = { cwd: root, env: { ...env, ...driver }, encoding: 'utf8' } as const
    const { stdout, stderr, status, signal } = spawnSync(process.execPath, args, all)
    t.true(stdout.startsWith('{'), stderr)
    if (driver.DRIVER_SLOW !== undefined)
      return { ...JSON.parse(stdout), status, signal, said: stderr.trim() }
    return driver.DRIVER_COUNTS === undefined
      ? JSON.parse(stdout)
      : { ...JSON.parse(stdout), said: stderr.trim() }
  }
}

test('training on a GPU: memory within its limits, nothing asked for and one wait in a steady update', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  for (const [name, experiment] of Object.entries(experiments)) {
    for (const precision of ['highest', 'high'] as const) {
      const { held, ...rest } = run(child, { ...experiment, precision }) as { held: number }
      t.log(`${name}, ${precision}: ${held.toFixed(2)} GB`)
      t.deepEqual(rest, { device: 'cuda:0', allocations: 0, waits: 5 }, name)
      const limit = experiment.limit[precision]
      t.true(held > limit / 4 && held <= limit, `${name}, ${precision}: ${held} GB`)
    }
  }
})

test('what runs beside the queue is ordered with what shares its memory', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  const figures = (script: string, options: object, driver: Record<string, string>) => {
    const { said } = run(script, options, { DRIVER_ORDER: '1', DRIVER_COUNTS: '1', ...driver }) as {
      said: string
    }
    const [, beside, unordered] = /beside: (\d+), unordered: (\d+)/.exec(said)!.map(Number)
    const { limit: _, ...rest } = { limit: 0, ...options }
    t.log(`${JSON.stringify({ ...rest, ...driver })}: ${beside} launches beside, ${unordered} unordered`)
    return { beside: beside!, unordered: unordered!, said }
  }
  for (const precision of ['highest', 'high', 'bf16']) {
    const options = { ...experiments.sCIFAR, precision }
    const { beside, unordered, said } = figures(child, options, {})
    // Nine updates of six blocks.
    t.true(beside > 9 * 6 * 8, said)
    t.is(unordered, 0, said)
    t.is(figures(child, options, { S4_CUDA_SIDE: '0' }).beside, 0)
  }
  // Small models have their host to wait for.
  for (const options of [{ layers: 3 }, { layers: 2, feedForward: 2 }]) {
    // They have branches of graphs instead, whose order is looked at too.
    t.deepEqual({ ...figures(mixed, options, {}), said: '' }, { beside: 0, unordered: 0, said: '' })
    t.true(figures(mixed, options, { DRIVER_ORDER: 'blind' }).unordered > 100)
    const { beside, unordered, said } = figures(mixed, options, { S4_CUDA_SIDE: 'always' })
    t.true(beside > 100, said)
    t.is(unordered, 0, said)
    // The count would find what is not ordered.
    t.true(figures(mixed, options, { S4_CUDA_SIDE: 'always', DRIVER_ORDER: 'blind' }).unordered > 100)
  }
})

test('the work of small updates goes to the GPU as graphs, kernel by kernel what would be launched', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  const figures = (driver: Record<string, string>) => {
    // In one order: what would run beside the queue is launched in another.
    const all = { DRIVER_LAUNCHES: '1', DRIVER_COUNTS: '1', S4_CUDA_SIDE: '0', ...driver }
    const { said } = run(updates, {}, all) as { said: string }
    const [, hash] = /hash: (\w+)/.exec(said)!
    const count = (what: string) => Number(new RegExp(`${what}: (\\d+)`).exec(said)![1])
    t.log(`${JSON.stringify(driver)}: ${said.split('\n')[0]}`)
    t.true(said.includes('modules left: 0'), said)
    return {
      alone: count('alone'),
      inGraphs: count('in graphs'),
      launches: count('graph launches'),
      made: count('made'),
      changes: count('changes'),
      hash,
    }
  }
  const launched = figures({ S4_CUDA_GATHER: '0' })
  t.is(launched.inGraphs, 0)
  const gathered = figures({})
  t.is(gathered.hash, launched.hash)
  // All updates go as graphs but the first of a length that comes again, and the first of those that do not. Few graphs are made.
  t.true(gathered.launches >= 55 && gathered.launches <= 58, `${gathered.launches}`)
  t.true(gathered.made >= 3 && gathered.made <= 5, `${gathered.made}`)
  // Kernels that are launched alone: the first updates, and in each clipping, AdamW and the average.
  t.true(gathered.alone < 60 * 30, `${gathered.alone}`)
  // Few are written anew where lengths come again, all where they do not.
  t.true(gathered.changes < gathered.inGraphs * 0.6, `${gathered.changes} of ${gathered.inGraphs}`)
  // Where the driver makes no graphs, or changes none, the kernels are launched.
  for (const which of ['none', 'fixed']) {
    const refused = figures({ DRIVER_GRAPHS: which })
    t.is(refused.hash, launched.hash, which)
    t.true(refused.launches <= 1, which)
  }
})

test('a GPU that is too small says so, and the next smaller batch trains; a steady push waits for its output alone', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  const want = { codes: ['fits', 'ERR_S4_MEMORY', 'fits'], within: true, allocations: 0, waits: 10 }
  t.deepEqual(run(limited), want)
})

test('an update on a GPU that fails is named, whatever was begun behind it', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  // A run whose first update fails leaves nothing to resume: each of the three is a new one.
  const failed = [1, 1, 1].map((step) => ['ERR_S4_NONFINITE', step, 'encoder'])
  t.deepEqual(run(diverging, {}, { DRIVER_GIVES: '255' }), { seen: failed })
})

test('the code of a model that is gone leaves the GPU', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  t.deepEqual(run(passing, {}, { DRIVER_COUNTS: '1' }), { ended: true, said: 'modules left: 0' })
})

test('a process that exits waits for the job under way, and the driver is taken down after it', (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  for (const training of [false, true])
    t.deepEqual(run(exiting, { training }, { DRIVER_SLOW: '1' }), {
      exits: true,
      status: 7,
      signal: null,
      said: '',
    })
})

test("'auto' takes the CPU for what the GPU cannot do, 'cuda' says what that is", (t) => {
  const run = onNothing(t)
  if (run === undefined) return
  const all = (options: object, driver = {}) => run(wishes, options, driver) as Record<string, string>
  const small = all({ state: 128 })
  t.deepEqual([small.auto, small.asked], ['cuda:0', 'cuda:0'])
  const large = all({ state: 130 })
  t.is(large.auto, 'cpu')
  t.regex(large.asked!, /^ERR_S4_UNSUPPORTED: .*at most 128/)
  // Newer than any machine code of this build.
  const compiled = all({ state: 8 }, { DRIVER_CHIP: '110' })
  t.deepEqual([compiled.auto, compiled.asked], ['cuda:0', 'cuda:0'])
  const lacking = all({ state: 8 }, { DRIVER_CHIP: '110', DRIVER_LACKS_COMPILER: '1' })
  t.is(lacking.auto, 'cpu')
  t.regex(lacking.asked!, /^ERR_S4_DEVICE: .*ptxjitcompiler/)
  t.regex(lacking.cuda!, /not usable: .*ptxjitcompiler/)
})
