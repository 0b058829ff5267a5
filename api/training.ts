// The loops over the batches of a dataset: training and evaluation of a model.
import { checkCheckpointPath } from '#binding'
import type { BatchInput, NativeModel, StepStats, TrainState } from '#binding'
import type { NativeAccess } from './access.js'
import { nativeBatch, type ModelShape } from './batch.js'
import { booleanOf, filePath, rejectUnknownOptions, wholeNumber } from './check.js'
import {
  batches,
  checkDataset,
  checkShuffled,
  readAhead,
  runsOnce,
  type Batch,
  type Dataset,
  type DatasetOfPass,
  type DatasetSource,
  type Shard,
} from './dataset.js'
import { DistributedRun } from './distributed-run.js'
import { callNative, fail, readGiven, throwIfAborted } from './error.js'
import { addSums, noSums, f1Of, scoresOf } from './scores.js'
import {
  nativeTrainConfig,
  TRAIN_OPTIONS,
  type Metrics,
  type Progress,
  type TrainEvent,
  type TrainOptions,
} from './train.js'

/** What the loops need of a SequenceModel. */
export interface TrainedModel extends ModelShape {
  readonly access: NativeAccess<NativeModel>
  readonly device: string
  /** How far training is, as of the last update whose figures were read. */
  progress: Progress
}

/** The counts in the addon's state of training that the API shows, frozen. */
export function progressOf({ steps, epochs, samples }: Progress): Progress {
  return Object.freeze({ steps, epochs, samples })
}

const nextTick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** The next batch, whose gradients the GPU computes already, or the error for which it does not. */
interface BegunBatch {
  input?: BatchInput
  error?: Error
}

/** The path of a checkpoint; one that cannot be written is refused before an epoch's work is lost by it. */
function checkpointPath(op: string, given: unknown): string | undefined {
  if (given === undefined) return undefined
  const path = filePath(op, given, 'checkpoint')
  callNative(() => checkCheckpointPath(path))
  return path
}

/** A walk over a dataset of which the first batch has been read. */
interface BegunWalk {
  readonly first: Batch
  readonly rest: AsyncGenerator<Batch>
}

/**
 * Refuses wrong batches of a validation before training: all of an array, the first one of anything else. The walk of which
 * that one was read is given back, for the first evaluation: a stream would not give it again.
 */
async function checkValidation(
  op: string,
  model: TrainedModel,
  source: DatasetSource | undefined,
  epochsLeft: number,
): Promise<BegunWalk | undefined> {
  if (source === undefined) return undefined
  const { what, dataset } = source
  checkDataset(op, source)
  if (epochsLeft > 1 && runsOnce(op, source))
    throw fail(
      'ERR_S4_DATA',
      op,
      `${what} that can be walked after each of ${epochsLeft} epochs, such as an array`,
      'an iterator or stream, which runs once',
    )
  const check = async (batch: Batch) => {
    const input = nativeBatch(op, model, batch, `each batch of ${what}`)
    await model.access.afterReads('train', (handle) => handle.checkBatch(input))
  }
  const none = () => fail('ERR_S4_DATA', op, `${what} with at least one batch`, 'none')
  if (readGiven(op, what, () => Array.isArray(dataset))) {
    let count = 0
    for await (const batch of batches(op, source)) {
      await check(batch)
      count++
    }
    if (count === 0) throw none()
    return undefined
  }
  const rest = batches(op, source)
  const first = await rest.next()
  if (first.done) throw none()
  try {
    await check(first.value)
  } catch (error) {
    await rest.return(undefined)
    throw error
  }
  return { first: first.value, rest }
}

/** All batches of a walk, those that have been read included. */
async function* wholeWalk({ first, rest }: BegunWalk): AsyncGenerator<Batch> {
  try {
    yield first
    yield* rest
  } finally {
    await rest.return(undefined)
  }
}

