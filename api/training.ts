// The loops over a dataset: training and evaluation of a model.
import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { BatchInput, NativeModel, Sums, TrainState } from '#binding'
import type { NativeAccess } from './access.js'
import { nativeBatch, type ModelShape } from './batch.js'
import { boolean, filePath, rejectUnknownOptions } from './check.js'
import {
  batches,
  checkDataset,
  checkShuffled,
  readAhead,
  type Batch,
  type Dataset,
  type DatasetSource,
} from './dataset.js'
import { fail, reading, throwIfAborted } from './error.js'
import {
  nativeTrainConfig,
  TRAIN_OPTIONS,
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

/** The path of a checkpoint; a folder that cannot be written to is refused before an epoch's work is lost by it. */
function checkpointPath(op: string, given: unknown): string | undefined {
  if (given === undefined) return undefined
  const path = filePath(op, given, 'checkpoint')
  const folder = dirname(path)
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
  return path
}

/** Refuses wrong batches of a validation before training: all of an array, the first one of what can be walked again. */
async function checkValidation(op: string, model: TrainedModel, source: DatasetSource | undefined): Promise<void> {
  if (source === undefined) return
  const { what, dataset } = source
  checkDataset(op, source)
  const whole = Array.isArray(dataset)
  // An iterator gives itself, and what is read of it is gone.
  if (!whole && reading(op, what, () => iteratesItself(dataset))) return
  let count = 0
  for await (const batch of batches(op, source)) {
    const input = nativeBatch(op, model, batch, `each batch of ${what}`)
    await model.access.afterReads('train', (handle) => handle.checkBatch(input))
    count++
    if (!whole) break
  }
  if (count === 0) throw fail('ERR_S4_DATA', op, `${what} with at least one batch`, 'none')
}

function iteratesItself(dataset: object): boolean {
  const d = dataset as Partial<Iterable<unknown> & AsyncIterable<unknown>>
  return (d[Symbol.asyncIterator]?.() ?? d[Symbol.iterator]?.()) === dataset
}

/** {@link SequenceModel.train}. */
export async function* train(
  model: TrainedModel,
  dataset: Dataset,
  given: TrainOptions,
): AsyncGenerator<TrainEvent, void, void> {
  const { access } = model
  const op = access.checkLive('train')
  const options = rejectUnknownOptions(op, given, TRAIN_OPTIONS)
  const { signal, batchSize, resume = false } = options
  boolean(op, 'resume', resume)
  throwIfAborted(op, signal)
  const source: DatasetSource = { what: 'dataset', dataset, batchSize }
  checkDataset(op, source)
  const config = nativeTrainConfig(op, options)
  if (options.shuffle) checkShuffled(op, dataset)
  const checkpoint = checkpointPath(op, options.checkpoint)
  const validated: DatasetSource | undefined =
    options.validation === undefined
      ? undefined
      : { what: 'validation', dataset: options.validation, batchSize }
  access.acquire('train')
  try {
    await checkValidation(op, model, validated)
    await access.afterReads('train', (handle) => handle.trainBegin(config, resume))
    let state = await trainState(model)
    const total = state.totalEpochs ?? 1
    while (state.epochs < total) {
      const epoch = state.epochs
      const started = { time: performance.now(), samples: state.samples }
      // Nothing where the run carries no states.
      if (state.items === 0) await access.afterReads('train', (handle) => handle.resetState())
      yield* updates(op, model, source, signal, state)
      state = await trainState(model)
      checkEpoch(op, state)
      const loss = state.loss / state.weight
      const validation = validated && (await evaluate(op, model, validated, signal))
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
    throw fail('ERR_S4_DATA', op, 'dataset with at least one batch', epochs === 0 ? 'none' : ended)
  if (weight === 0) throw fail('ERR_S4_DATA', op, 'dataset with at least one target that counts', 'none')
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
  dataset: DatasetSource,
  signal: AbortSignal | undefined,
  { epochs: epoch, items: skip, seed, shuffle }: TrainState,
): AsyncGenerator<TrainEvent, void, void> {
  const { access } = model
  const source = batches(op, dataset, { shuffle: shuffle ? { seed, epoch } : undefined, skip })
  try {
    let item = await source.next()
    let begun: BegunBatch | undefined
    let before = performance.now()
    while (!item.done) {
      throwIfAborted(op, signal)
      if (begun?.error !== undefined) throw begun.error
      const input: BatchInput = begun?.input ?? nativeBatch(op, model, item.value, 'each batch of dataset')
      // What a batch takes of the dataset: its examples, or itself.
      const items = dataset.batchSize === undefined ? 1 : input.batch
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
    // Where the first batch of a new run was refused, the run before it is there again.
    await trainState(model).catch(() => undefined)
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
    const input = nativeBatch(op, model, next.value, 'each batch of dataset')
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
  source: DatasetSource,
  signal: AbortSignal | undefined,
): Promise<Metrics> {
  const total: Sums = { loss: 0, correct: 0, rows: 0, weight: 0 }
  let seen = false
  for await (const batch of readAhead(batches(op, source))) {
    throwIfAborted(op, signal)
    const input = nativeBatch(op, model, batch, `each batch of ${source.what}`)
    const call = (handle: NativeModel, cancel: Parameters<NativeModel['evaluate']>[1]) =>
      handle.evaluate(input, cancel)
    const sums = await model.access.read('evaluate', call, signal)
    total.loss += sums.loss
    total.correct += sums.correct
    total.rows += sums.rows
    total.weight += sums.weight
    seen = true
  }
  if (!seen) throw fail('ERR_S4_DATA', op, `${source.what} with at least one batch`, 'none')
  if (total.weight === 0)
    throw fail('ERR_S4_DATA', op, `${source.what} with at least one target that counts`, 'none')
  return {
    loss: total.loss / total.weight,
    ...(model.config.loss === 'crossEntropy' && { accuracy: total.correct / total.weight }),
    rows: total.rows,
  }
}
