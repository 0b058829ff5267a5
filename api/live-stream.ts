import type { Transform } from 'node:stream'
import type { TransformStream } from 'node:stream/web'
import { bytesOf, rejectUnknownOptions } from './check.js'
import { fail, type S4Error } from './error.js'
import type { PushOptions } from './stream.js'
import {
  checkTensor,
  floats,
  integers,
  shapeText,
  stepIntervals,
  type Dtype,
  type Floats,
  type Tensor,
  type TensorLike,
} from './tensor.js'
import { lastTime, stepTimes, timedIntervals, type StreamedTensor } from './stream-times.js'
import { FramePusher, nodeTransform, webTransform, type SampleTransformOptions } from './transforms.js'

/** A push of a live stream that waits for the next tick. */
export interface WaitingPush {
  readonly data: Floats | Int32Array
  readonly len: number
  readonly intervals: Floats | undefined
  /** The push as it waited, where intervals between times were added when it was to be computed. */
  readonly untimed?: WaitingPush
  readonly time: Float64Array | undefined
  /** When it has come, as `performance.now()` has it. */
  readonly since: number
  /** Whether it is computed apart from the stream's other pushes, since they have failed together. */
  alone: boolean
  readonly resolve: (outputs: StreamedTensor) => void
  readonly reject: (error: unknown) => void
}

/** A call that reads or changes the state of a live stream, in its place among the pushes. */
export interface WaitingCall {
  readonly kind: 'save' | 'restore' | 'reset'
  /** When it has come, as `performance.now()` has it. */
  readonly since: number
  /** What is restored. */
  readonly state?: Uint8Array
  readonly resolve: (saved?: Uint8Array) => void
  readonly reject: (error: unknown) => void
}

/** What a stream gives to a tick: pushes that are computed as one, or one call. */
export type Taken = { readonly pushes: readonly WaitingPush[] } | { readonly call: WaitingCall }

/** Most time steps of one stream that go to the addon at a time, so that none holds up the others for long. A push that is longer goes alone. */
const MOST_STEPS = 4096

/** What a live stream asks of the streams that it is one of. */
export interface LiveStreams {
  readonly dtype: Dtype
  /** Input values of a time step; undefined for tokens. */
  readonly input: number | undefined
  /** Time steps that a stream may have waiting. */
  readonly maxWaiting: number
  /** The interval of times that counts as 1. */
  readonly usual: number | undefined
  /** Something has been added to the stream's queue. */
  wake(): void
  /** Frees the stream's slot. */
  leave(slot: number): void
}

function disposedError(): S4Error {
  return fail('ERR_S4_DISPOSED', 'LiveStream.push', 'a live stream', 'a disposed one')
}

/** Streams that {@link ModelStreams.open} has made. */
const made = new WeakSet<LiveStreams>()

/**
 * One of the live streams of a model, which {@link ModelStreams.open} gives: a sequence of its own, computed together with the
 * others in ticks. Its outputs are those of a {@link ModelStream} with a batch of 1.
 */
export class LiveStream {
  readonly #streams: LiveStreams
  readonly #slot: number
  #queue: (WaitingPush | WaitingCall)[] = []
  #waiting = 0
  #position = 0
  /** The time of the last step that was computed, and of the last that was pushed, where they are known. */
  #last: number | undefined
  #pushed: number | undefined
  #disposed = false

  private constructor(streams: LiveStreams, slot: number) {
    // JavaScript lets a caller get here with anything.
    if (!made.has(streams)) throw fail('ERR_S4_VALUE', 'LiveStream', 'ModelStreams.open()', 'new')
    this.#streams = streams
    this.#slot = slot
  }

  /** @internal The stream in `slot`. */
  static open(streams: LiveStreams, slot: number): LiveStream {
    made.add(streams)
    return new LiveStream(streams, slot)
  }