/** The loop of {@link SequenceModel.train}: epochs, their updates, validation and checkpoints. */
export async function* train(
  model: TrainedModel,
  dataset: Dataset | DatasetOfPass,
  given: TrainOptions,
): AsyncGenerator<TrainEvent, void, void> {
  const { access } = model
  const op = access.checkLive('train')
  const options = rejectUnknownOptions(op, given, TRAIN_OPTIONS)
  const { signal, batchSize, resume = false } = options
  // First of all: what this rank refuses from here on the others are told, and do not wait.
  const run = DistributedRun.of(op, access, options.distributed)
  let ended: unknown = null
  let begunValidation: BegunWalk | undefined
  let acquired = false
  try {
    booleanOf(op, 'resume', resume)
    throwIfAborted(op, signal)
    const source: TrainSource = { dataset, batchSize, signal }
    if (typeof dataset !== 'function') checkDataset(op, { what: 'dataset', dataset, batchSize })
    else if (batchSize !== undefined) wholeNumber(op, 'batchSize', batchSize)
    const config = nativeTrainConfig(op, options, model.config)
    if (options.shuffle) checkShuffled(op, dataset)
    const checkpoint = checkpointPath(op, options.checkpoint)
    const validationSource: DatasetSource | undefined =
      options.validation === undefined
        ? undefined
        : { what: 'validation', dataset: options.validation, batchSize }
    access.acquire('train')
    acquired = true
    const before = await readTrainState(model)
    const epochs = options.epochs ?? (resume ? before.totalEpochs : undefined) ?? 1
    const epochsLeft = epochs - (resume ? before.epochs : 0)
    begunValidation = await checkValidation(op, model, validationSource, epochsLeft)
    if (run === undefined) await access.afterReads('train', (handle) => handle.trainBegin(config, resume))
    else
      await run.begin(
        {
          // The ranks begin with rank 0's parameters, whatever the seed of their own.
          'model configuration': { ...model.config, seed: undefined },
          'number format': model.dtype,
          'options of the run': { config, batchSize, resume, validation: validationSource !== undefined },
          dataset: typeof dataset === 'function' ? 'a function' : 'one dataset for all ranks',
        },
        config,
        resume,
        signal,
      )
    let state = await readTrainState(model)
    const totalEpochs = state.totalEpochs ?? 1
    while (state.epochs < totalEpochs) {
      const epoch = state.epochs
      const epochStart = { time: performance.now(), samples: state.samples }
      // Nothing where the run carries no states.
      if (state.items === 0) await access.afterReads('train', (handle) => handle.resetState())
      yield* epochUpdates(op, model, source, state, run)
      state = await readTrainState(model)
      const loss = state.loss / state.weight
      const walk = begunValidation && wholeWalk(begunValidation)
      begunValidation = undefined
      const validation =
        validationSource &&
        (await evaluate(op, model, validationSource, { topK: state.topK, signal, run }, walk))
      await access.afterReads('train', (handle) => handle.endEpoch(validation?.loss ?? loss))
      const event: TrainEvent = {
        type: 'epoch',
        epoch,
        ...(run && { rank: run.shard.rank }),
        step: state.steps,
        loss,
        gradNorm: state.gradNorm,
        lr: state.lr,
        ...scoresOf(model.config, state.metrics, state.topK),
        ...(validation && { validation }),
        samplesPerSecond:
          (state.samples - epochStart.samples) / ((performance.now() - epochStart.time) / 1000),
      }
      state = await readTrainState(model)
      if (checkpoint !== undefined && (run?.shard.rank ?? 0) === 0)
        await access.read('train', (handle) => handle.save(checkpoint, true))
      await run?.meet(signal)
      yield event
    }
    ended = undefined
  } catch (error) {
    ended = error
    throw run === undefined ? error : await run.end(error)
  } finally {
    void begunValidation?.rest.return(undefined).catch(() => undefined)
    if (run !== undefined) {
      if (ended === undefined || ended === null) await run.end(ended)
      await run.leave()
    }
    if (acquired) access.release()
  }
}

