/** Recipes of the table: functions, files, schedules, errors. */
import { writeFileSync } from 'node:fs'
import { writeSafetensors } from '../index.js'
import { noisy } from './helpers.js'
import { ANY_LENGTH, REAL } from './wrong-layers.js'
import { fileIn } from './wrong-models.js'
import type { Recipe } from './wrong-table.js'

const csv = fileIn('table.csv')
writeFileSync(csv, 'a,b\n1,2\n3,4\n')
/** A PNG of one pixel. */
const picture = fileIn('pixel.png')
const pixel =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=='
writeFileSync(picture, Buffer.from(pixel, 'base64'))
const signal = () => new AbortController().signal
const tensors = fileIn('tensors')
writeSafetensors(tensors, { a: noisy([2]) })

export const functionRecipes: Readonly<Record<string, Recipe>> = {
  hippo: { right: [{ args: () => ['legs', 4] }] },
  hippoAsync: { right: [{ args: () => ['legs', 4, { signal: signal() }] }] },
  nplr: { right: [{ args: () => ['legs', 4] }] },
  nplrAsync: { right: [{ args: () => ['legs', 4, { signal: signal() }] }] },
  fftConv: {
    right: [
      {
        args: () => [
          noisy([2, 5, 2], 1),
          noisy([2, 2, 3], 2),
          { data: Float32Array.of(1, 2), shape: [1, 2] },
          { twoSided: true },
        ],
      },
    ],
    legal: { '*.data[]': REAL },
  },
  fftConvAsync: {
    right: [
      {
        args: () => [
          noisy([2, 5, 2], 1),
          noisy([2, 2, 3], 2),
          { data: Float32Array.of(1, 2), shape: [1, 2] },
          { twoSided: true, signal: signal() },
        ],
      },
    ],
    legal: { '*.data[]': REAL },
  },
  windows: {
    right: [{ args: () => [Float64Array.of(1, 2, 3, 4, 5, 6, 7), { length: 2, stride: 1, horizon: 2 }] }],
    legal: { series: ANY_LENGTH, 'series[]': [...REAL, '1e300'], 'options.stride': ['2**31'] },
    words: { 'options.*': ['series'] },
  },
  readCsv: {
    right: [{ args: () => [csv, { column: 'b', gaps: 'error', header: true }] }],
    legal: { 'options.column': ['0'] },
  },
  readCsvAsync: {
    right: [{ args: () => [csv, { column: 'b', gaps: 'error', header: true, signal: signal() }] }],
    legal: { 'options.column': ['0'] },
  },
  readSafetensors: { right: [{ args: () => [tensors] }] },
  readSafetensorsAsync: { right: [{ args: () => [tensors, { signal: signal() }] }] },
  writeSafetensors: {
    right: [{ args: () => [fileIn('written'), { a: noisy([2, 2]) }, { note: 'n' }] }],
    words: { tensors: ['valueOf'] },
    legal: {
      'tensors{}.data': ['a BigUint64Array'],
      'tensors{}.data[]': [...REAL, '1e300', 'NaN', 'Infinity', '-Infinity'],
      'metadata{}': ['""', '"a\\u0000b"'],
    },
  },
  writeSafetensorsAsync: {
    right: [{ args: () => [fileIn('written'), { a: noisy([2, 2]) }, { note: 'n' }] }],
    words: { tensors: ['valueOf'] },
    legal: {
      'tensors{}.data': ['a BigUint64Array'],
      'tensors{}.data[]': [...REAL, '1e300', 'NaN', 'Infinity', '-Infinity'],
      'metadata{}': ['""', '"a\\u0000b"'],
    },
  },
  readPictures: {
    right: [{ args: () => [[picture], { colours: 'grey', signal: signal() }] }],
    legal: { paths: ['one element more'] },
  },
  'generators.listops': {
    right: [{ args: () => [{ count: 1, seed: 1, signal: signal() }] }],
    legal: { 'options.seed': ['0', '2**31'] },
  },
  ...Object.fromEntries(
    ['pathfinder', 'pathx'].map((name) => [
      `generators.${name}`,
      {
        right: [{ args: () => [{ count: 1, seed: 1, first: 1, signal: signal() }] }],
        legal: { 'options.seed': ['0', '2**31'], 'options.first': ['0', '2**31'] },
      },
    ]),
  ),
  diagnose: { right: [{ args: () => [] }] },
  joinGroup: {
    right: [
      {
        args: () => [
          {
            rank: 0,
            worldSize: 1,
            localRank: 0,
            masterAddress: '127.0.0.1',
            masterPort: 29500,
            runId: 'run',
            timeout: 60_000,
            signal: signal(),
          },
        ],
      },
    ],
    legal: { 'options.rank': ['0'], 'options.localRank': ['0'] },
  },
  devices: { right: [{ args: () => [] }] },
  'schedules.constant': { right: [{ args: () => [] }] },
  'schedules.warmup': {
    right: [{ args: () => [{ warmup: 2 }] }],
    legal: { 'options.warmup': ['0', '2**31'] },
  },
  'schedules.warmupCosine': {
    right: [{ args: () => [{ warmup: 2, total: 5, floor: 0.1 }] }],
    legal: { 'options.warmup': ['0'], 'options.total': ['2**31'], 'options.floor': ['0', '0.5'] },
  },
  'schedules.plateau': {
    right: [{ args: () => [{ factor: 0.5, patience: 2, floor: 0.1 }] }],
    legal: { 'options.factor': ['0.5'], 'options.patience': ['0', '2**31'], 'options.floor': ['0', '0.5'] },
  },
  'schedules.stepDecay': {
    right: [{ args: () => [{ every: 2, factor: 0.5 }] }],
    legal: { 'options.every': ['2**31'], 'options.factor': ['0.5'] },
  },
  'new S4Error': {
    right: [
      {
        args: () => [
          'ERR_S4_VALUE',
          { op: 'op', expected: 'one', got: 'two', step: 3, tensor: 'C' },
          { cause: 'why' },
        ],
      },
    ],
    legal: {
      // As of any error.
      options: ['an unknown key', 'an object that throws as text or number'],
      'detail.*': ['""', '"a\\u0000b"'],
      'detail.step': ['0', '2**31'],
    },
  },
}