  #checkLive(op: string): string {
    const name = `LiveStream.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live stream', 'a disposed one')
    return name
  }

  /**
   * The next time steps (len, input), or tokens (len) → outputs (len, output), with the next tick. Rejected pushes leave the stream
   * as it was: `ERR_S4_NONFINITE` for NaN or an infinity in input, output or state, `ERR_S4_BUSY` where more time steps would wait than
   * `maxWaiting`, `ERR_S4_VALUE` for a push that is longer than that. `interval` and `time` as in {@link ModelStream.push}: a number, or one for each time step.
   */
  async push(x: TensorLike, options: PushOptions = {}): Promise<StreamedTensor> {
    const op = this.#checkLive('push')
    const { interval, time: times } = rejectUnknownOptions(op, options, ['interval', 'time'])
    const { dtype, input, maxWaiting, usual } = this.#streams
    const given = input === undefined ? checkTensor(op, 'tokens', x, 1) : checkTensor(op, 'input', x, 2)
    const { shape } = given
    if (input !== undefined && shape[1] !== input)
      throw fail('ERR_S4_SHAPE', op, `input (len, ${input})`, shapeText(shape))
    const len = shape[0] as number
    const data =
      input === undefined
        ? Int32Array.from(integers(op, 'tokens', given.data))
        : floats(op, 'input', given.data, dtype).slice()
    const intervals = stepIntervals(op, interval, [1, len], dtype)?.slice()
    const time = stepTimes(op, times, len, usual, this.#pushed)
    if (len > maxWaiting)
      throw fail('ERR_S4_VALUE', op, `input of at most ${maxWaiting} time steps (maxWaiting)`, len)
    if (this.#waiting + len > maxWaiting)
      throw fail('ERR_S4_BUSY', op, `at most ${maxWaiting} time steps that wait`, this.#waiting + len)
    this.#waiting += len
    this.#pushed = lastTime(time, len, usual, this.#pushed)
    return new Promise((resolve, reject) => {
      this.#queue.push({
        data,
        len,
        intervals,
        time,
        since: performance.now(),
        alone: false,
        resolve,
        reject,
      })
      this.#streams.wake()
    })
  }

  /** Time steps that have been computed. */
  get position(): number {
    this.#checkLive('position')
    return this.#position
  }

  /** Time steps that wait for a tick, or are in one. */
  get waiting(): number {
    this.#checkLive('waiting')
    return this.#waiting
  }

  /**
   * The state after all pushes so far, as bytes: for {@link LiveStream.restore} of any live stream of this model, and for
   * {@link ModelStream.restore} of a stream with a batch of 1.
   */
  async save(): Promise<Uint8Array> {
    this.#checkLive('save')
    return (await this.#call('save')) as Uint8Array
  }

  /**
   * Goes back to a saved state, after the pushes so far and before those to come. A state of another model is refused
   * (`ERR_S4_CHECKPOINT`) and nothing changes. It holds no time: the interval before the next sample is 1, unless `interval` says it.
   */
  async restore(state: Uint8Array): Promise<void> {
    const op = this.#checkLive('restore')
    await this.#call('restore', bytesOf(op, 'state', state).slice())
  }

  /** Goes back to zero states and position 0, after the pushes so far and before those to come. */
  async reset(): Promise<void> {
    this.#checkLive('reset')
    await this.#call('reset')
  }

  /** Puts a call into the queue. */
  #call(kind: WaitingCall['kind'], state?: Uint8Array): Promise<Uint8Array | undefined> {
    if (kind !== 'save') this.#pushed = undefined
    return new Promise((resolve, reject) => {
      this.#queue.push({ kind, since: performance.now(), ...(state && { state }), resolve, reject })
      this.#streams.wake()
    })
  }

  /**
   * The stream as a Node Transform in object mode: it takes frames (arrays of len·input numbers) and gives arrays of outputs.
   * With `format` frames are bytes, as in {@link ModelStream.toTransform}. A frame waits for its tick, and holds up those
   * behind it.
   */
  toTransform(options: SampleTransformOptions = {}): Transform {
    return nodeTransform(this.#frames('toTransform', options))
  }

  /** As {@link LiveStream.toTransform}, as a TransformStream of the web. */
  toTransformStream(options: SampleTransformOptions = {}): TransformStream {
    return webTransform(this.#frames('toTransformStream', options))
  }

  #frames(method: string, options: SampleTransformOptions): FramePusher {
    const { input, maxWaiting } = this.#streams
    return new FramePusher(
      this.#checkLive(method),
      input ?? 1,
      options,
      (data, len, time) => this.push({ data, shape: input === undefined ? [len] : [len, input] }, { time }),
      maxWaiting,
    )
  }

  /** Ends the stream and frees its slot for another. Pushes that wait are rejected (`ERR_S4_DISPOSED`). A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#rejectAll(disposedError())
    this.#streams.leave(this.#slot)
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  #rejectAll(error: S4Error): void {
    for (const { reject } of this.#queue.splice(0)) reject(error)
    this.#waiting = 0
  }

  /** @internal Whether nothing waits. */
  get isIdle(): boolean {
    return this.#queue.length === 0
  }

  /** @internal When the first of what waits has come. */
  get waitingSince(): number | undefined {
    return this.#queue[0]?.since
  }

  /** @internal Whether pushes wait that have failed together, and are now computed one by one. */
  get isRetrying(): boolean {
    const [first] = this.#queue
    return first !== undefined && 'len' in first && first.alone
  }

  /**
   * @internal What a tick does for the stream next. Pushes have `stepsOfPush` time steps together at the most; those behind a push that is longer
   * go with it, since it is not computed in blocks anyway, as none with intervals is.
   */
  takeForTick(stepsOfPush: number): Taken | undefined {
    const [first] = this.#queue
    if (first === undefined) return undefined
    if (!('len' in first)) {
      this.#queue.shift()
      return { call: first }
    }
    const inBlocks = first.len <= stepsOfPush && !first.intervals && !first.time
    const most = inBlocks ? Math.min(stepsOfPush, MOST_STEPS) : MOST_STEPS
    let [count, steps] = [0, 0]
    for (const waiting of this.#queue) {
      if (!('len' in waiting)) break
      steps += waiting.len
      if (count > 0 && (waiting.alone || first.alone || steps > most)) break
      count++
    }
    return { pushes: this.#timed(this.#queue.splice(0, count) as WaitingPush[]) }
  }

  /** The pushes with the intervals between their times, which begin where the last one that was computed has ended. */
  #timed(pushes: WaitingPush[]): WaitingPush[] {
    const { usual, dtype } = this.#streams
    if (usual === undefined) return pushes
    let last = this.#last
    return pushes.map((push) => {
      const { time, intervals, len } = push
      const between = time && !intervals ? timedIntervals(time, usual, last) : intervals
      last = lastTime(time, len, usual, last)
      return between === intervals
        ? push
        : { ...push, intervals: floats('LiveStream.push', 'time', between!, dtype), untimed: push }
    })
  }

  /** @internal The tick has computed `pushes`, whose outputs these are. */
  succeed(pushes: readonly WaitingPush[], outputs: readonly Tensor[]): void {
    for (const [i, { len, time, resolve }] of pushes.entries()) {
      this.#position += len
      this.#waiting -= len
      this.#last = lastTime(time, len, this.#streams.usual, this.#last)
      const output = outputs[i] as Tensor
      resolve(time ? { ...output, time } : output)
    }
  }

  /** @internal The tick has failed on `pushes` together: each is tried on its own. */
  tryAlone(pushes: readonly WaitingPush[]): void {
    if (this.#disposed) return this.refuse(pushes, disposedError())
    // Their intervals are counted anew: one before them may be refused.
    const own = pushes.map((push) => push.untimed ?? push)
    for (const push of own) push.alone = true
    this.#queue.unshift(...own)
  }

  /** @internal The tick has failed on `pushes`. */
  refuse(pushes: readonly WaitingPush[], error: unknown): void {
    for (const { len, reject } of pushes) {
      this.#waiting -= len
      reject(error)
    }
  }

  /** @internal The tick has made a call, after which the stream is at `position`; of `save` the state. */
  answer(call: WaitingCall, position: number | undefined, saved?: Uint8Array): void {
    if (position !== undefined) this.#position = position
    if (call.kind !== 'save') this.#last = undefined
    call.resolve(saved)
  }

  /** @internal Ends the stream with its model's streams. */
  end(error: S4Error): void {
    this.#disposed = true
    this.#rejectAll(error)
  }
}
