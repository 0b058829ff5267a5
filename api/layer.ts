import { NativeLayer } from '#binding'
import type { CallOptions, Floats } from '#binding'
import { fail, native } from './error.js'
import { Handle } from './handle.js'
import { checkAlgorithm, split, type Algorithm, type S4LayerOptions } from './options.js'
import {
  boolean,
  checkTensor,
  floats,
  known,
  positive,
  room,
  rowLengths,
  shaped,
  size,
  tensor,
} from './tensor.js'
import type { Dtype, Shape, Tensor, TensorLike } from './tensor.js'

/** Options of one forward. */
export interface ForwardOptions {
  /** State before the first sample (batch, features, state/2, 2); zero by default. */
  state?: TensorLike
  /** Length of each row, 1 to len; a row gives what it would give alone and zeros beyond. */
  lengths?: ArrayLike<number>
  /** Multiplies every step size: 2 for data sampled half as often. Default 1. */
  rate?: number
  /** Default that of the constructor. */
  algorithm?: Algorithm
  /** Keep what {@link S4Layer.backward} needs. Default true; false saves memory. */
  save?: boolean
  /**
   * Dropout and batch statistics on (blocks). Each such forward draws new dropout masks, from the block's seed and how many
   * it has done: a new block of the same seed draws the same ones again. Default false.
   */
  training?: boolean
  /** Give the state after each row's last sample. Default true; with `fft` it costs about as much as the convolution. */
  finalState?: boolean
}

/** What a forward gives. */
export interface ForwardResult {
  /** (batch, len, channels·features) */
  y: Tensor
  /** State after each row's last sample (batch, features, state/2, 2), if asked for; layers that are causal and not truncated. */
  state?: Tensor
}

/** What a backward gives. */
export interface BackwardResult {
  /** (batch, len, features) */
  du: Tensor
  /** Gradient of the state that forward was given. */
  dstate?: Tensor
}

/** What a step gives. */
export interface StepResult {
  /** (batch, channels·features) */
  y: Tensor
  /** The state after this sample. */
  state: Tensor
}

interface Description {
  config: Record<string, unknown> & { features: number; state: number }
  dtype: Dtype
  device: string
  outputs: number
  kernelChannels: number
  hasState: boolean
}

const FORWARD = ['state', 'lengths', 'rate', 'algorithm', 'save', 'training', 'finalState', 'signal'] as const

/** The verbs that {@link S4Layer} and {@link S4Block} share. */
export abstract class SsmHandle extends Handle<NativeLayer> {
  /** Number format. */
  readonly dtype: Dtype
  /** `'cpu'`, `'cuda:0'`. */
  readonly device: string
  /** Every option with its value. */
  readonly config: Readonly<Record<string, unknown>>
  /** Whether it can carry a state: causal and not truncated. */
  readonly hasState: boolean
  readonly #features: number
  readonly #state: number
  readonly #outputs: number
  readonly #kernelChannels: number
  readonly #algorithm: Algorithm
  #shape: Shape | undefined

  /** @internal */
  protected constructor(handle: NativeLayer, algorithm: Algorithm) {
    super(handle)
    const d = JSON.parse(native(() => handle.describe())) as Description
    this.dtype = d.dtype
    this.device = d.device
    this.config = Object.freeze(d.config)
    this.hasState = d.hasState
    this.#features = d.config.features
    this.#state = d.config.state
    this.#outputs = d.outputs
    this.#kernelChannels = d.kernelChannels
    this.#algorithm = algorithm
  }

  #stateShape(batch: number): Shape {
    return [batch, this.#features, this.#state / 2, 2]
  }

