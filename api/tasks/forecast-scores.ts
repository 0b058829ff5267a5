// Scores of a forecaster beside persistence, seasonal naive and its own linear forecast, over many windows.
import type { SequenceModel } from '../model.js'
import type { ForecastAbout } from './forecast-file.js'
import { combined, rawForecasts, type Part } from './forecast-network.js'
import { valueAhead, isWholeAhead } from './linear-forecast.js'
import { crps, mae, mse, quantileLoss, smape } from './metrics.js'
import type { Scale } from './series.js'

/** Figures of one way to forecast. */
export interface ForecastFigures {
  /** Mean squared error, in deviations of the training part. */
  mse: number
  /** Mean absolute error, in deviations of the training part. */
  mae: number
  /** Mean over the targets of their absolute error over that of the forecast "as a season before" in the training part. */
  mase: number
  /** Symmetric mean absolute percentage error in the unit of the data, 0 to 2: the mean of 2|a − p|/(|a| + |p|). */
  smape: number
  /** Continuous ranked probability score, in deviations of the training part; of quantiles twice their mean pinball loss. */
  crps?: number
  /** Mean squared error of each step ahead. */
  byStep: number[]
}

/** The figures of a forecaster and of what it is to be compared with, over the same windows. */
export interface ForecastScores {
  /** Number of windows: a forecast of all targets and steps each. */
  windows: number
  /** The forecaster. */
  model: ForecastFigures
  /** The last value, for all steps. */
  persistence: ForecastFigures
  /** The value a season before. */
  seasonalNaive: ForecastFigures
  /** A linear model of the last values, fitted to the training part by least squares with a penalty. */
  linear: ForecastFigures
}

/** Actual values and forecasts of many windows, in scaled units, one window after the other. */
interface Collected {
  readonly actual: Float64Array
  readonly model: Float64Array
  readonly persistence: Float64Array
  readonly seasonalNaive: Float64Array
  readonly linear: Float64Array
  readonly sigma: Float64Array | undefined
  readonly quantiles: readonly Float64Array[] | undefined
  readonly windows: number
}

/** Most numbers of a forecast that an evaluation keeps. */
export const MOST_NUMBERS = 2 ** 23

/** Scores over the time steps [from, to) of the parts at whose end a forecast is made, every `stride`-th. */
export async function forecastScores(
  model: SequenceModel,
  about: ForecastAbout,
  parts: readonly Part[],
  stride: number,
  signal?: AbortSignal,
): Promise<ForecastScores> {
  const all = await collected(model, about, parts, stride, signal)
  const { windows, actual } = all
  const figures = (predicted: Float64Array) => figuresOf(about, actual, predicted)
  const score =
    all.quantiles !== undefined
      ? quantileLoss(actual, all.quantiles, about.parts.levels)
      : crps(actual, all.model, all.sigma as Float64Array)
  return {
    windows,
    model: { ...figures(all.model), crps: score },
    persistence: figures(all.persistence),
    seasonalNaive: figures(all.seasonalNaive),
    linear: figures(all.linear),
  }
}

async function collected(
  model: SequenceModel,
  about: ForecastAbout,
  parts: readonly Part[],
  stride: number,
  signal: AbortSignal | undefined,
): Promise<Collected> {
  const { horizon, targets, predicted, levels } = about.parts
  const width = horizon * targets
  const most = parts.reduce((sum, { from, to }) => sum + Math.max(0, Math.ceil((to - from) / stride)), 0)
  const room = () => new Float64Array(most * width)
  const [actual, means, persistence, seasonalNaive, linear] = [room(), room(), room(), room(), room()]
  const sigma = predicted === 'quantiles' ? undefined : room()
  const quantiles = predicted === 'quantiles' ? levels.map(room) : undefined
  let windows = 0
  for await (const raw of rawForecasts(model, about.parts, parts, stride, signal)) {
    const { series } = parts[raw.part] as Part
    const t = raw.origin
    if (!isWholeAhead(series, t, horizon, series.length)) continue
    const at = windows * width
    const deviations = series.statistics.map(({ deviation }) => deviation[t] as number)
    const forecast = combined(about.parts, raw.linear, raw.outputs, deviations)
    means.set(forecast.mean, at)
    sigma?.set(forecast.sigma as Float64Array, at)
    quantiles?.forEach((room_, q) => room_.set(forecast.quantiles![q] as Float64Array, at))
    linear.set(raw.linear, at)
    series.targets.forEach((x, c) => {
      for (let k = 0; k < horizon; k++) {
        const i = at + k * targets + c
        actual[i] = valueAhead(series, x, t, 1 + k)
        persistence[i] = x[t] as number
        const seasons = Math.ceil((k + 1) / about.season)
        const back = k + 1 - seasons * about.season
        seasonalNaive[i] = valueAhead(series, x, t, series.clock === undefined ? Math.max(-t, back) : back)
      }
    })
    windows++
  }
  const end = windows * width
  const cut = (x: Float64Array) => x.subarray(0, end)
  return {
    windows,
    actual: cut(actual),
    model: cut(means),
    persistence: cut(persistence),
    seasonalNaive: cut(seasonalNaive),
    linear: cut(linear),
    sigma: sigma && cut(sigma),
    quantiles: quantiles?.map(cut),
  }
}

function figuresOf(about: ForecastAbout, actual: Float64Array, predicted: Float64Array): ForecastFigures {
  const { targets: names, scales, naiveScales } = about
  const { horizon } = about.parts
  const targets = names.length
  const windows = actual.length / (horizon * targets)
  /** The numbers of one target, or of one step of all. */
  const ofTarget = (x: Float64Array, c: number) =>
    Float64Array.from({ length: windows * horizon }, (_, i) => x[i * targets + c] as number)
  const ofStep = (x: Float64Array, k: number) =>
    Float64Array.from({ length: windows * targets }, (_, i) => {
      const window = Math.floor(i / targets)
      return x[(window * horizon + k) * targets + (i % targets)] as number
    })
  const unscaled = (x: Float64Array) =>
    x.map((value, i) => {
      const { mean, deviation } = scales[names[i % targets] as string] as Scale
      return value * deviation + mean
    })
  const scaled = names.map((_, c) => {
    const naive = naiveScales[c] as number
    return mae(ofTarget(actual, c), ofTarget(predicted, c)) / (naive > 0 ? naive : 1)
  })
  return {
    mse: mse(actual, predicted),
    mae: mae(actual, predicted),
    mase: scaled.reduce((a, b) => a + b, 0) / targets,
    smape: smape(unscaled(actual), unscaled(predicted)),
    byStep: Array.from({ length: horizon }, (_, k) => mse(ofStep(actual, k), ofStep(predicted, k))),
  }
}
