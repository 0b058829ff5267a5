// What the validation part says of a trained forecaster: how much of the network's correction helps, and how wide the errors are.
import type { SequenceModel } from '../model.js'
import {
  combined,
  rawForecasts,
  type ForecastParts,
  type Part,
  type RawForecast,
} from './forecast-network.js'
import { stepAhead } from './forecast-times.js'
import { valueAhead, isWholeAhead } from './linear-forecast.js'
import { normalCdf } from './metrics.js'
import { quantile, thresholdsOf, type Thresholds } from './marks.js'

/** Sums over the windows of a validation, of which mean squared errors with any share of the correction follow, and one of its forecasts. */
export interface ShareSums {
  /** Squared error of the linear forecast, product of that error with the correction, squared correction; means. */
  readonly linear: number
  readonly product: number
  readonly correction: number
  /** The forecast in the middle of all windows, or after it the first that all values are known of. */
  readonly middle: RawForecast | undefined
}

type Scales = Pick<ForecastParts, 'lookBack' | 'horizon' | 'linear' | 'moves' | 'residuals'>

/** The sums of {@link ShareSums}, `centre` being the place of the outputs that hold the centre. */
export async function shareSums(
  model: SequenceModel,
  scales: Scales,
  parts: readonly Part[],
  { stride, centre, signal }: { stride: number; centre: number; signal: AbortSignal | undefined },
): Promise<ShareSums> {
  let [linear, product, correction, count] = [0, 0, 0, 0]
  let middle: RawForecast | undefined
  const all = parts.reduce((sum, { from, to }) => sum + Math.max(0, Math.ceil((to - from) / stride)), 0)
  let seen = 0
  const { horizon, residuals } = scales
  for await (const raw of rawForecasts(model, scales, parts, stride, signal)) {
    const { series } = parts[raw.part] as Part
    const targets = series.targets.length
    const isLate = ++seen > all / 2
    if (!isWholeAhead(series, raw.origin, horizon, series.length)) continue
    if (isLate) middle ??= raw
    for (let i = 0; i < horizon * targets; i++) {
      const c = i % targets
      const actual = valueAhead(series, series.targets[c]!, raw.origin, 1 + Math.floor(i / targets))
      const error = actual - (raw.linear[i] as number)
      const added =
        (series.statistics[c]!.deviation[raw.origin] as number) *
        (residuals[i] as number) *
        (raw.outputs[centre * horizon * targets + i] as number)
      linear += error * error
      product += error * added
      correction += added * added
      count++
    }
  }
  const n = Math.max(count, 1)
  return { linear: linear / n, product: product / n, correction: correction / n, middle }
}

/** The share of the correction with the least squared error, and that error. */
export function bestShare({ linear, product, correction }: Omit<ShareSums, 'middle'>): {
  share: number
  mse: number
} {
  const share = correction > 0 ? Math.max(0, Math.min(1, product / correction)) : 0
  return { share, mse: linear - 2 * share * product + share * share * correction }
}

