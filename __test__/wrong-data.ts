/** Recipes of the table: `s4-node/data`. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  audioChunks,
  audioFolder,
  batched,
  imageFolder,
  jsonlRows,
  mapped,
  pcmFrames,
  prefetch,
  Scaler,
  shuffled,
  tableFrom,
  tableRows,
  textFolder,
  windows,
} from '../data.js'
import { root } from './helpers.js'
import { ANY_LENGTH, RATIO, REAL } from './wrong-layers.js'
import type { Receiver, Recipe } from './wrong-table.js'

const folder = mkdtempSync(join(tmpdir(), 's4-wrong-data-'))
const signal = () => new AbortController().signal
const text = (content: string) => new TextEncoder().encode(content)
function fileOf(name: string, content: string | Uint8Array): string {
  const file = join(folder, name)
  writeFileSync(file, content)
  return file
}
const fixture = (name: string) => join(root, 'crates/data/tests/files', name)
const bytesOf = (name: string) => new Uint8Array(readFileSync(fixture(name)))
const csv = 'day,a,b\n2020-01-01,1,2\n2020-01-02,3,4\n'
const IDX_PICTURES = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4)
const files = {
  pictures: fileOf('pictures.idx', IDX_PICTURES),
  csv: fileOf('table.csv', csv),
  jsonl: fileOf('rows.jsonl', '{"a":1,"at":"2020-01-01"}\n{"a":2,"at":"2020-01-02"}\n'),
  idx: fileOf('labels.idx', Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 5, 6)),
  cifar: fileOf('batch.bin', new Uint8Array(3073)),
}
/** A folder of two classes with a file of each ending. */
function classesOf(name: string, ending: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  for (const label of ['no', 'yes']) {
    mkdirSync(join(path, label), { recursive: true })
    writeFileSync(join(path, label, `1_${label}${ending}`), content)
  }
  return path
}
const sounds = classesOf('sounds', '.wav', bytesOf('i16.wav'))
const pictures = classesOf('pictures', '.png', bytesOf('rgb.png'))
const texts = classesOf('texts', '.txt', 'abc')

/** Everything that an iterable gives; the table of wrong values walks generators by itself. */
async function all(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const out: unknown[] = []
  for await (const item of items) out.push(item)
  return out
}
/** A call whose iterable is walked to its end. */
const walked =
  (make: (...args: never[]) => AsyncIterable<unknown>): Recipe['call'] =>
  (_, args) =>
    all(make(...(args as never[])))

const format = () => ({
  columns: ['a', 'b'],
  time: 'day',
  types: { a: 'number' },
  header: true,
  delimiter: ',',
  decimal: '.',
  missing: ['?'],
  zone: 'UTC',
  timeFormat: '%Y-%m-%d',
})
const AS_PATH = 'bytes are the content of a file here'
/** What holds of every source: bytes are content, text in pieces is content. */
const ofSource = (): Pick<Recipe, 'untried'> => ({ untried: { source: { 'as its bytes': AS_PATH } } })
/** An empty stream has no rows, and none is wrong. */
const EMPTY: Recipe['legal'] = { source: ['[]', '[] of another realm'], 'source[]': ['""', 'no bytes'] }
/** Any endings, none for all files. */
const ENDINGS: Recipe['legal'] = { 'options.endings': ['[]', '[] of another realm', ...ANY_LENGTH] }
const NOT_FINITE = 'the model looks: what has the weight 0 may be anything'
const GAP = 'a missing value stays one'
const FORMAT_WORDS: Recipe['words'] = {
  'source*': ['file', 'table', 'lines of numbers'],
  'options.columns*': ['column'],
  'options.time': ['column'],
  'options.types*': ['column'],
  'options.zone': ['time zone', 'zone'],
  'options.timeFormat': ['column'],
  'options.delimiter': ['fields', 'column'],
  'options.decimal': ['column'],
}
const FORMAT_LEGAL: Recipe['legal'] = {
  'options.columns': ['one element less'],
  'options.columns[]': ['0'],
  'options.time': ['0'],
  'options.types{}': ['text'],
  'source[]': ['cut short'],
  'options.missing': ['[]', '[] of another realm', ...ANY_LENGTH],
  'options.missing[]': ['""', '"a\\u0000b"'],
}
/** The sources of a reader: a path, bytes, and pieces of them. */
const sourced = (path: string, content: () => Uint8Array, options: () => object): Recipe['right'] => [
  { args: () => [path, options()] },
  { under: 'source[]', args: () => [[content()], options()] },
]

