import { NativeModel } from '#binding'
import { NativeAccess } from './access.js'
import { ADAMW_OPTIONS, adamWConfig, type AdamWOptions } from './adamw.js'
import { inputWidth, nativeBatch, nativeInput } from './batch.js'
import {
  booleanOf,
  bytesOf,
  describe,
  filePath,
  rejectUnknownOptions,
  wholeNumber,
  textOf,
  type FilePath,
} from './check.js'
import type { Batch, Dataset, DatasetOfPass } from './dataset.js'
import { fail, callNative, callNativeAsync, throwIfAborted } from './error.js'
import {
  generate,
  score,
  type GeneratedStep,
  type GenerateOptions,
  type TokenOptions,
  type TokenSequences,
  type TokenShape,
} from './generate.js'
import { Handle } from './handle.js'
import {
  fromOfficialCall,
  toOfficialCall,
  type FromOfficialOptions,
  type ToOfficialOptions,
} from './official.js'
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
import { inspectModel, type Inspection, type InspectionOptions } from './inspection.js'
import { usualIntervalOf, type StreamTimeOptions } from './stream-times.js'
import { ModelStream } from './stream.js'
import { ModelStreams, type StreamsOptions } from './streams.js'
import {
  rateOf,
  rowLengths,
  stepsIntervals,
  tensor,
  type Dtype,
  type Shape,
  type Tensor,
  type TensorLike,
} from './tensor.js'
import {
  checkTopK,
  TRAIN_OPTIONS,
  type EvaluateOptions,
  type Metrics,
  type Progress,
  type TrainEvent,
  type TrainOptions,
} from './train.js'
import { evaluate, progressOf, train, type TrainedModel } from './training.js'

/** Options of one prediction. */
export interface PredictOptions {
  /** Length of each sequence, 1 to len. Outputs beyond it are 0. */
  lengths?: ArrayLike<number>
  /** Time from the step before to each step, as in {@link Batch.intervals}. Default 1 for all. */
  intervals?: TensorLike | ArrayLike<number>
  /** Ratio of sampling rates, by which every step size is multiplied: 2 for data sampled half as often. Default 1. */
  rate?: number
  /** How this call computes the SSM. Default as given to the model. */
  algorithm?: SsmAlgorithm
}

/** Options of what a checkpoint holds besides the parameters. */
export interface SaveOptions {
  /**
   * Whether it holds the state of training (moments, number of updates, schedule, random state), so that a resumed run
   * gives the same bits. Default true.
   */
  optimizer?: boolean
  /** A JSON text of your own, which `model.extra` is after loading. */
  extra?: string
}

/** What is to be saved. */
function saved(op: string, options: SaveOptions): { optimizer: boolean; extra: string | undefined } {
  const { optimizer = true, extra } = rejectUnknownOptions(op, options, ['optimizer', 'extra'])
  return {
    optimizer: booleanOf(op, 'optimizer', optimizer),
    extra: extra === undefined ? undefined : textOf(op, 'extra', extra),
  }
}

/** The addon's description of a model, which it gives as JSON. */
interface ModelDescription {
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
  /** Number format of parameters and results. */
  readonly dtype: Dtype
  /** Name of the device that it computes on: `'cpu'` or `'cuda:0'`. */
  readonly device: string
  /**
   * Every option with its value, defaults included: `SequenceModel.create(model.config)` makes a model of the same kind.
   */
  readonly config: Readonly<ModelConfig>
  /** Whether it can be streamed: its layers must be causal and not truncated. */
  readonly hasState: boolean
  /** The JSON text that was saved with the checkpoint, if any. */
  readonly extra: string | undefined
  readonly #trainedModel: TrainedModel
  #notes: readonly string[] = []

  private constructor(handle: NativeModel, algorithm: SsmAlgorithm, extra?: string) {
    const access = new NativeAccess('SequenceModel', handle)
    super(access)
    const { config, dtype, device, hasState } = JSON.parse(
      callNative(() => handle.describe()),
    ) as ModelDescription
    this.dtype = dtype
    this.device = device
    this.config = publicConfig(config)
    this.hasState = hasState
    this.extra = extra
    const progress = progressOf(callNative(() => handle.trainState()))
    this.#trainedModel = { access, config: this.config, dtype, device, algorithm, progress }
  }

