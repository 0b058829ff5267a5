// Options of layers, blocks and models: small ones that mostly fit together, now and then with hostile values among them.
import * as fc from 'fast-check'
import { choices } from 's4-node'
import { hostile, ratio, mostly, seldom, some } from './values.mjs'

const word = (name) => fc.constantFrom(...choices[name])
const whole = (...numbers) => fc.constantFrom(...numbers)

/** Every option of a layer. The modes take different initial values and discretizations: `fitting` sees to that. */
const layer = {
  features: whole(1, 2, 3, 4, 5, 8),
  state: seldom(whole(2, 4, 6, 8, 64)).map((n) => n ?? 4),
  mode: seldom(word('mode')),
  init: seldom(word('init')),
  rank: seldom(whole(1, 1, 2, 3)),
  nSsm: seldom(whole(1, 1, 2, 4)),
  channels: seldom(whole(1, 2, 3)),
  bidirectional: seldom(fc.boolean()),
  dtMin: seldom(whole(1e-6, 1e-3, 0.01)),
  dtMax: seldom(whole(0.01, 0.1, 10)),
  dtPerState: seldom(fc.boolean()),
  discretization: seldom(word('discretization')),
  dtTransform: seldom(word('transform')),
  realTransform: seldom(word('transform')),
  imagTransform: seldom(word('transform')),
  truncate: fc.oneof(
    { arbitrary: fc.constant(undefined), weight: 9 },
    { arbitrary: whole(1, 5, 64), weight: 1 },
  ),
  seed: seldom(fc.nat(2 ** 31)),
}
const block = {
  ...layer,
  norm: seldom(word('norm')),
  prenorm: seldom(fc.boolean()),
  activation: seldom(word('activation')),
  glu: seldom(fc.boolean()),
  finalActivation: seldom(word('activation')),
  dropout: seldom(whole(0, 0.3, 0.9)),
  tiedDropout: seldom(fc.boolean()),
  residual: seldom(fc.boolean()),
  dropPath: seldom(whole(0, 0.3, 0.9)),
}
const model = {
  ...block,
  input: seldom(whole(1, 2, 3)),
  output: seldom(whole(1, 2, 3)),
  encoder: seldom(word('encoder')),
  vocabulary: seldom(whole(1, 2, 9)),
  layers: seldom(whole(1, 2, 3)).map((n) => n ?? 1),
  pooling: seldom(word('pooling')),
  finalNorm: seldom(fc.boolean()),
  loss: word('loss'),
  huberDelta: seldom(whole(0.1, 1, 10)),
  feedForward: seldom(whole(0, 0.5, 1, 2)),
  labelSmoothing: seldom(whole(0, 0.1, 1)),
  classWeights: seldom(fc.array(whole(0, 0.5, 1, 100), { minLength: 1, maxLength: 3 })),
  ignoreLabel: seldom(whole(-100, 0, 1)),
  quantiles: seldom(fc.constantFrom([0.5], [0.1, 0.5, 0.9], [0.01, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.99])),
}
/** Options of where something computes: on the CPU, since a fault of a GPU ends its use for the whole process. */
const host = {
  device: fc.constant('cpu'),
  dtype: seldom(fc.constantFrom('f32', 'f64')),
  threads: seldom(whole(1, 2, 5)).map((n) => n ?? 1),
  precision: seldom(word('precision')),
  memoryLimit: seldom(whole(1, 2 ** 20, 2 ** 40)),
  algorithm: seldom(fc.constantFrom('auto', 'fft', 'chunk')),
}

const OF_S4 = ['legs', 'legt', 'fourier', 'hippo', 'random']
const OF_S4D = ['legs', 'lin', 'inv', 'real', 'random']

