/** Options that several commands have. */
import { choices, type DeviceOptions } from 's4-node'
import type { FlagSpec, OptionSpec, Values } from './spec.js'

/** Where to compute. */
export const deviceSpecs: readonly OptionSpec[] = [
  {
    name: 'device',
    kind: 'choice',
    choices: choices.device,
    help: 'where to compute',
    otherwise: 'a GPU where there is one',
  },
  {
    name: 'threads',
    kind: 'count',
    min: 1,
    help: 'threads of the CPU',
    otherwise: 'what the process may use',
  },
  {
    name: 'precision',
    kind: 'choice',
    choices: choices.precision,
    help: 'of products on a GPU',
    otherwise: 'highest',
  },
]

/** The options of {@link deviceSpecs} as the API takes them. */
export function deviceOf(values: Values): DeviceOptions {
  const { device, threads, precision } = values as DeviceOptions
  return {
    ...(device !== undefined && { device }),
    ...(threads !== undefined && { threads }),
    ...(precision !== undefined && { precision }),
  }
}

export const jsonSpec: FlagSpec = { name: 'json', kind: 'flag', help: 'results as JSON', otherwise: 'off' }

/** How a training goes, which tasks have in common. */
export const trainingSpecs: readonly OptionSpec[] = [
  { name: 'features', kind: 'count', min: 1, help: 'features of the network', otherwise: 'by the data' },
  { name: 'layers', kind: 'count', min: 1, help: 'its blocks', otherwise: 'by the data' },
  { name: 'state', kind: 'count', min: 2, help: 'size of the state of each feature', otherwise: '32' },
  { name: 'mode', kind: 'choice', choices: choices.mode, help: 'structure of A', otherwise: 's4d' },
  { name: 'dropout', kind: 'number', min: 0, max: 0.99, help: 'probability of dropout', otherwise: '0.1' },
  { name: 'epochs', kind: 'count', min: 1, help: 'most epochs', otherwise: 'by the data' },
  {
    name: 'patience',
    kind: 'count',
    min: 1,
    help: 'epochs without a better validation that end it',
    otherwise: 'by the data',
  },
  { name: 'maxSeconds', kind: 'number', min: 0, help: 'most seconds of training', otherwise: 'no limit' },
  { name: 'batchSize', kind: 'count', min: 1, help: 'sequences in a batch', otherwise: 'by the data' },
  { name: 'lr', kind: 'number', min: 0, help: 'learning rate', otherwise: 'by the task' },
  { name: 'ssmLr', kind: 'number', min: 0, help: 'learning rate of Δ, A, B and P', otherwise: '0.001' },
  { name: 'weightDecay', kind: 'number', min: 0, help: 'decoupled weight decay', otherwise: 'by the task' },
  {
    name: 'seed',
    kind: 'count',
    min: 0,
    help: 'of initial values, order, variations, dropout',
    otherwise: '0',
  },
]
