// The loops over a dataset: training and evaluation of a model.
import type { BatchInput, NativeModel, StepStats, Sums } from '#binding'
import type { NativeAccess } from './access.js'
import { nativeBatch, type ModelShape } from './batch.js'
import { rejectUnknownOptions, size } from './check.js'
import { batches, readAhead, type Batch, type Dataset } from './dataset.js'
import { fail, throwIfAborted } from './error.js'
import {
  nativeTrainConfig,
  TRAIN_OPTIONS,
  type EvaluateOptions,
  type Metrics,
  type TrainEvent,
  type TrainOptions,
} from './train.js'

/** What the loops need of a model. */
export interface TrainedModel extends ModelShape {
  readonly access: NativeAccess<NativeModel>
  readonly device: string
}

const nextTick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Sums over the updates of an epoch. */
class EpochTotals {
  readonly #start = performance.now()
  #loss = 0
  #correct = 0
  #rows = 0
  #samples = 0

  add({ loss, correct, rows }: Sums, samples: number): void {
    this.#loss += loss * rows
    this.#correct += correct
    this.#rows += rows
    this.#samples += samples
  }

  get loss(): number {
    return this.#loss / this.#rows
  }
  get accuracy(): number {
    return this.#correct / this.#rows
  }
  get samplesPerSecond(): number {
    return this.#samples / ((performance.now() - this.#start) / 1000)
  }
}

/** A batch whose gradients have begun, or why they have not. */
interface BegunBatch {
  input?: BatchInput
  error?: Error
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
  const { signal, epochs = 1, batchSize, checkpoint, resume = false } = options
  throwIfAborted(op, signal)
  size(op, 'epochs', epochs)
  access.acquire('train')
  try {
    const config = nativeTrainConfig(op, options)
    await access.afterReads('train', (handle) => handle.trainBegin(config, resume))
    for (let epoch = 0; epoch < epochs; epoch++) {
      const totals = new EpochTotals()
      const last = yield* updates(op, model, dataset, options, epoch, totals)
      if (last === undefined) {
        const ended = 'none left in this epoch: an iterator runs once, pass an array or an iterable'
        throw fail('ERR_S4_DATA', op, 'a dataset with at least one batch', epoch === 0 ? 'none' : ended)
      }
      const validation =
        options.validation && (await evaluate(op, model, options.validation, { batchSize, signal }))
      await access.afterReads('train', (handle) => handle.observe(validation?.loss ?? totals.loss))
      if (checkpoint !== undefined) await access.read('train', (handle) => handle.save(checkpoint, true))
      yield {
        type: 'epoch',
        epoch,
        step: last.step,
        loss: totals.loss,
        gradNorm: last.gradNorm,
        lr: last.lr,
        ...(model.config.loss === 'crossEntropy' && { accuracy: totals.accuracy }),
        ...(validation && { validation }),
        samplesPerSecond: totals.samplesPerSecond,
      }
    }
  } finally {
    access.release()
  }
}

/** The updates of one epoch; gives the statistics of the last, if there was one. */
async function* updates(
  op: string,
  model: TrainedModel,
  dataset: Dataset,
  options: TrainOptions,
  epoch: number,
  totals: EpochTotals,
): AsyncGenerator<TrainEvent, StepStats | undefined, void> {
  const { access } = model
  const { signal, batchSize, carryState, shuffle, seed = 0 } = options
  if (carryState) await access.afterReads('train', (handle) => handle.resetState())
  const source = batches(op, dataset, batchSize, shuffle ? seed + epoch : undefined)
  let last: StepStats | undefined
  try {
    let item = await source.next()
    let begun: BegunBatch | undefined
    let before = performance.now()
    while (!item.done) {
      throwIfAborted(op, signal)
      if (begun?.error !== undefined) throw begun.error
      const input: BatchInput = begun?.input ?? nativeBatch(op, model, item.value)
      const work = access.read('train', (handle, cancel) =>
        handle.trainStep(begun === undefined ? input : undefined, cancel),
      )
      // The next batch is asked for once the native call has started, so a slow source and the computation overlap.
      const following = nextTick().then(() => source.next())
      following.catch(() => undefined)
      await work
      begun = await beginNext(op, model, following)
      last = await access.read('train', (handle) => handle.trainStats())
      throwIfAborted(op, signal)
      const now = performance.now()
      const samples = input.batch * input.len
      totals.add(last, samples)
      yield {
        type: 'step',
        epoch,
        step: last.step,
        loss: last.loss,
        gradNorm: last.gradNorm,
        lr: last.lr,
        ...(model.config.loss === 'crossEntropy' && { accuracy: last.correct / last.rows }),
        samplesPerSecond: samples / ((now - before) / 1000),
      }
      before = now
      item = await following
    }
    return last
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
  const total: Sums = { loss: 0, correct: 0, rows: 0 }
  for await (const batch of readAhead(batches(op, dataset, batchSize))) {
    throwIfAborted(op, signal)
    const input = nativeBatch(op, model, batch)
    const call = (handle: NativeModel, cancel: Parameters<NativeModel['evaluate']>[1]) =>
      handle.evaluate(input, cancel)
    const sums = await model.access.read('evaluate', call, signal)
    total.loss += sums.loss
    total.correct += sums.correct
    total.rows += sums.rows
  }
  if (total.rows === 0) throw fail('ERR_S4_DATA', op, 'a dataset with at least one batch', 'none')
  return {
    loss: total.loss / total.rows,
    ...(model.config.loss === 'crossEntropy' && { accuracy: total.correct / total.rows }),
    rows: total.rows,
  }
}
