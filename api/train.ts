// Options and events of training and evaluation.
import { ADAMW_OPTIONS, type AdamWOptions } from './adamw.js'
import { boolean, listOf, membersOf, real, realNumbers, size, text, type FilePath } from './check.js'
import type { Dataset } from './dataset.js'
import { fail } from './error.js'
import { checkSchedule, type Schedule } from './schedules.js'

/** Parameters chosen by name, with rates of their own. */
export interface ParameterGroup {
  /** A name of {@link SequenceModel.parameters}, in which `*` stands for any characters: `'blocks.*.layer.kernel.inv_dt'`, `'*.bias'`. */
  name: string
  /** Learning rate. Default that of the parameter's group, `lr` or `ssmLr`. */
  lr?: number
  /** Decoupled decay. Default `weightDecay`, and 0 for Δ, A, B and P. */
  weightDecay?: number
  /** They stay as they are, and their gradients count in no norm. Default false. */
  freeze?: boolean
}

/** Options of a training run. */
export interface TrainOptions extends AdamWOptions {
  /** Passes over the dataset in all: a run that is resumed makes those that it has not made. Default 1, resumed that of the run. */
  epochs?: number
  /** Collects examples into batches of this size; without it the dataset gives batches. */
  batchSize?: number
  /**
   * Parameters with rates of their own; the first group that names one has it, and clipping is over all together. The schedule is a
   * factor on their rates too. A group that names no parameter is `ERR_S4_VALUE`.
   */
  groups?: readonly ParameterGroup[]
  /** Default constant. */
  schedule?: Schedule
  /** Evaluated after every epoch; a plateau schedule follows it. */
  validation?: Dataset
  /**
   * States run on from batch to batch (truncated back-propagation through time); reset at every epoch. Row i of a batch goes on where
   * row i of the batch before it ended, so all batches of an epoch have as many rows: others are `ERR_S4_SHAPE`.
   */
  carryState?: boolean
  /** Decay of a running average of the parameters. Default none. */
  ema?: number
  /** Seed of dropout and of shuffling: each seed and epoch has an order of its own. Default 0. */
  seed?: number
  /** A new order of an array of examples every epoch. Default false. */
  shuffle?: boolean
  /** A file that is written, whole, after every epoch. */
  checkpoint?: FilePath
  /**
   * Go on with the last run, or the checkpoint's: optimiser, schedule, order, dropout and counts as if it had not stopped, from any
   * epoch and from the middle of one; options that are not given are the run's. The dataset, `batchSize`, `validation` and
   * `checkpoint` are named again. A model from a file without the optimiser's state is `ERR_S4_CHECKPOINT`. Default false.
   */
  resume?: boolean
  /** Ends training within one update. */
  signal?: AbortSignal
}

const NUMBERS = [...ADAMW_OPTIONS, 'ema'] as const

/** Names of {@link TrainOptions}. */
export const TRAIN_OPTIONS = [
  ...NUMBERS,
  'seed',
  'epochs',
  'batchSize',
  'groups',
  'schedule',
  'validation',
  'carryState',
  'shuffle',
  'checkpoint',
  'resume',
  'signal',
] as const

/** Groups of parameters as the addon takes them, which knows the names. */
function checkGroups(op: string, groups: unknown): object[] {
  return listOf(op, 'groups', groups).map((group) => {
    const { name, lr, weightDecay, freeze, ...others } = membersOf(op, 'each of groups', group)
    const [unknown] = Object.keys(others)
    if (unknown !== undefined)
      throw fail('ERR_S4_VALUE', op, 'groups of name, lr, weightDecay, freeze', `unknown option '${unknown}'`)
    return {
      name: text(op, 'name of each of groups', name),
      ...(lr !== undefined && { lr: real(op, 'lr of each of groups', lr) }),
      ...(weightDecay !== undefined && { weightDecay: real(op, 'weightDecay of each of groups', weightDecay) }),
      ...(freeze !== undefined && { freeze: boolean(op, 'freeze of each of groups', freeze) }),
    }
  })
}

/** The part of the options that the addon takes, as its JSON. */
export function nativeTrainConfig(op: string, options: TrainOptions): string {
  const { groups, schedule, carryState, shuffle, epochs, seed } = options
  return JSON.stringify({
    ...realNumbers(op, options, NUMBERS),
    ...(seed !== undefined && { seed: size(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER) }),
    ...(groups !== undefined && { groups: checkGroups(op, groups) }),
    ...(schedule !== undefined && { schedule: checkSchedule(op, schedule) }),
    ...(carryState !== undefined && { carryState: boolean(op, 'carryState', carryState) }),
    ...(shuffle !== undefined && { shuffle: boolean(op, 'shuffle', shuffle) }),
    ...(epochs !== undefined && { epochs: size(op, 'epochs', epochs) }),
  })
}

/** After every update (`step`) and every epoch (`epoch`: means over it). */
export interface TrainEvent {
  /** What has ended. */
  type: 'step' | 'epoch'
  /** Of the run, from 0. */
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

/** How far a model's training is: of its last run, or of the checkpoint's. */
export interface Progress {
  /** Updates. */
  readonly steps: number
  /** Whole epochs. */
  readonly epochs: number
  /** Samples seen: rows × length. */
  readonly samples: number
}

/** What an evaluation gives. */
export interface Metrics {
  /** Mean over rows, by weight. */
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
