// The season of a series, by its autocorrelation.

const MOST_VALUES = 4096
const MOST_LAG = 400
const LEAST_CORRELATION = 0.2

/** The lag at which the series are most like themselves, the shortest of such lags; 1 where there is none. */
export function seasonOf(series: readonly Float64Array[]): number {
  const shortest = Math.min(...series.map((x) => x.length))
  const lags = Math.min(MOST_LAG, Math.floor(shortest / 3))
  const correlation = new Float64Array(lags + 2)
  for (const x of series) {
    const tail = x.subarray(Math.max(0, x.length - MOST_VALUES))
    // Of the differences, for a level that drifts is like itself at every lag.
    const d = Float64Array.from(
      { length: tail.length - 1 },
      (_, t) => (tail[t + 1] as number) - (tail[t] as number),
    )
    const squares = d.reduce((sum, v) => sum + v * v, 0)
    if (squares === 0) continue
    for (let lag = 1; lag <= lags; lag++) {
      let sum = 0
      for (let t = lag; t < d.length; t++) sum += (d[t] as number) * (d[t - lag] as number)
      correlation[lag]! += sum / squares / series.length
    }
  }
  let most = 0
  const peaks: number[] = []
  for (let lag = 2; lag < lags; lag++) {
    const here = correlation[lag] as number
    if (here < (correlation[lag - 1] as number) || here <= (correlation[lag + 1] as number)) continue
    peaks.push(lag)
    most = Math.max(most, here)
  }
  if (most < LEAST_CORRELATION) return 1
  return peaks.find((lag) => (correlation[lag] as number) >= 0.8 * most) ?? 1
}
