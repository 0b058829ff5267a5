/** Recipes of the table: `s4-node/tasks`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Forecaster, Generator } from '../tasks.js'
import { device } from './helpers.js'
import { folder, LEARNING, ownTokens, signal, tiny, wave, where } from './wrong-learning.js'
import { ANY_LENGTH, RATIO, REAL } from './wrong-layers.js'
import type { Receiver, Recipe } from './wrong-table.js'

const columns = (rows = 40) => ({ x: wave(rows), k: wave(rows, 1) })
/** Beyond every number that is tried in the place of a first time, and further apart than they round. */
const times = (rows = 40) => Float64Array.from({ length: rows }, (_, t) => 2 ** 54 + 4096 * t)
const timedTable = () => ({ columns: columns(), time: times() })
const forecastOptions = () => ({
  ...tiny(),
  horizon: 2,
  targets: ['x'],
  known: ['k'],
  lookBack: 4,
  season: 4,
  predict: 'quantiles',
  levels: [0.1, 0.9],
  split: { train: 0.6, validation: 0.2, test: 0.2 },
})
const fitted = await Forecaster.fit(columns(), forecastOptions() as never)
const timedOptions = () => ({ ...forecastOptions(), intervals: true })
const fittedByTime = await Forecaster.fit(timedTable(), timedOptions() as never)
const saidIn = join(folder, 'text')
const saying = 'ab cd '.repeat(30)
const generatorOptions = () => ({ ...tiny(), tokens: ownTokens(), window: 16, validation: 0.2 })
writeFileSync(saidIn, saying)
const writer = await Generator.fit(saying, generatorOptions() as never)
const byteWriter = await Generator.fit(saying, { ...generatorOptions(), tokens: 'bytes' } as never)
const files = {
  forecaster: join(folder, 'f'),
  byTime: join(folder, 't'),
  generator: join(folder, 'g'),
  bytes: join(folder, 'b'),
}
await byteWriter.save(files.bytes)
await writer.save(files.generator)
await fitted.save(files.forecaster)
await fittedByTime.save(files.byTime)

const loaded = (file: string) => async (): Promise<Receiver & { self: Forecaster }> => {
  const self = await Forecaster.load(file, { device: device() as 'cpu', threads: 1 })
  return { self, observe: () => '', close: () => self.dispose() }
}
const forecaster = loaded(files.forecaster)
const byTime = loaded(files.byTime)
const writers = async (): Promise<Receiver & { self: Generator }> => {
  const options = { device: device() as 'cpu', threads: 1, tokens: ownTokens() }
  const self = await Generator.load(files.generator, options)
  return { self, observe: () => '', close: () => self.dispose() }
}
const byteWriters = async (): Promise<Receiver & { self: Generator }> => {
  const self = await Generator.load(files.bytes, { device: device() as 'cpu', threads: 1 })
  return { self, observe: () => '', close: () => self.dispose() }
}
const streamOf = (open: typeof forecaster) => async () => {
  const { self, close } = await open()
  const stream = self.stream({ known: { k: [0, 1] } })
  return { self: stream, observe: () => '', close }
}
/** NaN stands for a value that is missing. */
const VALUES = [...REAL, 'NaN'] as const
const LARGE = [...REAL, '1e300'] as const
/** Columns are told by their own names too. */
const COLUMNS: Recipe['words'] = { '*.columns': ['column', 'data'], '*.columns{}': ['column', 'time'] }
const RANGE: Recipe['legal'] = {
  'data{}': ['one element less'],
  'data[]{}': ['one element less'],
  'data.columns{}': ['one element less'],
  'data[].columns{}': ['one element less'],
  '*{}[]': VALUES,
  '*.time[]': REAL,
  'options.from': ['0'],
  'options.stride': ['2**31'],
  'options.to': ['2**31'],
}
const range = () => ({ from: 20, to: 40, stride: 2, signal: signal() })

