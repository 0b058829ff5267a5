/**
 * Shows the progress of a long task on stderr, since stdout is for results: as one line that is redrawn on a terminal, otherwise as a new
 * line every few seconds.
 */
export interface Progress {
  update(done: number, total: number, note: string): void
  end(note?: string): void
}

const width = 28
const plainEvery = 5000

export function progress(
  label: string,
  out: NodeJS.WriteStream = process.stderr,
  now: () => number = Date.now,
): Progress {
  const terminal = out.isTTY === true
  let last = 0
  const began = now()
  return {
    update(done, total, note) {
      const time = now()
      const finished = done >= total
      if (!finished && time - last < (terminal ? 80 : plainEvery)) return
      last = time
      const share = total > 0 ? Math.min(1, done / total) : 0
      const left = share > 0.01 && !finished ? ` ${clock(((time - began) / share) * (1 - share))} left` : ''
      if (terminal) {
        const full = Math.round(share * width)
        out.write(
          `\r\x1b[K${label} ${'━'.repeat(full)}${'╌'.repeat(width - full)} ${String(Math.floor(share * 100)).padStart(3)} % ${note}${left}`,
        )
      } else {
        out.write(`${label}: ${done}/${total} ${note}${left}\n`)
      }
    },
    end(note) {
      if (terminal) out.write('\r\x1b[K')
      if (note) out.write(`${label}: ${note}\n`)
    },
  }
}

/** Milliseconds as minutes and seconds: 83000 gives '1:23'. */
export function clock(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
