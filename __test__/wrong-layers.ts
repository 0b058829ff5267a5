/** Recipes of the table: layers, blocks and their optimiser. */
import { createHash } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AdamW, S4Block, S4Layer, type S4BlockOptions, type TensorLike } from '../index.js'
import { device, noisy } from './helpers.js'
import type { Arguments, Receiver, Recipe } from './wrong-table.js'

/** Real numbers of any size that the element type holds. */
export const REAL = ['-1', '0', '0.5', '2**31', '2**53', '1e-300'] as const
/** Lists that may have another length. */
export const ANY_LENGTH = ['one element more', 'one element less'] as const

const tiny = () => ({ features: 2, state: 4, seed: 1, device: device() })
const layer = () => new S4Layer(tiny())
/** With dropout, so that a call that is refused and draws masks would be seen. */
const block = (options: Partial<S4BlockOptions> = {}) => new S4Block({ ...tiny(), dropout: 0.3, ...options })

export const seen = (handle: S4Layer | S4Block): string => {
  const hash = createHash('sha1')
  for (const { name, value, grad } of handle.parameters())
    hash.update(name).update(value.data).update(grad.data)
  return hash.digest('base64')
}
const over = (handle: S4Layer | S4Block): Receiver => ({
  self: handle,
  observe: () => seen(handle),
  close: () => handle.dispose(),
})
const u = () => noisy([2, 3, 2], 3)
const state = (rows = 2) => noisy([rows, 2, 2, 2], 4)
const forwarded = (handle: S4Layer | S4Block): Receiver => {
  handle.forward(u(), { state: state(), training: true })
  return over(handle)
}

/** What may stand at the options of layers, blocks and models beside what their types say is right. */
const LAYER_LEGAL: Recipe['legal'] = {
  'options.seed': ['0', '2**31'],
  'options.truncate': ['2**31'],
  'options.dtMax': ['0.5'],
  'options.memoryLimit': ['2**31'],
}
export const BLOCK_LEGAL: Recipe['legal'] = {
  ...LAYER_LEGAL,
  'options.dropout': ['0', '0.5'],
  'options.dropPath': ['0', '0.5'],
}
/** A ratio of sampling rates or intervals: within what 32 bits hold. */
export const RATIO = ['0.5', '2**31', '2**53'] as const
/** Numbers of the optimiser. */
export const ADAMW_LEGAL: Recipe['legal'] = {
  'options.lr': ['0', '0.5', '2**31', '2**53'],
  'options.ssmLr': ['0', '0.5', '2**31', '2**53'],
  'options.weightDecay': ['0', '0.5', '2**31', '2**53'],
  'options.beta1': ['0', '0.5'],
  'options.beta2': ['0', '0.5'],
  'options.eps': ['0.5', '2**31', '2**53'],
  'options.clip': ['0.5', '2**31', '2**53'],
}
const forwardLegal: Recipe['legal'] = {
  'u.data[]': REAL,
  'options.state.data[]': REAL,
  'options.intervals.data[]': RATIO,
  'options.intervals[]': RATIO,
  'options.rate': RATIO,
}

