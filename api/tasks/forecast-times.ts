// Forecasts at other times than those of whole steps.
import type { ForecastParts, ScaledForecast } from './forecast-network.js'

/**
 * A forecast at these numbers of steps ahead, which need not be whole: on the line from one step to the next, before the first step from
 * the last values (scaled, by target) on, with the spread of the first step. Beyond the last step that one goes on.
 */
export function forecastAt(
  { targets, horizon }: Pick<ForecastParts, 'targets' | 'horizon'>,
  { mean, sigma, quantiles }: ScaledForecast,
  last: readonly number[],
  steps: readonly number[],
): ScaledForecast {
  /** Steps before and after, from 1, of which the former is 0 before the first; and how far it is between them. */
  const places = steps.map((s): [number, number] => {
    const before = Math.min(Math.floor(s), horizon - 1)
    return [before, Math.min(s - before, 1)]
  })
  const filled = (value: (before: number, share: number, c: number) => number) =>
    Float64Array.from({ length: steps.length * targets }, (_, i) => {
      const [before, share] = places[Math.floor(i / targets)] as [number, number]
      return value(before, share, i % targets)
    })
  const at = (x: Float64Array, step: number, c: number) => x[(step - 1) * targets + c] as number
  const line = (from: number, to: number, share: number) => from + share * (to - from)
  const meanAt = (before: number, share: number, c: number) =>
    line(before === 0 ? (last[c] as number) : at(mean, before, c), at(mean, before + 1, c), share)
  return {
    mean: filled(meanAt),
    sigma: sigma && filled((k, share, c) => line(at(sigma, Math.max(k, 1), c), at(sigma, k + 1, c), share)),
    quantiles: quantiles?.map((x) =>
      filled((k, share, c) =>
        k === 0
          ? meanAt(k, share, c) + at(x, 1, c) - at(mean, 1, c)
          : line(at(x, k, c), at(x, k + 1, c), share),
      ),
    ),
  }
}

/** The forecast for one time, `step` steps ahead, in the place of the first step. */
export const stepAhead = (
  parts: Pick<ForecastParts, 'targets' | 'horizon'>,
  forecast: ScaledForecast,
  last: readonly number[],
  step: number,
): ScaledForecast => forecastAt(parts, forecast, last, [step])
