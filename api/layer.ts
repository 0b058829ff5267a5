import { NativeLayer } from '#binding'
import type { CallOptions } from '#binding'
import { NativeAccess } from './access.js'
import {
  booleanOf,
  filePath,
  optionsObject,
  rejectUnknownOptions,
  wholeNumber,
  type FilePath,
} from './check.js'
import { fail, callNative } from './error.js'
import { Handle } from './handle.js'
import {
  checkAlgorithm,
  nativeLoadOptions,
  nativeOptions,
  publicConfig,
  type LayerConfig,
  type LoadOptions,
  type S4LayerOptions,
  type SsmAlgorithm,
} from './options.js'
import { readLayer, RUNNING, saveLayer, withValues, type LayerKind } from './saved.js'
import {
  allocate,
  checkTensor,
  floats,
  rateOf,
  rowLengths,
  floatsOfShape,
  shapeText,
  stepIntervals,
  stepsIntervals,
  tensor,
  type Dtype,
  type Floats,
  type Shape,
  type Tensor,
  type TensorLike,
} from './tensor.js'

/** Options of one forward. */
export interface ForwardOptions {
  /** State before the first time step, (batch, features, state/2, 2). Default zero. */
  state?: TensorLike
  /** Length of each sequence, 1 to len. Each gives what it would give alone, and zeros beyond its length. */
  lengths?: ArrayLike<number>
  /** Time from the step before to each step, as in {@link Batch.intervals}. Default 1 for all. */
  intervals?: TensorLike | ArrayLike<number>
  /** Multiplies every step size: 2 for data sampled half as often. Default 1. */
  rate?: number
  /** How this call computes the SSM. Default as given to the constructor. */
  algorithm?: SsmAlgorithm
  /** Whether to keep the values that {@link S4Layer.backward} needs. Default true; false takes less memory. */
  save?: boolean
  /**
   * Whether a block uses dropout, and statistics of the batch in a batch norm. Each such forward draws other dropout masks,
   * from the block's seed and the number of training forwards so far: a new block of the same seed draws the same again.
   * Default false.
   */
  training?: boolean
  /**
   * Whether to give the state after each sequence's last time step. Default true. With `fft` that takes about as long as
   * the convolution.
   */
  finalState?: boolean
}

/** Result of a forward. */
export interface ForwardResult {
  /** Output, (batch, len, channels·features). */
  y: Tensor
  /**
   * State after each sequence's last time step, (batch, features, state/2, 2), if it was asked for. Only layers that are
   * causal and not truncated have one.
   */
  state?: Tensor
}

/** Gradients that a backward gives. */
export interface BackwardResult {
  /** Gradient of the input, (batch, len, features). */
  du: Tensor
  /** Gradient of the state that the forward started from, if it was given one. */
  dstate?: Tensor
}

/** Result of one time step. */
export interface StepResult {
  /** Output, (batch, channels·features). */
  y: Tensor
  /** State after this time step, (batch, features, state/2, 2). */
  state: Tensor
}

/** The addon's description of a layer or block, which it gives as JSON. */
interface LayerDescription {
  config: Record<string, unknown> & { features: number; state: number }
  dtype: Dtype
  device: string
  outputs: number
  kernelChannels: number
  hasState: boolean
}

const FORWARD_OPTIONS = [
  'state',
  'lengths',
  'intervals',
  'rate',
  'algorithm',
  'save',
  'training',
  'finalState',
  'signal',
] as const

const NEEDS_STATE = 'a causal layer that is not truncated'

/** The methods that {@link S4Layer} and {@link S4Block} have in common. */
export abstract class SsmHandle extends Handle {
  /** @internal */
  declare protected readonly access: NativeAccess<NativeLayer>
  /** Number format of parameters and results. */
  readonly dtype: Dtype
  /** Name of the device that it computes on: `'cpu'` or `'cuda:0'`. */
  readonly device: string
  /** Every option with its value, defaults included. */
  readonly config: Readonly<LayerConfig>
  /** Whether it has a recurrent state: it must be causal and not truncated. */
  readonly hasState: boolean
  readonly #features: number
  readonly #state: number
  readonly #outputs: number
  readonly #kernelChannels: number
  readonly #algorithm: SsmAlgorithm
  #forwardShape: Shape | undefined

