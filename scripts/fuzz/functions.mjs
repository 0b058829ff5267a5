// Functions without a state: matrices, convolution, readers of changed files, windows, generators, figures.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import {
  choices,
  fftConv,
  fftConvAsync,
  generators,
  hippo,
  hippoAsync,
  nplr,
  nplrAsync,
  readCsv,
  readCsvAsync,
  readPictures,
  readSafetensors,
  readSafetensorsAsync,
  S4Block,
  schedules,
  SequenceModel,
  windows,
  writeSafetensors,
} from 's4-node'
import { metrics } from 's4-node/tasks'
import { bytes, changedBytes } from './bytes.mjs'
import { assertClose, attempt, bits } from './invariants.mjs'
import { mostly, numbersOf, real, seldom, some, tensor, tensorOf } from './values.mjs'

const file = (path) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)))
const FILES = {
  csv: () => Buffer.from('time,level,"a ""b"""\n1,2.5,3\n2,,4\n3,-1e-3,5\n4,7,8\n'),
  semicolons: () => Buffer.from('a;b\r\n1,5;2\r\n3;4,25\r\n'),
  png: () => file('crates/data/tests/files/rgb.png'),
  checkpoint: () => file('__test__/fixtures/official/v4-post-layer.safetensors'),
  empty: () => Buffer.alloc(0),
}
const foreign = some({ kind: fc.constantFrom(...Object.keys(FILES)), changes: seldom(bytes) })

