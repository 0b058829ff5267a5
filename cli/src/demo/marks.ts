/**
 * Marks samples of a series that a model finds improbable.
 *
 * Before each sample x the model predicts its mean and σ; z = (x − mean)/σ is the surprise. The mean of z² over a short window should be
 * near 1. It is far above 1 where the signal is unexpected, and far below where the signal is quieter than it ever was in training (when
 * an electrode falls off, the signal is constant and easily predicted). The thresholds for both are set by the training part alone.
 */
import { quantile } from './series.js'

/** A run of improbable samples, [from, to); `peak` is the most improbable one. */
export interface Mark {
  readonly from: number
  readonly to: number
  readonly peak: number
  readonly kind: 'surprise' | 'flat'
  /** The most improbable sample's ratio to the threshold, 1 or more. */
  readonly strength: number
}

export interface MarkOptions {
  /** Number of samples over which the mean of z² is taken to find unexpected ones. */
  readonly window: number
  /** Number of samples over which the mean of z² is taken to find a flat signal. */
  readonly quietWindow: number
  /** Marks that are fewer samples apart are joined. */
  readonly gap: number
  /** The threshold of surprise is this quantile of the windowed z² in the training part. */
  readonly quantile: number
}

export interface Thresholds {
  readonly options: MarkOptions
  readonly surprise: number
  readonly quiet: number
}

/** For 360 samples per second: windows of 14 ms and of a third of a second, and at least a quarter of a second between marks. */
export const defaultMarks: MarkOptions = { window: 5, quietWindow: 120, gap: 90, quantile: 0.998 }

/** Computes the mean of z² over the last `window` samples, sample by sample; NaN until there were so many finite ones in a row. */
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
      return Number.NaN
    }
    this.#ring[this.#at] = z * z
    this.#at = (this.#at + 1) % this.#ring.length
    this.#seen += 1
    if (this.#seen < this.#ring.length) return Number.NaN
    // All are added again for each sample: a running sum would keep rounding errors of large values that have left the window.
    let sum = 0
    for (const square of this.#ring) sum += square
    return sum / this.#ring.length
  }
}

/** For each sample the mean of z² over the last `window` samples; NaN for the first ones. */
export function windowedSquares(z: ArrayLike<number>, window: number): Float64Array {
  const running = new RunningSquares(window)
  return Float64Array.from(z as ArrayLike<number>, (value) => running.push(value))
}

/** The thresholds by the samples [from, to), which count as normal: a quantile of the windowed z², and half of its smallest value. */
export function calibrate(
  z: ArrayLike<number>,
  from: number,
  to: number,
  options: MarkOptions = defaultMarks,
): Thresholds {
  const surprise = windowedSquares(z, options.window).subarray(from, to)
  const quiet = windowedSquares(z, options.quietWindow).subarray(from, to)
  return { options, surprise: quantile(surprise, options.quantile), quiet: quantile(quiet, 0) / 2 }
}

/** Finds improbable samples in a stream. */
export class Detector {
  readonly #thresholds: Thresholds
  readonly #loud: RunningSquares
  readonly #still: RunningSquares

  constructor(thresholds: Thresholds) {
    this.#thresholds = thresholds
    this.#loud = new RunningSquares(thresholds.options.window)
    this.#still = new RunningSquares(thresholds.options.quietWindow)
  }

  /** The next sample's ratio to the threshold (above 1: improbable), and whether it is surprising or flat. */
  push(z: number): { strength: number; kind: Mark['kind'] } {
    const { surprise, quiet } = this.#thresholds
    const up = this.#loud.push(z) / surprise
    const down = quiet / this.#still.push(z)
    return up > 1 || !(down > 1)
      ? { strength: up > 0 ? up : 0, kind: 'surprise' }
      : { strength: down, kind: 'flat' }
  }
}

/** All marks of a series with the surprise z. */
export function findMarks(z: ArrayLike<number>, thresholds: Thresholds): Mark[] {
  const { window, quietWindow, gap } = thresholds.options
  const detector = new Detector(thresholds)
  const marks: { from: number; to: number; peak: number; kind: Mark['kind']; strength: number }[] = []
  for (let t = 0; t < z.length; t++) {
    const { strength, kind } = detector.push(z[t])
    if (!(strength > 1)) continue
    const from = Math.max(0, t + 1 - (kind === 'surprise' ? window : quietWindow))
    const last = marks[marks.length - 1]
    if (last !== undefined && from <= last.to + gap) {
      last.to = t + 1
      if (strength > last.strength) Object.assign(last, { peak: t, strength, kind })
    } else {
      marks.push({ from, to: t + 1, peak: t, kind, strength })
    }
  }
  return marks
}
