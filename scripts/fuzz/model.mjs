// A model and its streams, and what is done with them in random order: predictions, pushes, training, updates, saving, loading.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { SequenceModel } from 's4-node'
import {
  batch,
  batchOf,
  callOptions,
  input,
  inputOf,
  interval,
  intervalOf,
  lengthsOf,
  pushed,
} from './batches.mjs'
import { bytes, changedBytes } from './bytes.mjs'
import { allFinite, assertClose, attempt, bits, parameterBits, whenFree } from './invariants.mjs'
import { adamwOptions, algorithm, callRate, loadOptions, modelOptions, trainOptions } from './options.mjs'
import { dataset, datasetOf, train } from './training.mjs'
import { hostile, mostly, real, seldom, some, tensor, tensorOf } from './values.mjs'

const index = fc.nat(7)
/** Time steps beyond which a stream is no longer compared with a prediction. */
const MOST_STEPS = 400

class ModelWorld {
  streams = []
  states = []
  /** Counts what may have changed parameters. */
  version = 0
  folder = mkdtempSync(join(tmpdir(), 's4-fuzz-'))

  async make(options) {
    this.model = await SequenceModel.create(real(options))
    this.config = this.model.config
    this.names = this.model.parameters().map(({ name, shape }) => ({ name, shape }))
  }

  expect(expected) {
    expected.streams = this.streams.length
    expected.states = this.states.length
  }

  /** Everything that must be as it was after a call that failed, as texts. */
  async snapshot() {
    const out = {}
    if (this.disposed) return out
    for (const [i, { stream, ended }] of this.streams.entries()) {
      if (ended) continue
      const { value, error } = await attempt('save', () => whenFree(() => stream.save()))
      out[`stream ${i}`] = value === undefined ? error.code : bits(value)
      if (value !== undefined) out[`position ${i}`] = String(stream.position)
    }
    out.parameters = await whenFree(() => parameterBits(this.model))
    out.checkpoint = bits(await this.model.toBytes())
    return out
  }

  /** States that a run carries go on over batches without a target that counts, also where a later batch is refused. */
  changedByFailure(name, _, { options }) {
    return name === 'train' && options?.resume === true && options.carryState === true ? ['checkpoint'] : []
  }

  at(i) {
    return this.streams[i % this.streams.length]
  }