export const taskRecipes: Readonly<Record<string, Recipe>> = {
  'tasks Forecaster.fit': {
    right: [
      { args: () => [columns(), forecastOptions()] },
      ...['data[]$', 'data[]{'].map((under) => ({
        under,
        args: () => [[columns(), columns()], forecastOptions()],
      })),
      { under: 'data.', args: () => [timedTable(), forecastOptions()] },
      { under: 'data[].', args: () => [[timedTable()], forecastOptions()] },
      { under: 'options.intervals', args: () => [timedTable(), timedOptions()] },
    ],
    legal: {
      ...LEARNING,
      'data{}': ['one element less'],
      'data[]{}': ['one element less'],
      'data.columns{}': ['one element less'],
      'data[].columns{}': ['one element less'],
      '*{}[]': VALUES,
      '*.time[]': REAL,
      'options.lr': ['0', '0.5'],
      'options.ssmLr': ['0', '0.5'],
      'options.weightDecay': ['0', '0.5'],
      'options.known': ['[] of another realm', '[]', 'one element less'],
      'options.levels': ['one element less'],
      'options.levels[]': ['0.5'],
      'options.split.train': ['0.5'],
      'options.split.validation': ['0.5', '2**31'],
      'options.split.test': ['0', '0.5', '1e-300', '2**31'],
    },
    words: {
      ...COLUMNS,
      'options.targets*': ['column'],
      'options.known*': ['column'],
      'options.split*': ['part'],
      // Rates that are too large end in numbers that are none.
      'options.lr': ['loss'],
      'options.ssmLr': ['loss'],
      'options.weightDecay': ['loss'],
    },
  },
  'tasks Forecaster.load': { right: [{ args: () => [files.forecaster, where()] }] },
  'tasks Forecaster#save': { right: [{ receiver: forecaster, args: () => [join(folder, 'saved')] }] },
  'tasks Forecaster#evaluate': {
    right: [
      { receiver: forecaster, args: () => [columns(), range()] },
      ...['data[]$', 'data[]{'].map((under) => ({
        under,
        receiver: forecaster,
        args: () => [[columns(), columns()], range()],
      })),
      { under: 'data.', receiver: byTime, args: () => [timedTable(), range()] },
      { under: 'data[].', receiver: byTime, args: () => [[timedTable()], range()] },
    ],
    legal: RANGE,
    words: COLUMNS,
  },
  'tasks Forecaster#backtest': {
    right: [
      { receiver: forecaster, args: () => [columns(), range()] },
      ...['data[]$', 'data[]{'].map((under) => ({
        under,
        receiver: forecaster,
        args: () => [[columns(), columns()], range()],
      })),
      { under: 'data.', receiver: byTime, args: () => [timedTable(), range()] },
      { under: 'data[].', receiver: byTime, args: () => [[timedTable()], range()] },
    ],
    legal: RANGE,
    words: COLUMNS,
  },
  'tasks Forecaster#forecast': {
    right: [
      { receiver: forecaster, args: () => [columns(), { known: { k: [1, 2] }, signal: signal() }] },
      {
        under: 'data.',
        receiver: byTime,
        args: () => [timedTable(), { known: { k: [1, 2] } }],
      },
      {
        under: 'options.at',
        receiver: byTime,
        args: () => [timedTable(), { known: { k: [1, 2] }, at: [2 ** 54 + 40.5 * 4096] }],
      },
    ],
    words: COLUMNS,
    legal: {
      'data.columns{}': ['one element less'],
      'data{}': ANY_LENGTH,
      'options.known{}': ['one element more'],
      '*{}[]': VALUES,
      '*.time[]': REAL,
    },
  },
  'tasks Forecaster#inspect': {
    right: [
      { receiver: forecaster, args: () => [columns(), { samplingInterval: 0.5, signal: signal() }] },
      { under: 'data.', receiver: byTime, args: () => [timedTable(), {}] },
    ],
    words: COLUMNS,
    legal: {
      'data.columns{}': ['one element less'],
      'data{}': ['one element less'],
      '*{}[]': VALUES,
      '*.time[]': REAL,
      'options.samplingInterval': RATIO,
    },
  },
  'tasks Forecaster#stream': {
    right: [{ receiver: forecaster, args: () => [{ known: { k: [0, 1] } }] }],
    legal: { 'options.known{}[]': REAL },
  },
  'tasks Forecaster#dispose': { right: [{ receiver: forecaster, args: () => [] }] },
  'tasks Forecaster#[Symbol.dispose]': { right: [{ receiver: forecaster, args: () => [] }] },
  'tasks ForecastStream#push': {
    right: [
      { receiver: streamOf(forecaster), args: () => [{ x: 1, k: 2 }] },
      {
        under: 'options',
        receiver: streamOf(byTime),
        args: () => [{ x: 1, k: 2 }, { time: 5 }],
      },
    ],
    legal: { 'row{}': VALUES, 'options.time': REAL },
  },
  'tasks ForecastStream#dispose': { right: [{ receiver: streamOf(forecaster), args: () => [] }] },
  'tasks ForecastStream#[Symbol.dispose]': { right: [{ receiver: streamOf(forecaster), args: () => [] }] },
  'tasks Generator.fit': {
    right: [
      { args: () => [saying, generatorOptions()] },
      { under: 'text.', args: () => [{ file: saidIn }, generatorOptions()] },
      { under: 'text[].', args: () => [[{ file: saidIn }], generatorOptions()] },
      { under: 'text[]$', args: () => [[saying, saying], generatorOptions()] },
    ],
    legal: {
      ...LEARNING,
      text: ['an array of its elements', 'all zeros'],
      'text[]': ['""', '"a\\u0000b"', 'no bytes', 'all zeros'],
      'options.lr': ['0', '0.5'],
      'options.ssmLr': ['0', '0.5'],
      'options.weightDecay': ['0', '0.5'],
      'options.validation': ['0.5'],
    },
    words: {
      'text*': ['text', 'file'],
      // Rates that are too large end in numbers that are none.
      'options.lr': ['loss'],
      'options.ssmLr': ['loss'],
      'options.weightDecay': ['loss'],
    },
  },
  'tasks Generator.load': {
    right: [{ args: () => [files.generator, { ...where(), tokens: ownTokens() }] }],
  },
  'tasks Generator#save': { right: [{ receiver: writers, args: () => [join(folder, 'saved')] }] },
  'tasks Generator#generate': {
    right: [
      {
        receiver: writers,
        args: () => [
          'ab',
          {
            maxTokens: 3,
            temperature: 0.9,
            topK: 3,
            topP: 0.9,
            minP: 0.01,
            repetitionPenalty: 1.2,
            seed: 1,
            stop: ['xyz'],
            signal: signal(),
          },
        ],
      },
    ],
    legal: {
      prompt: ['""', '"a\\u0000b"'],
      'options.temperature': ['0', '0.5', '1e-300'],
      'options.topK': ['0', '2**31'],
      'options.topP': ['0.5', '1e-300'],
      'options.minP': ['0', '0.5', '1e-300'],
      'options.repetitionPenalty': ['0.5'],
      'options.seed': ['0', '2**31'],
      'options.stop': ['[]', '[] of another realm', ...ANY_LENGTH],
      'options.stop[]': ['"a\\u0000b"'],
    },
    untried: { 'options.maxTokens': { '2**31': 'is right, and goes on for hours' } },
  },
  'tasks Generator#generateBytes': {
    right: [
      {
        receiver: byteWriters,
        args: () => [
          Uint8Array.of(97, 98),
          {
            maxTokens: 3,
            temperature: 0.9,
            topK: 3,
            topP: 0.9,
            minP: 0.01,
            repetitionPenalty: 1.2,
            seed: 1,
            signal: signal(),
          },
        ],
      },
    ],
    legal: {
      prompt: ['no bytes', 'all zeros', 'cut short'],
      'options.temperature': ['0', '0.5', '1e-300'],
      'options.topK': ['0', '2**31'],
      'options.topP': ['0.5', '1e-300'],
      'options.minP': ['0', '0.5', '1e-300'],
      'options.repetitionPenalty': ['0.5'],
      'options.seed': ['0', '2**31'],
    },
    untried: { 'options.maxTokens': { '2**31': 'is right, and goes on for hours' } },
  },
  'tasks Generator#score': {
    right: [{ receiver: byteWriters, args: () => ['ab cd', { signal: signal() }] }],
    legal: { text: ['"a\\u0000b"', 'all zeros'] },
  },
  'tasks Generator#inspect': {
    right: [{ receiver: byteWriters, args: () => ['ab cd', { signal: signal() }] }],
    legal: { text: ['""', 'no bytes', '"a\\u0000b"', 'all zeros'] },
  },
  'tasks Generator#dispose': { right: [{ receiver: writers, args: () => [] }] },
  'tasks Generator#[Symbol.dispose]': { right: [{ receiver: writers, args: () => [] }] },
  ...Object.fromEntries(
    ['mae', 'smape'].map((name) => [
      `tasks metrics.${name}`,
      {
        right: [
          {
            args: () => [
              [1, 2],
              [1.5, 2],
            ],
          },
        ],
        legal: { '*[]': LARGE },
      },
    ]),
  ),
  'tasks metrics.mse': {
    right: [
      {
        args: () => [
          [1, 2],
          [1.5, 2],
        ],
      },
    ],
    legal: { '*[]': REAL },
    untried: { '*[]': { '1e300': 'its square is beyond float64, and infinite' } },
  },
  'tasks metrics.mase': {
    right: [{ args: () => [[1, 2], [1.5, 2], [1, 3, 2], 1] }],
    legal: { '*[]': LARGE, history: ANY_LENGTH },
  },
  'tasks metrics.pinball': {
    right: [{ args: () => [[1, 2], [1.5, 2], 0.3] }],
    legal: { '*[]': LARGE, level: ['0.5', '1e-300'] },
  },
  'tasks metrics.crps': {
    right: [
      {
        args: () => [
          [1, 2],
          [1.5, 2],
          [1, 2],
        ],
      },
    ],
    legal: { 'actual[]': LARGE, 'mean[]': LARGE, 'sigma[]': ['0.5', '2**31', '2**53', '1e-300', '1e300'] },
  },
  'tasks metrics.quantileLoss': {
    right: [{ args: () => [[1, 2], [[1.5, 2]], [0.3]] }],
    legal: { 'actual[]': LARGE, 'predicted[][]': LARGE, 'levels[]': ['0.5', '1e-300'] },
  },
  'tasks metrics.accuracy': {
    right: [
      {
        args: () => [
          [1, 2],
          [1, 1],
        ],
      },
    ],
    legal: { '*[]': ['0'] },
  },
  'tasks metrics.topK': {
    right: [{ args: () => [[1, 0], [1, 2, 3, 4], 1] }],
    legal: { actual: ['one element less'], 'actual[]': ['0'], 'scores[]': LARGE },
    words: { actual: ['labels'] },
  },
  'tasks metrics.confusion': { right: [{ args: () => [[1, 0], [1, 1], 2] }], legal: { '*[]': ['0'] } },
  'tasks metrics.f1': {
    right: [
      {
        args: () => [
          [
            [1, 0],
            [1, 2],
          ],
        ],
      },
    ],
    legal: { 'counts[][]': ['0', '0.5', '2**31', '2**53', '1e-300', '1e300'] },
  },
}
