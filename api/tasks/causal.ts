/**
 * Instance normalisation of a series that is causal: at each time step the values are taken relative to mean and deviation of
 * the last `lookBack` of them. Whole series and streams are computed by the same steps, so they give the same numbers.
 */
import type { Clock } from './clock.js'

/** Added to the deviation of a window (in deviations of the training part), so that a constant window is not blown up. */
const FLOOR = 0.05

/** Mean and deviation of the last values of one series. Before there are `length` of them, of those that there are. */
export class RunningWindow {
  readonly #ring: Float64Array
  #seen = 0
  level = 0
  deviation = FLOOR

  constructor(length: number) {
    this.#ring = new Float64Array(length)
  }

  push(value: number): void {
    const ring = this.#ring
    ring[this.#seen % ring.length] = value
    this.#seen++
    const n = Math.min(this.#seen, ring.length)
    // All are added again each time: running sums would keep the rounding errors of large values that have left the window.
    let sum = 0
    for (let i = 0; i < n; i++) sum += ring[i] as number
    const mean = sum / n
    let squares = 0
    for (let i = 0; i < n; i++) squares += ((ring[i] as number) - mean) ** 2
    this.level = mean
    this.deviation = Math.sqrt(squares / n) + FLOOR
  }

  /** The value `back` time steps ago, the last being 0; the first one where there are none so old. */
  at(back: number): number {
    const ring = this.#ring
    const i = this.#seen - 1 - Math.min(back, Math.min(this.#seen, ring.length) - 1)
    return ring[i % ring.length] as number
  }
}

/** Level and deviation at each time step of a series. */
export interface Statistics {
  readonly level: Float64Array
  readonly deviation: Float64Array
}

/** {@link RunningWindow} over a whole series. */
export function statistics(x: Float64Array, lookBack: number): Statistics {
  const window = new RunningWindow(lookBack)
  const [level, deviation] = [new Float64Array(x.length), new Float64Array(x.length)]
  x.forEach((value, t) => {
    window.push(value)
    level[t] = window.level
    deviation[t] = window.deviation
  })
  return { level, deviation }
}

/** Values of one target as the network sees them at a time step: its place in the window, and two differences. */
export const VALUES_PER_TARGET = 3
const MOST = 10

/**
 * Writes the inputs of one target at a time step to out[at …]: (x − level)/deviation, and the first and second difference in
 * units of `move` deviations. The differences stand by themselves because they help one step ahead: beside the level they would
 * be small.
 */
export function writeInputs(
  out: Float32Array,
  at: number,
  [now, before, earlier]: readonly [number, number, number],
  { level, deviation }: { level: number; deviation: number },
  move: number,
): void {
  const unit = deviation * move
  out[at] = clipped((now - level) / deviation)
  out[at + 1] = clipped((now - before) / unit)
  out[at + 2] = clipped((now - 2 * before + earlier) / unit)
}

/** Limits a value, for a single wild sample would fill the state. */
export const clipped = (x: number): number => Math.max(-MOST, Math.min(MOST, x))

/**
 * Root mean square of the first difference over the deviation of its window, in the training part; where rows came at uneven times
 * of the difference over a usual interval.
 */
export function typicalMove(
  parts: readonly { x: Float64Array; deviation: Float64Array; clock: Clock | undefined }[],
): number {
  let [sum, count] = [0, 0]
  const last = [0, 0]
  for (const { x, deviation, clock } of parts)
    for (let t = 1; t < x.length; t++) {
      clock?.before(x, t, last)
      const before = clock === undefined ? x[t - 1] : last[1]
      sum += (((x[t] as number) - (before as number)) / (deviation[t] as number)) ** 2
      count++
    }
  return Math.max(Math.sqrt(sum / Math.max(count, 1)), 1e-3)
}
