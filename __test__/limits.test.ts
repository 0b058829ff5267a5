/** Streams and layers at their limits: the recurrence, what is not finite, calls in another order, memory that is not there. */
import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { S4Layer, SequenceModel, type S4LayerOptions, type SequenceModelOptions } from '../index.js'
import { close, model, noise, noisy, refuses, rejects, root, small } from './helpers.js'

const api = pathToFileURL(join(root, 'build', 'index.js')).href
const run = promisify(execFile)

const set = (handle: S4Layer | SequenceModel, values: Record<string, number[]>) => {
  const shapes = new Map(handle.parameters().map((p) => [p.name, p.shape]))
  for (const [name, data] of Object.entries(values))
    handle.setParameter(name, { data, shape: shapes.get(name) as number[] })
}

test('the recurrence at its limits is the convolution', (t) => {
  const bare: S4LayerOptions = {
    features: 1,
    state: 2,
    device: 'cpu',
    realTransform: 'none',
    dtTransform: 'none',
  }
  const u = { data: [1, 2, 3, 4], shape: [1, 4, 1] }
  const cases: [string, Partial<S4LayerOptions>, Record<string, number[]>, number[]][] = [
    // Λ = 0, Δ = 1, B = 1, C = ½: x sums u, y = 2·½·x.
    [
      'Λ = 0',
      { mode: 's4d' },
      {
        'kernel.A_real': [0],
        'kernel.A_imag': [0],
        'kernel.B': [1, 0],
        'kernel.C': [0.5, 0],
        'kernel.inv_dt': [1],
        D: [0],
      },
      [1, 3, 6, 10],
    ],
    // Δ = 0: the state stays at 0, y = D·u.
    ['Δ = 0 by zero-order hold', { mode: 's4d' }, { 'kernel.inv_dt': [0], D: [3] }, [3, 6, 9, 12]],
    ['Δ = 0, bilinear', { mode: 's4' }, { 'kernel.inv_dt': [0], D: [3] }, [3, 6, 9, 12]],
  ]
  for (const [what, options, values, want] of cases) {
    for (const dtype of ['f32', 'f64'] as const) {
      using layer = new S4Layer({ ...bare, ...options, dtype })
      set(layer, values)
      for (const algorithm of ['fft', 'chunk'] as const)
        close(t, `${what} ${dtype} ${algorithm}`, layer.forward(u, { algorithm }).y, want, 1e-6)
      let state = layer.initialState()
      const y = u.data.map((x) => {
        const out = layer.step({ data: [x], shape: [1, 1] }, state)
        state = out.state
        return out.y.data[0] as number
      })
      close(t, `${what} ${dtype} step`, y, want, 1e-6)
      close(t, `${what} ${dtype} state`, layer.forward(u).state!, state, 1e-6)
    }
  }
})

/** The numbers of a saved state, behind its header. */
function numbers(saved: Uint8Array): Uint8Array {
  const header = new DataView(saved.buffer, saved.byteOffset).getBigUint64(0, true)
  return saved.slice(8 + Number(header))
}

/** Λ = 1 at Δ = 1: an impulse grows by e a sample and overflows f32 after 88. */
async function growing(options: Partial<SequenceModelOptions> = {}): Promise<SequenceModel> {
  const m = await model({
    features: 1,
    layers: 1,
    state: 2,
    mode: 's4d',
    realTransform: 'none',
    dtTransform: 'none',
    norm: 'none',
    residual: false,
    glu: false,
    device: 'cpu',
    ...options,
  })
  set(m, {
    'encoder.weight': [1],
    'encoder.bias': [0],
    'blocks.0.layer.kernel.inv_dt': [1],
    'blocks.0.layer.kernel.A_real': [-1],
    'blocks.0.layer.kernel.A_imag': [0],
    'blocks.0.layer.kernel.B': [1, 0],
    'blocks.0.layer.kernel.C': [-0.5, 0],
  })
  return m
}

test('a push that is not finite says so and keeps the state', async (t) => {
  for (const activation of ['gelu', 'tanh'] as const) {
    const m = await growing({ activation })
    using stream = m.stream()
    stream.push({ data: [1], shape: [1, 1, 1] })
    let error
    while (error === undefined && stream.position < 100) {
      const before = numbers(stream.save())
      try {
        stream.push({ data: [0], shape: [1, 1, 1] })
      } catch (e) {
        error = e as { code: string; message: string }
        t.is(error.code, 'ERR_S4_NONFINITE', error.message)
        t.deepEqual(numbers(stream.save()), before)
      }
    }
    t.true(error !== undefined && stream.position > 80, `${stream.position} samples`)
    const { position } = stream
    await rejects(t, 'ERR_S4_NONFINITE', stream.pushAsync({ data: [0, 0], shape: [1, 2, 1] }))
    t.is(stream.position, position)
    stream.reset()
    for (const bad of [NaN, Infinity, -Infinity])
      refuses(t, 'ERR_S4_NONFINITE', () => stream.push({ data: [0, bad], shape: [1, 2, 1] }))
    t.is(stream.position, 0)
    t.true(Number.isFinite(stream.push({ data: [1], shape: [1, 1, 1] }).data[0]))
    m.dispose()
  }
})

