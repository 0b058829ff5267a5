import { NativeModel } from '#binding'
import type { BatchInput, Cancel, StepStats, Sums } from '#binding'
import { aborted, fail, native, nativeAsync, throwIfAborted } from './error.js'
import { Handle } from './handle.js'
import {
  checkAlgorithm,
  loading,
  split,
  type Algorithm,
  type DeviceOptions,
  type SequenceModelOptions,
} from './options.js'
import { Stream } from './stream.js'
import {
  checkTensor,
  floats,
  integers,
  known,
  positive,
  rowLengths,
  shaped,
  size,
  tensor,
  type Dtype,
  type Shape,
  type Tensor,
  type TensorLike,
} from './tensor.js'
import { ahead, batches, type Batch, type Dataset } from './dataset.js'
import {
  TRAIN,
  trainConfig,
  type EvaluateOptions,
  type Metrics,
  type TrainEvent,
  type TrainOptions,
} from './train.js'

/** How one prediction runs. */
export interface PredictOptions {
  /** Length of each row, 1 … len; outputs beyond are 0. */
  lengths?: ArrayLike<number>
  /** Sampling-rate ratio: multiplies every Δ. Default 1. */
  rate?: number
  /** Overrides the model's. */
  algorithm?: Algorithm
}

/** Where and how a checkpoint is loaded. */
export interface LoadOptions extends DeviceOptions {
  /** Default of every call. */
  algorithm?: Algorithm
}

/** What is written with the parameters. */
export interface SaveOptions {
  /** Moments, update counter, schedule and random state, so that training goes on bit for bit. Default true. */
  optimizer?: boolean
  /** A JSON text of your own; `model.extra` after loading. */
  extra?: string
}

interface Description {
  config: Record<string, unknown> & {
    input: number
    features: number
    layers: number
    encoder: string
    pooling: string
    loss: string
    vocabulary?: number
  }
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
export class SequenceModel extends Handle<NativeModel> {
  /** Number format. */
  readonly dtype: Dtype
  /** `'cpu'`, `'cuda:0'`. */
  readonly device: string
  /** Every option with its value. */
  readonly config: Readonly<Record<string, unknown>>
  /** Whether it can be streamed: causal and not truncated. */
  readonly hasState: boolean
  /** The JSON text that was saved with the checkpoint, if any. */
  readonly extra: string | undefined
  readonly #description: Description
  readonly #algorithm: Algorithm

  private constructor(handle: NativeModel, algorithm: Algorithm, extra?: string) {
    super(handle)
    const d = JSON.parse(native(() => handle.describe())) as Description
    this.dtype = d.dtype
    this.device = d.device
    this.config = Object.freeze(d.config)
    this.hasState = d.hasState
    this.extra = extra
    this.#description = d
    this.#algorithm = algorithm
  }

  protected override get label(): string {
    return 'SequenceModel'
  }

  /** A new model, initialised from `seed`. */
  static async create(options: SequenceModelOptions): Promise<SequenceModel> {
    const { config, host, algorithm } = split('SequenceModel', options)
    const handle = native(() => new NativeModel())
    return made(handle, handle.create(config, host), () => new SequenceModel(handle, algorithm))
  }

  /** From a checkpoint file of {@link SequenceModel.save}. */
  static async load(path: string, options: LoadOptions = {}): Promise<SequenceModel> {
    const op = 'SequenceModel.load'
    if (typeof path !== 'string' || path.length === 0) throw fail('ERR_S4_VALUE', op, 'a path', String(path))
    const { algorithm, host } = loading(op, options)
    const handle = native(() => new NativeModel())
    return made(
      handle,
      handle.load(path, host),
      (extra) => new SequenceModel(handle, algorithm, extra ?? undefined),
    )
  }

