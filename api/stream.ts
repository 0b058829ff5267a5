import { Transform } from 'node:stream'
import type { NativeModel } from '#binding'
import type { NativeAccess } from './access.js'
import { types } from 'node:util'
import { oneOf, rejectUnknownOptions } from './check.js'
import { fail } from './error.js'
import { frameOf, SampleReader, SAMPLES, type SampleFormat } from './samples.js'
import {
  allocate,
  checkTensor,
  floats,
  integers,
  shapeText,
  stepIntervals,
  tensor,
  type Dtype,
  type Tensor,
  type TensorLike,
} from './tensor.js'

/** Sizes of a stream: rows, values a sample has (none where it takes tokens), values of an output. */
interface StreamShape {
  readonly batch: number
  readonly input: number | undefined
  readonly output: number
}

/** Frees the state of a stream that was collected without being disposed. */
const collected = new FinalizationRegistry<() => void>((free) => free())

/** What {@link ModelStream.toTransform} takes. */
export interface SampleTransformOptions {
  /** The type of the samples that bytes hold; without it frames are arrays of numbers and bytes are refused. */
  format?: SampleFormat
}

/** How a push runs. */
export interface PushOptions {
  /** Ratio of each step to the training interval: one number, one a row, or one a row and sample. */
  interval?: number | ArrayLike<number>
}

/**
 * A trained model as a recurrent network with its own state: pushes of any size, constant memory, outputs equal to the convolution.
 *
 * @example
 * using stream = model.stream()
 * for await (const frame of microphone) console.log(stream.push({ data: frame, shape: [1, frame.length, 1] }).data)
 */
export class ModelStream {
  readonly #access: NativeAccess<NativeModel>
  readonly #dtype: Dtype
  readonly #id: number
  readonly #shape: StreamShape
  #disposed = false

  private constructor(access: NativeAccess<NativeModel>, dtype: Dtype, id: number, shape: StreamShape) {
    this.#access = access
    this.#dtype = dtype
    this.#id = id
    this.#shape = shape
    collected.register(this, () => access.free((handle) => handle.streamClose(id)), this)
  }

  /** @internal Around a stream that the addon has opened. */
  static open(access: NativeAccess<NativeModel>, dtype: Dtype, id: number, shape: StreamShape): ModelStream {
    return new ModelStream(access, dtype, id, shape)
  }

