/** The task `forecast`: tables in, a forecaster out. */
import { Forecaster, type ForecastOptions } from 's4-node/tasks'
import { readTables, tableSpecs } from '../data/tables.js'
import { trainingSpecs, deviceSpecs } from '../options/common.js'
import type { OptionSpec, Values } from '../options/spec.js'
import { scoreLines } from './forecast-scores.js'
import type { Task, TrainingData } from './task.js'

const specs: readonly OptionSpec[] = [
  {
    name: 'horizon',
    kind: 'count',
    min: 1,
    max: 1 << 16,
    help: 'rows ahead to forecast',
    otherwise: 'a twentieth of the rows, at most 24',
  },
  {
    name: 'targets',
    kind: 'names',
    word: 'a,b',
    help: 'columns to forecast',
    otherwise: 'all columns of numbers but those of --known',
  },
  {
    name: 'known',
    kind: 'names',
    word: 'a,b',
    help: 'columns that are known ahead: a calendar, a plan, a weather forecast',
    otherwise: 'none',
  },
  {
    name: 'split',
    kind: 'numbers',
    word: 'a,b,c',
    count: 3,
    help: 'rows for training, validation and test, in shares of 1 or numbers of rows',
    otherwise: '0.7,0.1,0.2',
  },
  {
    name: 'predict',
    kind: 'choice',
    choices: ['mean', 'gaussian', 'quantiles'],
    help: 'what is forecast',
    otherwise: 'mean',
  },
  {
    name: 'levels',
    kind: 'numbers',
    word: 'a,b',
    help: 'levels of quantiles, ascending',
    otherwise: '0.1,0.5,0.9',
  },
  {
    name: 'lookBack',
    kind: 'count',
    min: 2,
    max: 1 << 16,
    help: 'rows that a forecast is normalised by',
    otherwise: 'by the horizon',
  },
  {
    name: 'season',
    kind: 'count',
    min: 1,
    help: 'rows of a season, 1 for none',
    otherwise: 'what the training part shows',
  },
  {
    name: 'intervals',
    kind: 'choice',
    choices: ['auto', 'true', 'false'],
    help: 'whether the model takes the time between rows (--time); auto: where times are uneven',
    otherwise: 'auto',
  },
  ...tableSpecs,
  ...trainingSpecs,
  ...deviceSpecs,
]

/** Options as Forecaster.fit takes them. */
function fitOptions(values: Values, rows: number): ForecastOptions {
  const own = new Set(tableSpecs.map(({ name }) => name))
  const { split, intervals, ...rest } = Object.fromEntries(
    Object.entries(values).filter(([name]) => !own.has(name)),
  )
  const horizon = Math.max(1, Math.min(24, Math.floor(rows / 20)))
  const [train, validation, test] = (split ?? []) as number[]
  return {
    horizon,
    ...rest,
    ...(intervals !== undefined && { intervals: intervals === 'auto' ? intervals : intervals === 'true' }),
    ...(split !== undefined && { split: { train, validation, test } as ForecastOptions['split'] }),
  } as ForecastOptions
}

export const forecast: Task = {
  name: 'forecast',
  specs,
  async read({ data, options }): Promise<TrainingData> {
    const tables = await readTables(data, options)
    const series = tables.map(({ columns, time }) => ({ columns, time }))
    const longest = Math.max(...tables.map(({ rows }) => rows))
    return {
      summary: { rows: tables.map(({ rows }) => rows), columns: Object.keys(series[0]!.columns) },
      async fit(course) {
        const forecaster = await Forecaster.fit(series, { ...fitOptions(options, longest), ...course })
        return {
          save: (path) => forecaster.save(path),
          inspect: () => forecaster.inspect(series[tables.findIndex(({ rows }) => rows === longest)]!),
          async judge(history, settings, inside) {
            // Its charts take a while to load, which other commands need not wait for.
            const { forecastPage } = await import('../report/forecast.js')
            const { horizon, lookBack, season, interval, targets, known, scores } = forecaster
            const result = { task: 'forecast', horizon, lookBack, season, interval, targets, known, scores }
            const text = scores === undefined ? 'no test part: no scores' : scoreLines(scores, season)
            return { result, text, page: await forecastPage(forecaster, tables, history, settings, inside) }
          },
          dispose: () => forecaster.dispose(),
        }
      },
    }
  },
}
