import { Cancel } from '#binding'
import type { Counters, Data, Floats, ParameterInfo } from '#binding'
import { aborted, fail, native, nativeAsync, throwIfAborted } from './error.js'
import {
  elements,
  floats,
  checkTensor,
  shaped,
  tensor,
  type Dtype,
  type Shape,
  type Tensor,
  type TensorLike,
} from './tensor.js'

/** A named parameter with copies of its value and accumulated gradient. */
export interface Parameter {
  /** Official name: `layer.kernel.C`, `blocks.0.norm.weight`. */
  readonly name: string
  /** Official shape; complex numbers as a trailing 2. */
  readonly shape: Shape
  /** `'ssm'`: inv_dt, A_real, A_imag, B, P (own learning rate, no decay); `'main'`: the rest. */
  readonly group: 'main' | 'ssm'
  /** Copy of the value, read from the device when asked for. */
  readonly value: Tensor
  /** Copy of the accumulated gradient, read when asked for. */
  readonly grad: Tensor
}

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

/** Sizes of 1 do not tell shapes apart here. */
const plain = (s: Shape) => s.filter((n) => n !== 1).join()

/** Parameters, counters, disposal and exclusion of a layer, block or model. */
export abstract class Handle<N extends NativeHandle> {
  /** @internal */
  protected readonly handle: N
  /** Number format. */
  abstract readonly dtype: Dtype
  #writer: string | undefined
  #running = 0
  #waiting: (() => void)[] = []
  #disposed = false

  /** @internal */
  protected constructor(handle: N) {
    this.handle = handle
  }

  /** @internal Name in error messages. */
  protected get label(): string {
    return this.constructor.name
  }

  /** @internal For a call that must have the handle to itself and returns at once. */
  protected sync<R>(op: string, call: (handle: N) => R): R {
    const name = this.alive(op)
    if (this.#writer !== undefined || this.#running > 0) {
      throw fail(
        'ERR_S4_BUSY',
        name,
        'no other call under way',
        this.#writer ?? `${this.#running} unfinished calls`,
      )
    }
    return native(() => call(this.handle))
  }

  /** @internal For a call off the event loop that leaves parameters as they are; such calls queue. */
  protected async read<R>(
    op: string,
    call: (handle: N, cancel: Cancel) => Promise<R>,
    signal?: AbortSignal,
  ): Promise<R> {
    const name = this.alive(op)
    throwIfAborted(name, signal)
    const cancel = new Cancel()
    this.#running++
    const work = nativeAsync(() => call(this.handle, cancel)).finally(() => {
      if (--this.#running === 0) for (const go of this.#waiting.splice(0)) go()
    })
    return signal === undefined ? work : abortable(name, work, signal, cancel)
  }

  /** @internal A short call of the writer: it waits for the reads under way without holding up the event loop. */
  protected async ready<R>(op: string, call: (handle: N) => R): Promise<R> {
    while (this.#running > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.alive(op)
    return native(() => call(this.handle))
  }

  /** @internal Frees something within the handle, behind the calls under way; of a disposed handle it is free already. */
  protected free(call: (handle: N) => void): void {
    native(() => call(this.handle))
  }

  /** @internal Takes the right to change the handle; a second taker gets `ERR_S4_BUSY`. */
  protected acquire(op: string): void {
    const name = this.alive(op)
    if (this.#writer !== undefined) throw fail('ERR_S4_BUSY', name, 'no other writer', this.#writer)
    this.#writer = name
  }

  /** @internal */
  protected release(): void {
    this.#writer = undefined
  }

  /** @internal Refuses a disposed handle; gives the operation's full name. */
  protected alive(op: string): string {
    const name = `${this.label}.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live handle', 'a disposed one')
    return name
  }

  /** All parameters, in the order of the forward pass. */
  parameters(): Parameter[] {
    return this.sync('parameters', (handle) => handle.parameters()).map((info) => {
      const read = (what: 'parameter' | 'gradient') =>
        tensor(
          this.sync(what, (handle) => handle[what](info.name)),
          info.shape,
        )
      return {
        name: info.name,
        shape: info.shape,
        group: info.group as 'main' | 'ssm',
        get value() {
          return read('parameter')
        },
        get grad() {
          return read('gradient')
        },
      }
    })
  }

  /** Replaces a parameter; NaN and Inf are refused and nothing changes. */
  setParameter(name: string, value: TensorLike): void {
    const op = this.alive('setParameter')
    const info = this.sync('setParameter', (handle) => handle.parameters()).find((p) => p.name === name)
    if (info === undefined) throw fail('ERR_S4_VALUE', op, 'the name of a parameter', `'${String(name)}'`)
    const t = checkTensor(op, name, value)
    // Official checkpoints write (H) and (H, 1) alike; sizes of 1 do not matter.
    if (plain(t.shape) !== plain(info.shape)) {
      throw fail('ERR_S4_SHAPE', op, `${name} [${info.shape.join(', ')}]`, `[${t.shape.join(', ')}]`)
    }
    const data = floats(op, name, t.data, this.dtype)
    this.sync('setParameter', (handle) => handle.setParameter(name, data))
  }

  /** Zeroes all gradients. */
  zeroGrad(): void {
    this.sync('zeroGrad', (handle) => handle.zeroGrad())
  }

  /**
   * How often memory was asked of the device, and how often the host waited for it: both stand still in steady steps;
   * and the bytes of the GPU that the handle holds, in use or for reuse.
   */
  counters(): Counters {
    return native(() => {
      this.alive('counters')
      return this.handle.counters()
    })
  }

  /** Frees native memory now; idempotent. Work under way ends first and its memory is freed then. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    native(() => this.handle.dispose())
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
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

export { elements, shaped }