/** Calibration of spreads by the validation part, see {@link ForecastParts}. */
export async function calibrationOf(
  model: SequenceModel,
  parts: Omit<ForecastParts, 'calibration'>,
  validation: readonly Part[],
  stride: number,
): Promise<Float64Array> {
  const { horizon, targets, predicted, levels, residuals } = parts
  const width = horizon * targets
  const count = predicted === 'quantiles' ? levels.length * width : width
  const neutral = { ...parts, calibration: new Float64Array(count).fill(predicted === 'quantiles' ? 0 : 1) }
  const errors: number[][] = Array.from({ length: count }, () => [])
  for await (const raw of rawForecasts(model, parts, validation, stride)) {
    const { series } = validation[raw.part] as Part
    if (!isWholeAhead(series, raw.origin, horizon, series.length)) continue
    const deviations = series.statistics.map(({ deviation }) => deviation[raw.origin] as number)
    const forecast = combined(neutral, raw.linear, raw.outputs, deviations)
    for (let i = 0; i < width; i++) {
      const actual = valueAhead(series, series.targets[i % targets]!, raw.origin, 1 + Math.floor(i / targets))
      if (forecast.quantiles === undefined)
        errors[i]!.push((actual - (forecast.mean[i] as number)) / (forecast.sigma![i] as number))
      else {
        const unit = (deviations[i % targets] as number) * (residuals[i] as number)
        forecast.quantiles.forEach((values, q) =>
          errors[q * width + i]!.push((actual - (values[i] as number)) / unit),
        )
      }
    }
  }
  const factors = Float64Array.from(errors, (all, i) => {
    if (all.length === 0) return predicted === 'quantiles' ? 0 : 1
    if (predicted === 'quantiles') return quantile(all, levels[Math.floor(i / width)] as number)
    return Math.max(Math.sqrt(all.reduce((sum, z) => sum + z * z, 0) / all.length), 1e-3)
  })
  // As a file holds them, so that a loaded forecaster forecasts the same.
  return factors.map(Math.fround)
}

/** Surprises one step ahead in the validation part, and the thresholds of marks by them. */
export async function markThresholds(
  model: SequenceModel,
  parts: ForecastParts,
  validation: readonly Part[],
): Promise<Thresholds | undefined> {
  const runs = validation.map(({ from, to }) => new Float64Array(Math.max(to - from, 0)).fill(NaN))
  for await (const raw of rawForecasts(model, parts, validation, 1)) {
    const { series, from } = validation[raw.part] as Part
    if (series.missing?.[raw.origin + 1] === 1) continue
    const deviations = series.statistics.map(({ deviation }) => deviation[raw.origin] as number)
    const actual = series.targets.map((x) => x[raw.origin + 1] as number)
    const forecast = combined(parts, raw.linear, raw.outputs, deviations)
    // A row is expected at its own time, as in a stream.
    const last = series.targets.map((x) => x[raw.origin] as number)
    const interval = series.clock?.interval(raw.origin + 1)
    const next = interval === undefined ? forecast : stepAhead(parts, forecast, last, interval)
    runs[raw.part]![raw.origin - from] = surpriseOf(parts, next, actual)
  }
  return thresholdsOf(runs)
}

/** Mean and deviation of a forecast one step ahead; of quantiles the deviation that a normal distribution would have. */
export function oneStep(
  { targets, levels }: ForecastParts,
  { mean, sigma, quantiles }: ReturnType<typeof combined>,
): { mean: number[]; sigma: number[] } {
  const means = Array.from(mean.subarray(0, targets))
  if (quantiles === undefined) return { mean: means, sigma: Array.from(sigma!.subarray(0, targets)) }
  const [low, high] = [quantiles[0] as Float64Array, quantiles.at(-1) as Float64Array]
  const units = normalQuantile(levels.at(-1) as number) - normalQuantile(levels[0] as number)
  return {
    mean: means,
    sigma: means.map((_, c) =>
      Math.max(((high[c] as number) - (low[c] as number)) / Math.max(units, 1e-6), 1e-9),
    ),
  }
}

/** Root mean square over the targets of (x − mean)/σ. */
export function surpriseOf(
  parts: ForecastParts,
  forecast: ReturnType<typeof combined>,
  actual: readonly number[],
): number {
  const { mean, sigma } = oneStep(parts, forecast)
  const squares = actual.reduce(
    (sum, x, c) => sum + ((x - (mean[c] as number)) / (sigma[c] as number)) ** 2,
    0,
  )
  return Math.sqrt(squares / actual.length)
}

/** Quantile function of the standard normal, by bisection of its distribution function. */
function normalQuantile(p: number): number {
  let [low, high] = [-10, 10]
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (normalCdf(middle) < p) low = middle
    else high = middle
  }
  return (low + high) / 2
}
