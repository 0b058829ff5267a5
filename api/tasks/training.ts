// The training loop that the tasks share: epochs with validation, the best parameters kept, early stopping, a time limit, a
// folder to go on from.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Batch } from '../dataset.js'
import { fail, throwIfAborted } from '../error.js'
import { SequenceModel } from '../model.js'
import type { LoadOptions } from '../options.js'
import type { ProcessGroup } from '../group.js'
import { schedules } from '../schedules.js'
import {
  deviceOf,
  type CheckedTaskOptions,
  type EndEvent,
  type EpochFigures,
  type TaskEvent,
} from './options.js'
import { Ranks } from './ranks.js'

/** A training that is to be run. */
export interface Training {
  readonly op: string
  readonly epochs: number
  /** Updates in an epoch. */
  readonly updates: number
  /** Epochs without a better validation after which training ends. */
  readonly patience: number
  readonly maxSeconds: number
  readonly lr: number
  readonly ssmLr: number
  readonly weightDecay: number
  readonly seed: number
  readonly signal: AbortSignal | undefined
  readonly stop: AbortSignal | undefined
  readonly folder: string | undefined
  readonly load: LoadOptions
  readonly onEvent: (event: TaskEvent) => void
  /** The ranks that train together. */
  readonly distributed: ProcessGroup | undefined
  /** The digest of its data, by which a run that goes on is known; undefined where there is no folder to go on from. */
  readonly data: string | undefined
  /** The batches of an epoch. */
  readonly batches: (epoch: number) => Iterable<Batch>
  /** What decides which epoch is the best one, and the figures of an event. */
  readonly validate: (model: SequenceModel) => Promise<Validation>
}

/** How long and at which rates a plan trains. */
type Course = Pick<Training, 'epochs' | 'updates' | 'patience' | 'lr' | 'ssmLr' | 'weightDecay'>

/** What a training takes from its plan and from the options that tasks have in common. */
export function courseOf(
  op: string,
  { epochs, updates, patience, lr, ssmLr, weightDecay }: Course,
  options: CheckedTaskOptions,
): Omit<Training, 'data' | 'batches' | 'validate'> {
  const { maxSeconds = Infinity, seed, signal, stop, folder, onEvent, distributed } = options
  const rates = { lr, ssmLr, weightDecay }
  return {
    op,
    epochs,
    updates,
    patience,
    maxSeconds,
    ...rates,
    seed,
    signal,
    stop,
    folder,
    load: deviceOf(options),
    onEvent,
    distributed,
  }
}

/** A validation: the less `figure`, the better. */
export interface Validation {
  readonly figure: number
  readonly figures: EpochFigures
}

/** How far a run is; a checkpoint holds it as JSON. */
interface RunState {
  epoch: number
  best: number
  bestEpoch: number
  seconds: number
  /** The digest of the data; runs of former versions have none. */
  data?: string
}

const LAST = 'last.safetensors'
const BEST = 'best.safetensors'

/**
 * The model of the run in the folder of these options, which are to go on with it, and its state; undefined where there is none, and on
 * ranks other than 0, which get it from that one. A run of other data than those with this digest is refused.
 */
export async function resumed(
  op: string,
  { resume, folder, distributed }: Pick<CheckedTaskOptions, 'resume' | 'folder' | 'distributed'>,
  load: LoadOptions,
  data: string | undefined,
): Promise<{ model: SequenceModel; state: RunState } | undefined> {
  if (!resume || folder === undefined || (distributed?.rank ?? 0) > 0) return undefined
  const path = join(folder, LAST)
  if (!existsSync(path)) return undefined
  const model = await SequenceModel.load(path, load)
  const state = runState(model.extra)
  if (state === undefined) {
    model.dispose()
    throw fail('ERR_S4_CHECKPOINT', op, `a run of ${op} in 'folder'`, `${path}, which is of another program`)
  }
  if (state.data !== undefined && state.data !== data) {
    model.dispose()
    throw fail(
      'ERR_S4_CHECKPOINT',
      op,
      `a run of the same data in 'folder'`,
      `${path}, which is of other data, another validation or other weights`,
    )
  }
  return { model, state }
}

function runState(extra: string | undefined): RunState | undefined {
  try {
    const { run } = JSON.parse(extra ?? '') as { run?: RunState }
    return typeof run?.epoch === 'number' ? run : undefined
  } catch {
    return undefined
  }
}

/**
 * Runs a training and gives the model with the best parameters; `model` itself is disposed where another takes its place, or
 * where training fails.
 */
export async function runTraining(
  model: SequenceModel,
  training: Training,
  begun: RunState | undefined,
): Promise<{ model: SequenceModel; bestEpoch: number }> {
  const ranks = new Ranks(training.op, training.distributed)
  try {
    const { data } = training
    const state = await ranks.ofFirst(begun ?? NO_RUN)
    const course = {
      ...training,
      updates: Math.ceil(training.updates / ranks.count),
      folder: ranks.isFirst ? training.folder : undefined,
    }
    // JSON has no number that is not finite.
    const best = state.best ?? Infinity
    return await trained(model, course, { ...state, best, ...(data !== undefined && { data }) }, ranks)
  } catch (error) {
    ranks.leave(error)
    model.dispose()
    throw error
  }
}