  #checkLive(op: string): string {
    const name = `ModelStream.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live stream', 'a disposed one')
    return name
  }

  #pushCall(op: string, x: TensorLike, options: PushOptions) {
    const { batch, input, output } = this.#shape
    const dtype = this.#dtype
    const given = input === undefined ? checkTensor(op, 'tokens', x, 2) : checkTensor(op, 'input', x, 3)
    const { shape: sizes } = given
    if (input !== undefined && sizes[2] !== input)
      throw fail('ERR_S4_SHAPE', op, `input (${batch}, len, ${input})`, shapeText(sizes))
    if (sizes[0] !== batch) throw fail('ERR_S4_SHAPE', op, `${batch} rows`, `${sizes[0]}`)
    const data =
      input === undefined ? integers(op, 'tokens', given.data) : floats(op, 'input', given.data, dtype)
    const len = sizes[1] as number
    const one = typeof options.interval === 'number'
    const interval = stepIntervals(op, options.interval, one ? [batch] : [batch, len], dtype)
    return { data, len, interval, shape: [batch, len, output] as const }
  }

  /**
   * The next samples (batch, len, input), or tokens (batch, len) → outputs (batch, len, output). At once. `ERR_S4_NONFINITE` for an
   * input, an output or a resulting state with NaN or an infinity. A push that fails leaves the stream as it was before it.
   */
  push(x: TensorLike, options: PushOptions = {}): Tensor {
    const op = this.#checkLive('push')
    const given = rejectUnknownOptions(op, options, ['interval'])
    const { data, len, interval, shape } = this.#pushCall(op, x, given)
    const out = allocate(op, shape, this.#dtype)
    this.#access.sync('push', (handle) => handle.streamPush(this.#id, data, len, interval, out))
    return tensor(out, shape)
  }

  /**
   * As {@link ModelStream.push}, off the event loop: for long chunks and prompts. An abort rejects at once. A push that had not
   * begun leaves the state as it was; one under way goes on to its end, its outputs are lost and the state has moved past its
   * samples. `position` tells which, when the model is free again.
   */
  async pushAsync(x: TensorLike, options: PushOptions & { signal?: AbortSignal } = {}): Promise<Tensor> {
    const op = this.#checkLive('pushAsync')
    const given = rejectUnknownOptions(op, options, ['interval', 'signal'])
    const { data, len, interval, shape } = this.#pushCall(op, x, given)
    const out = await this.#access.read(
      'pushAsync',
      (handle, cancel) => handle.streamPushAsync(this.#id, data, len, interval, cancel),
      given.signal,
    )
    return tensor(out, shape)
  }

  /** Samples seen so far. */
  get position(): number {
    this.#checkLive('position')
    return this.#access.sync('position', (handle) => handle.streamPosition(this.#id))
  }

  /**
   * The whole state as bytes, for {@link ModelStream.restore} of a stream of the same model and batch, here or in another process,
   * at the same rate or another.
   */
  save(): Uint8Array {
    this.#checkLive('save')
    return this.#access.sync('save', (handle) => handle.streamSave(this.#id))
  }

  /** Back to a saved state. A state of another batch, shape or pooling is refused (`ERR_S4_CHECKPOINT`) and nothing changes. */
  restore(state: Uint8Array): void {
    const op = this.#checkLive('restore')
    if (!types.isUint8Array(state)) throw fail('ERR_S4_VALUE', op, 'the bytes of save()', state)
    this.#access.sync('restore', (handle) => handle.streamRestore(this.#id, state))
  }

  /** An independent copy that goes on from here. */
  fork(): ModelStream {
    this.#checkLive('fork')
    const id = this.#access.sync('fork', (handle) => handle.streamFork(this.#id))
    return new ModelStream(this.#access, this.#dtype, id, this.#shape)
  }

  /** Zero states. */
  reset(): void {
    this.#checkLive('reset')
    this.#access.sync('reset', (handle) => handle.streamReset(this.#id))
  }

  /**
   * A Node Transform in object mode: frames (arrays of len·input numbers, batch 1) in, arrays of outputs out. With `format`
   * frames are bytes instead, as files, sockets and microphones give them, cut anywhere: samples of that type, little-endian,
   * as numbers: f32 as it is, i16 / 32768 from -1 to below 1, u8 from 0 to 255.
   */
  toTransform(options: SampleTransformOptions = {}): Transform {
    const op = 'ModelStream.toTransform'
    const { format } = rejectUnknownOptions(op, options, ['format'])
    if (format !== undefined) oneOf(op, 'format', format, Object.keys(SAMPLES) as SampleFormat[])
    const { batch, input: width } = this.#shape
    const input = width ?? 1
    if (batch !== 1) throw fail('ERR_S4_UNSUPPORTED', op, 'a stream of one row', `${batch} rows`)
    const samples = format === undefined ? undefined : new SampleReader(op, format, input)
    return new Transform({
      objectMode: true,
      transform: (frame: unknown, _encoding, done) => {
        const push = async () => {
          const data = samples === undefined ? frameOf(op, frame) : samples.read(frame)
          if (data.length === 0) return undefined
          const len = data.length / input
          const y = await this.pushAsync({ data, shape: width === undefined ? [1, len] : [1, len, input] })
          return y.data
        }
        push().then(
          (y) => (y === undefined ? done() : done(null, y)),
          (error: Error) => done(error),
        )
      },
      flush: (done) => done(samples?.rest()),
    })
  }

  /** Frees its state; idempotent. While the model is busy, the calls under way end first. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    collected.unregister(this)
    this.#access.free((handle) => handle.streamClose(this.#id))
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
