import { fitLinear, linearRmse, persistenceRmse } from './baseline.js'
import type { Forecaster } from './forecaster.js'
import { Rmse, standardise } from './series.js'

/** The RMSE of three forecasts for one horizon, in standard deviations of the training part. */
export interface Score {
  readonly horizon: number
  readonly persistence: number
  /** NaN where the training part is too short for the linear model */
  readonly linear: number
  readonly model: number
}

/** Scores on the part of the series after its training part, series[trainLength..]: both the samples from which a forecast is made and those it forecasts lie there. */
export function scores(
  forecaster: Forecaster,
  outputs: ArrayLike<number>,
  series: ArrayLike<number>,
  trainLength: number,
  horizons: readonly number[],
): Score[] {
  const x = standardise(series, forecaster.about.scale)
  const order = Math.min(512, Math.floor((trainLength - Math.max(...horizons)) / 4))
  const linearModels = order >= 1 ? fitLinear(x, order, horizons, 0, trainLength) : []
  return horizons.map((horizon, i) => ({
    horizon,
    persistence: persistenceRmse(x, horizon, trainLength, x.length),
    linear: linearModels.length > 0 ? linearRmse(linearModels[i], x, trainLength, x.length) : Number.NaN,
    model: modelRmse(forecaster, outputs, series, trainLength, horizon),
  }))
}

function modelRmse(
  forecaster: Forecaster,
  outputs: ArrayLike<number>,
  series: ArrayLike<number>,
  trainLength: number,
  horizon: number,
): number {
  const { mean } = forecaster.ahead(outputs, series, horizon)
  const error = new Rmse()
  for (let t = trainLength + horizon; t < series.length; t++)
    error.add((series[t] - mean[t]) / forecaster.about.scale.deviation)
  return error.value
}

/** The scores as a table of text. */
export function scoreTable(rows: readonly Score[]): string {
  const cell = (value: number) => (Number.isFinite(value) ? value.toFixed(3) : '–').padStart(12)
  const head = `${'ahead'.padStart(6)}${'persistence'.padStart(12)}${'linear'.padStart(12)}${'model'.padStart(12)}`
  return [
    head,
    ...rows.map(
      (row) =>
        `${String(row.horizon).padStart(6)}${cell(row.persistence)}${cell(row.linear)}${cell(row.model)}`,
    ),
  ].join('\n')
}
