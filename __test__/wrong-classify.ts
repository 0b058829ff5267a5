/** Recipes of the table: `Classifier` of `s4-node/tasks`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Classifier } from '../tasks.js'
import { device } from './helpers.js'
import { ANY_LENGTH, REAL } from './wrong-layers.js'
import { folder, LEARNING, ownTokens, signal, tiny, wave, where } from './wrong-learning.js'
import type { Receiver, Recipe } from './wrong-table.js'

const samples = () =>
  Array.from({ length: 6 }, (_, i) => ({
    input: Array.from(wave(8, i)),
    label: i % 2,
    sampleRate: 1000,
    file: 'f',
  }))
const classifyOptions = () => ({
  ...tiny(),
  kind: 'series',
  sampleRate: 1000,
  rates: [1, 2],
  vary: false,
  bidirectional: true,
  validation: 0.5,
  labelSmoothing: 0.1,
  classWeights: 'balanced',
})
const sayings = () => Array.from({ length: 6 }, (_, i) => ({ input: `ab cd ${i}`, label: i % 2 }))
const pictures = () =>
  Array.from({ length: 6 }, (_, i) => ({ input: { data: wave(8, i), shape: [2, 4] }, label: i % 2 }))
const tensor = (rows = 8) => ({ data: wave(rows), shape: [rows, 1] })
const classifier = await Classifier.fit(samples(), classifyOptions() as never)
const reader = await Classifier.fit(sayings(), { ...tiny(), tokens: ownTokens(), validation: 0.5 } as never)
const files = { classifier: join(folder, 'c'), reader: join(folder, 'r'), text: join(folder, 'said') }
await classifier.save(files.classifier)
await reader.save(files.reader)
writeFileSync(files.text, 'ab cd')

const classes = async (): Promise<Receiver & { self: Classifier }> => {
  const self = await Classifier.load(files.classifier, { device: device() as 'cpu', threads: 1 })
  return { self, observe: () => '', close: () => self.dispose() }
}
const readers = async (): Promise<Receiver & { self: Classifier }> => {
  const options = { device: device() as 'cpu', threads: 1, tokens: ownTokens() }
  const self = await Classifier.load(files.reader, options)
  return { self, observe: () => '', close: () => self.dispose() }
}
const classStream = async () => {
  const { self, close } = await classes()
  return { self: self.stream({ window: 4, hop: 2 }), observe: () => '', close }
}
const TOO_FAST = 'is taken, and the training diverges'
const DIVERGES = { '2**31': TOO_FAST, '2**53': TOO_FAST }
const INPUT: Recipe['legal'] = { '*.input': ANY_LENGTH, '*.input[]': REAL, '*.data[]': REAL }

export const classifyRecipes: Readonly<Record<string, Recipe>> = {
  'tasks Classifier.fit': {
    right: [
      { args: () => [samples(), classifyOptions()] },
      {
        under: 'examples[].input.',
        args: () => [samples().map(({ label }) => ({ input: tensor(), label })), classifyOptions()],
      },
      {
        under: 'options.classWeights',
        args: () => [samples(), { ...classifyOptions(), classWeights: { 0: 1, 1: 2 } }],
      },
      {
        under: 'options.tokens',
        args: () => [sayings(), { ...tiny(), tokens: ownTokens(), maxLength: 8, validation: 0.5 }],
      },
      { under: 'options.maxLength', args: () => [sayings(), { ...tiny(), maxLength: 8, validation: 0.5 }] },
      {
        under: 'options.scan',
        args: () => [pictures(), { ...tiny(), kind: 'image', scan: 'pixels', validation: 0.5 }],
      },
    ],
    legal: {
      'options.labelSmoothing': ['0', '0.5'],
      'options.classWeights{}': ['0', '0.5', '2**31', '2**53'],
      ...LEARNING,
      ...INPUT,
      examples: ANY_LENGTH,
      'examples[].label': ['""', '"a\\u0000b"', '1e300', ...REAL],
      'examples[].file': ['""', '"a\\u0000b"'],
      'options.lr': ['0', '0.5'],
      'options.ssmLr': ['0', '0.5'],
      'options.weightDecay': ['0', '0.5'],
      'options.rates': ANY_LENGTH,
      'options.validation': ['0.5', '1e-300'],
    },
    untried: { 'options.lr': DIVERGES, 'options.ssmLr': DIVERGES, 'options.weightDecay': DIVERGES },
  },
  'tasks Classifier.load': {
    right: [{ args: () => [files.reader, { ...where(), tokens: ownTokens() }] }],
  },
  'tasks Classifier#save': { right: [{ receiver: classes, args: () => [join(folder, 'saved')] }] },
  'tasks Classifier#predict': {
    right: [
      { receiver: classes, args: () => [[Array.from(wave(8))], { rate: 1.5, signal: signal() }] },
      { under: 'inputs[].data', receiver: classes, args: () => [[tensor()]] },
      { under: 'inputs[].shape', receiver: classes, args: () => [[tensor()]] },
      { under: 'inputs[].file', receiver: readers, args: () => [[{ file: files.text }]] },
    ],
    legal: {
      inputs: ['[]', '[] of another realm', ...ANY_LENGTH],
      'inputs[]': ANY_LENGTH,
      'inputs[][]': REAL,
      '*.data[]': REAL,
    },
  },
  'tasks Classifier#inspect': {
    right: [
      {
        receiver: classes,
        args: () => [
          [Array.from(wave(8)), Array.from(wave(6))],
          { rate: 1.5, samplingInterval: 0.01, signal: signal() },
        ],
      },
      { under: 'inputs[].data', receiver: classes, args: () => [[tensor()]] },
      { under: 'inputs[].shape', receiver: classes, args: () => [[tensor()]] },
      { under: 'inputs[].file', receiver: readers, args: () => [[{ file: files.text }]] },
    ],
    legal: {
      inputs: ANY_LENGTH,
      'inputs[]': ANY_LENGTH,
      'inputs[][]': REAL,
      '*.data[]': REAL,
      'options.samplingInterval': ['0.5', '2**31', '2**53'],
    },
  },
  'tasks Classifier#evaluate': {
    right: [
      { receiver: classes, args: () => [samples(), { rate: 1.5, topK: 2, signal: signal() }] },
      { under: 'examples[].input.', receiver: classes, args: () => [[{ input: tensor(), label: 1 }]] },
    ],
    legal: {
      ...INPUT,
      examples: ANY_LENGTH,
      'examples[].label': ['0'],
      'examples[].file': ['""', '"a\\u0000b"'],
    },
  },
  'tasks Classifier#stream': {
    right: [
      { receiver: classes, args: () => [{ window: 4, hop: 2, debounce: 2, threshold: 0.5, rate: 1.5 }] },
    ],
    legal: { 'options.threshold': ['0', '0.5', '1e-300'] },
  },
  'tasks Classifier#dispose': { right: [{ receiver: classes, args: () => [] }] },
  'tasks Classifier#[Symbol.dispose]': { right: [{ receiver: classes, args: () => [] }] },
  'tasks ClassStream#push': {
    right: [
      { receiver: classStream, args: () => [Array.from(wave(8))] },
      { under: 'samples.', receiver: classStream, args: () => [tensor()] },
    ],
    legal: { samples: ANY_LENGTH, 'samples[]': REAL, '*.data[]': REAL },
  },
  'tasks ClassStream#reset': { right: [{ receiver: classStream, args: () => [] }] },
  'tasks ClassStream#dispose': { right: [{ receiver: classStream, args: () => [] }] },
  'tasks ClassStream#[Symbol.dispose]': { right: [{ receiver: classStream, args: () => [] }] },
}
