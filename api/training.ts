// The loops over a dataset: training and evaluation of a model.
import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { BatchInput, NativeModel, Sums, TrainState } from '#binding'
import type { NativeAccess } from './access.js'
import { nativeBatch, type ModelShape } from './batch.js'
import { boolean, describe, filePath, rejectUnknownOptions } from './check.js'
import { batches, checkBatchSize, checkDataset, readAhead, type Batch, type Dataset } from './dataset.js'
import { fail, throwIfAborted } from './error.js'
import {
  nativeTrainConfig,
  TRAIN_OPTIONS,
  type EvaluateOptions,
  type Metrics,
  type Progress,
  type TrainEvent,
  type TrainOptions,
} from './train.js'

/** What the loops need of a model. */
export interface TrainedModel extends ModelShape {
  readonly access: NativeAccess<NativeModel>
  readonly device: string
  /** As of the last update that was seen. */
  progress: Progress
}

/** How far the addon says that training is. */
export function progressOf({ steps, epochs, samples }: Progress): Progress {
  return Object.freeze({ steps, epochs, samples })
}

const nextTick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A batch whose gradients have begun, or why they have not. */
interface BegunBatch {
  input?: BatchInput
  error?: Error
}

/** Refuses a folder that cannot be written to, before an epoch's work is lost by it. */
function checkCheckpoint(op: string, path: string | undefined): void {
  if (path === undefined) return
  const folder = dirname(filePath(op, path))
  try {
    accessSync(folder, constants.W_OK)
  } catch (error) {
    throw fail(
      'ERR_S4_CHECKPOINT',
      op,
      `a folder to write 'checkpoint' in`,
      `${folder}: ${(error as Error).message}`,
    )
  }
  if (!statSync(folder).isDirectory())
    throw fail('ERR_S4_CHECKPOINT', op, `a folder to write 'checkpoint' in`, `${folder}, which is a file`)
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw fail('ERR_S4_CHECKPOINT', op, `a file for 'checkpoint'`, `${path}, which is a folder`)
}

/** Refuses a validation of wrong form: all of an array, the first batch of what can be walked again. */
async function checkValidation(op: string, model: TrainedModel, options: TrainOptions): Promise<void> {
  const { validation, batchSize } = options
  if (validation === undefined) return
  checkDataset(op, validation)
  const once = validation as { [Symbol.iterator]?(): unknown; [Symbol.asyncIterator]?(): unknown }
  if (!Array.isArray(validation)) {
    // An iterator gives itself, and what is read of it is gone.
    const iterator = once[Symbol.asyncIterator]?.() ?? once[Symbol.iterator]?.()
    if (iterator === validation) return
  }
  let count = 0
  for await (const batch of batches(op, validation, batchSize)) {
    nativeBatch(op, model, batch)
    count++
    if (!Array.isArray(validation)) break
  }
  if (count === 0) throw fail('ERR_S4_DATA', op, 'a validation with at least one batch', 'none')
}

/** An AbortSignal by its form. */
export function checkSignal(op: string, signal: unknown): void {
  if (signal === undefined) return
  const s = signal as Partial<AbortSignal> | null
  if (typeof s !== 'object' || typeof s?.aborted !== 'boolean' || typeof s.addEventListener !== 'function')
    throw fail('ERR_S4_VALUE', op, `an AbortSignal for 'signal'`, describe(signal))
}

/** {@link SequenceModel.train}. */
export async function* train(
  model: TrainedModel,
  dataset: Dataset,
  options: TrainOptions,
): AsyncGenerator<TrainEvent, void, void> {
  const { access } = model
  const op = access.checkLive('train')
  rejectUnknownOptions(op, options, TRAIN_OPTIONS)
  const { signal, batchSize, checkpoint, resume = false } = options
  boolean(op, 'resume', resume)
  checkSignal(op, signal)
  throwIfAborted(op, signal)
  checkDataset(op, dataset)
  checkBatchSize(op, batchSize)
  if (options.shuffle && !Array.isArray(dataset))
    throw fail('ERR_S4_DATA', op, 'an array, to shuffle it', 'another iterable')
  checkCheckpoint(op, checkpoint)
  const config = nativeTrainConfig(op, options)
  access.acquire('train')
  try {
    await checkValidation(op, model, options)
    await access.afterReads('train', (handle) => handle.trainBegin(config, resume))
    let state = await trainState(model)
    const total = state.totalEpochs ?? 1
    while (state.epochs < total) {
      const epoch = state.epochs
      const started = { time: performance.now(), samples: state.samples }
      // Nothing where the run carries no states.
      if (state.items === 0) await access.afterReads('train', (handle) => handle.resetState())
      yield* updates(op, model, dataset, options, state)
      state = await trainState(model)
      checkEpoch(op, state)
      const loss = state.loss / state.weight
      const validation =
        options.validation && (await evaluate(op, model, options.validation, { batchSize, signal }))
      await access.afterReads('train', (handle) => handle.endEpoch(validation?.loss ?? loss))
      const event: TrainEvent = {
        type: 'epoch',
        epoch,
        step: state.steps,
        loss,
        gradNorm: state.gradNorm,
        lr: state.lr,
        ...(model.config.loss === 'crossEntropy' && { accuracy: state.correct / state.weight }),
        ...(validation && { validation }),
        samplesPerSecond: (state.samples - started.samples) / ((performance.now() - started.time) / 1000),
      }
      state = await trainState(model)
      if (checkpoint !== undefined) await access.read('train', (handle) => handle.save(checkpoint, true))
      yield event
    }
  } finally {
    access.release()
  }
}

