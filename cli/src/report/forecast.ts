/** The report of a forecaster: its curves, its errors beside simpler forecasts, and forecasts of the test part. */
import * as Plot from '@observablehq/plot'
import type { BacktestForecast, Forecaster, ForecastScores } from 's4-node/tasks'
import type { TableLike } from '../data/table.js'
import { ways } from '../task/forecast-scores.js'
import type { Settings } from '../task/settings.js'
import type { HistoryEntry } from '../task/task.js'
import { bestEpochOf, curve, epochsOf } from './curves.js'
import { escape, figure } from './html.js'
import { runPage, table, type Card } from './page.js'
import { colours } from './colours.js'
import { svgOf } from './svg.js'

/** Examples of forecasts, and columns of which they are shown. */
const [EXAMPLES, SHOWN] = [3, 4]

export async function forecastPage(
  forecaster: Forecaster,
  tables: readonly TableLike[],
  history: readonly HistoryEntry[],
  settings: Settings,
  inside: readonly string[],
): Promise<string> {
  const { scores, season, horizon, targets } = forecaster
  const epochs = epochsOf(history)
  const best = bestEpochOf(history)
  const sections = [
    '<h2>Training</h2>',
    `<div class="two">${figure(curve('loss', epochs, 'loss', best), 'Mean loss of each epoch’s updates. The ring is the epoch that was kept.')}${figure(
      curve('validation MSE', epochs, 'mse', best),
      'Mean squared error of forecasts of the validation part, in deviations of the training part.',
    )}</div>`,
  ]
  if (scores !== undefined)
    sections.push(
      '<h2>Errors</h2>',
      `<p>Over ${scores.windows.toLocaleString('en')} windows of the test part; mean squared (MSE) and mean absolute errors (MAE) in deviations of the training part.</p>`,
      `<div class="two">${table(
        ['', 'MSE', 'MAE', 'MASE', 'sMAPE'],
        ways(season).map(([key, name]) => {
          const { mse, mae, mase, smape } = scores[key]
          return [name, ...[mse, mae, mase, smape].map((x) => x.toFixed(4))]
        }),
      )}${figure(stepChart(scores, season), 'Mean squared error of each step ahead.')}</div>`,
    )
  const examples = await examplesOf(forecaster, tables)
  if (examples.length > 0)
    sections.push(
      '<h2>Forecasts beside what came</h2>',
      `<p>The last forecasts of ${escape(targets.slice(0, SHOWN).join(', '))}: mean with its band (two deviations, or the outer quantiles).</p>`,
      ...targets
        .slice(0, SHOWN)
        .map(
          (name) =>
            `<h3>${escape(name)}</h3><div class="three">${examples.map((one) => exampleChart(one, name, tables)).join('')}</div>`,
        ),
    )
  const title = `Forecast of ${targets.length === 1 ? targets[0] : `${targets.length} columns`}, ${horizon} rows ahead`
  return runPage(title, cardsOf(scores), [...sections, ...inside], history, settings)
}

function cardsOf(scores: ForecastScores | undefined): Card[] {
  if (scores === undefined) return []
  const { model, linear, persistence } = scores
  return [
    {
      value: model.mse.toFixed(3),
      label: 'mean squared error',
      beside: `linear ${linear.mse.toFixed(3)}, persistence ${persistence.mse.toFixed(3)}`,
      good: model.mse < Math.min(linear.mse, persistence.mse),
    },
    {
      value: model.mae.toFixed(3),
      label: 'mean absolute error',
      beside: `linear ${linear.mae.toFixed(3)}, persistence ${persistence.mae.toFixed(3)}`,
      good: model.mae < Math.min(linear.mae, persistence.mae),
    },
    { value: model.mase.toFixed(3), label: 'MASE', beside: 'below 1: better than a season before' },
  ]
}

/** Error against steps ahead of all ways to forecast. */
function stepChart(scores: ForecastScores, season: number): string {
  const all = ways(season).map(([key, name]) => ({ name, errors: scores[key].byStep }))
  const rows = all.flatMap(({ name, errors }) => errors.map((mse, k) => ({ step: k + 1, mse, name })))
  return svgOf('Error by step ahead', {
    width: 520,
    height: 260,
    marginLeft: 48,
    x: { label: 'rows ahead' },
    y: { label: 'MSE', grid: true, zero: true },
    color: {
      legend: false,
      domain: all.map(({ name }) => name),
      range: [colours.model, colours.linear, colours.layers[1], colours.persistence],
    },
    marks: [
      Plot.lineY(rows, { x: 'step', y: 'mse', stroke: 'name', strokeWidth: 2 }),
      Plot.text(
        rows,
        Plot.selectLast({
          x: 'step',
          y: 'mse',
          z: 'name',
          text: 'name',
          fill: 'name',
          textAnchor: 'end',
          dy: -8,
        }),
      ),
    ],
  })
}

/** The last forecasts that can be compared with what came. */
async function examplesOf(forecaster: Forecaster, tables: readonly TableLike[]): Promise<BacktestForecast[]> {
  const { horizon, lookBack } = forecaster
  const last = tables.length - 1
  const { rows, columns, time } = tables[last] as TableLike
  const from = Math.max(lookBack, rows - EXAMPLES * horizon)
  if (rows - from < horizon) return []
  const { forecasts } = await forecaster.backtest({ columns, time }, { from, stride: horizon })
  return forecasts.map((one) => ({ ...one, series: last }))
}

function exampleChart(
  { series, row, forecast, actual, time: ahead }: BacktestForecast,
  name: string,
  tables: readonly TableLike[],
): string {
  const { mean, sigma, quantiles } = forecast[name]!
  const outer = quantiles && Object.values(quantiles)
  const low = (k: number) => outer?.[0]?.[k] ?? (mean[k] as number) - 2 * (sigma?.[k] ?? 0)
  const high = (k: number) => outer?.at(-1)?.[k] ?? (mean[k] as number) + 2 * (sigma?.[k] ?? 0)
  // Where the model takes intervals, rows and steps stand at their times.
  const { time } = tables[series]!
  const stepAt = (k: number) => (ahead === undefined ? row + k : new Date(ahead[k] as number))
  const rowAt = (t: number) => (ahead === undefined ? t : new Date(time![t] as number))
  const rows = Array.from(mean, (value, k) => ({ row: stepAt(k), value, low: low(k), high: high(k) }))
  const begin = Math.max(0, row - mean.length)
  const past = Array.from(tables[series]!.columns[name]!.slice(begin, row), (value, i) => ({
    row: rowAt(begin + i),
    value,
  }))
  const came = [...past, ...Array.from(actual[name]!, (value, k) => ({ row: stepAt(k), value }))]
  return svgOf(`Forecast of ${name} from row ${row}`, {
    width: 340,
    height: 200,
    marginLeft: 44,
    x: ahead === undefined ? { label: 'row', ticks: 4, tickFormat: 'd' } : { label: null, ticks: 4 },
    y: { label: null, grid: true },
    marks: [
      Plot.areaY(rows, { x: 'row', y1: 'low', y2: 'high', fill: colours.band, fillOpacity: 0.5 }),
      Plot.lineY(
        came.filter(({ value }) => Number.isFinite(value)),
        { x: 'row', y: 'value', stroke: colours.ink, strokeWidth: 1.2 },
      ),
      Plot.lineY(rows, { x: 'row', y: 'value', stroke: colours.model, strokeWidth: 2 }),
    ],
  })
}
