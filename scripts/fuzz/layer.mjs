// A layer or a block with an optimiser, and what is done with them in random order: forwards, backwards, steps, updates, saving, loading.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { AdamW, S4Block, S4Layer } from 's4-node'
import { callOptions, input, intervalOf, lengthsOf } from './batches.mjs'
import { bytes, changedBytes } from './bytes.mjs'
import { allFinite, assertClose, attempt, bits, parameterBits, whenFree } from './invariants.mjs'
import {
  algorithm,
  adamwOptions,
  blockOptions,
  callRate,
  groups,
  layerOptions,
  loadOptions,
} from './options.mjs'
import {
  hostile,
  mostly,
  noise,
  ratio,
  real,
  seldom,
  some,
  soundTensor,
  tensor,
  tensorOf,
} from './values.mjs'

class LayerWorld {
  folder = mkdtempSync(join(tmpdir(), 's4-fuzz-'))
  own = { name: 'own', data: new Float32Array(3).fill(0.5), grad: new Float32Array(3).fill(0.1) }

  make({ kind, options }) {
    this.Class = kind === 'block' ? S4Block : S4Layer
    this.layer = new this.Class(real(options))
    this.config = this.layer.config
    this.names = this.layer.parameters().map(({ name, shape }) => ({ name, shape }))
    this.outputs = this.config.features * (kind === 'block' ? 1 : this.config.channels)
  }

  expect(expected) {
    expected.saved = this.shape !== undefined
    expected.optimizer = this.optimizer !== undefined
    expected.state = this.layer.hasState
  }

  async snapshot() {
    if (this.disposed) return {}
    return whenFree(() => ({
      parameters: parameterBits(this.layer),
      own: bits(this.own.data),
      gradients: this.layer
        .parameters()
        .map(({ grad }) => bits(grad.data))
        .join(),
    }))
  }

  /** A backward that fails while it computes may leave a part of its gradients. */
  changedByFailure(name) {
    return name === 'backward' ? ['gradients'] : []
  }