const table = await tableFrom({
  a: [1, 2, 3, 4, 5, 6],
  b: [2, 4, 6, 8, 10, 12],
  who: ['x', 'y', 'x', 'y', 'x', 'y'],
})
const held = (): Receiver => ({ self: table, observe: () => JSON.stringify(table), close: () => undefined })
const scaler = Scaler.fit(table)
const scaled = (): Receiver => ({
  self: scaler,
  observe: () => JSON.stringify(scaler),
  close: () => undefined,
})
const cut = windows(table, { length: 2, instance: 'zScore' })
const cuts = (): Receiver => ({ self: cut, observe: () => '', close: () => undefined })
const columns = () => ({ a: [1, 2, 3, 4, 5, 6], b: [2, 4, 6, 8, 10, 12] })
const timed = () => ({ columns: columns(), time: [0, 1, 2, 3, 4, 5].map((i) => i * 864e5) })
/** NaN stands for a value that is missing. */
const VALUES = [...REAL, 'NaN'] as const
const TABLE: Recipe['legal'] = { 'data{}[]': VALUES, 'data.columns{}[]': VALUES, 'data.time[]': VALUES }
const examples = () =>
  [2, 3].map((n) => ({
    input: { data: Array.from({ length: n }, (_, i) => i / 2), shape: [n, 1] },
    target: 1,
    intervals: { data: [0.5, 2, 1].slice(0, n), shape: [n] },
  }))
const plainIntervals = () => examples().map((e) => ({ ...e, intervals: e.intervals.data }))
const SAMPLE: Recipe['legal'] = {
  '*input.data[]': [...REAL, '1e300'],
  '*target.data[]': [...REAL, '1e300'],
  '*[].target': [...REAL, '1e300'],
  '*intervals.data[]': RATIO,
  '*intervals[]': RATIO,
}
/** Iterables, whatever they give. */
const NOTHING = ['[]', '[] of another realm', 'a Map', 'a Set'] as const
const SHUFFLED = 'an array is shuffled as a whole'
const INFINITE = { NaN: NOT_FINITE, Infinity: NOT_FINITE, '-Infinity': NOT_FINITE }
const SAMPLE_UNTRIED: Recipe['untried'] = {
  '*input.data[]': INFINITE,
  '*target.data[]': INFINITE,
  '*[].target': INFINITE,
}
const vectors = () => examples().map(({ input }) => ({ input, target: { data: [1, 2], shape: [2] } }))

