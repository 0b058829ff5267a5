/** Recipes of the table: models, their training and their streams. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  joinGroup,
  schedules,
  SequenceModel,
  type Batch,
  type ModelStream,
  type OfficialModelConfig,
  type SequenceModelOptions,
} from '../index.js'
import { device, noisy, root } from './helpers.js'
import {
  ADAMW_LEGAL,
  ANY_LENGTH,
  BLOCK_LEGAL,
  blockOptions,
  loadOptions,
  RATIO,
  REAL,
} from './wrong-layers.js'
import { hashOf, type Arguments, type Receiver, type Recipe } from './wrong-table.js'

const folder = mkdtempSync(join(tmpdir(), 's4-wrong-'))
export const removeFolder = (): void => rmSync(folder, { recursive: true, force: true })
export const fileIn = (name: string): string => join(folder, name)

const small = {
  input: 1,
  output: 1,
  features: 2,
  layers: 1,
  state: 4,
  loss: 'mse',
  dropout: 0.3,
  seed: 1,
  device: device(),
} as const
export const model = (options: Partial<SequenceModelOptions> = {}) =>
  SequenceModel.create({ ...small, ...options })
/** A checkpoint holds all of a model: parameters, moments, counters, random state, progress. */
export const over = (made: SequenceModel): Receiver => ({
  self: made,
  observe: async () =>
    [
      hashOf(await made.toBytes()),
      ...made.parameters().map((p) => hashOf(new Uint8Array(p.grad.data.buffer))),
      JSON.stringify((made as { progress?: unknown }).progress),
    ].join(),
  close: () => made.dispose(),
})
export const x = () => noisy([2, 3, 1], 2)
const batch = () => ({
  input: x(),
  target: noisy([2, 3, 1], 3),
  lengths: [3, 2],
  intervals: { data: Float32Array.of(0.5, 2, 1, 1, 3, 1), shape: [2, 3] },
  weights: { data: Float32Array.of(1, 1, 0.5, 1, 1, 0.25), shape: [2, 3] },
  rate: 1.5,
})
const tokens = () => ({ data: Int32Array.of(0, 1, 2, 3, 2, 1), shape: [2, 3] })
const labelled = () => ({
  input: tokens(),
  target: [1, 2],
  lengths: [3, 2],
  intervals: [0.5, 2, 1, 1, 3, 1],
  weights: [1, 0.5],
  rate: 1.5,
})

/** A model after an update, as bytes: what its optimiser holds can be lost. */
async function trained(options: Partial<SequenceModelOptions>, first: Batch): Promise<Uint8Array> {
  const made = await model(options)
  await made.fit([first], { ema: 0.9 })
  return made.toBytes()
}
const bytes = await trained({}, batch())
export const checkpoint = fileIn('model')
writeFileSync(checkpoint, bytes)
/** A model that takes what is whole: tokens and labels. */
const ofTokens = await trained(
  { encoder: 'embedding', vocabulary: 4, output: 3, loss: 'crossEntropy', pooling: 'mean' },
  labelled(),
)
const loaded = async (from: Uint8Array) => over(await SequenceModel.fromBytes(from, { device: device() }))
export const onModel = () => loaded(bytes)
const onTokens = () => loaded(ofTokens)
/** A model of the official code, and what its tensors do not say. */
const official = join(root, '__test__', 'fixtures', 'official', 'v4-post-layer.safetensors')
const officialConfig = () => ({
  mode: 'nplr',
  disc: 'bilinear',
  dt_transform: 'softplus',
  real_transform: 'exp',
  imag_transform: 'none',
  bidirectional: false,
  activation: 'gelu',
  final_act: 'glu',
  pooling: 'mean',
  prenorm: false,
})
const onOfficial = async () =>
  over(
    await SequenceModel.fromOfficial(official, {
      device: device(),
      config: officialConfig() as OfficialModelConfig,
    }),
  )
