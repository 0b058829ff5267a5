/** Runs `work` with a signal that Ctrl-C fires, and gives the number of the process signal that did; a second Ctrl-C ends the process. */
export async function untilInterrupted(
  work: (signal: AbortSignal) => Promise<void>,
): Promise<number | undefined> {
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
    await work(controller.signal)
  } finally {
    for (const [name, handler] of handlers) process.off(name, handler)
  }
  return received
}