  /** @internal */
  protected constructor(label: string, handle: NativeLayer, algorithm: SsmAlgorithm) {
    super(new NativeAccess(label, handle))
    const d = JSON.parse(callNative(() => handle.describe())) as LayerDescription
    this.dtype = d.dtype
    this.device = d.device
    this.config = publicConfig(d.config)
    this.hasState = d.hasState
    this.#features = d.config.features
    this.#state = d.config.state
    this.#outputs = d.outputs
    this.#kernelChannels = d.kernelChannels
    this.#algorithm = algorithm
  }

  /** Shape of the state of so many sequences. */
  #stateShape(batch: number): Shape {
    return [batch, this.#features, this.#state / 2, 2]
  }

  /** Checks the input and the options of a forward, and converts them to the addon's types. */
  #forwardCall(
    op: string,
    u: TensorLike,
    options: ForwardOptions,
  ): { data: Floats; batch: number; len: number; call: CallOptions } {
    const given = rejectUnknownOptions(op, options, FORWARD_OPTIONS)
    const x = checkTensor(op, 'u', u, 3)
    const [batch, len, features] = x.shape as [number, number, number]
    if (features !== this.#features)
      throw fail('ERR_S4_SHAPE', op, `u (batch, len, ${this.#features})`, shapeText(x.shape))
    const {
      state,
      lengths,
      intervals,
      rate,
      algorithm,
      save = true,
      training = false,
      finalState = true,
    } = given
    if (state !== undefined && !this.hasState)
      throw fail('ERR_S4_UNSUPPORTED', op, `${NEEDS_STATE}, to start from a state`, 'a state')
    const call: CallOptions = {
      state:
        state === undefined
          ? undefined
          : floatsOfShape(op, 'state', state, this.#stateShape(batch), this.dtype),
      lengths: rowLengths(op, lengths, batch),
      intervals: stepsIntervals(op, intervals, [batch, len], this.dtype),
      rate: rateOf(op, rate),
      algorithm: checkAlgorithm(op, algorithm === undefined ? this.#algorithm : algorithm),
      wantState: booleanOf(op, 'finalState', finalState) && this.hasState,
      save: booleanOf(op, 'save', save),
      training: booleanOf(op, 'training', training),
    }
    return { data: floats(op, 'u', x.data, this.dtype), batch, len, call }
  }

  /** The result of a forward as the API gives it. With `save` its shape is kept for the check of a backward. */
  #forwardResult(
    result: { y: Floats; state?: Floats | null },
    batch: number,
    len: number,
    save: boolean,
  ): ForwardResult {
    if (save) this.#forwardShape = [batch, len]
    const y = tensor(result.y, [batch, len, this.#outputs])
    return result.state == null ? { y } : { y, state: tensor(result.state, this.#stateShape(batch)) }
  }

  /** Computes the output for whole sequences: u (batch, len, features) → y (batch, len, channels·features). */
  forward(u: TensorLike, options: ForwardOptions = {}): ForwardResult {
    const op = this.access.checkLive('forward')
    const { data, batch, len, call } = this.#forwardCall(op, u, options)
    const y = allocate(op, [batch, len, this.#outputs], this.dtype)
    const state = this.access.sync('forward', (handle) => handle.forward(data, batch, len, call, y))
    return this.#forwardResult({ y, state }, batch, len, call.save === true)
  }

  /** As {@link S4Layer.forward}, without holding up the event loop. */
  async forwardAsync(
    u: TensorLike,
    options: ForwardOptions & { signal?: AbortSignal } = {},
  ): Promise<ForwardResult> {
    const op = this.access.checkLive('forwardAsync')
    const given = optionsObject(op, options, FORWARD_OPTIONS) as typeof options
    const { data, batch, len, call } = this.#forwardCall(op, u, given)
    const result = await this.access.read(
      'forwardAsync',
      (handle, cancel) => handle.forwardAsync(data, batch, len, call, cancel),
      given.signal,
    )
    return this.#forwardResult(result, batch, len, call.save === true)
  }

  /** Checks the gradients that a backward is given, and converts them to the addon's types. */
  #outputGradients(
    op: string,
    dy: TensorLike,
    { dstate }: { dstate?: TensorLike },
  ): { dy: Floats; dstate?: Floats; batch: number; len: number } {
    if (this.#forwardShape === undefined)
      throw fail('ERR_S4_VALUE', op, 'a forward (with save) before it', 'none')
    const [batch, len] = this.#forwardShape as [number, number]
    return {
      dy: floatsOfShape(op, 'dy', dy, [batch, len, this.#outputs], this.dtype),
      ...(dstate !== undefined && {
        dstate: floatsOfShape(op, 'dstate', dstate, this.#stateShape(batch), this.dtype),
      }),
      batch,
      len,
    }
  }

  /** The result of a backward as the API gives it. */
  #backwardResult(
    result: { du?: Floats; dstate?: Floats | null },
    batch: number,
    len: number,
  ): BackwardResult {
    const du = tensor(result.du as Floats, [batch, len, this.#features])
    return result.dstate == null ? { du } : { du, dstate: tensor(result.dstate, this.#stateShape(batch)) }
  }

  /**
   * Gradients of sum(y·dy) + sum(state·dstate) for the last forward that saved its values. Those of parameters are added up
   * until {@link S4Layer.zeroGrad}.
   */
  backward(dy: TensorLike, options: { dstate?: TensorLike } = {}): BackwardResult {
    const op = this.access.checkLive('backward')
    const g = this.#outputGradients(op, dy, rejectUnknownOptions(op, options, ['dstate']))
    const du = allocate(op, [g.batch, g.len, this.#features], this.dtype)
    const dstate = this.access.sync('backward', (handle) => handle.backward(g.dy, g.dstate, du))
    return this.#backwardResult({ du, dstate }, g.batch, g.len)
  }

  /** As {@link S4Layer.backward}, without holding up the event loop. */
  async backwardAsync(
    dy: TensorLike,
    options: { dstate?: TensorLike; signal?: AbortSignal } = {},
  ): Promise<BackwardResult> {
    const op = this.access.checkLive('backwardAsync')
    const given = rejectUnknownOptions(op, options, ['dstate', 'signal'])
    const g = this.#outputGradients(op, dy, given)
    return this.access.write('backwardAsync', async () => {
      const result = await this.access.read(
        'backwardAsync',
        (handle, cancel) => handle.backwardAsync(g.dy, g.dstate, cancel),
        given.signal,
      )
      return this.#backwardResult(result, g.batch, g.len)
    })
  }

  /**
   * One sample as a recurrence in O(state): u (batch, features), state as {@link S4Layer.initialState} gives it.
   * `interval`: this step as a multiple of the training interval, one number or one a row. `ERR_S4_NONFINITE` for an output or a
   * next state that is not finite.
   */
  step(
    u: TensorLike,
    state: TensorLike,
    options: { interval?: number | ArrayLike<number>; rate?: number } = {},
  ): StepResult {
    const op = this.access.checkLive('step')
    const given = rejectUnknownOptions(op, options, ['interval', 'rate'])
    if (!this.hasState) throw fail('ERR_S4_UNSUPPORTED', op, NEEDS_STATE, 'one without a state')
    const input = checkTensor(op, 'u', u, 2)
    const [batch, features] = input.shape as [number, number]
    if (features !== this.#features)
      throw fail('ERR_S4_SHAPE', op, `u (batch, ${this.#features})`, shapeText(input.shape))
    const x = floatsOfShape(op, 'state', state, this.#stateShape(batch), this.dtype)
    const rate = rateOf(op, given.rate)
    const interval = stepIntervals(op, given.interval, [batch], this.dtype)
    const data = floats(op, 'u', input.data, this.dtype)
    const result = this.access.sync('step', (handle) => handle.step(data, x, interval, batch, rate))
    return {
      y: tensor(result.y, [batch, this.#outputs]),
      state: tensor(result.state as Floats, this.#stateShape(batch)),
    }
  }

  /** A zero state for so many sequences, (batch, features, state/2, 2). */
  initialState(batch = 1): Tensor {
    const op = this.access.checkLive('initialState')
    const n = wholeNumber(op, 'batch', batch, 1, 2 ** 24)
    if (!this.hasState) throw fail('ERR_S4_UNSUPPORTED', op, NEEDS_STATE, 'one without a state')
    return tensor(
      this.access.sync('initialState', (handle) => handle.initialState(n)),
      this.#stateShape(n),
    )
  }

  /**
   * The first `len` values of the convolution kernel K̄, (channels, features, len). Two-sided layers have 2·channels, the
   * causal ones first.
   */
  kernel(len: number, options: { rate?: number } = {}): Tensor {
    const op = this.access.checkLive('kernel')
    const { rate: given } = rejectUnknownOptions(op, options, ['rate'])
    const n = wholeNumber(op, 'len', len, 1, 2 ** 30)
    const rate = rateOf(op, given)
    return tensor(
      this.access.sync('kernel', (handle) => handle.kernel(n, rate)),
      [this.#kernelChannels, this.#features, n],
    )
  }

  /** As {@link S4Layer.kernel}, without holding up the event loop. */
  async kernelAsync(len: number, options: { rate?: number; signal?: AbortSignal } = {}): Promise<Tensor> {
    const op = this.access.checkLive('kernelAsync')
    const given = rejectUnknownOptions(op, options, ['rate', 'signal'])
    const n = wholeNumber(op, 'len', len, 1, 2 ** 30)
    const rate = rateOf(op, given.rate)
    const kernel = await this.access.read(
      'kernelAsync',
      (handle, cancel) => handle.kernelAsync(n, rate, cancel),
      given.signal,
    )
    return tensor(kernel, [this.#kernelChannels, this.#features, n])
  }

  /** Writes its parameters and its options (safetensors), to a temporary file that is then renamed, as {@link SequenceModel.save} does. */
  async save(path: FilePath): Promise<void> {
    const op = this.access.checkLive('save')
    await saveLayer(this, this.kind, filePath(op, path))
  }

  /** @internal What it is, in a file. */
  protected abstract readonly kind: LayerKind

  /** @internal Running means and variances of a batch norm, for a file; undefined without one. */
  runningStatistics(): Tensor | undefined {
    const values = this.access.sync('save', (handle) => handle.runningStatistics())
    return values === null ? undefined : tensor(values, [2, this.#features])
  }
  /** @internal Replaces them. */
  setRunningStatistics(statistics: TensorLike): void {
    const values = floatsOfShape('load', RUNNING, statistics, [2, this.#features], this.dtype)
    this.access.syncWrite('load', (handle) => handle.setRunningStatistics(values))
  }

  /** @internal For {@link AdamW}: calls the handle while nothing else does. */
  callAdam<R>(op: string, call: (handle: NativeLayer) => R): R {
    return this.access.sync(op, call)
  }
  /** @internal For {@link AdamW}: frees the moments of this number. */
  closeAdam(id: number): void {
    this.access.free((handle) => handle.adamClose(id))
  }
}

/**
 * One S4 or S4D layer: y = K̄∗u + D·u, the linear time-invariant map of the paper, with gradients.
 *
 * @example
 * const layer = new S4Layer({ features: 256, state: 64 })
 * const { y, state } = layer.forward({ data, shape: [batch, len, 256] })
 * const { du } = layer.backward(dy)
 */
export class S4Layer extends SsmHandle {
  constructor(options: S4LayerOptions) {
    const { config, host, algorithm } = nativeOptions('S4Layer', options)
    const handle = callNative(() => new NativeLayer('layer', config, host))
    super('S4Layer', handle, algorithm)
  }

  /** @internal */
  protected readonly kind = 'S4Layer'

  /** Loads a layer that {@link S4Layer.save} wrote; `ERR_S4_CHECKPOINT` for another file. */
  static async load(path: FilePath, options: LoadOptions = {}): Promise<S4Layer> {
    const op = 'S4Layer.load'
    nativeLoadOptions(op, options)
    const { config, values } = await readLayer(op, 'S4Layer', filePath(op, path), options)
    return withValues(op, new S4Layer(config), values)
  }
}