/** Refuses an epoch that had no batch, or none with a target that counts: it has no mean loss. */
function checkEpoch(op: string, { items, weight, epochs }: TrainState): void {
  const iteratorEnded = 'none left in this epoch: an iterator runs once, pass an array or an iterable'
  if (items === 0)
    throw fail('ERR_S4_DATA', op, 'dataset with at least one batch', epochs === 0 ? 'none' : iteratorEnded)
  if (weight === 0) throw fail('ERR_S4_DATA', op, 'dataset with at least one target that counts', 'none')
}

/** Reads how far the run is from the addon, and updates the model's `progress` by it. */
async function readTrainState(model: TrainedModel): Promise<TrainState> {
  const state = await model.access.afterReads('train', (handle) => handle.trainState())
  model.progress = progressOf(state)
  return state
}

/** The dataset of a training, with its options. */
interface TrainSource {
  readonly dataset: Dataset | DatasetOfPass
  readonly batchSize: number | undefined
  readonly signal: AbortSignal | undefined
}

/** The batches of an epoch that this rank takes. */
function batchesOfEpoch(
  op: string,
  { dataset, batchSize, signal }: TrainSource,
  { epochs: epoch, items, seed, shuffle }: TrainState,
  run: DistributedRun | undefined,
): AsyncGenerator<Batch> {
  const what = 'dataset'
  const order = shuffle ? { seed, epoch } : undefined
  if (typeof dataset !== 'function')
    return batches(op, { what, dataset, batchSize }, { shuffle: order, skip: items, shard: run?.shard })
  const { rank, worldSize } = run?.shard ?? { rank: 0, worldSize: 1 }
  // Until one of them has no more, all ranks have taken as many items.
  const skip = items / worldSize
  if (skip % (batchSize ?? 1) !== 0)
    throw fail(
      'ERR_S4_UNSUPPORTED',
      op,
      'an epoch that begins anew: how far each rank was in its part is not known',
      `${items} items of ${worldSize} ranks`,
    )
  const given = dataset({ epoch, seed, rank, worldSize, signal })
  return batches(op, { what, dataset: given, batchSize }, { skip })
}

/** Makes the updates of one epoch, from the item at which a resumed run stopped, and yields an event for each. */
async function* epochUpdates(
  op: string,
  model: TrainedModel,
  dataset: TrainSource,
  state: TrainState,
  run: DistributedRun | undefined,
): AsyncGenerator<TrainEvent, void, void> {
  const { access } = model
  const { signal } = dataset
  const { epochs: epoch, syncBatchNorm, topK } = state
  let source: AsyncGenerator<Batch> | undefined
  let cutShort = true
  try {
    const given = (source = batchesOfEpoch(op, dataset, state, run))
    let current = await given.next()
    let begunBatch: BegunBatch | undefined
    let lastUpdateTime = performance.now()
    // Of several ranks all take part until none has a batch.
    let othersGoOn = run !== undefined
    while (!current.done || othersGoOn) {
      throwIfAborted(op, signal)
      if (begunBatch?.error !== undefined) throw begunBatch.error
      const input: BatchInput | undefined = current.done
        ? undefined
        : (begunBatch?.input ?? nativeBatch(op, model, current.value, 'each batch of dataset'))
      // Number of items of the dataset that the batch consists of: its examples, or 1 where the dataset gives batches.
      const items = dataset.batchSize === undefined ? 1 : (input?.batch ?? 0)
      const update = async (): Promise<[StepStats, Promise<IteratorResult<Batch>>]> => {
        const work = access.read('train', (handle, cancel) =>
          input === undefined
            ? handle.trainStepWithoutBatch()
            : handle.trainStep(begunBatch === undefined ? input : undefined, items, cancel),
        )
        // The next batch is asked for only after the native call has started, so that a slow dataset and the computation
        // overlap.
        const next = current.done ? Promise.resolve(current) : nextTick().then(() => given.next())
        next.catch(() => undefined)
        await work
        // With synchronised norms a batch is begun by all ranks or by none, and another may not have its own yet.
        if (run === undefined || !syncBatchNorm) begunBatch = await beginNext(op, model, next)
        return [await access.read('train', (handle) => handle.trainStats()), next]
      }
      const [stats, following] = await (run === undefined ? update() : run.round(update))
      othersGoOn = run !== undefined && stats.ranks > 0
      const samples = stats.timeSteps
      model.progress = progressOf({
        steps: stats.step,
        epochs: epoch,
        samples: model.progress.samples + samples,
      })
      throwIfAborted(op, signal)
      const now = performance.now()
      // Where no target of the batch counts there was no update.
      if (stats.weight > 0) {
        yield {
          type: 'step',
          epoch,
          ...(run && { rank: run.shard.rank }),
          step: stats.step,
          loss: stats.loss,
          gradNorm: stats.gradNorm,
          lr: stats.lr,
          ...scoresOf(model.config, stats.metrics, topK),
          samplesPerSecond: samples / ((now - lastUpdateTime) / 1000),
        }
      }
      lastUpdateTime = now
      current = await following
    }
    checkEpoch(op, await readTrainState(model))
    cutShort = false
  } finally {
    void source?.return(undefined).catch(() => undefined)
    // Drops gradients that no update has used. It may fail if the model was disposed or its device is lost, and then there
    // are none to drop.
    await access.afterReads('train', (handle) => handle.trainEnd(cutShort)).catch(() => undefined)
    // Where the first batch of a new run was refused, the run before it is there again.
    await readTrainState(model).catch(() => undefined)
  }
}