  #prepare(
    op: string,
    u: TensorLike,
    options: ForwardOptions,
  ): { data: Floats; batch: number; len: number; call: CallOptions } {
    known(op, options, FORWARD)
    const [batch, len, features] = checkTensor(op, 'u', u, 3).shape as [number, number, number]
    if (features !== this.#features) {
      throw fail('ERR_S4_SHAPE', op, `u (batch, len, ${this.#features})`, `[${u.shape.join(', ')}]`)
    }
    const { state, lengths, rate, algorithm, save = true, training = false, finalState = true } = options
    if (state !== undefined && !this.hasState) {
      throw fail(
        'ERR_S4_UNSUPPORTED',
        op,
        'a causal layer that is not truncated, to start from a state',
        'a state',
      )
    }
    const call: CallOptions = {
      state:
        state === undefined ? undefined : shaped(op, 'state', state, this.#stateShape(batch), this.dtype),
      lengths: rowLengths(op, lengths, batch),
      rate: rate === undefined ? 1 : positive(op, 'rate', rate),
      algorithm: checkAlgorithm(op, algorithm ?? this.#algorithm),
      wantState: this.hasState && boolean(op, 'finalState', finalState),
      save: boolean(op, 'save', save),
      training: boolean(op, 'training', training),
    }
    return { data: floats(op, 'u', u.data, this.dtype), batch, len, call }
  }

  #result(out: { y: Floats; state?: Floats }, batch: number, len: number, save: boolean): ForwardResult {
    if (save) this.#shape = [batch, len]
    const y = tensor(out.y, [batch, len, this.#outputs])
    return out.state === undefined ? { y } : { y, state: tensor(out.state, this.#stateShape(batch)) }
  }

  /** The whole sequence: u (batch, len, features) → y (batch, len, channels·features). */
  forward(u: TensorLike, options: ForwardOptions = {}): ForwardResult {
    const op = this.alive('forward')
    const p = this.#prepare(op, u, options)
    const y = room(op, [p.batch, p.len, this.#outputs], this.dtype)
    const state = this.sync('forward', (handle) => handle.forward(p.data, p.batch, p.len, p.call, y))
    return this.#result({ y, state: state ?? undefined }, p.batch, p.len, p.call.save === true)
  }

  /** {@link S4Layer.forward} off the event loop. */
  async forwardAsync(
    u: TensorLike,
    options: ForwardOptions & { signal?: AbortSignal } = {},
  ): Promise<ForwardResult> {
    const p = this.#prepare(this.alive('forwardAsync'), u, options)
    const out = await this.read(
      'forwardAsync',
      (handle, cancel) => handle.forwardAsync(p.data, p.batch, p.len, p.call, cancel),
      options.signal,
    )
    return this.#result(out, p.batch, p.len, p.call.save === true)
  }

  #gradients(
    op: string,
    dy: TensorLike,
    options: { dstate?: TensorLike },
  ): { dy: Floats; dstate?: Floats; batch: number; len: number } {
    if (this.#shape === undefined) throw fail('ERR_S4_VALUE', op, 'a forward (with save) before it', 'none')
    const [batch, len] = this.#shape as [number, number]
    return {
      dy: shaped(op, 'dy', dy, [batch, len, this.#outputs], this.dtype),
      dstate: options.dstate && shaped(op, 'dstate', options.dstate, this.#stateShape(batch), this.dtype),
      batch,
      len,
    }
  }

  #backwardResult(out: { du?: Floats; dstate?: Floats }, batch: number, len: number): BackwardResult {
    const du = tensor(out.du as Floats, [batch, len, this.#features])
    return out.dstate === undefined ? { du } : { du, dstate: tensor(out.dstate, this.#stateShape(batch)) }
  }

  /**
   * Gradients of sum(y·dy) + sum(state·dstate) for the last forward. Those of parameters accumulate until
   * {@link S4Layer.zeroGrad}.
   */
  backward(dy: TensorLike, options: { dstate?: TensorLike } = {}): BackwardResult {
    const op = this.alive('backward')
    known(op, options, ['dstate'])
    const g = this.#gradients(op, dy, options)
    const du = room(op, [g.batch, g.len, this.#features], this.dtype)
    const dstate = this.sync('backward', (handle) => handle.backward(g.dy, g.dstate, du))
    return this.#backwardResult({ du, dstate: dstate ?? undefined }, g.batch, g.len)
  }

  /** {@link S4Layer.backward} off the event loop. */
  async backwardAsync(
    dy: TensorLike,
    options: { dstate?: TensorLike; signal?: AbortSignal } = {},
  ): Promise<BackwardResult> {
    const op = this.alive('backwardAsync')
    known(op, options, ['dstate', 'signal'])
    const g = this.#gradients(op, dy, options)
    this.acquire('backwardAsync')
    try {
      const out = await this.read(
        'backwardAsync',
        (handle, cancel) => handle.backwardAsync(g.dy, g.dstate, cancel),
        options.signal,
      )
      return this.#backwardResult(out, g.batch, g.len)
    } finally {
      this.release()
    }
  }

  /**
   * One sample as a recurrence in O(state): u (batch, features), state as {@link S4Layer.initialState} gives it.
   * `interval`: this step as a multiple of the training interval, one number or one a row.
   */
  step(
    u: TensorLike,
    state: TensorLike,
    options: { interval?: number | ArrayLike<number>; rate?: number } = {},
  ): StepResult {
    const op = this.alive('step')
    known(op, options, ['interval', 'rate'])
    if (!this.hasState)
      throw fail('ERR_S4_UNSUPPORTED', op, 'a causal layer that is not truncated', 'one without a state')
    const [batch, features] = checkTensor(op, 'u', u, 2).shape as [number, number]
    if (features !== this.#features)
      throw fail('ERR_S4_SHAPE', op, `u (batch, ${this.#features})`, `[${u.shape.join(', ')}]`)
    const x = shaped(op, 'state', state, this.#stateShape(batch), this.dtype)
    const rate = options.rate === undefined ? 1 : positive(op, 'rate', options.rate)
    const interval = intervals(op, options.interval, [batch], this.dtype)
    const data = floats(op, 'u', u.data, this.dtype)
    const out = this.sync('step', (handle) => handle.step(data, x, interval, batch, rate))
    return {
      y: tensor(out.y, [batch, this.#outputs]),
      state: tensor(out.state as Floats, this.#stateShape(batch)),
    }
  }

  /** A zero state of so many rows: (batch, features, state/2, 2). */
  initialState(batch = 1): Tensor {
    const n = size(this.alive('initialState'), 'batch', batch, 1, 2 ** 24)
    if (!this.hasState)
      throw fail(
        'ERR_S4_UNSUPPORTED',
        this.alive('initialState'),
        'a causal layer that is not truncated',
        'one without a state',
      )
    return tensor(
      this.sync('initialState', (handle) => handle.initialState(n)),
      this.#stateShape(n),
    )
  }

  /** The convolution kernel K̄ (channels, features, len); two-sided layers: 2·channels, the forward half first. */
  kernel(len: number, options: { rate?: number } = {}): Tensor {
    const op = this.alive('kernel')
    known(op, options, ['rate'])
    const n = size(op, 'len', len, 1, 2 ** 30)
    const rate = options.rate === undefined ? 1 : positive(op, 'rate', options.rate)
    return tensor(
      this.sync('kernel', (handle) => handle.kernel(n, rate)),
      [this.#kernelChannels, this.#features, n],
    )
  }

  /** @internal For {@link AdamW}. */
  adamOpen(config: string): number {
    return this.sync('AdamW', (handle) => handle.adamOpen(config))
  }
  /** @internal */
  adamUpdate(id: number, scale: number): number {
    return this.sync('AdamW.step', (handle) => handle.adamUpdate(id, scale))
  }
  /** @internal */
  adamClose(id: number): void {
    this.free((handle) => handle.adamClose(id))
  }
}

/** A step's intervals as an array of the model's type. */
export function intervals(
  op: string,
  interval: number | ArrayLike<number> | undefined,
  shape: Shape,
  dtype: Dtype,
): Floats | undefined {
  if (interval === undefined) return undefined
  const n = shape.reduce((a, b) => a * b, 1)
  const values = typeof interval === 'number' ? Array.from({ length: n }, () => interval) : interval
  if (values === null) throw fail('ERR_S4_VALUE', op, `interval as a number or ${n} numbers`, values)
  if (values.length !== n && values.length !== shape[0]) {
    throw fail('ERR_S4_SHAPE', op, `interval as a number or ${n} numbers`, `${values.length}`)
  }
  for (let i = 0; i < values.length; i++) positive(op, 'interval', values[i])
  return floats(op, 'interval', values, dtype)
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
    const { config, host, algorithm } = split('S4Layer', options)
    super(
      native(() => new NativeLayer('layer', config, host)),
      algorithm,
    )
  }

  protected override get label(): string {
    return 'S4Layer'
  }
}
