// Native work off the event loop, which a signal may cut short.
import { aborted, callNativeAsync, throwIfAborted } from './error.js'

/** The option of everything that computes or reads off the event loop. */
export interface AbortOptions {
  /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
  signal?: AbortSignal
}

/** The result of `work`, or a rejection as soon as the signal fires. `cancel` is then called: a native call that has not begun never begins. */
export async function abortable<R>(
  op: string,
  work: Promise<R>,
  signal: AbortSignal,
  cancel?: () => void,
): Promise<R> {
  let onAbort: (() => void) | undefined
  const abort = new Promise<never>((_, reject) => {
    onAbort = () => {
      cancel?.()
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

/** The result of native work that belongs to no handle, off the event loop. */
export async function inBackground<R>(
  op: string,
  call: () => Promise<R>,
  signal: AbortSignal | undefined,
): Promise<R> {
  throwIfAborted(op, signal)
  const work = callNativeAsync(call)
  return signal === undefined ? work : abortable(op, work, signal)
}