/** The methods that layers and blocks share. */
function shared(name: string, make: () => S4Layer | S4Block): Record<string, Recipe> {
  const onFresh = (args: () => unknown[]): readonly Arguments[] => [{ receiver: () => over(make()), args }]
  const onForwarded = (args: () => unknown[]): readonly Arguments[] => [
    { receiver: () => forwarded(make()), args },
  ]
  const options = () => ({
    state: state(),
    lengths: [3, 2],
    intervals: { data: Float32Array.of(0.5, 2, 1, 1, 3, 1), shape: [2, 3] },
    rate: 1.5,
    algorithm: 'fft',
    save: true,
    training: true,
    finalState: true,
  })
  const signal = () => new AbortController().signal
  const onPlainIntervals = (more: () => object): readonly Arguments[] => [
    {
      under: 'options.intervals[]',
      receiver: () => over(make()),
      args: () => [u(), { ...options(), intervals: [0.5, 2, 1, 1, 3, 1], ...more() }],
    },
  ]
  const dy = () => noisy([2, 3, 2], 5)
  return {
    [`${name}#forward`]: {
      right: [...onFresh(() => [u(), options()]), ...onPlainIntervals(() => ({}))],
      legal: forwardLegal,
    },
    [`${name}#forwardAsync`]: {
      right: [
        ...onFresh(() => [u(), { ...options(), signal: signal() }]),
        ...onPlainIntervals(() => ({ signal: signal() })),
      ],
      legal: forwardLegal,
    },
    [`${name}#backward`]: {
      right: onForwarded(() => [dy(), { dstate: state() }]),
      legal: { '*.data[]': REAL },
    },
    [`${name}#backwardAsync`]: {
      right: onForwarded(() => [dy(), { dstate: state(), signal: signal() }]),
      legal: { '*.data[]': REAL },
    },
    [`${name}#step`]: {
      right: [
        {
          receiver: () => over(make()),
          args: () => [noisy([2, 2]), state(), { interval: [1, 2], rate: 1.5 }],
        },
      ],
      legal: {
        '*.data[]': REAL,
        'options.rate': RATIO,
        'options.interval': RATIO,
        'options.interval[]': RATIO,
      },
    },
    [`${name}#initialState`]: { right: onFresh(() => [2]) },
    [`${name}#kernel`]: { right: onFresh(() => [5, { rate: 1.5 }]), legal: { 'options.rate': RATIO } },
    [`${name}#kernelAsync`]: {
      right: onFresh(() => [5, { rate: 1.5, signal: signal() }]),
      legal: { 'options.rate': RATIO },
    },
    [`${name}#save`]: { right: onFresh(() => [join(folder, 'saved')]) },
    [`${name}.load`]: {
      right: [{ args: () => [name === 'S4Layer' ? files.S4Layer : files.S4Block, loadOptions()] }],
      legal: { 'options.memoryLimit': ['2**31'] },
    },
    [`${name}#setParameter`]: {
      right: onFresh(() => [
        make === layer ? 'D' : 'layer.D',
        { data: Float32Array.of(1, 2), shape: [1, 2] },
      ]),
      legal: { 'value.data[]': REAL, 'value.shape': ANY_LENGTH },
      words: { 'value*': ['D', 'layer.D'], name: ['parameter'] },
    },
    ...Object.fromEntries(
      ['parameters', 'zeroGrad', 'counters', 'dispose', '[Symbol.dispose]'].map((method) => [
        `${name}#${method}`,
        { right: onFresh(() => []) },
      ]),
    ),
  }
}

/** Every option of a layer at once, or of a block. */
const layerOptions = () => ({
  ...tiny(),
  state: 8,
  mode: 's4',
  init: 'legs',
  rank: 1,
  nSsm: 1,
  channels: 1,
  bidirectional: false,
  dtMin: 0.01,
  dtMax: 0.1,
  dtPerState: false,
  discretization: 'bilinear',
  dtTransform: 'softplus',
  realTransform: 'exp',
  imagTransform: 'none',
  truncate: 7,
  dtype: 'f32',
  threads: 1,
  precision: 'highest',
  memoryLimit: 2 ** 30,
  algorithm: 'auto',
})
export const blockOptions = () => ({
  ...layerOptions(),
  norm: 'layer',
  prenorm: true,
  activation: 'gelu',
  glu: false,
  finalActivation: 'identity',
  dropout: 0.1,
  dropPath: 0.1,
  tiedDropout: false,
  residual: true,
})
const official = (): Record<string, TensorLike> => {
  using made = new S4Block({ ...tiny(), norm: 'none', residual: false, dtype: 'f32' })
  return Object.fromEntries(
    made.parameters().map((p) => [p.name, { data: Float32Array.from(p.value.data), shape: p.shape }]),
  )
}
export const loadOptions = () => ({
  device: device(),
  dtype: 'f32',
  threads: 1,
  precision: 'highest',
  memoryLimit: 2 ** 30,
  algorithm: 'auto',
})