  /** From the bytes of {@link SequenceModel.toBytes}. */
  static async fromBytes(bytes: Uint8Array, options: LoadOptions = {}): Promise<SequenceModel> {
    const { algorithm, host } = loading('SequenceModel.fromBytes', options)
    const handle = native(() => new NativeModel())
    return made(
      handle,
      handle.loadBytes(bytes, host),
      (extra) => new SequenceModel(handle, algorithm, extra ?? undefined),
    )
  }

  /** Writes a checkpoint (safetensors): to a temporary file, then renamed, so that readers see the old file or the new one, whole. */
  async save(path: string, options: SaveOptions = {}): Promise<void> {
    const op = this.alive('save')
    known(op, options, ['optimizer', 'extra'])
    if (typeof path !== 'string' || path.length === 0) throw fail('ERR_S4_VALUE', op, 'a path', String(path))
    await this.read('save', (handle) => handle.save(path, options.optimizer ?? true, options.extra))
  }

  /** A checkpoint as bytes. */
  async toBytes(options: SaveOptions = {}): Promise<Uint8Array> {
    known(this.alive('toBytes'), options, ['optimizer', 'extra'])
    return this.read('toBytes', (handle) => handle.saveBytes(options.optimizer ?? true, options.extra))
  }

  /** @internal Checked input: values (batch, len, input), or tokens (batch, len). */
  protected input(
    op: string,
    x: TensorLike,
  ): { data: Float32Array | Float64Array | Int32Array; batch: number; len: number } {
    const { config } = this.#description
    if (config.encoder === 'embedding') {
      const [batch, len] = checkTensor(op, 'tokens', x, 2).shape as [number, number]
      return { data: integers(op, 'tokens', x.data), batch, len }
    }
    const width = config.encoder === 'none' ? config.features : config.input
    const [batch, len, given] = checkTensor(op, 'input', x, 3).shape as [number, number, number]
    if (given !== width)
      throw fail('ERR_S4_SHAPE', op, `input (batch, len, ${width})`, `[${x.shape.join(', ')}]`)
    return { data: floats(op, 'input', x.data, this.dtype), batch, len }
  }

  #predict(op: string, x: TensorLike, options: PredictOptions & { signal?: AbortSignal }) {
    known(op, options, ['lengths', 'rate', 'algorithm', 'signal'])
    const { data, batch, len } = this.input(op, x)
    const call = {
      lengths: rowLengths(op, options.lengths, batch),
      rate: options.rate === undefined ? 1 : positive(op, 'rate', options.rate),
      algorithm: checkAlgorithm(op, options.algorithm ?? this.#algorithm),
    }
    return { data, batch, len, call }
  }

  /** Outputs for whole sequences: (batch, len, output), or (batch, output) when pooled. Off the event loop. */
  async predict(x: TensorLike, options: PredictOptions & { signal?: AbortSignal } = {}): Promise<Tensor> {
    const op = this.alive('predict')
    const { data, batch, len, call } = this.#predict(op, x, options)
    const out = await this.read(
      'predict',
      (handle, cancel) => handle.predictAsync(data, batch, len, call, cancel),
      options.signal,
    )
    return tensor(out.y, this.#shapeOf(batch, len, out.y.length))
  }

  // The shape follows from sizes alone.
  #shapeOf(batch: number, len: number, count: number): Shape {
    const pooled = this.#description.config.pooling !== 'none'
    return pooled ? [batch, count / batch] : [batch, len, count / (batch * len)]
  }

