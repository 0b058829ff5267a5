// Forecasters and classifiers of small data, and what is done with them: forecasts, streams, evaluations, saving, loading.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { readSafetensors } from 's4-node'
import { Classifier, Forecaster } from 's4-node/tasks'
import { bytes, changedBytes } from './bytes.mjs'
import { attempt, bits } from './invariants.mjs'
import { hostile, mostly, noise, real, seldom, some, tensor, tensorOf } from './values.mjs'

const small = { device: 'cpu', threads: 1 }
/** Options of training that tasks have in common; what is left out is chosen by the data. */
const training = {
  features: fc.constantFrom(2, 4),
  layers: fc.constant(1),
  state: fc.constantFrom(2, 4),
  epochs: fc.constantFrom(1, 1, 2),
  mode: seldom(mostly(fc.constantFrom('s4', 's4d'))),
  dropout: seldom(mostly(fc.constantFrom(0, 0.2))),
  patience: seldom(mostly(fc.constantFrom(1, 2))),
  maxSeconds: seldom(mostly(fc.constantFrom(1e-3, 1))),
  batchSize: seldom(mostly(fc.constantFrom(1, 4, 64))),
  lr: seldom(mostly(fc.constantFrom(1e-3, 0.1, 100))),
  ssmLr: seldom(mostly(fc.constantFrom(1e-3, 0.1))),
  weightDecay: seldom(mostly(fc.constantFrom(0, 0.1))),
  seed: seldom(mostly(fc.nat(100))),
}

/** A column: a wave with noise, constant, of extreme numbers, with gaps. */
const column = fc.record({
  kind: fc.constantFrom(
    'wave',
    'wave',
    'wave',
    'noise',
    'constant',
    'gaps',
    'large',
    'tiny',
    'missing',
    'short',
    'jump',
    'text',
  ),
  seed: fc.nat(100),
})
function columnOf({ kind, seed }, rows) {
  const wave = noise(rows, seed).map((x, t) => 5 + Math.sin((2 * Math.PI * t) / 12) + 0.3 * x)
  switch (kind) {
    case 'noise':
      return noise(rows, seed)
    case 'constant':
      return new Float64Array(rows).fill(seed)
    case 'gaps':
      return wave.map((x, t) => ((t * 7 + seed) % 5 === 0 ? NaN : x))
    case 'large':
      return wave.map((x) => x * 1e300)
    case 'tiny':
      return wave.map((x) => x * 1e-300)
    case 'missing':
      return wave.fill(NaN)
    case 'short':
      return wave.slice(1)
    case 'jump':
      return wave.map((x, t) => x + (t === rows - 3 ? 1e12 : 0))
    case 'text':
      return Array.from(wave, String)
    default:
      return wave
  }
}
/** Times of rows: even, at random, with a long pause, or wrong. */
const TIMES = {
  even: (t) => 1e12 + 1000 * t,
  uneven: (t) => 1e12 + 1000 * t + 700 * Math.sin(9 * t),
  pause: (t) => 1e12 + 1000 * t + (t > 50 ? 1e9 : 0),
  tiny: (t) => t * 1e-9,
  back: (t) => 1e12 - t,
  missing: (t) => (t === 7 ? NaN : t),
}
const columns = fc.record({
  rows: fc.constantFrom(1, 20, 60, 100, 150),
  a: column,
  b: seldom(column),
  time: seldom(fc.constantFrom(...Object.keys(TIMES), 'uneven', 'uneven')),
})
const columnsOf = ({ rows, a, b, time }) => {
  const own = { a: columnOf(a, rows), ...(b !== undefined && { b: columnOf(b, rows) }) }
  return time === undefined
    ? own
    : { columns: own, time: Float64Array.from({ length: rows }, (_, t) => TIMES[time](t)) }
}

const forecast = some({
  ...training,
  horizon: mostly(fc.constantFrom(1, 2, 5)),
  lookBack: seldom(mostly(fc.constantFrom(1, 8, 24))).map((n) => n ?? 8),
  season: seldom(mostly(fc.constantFrom(1, 12))),
  predict: seldom(mostly(fc.constantFrom('mean', 'gaussian', 'quantiles'))),
  levels: seldom(mostly(fc.constantFrom([0.5], [0.1, 0.9]))),
  known: seldom(mostly(fc.constantFrom([], ['b'], ['c']))),
  targets: seldom(mostly(fc.constantFrom(['a'], ['a', 'b']))),
  intervals: seldom(mostly(fc.constantFrom('auto', true, false))),
  split: seldom(
    mostly(
      fc.constantFrom({ train: 0.6, validation: 0.2, test: 0.2 }, { train: 40, validation: 10, test: 0 }),
    ),
  ),
})