const intervals = () => ({ data: Float32Array.of(0.5, 2, 1, 1, 3, 1), shape: [2, 3] })
const predictOptions = () => ({ lengths: [3, 2], intervals: intervals(), rate: 1.5, algorithm: 'fft' })
const predicted = (more: () => object): readonly Arguments[] => [
  { receiver: onModel, args: () => [x(), { ...predictOptions(), ...more() }] },
  {
    under: 'options.intervals[]',
    receiver: onModel,
    args: () => [x(), { ...predictOptions(), intervals: [0.5, 2, 1, 1, 3, 1], ...more() }],
  },
]
export const signal = () => new AbortController().signal
const modelOptions = () => ({
  ...blockOptions(),
  input: 1,
  output: 1,
  layers: 1,
  pooling: 'none',
  finalNorm: true,
  loss: 'quantile',
  huberDelta: 1,
  quantiles: [0.1, 0.5, 0.9],
  encoder: 'linear',
  feedForward: 1,
})
const labelOptions = () => ({
  ...modelOptions(),
  loss: 'crossEntropy',
  output: 2,
  labelSmoothing: 0.1,
  classWeights: [1, 2],
  ignoreLabel: 1,
})
const group = await joinGroup({ rank: 0, worldSize: 1 })
const grouped = async (): Promise<Receiver> => ({
  self: await joinGroup({ rank: 0, worldSize: 1 }),
  observe: () => '',
  close: () => undefined,
})
const trainOptions = () => ({
  lr: 0.01,
  ssmLr: 0.001,
  weightDecay: 0.1,
  beta1: 0.9,
  beta2: 0.99,
  eps: 1e-8,
  clip: 1,
  spareNormsAndBiases: true,
  epochs: 1,
  groups: [{ name: '*.D', lr: 0.01, weightDecay: 0.1, freeze: false }],
  schedule: schedules.warmupCosine({ warmup: 1, total: 4, floor: 0.1 }),
  validation: [batch()],
  carryState: false,
  syncBatchNorm: false,
  ema: 0.9,
  seed: 1,
  shuffle: false,
  checkpoint: fileIn('trained'),
  resume: false,
  distributed: group,
  signal: signal(),
})
/** Training with every option, with examples instead of batches, and with the other schedules. */
function training(more: () => object = () => ({})): readonly Arguments[] {
  const sample = () => ({ input: noisy([3, 1], 2), target: noisy([3, 1], 3) })
  const run = (dataset: () => unknown[], options: () => object, under?: string): Arguments => ({
    ...(under !== undefined && { under }),
    receiver: onModel,
    args: () => [dataset(), { ...trainOptions(), ...options(), ...more() }],
  })
  const onLabels = (under: string): Arguments => ({
    ...run(
      () => [labelled()],
      () => ({ validation: [labelled()], topK: 2 }),
      under,
    ),
    receiver: onTokens,
  })
  const scheduled = (schedule: object, under: string) =>
    run(
      () => [batch()],
      () => ({ schedule }),
      under,
    )
  return [
    run(
      () => [batch()],
      () => ({}),
    ),
    run(
      () => [sample(), sample()],
      () => ({ batchSize: 2, validation: [sample()] }),
      'options.batchSize',
    ),
    scheduled(schedules.plateau({ factor: 0.5, patience: 1, floor: 0.1 }), 'options.schedule.factor'),
    scheduled(schedules.plateau({ factor: 0.5, patience: 1, floor: 0.1 }), 'options.schedule.patience'),
    scheduled(schedules.stepDecay({ every: 2, factor: 0.5 }), 'options.schedule.every'),
    ...['dataset[]', 'options.validation[]'].flatMap((at) =>
      ['target[]', 'weights[]', 'intervals[]'].map((list) => onLabels(`${at}.${list}`)),
    ),
    onLabels('options.topK'),
  ]
}
const BATCH_LEGAL = (at: string): Recipe['legal'] => ({
  [`${at}.input.data[]`]: REAL,
  [`${at}.target.data[]`]: REAL,
  [`${at}.weights.data[]`]: ['0', '0.5', '2**31', '2**53', '1e-300'],
  [`${at}.weights[]`]: ['0', '0.5', '2**31', '2**53', '1e-300'],
  [`${at}.intervals.data[]`]: RATIO,
  [`${at}.intervals[]`]: RATIO,
  // A label below 0 is left out.
  [`${at}.target[]`]: ['-1', '0'],
  [`${at}.rate`]: RATIO,
})
const trainLegal: Recipe['legal'] = {
  ...BATCH_LEGAL('dataset[]'),
  ...BATCH_LEGAL('options.validation[]'),
  ...ADAMW_LEGAL,
  'options.batchSize': ['2**31'],
  'options.groups': ['[]', '[] of another realm', 'one element more', 'one element less'],
  'options.groups[].lr': ['0', '0.5', '2**31', '2**53'],
  'options.groups[].weightDecay': ['0', '0.5', '2**31', '2**53'],
  'options.schedule.warmup': ['0'],
  'options.schedule.total': ['2**31'],
  'options.schedule.floor': ['0', '0.5'],
  'options.schedule.factor': ['0.5'],
  'options.schedule.patience': ['0', '2**31'],
  'options.schedule.every': ['2**31'],
  'options.ema': ['0', '0.5'],
  'options.seed': ['0', '2**31'],
}
const trainWords: Recipe['words'] = {
  '*.target[]': ['labels'],
  'dataset[]': ['batch', 'example'],
  'options.validation[]': ['batch', 'example'],
  'options.schedule.*': ['schedule'],
}
const trainUntried: Recipe['untried'] = {
  'options.epochs': { '2**31': 'is right, and goes on for years' },
}

