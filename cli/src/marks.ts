/**
 * Marks: the samples that a model finds improbable.
 *
 * At each sample the model said beforehand what it expected: mean and σ, so z = (x − mean)/σ. Over a short window the mean of z²
 * should be near one. It is far above one where something came that nobody could expect, and far below one where a signal is
 * quieter than any real signal (a lead that fell off gives a flat line, which every forecast of the next sample likes).
 * Both thresholds are quantiles of the training part: nothing is tuned on the part that is judged.
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

/** Mean of z² over the last `window` samples; NaN until the window is full of finite values. */
export function windowedSquares(z: ArrayLike<number>, window: number): Float64Array {
  const out = new Float64Array(z.length)
  for (let t = 0; t < z.length; t++) {
    if (t + 1 < window) {
      out[t] = Number.NaN
      continue
    }
    let sum = 0
    for (let k = 0; k < window; k++) sum += z[t - k] * z[t - k]
    out[t] = sum / window
  }
  return out
}

/** Thresholds from the scores of a part that counts as ordinary. The lower one is half of the quietest window seen there. */
export function calibrate(z: ArrayLike<number>, from: number, to: number, options: MarkOptions = defaultMarks): Thresholds {
  const surprise = windowedSquares(z, options.window).subarray(from, to)
  const quiet = windowedSquares(z, options.quietWindow).subarray(from, to)
  return { options, surprise: quantile(surprise, options.quantile), quiet: quantile(quiet, 0) / 2 }
}

/** The marks in z[0..len). */
export function findMarks(z: ArrayLike<number>, { options, surprise, quiet }: Thresholds): Mark[] {
  const loud = windowedSquares(z, options.window)
  const still = windowedSquares(z, options.quietWindow)
  const marks: { from: number; to: number; peak: number; kind: Mark['kind']; strength: number }[] = []
  for (let t = 0; t < z.length; t++) {
    const up = loud[t] / surprise
    const down = still[t] > 0 ? quiet / still[t] : still[t] === 0 ? Infinity : 0
    const strength = Math.max(up > 1 ? up : 0, down > 1 ? down : 0)
    if (!(strength > 1)) continue
    const kind = up > 1 ? 'surprise' : 'flat'
    const from = Math.max(0, t + 1 - (kind === 'surprise' ? options.window : options.quietWindow))
    const last = marks[marks.length - 1]
    if (last && from <= last.to + options.gap) {
      last.to = t + 1
      if (strength > last.strength) Object.assign(last, { peak: t, strength, kind })
    } else {
      marks.push({ from, to: t + 1, peak: t, kind, strength })
    }
  }
  return marks
}
