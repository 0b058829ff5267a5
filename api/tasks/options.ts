// Options and events that the tasks have in common, and their checks.
import { booleanOf, filePath, numberIn32Bits, oneOf, wholeNumber, type FilePath } from '../check.js'
import { describe, fail, hasFired, throwIfAborted } from '../error.js'
import { coreOf, type ProcessGroup } from '../group.js'
import { choices, type DeviceOptions } from '../options.js'
import { checkFolder } from './folder.js'

/** One forecast of the validation part beside what came: the same window after every epoch. Of the first four targets, in their units. */
export interface EpochForecast {
  /** Number of the series. */
  series: number
  /** First row that is forecast; where the model takes intervals its steps are usual intervals after the row before. */
  row: number
  /** The rows before, twice as many as steps where there are so many, by column. */
  past: Record<string, number[]>
  /** What came, by column. */
  actual: Record<string, number[]>
  /** The forecast, or the middle of its quantiles, by column. */
  mean: Record<string, number[]>
}

/** Which classes of the validation part are taken for which. */
export interface EpochConfusion {
  /** The classes, in the order of the counts. */
  classes: readonly (string | number)[]
  /** Numbers of examples: row the actual class, column the predicted one; over all sampling rates that are validated. */
  counts: number[][]
}

/** Figures of a validation. */
export interface EpochFigures {
  /** Mean squared error in deviations of the training part, of a forecaster. */
  mse?: number
  /** Part of the validation examples with the right class, of a classifier. */
  accuracy?: number
  /** F1 over the same examples, mean over the classes, of a classifier. */
  f1?: number
  /** Mean loss over the validation part, of a classifier. */
  validationLoss?: number
  /** One of its forecasts, of a forecaster. */
  forecast?: EpochForecast
  /** Its confusions, of a classifier. */
  confusion?: EpochConfusion
}

/** The sizes and rates that a task has chosen, before it trains. */
export interface PlanEvent {
  /** The kind of the event. */
  type: 'plan'
  /** Each option that was chosen, or given, with its value. */
  options: Readonly<Record<string, number | string | boolean>>
  /** The same in a sentence, with what it was chosen by. */
  text: string
}

/** An update was made. */
export interface StepEvent {
  /** The kind of the event. */
  type: 'step'
  /** Number of the epoch, from 1. */
  epoch: number
  /** Number of updates so far. */
  step: number
  /** Number of updates that are planned. */
  of: number
  /** Loss before the update. */
  loss: number
}

/** An epoch has ended and was validated. */
export interface EpochEvent extends EpochFigures {
  /** The kind of the event. */
  type: 'epoch'
  /** Number of the epoch, from 1. */
  epoch: number
  /** Number of epochs that are planned. */
  epochs: number
  /** Mean loss of its updates. */
  loss: number
  /** Whether validation was better than ever, so that these parameters are kept. */
  best: boolean
  /** Seconds of training so far, those before a resume included. */
  seconds: number
}

/** Training has ended; the best parameters are in place. */
export interface EndEvent {
  /** The kind of the event. */
  type: 'end'
  /** Whether all epochs were made, validation got no better, the time was over, or `stop` fired. */
  reason: 'epochs' | 'patience' | 'time' | 'stop'
  /** Number of epochs that were made. */
  epoch: number
  /** The epoch whose parameters were kept. */
  bestEpoch: number
  /** Seconds of training. */
  seconds: number
}

/** What a task tells while it trains. */
export type TaskEvent = PlanEvent | StepEvent | EpochEvent | EndEvent