  async dispose() {
    for (const { stream } of this.streams) stream.dispose()
    this.model?.dispose()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const tolerance = (world) => (world.model.dtype === 'f64' ? 1e-9 : 1e-4)

/** Compares what a stream gave with the prediction for all that it was given. */
function compareWithPredict(world, entry, y) {
  const { history, rows, rate } = entry
  const steps = history.reduce((n, x) => n + x.len, 0)
  const tokens = world.config.encoder === 'embedding'
  const width = tokens ? 1 : world.config.input
  const whole = new (tokens ? Int32Array : Float64Array)(rows * steps * width)
  let done = 0
  for (const { data, len } of history) {
    for (let b = 0; b < rows; b++)
      whole.set(data.slice(b * len * width, (b + 1) * len * width), (b * steps + done) * width)
    done += len
  }
  const shape = tokens ? [rows, steps] : [rows, steps, width]
  // The rounding of a Fourier transform is relative to the largest value of the sequence: beside a value of 10⁹ it drowns small ones.
  const exact = whole.some((x) => Math.abs(x) > 1e4) ? 'chunk' : undefined
  const { data: all, shape: sizes } = world.model.predictSync(
    { data: whole, shape },
    { rate, algorithm: exact },
  )
  if (!allFinite(all)) return
  const outputs = y.shape[2]
  const len = y.shape[1]
  const pooled = sizes.length === 2
  for (let b = 0; b < rows; b++) {
    const last = y.data.slice((b * len + (pooled ? len - 1 : 0)) * outputs, (b + 1) * len * outputs)
    const end = pooled ? (b + 1) * outputs : (b + 1) * steps * outputs
    const expected = all.slice(end - last.length, end)
    const scale = Math.max(0.01, ...Array.from(all, Math.abs))
    assertClose(
      `push after ${steps - len} time steps of ${rows} rows, row ${b}`,
      last,
      expected,
      tolerance(world),
      scale,
    )
  }
}

/** Changes of a file between it was written and is read. */
const damaged = (world, file, flaw) => (flaw === undefined ? file : changedBytes(file, flaw))

export const modelSteps = {
  predict: {
    weight: 4,
    given: some({ input, ...callOptions, algorithm, sync: fc.boolean(), options: seldom(hostile) }),
    call: async (world, { input: given, sync, lengths, rate, algorithm: by, options }) => {
      const { rows, len } = given
      const x = inputOf(world.config, given, rows, len)
      const o =
        options === undefined
          ? { lengths: lengthsOf(lengths, rows, len), rate: real(rate), algorithm: real(by) }
          : real(options)
      return sync ? world.model.predictSync(x, o) : world.model.predict(x, o)
    },
    verify: async (world, { input: given, lengths, rate, algorithm: by, options }, y) => {
      if (options !== undefined || given.x.flaw !== undefined) return
      const { rows, len } = given
      const x = inputOf(world.config, given, rows, len)
      const o = { lengths: lengthsOf(lengths, rows, len), rate: real(rate), algorithm: real(by) }
      assert.ok(bits(world.model.predictSync(x, o).data) === bits(y.data), 'predict and predictSync differ')
      const outputs = y.shape.at(-1)
      assert.deepEqual(y.shape, world.config.pooling === 'none' ? [rows, len, outputs] : [rows, outputs])
    },
  },
  evaluate: {
    given: some({ dataset, batchSize: seldom(mostly(fc.constantFrom(1, 2, 3))) }),
    call: (world, { dataset: d, batchSize }) =>
      world.model.evaluate(datasetOf(world.config, d), {
        ...(batchSize !== undefined && { batchSize: real(batchSize) }),
      }),
  },
  kernel: {
    given: some({
      block: mostly(fc.nat(2)),
      len: mostly(fc.constantFrom(1, 2, 63, 64, 65, 200)),
      rate: callRate,
    }),
    call: (world, { block, len, rate }) => world.model.kernel(real(block), real(len), { rate: real(rate) }),
  },
  stream: {
    weight: 2,
    given: some({ batch: seldom(mostly(fc.constantFrom(1, 2, 3))), rate: callRate }),
    call: (world, given) => world.model.stream(real(given)),
    verify: (world, { batch: rows, rate }, stream) => {
      const [given, version] = [{ rows: real(rows) ?? 1, rate: real(rate) ?? 1 }, world.version]
      world.streams.push({ stream, ...given, history: [], version })
    },
  },
  push: {
    weight: 6,
    may: (expected) => expected.streams > 0,
    changes: ['stream', 'position'],
    given: some({
      i: index,
      input: pushed,
      interval,
      async: fc.boolean(),
      rows: seldom(fc.constantFrom(1, 2, 3)),
    }),
    call: (world, { i, input: given, interval: ratio, async, rows: other }) => {
      const { stream, rows } = world.at(i)
      const x = inputOf(world.config, given, other ?? rows, given.len)
      const o = { interval: intervalOf(ratio, rows, given.len) }
      return async ? stream.pushAsync(x, o) : stream.push(x, o)
    },
    verify: (world, { i, input: given, interval: ratio }, y) => {
      const entry = world.at(i)
      const { rows } = entry
      assert.deepEqual(y.shape.slice(0, 2), [rows, given.len])
      assert.ok(allFinite(y.data), 'a push gave what is not finite')
      if (ratio !== undefined || given.x.flaw !== undefined) entry.history = undefined
      entry.history?.push({
        data: Array.from(inputOf(world.config, given, rows, given.len).data, Number),
        len: given.len,
      })
      const steps = entry.history?.reduce((n, x) => n + x.len, 0) ?? Infinity
      if (steps > MOST_STEPS) entry.history = undefined
      // Where a prediction of the same is refused, there is nothing to compare with.
      if (entry.history === undefined || world.disposed || entry.version !== world.version) return
      compareWithPredict(world, entry, y)
    },
  },
  saveState: {
    weight: 2,
    may: (expected) => expected.streams > 0,
    given: some({ i: index }),
    call: (world, { i }) => world.at(i).stream.save(),
    verify: (world, { i }, state) => {
      const { stream: _, ...rest } = world.at(i)
      world.states.push({ ...rest, history: rest.history && [...rest.history], state })
    },
  },
  restore: {
    weight: 2,
    may: (expected) => expected.streams > 0,
    changes: ['stream', 'position'],
    given: some({ i: index, j: index, flaw: seldom(bytes) }),
    call: (world, { i, j, flaw }) => {
      const { state } = world.states[j % world.states.length] ?? { state: world.at(i).stream.save() }
      return world.at(i).stream.restore(damaged(world, state, flaw))
    },
    verify: (world, { i, j, flaw }) => {
      const entry = world.at(i)
      const saved = world.states[j % world.states.length]
      if (flaw !== undefined) entry.history = undefined
      if (saved === undefined || flaw !== undefined) return
      assert.ok(bits(entry.stream.save()) === bits(saved.state), 'a restored state is another')
      const same = saved.rate === entry.rate && saved.rows === entry.rows
      entry.history = same && saved.history ? [...saved.history] : undefined
      entry.version = saved.version
    },
  },
  fork: {
    may: (expected) => expected.streams > 0,
    given: some({ i: index }),
    call: (world, { i }) => world.at(i).stream.fork(),
    verify: (world, { i }, stream) => {
      const entry = world.at(i)
      assert.ok(bits(stream.save()) === bits(entry.stream.save()), 'a fork has another state')
      world.streams.push({ ...entry, history: entry.history && [...entry.history], stream })
    },
  },
  reset: {
    may: (expected) => expected.streams > 0,
    changes: ['stream', 'position'],
    given: some({ i: index }),
    call: (world, { i }) => world.at(i).stream.reset(),
    verify: (world, { i }) => {
      const entry = world.at(i)
      Object.assign(entry, { history: [], version: world.version })
      assert.equal(entry.stream.position, 0)
    },
  },
  endStream: {
    may: (expected) => expected.streams > 1,
    changes: ['stream', 'position'],
    given: some({ i: index }),
    call: (world, { i }) => {
      const entry = world.at(i)
      entry.ended = true
      return entry.stream.dispose()
    },
  },
  accumulate: {
    weight: 2,
    changes: ['checkpoint'],
    given: some({ batch }),
    call: (world, { batch: b }) => world.model.accumulate(batchOf(world.config, b)),
    verify: (world) => {
      // A batch norm takes its statistics.
      world.version++
    },
  },
  update: {
    changes: ['parameters', 'checkpoint'],
    given: adamwOptions,
    call: (world, options) => {
      world.trained = true
      return world.model.update(real(options))
    },
    verify: (world) => {
      world.version++
    },
  },
  train: {
    weight: 3,
    changes: ['parameters', 'checkpoint'],
    given: some({
      dataset,
      options: trainOptions,
      batchSize: seldom(mostly(fc.constantFrom(1, 2, 3))),
      validation: seldom(dataset),
      checkpoint: seldom(fc.constantFrom('file', 'folder', 'missing/file', 'state')),
      leaveAfter: seldom(fc.nat(3)),
      abortAfter: seldom(fc.nat(3)),
      during: seldom(fc.constantFrom('predict', 'save', 'stream', 'train', 'update', 'dispose')),
    }),
    call: (world, given) => train(world, given),
    verify: (world) => {
      world.version++
    },
  },
  setParameter: {
    changes: ['parameters', 'checkpoint'],
    given: some({
      which: mostly(fc.nat(30)),
      value: tensor,
      shape: fc.constantFrom('right', 'right', 'right', 'flat'),
    }),
    call: (world, { which, value, shape }) => {
      const { name, shape: sizes } =
        typeof which === 'number'
          ? world.names[which % world.names.length]
          : { name: real(which), shape: [1] }
      const flat = [sizes.reduce((a, b) => a * b, 1)]
      return world.model.setParameter(name, tensorOf(value, shape === 'right' ? sizes : flat))
    },
    verify: (world) => {
      world.version++
      // With such parameters a model is no map that rounding leaves alone.
      world.strange = true
    },
  },
  saveAndLoad: {
    weight: 2,
    given: some({
      via: fc.constantFrom('file', 'bytes'),
      optimizer: seldom(mostly(fc.boolean())),
      extra: seldom(mostly(fc.constantFrom('{}', '"ü"', '[1, null]', 'no JSON'))),
      load: loadOptions,
      flaw: seldom(bytes),
      input,
    }),
    call: (world, given) => saveAndLoad(world, given),
  },
  others: {
    changes: ['parameters', 'checkpoint'],
    given: some({
      name: fc.constantFrom('zeroGrad', 'counters', 'swapAverage', 'progress', 'notes', 'parameters'),
    }),
    call: (world, { name }) => {
      if (name === 'swapAverage') world.version++
      return typeof world.model[name] === 'function' ? world.model[name]() : world.model[name]
    },
  },
  dispose: {
    changes: ['parameters', 'checkpoint', 'stream', 'position'],
    may: (expected) => expected.streams > 2,
    given: fc.constant({}),
    call: (world) => {
      world.disposed = true
      return world.model.dispose()
    },
  },
}

/** Saves, loads, and compares what is loaded with the model. */
async function saveAndLoad(world, { via, optimizer, extra, load, flaw, input: given }) {
  const { model, config } = world
  const options = {
    ...(optimizer !== undefined && { optimizer: real(optimizer) }),
    ...(extra !== undefined && { extra: real(extra) }),
  }
  const path = join(world.folder, 'saved')
  let file
  if (via === 'file') {
    await model.save(path, options)
    file = readFileSync(path)
    if (flaw !== undefined) writeFileSync(path, damaged(world, file, flaw))
  } else file = await model.toBytes(options)
  const where = real(load)
  const other =
    via === 'file'
      ? await SequenceModel.load(path, where)
      : await SequenceModel.fromBytes(damaged(world, file, flaw), where)
  try {
    // What runs at the same time may change the model between saving and comparing.
    if (flaw !== undefined || world.several) return
    assert.deepEqual(other.config, model.config)
    assert.equal(other.extra, options.extra)
    if (other.dtype !== model.dtype) return
    assert.ok(parameterBits(other) === parameterBits(model), 'loaded parameters differ')
    if (optimizer === undefined && !world.unsure) assert.deepEqual(other.progress, model.progress)
    const [first, second] = await Promise.all(
      [model, other].map((m) =>
        attempt('predict', () =>
          m.predict(inputOf(config, given, given.rows, given.len), { algorithm: 'fft' }),
        ),
      ),
    )
    assert.equal(second.error?.code, first.error?.code)
    if (first.value !== undefined)
      assert.ok(bits(second.value.data) === bits(first.value.data), 'a loaded model predicts other bits')
    const again = await other.toBytes(options)
    assert.ok(bits(again) === bits(file), 'a loaded model is saved as other bytes')
  } finally {
    other.dispose()
  }
}

/** Several calls at once, in the order in which they are given, none awaited. */
modelSteps.together = {
  weight: 2,
  changes: ['parameters', 'checkpoint', 'stream', 'position'],
  given: some({
    steps: fc.array(
      fc.oneof(
        ...[
          'predict',
          'push',
          'evaluate',
          'accumulate',
          'update',
          'train',
          'saveAndLoad',
          'fork',
          'stream',
        ].map((name) => fc.record({ name: fc.constant(name), given: modelSteps[name].given })),
      ),
      { minLength: 2, maxLength: 4 },
    ),
  }),
  call: async (world, { steps }) => {
    world.version++
    world.unsure = true
    world.trained = true
    for (const entry of world.streams) entry.history = undefined
    world.several = true
    await Promise.all(
      steps.map(async ({ name, given }) => {
        if (!(modelSteps[name].may?.({ streams: world.streams.length }) ?? true)) return
        await attempt(`${name} with others`, () => modelSteps[name].call(world, given))
      }),
    )
    world.several = false
  },
}

export const modelKind = {
  name: 'model',
  most: 14,
  made: modelOptions,
  steps: modelSteps,
  world: () => new ModelWorld(),
}