/** Makes the options fit together where `fits` says so. */
function fitting(o) {
  const out = { ...o }
  const s4 = (out.mode ?? 's4') === 's4'
  const inits = s4 ? OF_S4 : OF_S4D
  if (out.init !== undefined && !inits.includes(out.init)) out.init = inits[1]
  if (s4 && out.discretization !== undefined) out.discretization = 'bilinear'
  if (!s4) delete out.rank
  if (s4 && out.init === 'legt' && out.rank === 1) delete out.rank
  if (out.nSsm !== undefined && out.features % out.nSsm !== 0) out.nSsm = 1
  if (out.init === 'hippo' && out.features % 2 !== 0) out.features += 1
  if (out.init === 'hippo') delete out.nSsm
  if (out.encoder === 'embedding') {
    out.vocabulary ??= 5
    delete out.input
  } else delete out.vocabulary
  if (out.encoder === 'none') out.input = out.features
  if (out.residual === false) delete out.dropPath
  if (out.loss !== undefined && out.loss !== 'crossEntropy')
    for (const name of ['labelSmoothing', 'classWeights', 'ignoreLabel']) delete out[name]
  if (out.classWeights !== undefined) out.output = out.classWeights.length
  if (out.classWeights?.every((w) => w === 0)) out.classWeights[0] = 1
  return out
}

/** Options as a description: fitting ones, or with one or two hostile values, or left as they came. */
function options(members) {
  const names = Object.keys(members)
  const right = some(members)
  const spoiled = fc
    .tuple(right, fc.dictionary(fc.constantFrom(...names, 'colour'), hostile, { minKeys: 1, maxKeys: 2 }))
    .map(([o, wrong]) => ({ ...fitting(o), ...wrong }))
  return fc.oneof(
    { arbitrary: right.map(fitting), weight: 8 },
    { arbitrary: spoiled, weight: 1 },
    { arbitrary: right, weight: 1 },
  )
}

export const modelOptions = options({ ...model, ...host })
export const blockOptions = options({ ...block, ...host })
export const layerOptions = options({ ...layer, ...host })
export const loadOptions = options(host)

/** The names of all options of each kind, by which a test sees that none is left out. */
export const optionNames = {
  model: Object.keys({ ...model, ...host }),
  block: Object.keys({ ...block, ...host }),
  layer: Object.keys({ ...layer, ...host }),
}

const rate = seldom(mostly(whole(0, 1e-3, 0.1, 10, 1e6, 1e18)))
/** Options of AdamW. */
const adamw = {
  lr: rate,
  ssmLr: rate,
  weightDecay: rate,
  beta1: seldom(mostly(whole(0, 0.9, 0.999999))),
  beta2: seldom(mostly(whole(0, 0.9, 0.999999))),
  eps: seldom(mostly(whole(1e-8, 1e-30, 1))),
  clip: seldom(mostly(whole(1e-6, 1, 1e18))),
}
export const adamwOptions = some(adamw)

const group = some({
  name: mostly(fc.constantFrom('*', '*.D', 'blocks.0.*', '*.inv_dt', '*kernel*', 'decoder.bias', 'nothing')),
  lr: rate,
  weightDecay: rate,
  freeze: seldom(mostly(fc.boolean())),
})
export const groups = seldom(mostly(fc.array(group, { maxLength: 2 })))

const schedule = fc.oneof(
  fc.constant({ kind: 'constant' }),
  some({ kind: fc.constant('warmup'), warmup: mostly(whole(0, 1, 5)) }),
  some({
    kind: fc.constant('warmupCosine'),
    warmup: mostly(whole(0, 1)),
    total: mostly(whole(1, 2, 100)),
    floor: seldom(mostly(whole(0, 0.5, 1))),
  }),
  some({
    kind: fc.constant('plateau'),
    factor: mostly(whole(0.1, 0.5, 1)),
    patience: mostly(whole(0, 1)),
    floor: seldom(mostly(whole(0, 0.5))),
  }),
  some({ kind: fc.constant('step'), every: mostly(whole(1, 2)), factor: mostly(whole(0.1, 1)) }),
)
/** Options of a training run, but for its files, its group and its signal. */
export const trainOptions = some({
  ...adamw,
  epochs: seldom(mostly(whole(1, 2, 3))),
  groups,
  schedule: seldom(mostly(schedule)),
  carryState: seldom(mostly(fc.boolean())),
  syncBatchNorm: seldom(mostly(fc.boolean())),
  ema: seldom(mostly(whole(0, 0.5, 0.99))),
  seed: seldom(mostly(fc.nat(100))),
  shuffle: seldom(mostly(fc.boolean())),
  resume: seldom(mostly(fc.boolean())),
}).map((o) => {
  // So many epochs are right, and go on for years.
  if (typeof o.epochs === 'object' && String(o.epochs.hostile).startsWith('2**')) delete o.epochs
  return o
})

export const callRate = seldom(ratio)
export const algorithm = seldom(mostly(word('algorithm')))
