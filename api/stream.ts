import type { Transform } from 'node:stream'
import type { TransformStream } from 'node:stream/web'
import type { NativeModel } from '#binding'
import type { NativeAccess } from './access.js'
import { bytesOf, rejectUnknownOptions } from './check.js'
import { fail } from './error.js'
import { generate, type GeneratedStep, type GenerateOptions, type TokenSequences } from './generate.js'
import { lastTime, stepTimes, timedIntervals, type StreamedTensor } from './stream-times.js'
import { FramePusher, nodeTransform, webTransform, type SampleTransformOptions } from './transforms.js'
import {
  allocate,
  checkTensor,
  floats,
  integers,
  shapeText,
  stepIntervals,
  tensor,
  type Dtype,
  type TensorLike,
} from './tensor.js'

/**
 * Sizes of a stream: number of sequences, input values at each time step (undefined for tokens), output values at each time
 * step.
 */
interface StreamShape {
  /** The interval of times that counts as 1. */
  readonly usual: number | undefined
  readonly batch: number
  readonly input: number | undefined
  readonly output: number
}

/** Frees the native state of streams that were garbage-collected without being disposed. */
const finalizer = new FinalizationRegistry<() => void>((free) => free())

/** Sizes of streams that the addon has opened. */
const streams = new WeakSet<StreamShape>()

/** Options of a push. */
export interface PushOptions {
  /**
   * Ratio of time steps to those of training: one number, one for each sequence, or one for each sequence and time step.
   */
  interval?: number | ArrayLike<number>
  /**
   * The time of each time step, in any unit: the outputs have them too. One number is that of the first, of a stream with
   * {@link StreamTimeOptions.usualInterval}, at which the others follow. With `usualInterval` they are the intervals as well, unless `interval` says them.
   */
  time?: number | ArrayLike<number>
}