  /** As {@link SequenceModel.predict}, at once. For short work. */
  predictSync(x: TensorLike, options: PredictOptions = {}): Tensor {
    const op = this.alive('predictSync')
    const { data, batch, len, call } = this.#predict(op, x, options)
    const out = this.sync('predictSync', (handle) => handle.predict(data, batch, len, call))
    return tensor(out.y, this.#shapeOf(batch, len, out.y.length))
  }

  /** K̄ of a block's SSM: (channels, features, len), two-sided 2·channels. */
  kernel(block: number, len: number, options: { rate?: number } = {}): Tensor {
    const op = this.alive('kernel')
    const rate = options.rate === undefined ? 1 : positive(op, 'rate', options.rate)
    size(op, 'block', block, 0, 1 << 20)
    size(op, 'len', len, 1, 2 ** 30)
    const data = this.sync('kernel', (handle) => handle.kernel(block, len, rate))
    const features = this.#description.config.features
    return tensor(data, [data.length / (features * len), features, len])
  }

  /** A checked batch as the addon takes it. */
  #batch(op: string, batch: Batch): BatchInput {
    if (typeof batch !== 'object' || batch === null)
      throw fail('ERR_S4_DATA', op, '{ input, target }', String(batch))
    const { data, batch: rows, len } = this.input(op, batch.input)
    const { config } = this.#description
    const pooled = config.pooling !== 'none'
    const count = pooled ? rows : rows * len
    if (typeof batch.target !== 'object' || batch.target === null)
      throw fail('ERR_S4_DATA', op, 'a target for each row', String(batch.target))
    let target
    if (config.loss === 'crossEntropy') {
      const labels =
        'shape' in batch.target
          ? checkTensor(op, 'target', batch.target, pooled ? [1] : [1, 2]).data
          : batch.target
      target = integers(op, 'target', labels as ArrayLike<number>)
      if (target.length !== count) throw fail('ERR_S4_SHAPE', op, `${count} labels`, `${target.length}`)
    } else {
      const width = config['output'] as number
      if (!('shape' in batch.target)) throw fail('ERR_S4_SHAPE', op, 'target as { data, shape }', 'an array')
      target = shaped(op, 'target', batch.target, pooled ? [rows, width] : [rows, len, width], this.dtype)
    }
    let weights
    if (batch.weights !== undefined) {
      if (typeof batch.weights !== 'object' || batch.weights === null)
        throw fail('ERR_S4_SHAPE', op, `${count} weights`, String(batch.weights))
      const w = 'shape' in batch.weights ? checkTensor(op, 'weights', batch.weights).data : batch.weights
      if (w.length !== count) throw fail('ERR_S4_SHAPE', op, `${count} weights`, `${w.length}`)
      weights = floats(op, 'weights', w, this.dtype)
    }
    return {
      input: data,
      target,
      batch: rows,
      len,
      lengths: rowLengths(op, batch.lengths, rows),
      weights,
      rate: batch.rate === undefined ? 1 : positive(op, 'rate', batch.rate),
      algorithm: this.#algorithm,
    }
  }