  /** How far training is, in the last run or in that of the checkpoint that the model was loaded from. */
  get progress(): Progress {
    return this.#trainedModel.progress
  }

  /**
   * Makes an empty native handle, lets `fill` make or load the model in it, and gives the model of the API. Frees the
   * handle where that fails.
   */
  static async #withHandle(
    algorithm: SsmAlgorithm,
    fill: (handle: NativeModel) => Promise<string | null | void>,
  ): Promise<SequenceModel> {
    const handle = callNative(() => new NativeModel())
    try {
      const extra = await callNativeAsync(() => fill(handle))
      return new SequenceModel(handle, algorithm, extra ?? undefined)
    } catch (error) {
      handle.dispose()
      throw error
    }
  }

  /** Makes a new model. Its initial values are drawn from the option `seed`. */
  static async create(options: SequenceModelOptions): Promise<SequenceModel> {
    const { config, host, algorithm } = nativeOptions('SequenceModel', options)
    return SequenceModel.#withHandle(algorithm, (handle) => handle.create(config, host))
  }

  /** Loads a model from a checkpoint file that {@link SequenceModel.save} wrote. */
  static async load(path: FilePath, options: LoadOptions = {}): Promise<SequenceModel> {
    const op = 'SequenceModel.load'
    const { algorithm, host } = nativeLoadOptions(op, options)
    const file = filePath(op, path)
    return SequenceModel.#withHandle(algorithm, (handle) => handle.load(file, host))
  }

  /** Loads a model from the bytes that {@link SequenceModel.toBytes} gave. */
  static async fromBytes(bytes: Uint8Array, options: LoadOptions = {}): Promise<SequenceModel> {
    const op = 'SequenceModel.fromBytes'
    const { algorithm, host } = nativeLoadOptions(op, options)
    const given = bytesOf(op, 'bytes', bytes)
    return SequenceModel.#withHandle(algorithm, (handle) => handle.loadBytes(given, host))
  }

  /**
   * Writes a checkpoint (safetensors). It goes to a temporary file, which is then renamed: a reader finds the old file or
   * the new one, never a part. A symbolic link stays, and the file that it leads to is replaced; a device or a pipe, such as
   * `/dev/stdout`, is written to. Two saves of one model are the same bytes.
   */
  async save(path: FilePath, options: SaveOptions = {}): Promise<void> {
    const op = this.access.checkLive('save')
    const { optimizer, extra } = saved(op, options)
    const file = filePath(op, path)
    await this.access.read('save', (handle) => handle.save(file, optimizer, extra))
  }

  /** The bytes of the checkpoint that {@link SequenceModel.save} would write. */
  async toBytes(options: SaveOptions = {}): Promise<Uint8Array> {
    const { optimizer, extra } = saved(this.access.checkLive('toBytes'), options)
    return this.access.read('toBytes', (handle) => handle.saveBytes(optimizer, extra))
  }

  /**
   * Loads a model that the official PyTorch S4 code trained, by its `train.py` (with the names of version 4 or 3) or its
   * `example.py`: from a `.pt` or `.ckpt` file (a zip archive of `torch.save`, of which no code is run), or safetensors.
   * Layers, norms, encoder, decoder and pooling are mapped; C is solved in float64 where the file holds C̃; {@link notes}
   * says what had to be assumed. `ERR_S4_CHECKPOINT` names the key or the option that has no counterpart here, and why a
   * file cannot be read: pickles of before PyTorch 1.6, whole modules instead of state dicts, anything that would run code.
   * The default number format is `'f32'`; the state of an official optimiser is not loaded.
   *
   * @example
   * const model = await SequenceModel.fromOfficial('epoch=9.ckpt')
   * console.log(model.config, model.notes)
   */
  static async fromOfficial(path: FilePath, options: FromOfficialOptions = {}): Promise<SequenceModel> {
    const { file, json, host, algorithm } = fromOfficialCall('SequenceModel.fromOfficial', path, options)
    let notes: string[] = []
    const model = await SequenceModel.#withHandle(algorithm, async (handle) => {
      notes = await handle.loadOfficial(file, json, host)
    })
    model.#notes = Object.freeze(notes)
    return model
  }

  /** A sentence on each thing that {@link SequenceModel.fromOfficial} had to assume. Empty for any other model. */
  get notes(): readonly string[] {
    return this.#notes
  }

  /**
   * The parameters as an official state dict, in the bytes of a safetensors file: with the names, shapes and types of the
   * file `original` that {@link SequenceModel.fromOfficial} loaded. A tensor that has not changed since is the same bit for
   * bit; a C that has changed is written as C, with `l_kernel` 0, where the file held C̃.
   */
  async toOfficial(original: FilePath, options: ToOfficialOptions = {}): Promise<Uint8Array> {
    const [file, json] = toOfficialCall(this.access.checkLive('toOfficial'), original, options)
    return this.access.read('toOfficial', (handle) => handle.toOfficial(file, json))
  }

  /** Checks the input and the options of a prediction, and converts them to the addon's types. */
  #predictCall(op: string, x: TensorLike, options: PredictOptions, more: readonly string[] = []) {
    const names = ['lengths', 'intervals', 'rate', 'algorithm', ...more]
    const given: PredictOptions & { signal?: AbortSignal } = rejectUnknownOptions(op, options, names)
    const { data, batch, len } = nativeInput(op, this.#trainedModel, x)
    const { algorithm = this.#trainedModel.algorithm } = given
    const call = {
      lengths: rowLengths(op, given.lengths, batch),
      intervals: stepsIntervals(op, given.intervals, [batch, len], this.dtype),
      rate: rateOf(op, given.rate),
      algorithm: checkAlgorithm(op, algorithm),
    }
    return { data, batch, len, call, signal: given.signal }
  }

  /**
   * Computes the outputs for whole sequences, (batch, len, output), or (batch, output) with pooling, without holding up the
   * event loop.
   */
  async predict(x: TensorLike, options: PredictOptions & { signal?: AbortSignal } = {}): Promise<Tensor> {
    const op = this.access.checkLive('predict')
    const { data, batch, len, call, signal } = this.#predictCall(op, x, options, ['signal'])
    const result = await this.access.read(
      'predict',
      (handle, cancel) => handle.predictAsync(data, batch, len, call, cancel),
      signal,
    )
    return tensor(result.y, this.#outputShape(batch, len, result.y.length))
  }

  /** Shape of an output of `count` numbers. */
  #outputShape(batch: number, len: number, count: number): Shape {
    const pooled = this.config.pooling !== 'none'
    return pooled ? [batch, count / batch] : [batch, len, count / (batch * len)]
  }

  /** As {@link SequenceModel.predict}, but synchronous: for calls that take little time. */
  predictSync(x: TensorLike, options: PredictOptions = {}): Tensor {
    const { data, batch, len, call } = this.#predictCall(this.access.checkLive('predictSync'), x, options)
    const result = this.access.sync('predictSync', (handle) => handle.predict(data, batch, len, call))
    return tensor(result.y, this.#outputShape(batch, len, result.y.length))
  }

  /**
   * What the model has learned, in figures and in words: of each layer its timescales in steps and seconds, how far back its kernels
   * reach, eigenvalues and frequency response, what does nothing, and whether its step sizes Δ fit the length of the data; with `data`
   * also which inputs an output depends on. Computed in float64; the parameters and gradients stay as they are.
   *
   * @example
   * const { advice, layers, text } = await model.inspect({ data: batch, samplingInterval: 1 / 360 })
   */
  async inspect(options: InspectionOptions = {}): Promise<Inspection> {
    return inspectModel(this.access, this.access.checkLive('inspect'), this.#trainedModel, options)
  }

  /** What the tokens of a generation are. */
  #tokenShape(): TokenShape {
    const { config, dtype } = this
    return { classes: config.output, width: inputWidth(config), dtype }
  }

  /**
   * Continues a prompt, or each of several of any lengths: yields a step with the next token of each, as they come off the event
   * loop. For models whose outputs are the logits of their own input: an embedding, as many outputs as tokens, `loss`
   * crossEntropy, no pooling; or with the option `inputs` other encoders. `ERR_S4_UNSUPPORTED` for others, and for two-sided
   * layers. The prompt is taken as a whole sequence is, and then each token by the recurrence, so that neither time nor memory of
   * a token depends on how many were before it.
   *
   * @example
   * for await (const { tokens: [token] } of model.generate([1, 2, 3], { maxTokens: 100, temperature: 0.8, topP: 0.95, seed: 1 })) …
   */
  generate(prompt: TokenSequences, options: GenerateOptions = {}): AsyncGenerator<GeneratedStep, void, void> {
    return generate(this.access, this.access.checkLive('generate'), this.#tokenShape(), prompt, options)
  }

  /**
   * The logarithm of the probability of each token but the first of a sequence, given those before it: an array for each sequence,
   * whose element i is that of token i + 1. For the models of {@link SequenceModel.generate}.
   */
  async score(tokens: TokenSequences, options: TokenOptions = {}): Promise<Float64Array[]> {
    return score(this.access, this.access.checkLive('score'), this.#tokenShape(), tokens, options)
  }

  /**
   * The first `len` values of the convolution kernel K̄ of a block, (channels, features, len). Two-sided blocks have
   * 2·channels, the causal ones first.
   */
  kernel(block: number, len: number, options: { rate?: number } = {}): Tensor {
    const op = this.access.checkLive('kernel')
    const rate = rateOf(op, rejectUnknownOptions(op, options, ['rate']).rate)
    wholeNumber(op, 'block', block, 0, 1 << 20)
    wholeNumber(op, 'len', len, 1, 2 ** 30)
    const data = this.access.sync('kernel', (handle) => handle.kernel(block, len, rate))
    const { features } = this.config
    return tensor(data, [data.length / (features * len), features, len])
  }

  /**
   * Trains the model, and yields an event after every update and after every epoch. Leaving the loop over the events with
   * `break` ends training after the update under way; an AbortSignal ends it within one update, with `ERR_S4_ABORTED`.
   * Where a loss or a gradient is not finite, `ERR_S4_NONFINITE` names update and tensor, and the parameters stay as they
   * were before that update.
   */
  train(
    dataset: Dataset | DatasetOfPass,
    options: TrainOptions = {},
  ): AsyncGenerator<TrainEvent, void, void> {
    return train(this.#trainedModel, dataset, options)
  }

  /** Runs {@link SequenceModel.train} to its end; gives the events of the epochs. */
  async fit(
    dataset: Dataset | DatasetOfPass,
    options: TrainOptions & { onEvent?: (event: TrainEvent) => void } = {},
  ): Promise<TrainEvent[]> {
    const op = this.access.checkLive('fit')
    const { onEvent, ...trainOptions } = rejectUnknownOptions(op, options, [...TRAIN_OPTIONS, 'onEvent'])
    if (onEvent !== undefined && typeof onEvent !== 'function')
      throw fail('ERR_S4_VALUE', op, `a function for 'onEvent'`, describe(onEvent))
    const history: TrainEvent[] = []
    for await (const event of this.train(dataset, trainOptions)) {
      onEvent?.(event)
      if (event.type === 'epoch') history.push(event)
    }
    return history
  }

  /**
   * Computes the gradients of a batch without an update, for loops of your own. Batches since the last update are joined:
   * loss and gradients are those of the mean by weight over the targets of all of them. Each batch has dropout masks and
   * batch statistics of its own. A signal that fires before the computation has begun leaves the batch out
   * (`ERR_S4_ABORTED`); one that fires later lets it end, and the batch is part of the update.
   */
  async accumulate(batch: Batch, options: { signal?: AbortSignal } = {}): Promise<void> {
    const op = this.access.checkLive('accumulate')
    const { signal } = rejectUnknownOptions(op, options, ['signal'])
    throwIfAborted(op, signal)
    const input = nativeBatch(op, this.#trainedModel, batch, 'batch')
    await this.access.write('accumulate', () =>
      this.access.change('accumulate', (handle, cancel) => handle.accumulate(input, cancel), signal),
    )
  }

  /**
   * Makes one update from all batches that {@link SequenceModel.accumulate} was given since the last. Options given here
   * hold for later updates too, unless this one fails: then the options are those before. Where no target counts there is no
   * update, and `loss` is NaN.
   */
  async update(options: AdamWOptions = {}): Promise<{ step: number; loss: number; gradNorm: number }> {
    const op = this.access.checkLive('update')
    const given = rejectUnknownOptions(op, options, ADAMW_OPTIONS)
    const config = JSON.stringify(adamWConfig(op, given))
    return this.access.write('update', async () => {
      const { step, loss, gradNorm } = await this.access.change('update', (handle, cancel) =>
        handle.update(config, cancel),
      )
      const state = await this.access.afterReads('update', (handle) => handle.trainState())
      this.#trainedModel.progress = progressOf(state)
      return { step, loss, gradNorm }
    })
  }

  /** Exchanges the parameters with their running average (training with `ema`); a second call exchanges them back. */
  swapAverage(): void {
    this.access.syncWrite('swapAverage', (handle) => handle.swapAverage())
  }

  /**
   * Mean loss and metrics over a dataset: with cross-entropy accuracy, perplexity, bits a dimension, confusion and F1, else mean squared and
   * absolute errors, of distributions also their CRPS. Changes nothing.
   */
  async evaluate(dataset: Dataset, options: EvaluateOptions = {}): Promise<Metrics> {
    const op = this.access.checkLive('evaluate')
    const { batchSize, topK, signal } = rejectUnknownOptions(op, options, ['batchSize', 'topK', 'signal'])
    throwIfAborted(op, signal)
    const call = { topK: checkTopK(op, topK, this.config), signal }
    return evaluate(op, this.#trainedModel, { what: 'dataset', dataset, batchSize }, call)
  }

  /** The model as a recurrent network, which is given inputs piece by piece. It starts from zero states. */
  stream(options: { batch?: number; rate?: number } & StreamTimeOptions = {}): ModelStream {
    const op = this.access.checkLive('stream')
    const given = rejectUnknownOptions(op, options, ['batch', 'rate', 'usualInterval'])
    const usual = usualIntervalOf(op, given.usualInterval)
    const { batch: rows = 1 } = given
    const batch = wholeNumber(op, 'batch', rows, 1, 1 << 24)
    const rate = rateOf(op, given.rate)
    const id = this.access.sync('stream', (handle) => handle.streamOpen(batch, rate))
    const output = callNative(() => this.access.handle.outputShape(batch, 1)).at(-1) as number
    const input = inputWidth(this.config)
    return ModelStream.open(this.access, this.dtype, id, { usual, batch, input, output })
  }

  /**
   * Many live streams of the model, which come and go and are computed together. See {@link ModelStreams}.
   */
  streams(options: StreamsOptions): ModelStreams {
    const op = this.access.checkLive('streams')
    const given = rejectUnknownOptions(op, options, [
      'slots',
      'rate',
      'tickMilliseconds',
      'tickSteps',
      'maxWaiting',
      'usualInterval',
    ])
    const usual = usualIntervalOf(op, given.usualInterval)
    const slots = wholeNumber(op, 'slots', given.slots, 1, 1 << 24)
    const rate = rateOf(op, given.rate)
    const { tickMilliseconds = 0, tickSteps, maxWaiting = 1 << 16 } = given
    wholeNumber(op, 'tickMilliseconds', tickMilliseconds, 0, 2 ** 31 - 1)
    if (tickSteps !== undefined) wholeNumber(op, 'tickSteps', tickSteps)
    wholeNumber(op, 'maxWaiting', maxWaiting)
    const {
      id,
      ofPush,
      pushes,
      stepsOfPush = Infinity,
    } = this.access.sync('streams', (handle) => handle.slotsOpen(slots, rate))
    const output = callNative(() => this.access.handle.outputShape(1, 1)).at(-1) as number
    return ModelStreams.make(this.access, this.dtype, id, {
      slots,
      slotsOfPush: ofPush,
      pushesAtATime: pushes,
      stepsOfPush,
      tickMilliseconds,
      tickSteps: tickSteps ?? Infinity,
      maxWaiting,
      usual,
      input: inputWidth(this.config),
      output,
    })
  }
}
