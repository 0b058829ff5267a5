// A series with everything that linear forecast and network take of it, and the network's inputs and targets for a piece of it.
import { clipped, statistics, typicalMove, VALUES_PER_TARGET, writeInputs } from './causal.js'
import type { LinearFilter, LinearSeries } from './linear-forecast.js'
import type { ScaledSeries } from './series.js'

/** A series that is ready for the network. */
export interface PreparedSeries extends LinearSeries {
  readonly length: number
}

export function prepared(series: ScaledSeries, lookBack: number): PreparedSeries {
  return {
    ...series,
    statistics: series.targets.map((x) => statistics(x, lookBack)),
    knownLevels: series.known.map((x) => statistics(x, lookBack).level),
  }
}

/** What turns a series into the network's inputs and its outputs into forecasts. */
export interface NetworkScales {
  readonly horizon: number
  /** {@link typicalMove} of each target. */
  readonly moves: readonly number[]
  /** Root mean square of what the linear forecast leaves, over the window's deviation: step k of target c at k·targets + c. */
  readonly residuals: ArrayLike<number>
}

/** Number of the network's inputs at a time step. */
export const inputWidth = (targets: number, known: number): number => targets * VALUES_PER_TARGET + 2 * known

/** {@link typicalMove} of each target, over the rows before `ends`. */
export function movesOf(all: readonly PreparedSeries[], ends: readonly number[]): number[] {
  return (all[0] as PreparedSeries).targets.map((_, c) =>
    typicalMove(
      all.map((series, i) => ({
        x: (series.targets[c] as Float64Array).subarray(0, ends[i]),
        deviation: series.statistics[c]!.deviation,
      })),
    ),
  )
}

/** Writes the network's inputs for time step t: three values a target, then of each covariate that of t and of t + horizon. */
export function writeStep(
  out: Float32Array,
  at: number,
  series: PreparedSeries,
  t: number,
  { moves, horizon }: NetworkScales,
  first: number,
): void {
  series.targets.forEach((x, c) => {
    const now = x[t] as number
    const before = x[Math.max(first, t - 1)] as number
    const earlier = x[Math.max(first, t - 2)] as number
    const { level, deviation } = series.statistics[c]!
    const window = { level: level[t] as number, deviation: deviation[t] as number }
    writeInputs(out, at + c * VALUES_PER_TARGET, [now, before, earlier], window, moves[c] as number)
  })
  const from = at + series.targets.length * VALUES_PER_TARGET
  series.known.forEach((x, q) => {
    out[from + 2 * q] = clipped(x[t] as number)
    out[from + 2 * q + 1] = clipped(x[Math.min(x.length - 1, t + horizon)] as number)
  })
}

/** The network's inputs for a piece of a series, (length, {@link inputWidth}). */
export function pieceInputs(
  series: PreparedSeries,
  start: number,
  length: number,
  scales: NetworkScales,
): Float32Array {
  const width = inputWidth(series.targets.length, series.known.length)
  const out = new Float32Array(length * width)
  for (let t = 0; t < length; t++) writeStep(out, t * width, series, start + t, scales, 0)
  return out
}

/**
 * What the linear forecast leaves, over the window's deviation, at the time steps of a piece: (length, horizon·targets). NaN
 * where a value to forecast is missing or beyond `end`.
 */
export function leftOver(
  series: PreparedSeries,
  filter: LinearFilter,
  { start, length, end }: { start: number; length: number; end: number },
  horizon: number,
): Float32Array {
  const out = filter.apply(series, start, length)
  const targets = series.targets.length
  series.targets.forEach((x, c) => {
    const { deviation } = series.statistics[c]!
    for (let t = 0; t < length; t++)
      for (let k = 0; k < horizon; k++) {
        const at = (t * horizon + k) * targets + c
        const ahead = start + t + 1 + k
        const there = ahead < end && series.missing?.[ahead] !== 1
        out[at] = there
          ? ((x[ahead] as number) - (out[at] as number)) / (deviation[start + t] as number)
          : NaN
      }
  })
  return out
}