class ForecasterWorld {
  folder = mkdtempSync(join(tmpdir(), 's4-fuzz-'))
  async make({ data, options }) {
    this.data = columnsOf(data)
    this.self = await Forecaster.fit(this.data, { ...small, ...real(options) })
  }
  expect(expected) {
    expected.stream = this.stream !== undefined
  }
  async snapshot() {
    const path = join(this.folder, 'snapshot')
    await this.self.save(path)
    return { model: bits(readFileSync(path)), ...(this.stream && { position: String(this.stream.position) }) }
  }
  dispose() {
    this.stream?.dispose()
    this.self?.dispose()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
const range = some({
  from: seldom(mostly(fc.nat(80))),
  to: seldom(mostly(fc.nat(150))),
  stride: seldom(mostly(fc.constantFrom(1, 5))),
})
const ahead = (n, seed) => ({ b: noise(n, seed) })

/** What a file of a task holds: its tensors, and the metadata in whatever order. */
function contents(path) {
  const { tensors, metadata } = readSafetensors(path)
  return { tensors, ...metadata, extra: JSON.parse(metadata.extra) }
}

/** Saves, changes the file where it is to be damaged, loads, and compares by `numbers` of both. */
async function saveAndLoad(world, Class, flaw, numbers) {
  const path = join(world.folder, 'saved')
  await world.self.save(path)
  const file = readFileSync(path)
  const before = contents(path)
  if (flaw !== undefined) writeFileSync(path, changedBytes(file, flaw))
  const other = await Class.load(path, small)
  try {
    if (flaw !== undefined) return
    const [first, second] = [
      await attempt('original', () => numbers(world.self)),
      await attempt('loaded', () => numbers(other)),
    ]
    assert.equal(second.error?.code, first.error?.code)
    if (first.value !== undefined)
      assert.ok(bits(first.value) === bits(second.value), 'what was loaded gives other bits')
    await other.save(path)
    assert.deepEqual(contents(path), before, 'what was loaded is saved as another')
  } finally {
    other.dispose()
  }
}

export const forecasterKind = {
  name: 'forecaster',
  most: 8,
  made: fc.record({ data: columns, options: forecast }),
  world: () => new ForecasterWorld(),
  steps: {
    forecast: {
      weight: 2,
      given: some({
        data: seldom(columns),
        known: fc.constantFrom('none', 'right', 'short'),
        at: seldom(fc.constantFrom(0, 0.5, 1, 1e9)),
      }),
      call: (world, { data, known, at }) => {
        const n = known === 'short' ? 0 : world.self.horizon
        const table = data === undefined ? world.data : columnsOf(data)
        const { interval = 1 } = world.self
        return world.self.forecast(table, {
          ...(known !== 'none' && { known: ahead(n, 1) }),
          ...(at !== undefined && { at: [(table.time?.at(-1) ?? 0) + at * interval] }),
        })
      },
      verify: (world, { at }, found) => {
        assert.deepEqual(Object.keys(found), [...world.self.targets])
        for (const { mean } of Object.values(found)) {
          assert.equal(mean.length, at === undefined ? world.self.horizon : 1)
          assert.ok(mean.every(Number.isFinite), 'a forecast that is not finite')
        }
      },
    },
    inspect: {
      given: some({ data: seldom(columns) }),
      call: (world, { data }) => world.self.inspect(data === undefined ? world.data : columnsOf(data)),
      verify: (_, __, { influence }) => assert.ok(influence.data.every((x) => x >= 0 && Number.isFinite(x))),
    },
    evaluate: {
      given: some({ data: seldom(columns), range, backtest: fc.boolean() }),
      call: (world, { data, range: r, backtest }) =>
        world.self[backtest ? 'backtest' : 'evaluate'](
          data === undefined ? world.data : columnsOf(data),
          real(r),
        ),
    },
    stream: {
      given: some({ known: fc.boolean() }),
      changes: ['position'],
      call: (world, { known }) => world.self.stream(known ? { known: ahead(world.self.horizon, 2) } : {}),
      verify: (world, _, stream) => {
        world.stream?.dispose()
        world.stream = stream
      },
    },
    row: {
      weight: 4,
      may: (expected) => expected.stream,
      changes: ['position'],
      given: some({
        a: mostly(
          fc.constantFrom(5, 5.5, NaN, 1e12, -1e300).map((x) => (Number.isNaN(x) ? { hostile: 'NaN' } : x)),
        ),
        b: seldom(mostly(fc.constant(0.5))),
        times: fc.constantFrom(1, 10),
        later: fc.constantFrom(0.3, 1, 1, 40, -1),
      }),
      call: (world, { times, later, ...row }) => {
        for (let i = 0; i < times; i++) {
          const { interval } = world.self
          if (interval !== undefined) world.now = (world.now ?? 0) + later * interval
          const said = world.stream.push(real(row), interval === undefined ? {} : { time: world.now })
          assert.ok(said.strength >= 0 || Number.isNaN(said.strength))
          if (times > 1 && i === 0) world.pushed = world.stream.position
        }
      },
    },
    saveAndLoad: {
      given: some({ flaw: seldom(bytes) }),
      call: (world, { flaw }) =>
        saveAndLoad(world, Forecaster, flaw, async (f) => {
          const found = await f.forecast(world.data, f.known.length > 0 ? { known: ahead(f.horizon, 1) } : {})
          return Float64Array.from(Object.values(found).flatMap(({ mean }) => [...mean]))
        }),
    },
  },
}

const example = fc.record({
  len: fc.constantFrom(1, 5, 30, 60),
  x: tensor,
  label: fc.constantFrom('one', 'two', 3, 4),
})
const inputOf = ({ len, x }, shape) =>
  shape === 'list' ? tensorOf(x, [len]).data : tensorOf(x, shape === 'picture' ? [4, 5, 1] : [len, 2])

class ClassifierWorld {
  folder = mkdtempSync(join(tmpdir(), 's4-fuzz-'))
  async make({ examples, shape, options, balanced }) {
    this.shape = shape
    const all = balanced
      ? Array.from({ length: 8 }, (_, i) => ({
          ...examples[0],
          x: { seed: i, fill: 'noise', form: 'f32' },
          label: i % 2 === 0 ? 'one' : 3,
        }))
      : examples
    this.examples = all.map((e) => ({ input: inputOf(e, shape), label: e.label }))
    this.self = await Classifier.fit(this.examples, { ...small, ...real(options) })
  }
  expect(expected) {
    expected.stream = this.stream !== undefined
  }
  async snapshot() {
    const path = join(this.folder, 'snapshot')
    await this.self.save(path)
    return { model: bits(readFileSync(path)), ...(this.stream && { position: String(this.stream.position) }) }
  }
  dispose() {
    this.stream?.dispose()
    this.self?.dispose()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export const classifierKind = {
  name: 'classifier',
  most: 8,
  made: fc.record({
    examples: fc.array(example, { minLength: 1, maxLength: 6 }),
    balanced: fc.boolean(),
    shape: fc.constantFrom('list', 'list', 'table', 'picture'),
    options: some({
      ...training,
      kind: seldom(mostly(fc.constantFrom('series', 'audio', 'image'))),
      sampleRate: seldom(mostly(fc.constantFrom(8000, 100))),
      rates: seldom(mostly(fc.constantFrom([1], [1, 2]))),
      vary: seldom(mostly(fc.boolean())),
      bidirectional: seldom(mostly(fc.boolean())),
      validation: seldom(mostly(fc.constantFrom(0, 0.3))),
    }),
  }),
  world: () => new ClassifierWorld(),
  steps: {
    predict: {
      weight: 2,
      given: some({
        inputs: fc.array(example, { maxLength: 3 }),
        rate: seldom(mostly(fc.constantFrom(1, 2, 0.5))),
        hostile: seldom(hostile),
      }),
      call: (world, { inputs, rate, hostile: wrong }) => {
        const given = inputs.map((e) => inputOf(e, world.shape))
        return world.self.predict(
          wrong === undefined ? given : [...given, real(wrong)],
          rate === undefined ? {} : { rate: real(rate) },
        )
      },
      verify: (world, { inputs }, found) => {
        assert.equal(found.length, inputs.length)
        for (const { probabilities } of found)
          assert.ok(
            Math.abs(probabilities.reduce((a, b) => a + b, 0) - 1) < 1e-4,
            'probabilities of another sum than 1',
          )
      },
    },
    evaluate: {
      given: some({ own: fc.boolean(), examples: fc.array(example, { maxLength: 3 }) }),
      call: (world, { own, examples }) =>
        world.self.evaluate(
          own ? world.examples : examples.map((e) => ({ input: inputOf(e, world.shape), label: e.label })),
        ),
    },
    stream: {
      changes: ['position'],
      given: some({
        window: seldom(mostly(fc.constantFrom(1, 30))),
        hop: seldom(mostly(fc.constantFrom(1, 7))),
        debounce: seldom(mostly(fc.constantFrom(1, 2))),
        threshold: seldom(mostly(fc.constantFrom(0, 0.5, 1))),
        rate: seldom(mostly(fc.constantFrom(1, 2))),
      }),
      call: (world, options) => world.self.stream(real(options)),
      verify: (world, _, stream) => {
        world.stream?.dispose()
        world.stream = stream
      },
    },
    samples: {
      weight: 3,
      may: (expected) => expected.stream,
      changes: ['position'],
      given: some({ e: example }),
      call: (world, { e }) => world.stream.push(inputOf(e, world.shape)),
    },
    saveAndLoad: {
      given: some({ flaw: seldom(bytes) }),
      call: (world, { flaw }) =>
        saveAndLoad(world, Classifier, flaw, async (c) => {
          const found = await c.predict(world.examples.map(({ input }) => input))
          return Float64Array.from(found.flatMap(({ probabilities }) => [...probabilities]))
        }),
    },
  },
}