export const streamOn = async (options: Partial<SequenceModelOptions> = {}, rows = 2): Promise<Receiver> => {
  const made = await model(options)
  const stream = made.stream({ batch: rows, rate: 1.5 })
  return {
    self: stream,
    observe: () => `${stream.position} ${hashOf(stream.save())}`,
    close: () => made.dispose(),
  }
}
const predictLegal: Recipe['legal'] = {
  'x.data[]': REAL,
  'options.rate': RATIO,
  'options.intervals.data[]': RATIO,
  'options.intervals[]': RATIO,
}
/** Whole numbers below the vocabulary's size. */
const TOKENS: Recipe['legal'] = { 'x.data': ['a BigUint64Array'], 'x.data[]': ['0'] }
const inputWords = { 'x*': ['input', 'tokens'] }

const pushLegal: Recipe['legal'] = {
  'x.data[]': REAL,
  'options.interval': RATIO,
  'options.interval[]': RATIO,
  'options.time[]': [...REAL, '1e300'],
}
const pushWords = { 'x*': ['input', 'tokens', 'rows'] }
const push = (more: () => object = () => ({})): readonly Arguments[] => [
  { receiver: streamOn, args: () => [x(), { interval: [1, 1, 2, 1, 1, 1], time: [1, 2, 4], ...more() }] },
  { under: 'x', receiver: streamOn, args: () => [x(), more()] },
  {
    under: 'x',
    receiver: () => streamOn({ encoder: 'embedding', vocabulary: 4 }),
    args: () => [tokens(), more()],
    legal: TOKENS,
  },
]
const oneRow = () => streamOn({}, 1)
/** What a transform gives for one frame. */
async function transformed(stream: ModelStream, frame: unknown): Promise<unknown[]> {
  const transform = stream.toTransform()
  const out: unknown[] = []
  const end = (async () => {
    for await (const y of transform) out.push(y)
  })()
  transform.write(frame)
  transform.end()
  await end
  return out
}
const bare = (receiver: () => Promise<Receiver>): Recipe => ({ right: [{ receiver, args: () => [] }] })
const savedState = await (async () => {
  const { self } = await streamOn()
  return (self as ModelStream).save()
})()