test('a step whose state is not finite is refused', (t) => {
  using layer = new S4Layer({
    features: 1,
    state: 2,
    mode: 's4d',
    realTransform: 'none',
    dtTransform: 'none',
    device: 'cpu',
  })
  set(layer, { 'kernel.A_real': [-1], 'kernel.A_imag': [0], 'kernel.inv_dt': [1] })
  const state = { data: [3e38, 0], shape: [1, 1, 1, 2] }
  refuses(t, 'ERR_S4_NONFINITE', () => layer.step({ data: [0], shape: [1, 1] }, state))
  t.is(layer.step({ data: [0], shape: [1, 1] }, layer.initialState()).y.data[0], 0)
})

test('what may change between two pushes is right or refused', async (t) => {
  const m = await model({ device: 'cpu' })
  const x = noise(40, 3)
  const part = (from: number, to: number) => ({ data: x.slice(from, to), shape: [1, to - from, 1] })
  const whole = m.predictSync(part(0, 40)).data
  using stream = m.stream()
  // Sizes of pushes, types of arrays, now and later.
  const got = [...stream.push(part(0, 1)).data]
  got.push(...stream.push({ data: Float64Array.from(x.slice(1, 8)), shape: [1, 7, 1] }).data)
  got.push(...stream.push({ data: Array.from(x.slice(8, 10)), shape: [1, 2, 1] }).data)
  const [a, b] = [stream.pushAsync(part(10, 20)), stream.pushAsync(part(20, 21))]
  // A call that would overtake those under way.
  refuses(t, 'ERR_S4_BUSY', () => stream.push(part(21, 22)))
  refuses(t, 'ERR_S4_BUSY', () => stream.reset())
  got.push(...(await a).data, ...(await b).data)
  // A batch of another size, another width.
  refuses(t, 'ERR_S4_SHAPE', () => stream.push({ data: [1, 2], shape: [2, 1, 1] }))
  refuses(t, 'ERR_S4_SHAPE', () => stream.push({ data: [1, 2], shape: [1, 1, 2] }))
  refuses(t, 'ERR_S4_VALUE', () => stream.push(part(21, 22), { interval: 0 }))
  refuses(t, 'ERR_S4_SHAPE', () => stream.push(part(21, 23), { interval: [1, 1, 1] }))
  refuses(t, 'ERR_S4_VALUE', () => stream.push(part(21, 22), { rate: 2 } as never))
  got.push(...stream.push(part(21, 40)).data)
  close(t, 'pushes', got, whole, 1e-5)

  // A state goes on at another rate: every Δ is multiplied, as by an interval.
  using slow = m.stream()
  using fast = m.stream({ rate: 3 })
  slow.push(part(0, 20))
  fast.restore(slow.save())
  close(t, 'rate', fast.push(part(20, 40)), slow.push(part(20, 40), { interval: 3 }), 1e-5)
  m.dispose()
})

test('states of another batch or kind are refused', async (t) => {
  const m = await model({ features: 8, state: 4, device: 'cpu' })
  const other = await model({ features: 4, state: 8, device: 'cpu' })
  using one = m.stream()
  using two = m.stream({ batch: 2 })
  using foreign = other.stream()
  for (const stream of [two, foreign]) {
    const before = numbers(stream.save())
    refuses(t, 'ERR_S4_CHECKPOINT', () => stream.restore(one.save()))
    t.deepEqual(numbers(stream.save()), before)
  }
  for (const wrong of [null, 'x', 5, new Uint8Array(0), Buffer.from('no state')])
    t.throws(() => one.restore(wrong as never), { name: 'S4Error' })
})

test('parameters that change between pushes count from the next sample', async (t) => {
  const m = await model({ device: 'cpu' })
  using stream = m.stream()
  stream.push(noisy([1, 5, 1]))
  const d = m.parameters().find((p) => p.name === 'blocks.0.layer.D')!
  const state = stream.save()
  m.setParameter(d.name, { data: Array.from(d.value.data, (x) => x + 1), shape: [...d.shape] })
  const y = stream.push(noisy([1, 1, 1], 2)).data
  using fresh = m.stream()
  fresh.restore(state)
  t.deepEqual(fresh.push(noisy([1, 1, 1], 2)).data, y)
  t.notDeepEqual(
    (await SequenceModel.create({ ...small, device: 'cpu' })).predictSync(noisy([1, 1, 1], 2)).data,
    y,
  )
})

