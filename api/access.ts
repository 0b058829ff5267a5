// How the API reaches a native handle: one call at a time that may change it, reads that queue, nothing after disposal.
import { Cancel } from '#binding'
import type { Counters, Data, ParameterInfo } from '#binding'
import { aborted, fail, native, nativeAsync, reading, throwIfAborted } from './error.js'
import type { Floats } from './tensor.js'

/** What every native handle has. */
export interface NativeHandle {
  parameters(): ParameterInfo[]
  parameter(name: string): Floats
  gradient(name: string): Floats
  setParameter(name: string, value: Data): void
  zeroGrad(): void
  counters(): Counters
  dispose(): void
}

/** A native handle with the rules of its use. Operations are named in errors as `label.op`. */
export class NativeAccess<N extends NativeHandle> {
  readonly handle: N
  readonly #label: string
  #writer: string | undefined
  #running = 0
  #idle: (() => void)[] = []
  #disposed = false

  constructor(label: string, handle: N) {
    // A class whose constructor is not for callers gets here with what they gave.
    const ours = reading(label, 'options', () => (handle as Partial<NativeHandle> | null | undefined)?.counters)
    if (typeof ours !== 'function')
      throw fail('ERR_S4_VALUE', label, `${label}.create(), ${label}.load() or ${label}.fromBytes()`, 'new')
    this.handle = handle
    this.#label = label
  }

  /** Refuses a disposed handle; gives the operation's full name. */
  checkLive(op: string): string {
    const name = `${this.#label}.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live handle', 'a disposed one')
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
    return native(() => call(this.handle))
  }

  /** As {@link NativeAccess.sync}, of a call that changes what a writer works on. */
  syncWrite<R>(op: string, call: (handle: N) => R): R {
    const name = this.checkLive(op)
    if (this.#writer !== undefined) throw fail('ERR_S4_BUSY', name, 'no other writer', this.#writer)
    return this.sync(op, call)
  }

  /** A call off the event loop that leaves parameters as they are; such calls queue. */
  async read<R>(
    op: string,
    call: (handle: N, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R> {
    const name = this.checkLive(op)
    throwIfAborted(name, signal)
    const cancel = new Cancel()
    this.#running++
    const work = nativeAsync(() => call(this.handle, cancel)).finally(() => {
      if (--this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve()
    })
    return signal === undefined ? work : abortable(name, work, signal, cancel)
  }

  /** A short call of the writer: it waits for the reads under way without holding up the event loop. */
  async afterReads<R>(op: string, call: (handle: N) => R): Promise<R> {
    while (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
    this.checkLive(op)
    return native(() => call(this.handle))
  }

  /** Runs `work` as the one writer; a second gets `ERR_S4_BUSY`. */
  async write<R>(op: string, work: () => Promise<R>): Promise<R> {
    this.acquire(op)
    try {
      return await work()
    } finally {
      this.release()
    }
  }

  /** Takes the right to change the handle, until {@link NativeAccess.release}; a second taker gets `ERR_S4_BUSY`. */
  acquire(op: string): void {
    const name = this.checkLive(op)
    if (this.#writer !== undefined) throw fail('ERR_S4_BUSY', name, 'no other writer', this.#writer)
    this.#writer = name
  }

  release(): void {
    this.#writer = undefined
  }

  /** Frees something that the handle owns, after the calls under way; of a disposed handle it is free already. */
  free(call: (handle: N) => void): void {
    native(() => call(this.handle))
  }

  /** Frees the handle, after the calls under way; idempotent. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    native(() => this.handle.dispose())
  }
}

/** Rejects as soon as the signal fires; the native call, if it has not begun, never does. */
async function abortable<R>(op: string, work: Promise<R>, signal: AbortSignal, cancel: Cancel): Promise<R> {
  let onAbort: (() => void) | undefined
  const abort = new Promise<never>((_, reject) => {
    onAbort = () => {
      cancel.cancel()
      reject(aborted(op, signal))
    }
    signal.addEventListener('abort', onAbort, { once: true })
  })
  work.catch(() => undefined)
  try {
    return await Promise.race([work, abort])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
