// The rules by which the API calls a native handle: one call at a time may change it, calls that only read it queue, and
// none is made after its disposal.
import { Cancel } from '#binding'
import type { Counters, Data, ParameterInfo } from '#binding'
import { abortable } from './background.js'
import {
  aborted,
  fail,
  callNative,
  callNativeAsync,
  readGiven,
  throwIfAborted,
  type S4Error,
} from './error.js'
import type { Floats } from './tensor.js'

/** The methods that every native handle has: NativeLayer and NativeModel. */
export interface NativeHandle {
  parameters(): ParameterInfo[]
  parameter(name: string): Floats
  gradient(name: string): Floats
  setParameter(name: string, value: Data): void
  zeroGrad(): void
  counters(): Counters
  dispose(): void
}

/** A native handle that is called by the rules above. `label` is the class of the API, so that errors name `label.op`. */
export class NativeAccess<N extends NativeHandle> {
  readonly handle: N
  readonly #label: string
  #writer: string | undefined
  #running = 0
  #waitingForReads: (() => void)[] = []
  #disposed = false
  #unusable: S4Error | undefined

  constructor(label: string, handle: N) {
    // A caller of `new SequenceModel(…)`, whose constructor is private, gets here with arguments of its own.
    const ours = readGiven(
      label,
      'options',
      () => (handle as Partial<NativeHandle> | null | undefined)?.counters,
    )
    if (typeof ours !== 'function')
      throw fail('ERR_S4_VALUE', label, `${label}.create(), ${label}.load() or ${label}.fromBytes()`, 'new')
    this.handle = handle
    this.#label = label
  }

  /** Refuses the operation `op` of a disposed handle; gives the operation's name for errors, such as `S4Layer.forward`. */
  checkLive(op: string): string {
    const name = `${this.#label}.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live handle', 'a disposed one')
    if (this.#unusable !== undefined) {
      const { code, got } = this.#unusable
      throw fail(
        code,
        name,
        'a model made or loaded after a rank was lost: its parameters may be half updated',
        got,
      )
    }
    return name
  }

  /**
   * A call that returns at once and leaves parameters as they are: not while another is under way. Between two events of a training
   * loop none is.
   */
  sync<R>(op: string, call: (handle: N) => R): R {
    const name = this.checkLive(op)
    if (this.#running > 0)
      throw fail('ERR_S4_BUSY', name, 'no other call under way', `${this.#running} unfinished calls`)
    return callNative(() => call(this.handle))
  }

  /** As {@link NativeAccess.sync}, of a call that changes what a writer works on. */
  syncWrite<R>(op: string, call: (handle: N) => R): R {
    const name = this.checkLive(op)
    if (this.#writer !== undefined) throw fail('ERR_S4_BUSY', name, 'no other writer', this.#writer)
    return this.sync(op, call)
  }

  /**
   * An asynchronous native call that leaves the parameters as they are. Several may be under way: they run one after the
   * other.
   */
  async read<R>(
    op: string,
    call: (handle: N, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R> {
    const name = this.checkLive(op)
    throwIfAborted(name, signal)
    const cancel = new Cancel()
    this.#running++
    const work = callNativeAsync(() => call(this.handle, cancel)).finally(() => {
      if (--this.#running === 0) for (const resolve of this.#waitingForReads.splice(0)) resolve()
    })
    return signal === undefined ? work : abortable(name, work, signal, () => cancel.cancel())
  }

  /**
   * An asynchronous native call that changes what the handle has. A signal that fires before it has begun rejects it, and it
   * never begins; one that fires later lets it end: where it is rejected by a signal, nothing has changed.
   */
  async change<R>(
    op: string,
    call: (handle: N, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R> {
    const name = this.checkLive(op)
    throwIfAborted(name, signal)
    if (signal === undefined) return this.read(op, call)
    let onAbort: (() => void) | undefined
    try {
      return await this.read(op, (handle, cancel) => {
        onAbort = () => cancel.cancel()
        signal.addEventListener('abort', onAbort, { once: true })
        return call(handle, cancel)
      })
    } catch (error) {
      throw (error as S4Error).code === 'ERR_S4_ABORTED' ? aborted(name, signal) : error
    } finally {
      if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
    }
  }

  /**
   * A short native call by the one that holds the right to change the handle. It first waits, off the event loop, for the
   * reads under way.
   */
  async afterReads<R>(op: string, call: (handle: N) => R): Promise<R> {
    while (this.#running > 0) await new Promise<void>((resolve) => this.#waitingForReads.push(resolve))
    this.checkLive(op)
    return callNative(() => call(this.handle))
  }

  /** Runs `work`, which changes the handle, while no other does; `ERR_S4_BUSY` where one is under way. */
  async write<R>(op: string, work: () => Promise<R>): Promise<R> {
    this.acquire(op)
    try {
      return await work()
    } finally {
      this.release()
    }
  }

  /** Takes the right to change the handle, until {@link NativeAccess.release}; `ERR_S4_BUSY` where another has it. */
  acquire(op: string): void {
    const name = this.checkLive(op)
    if (this.#writer !== undefined) throw fail('ERR_S4_BUSY', name, 'no other writer', this.#writer)
    this.#writer = name
  }

  /** Gives the right to change the handle back. */
  release(): void {
    this.#writer = undefined
  }

  /**
   * Frees something that the handle owns, such as a stream, after the calls under way. Nothing happens if the handle was
   * disposed.
   */
  free(call: (handle: N) => void): void {
    callNative(() => call(this.handle))
  }

  /** Refuses all calls from here on but disposal, because of `error`: what the handle holds may be half changed. */
  refuse(error: S4Error): void {
    this.#unusable ??= error
  }

  /** Frees the handle after the calls under way. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    callNative(() => this.handle.dispose())
  }
}