export const dataRecipes: Readonly<Record<string, Recipe>> = {
  'data readTable': {
    right: sourced(
      files.csv,
      () => text(csv),
      () => ({ ...format(), signal: signal() }),
    ),
    legal: FORMAT_LEGAL,
    words: FORMAT_WORDS,
    ...ofSource(),
  },
  'data tableRows': {
    right: sourced(
      files.csv,
      () => text(csv),
      () => ({ ...format(), batch: 1 }),
    ),
    legal: { ...FORMAT_LEGAL, 'options.batch': ['2**31'] },
    words: FORMAT_WORDS,
    ...ofSource(),
    call: walked(tableRows),
  },
  'data tableFrom': {
    legal: { 'data{}': ['a BigUint64Array', 'its elements as text'] },
    untried: { 'data{}': { holes: GAP } },
    right: [
      {
        args: () => [
          { ...columns(), at: ['2020-01-01', ...Array<string>(5).fill('2020-01-02')] },
          { time: 'at', signal: signal() },
        ],
      },
      { under: 'data[]', args: () => [[{ a: 1, at: '2020-01-01' }], { time: 'at' }] },
    ],
  },
  'data jsonlRows': {
    right: [{ args: () => [files.jsonl] }, { under: 'source[]', args: () => [[text('{"a":1}')]] }],
    legal: EMPTY,
    words: { 'source*': ['file', 'JSON', 'lines', 'data'] },
    ...ofSource(),
    call: walked(jsonlRows),
  },
  'data readJsonl': {
    right: sourced(
      files.jsonl,
      () => text('{"a":1,"at":"2020-01-01"}'),
      () => ({ time: 'at', signal: signal() }),
    ),
    words: { 'source*': ['file', 'JSON', 'lines', 'data'] },
    ...ofSource(),
  },
  'data DataTable#column': { right: [{ receiver: held, args: () => ['a'] }] },
  'data DataTable#head': { right: [{ receiver: held, args: () => [2] }], legal: { rows: ['0', '2**31'] } },
  'data DataTable#tail': { right: [{ receiver: held, args: () => [2] }], legal: { rows: ['0', '2**31'] } },
  'data DataTable#slice': { right: [{ receiver: held, args: () => [1, 3] }], legal: { from: ['0'] } },
  'data DataTable#select': {
    right: [{ receiver: held, args: () => [['b', 'who']] }],
    legal: { names: ['one element less'] },
  },
  'data calendar': {
    right: [{ args: () => [[0, 864e5], { fields: ['hour', 'day'], zone: 'UTC' }] }],
    legal: {
      times: ANY_LENGTH,
      'times[]': ['-1', '0', '0.5', '2**31', '1e-300'],
      'options.fields': ['one element less'],
    },
    words: { 'options.fields*': ['fields'], 'options.zone': ['time zone', 'zone'] },
  },
  'data split': {
    words: { 'data.columns': ['valueOf'], 'options.at{}': ['part'] },
    legal: {
      ...TABLE,
      'data.time[]': ['-1', '0', '0.5', '1e-300'],
      'options.parts{}': ['0.5'],
      'options.keys': ['its elements as text'],
      'options.keys[]': [...REAL, '1e300', '""', '"a\\u0000b"'],
      'options.seed': ['0', '2**31'],
    },
    right: [
      {
        args: () => [6, { parts: { train: 0.5, test: 0.5 }, by: 'label', keys: [1, 1, 1, 2, 2, 2], seed: 1 }],
      },
      { under: 'data{}', args: () => [columns(), { parts: { train: 0.5, test: 0.5 } }] },
      { under: 'data.', args: () => [timed(), { at: { test: 864e5 } }] },
      { under: 'options.at', args: () => [timed(), { at: { test: 864e5 } }] },
    ],
  },
  'data Scaler.fit': {
    words: { 'data.columns': ['valueOf'] },
    legal: TABLE,
    right: [
      { args: () => [columns(), { kind: 'robust', columns: ['a'] }] },
      { under: 'data.', args: () => [timed(), { kind: 'minMax', columns: ['a'] }] },
    ],
  },
  'data Scaler.fromJSON': {
    right: [{ args: () => [{ columns: ['a', 'b'], offset: [1, 2], scale: [1, 2] }] }],
    legal: {
      'values.columns[]': ['""', '"a\\u0000b"'],
      'values.offset[]': [...REAL, '1e300'],
      'values.scale[]': ['0.5', '2**31', '2**53', '1e-300', '1e300'],
    },
  },
  'data Scaler#toJSON': { right: [{ receiver: scaled, args: () => [] }] },
  'data Scaler#transform': {
    untried: { '*{}[]': { NaN: GAP }, 'data.time[]': { NaN: GAP } },
    legal: { 'data{}[]': REAL, 'data.columns{}[]': REAL, 'data.time[]': REAL },
    words: { 'data.columns': ['valueOf'] },
    right: [
      { receiver: scaled, args: () => [columns()] },
      { under: 'data.', receiver: scaled, args: () => [timed()] },
    ],
  },
  'data Scaler#inverse': {
    untried: { '*{}[]': { NaN: GAP }, 'data.time[]': { NaN: GAP } },
    legal: { 'data{}[]': REAL, 'data.columns{}[]': REAL, 'data.time[]': REAL },
    words: { 'data.columns': ['valueOf'] },
    right: [
      { receiver: scaled, args: () => [columns()] },
      { under: 'data.', receiver: scaled, args: () => [timed()] },
    ],
  },
  'data windows': {
    words: { 'data.columns': ['valueOf'] },
    legal: {
      ...TABLE,
      'data.time[]': ['-1', '0', '0.5', '2**31', '1e-300'],
      'options.stride': ['2**31'],
      'options.known': ['[]', '[] of another realm', 'one element less'],
      'options.rows.from': ['0'],
    },
    right: [
      {
        args: () => [
          columns(),
          {
            length: 2,
            horizon: 1,
            stride: 1,
            inputs: ['a'],
            targets: ['a'],
            known: ['b'],
            zone: 'UTC',
            target: 'block',
            rows: { from: 1, to: 6, reachBack: true },
            gaps: 'fill',
            masks: true,
            instance: 'zScore',
          },
        ],
      },
      { under: 'data.', args: () => [timed(), { length: 2, calendar: ['hour'] }] },
      { under: 'options.calendar', args: () => [timed(), { length: 2, calendar: ['hour'], zone: 'UTC' }] },
      { under: 'options.zone', args: () => [timed(), { length: 2, calendar: ['hour'], zone: 'UTC' }] },
    ],
  },
  'data TableWindows#row': { right: [{ receiver: cuts, args: () => [1] }], legal: { index: ['0'] } },
  'data TableWindows#at': { right: [{ receiver: cuts, args: () => [1] }], legal: { index: ['0'] } },
  'data TableWindows#scaler': { right: [{ receiver: cuts, args: () => [1] }], legal: { index: ['0'] } },
  'data TableWindows#[Symbol.iterator]': { right: [{ receiver: cuts, args: () => [] }] },
  'data shuffled': {
    right: [{ args: () => [[1, 2, 3], { buffer: 2, seed: 1, epoch: 1 }] }],
    legal: {
      dataset: NOTHING,
      'options.buffer': ['2**31'],
      'options.seed': ['0', '2**31'],
      'options.epoch': ['0', '2**31'],
    },
    untried: {
      dataset: {
        'as a generator': SHUFFLED,
        'as an async generator': SHUFFLED,
        'as a Set': SHUFFLED,
      },
    },
    call: walked(shuffled),
  },
  'data mapped': {
    right: [{ args: () => [[1, 2, 3], (x: number) => x + 1, { epoch: 1 }] }],
    legal: { dataset: NOTHING, 'options.epoch': ['0', '2**31'] },
    call: walked(mapped),
  },
  'data prefetch': {
    right: [{ args: () => [[1, 2, 3], 2] }],
    legal: { dataset: NOTHING },
    call: walked(prefetch),
  },
  'data batched': {
    right: [
      { args: () => [examples(), { size: 1, buffer: 2, seed: 1, dropLast: false, epoch: 1 }] },
      { under: 'dataset[].target.', args: () => [vectors(), { size: 1 }] },
      { under: 'dataset[].intervals[]', args: () => [plainIntervals(), { size: 1 }] },
    ],
    untried: SAMPLE_UNTRIED,
    legal: {
      ...SAMPLE,
      dataset: ['[]', '[] of another realm'],
      'options.buffer': ['2**31'],
      'options.seed': ['0', '2**31'],
      'options.epoch': ['0', '2**31'],
    },
    call: walked(batched),
  },
  'data collate': {
    right: [
      { args: () => [examples()] },
      { under: 'examples[].target.', args: () => [vectors()] },
      { under: 'examples[].intervals[]', args: () => [plainIntervals()] },
    ],
    legal: { ...SAMPLE, examples: ANY_LENGTH },
    untried: SAMPLE_UNTRIED,
  },
  'data readAudio': {
    right: sourced(
      fixture('i16.wav'),
      () => bytesOf('i16.wav'),
      () => ({ sampleRate: 8000, mono: true, signal: signal() }),
    ),
    words: { 'source*': ['recording'] },
    ...ofSource(),
  },
  'data resample': {
    right: [
      { args: () => [Float32Array.of(0, 0.5, 1, 0.5), { from: 2, to: 1, channels: 2, signal: signal() }] },
    ],
    legal: { 'samples[]': REAL },
  },
  'data audioChunks': {
    right: sourced(
      fixture('i16.wav'),
      () => bytesOf('i16.wav'),
      () => ({ length: 0.01, overlap: 0.002, sampleRate: 8000, mono: true }),
    ),
    legal: { 'options.length': ['0.5'], 'options.overlap': ['0', '1e-300'] },
    words: { 'source*': ['recording'] },
    ...ofSource(),
    call: walked(audioChunks),
  },
  'data pcmFrames': {
    right: sourced(
      fileOf('samples.pcm', new Uint8Array(12)),
      () => new Uint8Array(12),
      () => ({ format: 's16le', channels: 2, frames: 2 }),
    ),
    legal: { ...EMPTY, 'source[]': ['""', 'no bytes', 'all zeros'] },
    words: { 'source*': ['file'] },
    ...ofSource(),
    call: walked(pcmFrames),
  },
  ...Object.fromEntries(
    [
      ['readNpy', fixture('f4.npy'), () => bytesOf('f4.npy')],
      ['readNpz', fixture('plain.npz'), () => bytesOf('plain.npz')],
      ['readIdx', files.idx, () => Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 5, 6)],
    ].map(([name, path, content]) => [
      `data ${name as string}`,
      {
        right: sourced(path as string, content as () => Uint8Array, () => ({ signal: signal() })),
        words: { 'source*': ['file', 'IDX', 'array', 'header', 'sizes', 'magic'] },
        ...ofSource(),
      },
    ]),
  ),
  'data readCifar10': {
    right: [{ args: () => [[files.cifar], { signal: signal() }] }],
    legal: { paths: ['one element more'] },
    words: { 'paths*': ['files'] },
  },
  'data idxExamples': {
    right: [
      { args: () => [files.pictures, files.idx, { signal: signal() }] },
      { under: 'pictures[]', args: () => [[IDX_PICTURES], files.idx] },
      { under: 'labels[]', args: () => [files.pictures, [Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 5, 6)]] },
    ],
    words: {
      'pictures*': ['source', 'file', 'IDX', 'array', 'header', 'sizes', 'magic'],
      'labels*': ['source', 'file', 'IDX', 'array', 'header', 'sizes', 'magic'],
    },
    untried: { pictures: { 'as its bytes': AS_PATH }, labels: { 'as its bytes': AS_PATH } },
  },
  'data cifar10Examples': {
    right: [{ args: () => [[files.cifar], { names: Array.from('abcdefghij'), signal: signal() }] }],
    legal: { paths: ['one element more'], 'options.names[]': ['""', '"a\\u0000b"'] },
    words: { 'paths*': ['files'] },
  },
  'data labelledFolder': {
    right: [{ args: () => [sounds, { label: 'folder', endings: ['.wav'] }] }],
    legal: ENDINGS,
    words: { path: ['folder'], 'options.endings*': ['folder'] },
  },
  'data audioFolder': {
    right: [{ args: () => [sounds, { label: 'folder', endings: ['.wav'], sampleRate: 8000, mono: true }] }],
    legal: ENDINGS,
    words: { path: ['folder'], 'options.endings*': ['folder'] },
    call: walked(audioFolder),
  },
  'data imageFolder': {
    right: [{ args: () => [pictures, { label: 'folder', endings: ['.png'], colours: 'grey' }] }],
    legal: ENDINGS,
    words: { path: ['folder'], 'options.endings*': ['folder'] },
    call: walked(imageFolder),
  },
  'data textFolder': {
    right: [
      { args: () => [texts, { label: 'folder', endings: ['.txt'], tokens: { encode: () => [1, 2] } }] },
    ],
    legal: ENDINGS,
    words: { path: ['folder'], 'options.endings*': ['folder'] },
    call: walked(textFolder),
  },
  'data characterTokens': { right: [{ args: () => ['abc'] }], legal: { text: ['"a\\u0000b"'] } },
  'data byteTokens.encode': { right: [{ args: () => ['abc'] }], legal: { text: ['""', '"a\\u0000b"'] } },
  'data byteTokens.decode': {
    right: [{ args: () => [[97, 98]] }],
    legal: { tokens: ['[]', '[] of another realm', ...ANY_LENGTH], 'tokens[]': ['0'] },
  },
}