  dispose() {
    this.optimizer?.dispose()
    this.layer?.dispose()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const tolerance = (world) => (world.layer.dtype === 'f64' ? 1e-9 : 1e-4)
const stateShape = ({ config }, rows) => [rows, config.features, config.state / 2, 2]

/** Runs the steps of a sequence one after the other; gives their outputs, (batch, len, outputs). */
function bySteps({ layer, config, outputs }, x, rows, len, rate) {
  const y = new Float64Array(rows * len * outputs)
  let state = layer.initialState(rows)
  for (let t = 0; t < len; t++) {
    const u = new Float64Array(rows * config.features)
    for (let b = 0; b < rows; b++)
      for (let h = 0; h < config.features; h++)
        u[b * config.features + h] = x[(b * len + t) * config.features + h]
    const step = layer.step({ data: u, shape: [rows, config.features] }, state, { rate })
    state = step.state
    for (let b = 0; b < rows; b++)
      for (let h = 0; h < outputs; h++) y[(b * len + t) * outputs + h] = step.y.data[b * outputs + h]
  }
  return y
}

export const layerSteps = {
  forward: {
    weight: 5,
    // A training forward of a batch norm takes its statistics.
    changes: ['parameters'],
    given: some({
      input,
      ...callOptions,
      algorithm,
      state: seldom(tensor),
      save: seldom(mostly(fc.boolean())),
      training: seldom(mostly(fc.boolean())),
      finalState: seldom(mostly(fc.boolean())),
      async: fc.boolean(),
    }),
    call: (world, given) => {
      const { input: i, lengths, rate, algorithm: by, state, save, training, finalState, async } = given
      const { rows, len, x } = i
      const o = {
        lengths: lengthsOf(lengths, rows, len),
        rate: real(rate),
        algorithm: real(by),
        save: real(save),
        training: real(training),
        finalState: real(finalState),
        ...(state !== undefined && { state: tensorOf(state, stateShape(world, rows)) }),
      }
      const u = tensorOf(x, [rows, len, world.config.features])
      return async ? world.layer.forwardAsync(u, o) : world.layer.forward(u, o)
    },
    verify: async (world, given, { y, state }) => {
      const { input: i, lengths, rate, training, save } = given
      const { rows, len, x } = i
      if (real(save) !== false) world.shape = [rows, len, world.outputs]
      if (x.flaw !== undefined) return
      assert.deepEqual(y.shape, [rows, len, world.outputs])
      if (state !== undefined) assert.deepEqual(state.shape, stateShape(world, rows))
      const simple =
        lengths === undefined &&
        given.state === undefined &&
        training !== true &&
        typeof training !== 'object'
      if (!simple || !allFinite(y.data) || world.strange || !world.layer.hasState || rows * len > 200) return
      const u = tensorOf(x, [rows, len, world.config.features]).data
      const { value: steps, error } = await attempt('step', () => bySteps(world, u, rows, len, real(rate)))
      // At the ends of 32 bits one of the two may overflow before the other.
      if (['large', 'mixed'].includes(x.fill) && error?.code === 'ERR_S4_NONFINITE') return
      assert.equal(error, undefined)
      const scale = Math.max(0.01, ...Array.from(y.data, Math.abs))
      assertClose('forward and steps', y.data, steps, tolerance(world), scale)
    },
  },
  backward: {
    weight: 3,
    changes: ['gradients'],
    given: some({
      dy: tensor,
      dstate: seldom(tensor),
      rows: seldom(fc.constantFrom(1, 2)),
      async: fc.boolean(),
    }),
    call: (world, { dy, dstate, rows, async }) => {
      const shape = world.shape ?? [1, 5, world.outputs]
      const given = tensorOf(dy, [rows ?? shape[0], ...shape.slice(1)])
      const o = dstate === undefined ? {} : { dstate: tensorOf(dstate, stateShape(world, shape[0])) }
      return async ? world.layer.backwardAsync(given, o) : world.layer.backward(given, o)
    },
    verify: (world, { dy }, { du }) => {
      assert.ok(world.shape !== undefined, 'a backward without a forward')
      if (dy.flaw === undefined)
        assert.deepEqual(du.shape, [...world.shape.slice(0, 2), world.config.features])
    },
  },
  step: {
    weight: 2,
    given: some({
      rows: fc.constantFrom(1, 2),
      u: tensor,
      state: tensor,
      interval: seldom(fc.oneof(ratio, fc.constantFrom('rows', 'short', 'NaN'))),
      rate: callRate,
    }),
    call: (world, { rows, u, state, interval, rate }) =>
      world.layer.step(tensorOf(u, [rows, world.config.features]), tensorOf(state, stateShape(world, rows)), {
        interval: intervalOf(interval, rows, 1),
        rate: real(rate),
      }),
    verify: (world, { rows }, { y, state }) => {
      assert.deepEqual(y.shape, [rows, world.outputs])
      assert.ok(allFinite(y.data) && allFinite(state.data), 'a step gave what is not finite')
    },
  },
  algorithms: {
    // Each algorithm gives the same output and end state, to rounding.
    weight: 2,
    given: some({
      input: some({ rows: fc.constantFrom(1, 2), len: fc.constantFrom(1, 5, 64, 100, 130), x: soundTensor }),
      state: seldom(soundTensor),
    }),
    call: async (world, { input: i, state }) => {
      const { rows, len, x } = i
      const u = tensorOf(x, [rows, len, world.config.features])
      const o =
        state === undefined || !world.layer.hasState
          ? {}
          : { state: tensorOf(state, stateShape(world, rows)) }
      const all = await Promise.all(
        ['fft', 'chunk', 'cauchy'].map((name) =>
          attempt(name, () => world.layer.forward(u, { ...o, algorithm: name, save: false })),
        ),
      )
      const found = all.flatMap(({ value }) => (value === undefined ? [] : [value]))
      if (found.length < 2 || world.strange) return
      for (const what of ['y', 'state'])
        for (const other of found.slice(1)) {
          if (found[0][what] === undefined) continue
          const [a, b] = [other[what].data, found[0][what].data]
          if (allFinite(a) && allFinite(b))
            assertClose(`${what} by two algorithms`, a, b, tolerance(world), 0.01)
        }
    },
  },
  kernel: {
    given: some({ len: mostly(fc.constantFrom(1, 2, 63, 64, 65, 200)), rate: callRate, async: fc.boolean() }),
    call: (world, { len, rate, async }) =>
      async
        ? world.layer.kernelAsync(real(len), { rate: real(rate) })
        : world.layer.kernel(real(len), { rate: real(rate) }),
  },
  initialState: {
    given: some({ batch: seldom(mostly(fc.constantFrom(1, 2))) }),
    call: (world, { batch }) => world.layer.initialState(real(batch)),
  },
  zeroGrad: {
    changes: ['gradients'],
    given: fc.constant({}),
    call: (world) => world.layer.zeroGrad(),
  },
  setParameter: {
    changes: ['parameters'],
    given: some({
      which: mostly(fc.nat(30)),
      value: tensor,
      shape: fc.constantFrom('right', 'right', 'flat'),
    }),
    call: (world, { which, value, shape }) => {
      const { name, shape: sizes } =
        typeof which === 'number'
          ? world.names[which % world.names.length]
          : { name: real(which), shape: [1] }
      const flat = [sizes.reduce((a, b) => a * b, 1)]
      return world.layer.setParameter(name, tensorOf(value, shape === 'right' ? sizes : flat))
    },
    verify: (world) => {
      world.strange = true
    },
  },
  optimizer: {
    weight: 2,
    given: some({
      options: adamwOptions,
      groups,
      members: fc.constantFrom(
        'layer',
        'layer and own',
        'own',
        'layer twice',
        'nothing',
        'one grad short',
        'detached',
      ),
      hostile: seldom(hostile),
    }),
    call: (world, { options, groups: g, members, hostile: wrong }) => {
      const { layer, own } = world
      const short = { ...own, grad: own.grad.slice(1) }
      const gone = { ...own, data: own.data.slice(), grad: own.grad }
      structuredClone(gone.data.buffer, { transfer: [gone.data.buffer] })
      const lists = {
        layer: [layer],
        'layer and own': [layer, own],
        own: [own],
        'layer twice': [layer, layer],
        nothing: [],
        'one grad short': [layer, short],
        detached: [gone],
      }
      const list = wrong === undefined ? lists[members] : [...lists[members], real(wrong)]
      return new AdamW(list, { ...real(options), ...(g !== undefined && { groups: real(g) }) })
    },
    verify: (world, _, optimizer) => {
      world.optimizer?.dispose()
      world.optimizer = optimizer
    },
  },
  update: {
    weight: 3,
    may: (expected) => expected.optimizer,
    changes: ['parameters', 'own'],
    given: some({
      scale: seldom(mostly(fc.constantFrom(0, 0.5, 1))),
      gradients: fc.constantFrom('noise', 'noise', 'NaN', 'large', 'zero'),
    }),
    call: (world, { scale, gradients }) => {
      const fills = { NaN: () => NaN, large: () => 3e38, zero: () => 0, noise: (i) => noise(3, 1)[i] }
      world.own.grad.forEach((_, i) => (world.own.grad[i] = fills[gradients](i)))
      return world.optimizer.step(real(scale))
    },
    verify: (world, _, norms) => {
      world.strange = true
      assert.ok(norms.every((norm) => norm >= 0 && Number.isFinite(norm)))
      assert.ok(allFinite(world.own.data), 'an update made a parameter that is not finite')
    },
  },
  keepMoments: {
    may: (expected) => expected.optimizer,
    given: some({ flaw: seldom(bytes) }),
    call: async (world, { flaw }) => {
      const path = join(world.folder, 'moments')
      await world.optimizer.save(path)
      const saved = readFileSync(path)
      if (flaw !== undefined) writeFileSync(path, changedBytes(saved, flaw))
      await world.optimizer.restore(path)
      if (flaw !== undefined) return
      await world.optimizer.save(path)
      assert.ok(bits(readFileSync(path)) === bits(saved), 'restored moments are saved as other bytes')
    },
  },
  saveAndLoad: {
    weight: 2,
    given: some({ load: loadOptions, flaw: seldom(bytes), input }),
    call: async (world, { load, flaw, input: { rows, len, x } }) => {
      const { layer, Class, config } = world
      const path = join(world.folder, 'saved')
      await layer.save(path)
      if (flaw !== undefined) writeFileSync(path, changedBytes(readFileSync(path), flaw))
      const other = await Class.load(path, real(load))
      try {
        if (flaw !== undefined) return
        assert.deepEqual(other.config, layer.config)
        if (other.dtype !== layer.dtype) return
        assert.ok(parameterBits(other) === parameterBits(layer), 'loaded parameters differ')
        const [first, second] = await Promise.all(
          [layer, other].map((l) =>
            attempt('forward', () =>
              l.forwardAsync(tensorOf(x, [rows, len, config.features]), { algorithm: 'chunk', save: false }),
            ),
          ),
        )
        assert.equal(second.error?.code, first.error?.code)
        if (first.value !== undefined)
          assert.ok(bits(second.value.y.data) === bits(first.value.y.data), 'a loaded layer gives other bits')
      } finally {
        other.dispose()
      }
    },
  },
  together: {
    changes: ['parameters', 'gradients', 'own'],
    given: some({ x: tensor, abort: fc.boolean() }),
    call: async (world, { x, abort }) => {
      const { layer, config } = world
      const u = () => tensorOf(x, [2, 20, config.features])
      const control = new AbortController()
      const calls = [
        () => layer.forwardAsync(u(), { signal: control.signal }),
        () =>
          layer.backwardAsync({ data: new Float32Array(40 * world.outputs), shape: [2, 20, world.outputs] }),
        () => layer.kernelAsync(33, { signal: control.signal }),
        () => layer.save(join(world.folder, 'together')),
        () => layer.forwardAsync(u()),
        () => layer.zeroGrad(),
        () => world.optimizer?.step(),
      ]
      const all = calls.map((call, i) => attempt(`call ${i} of several`, call))
      if (abort) control.abort()
      await Promise.all(all)
      world.shape = undefined
      world.strange = true
    },
  },
  dispose: {
    changes: ['parameters', 'gradients', 'own'],
    may: (expected) => expected.optimizer,
    given: some({ what: fc.constantFrom('layer', 'optimizer') }),
    call: (world, { what }) => {
      if (what === 'layer') world.disposed = true
      return world[what].dispose()
    },
  },
}

export const layerKind = {
  name: 'layer',
  most: 12,
  made: fc.oneof(
    layerOptions.map((options) => ({ kind: 'layer', options })),
    blockOptions.map((options) => ({ kind: 'block', options })),
  ),
  steps: layerSteps,
  world: () => new LayerWorld(),
}