/** Options of training that tasks have in common. What is left out is chosen by the data's length, width and number. */
export interface TaskTrainOptions extends Pick<DeviceOptions, 'device' | 'threads' | 'precision'> {
  /** Features of the network. */
  features?: number
  /** Number of its blocks. */
  layers?: number
  /** N, the size of the state of each feature. */
  state?: number
  /** Structure of A. Default `'s4d'`. */
  mode?: 's4' | 's4d'
  /** Probability of dropout. */
  dropout?: number
  /** Most epochs. */
  epochs?: number
  /** Epochs without a better validation after which training ends. */
  patience?: number
  /** Most seconds of training; the learning rate comes to its end with them. Default no limit. */
  maxSeconds?: number
  /** Sequences in a batch. */
  batchSize?: number
  /** Learning rate. */
  lr?: number
  /** Learning rate of Δ, A, B and P. */
  ssmLr?: number
  /** Decoupled weight decay. */
  weightDecay?: number
  /** Seed of initial values, order, variations and dropout. Default 0. */
  seed?: number
  /** A folder in which every epoch writes `last.safetensors` and, where it is the best so far, `best.safetensors`. */
  folder?: FilePath
  /** Whether to go on with the run in `folder`, if there is one, with the same data and options. Default false. */
  resume?: boolean
  /** Ends training, within one update, when it fires: the call is refused with `ERR_S4_ABORTED`. */
  signal?: AbortSignal
  /**
   * Ends training, within one update, when it fires, as if it had come to its end: the best parameters so far are kept. In the first
   * epoch these are the present ones.
   */
  stop?: AbortSignal
  /**
   * The ranks that train together, of {@link joinGroup}: every rank gives the same data and options, of whose batches it takes every
   * worldSize-th; `batchSize` is that of a rank. Rank 0 alone reads and writes `folder`, and its clock and its `stop`, which is heard at
   * the end of an epoch, count. Each rank validates on all of its validation part.
   */
  distributed?: ProcessGroup
  /** Is called with every event. */
  onEvent?: (event: TaskEvent) => void
}

const TASK_NUMBERS = ['features', 'layers', 'state', 'epochs', 'patience', 'batchSize'] as const
const REAL_NUMBERS = ['dropout', 'maxSeconds', 'lr', 'ssmLr', 'weightDecay'] as const

/** The names of {@link TaskTrainOptions}. */
export const TASK_OPTIONS = [
  ...TASK_NUMBERS,
  ...REAL_NUMBERS,
  'mode',
  'seed',
  'folder',
  'resume',
  'signal',
  'stop',
  'onEvent',
  'distributed',
  'device',
  'threads',
  'precision',
] as const

/** {@link TaskTrainOptions} after the check: what every task needs is there. */
export interface CheckedTaskOptions extends Omit<TaskTrainOptions, 'folder' | 'onEvent' | 'resume' | 'seed'> {
  folder: string | undefined
  resume: boolean
  seed: number
  onEvent: (event: TaskEvent) => void
}

/** Checks the options that tasks have in common; `options` have been read. */
export function checkTaskOptions(op: string, options: TaskTrainOptions): CheckedTaskOptions {
  const { folder, onEvent, resume = false, seed = 0, signal, stop } = options
  throwIfAborted(op, signal)
  if (stop !== undefined) hasFired(op, 'stop', stop)
  for (const name of TASK_NUMBERS)
    if (options[name] !== undefined)
      wholeNumber(op, name, options[name], 1, name === 'features' ? 1 << 16 : 1 << 20)
  for (const name of REAL_NUMBERS) {
    const x = options[name]
    if (x !== undefined && numberIn32Bits(op, name, x) < 0)
      throw fail('ERR_S4_VALUE', op, `${name} of 0 or more`, x)
  }
  if (onEvent !== undefined && typeof onEvent !== 'function')
    throw fail('ERR_S4_VALUE', op, `a function for 'onEvent'`, describe(onEvent))
  if (options.mode !== undefined) oneOf(op, 'mode', options.mode, choices.mode)
  booleanOf(op, 'resume', resume)
  const path = folder === undefined ? undefined : filePath(op, folder, 'folder')
  if (path !== undefined) checkFolder(op, path)
  if (resume && path === undefined) throw fail('ERR_S4_VALUE', op, `a 'folder' to resume from`, 'none')
  wholeNumber(op, 'seed', seed, 0, 2 ** 31)
  if (options.distributed !== undefined) coreOf(op, options.distributed)
  return { ...options, folder: path, resume, seed, onEvent: onEvent ?? (() => undefined) }
}

/** The options of where to compute that were given; the device of a group of ranks is its own. */
export function deviceOf({ threads, precision, distributed, ...given }: TaskTrainOptions): DeviceOptions {
  const ofRank = distributed !== undefined && distributed.worldSize > 1 ? distributed.device : undefined
  const device = given.device === undefined ? ofRank : given.device
  return {
    ...(device !== undefined && { device }),
    ...(threads !== undefined && { threads }),
    ...(precision !== undefined && { precision }),
  }
}