class FunctionWorld {
  folder = mkdtempSync(join(tmpdir(), 's4-fuzz-'))
  make() {}
  expect() {}
  async snapshot() {
    return {}
  }
  /** Writes the described file and gives its path. */
  path({ kind, changes }) {
    const path = join(this.folder, 'file')
    writeFileSync(path, changes === undefined ? FILES[kind]() : changedBytes(FILES[kind](), changes))
    return path
  }
  dispose() {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** A synchronous function and its asynchronous twin answer alike. */
async function alike(name, sync, async, numbers) {
  const [first, second] = [await attempt(name, sync), await attempt(`${name}Async`, async)]
  assert.equal(
    second.error?.code,
    first.error?.code,
    `${name} and its twin: ${first.error} / ${second.error}`,
  )
  if (first.value !== undefined)
    assert.ok(
      numbers(first.value).every((x, i) => bits(x) === bits(numbers(second.value)[i])),
      `${name} and its twin differ`,
    )
  return first.value
}

const list = some({ n: fc.constantFrom(0, 1, 2, 3, 4, 10), x: tensor, flat: fc.boolean() })
const listOf = ({ n, x }) => tensorOf(x, [n]).data
const listsOf = (lists) => (Array.isArray(lists) ? lists.map(listOf) : real(lists))

const functionSteps = {
  matrices: {
    given: some({
      kind: mostly(fc.constantFrom(...choices.measure)),
      n: mostly(fc.constantFrom(1, 2, 3, 4, 8, 33, 64)),
    }),
    call: async (_, { kind, n }) => {
      await alike(
        'hippo',
        () => hippo(real(kind), real(n)),
        () => hippoAsync(real(kind), real(n)),
        ({ a, b, p }) => [a.data, b.data, p.data],
      )
      await alike(
        'nplr',
        () => nplr(real(kind), real(n)),
        () => nplrAsync(real(kind), real(n)),
        (f) => [f.lambda.data, f.p.data, f.b.data, f.bUnclipped.data],
      )
    },
  },
  convolution: {
    weight: 2,
    given: some({
      u: tensor,
      kernel: tensor,
      d: seldom(tensor),
      rows: fc.constantFrom(1, 2),
      len: fc.constantFrom(1, 2, 3, 16, 31, 100),
      heads: fc.constantFrom(1, 2, 3),
      channels: fc.constantFrom(1, 2),
      taps: fc.constantFrom(1, 2, 5, 31, 100, 101),
      twoSided: seldom(mostly(fc.boolean())),
    }),
    call: async (_, { u, kernel, d, rows, len, heads, channels, taps, twoSided }) => {
      const both = twoSided === true ? 2 : 1
      const args = () => [
        tensorOf(u, [rows, len, heads]),
        tensorOf(kernel, [both * channels, heads, taps]),
        d === undefined ? undefined : tensorOf(d, [channels, heads]),
        twoSided === undefined ? undefined : { twoSided: real(twoSided) },
      ]
      const y = await alike(
        'fftConv',
        () => fftConv(...args()),
        () => fftConvAsync(...args()),
        (t) => [t.data],
      )
      if (
        y === undefined ||
        [u, kernel, d].some((t) => t?.flaw !== undefined || !['noise', 'ones', undefined].includes(t?.fill))
      )
        return
      const [uu, kk, dd] = [
        numbersOf(u, rows * len * heads),
        numbersOf(kernel, both * channels * heads * taps),
        d && numbersOf(d, channels * heads),
      ]
      const want = new Float64Array(rows * len * channels * heads)
      for (let b = 0; b < rows; b++)
        for (let t = 0; t < len; t++)
          for (let c = 0; c < channels; c++)
            for (let h = 0; h < heads; h++) {
              const at = (s) => (s < 0 || s >= len ? 0 : uu[(b * len + s) * heads + h])
              let sum = (dd?.[c * heads + h] ?? 0) * at(t)
              for (let j = 0; j < taps; j++) {
                sum += kk[(c * heads + h) * taps + j] * at(t - j)
                if (both === 2) sum += kk[((channels + c) * heads + h) * taps + j] * at(t + 1 + j)
              }
              want[(b * len + t) * channels * heads + c * heads + h] = sum
            }
      assertClose('fftConv and its sum', y.data, want, 1e-4, 1)
    },
  },
  table: {
    weight: 3,
    given: some({
      from: foreign,
      column: seldom(mostly(fc.constantFrom(0, 1, 2, 5, 'level', 'b', 'none'))),
      gaps: seldom(mostly(fc.constantFrom(...choices.gaps))),
      header: seldom(mostly(fc.constantFrom(true, false, 'auto'))),
    }),
    call: async (world, { from, ...options }) => {
      const path = world.path(from)
      const series = await alike(
        'readCsv',
        () => readCsv(path, real(options)),
        () => readCsvAsync(path, real(options)),
        (x) => [x],
      )
      if (series !== undefined) assert.ok(series.every(Number.isFinite), 'readCsv gave what is not finite')
    },
  },
  tensors: {
    weight: 3,
    given: some({ from: foreign }),
    call: (world, { from }) => {
      const path = world.path(from)
      const all = (f) => Object.values(f.tensors).map(({ data }) => data)
      return alike(
        'readSafetensors',
        () => readSafetensors(path),
        () => readSafetensorsAsync(path),
        all,
      )
    },
  },
  writing: {
    given: some({
      x: tensor,
      shape: fc.constantFrom([1], [2, 3], [4, 1, 1]),
      metadata: seldom(mostly(fc.dictionary(fc.string(), fc.string(), { maxKeys: 2 }))),
      name: fc.string({ maxLength: 5 }),
    }),
    call: (world, { x, shape, metadata, name }) => {
      const path = join(world.folder, 'written')
      const value = tensorOf(x, shape)
      writeSafetensors(path, { [name]: value }, real(metadata))
      const { tensors, metadata: read } = readSafetensors(path)
      if (x.flaw !== undefined && !['NaN', 'Infinity', '-Infinity'].includes(x.flaw)) return
      assert.deepEqual(tensors[name].shape, shape)
      const want = Array.from(value.data, (v) => (x.form === 'f64' ? v : Math.fround(v)))
      assert.deepEqual(Array.from(tensors[name].data), want)
      if (metadata !== undefined && metadata.hostile === undefined)
        assert.deepEqual({ ...read }, { ...metadata })
    },
  },
  pictures: {
    weight: 2,
    given: some({
      from: fc.array(foreign, { minLength: 1, maxLength: 2 }),
      colours: seldom(mostly(fc.constantFrom(...choices.colours))),
    }),
    call: async (world, { from, colours }) => {
      const paths = from.map((f, i) => {
        const path = join(world.folder, `picture${i}`)
        writeFileSync(path, readFileSync(world.path(f)))
        return path
      })
      const p = await readPictures(paths, { colours: real(colours) })
      assert.equal(p.pixels.length, p.count * p.height * p.width * p.channels)
    },
  },
  models: {
    weight: 3,
    given: some({ from: foreign, as: fc.constantFrom('load', 'bytes', 'official', 'stateDict') }),
    call: async (world, { from, as }) => {
      const path = world.path(from)
      const where = { device: 'cpu', threads: 1 }
      const config = { mode: 'nplr', prenorm: false, pooling: 'mean', final_act: 'glu', activation: 'gelu' }
      const ways = {
        load: () => SequenceModel.load(path, where),
        bytes: () => SequenceModel.fromBytes(readFileSync(path), where),
        official: () => SequenceModel.fromOfficial(path, { ...where, config }),
        stateDict: () => S4Block.fromStateDict(path, config, where),
      }
      const handle = await ways[as]()
      handle.dispose()
    },
  },
  cut: {
    given: some({
      series: list,
      length: mostly(fc.constantFrom(1, 2, 5)),
      stride: seldom(mostly(fc.constantFrom(1, 2))),
      horizon: seldom(mostly(fc.constantFrom(1, 3))),
    }),
    call: (_, { series, ...options }) => {
      let n = 0
      for (const { input, target } of windows(listOf(series), real(options))) {
        assert.ok(input.data.length === input.shape.reduce((a, b) => a * b, 1))
        assert.ok(target.data.length === target.shape.reduce((a, b) => a * b, 1))
        if (++n > 100) break
      }
    },
  },
  schedules: {
    given: some({
      name: fc.constantFrom(...Object.keys(schedules)),
      options: some({
        warmup: seldom(mostly(fc.constantFrom(0, 1, 10))),
        total: seldom(mostly(fc.constantFrom(1, 20))),
        floor: seldom(mostly(fc.constantFrom(0, 0.5))),
        factor: seldom(mostly(fc.constantFrom(0.5, 1))),
        patience: seldom(mostly(fc.constantFrom(0, 2))),
        every: seldom(mostly(fc.constantFrom(1, 2))),
      }),
    }),
    call: (_, { name, options }) => schedules[name](real(options)),
  },
  generators: {
    given: some({
      name: fc.constantFrom('pathfinder', 'listops'),
      count: fc.oneof(
        { arbitrary: fc.constantFrom(1, 2), weight: 3 },
        { arbitrary: fc.constantFrom(0, -1, 1.5, 2 ** 40, '1', null), weight: 1 },
      ),
      seed: seldom(mostly(fc.nat(10))),
      abort: fc.boolean(),
    }),
    call: async (_, { name, count, seed, abort }) => {
      const control = new AbortController()
      const later = generators[name]({ count, seed: real(seed), signal: control.signal })
      if (abort) control.abort()
      await later
    },
  },
  figures: {
    weight: 2,
    given: some({
      name: mostly(fc.constantFrom(...Object.keys(metrics))).map((name) =>
        typeof name === 'string' ? name : 'mse',
      ),
      lists: mostly(fc.array(list, { minLength: 2, maxLength: 3 })),
      more: seldom(mostly(fc.constantFrom(0, 0.5, 1, 2, 3))),
    }),
    call: (_, { name, lists, more }) => {
      const given = listsOf(lists)
      const [a, b, c] = Array.isArray(given) ? given : [given]
      return metrics[name](a, b, more === undefined ? c : real(more))
    },
  },
}

export const functionKind = {
  name: 'functions',
  most: 6,
  made: fc.constant({}),
  steps: functionSteps,
  world: () => new FunctionWorld(),
}
