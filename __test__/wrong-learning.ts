/** What the recipes of all tasks have in common: data, options, and the values of options that are right. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { joinGroup } from '../index.js'
import { device } from './helpers.js'
import type { Recipe } from './wrong-table.js'

export const folder = mkdtempSync(join(tmpdir(), 's4-wrong-tasks-'))
export const signal = () => new AbortController().signal
export const wave = (rows: number, phase = 0) =>
  Float64Array.from({ length: rows }, (_, t) => Math.sin(t / 2 + phase) + (t % 7) / 9)
const group = await joinGroup({ rank: 0, worldSize: 1 })
export const tiny = () => ({
  features: 2,
  layers: 1,
  state: 2,
  mode: 's4d',
  dropout: 0.1,
  epochs: 1,
  patience: 1,
  maxSeconds: 60,
  batchSize: 2,
  lr: 0.01,
  ssmLr: 0.001,
  weightDecay: 0.1,
  seed: 1,
  folder,
  resume: false,
  signal: signal(),
  stop: signal(),
  onEvent: () => undefined,
  distributed: group,
  device: device(),
  threads: 1,
  precision: 'highest',
})
export const ownTokens = () => ({
  encode: (text: string) => Array.from(text, (c) => c.charCodeAt(0) % 128),
  decode: (tokens: number[]) => String.fromCharCode(...tokens),
  size: 128,
})
export const where = () => ({ device: device(), threads: 1, precision: 'highest' })
export const RATES = ['0', '0.5', '2**31', '2**53'] as const
export const LEARNING: Recipe['legal'] = {
  'options.dropout': ['0', '0.5'],
  'options.maxSeconds': RATES,
  'options.seed': ['0', '2**31'],
}
