// The options and results of training and evaluation, as types, and their checks.
import { ADAMW_OPTIONS, adamWConfig, type AdamWOptions } from './adamw.js'
import { booleanOf, realNumbers, wholeNumber, type FilePath } from './check.js'
import type { Dataset } from './dataset.js'
import type { ProcessGroup } from './group.js'
import { fail } from './error.js'
import { checkGroups, type ParameterGroup } from './groups.js'
import type { ModelConfig } from './options.js'
import { checkSchedule, type Schedule } from './schedules.js'
import type { F1Scores, Scores } from './scores.js'

/** Options of a training run. */
export interface TrainOptions extends AdamWOptions {
  /**
   * Number of epochs (passes over the dataset) of the whole run; a resumed run makes those that are left. Default 1, or
   * that of the resumed run.
   */
  epochs?: number
  /** Number of examples that are collected into a batch. Without it the dataset must give batches. */
  batchSize?: number
  /**
   * Parameters with rates of their own; the first group that names one has it, and clipping is over all together. The schedule is a
   * factor on their rates too. A group that names no parameter is `ERR_S4_VALUE`.
   */
  groups?: readonly ParameterGroup[]
  /** Schedule of the learning rates. Default constant. */
  schedule?: Schedule
  /**
   * Dataset on which the model is evaluated after every epoch. A plateau schedule follows its loss. What can be walked only
   * once (a generator, a stream) serves a run of one epoch; with more it is `ERR_S4_DATA`, before training.
   */
  validation?: Dataset
  /** Events and validation also give `topK`, the part of the labels among so many of the largest outputs. For cross-entropy. */
  topK?: number
  /**
   * States run on from batch to batch (truncated back-propagation through time); reset at every epoch. Row i of a batch goes on where
   * row i of the batch before it ended, so all batches of an epoch have as many rows: others are `ERR_S4_SHAPE`.
   */
  carryState?: boolean
  /**
   * Whether batch norms have mean and variance of the joint batch of all ranks, as PyTorch's SyncBatchNorm, in place of those of a
   * rank's own batch. For a model with norm 'batch' that several ranks train (`distributed`); else without effect. Default false.
   */
  syncBatchNorm?: boolean
  /** Decay of a running average of the parameters, see {@link SequenceModel.swapAverage}. Default none. */
  ema?: number
  /** Seed of the dropout masks and of shuffling. Default 0. */
  seed?: number
  /** Whether the dataset, which must be an array, is shuffled every epoch. Default false. */
  shuffle?: boolean
  /**
   * Path of a checkpoint that is written after every epoch, in the place of the one before: a device, a pipe or a folder is
   * `ERR_S4_CHECKPOINT`, before training. Of a symbolic link the file that it leads to is replaced.
   */
  checkpoint?: FilePath
  /**
   * Whether to go on with the last run, or with that of the checkpoint that the model was loaded from, as if it had not
   * stopped, even in the middle of an epoch. Options that are not given are those of the run, but for the dataset,
   * `batchSize`, `validation` and `checkpoint`, which have to be given again. `ERR_S4_CHECKPOINT` where there is no run: for a
   * model that has not been trained, or from a file without the state of training. Default false.
   */
  resume?: boolean
  /**
   * The ranks that train together, of {@link joinGroup}. Every rank gives the same options and the same dataset, of whose batches it
   * takes every worldSize-th: an update is that of the joint batch of all ranks. All begin with the parameters of rank 0, which alone
   * writes the checkpoint and needs one to resume. `ERR_S4_DISTRIBUTED` where the ranks differ, before training; `ERR_S4_PEER` where
   * a rank is lost, and then the model refuses further work. A group of one trains as without.
   */
  distributed?: ProcessGroup
  /** Ends training, within one update, when it fires. */
  signal?: AbortSignal
}