export const modelRecipes: Readonly<Record<string, Recipe>> = {
  'SequenceModel.create': {
    right: [
      { args: () => [modelOptions()] },
      { under: 'options.encoder', args: () => [{ ...modelOptions(), encoder: 'embedding', vocabulary: 3 }] },
      {
        under: 'options.vocabulary',
        args: () => [{ ...modelOptions(), encoder: 'embedding', vocabulary: 3 }],
      },
      ...['labelSmoothing', 'classWeights', 'ignoreLabel'].map((name) => ({
        under: `options.${name}`,
        args: () => [labelOptions()],
      })),
    ],
    legal: {
      ...BLOCK_LEGAL,
      'options.feedForward': ['0', '0.5'],
      'options.labelSmoothing': ['0', '0.5'],
      'options.classWeights[]': ['0', '0.5', '2**31', '2**53'],
      'options.ignoreLabel': ['-1', '0'],
      'options.huberDelta': ['0.5', '2**31', '2**53'],
      'options.quantiles': ['one element less'],
    },
  },
  'SequenceModel.load': {
    right: [{ args: () => [checkpoint, loadOptions()] }],
    legal: { 'options.memoryLimit': ['2**31'] },
  },
  'SequenceModel.fromBytes': {
    right: [{ args: () => [bytes, loadOptions()] }],
    legal: { 'options.memoryLimit': ['2**31'] },
    words: { bytes: ['safetensors'] },
  },
  'SequenceModel.fromOfficial': {
    right: [{ args: () => [official, { ...loadOptions(), config: officialConfig() }] }],
    legal: { 'options.memoryLimit': ['2**31'] },
    words: { 'options.config': ['option'] },
  },
  'SequenceModel#toOfficial': {
    right: [{ receiver: onOfficial, args: () => [official, { config: officialConfig() }] }],
    words: { 'options.config': ['option'] },
  },
  'SequenceModel#save': {
    right: [{ receiver: onModel, args: () => [fileIn('saved'), { optimizer: true, extra: '{"a":1}' }] }],
    legal: { 'options.extra': ['""', '"a\\u0000b"'] },
  },
  'SequenceModel#toBytes': {
    right: [{ receiver: onModel, args: () => [{ optimizer: true, extra: '{"a":1}' }] }],
    legal: { 'options.extra': ['""', '"a\\u0000b"'] },
  },
  'SequenceModel#predict': {
    right: predicted(() => ({ signal: signal() })),
    legal: predictLegal,
    words: inputWords,
  },
  'SequenceModel#predictSync': {
    right: predicted(() => ({})),
    legal: predictLegal,
    words: inputWords,
  },
  'SequenceModel#kernel': {
    right: [{ receiver: onModel, args: () => [0, 5, { rate: 1.5 }] }],
    legal: { block: ['0'], 'options.rate': RATIO },
  },
  'ProcessGroup#close': { right: [{ receiver: grouped, args: () => [] }] },
  'ProcessGroup#[Symbol.asyncDispose]': { right: [{ receiver: grouped, args: () => [] }] },
  'SequenceModel#train': { right: training(), legal: trainLegal, untried: trainUntried, words: trainWords },
  'SequenceModel#fit': {
    right: training(() => ({ onEvent: () => undefined })),
    legal: trainLegal,
    untried: trainUntried,
    words: trainWords,
  },
  'SequenceModel#accumulate': {
    right: [
      { receiver: onModel, args: () => [batch(), { signal: signal() }] },
      ...['batch.target[]', 'batch.weights[]', 'batch.intervals[]'].map((under) => ({
        under,
        receiver: onTokens,
        args: () => [labelled(), { signal: signal() }],
      })),
    ],
    legal: BATCH_LEGAL('batch'),
    words: { '*.target[]': ['labels'] },
  },
  'SequenceModel#update': {
    right: [
      {
        receiver: async () => {
          const receiver = await onModel()
          await (receiver.self as SequenceModel).accumulate(batch())
          return receiver
        },
        args: () => [
          {
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
    legal: ADAMW_LEGAL,
  },
  'SequenceModel#evaluate': {
    right: [
      { receiver: onModel, args: () => [[batch()], { signal: signal() }] },
      {
        under: 'options.batchSize',
        receiver: onModel,
        args: () => [
          [{ input: noisy([3, 1], 2), target: noisy([3, 1], 3) }],
          { batchSize: 2, signal: signal() },
        ],
      },
      ...['dataset[].target[]', 'dataset[].weights[]', 'dataset[].intervals[]', 'options.topK'].map(
        (under) => ({
          under,
          receiver: onTokens,
          args: () => [[labelled()], { topK: 2, signal: signal() }],
        }),
      ),
    ],
    legal: { ...BATCH_LEGAL('dataset[]'), 'options.batchSize': ['2**31'] },
    words: { '*.target[]': ['labels'] },
  },
  'SequenceModel#stream': {
    right: [{ receiver: onModel, args: () => [{ batch: 2, rate: 1.5, usualInterval: 3 }] }],
    legal: { 'options.rate': RATIO, 'options.usualInterval': ['0.5', '2**31'] },
  },
  'SequenceModel#swapAverage': bare(onModel),
  ...Object.fromEntries(
    ['parameters', 'zeroGrad', 'counters', 'dispose', '[Symbol.dispose]'].map((name) => [
      `SequenceModel#${name}`,
      bare(onModel),
    ]),
  ),
  'SequenceModel#setParameter': {
    right: [
      { receiver: onModel, args: () => ['blocks.0.layer.D', { data: Float32Array.of(1, 2), shape: [1, 2] }] },
    ],
    legal: { 'value.data[]': REAL, 'value.shape': ANY_LENGTH },
    words: { 'value*': ['blocks.0.layer.D'], name: ['parameter'] },
  },
  'ModelStream#push': { right: push(), legal: pushLegal, words: pushWords },
  'ModelStream#pushAsync': { right: push(() => ({ signal: signal() })), legal: pushLegal, words: pushWords },
  'ModelStream#restore': { right: [{ receiver: streamOn, args: () => [savedState] }] },
  ...Object.fromEntries(
    ['save', 'fork', 'reset', 'dispose', '[Symbol.dispose]'].map((name) => [
      `ModelStream#${name}`,
      bare(streamOn),
    ]),
  ),
  'results transformed': {
    right: [{ receiver: oneRow, args: () => [Float32Array.of(0.5, 0.25, 1)] }],
    // Nothing comes of a frame of nothing.
    legal: {
      frame: [...ANY_LENGTH, '[]', '[] of another realm', 'an array on a shrunk buffer'],
      'frame[]': REAL,
    },
    words: { 'frame*': ['frames', 'input'] },
    untried: { frame: { null: 'is refused by Node itself, to which it is the end of a stream' } },
    call: (stream, [frame]) => transformed(stream as ModelStream, frame),
  },
  'ModelStream#toTransform': {
    right: [
      {
        receiver: oneRow,
        args: () => [{ format: 'f32' }],
      },
    ],
  },
}
