// A series with everything that linear forecast and network take of it, and the network's inputs and targets for a piece of it.
import { fail } from '../error.js'
import { clipped, statistics, typicalMove, VALUES_PER_TARGET, writeInputs } from './causal.js'
import { Clock, stampsOf } from './clock.js'
import { valueAhead, isKnownAhead, type LinearFilter, type LinearSeries } from './linear-forecast.js'
import { scaledSeries, type ColumnPlan, type GivenTable, type ScaledSeries } from './series.js'

/** A series that is ready for the network. */
export interface PreparedSeries extends LinearSeries {
  readonly length: number
}

/** A table in scaled units. `interval`: the usual one in milliseconds, where the intervals between its stamps are taken. */
export function preparedTable(
  op: string,
  { columns, time }: GivenTable,
  plan: ColumnPlan,
  lookBack: number,
  interval: number | undefined,
): PreparedSeries {
  const series = scaledSeries(op, columns, plan)
  if (interval === undefined) return prepared(series, lookBack)
  if (time === undefined)
    throw fail('ERR_S4_DATA', op, 'data with the time of each row, for a forecaster of intervals', 'none')
  const rows = Math.max(series.length, ...series.known.map((x) => x.length))
  return prepared(series, lookBack, new Clock(stampsOf(op, time, series.length), interval, lookBack, rows))
}

function prepared(series: ScaledSeries, lookBack: number, clock?: Clock): PreparedSeries {
  return {
    ...series,
    clock,
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
      all.map(({ targets, statistics: own, clock }, i) => ({
        x: (targets[c] as Float64Array).subarray(0, ends[i]),
        deviation: own[c]!.deviation,
        clock,
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
  const last: [number, number, number] = [0, 0, 0]
  series.targets.forEach((x, c) => {
    if (series.clock === undefined)
      for (let j = 0; j < last.length; j++) last[j] = x[Math.max(first, t - j)] as number
    else series.clock.before(x, t, last)
    const { level, deviation } = series.statistics[c]!
    const window = { level: level[t] as number, deviation: deviation[t] as number }
    writeInputs(out, at + c * VALUES_PER_TARGET, last, window, moves[c] as number)
  })
  const from = at + series.targets.length * VALUES_PER_TARGET
  series.known.forEach((x, q) => {
    out[from + 2 * q] = clipped(x[t] as number)
    const there = series.clock === undefined ? Math.min(x.length - 1 - t, horizon) : horizon
    out[from + 2 * q + 1] = clipped(valueAhead(series, x, t, there))
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

/** The intervals before the rows of a piece, for the network; undefined of a series whose rows are evenly spaced. */
export function pieceIntervals(
  { clock }: PreparedSeries,
  start: number,
  length: number,
): Float32Array | undefined {
  if (clock === undefined) return undefined
  return Float32Array.from({ length }, (_, i) => clock.interval(start + i))
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
        out[at] = isKnownAhead(series, start + t, 1 + k, end)
          ? (valueAhead(series, x, start + t, 1 + k) - (out[at] as number)) / (deviation[start + t] as number)
          : NaN
      }
  })
  return out
}