/** The names of the options in {@link TrainOptions}. */
export const TRAIN_OPTIONS = [
  ...ADAMW_OPTIONS,
  'ema',
  'seed',
  'epochs',
  'batchSize',
  'groups',
  'schedule',
  'validation',
  'topK',
  'carryState',
  'shuffle',
  'syncBatchNorm',
  'checkpoint',
  'resume',
  'distributed',
  'signal',
] as const

/** Checks those of the options that the addon takes, and gives them as JSON. */
export function nativeTrainConfig(
  op: string,
  options: TrainOptions,
  model: Pick<ModelConfig, 'loss' | 'output'>,
): string {
  const { groups, schedule, carryState, shuffle, syncBatchNorm, epochs, seed } = options
  const topK = checkTopK(op, options.topK, model)
  return JSON.stringify({
    ...adamWConfig(op, options),
    ...realNumbers(op, options, ['ema']),
    ...(seed !== undefined && { seed: wholeNumber(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER) }),
    ...(topK !== undefined && { topK }),
    ...(groups !== undefined && { groups: checkGroups(op, groups) }),
    ...(schedule !== undefined && { schedule: checkSchedule(op, schedule) }),
    ...(carryState !== undefined && { carryState: booleanOf(op, 'carryState', carryState) }),
    ...(shuffle !== undefined && { shuffle: booleanOf(op, 'shuffle', shuffle) }),
    ...(syncBatchNorm !== undefined && {
      syncBatchNorm: booleanOf(op, 'syncBatchNorm', syncBatchNorm),
    }),
    ...(epochs !== undefined && { epochs: wholeNumber(op, 'epochs', epochs) }),
  })
}

/** Checks the option topK, which is for classes. */
export function checkTopK(
  op: string,
  topK: number | undefined,
  { loss, output }: Pick<ModelConfig, 'loss' | 'output'>,
): number | undefined {
  if (topK === undefined) return undefined
  wholeNumber(op, 'topK', topK, 1, output)
  if (loss !== 'crossEntropy') throw fail('ERR_S4_VALUE', op, `topK only with loss 'crossEntropy'`, loss)
  return topK
}

/**
 * What training yields after every update (`step`), and after every epoch (`epoch`), with means over the epoch. Loss and metrics of an
 * update are those with the parameters before it, and with dropout.
 */
export interface TrainEvent extends Scores {
  /** Whether an update or an epoch has ended. */
  type: 'step' | 'epoch'
  /** Number of the epoch, from 0. */
  epoch: number
  /** The rank that yields the event, in a group of several. Losses and metrics are those over all ranks. */
  rank?: number
  /** Number of updates so far, those before a resume included. */
  step: number
  /** Loss with the parameters before the update. */
  loss: number
  /** Norm over all gradients, before clipping. */
  gradNorm: number
  /** Learning rate of the main group. */
  lr: number
  /** Means over the option `validation`, if it is given, at the end of an epoch. */
  validation?: Metrics
  /** Time steps trained on per second; padding does not count. */
  samplesPerSecond: number
}

/** How far the training of a model is, in its last run or in that of the checkpoint that it was loaded from. */
export interface Progress {
  /** Number of updates. */
  readonly steps: number
  /** Number of whole epochs. */
  readonly epochs: number
  /** Time steps trained on; padding does not count. */
  readonly samples: number
}

/** Means that an evaluation gives. */
export interface Metrics extends Scores {
  /** Mean loss over the targets, by weight. */
  loss: number
  /** Number of targets that count: one for each sequence with pooling, else one for each time step. */
  rows: number
  /**
   * Sums of the targets' weights (their numbers, where they have none) by class: row the label, column the largest output. For
   * cross-entropy with at most 256 classes.
   */
  confusion?: number[][]
  /** F1 scores of `confusion`. */
  f1?: F1Scores
}

/** Options of an evaluation. */
export interface EvaluateOptions {
  /** Number of examples that are collected into a batch. Without it the dataset must give batches. */
  batchSize?: number
  /** Also gives `topK`, the part of the labels among so many of the largest outputs. For cross-entropy. */
  topK?: number
  /** Ends the evaluation, within one batch, when it fires. */
  signal?: AbortSignal
}