/**
 * On a GPU, enqueues the gradients of the next batch, if the dataset has given it by now, before the figures of the update
 * are read: the GPU need not wait for the host. Gradients change no parameter, so the caller's loop sees the model as each
 * update left it.
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
    // The loop throws it when it comes to this batch, after it has yielded the event of the update before.
    return { error: error as Error }
  }
}

/** The batches of a walk that a rank takes; all without other ranks. */
async function* ownBatches(walk: AsyncGenerator<Batch>, shard: Shard | undefined): AsyncGenerator<Batch> {
  let number = 0
  for await (const batch of walk)
    if (shard === undefined || number++ % shard.worldSize === shard.rank) yield batch
}

/** Loss and metrics of a model over a dataset. Changes nothing. `walk`: one over the dataset that has begun. */
export async function evaluate(
  op: string,
  model: TrainedModel,
  source: DatasetSource,
  {
    topK,
    signal,
    run,
  }: { topK: number | undefined; signal: AbortSignal | undefined; run?: DistributedRun | undefined },
  walk: AsyncGenerator<Batch> = batches(op, source),
): Promise<Metrics> {
  let totals = noSums()
  let hasBatch = false
  for await (const batch of readAhead(ownBatches(walk, run?.shard))) {
    throwIfAborted(op, signal)
    const input = nativeBatch(op, model, batch, `each batch of ${source.what}`)
    const call = (handle: NativeModel, cancel: Parameters<NativeModel['evaluate']>[2]) =>
      handle.evaluate(input, topK ?? 1, cancel)
    addSums(totals, await model.access.read('evaluate', call, signal))
    hasBatch = true
  }
  if (run !== undefined) ({ sums: totals, hasBatch } = await run.sum(totals, hasBatch, signal))
  if (!hasBatch)
    throw fail('ERR_S4_DATA', op, `${source.what} with at least one batch`, 'none (an iterator runs once)')
  if (totals.weight === 0)
    throw fail('ERR_S4_DATA', op, `${source.what} with at least one target that counts`, 'none')
  const { output } = model.config
  const counts = totals.confusion
  const confusion =
    counts &&
    Array.from({ length: output }, (_, i) => Array.from(counts.subarray(i * output, (i + 1) * output)))
  return {
    loss: totals.loss / totals.weight,
    ...scoresOf(model.config, totals.metrics, topK),
    rows: totals.rows,
    ...(confusion && { confusion, f1: f1Of(confusion) }),
  }
}
