/**
 * Marks of improbable samples. z = (x − mean)/σ is the surprise of a sample by the forecast that was made before it; of several
 * targets it is the root mean square. The mean of z² over a short window is far above its values in the validation part where
 * something unexpected happens, and far below where the series is quieter than it ever was (a sensor that fell off).
 */

/** Limits by the validation part. */
export interface Thresholds {
  /** Samples over which the mean of z² is taken to find unexpected ones. */
  readonly window: number
  /** Samples over which it is taken to find a flat series. */
  readonly quietWindow: number
  /** Above this mean a sample is a surprise. */
  readonly surprise: number
  /** Below this mean the series is flat. */
  readonly quiet: number
}

const WINDOW = 5
const QUIET_WINDOW = 120
const QUANTILE = 0.998

/** Computes the mean of z² over the last `window` samples; NaN until there were so many finite ones in a row. */
class RunningSquares {
  readonly #ring: Float64Array
  #at = 0
  #seen = 0

  constructor(window: number) {
    this.#ring = new Float64Array(window)
  }

  push(z: number): number {
    if (!Number.isFinite(z)) {
      this.#seen = 0
      return NaN
    }
    this.#ring[this.#at] = z * z
    this.#at = (this.#at + 1) % this.#ring.length
    this.#seen += 1
    if (this.#seen < this.#ring.length) return NaN
    // All are added again: a running sum would keep rounding errors of large values that have left the window.
    let sum = 0
    for (const square of this.#ring) sum += square
    return sum / this.#ring.length
  }
}

/** The q-quantile of the finite values, linearly interpolated; NaN where there are none. */
export function quantile(x: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(x as ArrayLike<number>)
    .filter(Number.isFinite)
    .toSorted()
  if (sorted.length === 0) return NaN
  const at = q * (sorted.length - 1)
  const low = Math.floor(at)
  const high = Math.min(low + 1, sorted.length - 1)
  return (sorted[low] as number) + (at - low) * ((sorted[high] as number) - (sorted[low] as number))
}

/** Thresholds by runs of surprises that count as normal; undefined where there are too few. */
export function thresholdsOf(runs: readonly Float64Array[]): Thresholds | undefined {
  const squares = (window: number) =>
    runs.flatMap((run) => {
      const running = new RunningSquares(window)
      return Array.from(run, (z) => running.push(z)).filter(Number.isFinite)
    })
  const surprise = quantile(squares(WINDOW), QUANTILE)
  const quiet = quantile(squares(QUIET_WINDOW), 0) / 2
  if (!Number.isFinite(surprise) || surprise === 0) return undefined
  return { window: WINDOW, quietWindow: QUIET_WINDOW, surprise, quiet: Number.isFinite(quiet) ? quiet : 0 }
}

/** Finds improbable samples in a stream. */
export class Detector {
  readonly #thresholds: Thresholds
  readonly #loud: RunningSquares
  readonly #still: RunningSquares

  constructor(thresholds: Thresholds) {
    this.#thresholds = thresholds
    this.#loud = new RunningSquares(thresholds.window)
    this.#still = new RunningSquares(thresholds.quietWindow)
  }

  /** How far a sample is beyond its limit (above 1: a mark), and which limit. */
  push(z: number): { strength: number; kind: 'surprise' | 'flat' } {
    const { surprise, quiet } = this.#thresholds
    const up = this.#loud.push(z) / surprise
    const down = quiet / this.#still.push(z)
    return up > 1 || !(down > 1)
      ? { strength: up > 0 ? up : 0, kind: 'surprise' }
      : { strength: Number.isFinite(down) ? down : 1e6, kind: 'flat' }
  }
}