const optimizer = (): Receiver & { self: AdamW } => {
  const layers = [layer(), block()]
  for (const one of layers) {
    const { y } = one.forward(u())
    one.backward(y)
  }
  const made = new AdamW(layers, { lr: 0.01 })
  return {
    self: made,
    observe: () => layers.map(seen).join(),
    close: () => {
      made.dispose()
      for (const one of layers) one.dispose()
    },
  }
}
/** Values and gradients of one's own are looked at when they are used, by a step. */
const ANY_NUMBER = [...REAL, 'NaN', 'Infinity', '-Infinity', '1e300']
const IN_PLACE = 'an update changes it in its place, so it has to be a typed array: below'
const ONLY_TYPED = {
  'as a plain array': IN_PLACE,
  'as an array of another realm': IN_PLACE,
  'as an object with a length': IN_PLACE,
}
/** One layer for the optimisers of the table. */
const optimised = layer()
const own = () => ({ name: 'own', data: Float32Array.of(1, 2), grad: Float32Array.of(0.5, -1) })

const folder = mkdtempSync(join(tmpdir(), 's4-wrong-layers-'))
const files = {
  S4Layer: join(folder, 'layer'),
  S4Block: join(folder, 'block'),
  moments: join(folder, 'moments'),
}
await layer().save(files.S4Layer)
await block().save(files.S4Block)
await optimizer().self.save(files.moments)

export const layerRecipes: Readonly<Record<string, Recipe>> = {
  'new S4Layer': { right: [{ args: () => [layerOptions()] }], legal: LAYER_LEGAL },
  'new S4Block': { right: [{ args: () => [blockOptions()] }], legal: BLOCK_LEGAL },
  'S4Block.fromStateDict': {
    right: [
      {
        args: () => [
          official(),
          {
            mode: 'dplr',
            disc: 'bilinear',
            dt_transform: 'softplus',
            real_transform: 'exp',
            imag_transform: 'none',
            bidirectional: false,
            activation: 'gelu',
            final_act: 'glu',
          },
          loadOptions(),
        ],
      },
    ],
    words: { source: ['path', 'valueOf'] },
    legal: {
      // What the official code has more is taken no notice of.
      config: ['an unknown key', 'an object that throws as text or number'],
      'source{}.data[]': REAL,
      'options.memoryLimit': ['2**31'],
    },
  },
  ...shared('S4Layer', layer),
  ...shared('S4Block', block),
  'new AdamW': {
    right: [
      {
        args: () => [
          [own(), optimised],
          {
            groups: [{ name: '1.D', lr: 0.01, weightDecay: 0.1, freeze: false }],
            lr: 0.01,
            ssmLr: 0.001,
            weightDecay: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            clip: 1,
            spareNormsAndBiases: true,
          },
        ],
      },
    ],
    legal: {
      ...ADAMW_LEGAL,
      'options.groups': ['[]', '[] of another realm', 'one element more', 'one element less'],
      'options.groups[].lr': ['0', '0.5', '2**31', '2**53'],
      'options.groups[].weightDecay': ['0', '0.5', '2**31', '2**53'],
      'parameters[].name': ['"a\\u0000b"'],
      'parameters[].data[]': ANY_NUMBER,
      'parameters[].grad[]': ANY_NUMBER,
    },
    untried: {
      'parameters[].data': ONLY_TYPED,
      'parameters[].grad': ONLY_TYPED,
      'parameters[].data[]': { 'a throwing getter': 'a typed array has none' },
      'parameters[].grad[]': { 'a throwing getter': 'a typed array has none' },
    },
    more: {
      'parameters[].data': [{ name: 'a plain array of numbers', make: () => [1, 2] }],
      'parameters[].grad': [{ name: 'a plain array of numbers', make: () => [1, 2] }],
    },
    words: { 'parameters*': ['a parameter', 'parameters'] },
  },
  'AdamW#save': { right: [{ receiver: optimizer, args: () => [join(folder, 'saved')] }] },
  'AdamW#restore': { right: [{ receiver: optimizer, args: () => [files.moments] }] },
  'AdamW#step': {
    right: [{ receiver: optimizer, args: () => [0.5] }],
    legal: { scale: ['0', '0.5', '2**31', '2**53'] },
  },
  'AdamW#dispose': { right: [{ receiver: optimizer, args: () => [] }] },
  'AdamW#[Symbol.dispose]': { right: [{ receiver: optimizer, args: () => [] }] },
}
