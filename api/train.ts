import type { Dataset } from './dataset.js'
import { fail } from './error.js'

/** Learning rate over time: a factor on both learning rates; steps are updates. */
export type Schedule =
  | { kind: 'constant' }
  | { kind: 'warmup'; warmup: number }
  | { kind: 'warmupCosine'; warmup: number; total: number; floor?: number }
  | { kind: 'plateau'; factor: number; patience: number; floor?: number }
  | { kind: 'step'; every: number; factor: number }

/** Factor 1. */
export const constant = (): Schedule => ({ kind: 'constant' })
/** Linear warm-up, then 1. */
export const warmup = (options: { warmup: number }): Schedule => ({ kind: 'warmup', ...options })
/** Linear warm-up, then half a cosine down to `floor` at update `total`. */
export const warmupCosine = (options: { warmup: number; total: number; floor?: number }): Schedule => ({
  kind: 'warmupCosine',
  ...options,
})
/** Times `factor` when the epoch's (validation) loss has not fallen for `patience` epochs. */
export const plateau = (options: { factor: number; patience: number; floor?: number }): Schedule => ({
  kind: 'plateau',
  ...options,
})
/** Times `factor` every `every` updates. */
export const stepDecay = (options: { every: number; factor: number }): Schedule => ({
  kind: 'step',
  ...options,
})

/** AdamW with a group of its own for the SSM's parameters (Δ, Λ, B, P), which do not decay. */
export interface AdamWOptions {
  /** Learning rate of the main group. Default 4e-3. */
  lr?: number
  /** Learning rate of the SSM group. Default 1e-3. */
  ssmLr?: number
  /** Decoupled decay of the main group. Default 0.01. */
  weightDecay?: number
  /** Default 0.9. */
  beta1?: number
  /** Default 0.999. */
  beta2?: number
  /** Default 1e-8. */
  eps?: number
  /** Largest global gradient norm. Default none. */
  clip?: number
}

/** Options of a training run. */
export interface TrainOptions extends AdamWOptions {
  /** Walks over the dataset. Default 1. */
  epochs?: number
  /** Collects examples into batches of this size; without it the dataset gives batches. */
  batchSize?: number
  /** Default constant. */
  schedule?: Schedule
  /** Evaluated after every epoch; a plateau schedule follows it. */
  validation?: Dataset
  /** States run on from batch to batch (truncated back-propagation through time); reset at every epoch. */
  carryState?: boolean
  /** Decay of a running average of the parameters. Default none. */
  ema?: number
  /** Seed of dropout and of shuffling. Default 0. */
  seed?: number
  /** A new order of an array of examples every epoch. Default false. */
  shuffle?: boolean
  /** A file that is written, whole, after every epoch. */
  checkpoint?: string
  /** Go on with the optimiser's state, and where none is given its options, of the last run or of the checkpoint. Default false. */
  resume?: boolean
  /** Ends training within one update. */
  signal?: AbortSignal
}

/** @internal Names of {@link TrainOptions}. */
export const TRAIN = [
  'lr',
  'ssmLr',
  'weightDecay',
  'beta1',
  'beta2',
  'eps',
  'clip',
  'epochs',
  'batchSize',
  'schedule',
  'validation',
  'carryState',
  'ema',
  'seed',
  'shuffle',
  'checkpoint',
  'resume',
  'signal',
] as const

const NUMBERS = ['lr', 'ssmLr', 'weightDecay', 'beta1', 'beta2', 'eps', 'clip', 'ema', 'seed'] as const

/** @internal The options of these names that were given, each a finite number. */
export function numbers<K extends string>(
  op: string,
  options: { readonly [name in K]?: unknown },
  names: readonly K[],
): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const name of names) {
    const x = options[name]
    if (x === undefined) continue
    if (typeof x !== 'number' || !Number.isFinite(x))
      throw fail('ERR_S4_VALUE', op, `a finite number for '${name}'`, String(x))
    out[name] = x
  }
  return out
}

/** @internal The addon's JSON. */
export function trainConfig(op: string, options: TrainOptions): string {
  const out = numbers(op, options, NUMBERS)
  if (options.schedule !== undefined) out['schedule'] = options.schedule
  if (options.carryState !== undefined) out['carryState'] = options.carryState
  return JSON.stringify(out)
}

/** After every update (`step`) and every epoch (`epoch`: means over it). */
export interface TrainEvent {
  type: 'step' | 'epoch'
  /** From 0. */
  epoch: number
  /** Updates so far: from 1, or with `resume` on from the run or checkpoint before. */
  step: number
  /** Before the update. */
  loss: number
  /** Global norm before clipping. */
  gradNorm: number
  /** Of the main group. */
  lr: number
  /** With cross-entropy. */
  accuracy?: number
  /** With `validation`, at the end of an epoch. */
  validation?: Metrics
  /** Rows × length a second. */
  samplesPerSecond: number
}

/** What an evaluation gives. */
export interface Metrics {
  /** Mean over rows. */
  loss: number
  /** With cross-entropy. */
  accuracy?: number
  /** Rows counted. */
  rows: number
}

/** How an evaluation runs. */
export interface EvaluateOptions {
  /** Collects examples into batches. */
  batchSize?: number
  /** Ends it within one batch. */
  signal?: AbortSignal
}