/** An epoch that nothing counted in has no mean. */
function checkEpoch(op: string, { items, weight, epochs }: TrainState): void {
  const ended = 'none left in this epoch: an iterator runs once, pass an array or an iterable'
  if (items === 0)
    throw fail('ERR_S4_DATA', op, 'a dataset with at least one batch', epochs === 0 ? 'none' : ended)
  if (weight === 0) throw fail('ERR_S4_DATA', op, 'a dataset with at least one target that counts', 'none')
}

/** How far the run is; what the model tells of it follows. */
async function trainState(model: TrainedModel): Promise<TrainState> {
  const state = await model.access.afterReads('train', (handle) => handle.trainState())
  model.progress = progressOf(state)
  return state
}

/** The updates of one epoch, from where it stands. */
async function* updates(
  op: string,
  model: TrainedModel,
  dataset: Dataset,
  options: TrainOptions,
  { epochs: epoch, items: skip, seed, shuffle }: TrainState,
): AsyncGenerator<TrainEvent, void, void> {
  const { access } = model
  const { signal, batchSize } = options
  const source = batches(op, dataset, batchSize, { shuffle: shuffle ? { seed, epoch } : undefined, skip })
  try {
    let item = await source.next()
    let begun: BegunBatch | undefined
    let before = performance.now()
    while (!item.done) {
      throwIfAborted(op, signal)
      if (begun?.error !== undefined) throw begun.error
      const input: BatchInput = begun?.input ?? nativeBatch(op, model, item.value)
      // What a batch takes of the dataset: its examples, or itself.
      const items = batchSize === undefined ? 1 : input.batch
      const work = access.read('train', (handle, cancel) =>
        handle.trainStep(begun === undefined ? input : undefined, items, cancel),
      )
      // The next batch is asked for once the native call has started, so a slow source and the computation overlap.
      const following = nextTick().then(() => source.next())
      following.catch(() => undefined)
      await work
      begun = await beginNext(op, model, following)
      const last = await access.read('train', (handle) => handle.trainStats())
      const samples = input.batch * input.len
      model.progress = progressOf({
        steps: last.step,
        epochs: epoch,
        samples: model.progress.samples + samples,
      })
      throwIfAborted(op, signal)
      const now = performance.now()
      // Where nothing counted there was no update.
      if (last.weight > 0) {
        yield {
          type: 'step',
          epoch,
          step: last.step,
          loss: last.loss,
          gradNorm: last.gradNorm,
          lr: last.lr,
          ...(model.config.loss === 'crossEntropy' && { accuracy: last.correct / last.weight }),
          samplesPerSecond: samples / ((now - before) / 1000),
        }
      }
      before = now
      item = await following
    }
  } finally {
    void source.return(undefined).catch(() => undefined)
    // Gradients that were begun are dropped; a handle that is disposed or whose device is lost has none left to drop.
    await access.afterReads('train', (handle) => handle.trainEnd()).catch(() => undefined)
  }
}

/**
 * On a GPU, begins the gradients of the next batch while the update's statistics are on their way, if that batch is there by
 * now. They change no parameter, so the loop still sees the model as each update left it, and the GPU never waits for the host.
 */
async function beginNext(
  op: string,
  model: TrainedModel,
  following: Promise<IteratorResult<Batch>>,
): Promise<BegunBatch | undefined> {
  if (model.device === 'cpu') return undefined
  const next = await Promise.race([following, undefined]).catch(() => undefined)
  if (next === undefined || next.done) return undefined
  try {
    const input = nativeBatch(op, model, next.value)
    await model.access.read('train', (handle) => handle.trainAhead(input))
    return { input }
  } catch (error) {
    // Thrown when the loop comes to this batch, after the event of the update before it.
    return { error: error as Error }
  }
}

/** Loss (and accuracy) over a dataset, with nothing changed. */
export async function evaluate(
  op: string,
  model: TrainedModel,
  dataset: Dataset,
  { batchSize, signal }: EvaluateOptions,
): Promise<Metrics> {
  const total: Sums = { loss: 0, correct: 0, rows: 0, weight: 0 }
  let seen = false
  for await (const batch of readAhead(batches(op, dataset, batchSize))) {
    throwIfAborted(op, signal)
    const input = nativeBatch(op, model, batch)
    const call = (handle: NativeModel, cancel: Parameters<NativeModel['evaluate']>[1]) =>
      handle.evaluate(input, cancel)
    const sums = await model.access.read('evaluate', call, signal)
    total.loss += sums.loss
    total.correct += sums.correct
    total.rows += sums.rows
    total.weight += sums.weight
    seen = true
  }
  if (!seen) throw fail('ERR_S4_DATA', op, 'a dataset with at least one batch', 'none')
  if (total.weight === 0)
    throw fail('ERR_S4_DATA', op, 'a dataset with at least one target that counts', 'none')
  return {
    loss: total.loss / total.weight,
    ...(model.config.loss === 'crossEntropy' && { accuracy: total.correct / total.weight }),
    rows: total.rows,
  }
}
