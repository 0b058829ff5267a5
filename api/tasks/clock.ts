/**
 * Series whose rows came at uneven times. Times are counted in usual intervals, so that a forecast is made for 1, 2, … usual intervals
 * after a row, and a look-back goes as far back in time at every row. Between rows a value is on the straight line from one to the next.
 */
import { describe, fail } from '../error.js'
import { column } from './series.js'

/** Two rows that are further apart, in usual intervals, have no known values between them. */
const MOST_GAP = 5
/** Stamps are uneven where an interval is further than this part of the usual one from it: months are still even, of 28 to 31 days. */
const EVEN = 0.1

/** A time as messages show it: in ISO 8601 where it can be one. */
export const stampText = (ms: number): string =>
  Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ms)

/** The stamps of a table's rows, each after the one before it; there may be more than rows. `hint` is added to what is expected. */
export function stampsOf(op: string, given: unknown, rows: number, hint = ''): Float64Array {
  const stamps = column(op, 'time of data', given)
  if (stamps.length < rows) throw fail('ERR_S4_DATA', op, `time of data for ${rows} rows`, stamps.length)
  stamps.forEach((ms, t) => {
    if (!Number.isFinite(ms))
      throw fail('ERR_S4_DATA', op, `time of data in every row${hint}`, `${describe(ms)} in row ${t}`)
    const before = stamps[t - 1]
    if (before !== undefined && !(ms > before))
      throw fail(
        'ERR_S4_DATA',
        op,
        `time of data that is later in every row than in the one before${hint}`,
        `${stampText(ms)} in row ${t} after ${stampText(before)}`,
      )
  })
  return stamps
}

/** The usual interval: the median (of two middle ones the lower) between neighbours of these stamps; undefined where there are none. */
export function usualInterval(parts: readonly Float64Array[]): number | undefined {
  const all = Float64Array.from(
    parts.flatMap((stamps) => Array.from(stamps.subarray(1), (ms, i) => ms - (stamps[i] as number))),
  ).toSorted()
  return all[(all.length - 1) >> 1]
}

/** Whether intervals differ from the usual one by more than a tenth of it. */
export const isUneven = (parts: readonly Float64Array[], usual: number): boolean =>
  parts.some((stamps) =>
    stamps.some((ms, t) => t > 0 && Math.abs((ms - (stamps[t - 1] as number)) / usual - 1) > EVEN),
  )

/** The least and the most interval between neighbours, in usual ones. */
export function intervalRange(parts: readonly Float64Array[], usual: number): [number, number] {
  let [least, most] = [Infinity, 0]
  for (const stamps of parts)
    for (let t = 1; t < stamps.length; t++) {
      const interval = ((stamps[t] as number) - (stamps[t - 1] as number)) / usual
      ;[least, most] = [Math.min(least, interval), Math.max(most, interval)]
    }
  return [least, most]
}

/** The first place from `from` on whose time is `want` or later; the number of times where there is none. */
function firstAt(times: ArrayLike<number>, want: number, from = 0): number {
  let [low, high] = [from, times.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((times[middle] as number) < want) low = middle + 1
    else high = middle
  }
  return low
}

/** The value at a time, on the line between its neighbours; before the first and after the last of them their own. */
export function valueAt(times: ArrayLike<number>, x: ArrayLike<number>, want: number): number {
  const last = Math.min(times.length, x.length) - 1
  const i = firstAt(times, want)
  if (i > last) return x[last] as number
  return i === 0 || times[i] === want ? (x[i] as number) : between(times, x, i - 1, want)
}

/** On the line from place i to the next. */
function between(times: ArrayLike<number>, x: ArrayLike<number>, i: number, want: number): number {
  const share = (want - (times[i] as number)) / ((times[i + 1] as number) - (times[i] as number))
  return (x[i] as number) + share * ((x[i + 1] as number) - (x[i] as number))
}

/** Writes the values at the time of place t, at 1, 2, … before it: before place `first` its value goes on. */
export function valuesBefore(
  times: ArrayLike<number>,
  x: ArrayLike<number>,
  t: number,
  first: number,
  out: Float64Array | number[],
): void {
  let i = t
  for (let j = 0; j < out.length; j++) {
    const want = (times[t] as number) - j
    while (i > first && (times[i] as number) > want) i--
    out[j] = i === t || (times[i] as number) >= want ? (x[i] as number) : between(times, x, i, want)
  }
}

/** When the rows of a series came. */
export class Clock {
  /** Time of each row since the first, in usual intervals; goes on at usual intervals for `rows` rows. */
  readonly times: Float64Array
  readonly #start: number
  readonly #usual: number
  readonly #lookBack: number

  constructor(stamps: Float64Array, usual: number, lookBack: number, rows: number) {
    const first = stamps[0] as number
    const last = ((stamps.at(-1) as number) - first) / usual
    this.times = Float64Array.from({ length: Math.max(rows, stamps.length) }, (_, t) =>
      t < stamps.length ? ((stamps[t] as number) - first) / usual : last + t - stamps.length + 1,
    )
    this.#start = first
    this.#usual = usual
    this.#lookBack = lookBack
  }

  /** The stamps of 1, 2, … usual intervals after row t, in milliseconds. */
  stampsAfter(t: number, count: number): Float64Array {
    return Float64Array.from(
      { length: count },
      (_, k) => this.#start + ((this.times[t] as number) + 1 + k) * this.#usual,
    )
  }

  /** The interval from the row before, which the network takes; 1 for the first row. */
  interval(t: number): number {
    return t === 0 ? 1 : (this.times[t] as number) - (this.times[t - 1] as number)
  }

  /** Writes the values at row t and at 1, 2, … usual intervals before it, of the last look-back of rows alone. */
  before(x: Float64Array, t: number, out: Float64Array | number[]): void {
    valuesBefore(this.times, x, t, Math.max(0, t - this.#lookBack + 1), out)
  }

  /** The value `steps` usual intervals from row t, forwards or back; beyond the rows that there are the last, or the first. */
  from(x: Float64Array, t: number, steps: number): number {
    return valueAt(this.times, x, (this.times[t] as number) + steps)
  }

  /**
   * Whether the value `steps` usual intervals after row t is known by the rows before `end`: not where it is in a gap, or beside a
   * missing one.
   */
  isKnown(t: number, steps: number, end: number, missing: Uint8Array | undefined): boolean {
    const want = (this.times[t] as number) + steps
    const i = firstAt(this.times, want, t)
    if (i >= end || missing?.[i] === 1) return false
    if (this.times[i] === want) return true
    return missing?.[i - 1] !== 1 && (this.times[i] as number) - (this.times[i - 1] as number) <= MOST_GAP
  }

  /** The rows of [from, to) before which all `horizon` steps are, by time: the end of those that a forecast may be made at. */
  lastOrigin(to: number, horizon: number): number {
    const most = (this.times[to - 1] as number) - horizon
    const i = firstAt(this.times, most)
    return this.times[i] === most ? i + 1 : i
  }

  /** The values of the rows before `end` at usual intervals; gaps are left out. */
  even(x: Float64Array, end: number): Float64Array {
    const out: number[] = []
    let want = 0
    for (let t = 1; t < end; t++) {
      const [before, now] = [this.times[t - 1] as number, this.times[t] as number]
      if (now - before > MOST_GAP) want = Math.ceil(now)
      for (; want < now; want++) out.push(between(this.times, x, t - 1, want))
    }
    return Float64Array.from(out)
  }
}
