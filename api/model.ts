import { NativeModel } from '#binding'
import type { Cancel } from '#binding'
import { NativeAccess } from './access.js'
import { ADAMW_OPTIONS, type AdamWOptions } from './adamw.js'
import { inputWidth, nativeBatch, nativeInput } from './batch.js'
import {
  boolean,
  bytesOf,
  describe,
  filePath,
  realNumbers,
  rejectUnknownOptions,
  size,
  text,
  type FilePath,
} from './check.js'
import type { Batch, Dataset } from './dataset.js'
import { fail, native, nativeAsync, throwIfAborted } from './error.js'
import { Handle } from './handle.js'
import {
  checkAlgorithm,
  nativeLoadOptions,
  nativeOptions,
  publicConfig,
  type LoadOptions,
  type ModelConfig,
  type SequenceModelOptions,
  type SsmAlgorithm,
} from './options.js'
import { ModelStream } from './stream.js'
import { rateOf, rowLengths, tensor, type Dtype, type Shape, type Tensor, type TensorLike } from './tensor.js'
import {
  TRAIN_OPTIONS,
  type EvaluateOptions,
  type Metrics,
  type Progress,
  type TrainEvent,
  type TrainOptions,
} from './train.js'
import { evaluate, progressOf, train, type TrainedModel } from './training.js'

/** How one prediction runs. */
export interface PredictOptions {
  /** Length of each row, 1 … len; outputs beyond are 0. */
  lengths?: ArrayLike<number>
  /** Sampling-rate ratio: multiplies every Δ. Default 1. */
  rate?: number
  /** Overrides the model's. */
  algorithm?: SsmAlgorithm
}

/** What is written with the parameters. */
export interface SaveOptions {
  /** Moments, update counter, schedule and random state, so that training goes on bit for bit. Default true. */
  optimizer?: boolean
  /** A JSON text of your own; `model.extra` after loading. */
  extra?: string
}

/** What is to be saved. */
function saved(op: string, options: SaveOptions): { optimizer: boolean; extra: string | undefined } {
  const { optimizer = true, extra } = rejectUnknownOptions(op, options, ['optimizer', 'extra'])
  return {
    optimizer: boolean(op, 'optimizer', optimizer),
    extra: extra === undefined ? undefined : text(op, 'extra', extra),
  }
}

/** What the addon says of a model. */
interface Description {
  config: Record<string, unknown>
  dtype: Dtype
  device: string
  hasState: boolean
}

/**
 * A deep sequence model: encoder, S4 blocks, norm, pooling, decoder.
 *
 * @example
 * const model = await SequenceModel.create({ input: 1, output: 10, features: 128, layers: 6, pooling: 'mean' })
 * for await (const e of model.train(batches, { epochs: 20 })) console.log(e.loss)
 */
export class SequenceModel extends Handle {
  /** @internal */
  declare protected readonly access: NativeAccess<NativeModel>
  /** Number format. */
  readonly dtype: Dtype
  /** `'cpu'`, `'cuda:0'`. */
  readonly device: string
  /** Every option with its value: `SequenceModel.create(model.config)` makes a model of the same kind. */
  readonly config: Readonly<ModelConfig>
  /** Whether it can be streamed: causal and not truncated. */
  readonly hasState: boolean
  /** The JSON text that was saved with the checkpoint, if any. */
  readonly extra: string | undefined
  readonly #trained: TrainedModel

  private constructor(handle: NativeModel, algorithm: SsmAlgorithm, extra?: string) {
    const access = new NativeAccess('SequenceModel', handle)
    super(access)
    const { config, dtype, device, hasState } = JSON.parse(native(() => handle.describe())) as Description
    this.dtype = dtype
    this.device = device
    this.config = publicConfig(config)
    this.hasState = hasState
    this.extra = extra
    const progress = progressOf(native(() => handle.trainState()))
    this.#trained = { access, config: this.config, dtype, device, algorithm, progress }
  }

  /** How far its training is, of the last run or the checkpoint's: updates, whole epochs, samples seen. */
  get progress(): Progress {
    return this.#trained.progress
  }