/** A run that has made no epoch. */
const NO_RUN: RunState = { epoch: 0, best: Infinity, bestEpoch: 0, seconds: 0 }

async function trained(model: SequenceModel, training: Training, state: RunState, ranks: Ranks) {
  const { op, epochs, updates, patience, maxSeconds, signal, folder, onEvent } = training
  const before = state.seconds
  const started = performance.now()
  const chosen = folder === undefined ? undefined : join(folder, BEST)
  let best: Uint8Array | undefined =
    state.epoch > 0 && chosen !== undefined && existsSync(chosen) ? readFileSync(chosen) : undefined
  if (state.epoch > 0) best = await ranks.bytesOfFirst(best)
  let reason: EndEvent['reason'] = 'epochs'
  // Whether the model has made updates since its last whole epoch.
  let isBeyond = false
  // On another rank than 0 the model of a run that goes on is that of rank 0 from the first epoch on.
  let isCurrent = ranks.isFirst || state.epoch === 0
  let planned = epochs
  // A run that had ended, but for what comes after it, trains no more.
  if (state.epoch > 0 && best !== undefined && state.epoch - state.bestEpoch >= patience)
    [planned, reason] = [state.epoch, 'patience']
  else if (state.epoch > 0 && state.seconds >= maxSeconds) [planned, reason] = [state.epoch, 'time']
  while (state.epoch < planned) {
    throwIfAborted(op, signal)
    const epochStart = performance.now()
    const { loss, isWhole } = await oneEpoch(model, training, state.epoch, planned * updates)
    isCurrent = true
    if (!isWhole && best !== undefined) {
      ;[reason, isBeyond] = ['stop', true]
      break
    }
    const { figure: own, figures } = await training.validate(model)
    state.epoch++
    const figure = (await ranks.ofFirst(own)) ?? own
    state.seconds = await ranks.ofFirst(before + (performance.now() - started) / 1000)
    const isBest = figure < state.best || best === undefined
    if (isBest) {
      best = Buffer.from(await model.toBytes({ optimizer: false }))
      state.best = figure
      state.bestEpoch = state.epoch
    }
    if (folder !== undefined) {
      if (isBest) replaceFile(chosen as string, best as Uint8Array)
      // A run that goes on does so from a whole epoch, or from its beginning.
      if (isWhole) await model.save(join(folder, LAST), { extra: JSON.stringify({ run: state }) })
    }
    onEvent({
      type: 'epoch',
      epoch: state.epoch,
      epochs: planned,
      loss,
      ...figures,
      best: isBest,
      seconds: state.seconds,
    })
    if (state.epoch - state.bestEpoch >= patience) reason = 'patience'
    // The learning rate comes to its end with the time.
    const each = (performance.now() - epochStart) / 1000
    const fit = state.epoch + Math.floor((maxSeconds - state.seconds) / each)
    const isTime = fit < planned
    ;[planned, reason] = await ranks.ofFirst([
      isTime ? Math.max(fit, state.epoch) : planned,
      training.stop?.aborted ? 'stop' : isTime ? 'time' : reason,
    ] as [number, EndEvent['reason']])
    if (reason === 'patience' || reason === 'stop') break
  }
  onEvent({ type: 'end', reason, epoch: state.epoch, bestEpoch: state.bestEpoch, seconds: state.seconds })
  if (best === undefined || (isCurrent && state.bestEpoch === state.epoch && !isBeyond))
    return { model, bestEpoch: state.bestEpoch }
  const chosenModel = await SequenceModel.fromBytes(best, training.load)
  model.dispose()
  return { model: chosenModel, bestEpoch: state.bestEpoch }
}

/** Makes the updates of an epoch, all of them or until it is stopped; gives their mean loss. */
async function oneEpoch(
  model: SequenceModel,
  training: Training,
  epoch: number,
  total: number,
): Promise<{ loss: number; isWhole: boolean }> {
  const { lr, ssmLr, weightDecay, seed, signal, onEvent, updates, distributed } = training
  // One rank cannot end an epoch: it ends the training at the end of this one.
  const stop = (distributed?.worldSize ?? 1) > 1 ? undefined : training.stop
  let [sum, count] = [0, 0]
  const events = model.train(training.batches(epoch), {
    lr,
    ssmLr,
    weightDecay,
    seed,
    signal,
    clip: 1,
    schedule: schedules.warmupCosine({ warmup: Math.min(updates, Math.ceil(total / 20)), total }),
    epochs: epoch + 1,
    resume: epoch > 0,
    ...(distributed && { distributed }),
  })
  for await (const event of events) {
    if (event.type !== 'step') continue
    sum += event.loss
    count++
    onEvent({ type: 'step', epoch: epoch + 1, step: event.step, of: total, loss: event.loss })
    if (stop?.aborted && count < updates) return { loss: sum / count, isWhole: false }
  }
  return { loss: count === 0 ? NaN : sum / count, isWhole: true }
}

/** Writes a file beside its place, and then renames it. */
function replaceFile(path: string, bytes: Uint8Array): void {
  writeFileSync(`${path}.tmp`, bytes)
  renameSync(`${path}.tmp`, path)
}