  /** Runs one native call that changes the model; an abort waits for the call under way, at most one update. */
  async #write<R>(
    op: string,
    call: (handle: NativeModel, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R> {
    const name = this.alive(op)
    throwIfAborted(name, signal)
    const result = await this.read(op, call)
    throwIfAborted(name, signal)
    return result
  }

  /**
   * Trains; yields an event after every update and after every epoch. The loop is yours: `break` ends training after the update
   * under way, an AbortSignal ends it with `ERR_S4_ABORTED` within one update. A non-finite loss or gradient is `ERR_S4_NONFINITE`
   * with step and tensor, and the parameters stay as they were before that update.
   */
  async *train(dataset: Dataset, options: TrainOptions = {}): AsyncGenerator<TrainEvent, void, void> {
    const op = this.alive('train')
    known(op, options, TRAIN)
    const { signal, epochs = 1 } = options
    throwIfAborted(op, signal)
    size(op, 'epochs', epochs)
    this.acquire('train')
    try {
      const config = trainConfig(op, options)
      await this.ready('train', (handle) => handle.trainBegin(config, options.resume ?? false))
      let count = 0
      for (let epoch = 0; epoch < epochs; epoch++) {
        const start = performance.now()
        let [loss, correct, rows, samples] = [0, 0, 0, 0]
        let last: StepStats | undefined
        if (options.carryState) await this.ready('train', (handle) => handle.resetState())
        const order = options.shuffle ? (options.seed ?? 0) + epoch : undefined
        const source = batches(op, dataset, options.batchSize, order)
        try {
          let item = await source.next()
          let begun: Begun | undefined
          let before = performance.now()
          while (!item.done) {
            throwIfAborted(op, signal)
            if (begun?.error !== undefined) throw begun.error
            const input: BatchInput = begun?.input ?? this.#batch(op, item.value)
            const work = this.read('train', (handle, cancel) =>
              handle.trainStep(begun === undefined ? input : undefined, cancel),
            )
            // The next batch is asked for once the native call has started, so a slow source and the computation overlap.
            const following = tick().then(() => source.next())
            following.catch(() => undefined)
            await work
            begun = await this.#begin(op, following)
            last = await this.read('train', (handle) => handle.trainStats())
            throwIfAborted(op, signal)
            const now = performance.now()
            const seconds = (now - before) / 1000
            before = now
            count++
            loss += last.loss * last.rows
            correct += last.correct
            rows += last.rows
            samples += input.batch * input.len
            yield {
              type: 'step',
              epoch,
              step: last.step,
              loss: last.loss,
              gradNorm: last.gradNorm,
              lr: last.lr,
              ...(this.#classifies ? { accuracy: last.correct / last.rows } : {}),
              samplesPerSecond: (input.batch * input.len) / seconds,
            }
            item = await following
          }
        } finally {
          void source.return(undefined).catch(() => undefined)
          // What was begun is dropped; a handle that is disposed or whose device is lost has nothing left to drop.
          await this.ready('train', (handle) => handle.trainEnd()).catch(() => undefined)
        }
        if (last === undefined)
          throw fail(
            'ERR_S4_DATA',
            op,
            'a dataset with at least one batch',
            count === 0
              ? 'none'
              : 'none left in this epoch: an iterator runs once, pass an array or an iterable',
          )
        const validation =
          options.validation === undefined
            ? undefined
            : await this.#evaluate(op, options.validation, options.batchSize, signal)
        await this.ready('train', (handle) => handle.observe(validation?.loss ?? loss / rows))
        if (options.checkpoint !== undefined) {
          await this.read('train', (handle) => handle.save(options.checkpoint as string, true))
        }
        yield {
          type: 'epoch',
          epoch,
          step: last.step,
          loss: loss / rows,
          gradNorm: last.gradNorm,
          lr: last.lr,
          ...(this.#classifies ? { accuracy: correct / rows } : {}),
          ...(validation === undefined ? {} : { validation }),
          samplesPerSecond: samples / ((performance.now() - start) / 1000),
        }
      }
    } finally {
      this.release()
    }
  }

  /**
   * On a GPU, begins the gradients of the next batch behind the update under way, if the batch is there by now: they change no
   * parameter, so the loop still sees the model as each update left it, and the device never waits for the host.
   */
  async #begin(op: string, following: Promise<IteratorResult<Batch>>): Promise<Begun | undefined> {
    if (this.device === 'cpu') return undefined
    const next = await Promise.race([following, undefined]).catch(() => undefined)
    if (next === undefined || next.done) return undefined
    try {
      const input = this.#batch(op, next.value)
      await this.read('train', (handle) => handle.trainAhead(input))
      return { input }
    } catch (error) {
      // In its turn.
      return { error: error as Error }
    }
  }

  /** {@link SequenceModel.train} to its end; gives the epochs' events. */
  async fit(
    dataset: Dataset,
    options: TrainOptions & { onEvent?: (event: TrainEvent) => void } = {},
  ): Promise<TrainEvent[]> {
    known(this.alive('fit'), options, [...TRAIN, 'onEvent'])
    const { onEvent, ...rest } = options
    const history: TrainEvent[] = []
    for await (const event of this.train(dataset, rest)) {
      onEvent?.(event)
      if (event.type === 'epoch') history.push(event)
    }
    return history
  }

  get #classifies(): boolean {
    return this.#description.config.loss === 'crossEntropy'
  }

  /**
   * Forward and backward of a batch: parameter gradients accumulate, nothing is updated. For custom loops. Each batch of one
   * update has dropout masks of its own.
   */
  async accumulate(batch: Batch, options: { signal?: AbortSignal } = {}): Promise<void> {
    const op = this.alive('accumulate')
    this.acquire('accumulate')
    try {
      const input = this.#batch(op, batch)
      await this.ready('accumulate', (handle) => handle.trainBegin(trainConfig(op, {}), true))
      await this.#write('accumulate', (handle, cancel) => handle.accumulate(input, cancel), options.signal)
    } finally {
      this.release()
    }
  }

  /** The update after {@link SequenceModel.accumulate}. */
  async update(): Promise<{ step: number; loss: number; gradNorm: number }> {
    this.alive('update')
    this.acquire('update')
    try {
      const { step, loss, gradNorm } = await this.#write('update', (handle, cancel) => handle.update(cancel))
      return { step, loss, gradNorm }
    } finally {
      this.release()
    }
  }

  /** Swaps the parameters with their running average (training with `ema`); again swaps back. */
  swapAverage(): void {
    this.sync('swapAverage', (handle) => handle.swapAverage())
  }

  async #evaluate(
    op: string,
    dataset: Dataset,
    batchSize: number | undefined,
    signal?: AbortSignal,
  ): Promise<Metrics> {
    const total: Sums = { loss: 0, correct: 0, rows: 0 }
    for await (const batch of ahead(batches(op, dataset, batchSize))) {
      if (signal?.aborted) throw aborted(op, signal)
      const input = this.#batch(op, batch)
      const sums = await this.read('evaluate', (handle, cancel) => handle.evaluate(input, cancel), signal)
      total.loss += sums.loss
      total.correct += sums.correct
      total.rows += sums.rows
    }
    if (total.rows === 0) throw fail('ERR_S4_DATA', op, 'a dataset with at least one batch', 'none')
    return {
      loss: total.loss / total.rows,
      ...(this.#classifies ? { accuracy: total.correct / total.rows } : {}),
      rows: total.rows,
    }
  }

  /** Loss (and accuracy) over a dataset, with nothing changed. */
  async evaluate(dataset: Dataset, options: EvaluateOptions = {}): Promise<Metrics> {
    const op = this.alive('evaluate')
    known(op, options, ['batchSize', 'signal'])
    throwIfAborted(op, options.signal)
    return this.#evaluate(op, dataset, options.batchSize, options.signal)
  }

  /** The same weights as a recurrent network, from zero states. */
  stream(options: { batch?: number; rate?: number } = {}): Stream {
    const op = this.alive('stream')
    known(op, options, ['batch', 'rate'])
    const batch = size(op, 'batch', options.batch ?? 1, 1, 1 << 24)
    const rate = options.rate === undefined ? 1 : positive(op, 'rate', options.rate)
    const id = this.sync('stream', (handle) => handle.streamOpen(batch, rate))
    const { config } = this.#description
    const tokens = config.encoder === 'embedding'
    const width = config.encoder === 'none' ? config.features : config.input
    const output = native(() => this.handle.outputShape(batch, 1)).at(-1) as number
    return new Stream(
      {
        sync: (verb, call) => this.sync(verb, call),
        read: (verb, call, signal) => this.read(verb, call, signal),
        free: (call) => this.free(call),
        dtype: this.dtype,
      },
      id,
      { batch, input: tokens ? undefined : width, output },
    )
  }
}

/** A batch whose gradients are under way, or why they are not. */
interface Begun {
  input?: BatchInput
  error?: Error
}

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Frees the handle when what should fill it fails. */
async function made<R, M>(handle: NativeModel, work: Promise<R>, make: (result: R) => M): Promise<M> {
  try {
    return make(await nativeAsync(() => work))
  } catch (error) {
    handle.dispose()
    throw error
  }
}