test('memory that is not there is an error, and all lives on', async (t) => {
  if (process.platform !== 'linux' || spawnSync('prlimit', ['--version']).status !== 0) {
    t.log('skipped: limits of address space are set by prlimit, on Linux')
    return t.pass()
  }
  const source = `
    import { readFileSync } from 'node:fs'
    import { execFileSync } from 'node:child_process'
    const { S4Layer, SequenceModel } = await import(${JSON.stringify(api)})
    const layer = new S4Layer({ features: 4, state: 16, device: 'cpu' })
    const u = { data: Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i)), shape: [1, 1000, 4] }
    const model = await SequenceModel.create({ input: 4, output: 1, features: 8, layers: 1, device: 'cpu' })
    const small = async () => [...layer.forward(u, { save: false }).y.data, ...(await model.predict(u)).data].join()
    const before = await small()
    const big = { data: new Float32Array(1 << 24), shape: [1, 1 << 22, 4] }
    const used = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024
    execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (used + (180 << 20))])
    const code = async (call) => { try { await call(); return 'done' } catch (e) { return e.code + ' ' + e.op } }
    const codes = [
      await code(() => layer.forward(big, { save: false, algorithm: 'fft' })),
      await code(() => layer.forwardAsync(big, { save: false, algorithm: 'chunk' })),
      await code(() => model.predict(big)),
      await code(() => layer.kernel(1 << 24)),
      await code(() => layer.initialState(1 << 22)),
    ]
    console.log(JSON.stringify({ codes, same: before === (await small()) }))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source], { timeout: 120_000 })
  const { codes, same } = JSON.parse(stdout) as { codes: string[]; same: boolean }
  for (const code of codes) t.regex(code, /^ERR_S4_MEMORY/, codes.join('; '))
  t.true(same)
})

test('files and batches for which there is no memory are errors, whatever there is', async (t) => {
  if (process.platform !== 'linux' || spawnSync('prlimit', ['--version']).status !== 0) {
    t.log('skipped: limits of address space are set by prlimit, on Linux')
    return t.pass()
  }
  // A model of 34 MB, and examples that are 160 MB when the short ones are padded. The memory left for each round of calls
  // grows, so that every allocation of theirs is the first to be refused in one.
  const source = `
    import { readFileSync, mkdtempSync, rmSync } from 'node:fs'
    import { execFileSync } from 'node:child_process'
    import { join } from 'node:path'
    import { tmpdir } from 'node:os'
    const { SequenceModel, readSafetensors, writeSafetensors } = await import(${JSON.stringify(api)})
    const folder = mkdtempSync(join(tmpdir(), 's4-memory-'))
    const file = join(folder, 'm')
    const small = { data: Float32Array.from({ length: 20 }, (_, i) => Math.sin(i)), shape: [1, 20, 1] }
    const create = (features) => SequenceModel.create({ input: 1, output: 1, features, layers: 1, loss: 'mse', device: 'cpu' })
    const model = await create(2048)
    const narrow = await create(4)
    const before = (await model.predict(small)).data.join()
    await model.save(file)
    const bytes = await model.toBytes()
    const list = Array(12 << 20).fill(0.5)
    const example = (n) => ({ input: { data: new Float32Array(n), shape: [n, 1] }, target: { data: new Float32Array(n), shape: [n, 1] } })
    const examples = [example(10000), ...Array.from({ length: 999 }, () => example(1))]
    const code = async (call) => { try { await call(); return 'done' } catch (e) { return e.code === 'ERR_S4_MEMORY' ? e.code : String(e.stack) } }
    const calls = {
      toBytes: () => model.toBytes(),
      save: () => model.save(join(folder, 'again')),
      load: async () => (await SequenceModel.load(file, { device: 'cpu' })).dispose(),
      fromBytes: async () => (await SequenceModel.fromBytes(bytes, { device: 'cpu' })).dispose(),
      readSafetensors: () => readSafetensors(file),
      writeSafetensors: () => writeSafetensors(join(folder, 'w'), { a: { data: list, shape: [list.length] } }),
      collate: () => narrow.evaluate(examples, { batchSize: 1000 }),
    }
    const used = () => Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024
    const limit = (soft) => execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + soft + ':'])
    const rounds = []
    for (const mib of [40, 60, 80, 110, 150, 220, 320, 2000]) {
      const codes = {}
      for (const [name, call] of Object.entries(calls)) {
        global.gc()
        limit(used() + mib * 2 ** 20)
        codes[name] = await code(call)
        limit('unlimited')
      }
      rounds.push(codes)
    }
    rmSync(folder, { recursive: true })
    console.log(JSON.stringify({ rounds, same: before === (await model.predict(small)).data.join() }))`
  const flags = ['--expose-gc', '--input-type=module', '-e', source]
  const { stdout } = await run(process.execPath, flags, { timeout: 240_000 })
  const { rounds, same } = JSON.parse(stdout) as { rounds: Record<string, string>[]; same: boolean }
  for (const codes of rounds)
    for (const [name, code] of Object.entries(codes))
      t.true(['done', 'ERR_S4_MEMORY'].includes(code), `${name}: ${code}`)
  for (const name of Object.keys(rounds[0]!)) {
    t.is(rounds[0]![name], 'ERR_S4_MEMORY', name)
    t.is(rounds.at(-1)![name], 'done', name)
  }
  t.true(same)
})
