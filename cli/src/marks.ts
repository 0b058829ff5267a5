/**
 * Marks: the samples that a model finds improbable.
 *
 * Before each sample the model said what it expected: mean and σ, so z = (x − mean)/σ. Over a short window the mean of z² should be
 * near one. It is far above where something came that nobody could expect, and far below where a signal is quieter than any real one
 * (a lead that fell off gives a flat line, which every forecast of the next sample likes).
 * Both thresholds come from the training part: nothing is tuned on the part that is judged.
 */
import { quantile } from './series.js'

/** A run of improbable samples, [from, to), `peak` the worst of them. */
export interface Mark {
  readonly from: number
  readonly to: number
  readonly peak: number
  readonly kind: 'surprise' | 'flat'
  /** how far past its threshold the worst sample is (≥ 1) */
  readonly strength: number
}

export interface MarkOptions {
  /** samples in the window of surprise */
  readonly window: number
  /** samples in the window of quietness */
  readonly quietWindow: number
  /** marks closer than this are one */
  readonly gap: number
  /** quantile of the training part's surprise that becomes the threshold */
  readonly quantile: number
}

export interface Thresholds {
  readonly options: MarkOptions
  readonly surprise: number
  readonly quiet: number
}

/** At 360 samples a second: 14 ms of surprise, a third of a second of quietness, a quarter of a second between marks. */
export const defaultMarks: MarkOptions = { window: 5, quietWindow: 120, gap: 90, quantile: 0.998 }

/** Mean of the last `window` values of z², sample by sample; NaN until that many finite ones have come. */
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
    // summed anew: a running sum would keep the rounding of every spike that has passed
    let sum = 0
    for (const square of this.#ring) sum += square
    return sum / this.#ring.length
  }
}

/** Mean of z² over the last `window` samples. */
export function windowedSquares(z: ArrayLike<number>, window: number): Float64Array {
  const running = new RunningSquares(window)
  return Float64Array.from(z as ArrayLike<number>, (value) => running.push(value))
}

/** Thresholds from a part that counts as ordinary; the lower one is half of the quietest window seen there. */
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

/** Judges one sample after another. */
export class Detector {
  readonly #thresholds: Thresholds
  readonly #loud: RunningSquares
  readonly #still: RunningSquares

  constructor(thresholds: Thresholds) {
    this.#thresholds = thresholds
    this.#loud = new RunningSquares(thresholds.options.window)
    this.#still = new RunningSquares(thresholds.options.quietWindow)
  }

  /** How far past a threshold the sample is (above 1: improbable), and which way. */
  push(z: number): { strength: number; kind: Mark['kind'] } {
    const { surprise, quiet } = this.#thresholds
    const up = this.#loud.push(z) / surprise
    const down = quiet / this.#still.push(z)
    return up > 1 || !(down > 1)
      ? { strength: up > 0 ? up : 0, kind: 'surprise' }
      : { strength: down, kind: 'flat' }
  }
}

/** The marks in z[0..len). */
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
