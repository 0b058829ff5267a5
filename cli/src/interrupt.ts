import { S4Error } from 's4-node'

/**
 * Runs `work` with a signal that Ctrl-C fires. Gives what it made; where it ended because of the signal, the number of the
 * process signal. A second Ctrl-C ends the process.
 */
export async function untilInterrupted<T>(
  work: (signal: AbortSignal) => Promise<T>,
): Promise<{ made: T; interrupted: undefined } | { made: undefined; interrupted: number }> {
  const controller = new AbortController()
  const numbers = { SIGINT: 2, SIGTERM: 15 } as const
  let received: number | undefined
  const handlers = (Object.keys(numbers) as (keyof typeof numbers)[]).map((name) => {
    const handler = (): void => {
      received = numbers[name]
      controller.abort()
    }
    process.once(name, handler)
    return [name, handler] as const
  })
  try {
    return { made: await work(controller.signal), interrupted: undefined }
  } catch (error) {
    if (received === undefined || !(error instanceof S4Error && error.code === 'ERR_S4_ABORTED')) throw error
    return { made: undefined, interrupted: received }
  } finally {
    for (const [name, handler] of handlers) process.off(name, handler)
  }
}
