import { Transform } from 'node:stream'
import type { Cancel, NativeModel } from '#binding'
import { fail } from './error.js'
import { intervals } from './layer.js'
import {
  checkTensor,
  floats,
  integers,
  known,
  room,
  tensor,
  type Dtype,
  type Tensor,
  type TensorLike,
} from './tensor.js'

/** @internal What a stream needs of its model. */
export interface StreamOwner {
  sync<R>(op: string, call: (handle: NativeModel) => R): R
  read<R>(
    op: string,
    call: (handle: NativeModel, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R>
  free(call: (handle: NativeModel) => void): void
  dtype: Dtype
}

/** Streams that were forgotten, not disposed: their states go when they are collected. */
const forgotten = new FinalizationRegistry<() => void>((free) => free())

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
export class Stream {
  readonly #owner: StreamOwner
  readonly #id: number
  readonly #shape: { batch: number; input: number | undefined; output: number }
  #disposed = false

  /** @internal */
  constructor(
    owner: StreamOwner,
    id: number,
    shape: { batch: number; input: number | undefined; output: number },
  ) {
    this.#owner = owner
    this.#id = id
    this.#shape = shape
    forgotten.register(this, () => owner.free((handle) => handle.streamClose(id)), this)
  }

  #alive(op: string): string {
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', `Stream.${op}`, 'a live stream', 'a disposed one')
    return `Stream.${op}`
  }

  #take(op: string, x: TensorLike, options: PushOptions) {
    const { batch, input, output } = this.#shape
    const { dtype } = this.#owner
    let data
    if (input === undefined) {
      checkTensor(op, 'tokens', x, 2)
      data = integers(op, 'tokens', x.data)
    } else {
      checkTensor(op, 'input', x, 3)
      if (x.shape[2] !== input)
        throw fail('ERR_S4_SHAPE', op, `input (${batch}, len, ${input})`, `[${x.shape.join(', ')}]`)
      data = floats(op, 'input', x.data, dtype)
    }
    if (x.shape[0] !== batch) throw fail('ERR_S4_SHAPE', op, `${batch} rows`, `${x.shape[0]}`)
    const len = x.shape[1] as number
    const one = typeof options.interval === 'number'
    const interval = intervals(op, options.interval, one ? [batch] : [batch, len], dtype)
    return { data, len, interval, shape: [batch, len, output] as const }
  }

  /** The next samples (batch, len, input), or tokens (batch, len) → outputs (batch, len, output). At once. */
  push(x: TensorLike, options: PushOptions = {}): Tensor {
    const op = this.#alive('push')
    known(op, options, ['interval'])
    const { data, len, interval, shape } = this.#take(op, x, options)
    const out = room(op, shape, this.#owner.dtype)
    this.#owner.sync('push', (handle) => handle.streamPush(this.#id, data, len, interval, out))
    return tensor(out, shape)
  }

  /**
   * As {@link Stream.push}, off the event loop: for long chunks and prompts. An abort rejects at once. A push that had not
   * begun leaves the state as it was; one under way goes on to its end, its outputs are lost and the state has moved past its
   * samples. `position` tells which, when the model is free again.
   */
  async pushAsync(x: TensorLike, options: PushOptions & { signal?: AbortSignal } = {}): Promise<Tensor> {
    const op = this.#alive('pushAsync')
    known(op, options, ['interval', 'signal'])
    const { data, len, interval, shape } = this.#take(op, x, options)
    const out = await this.#owner.read(
      'pushAsync',
      (handle, cancel) =>
        handle.streamPushAsync(this.#id, data, len, interval, cancel),
      options.signal,
    )
    return tensor(out, shape)
  }

  /** Samples seen so far. */
  get position(): number {
    this.#alive('position')
    return this.#owner.sync('position', (handle) => handle.streamPosition(this.#id))
  }

  /** The whole state as bytes, for {@link Stream.restore} of a stream of the same model and batch, here or in another process. */
  save(): Uint8Array {
    this.#alive('save')
    return this.#owner.sync('save', (handle) => handle.streamSave(this.#id))
  }

  /** Back to a saved state. A state of another shape is refused and nothing changes. */
  restore(state: Uint8Array): void {
    const op = this.#alive('restore')
    if (!ArrayBuffer.isView(state)) throw fail('ERR_S4_VALUE', op, 'the bytes of save()', typeof state)
    this.#owner.sync('restore', (handle) => handle.streamRestore(this.#id, state))
  }

  /** An independent copy that goes on from here. */
  fork(): Stream {
    this.#alive('fork')
    return new Stream(
      this.#owner,
      this.#owner.sync('fork', (handle) => handle.streamFork(this.#id)),
      this.#shape,
    )
  }

  /** Zero states. */
  reset(): void {
    this.#alive('reset')
    this.#owner.sync('reset', (handle) => handle.streamReset(this.#id))
  }

  /** A Node Transform in object mode: frames (arrays of len·input numbers, batch 1) in, arrays of outputs out. */
  toTransform(): Transform {
    const { batch, input = 1 } = this.#shape
    if (batch !== 1)
      throw fail('ERR_S4_UNSUPPORTED', 'Stream.toTransform', 'a stream of one row', `${batch} rows`)
    return new Transform({
      objectMode: true,
      transform: (frame: ArrayLike<number>, _encoding, done) => {
        this.pushAsync({
          data: frame,
          shape: this.#shape.input === undefined ? [1, frame.length] : [1, frame.length / input, input],
        }).then(
          (y) => done(null, y.data),
          (error: Error) => done(error),
        )
      },
    })
  }

  /** Frees its state; idempotent. While the model is busy, the calls under way end first. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    forgotten.unregister(this)
    this.#owner.free((handle) => handle.streamClose(this.#id))
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