/**
 * A model as a recurrent network with a state of its own. It is pushed inputs of any length, and gives the outputs that the
 * model would give for the whole sequence, in memory that does not grow with it.
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
  /** The time of the last time step, where it is known. */
  #last: number | undefined
  #disposed = false

  private constructor(access: NativeAccess<NativeModel>, dtype: Dtype, id: number, shape: StreamShape) {
    // JavaScript lets a caller get here with anything.
    if (!streams.has(shape)) throw fail('ERR_S4_VALUE', 'ModelStream', 'SequenceModel.stream()', 'new')
    this.#access = access
    this.#dtype = dtype
    this.#id = id
    this.#shape = shape
    finalizer.register(this, () => access.free((handle) => handle.streamClose(id)), this)
  }

  /** @internal The stream with number `id` of the addon. */
  static open(access: NativeAccess<NativeModel>, dtype: Dtype, id: number, shape: StreamShape): ModelStream {
    streams.add(shape)
    return new ModelStream(access, dtype, id, shape)
  }

  /** Refuses the operation `op` of a disposed stream; gives the operation's name for errors. */
  #checkLive(op: string): string {
    const name = `ModelStream.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live stream', 'a disposed one')
    return name
  }

  /** Checks the input and the options of a push, and converts them to the addon's types. */
  #pushCall(op: string, x: TensorLike, options: PushOptions) {
    const { batch, input, output, usual } = this.#shape
    const dtype = this.#dtype
    const given = input === undefined ? checkTensor(op, 'tokens', x, 2) : checkTensor(op, 'input', x, 3)
    const { shape: sizes } = given
    if (input !== undefined && sizes[2] !== input)
      throw fail('ERR_S4_SHAPE', op, `input (${batch}, len, ${input})`, shapeText(sizes))
    if (sizes[0] !== batch) throw fail('ERR_S4_SHAPE', op, `${batch} rows`, `${sizes[0]}`)
    const data =
      input === undefined ? integers(op, 'tokens', given.data) : floats(op, 'input', given.data, dtype)
    const len = sizes[1] as number
    const time = stepTimes(op, options.time, len, usual, this.#last)
    const between =
      options.interval === undefined && time !== undefined && usual !== undefined
        ? timedIntervals(time, usual, this.#last, batch)
        : options.interval
    const isOneNumber = typeof between === 'number'
    const interval = stepIntervals(op, between, isOneNumber ? [batch] : [batch, len], dtype)
    const last = lastTime(time, len, usual, this.#last)
    return { data, len, interval, time, last, shape: [batch, len, output] as const }
  }

  /**
   * The next samples (batch, len, input), or tokens (batch, len) → outputs (batch, len, output). At once. `ERR_S4_NONFINITE` for an
   * input, an output or a resulting state with NaN or an infinity. A push that fails leaves the stream as it was before it.
   */
  push(x: TensorLike, options: PushOptions = {}): StreamedTensor {
    const op = this.#checkLive('push')
    const given = rejectUnknownOptions(op, options, ['interval', 'time'])
    const { data, len, interval, time, last, shape } = this.#pushCall(op, x, given)
    const outputs = allocate(op, shape, this.#dtype)
    this.#access.sync('push', (handle) => handle.streamPush(this.#id, data, len, interval, outputs))
    this.#last = last
    return { ...tensor(outputs, shape), ...(time && { time }) }
  }

  /**
   * As {@link ModelStream.push}, without holding up the event loop: for long inputs. An abort rejects at once. A push that
   * has not begun then leaves the state as it was; one under way goes on to its end, so that its outputs are lost and the
   * state is that after its time steps. `position` says which, when the model is free again.
   */
  async pushAsync(
    x: TensorLike,
    options: PushOptions & { signal?: AbortSignal } = {},
  ): Promise<StreamedTensor> {
    const op = this.#checkLive('pushAsync')
    const given = rejectUnknownOptions(op, options, ['interval', 'time', 'signal'])
    const { data, len, interval, time, last, shape } = this.#pushCall(op, x, given)
    // The next push may come before this one is computed.
    const former = this.#last
    this.#last = last
    try {
      const outputs = await this.#access.read(
        'pushAsync',
        (handle, cancel) => handle.streamPushAsync(this.#id, data, len, interval, cancel),
        given.signal,
      )
      return { ...tensor(outputs, shape), ...(time && { time }) }
    } catch (error) {
      if (this.#last === last) this.#last = former
      throw error
    }
  }

  /** Number of time steps so far. */
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

  /**
   * Back to a saved state. A state of another batch, shape or pooling is refused (`ERR_S4_CHECKPOINT`) and nothing changes. It holds no
   * time: the interval before the next sample is 1, unless `interval` says it.
   */
  restore(state: Uint8Array): void {
    const op = this.#checkLive('restore')
    const saved = bytesOf(op, 'state', state)
    this.#access.sync('restore', (handle) => handle.streamRestore(this.#id, saved))
    this.#last = undefined
  }

  /** Makes an independent stream that starts from the present state of this one. */
  fork(): ModelStream {
    this.#checkLive('fork')
    const id = this.#access.sync('fork', (handle) => handle.streamFork(this.#id))
    const fork = new ModelStream(this.#access, this.#dtype, id, this.#shape)
    fork.#last = this.#last
    return fork
  }

  /**
   * As {@link SequenceModel.generate}, but the prompt continues what the stream has been pushed. The stream itself stays as it is. A
   * stream of one sequence is continued by every prompt, so that a long prefix is computed once; one of several needs a prompt for
   * each.
   */
  generate(
    prompt: TokenSequences,
    options: Omit<GenerateOptions, 'rate'> = {},
  ): AsyncGenerator<GeneratedStep, void, void> {
    const op = this.#checkLive('generate')
    const { input, output } = this.#shape
    const shape = { classes: output, width: input, dtype: this.#dtype }
    return generate(this.#access, op, shape, prompt, options, this.#id)
  }

  /** Goes back to zero states and position 0. */
  reset(): void {
    this.#checkLive('reset')
    this.#access.sync('reset', (handle) => handle.streamReset(this.#id))
    this.#last = undefined
  }

  /**
   * The stream as a Node Transform in object mode, for a batch of 1: it takes frames (arrays of len·input numbers) and
   * gives arrays of outputs. With `format` frames are bytes, as files, sockets and microphones give them, and may be cut at
   * any byte: numbers of that type, little-endian, taken as they are (f32), divided by 32768 (i16), from 0 to 255 (u8), or
   * decoded to numbers from −1 to 1 (mulaw). A frame with times is a {@link TimedFrame}, and what comes of it {@link TimedOutputs}.
   */
  toTransform(options: SampleTransformOptions = {}): Transform {
    return nodeTransform(this.#frames('toTransform', options))
  }

  /** As {@link ModelStream.toTransform}, as a TransformStream of the web. */
  toTransformStream(options: SampleTransformOptions = {}): TransformStream {
    return webTransform(this.#frames('toTransformStream', options))
  }

  /** Frames in, outputs out. */
  #frames(method: string, options: SampleTransformOptions): FramePusher {
    const op = this.#checkLive(method)
    const { batch, input } = this.#shape
    if (batch !== 1) throw fail('ERR_S4_UNSUPPORTED', op, 'a stream of one row', `${batch} rows`)
    return new FramePusher(op, input ?? 1, options, (data, len, time) =>
      this.pushAsync({ data, shape: input === undefined ? [1, len] : [1, len, input] }, { time }),
    )
  }

  /** Frees the native state, after the calls under way. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    finalizer.unregister(this)
    this.#access.free((handle) => handle.streamClose(this.#id))
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