  /** A model around a new native handle that `fill` fills; where that fails, the handle is freed. */
  static async #filled(
    algorithm: SsmAlgorithm,
    fill: (handle: NativeModel) => Promise<string | null | void>,
  ): Promise<SequenceModel> {
    const handle = native(() => new NativeModel())
    try {
      const extra = await nativeAsync(() => fill(handle))
      return new SequenceModel(handle, algorithm, extra ?? undefined)
    } catch (error) {
      handle.dispose()
      throw error
    }
  }

  /** A new model, initialised from `seed`. */
  static async create(options: SequenceModelOptions): Promise<SequenceModel> {
    const { config, host, algorithm } = nativeOptions('SequenceModel', options)
    return SequenceModel.#filled(algorithm, (handle) => handle.create(config, host))
  }

  /** From a checkpoint file of {@link SequenceModel.save}. */
  static async load(path: FilePath, options: LoadOptions = {}): Promise<SequenceModel> {
    const op = 'SequenceModel.load'
    const { algorithm, host } = nativeLoadOptions(op, options)
    const file = filePath(op, path)
    return SequenceModel.#filled(algorithm, (handle) => handle.load(file, host))
  }

  /** From the bytes of {@link SequenceModel.toBytes}. */
  static async fromBytes(bytes: Uint8Array, options: LoadOptions = {}): Promise<SequenceModel> {
    const op = 'SequenceModel.fromBytes'
    const { algorithm, host } = nativeLoadOptions(op, options)
    const given = bytesOf(op, 'bytes', bytes)
    return SequenceModel.#filled(algorithm, (handle) => handle.loadBytes(given, host))
  }

  /** Writes a checkpoint (safetensors): to a temporary file, then renamed, so that readers see the old file or the new one, whole. */
  async save(path: FilePath, options: SaveOptions = {}): Promise<void> {
    const op = this.access.checkLive('save')
    const { optimizer, extra } = saved(op, options)
    const file = filePath(op, path)
    await this.access.read('save', (handle) => handle.save(file, optimizer, extra))
  }

  /** A checkpoint as bytes. */
  async toBytes(options: SaveOptions = {}): Promise<Uint8Array> {
    const { optimizer, extra } = saved(this.access.checkLive('toBytes'), options)
    return this.access.read('toBytes', (handle) => handle.saveBytes(optimizer, extra))
  }

  #predictCall(op: string, x: TensorLike, options: PredictOptions, more: readonly string[] = []) {
    const names = ['lengths', 'rate', 'algorithm', ...more]
    const given: PredictOptions & { signal?: AbortSignal } = rejectUnknownOptions(op, options, names)
    const { data, batch, len } = nativeInput(op, this.#trained, x)
    const { algorithm = this.#trained.algorithm } = given
    const call = {
      lengths: rowLengths(op, given.lengths, batch),
      rate: rateOf(op, given.rate),
      algorithm: checkAlgorithm(op, algorithm),
    }
    return { data, batch, len, call, signal: given.signal }
  }

  /** Outputs for whole sequences: (batch, len, output), or (batch, output) when pooled. Off the event loop. */
  async predict(x: TensorLike, options: PredictOptions & { signal?: AbortSignal } = {}): Promise<Tensor> {
    const op = this.access.checkLive('predict')
    const { data, batch, len, call, signal } = this.#predictCall(op, x, options, ['signal'])
    const out = await this.access.read(
      'predict',
      (handle, cancel) => handle.predictAsync(data, batch, len, call, cancel),
      signal,
    )
    return tensor(out.y, this.#outputShape(batch, len, out.y.length))
  }

  #outputShape(batch: number, len: number, count: number): Shape {
    const pooled = this.config.pooling !== 'none'
    return pooled ? [batch, count / batch] : [batch, len, count / (batch * len)]
  }

  /** As {@link SequenceModel.predict}, at once. For short work. */
  predictSync(x: TensorLike, options: PredictOptions = {}): Tensor {
    const { data, batch, len, call } = this.#predictCall(this.access.checkLive('predictSync'), x, options)
    const out = this.access.sync('predictSync', (handle) => handle.predict(data, batch, len, call))
    return tensor(out.y, this.#outputShape(batch, len, out.y.length))
  }

  /** K̄ of a block's SSM: (channels, features, len), two-sided 2·channels. */
  kernel(block: number, len: number, options: { rate?: number } = {}): Tensor {
    const op = this.access.checkLive('kernel')
    const rate = rateOf(op, rejectUnknownOptions(op, options, ['rate']).rate)
    size(op, 'block', block, 0, 1 << 20)
    size(op, 'len', len, 1, 2 ** 30)
    const data = this.access.sync('kernel', (handle) => handle.kernel(block, len, rate))
    const { features } = this.config
    return tensor(data, [data.length / (features * len), features, len])
  }

  /**
   * Trains; yields an event after every update and after every epoch. The loop is yours: `break` ends training after the update
   * under way, an AbortSignal ends it with `ERR_S4_ABORTED` within one update. A non-finite loss or gradient is `ERR_S4_NONFINITE`
   * with step and tensor, and the parameters stay as they were before that update.
   */
  train(dataset: Dataset, options: TrainOptions = {}): AsyncGenerator<TrainEvent, void, void> {
    return train(this.#trained, dataset, options)
  }

  /** {@link SequenceModel.train} to its end; gives the epochs' events. */
  async fit(
    dataset: Dataset,
    options: TrainOptions & { onEvent?: (event: TrainEvent) => void } = {},
  ): Promise<TrainEvent[]> {
    const op = this.access.checkLive('fit')
    const { onEvent, ...rest } = rejectUnknownOptions(op, options, [...TRAIN_OPTIONS, 'onEvent'])
    if (onEvent !== undefined && typeof onEvent !== 'function')
      throw fail('ERR_S4_VALUE', op, `a function for 'onEvent'`, describe(onEvent))
    const history: TrainEvent[] = []
    for await (const event of this.train(dataset, rest)) {
      onEvent?.(event)
      if (event.type === 'epoch') history.push(event)
    }
    return history
  }

  /** One native call that changes the model; an abort waits for the call under way, at most one update. */
  async #change<R>(
    op: string,
    call: (handle: NativeModel, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R> {
    const name = this.access.checkLive(op)
    throwIfAborted(name, signal)
    const result = await this.access.read(op, call)
    throwIfAborted(name, signal)
    return result
  }

  /**
   * Forward and backward of a batch: it joins those since the last update, whose loss and gradients are then those of the mean
   * over all their rows by weight; nothing is updated. For custom loops. Each batch has dropout masks and batch statistics of its
   * own.
   */
  async accumulate(batch: Batch, options: { signal?: AbortSignal } = {}): Promise<void> {
    const op = this.access.checkLive('accumulate')
    const { signal } = rejectUnknownOptions(op, options, ['signal'])
    throwIfAborted(op, signal)
    const input = nativeBatch(op, this.#trained, batch, 'batch')
    await this.access.write('accumulate', async () => {
      await this.access.afterReads('accumulate', (handle) => handle.configure('{}'))
      await this.#change('accumulate', (handle, cancel) => handle.accumulate(input, cancel), signal)
    })
  }

  /**
   * The update after {@link SequenceModel.accumulate}, that of the joint batch. Options that are given stay for the updates after
   * it. Where nothing counted there is no update, and `loss` is NaN.
   */
  async update(options: AdamWOptions = {}): Promise<{ step: number; loss: number; gradNorm: number }> {
    const op = this.access.checkLive('update')
    const given = rejectUnknownOptions(op, options, ADAMW_OPTIONS)
    const config = JSON.stringify(realNumbers(op, given, ADAMW_OPTIONS))
    return this.access.write('update', async () => {
      if (config !== '{}') await this.access.afterReads('update', (handle) => handle.configure(config))
      const { step, loss, gradNorm } = await this.#change('update', (handle, cancel) => handle.update(cancel))
      const state = await this.access.afterReads('update', (handle) => handle.trainState())
      this.#trained.progress = progressOf(state)
      return { step, loss, gradNorm }
    })
  }

  /** Swaps the parameters with their running average (training with `ema`); a second call swaps back. */
  swapAverage(): void {
    this.access.syncWrite('swapAverage', (handle) => handle.swapAverage())
  }

  /** Loss (and accuracy) over a dataset, with nothing changed. */
  async evaluate(dataset: Dataset, options: EvaluateOptions = {}): Promise<Metrics> {
    const op = this.access.checkLive('evaluate')
    const { batchSize, signal } = rejectUnknownOptions(op, options, ['batchSize', 'signal'])
    throwIfAborted(op, signal)
    return evaluate(op, this.#trained, { what: 'dataset', dataset, batchSize }, signal)
  }

  /** The same weights as a recurrent network, from zero states. */
  stream(options: { batch?: number; rate?: number } = {}): ModelStream {
    const op = this.access.checkLive('stream')
    const given = rejectUnknownOptions(op, options, ['batch', 'rate'])
    const { batch: rows = 1 } = given
    const batch = size(op, 'batch', rows, 1, 1 << 24)
    const rate = rateOf(op, given.rate)
    const id = this.access.sync('stream', (handle) => handle.streamOpen(batch, rate))
    const output = native(() => this.access.handle.outputShape(batch, 1)).at(-1) as number
    return ModelStream.open(this.access, this.dtype, id, { batch, input: inputWidth(this.config), output })
  }
}
