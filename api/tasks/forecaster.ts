import { filePath, rejectUnknownOptions, wholeNumber, type FilePath } from '../check.js'
import { fail, throwIfAborted } from '../error.js'
import { SequenceModel } from '../model.js'
import type { DeviceOptions } from '../options.js'
import { forecastAbout, forecastText, type ForecastAbout } from './forecast-file.js'
import { fitForecaster, originsOf, strideFor } from './forecast-fit.js'
import { combined, rawForecasts, type Part } from './forecast-network.js'
import { checkForecastOptions, type ForecastOptions } from './forecast-options.js'
import { forecastScores, MOST_NUMBERS, type ForecastScores } from './forecast-scores.js'
import { ForecastStream } from './forecast-stream.js'
import { prepared } from './prepared.js'
import {
  columnNamed,
  scaledSeries,
  tableOf,
  tablesOf,
  type ColumnHolder,
  type Columns,
  type Scale,
  type SeriesData,
} from './series.js'

/** The forecast of one column, in its unit, one number for each step ahead. */
export interface ColumnForecast {
  /** Means; of quantiles the values of the level nearest to 0.5. */
  mean: Float64Array
  /** Standard deviations; not of quantiles. */
  sigma?: Float64Array
  /** The values of each level, by the level as text: `'0.1'`. */
  quantiles?: Record<string, Float64Array>
}

/** A forecast of all targets, by column. */
export type Forecast = Record<string, ColumnForecast>

/** Which rows an evaluation forecasts. */
export interface ForecastRange {
  /** First row that is forecast. Default 0; the look-back must come before it. */
  from?: number
  /** End of the rows that are forecast. Default all. */
  to?: number
  /** Rows between two forecasts. Default 1, or what keeps the number of windows in bounds. */
  stride?: number
  /** Ends it when it fires. */
  signal?: AbortSignal
}

/** One forecast of a backtest beside what came. */
export interface BacktestForecast {
  /** Number of the series. */
  series: number
  /** First row that is forecast. */
  row: number
  /** The forecast. */
  forecast: Forecast
  /** What came, by column. */
  actual: Record<string, Float64Array>
}

/** A {@link Forecaster.backtest}. */
export interface Backtest {
  /** Figures over all its windows, beside persistence, seasonal naive and a linear model. */
  scores: ForecastScores
  /** Its forecasts, in the order of time. */
  forecasts: BacktestForecast[]
}

/** What only {@link Forecaster.fit} and {@link Forecaster.load} may make one from. */
const made = new WeakSet<object>()

/**
 * Forecasts of one or several series. At each time step the last `lookBack` values are taken relative to their own deviation; a
 * linear forecast, fitted in closed form, and an S4 network, which learned what the linear one leaves, make the forecast
 * together.
 *
 * @example
 * const f = await Forecaster.fit({ load, temperature }, { horizon: 24, targets: ['load'] })
 * console.log(f.scores.model.mase, f.forecast({ load: lastWeek, temperature: measured }))
 */
export class Forecaster {
  readonly #model: SequenceModel
  readonly #about: ForecastAbout
  /** Figures over the test part, as {@link Forecaster.fit} found them; undefined of a loaded one, or without a test part. */
  readonly scores: ForecastScores | undefined
  #disposed = false

  private constructor(model: SequenceModel, about: ForecastAbout, scores: ForecastScores | undefined) {
    // JavaScript lets a caller get here with anything.
    if (!made.has(about))
      throw fail('ERR_S4_VALUE', 'Forecaster', 'Forecaster.fit() or Forecaster.load()', 'new')
    this.#model = model
    this.#about = about
    this.scores = scores
  }

  #checkLive(op: string): string {
    const name = `Forecaster.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live forecaster', 'a disposed one')
    return name
  }

  /**
   * Learns from columns of numbers, NaN where a value is missing: a table, one record, or several of the same columns that were
   * recorded apart. The first rows of each are learned from, those after them choose the best epoch, the last are for the scores.
   * Sizes and rates that are not given are chosen by the data, and told in an event `plan`. `ERR_S4_DATA` where the rows are
   * too few, before any work.
   */
  static async fit(data: SeriesData, options: ForecastOptions): Promise<Forecaster> {
    const op = 'Forecaster.fit'
    const checked = checkForecastOptions(op, options)
    const tables = tablesOf(op, 'data', data)
    const { model, about, test } = await fitForecaster(op, tables, checked)
    try {
      const width = about.parts.horizon * about.targets.length
      const stride = strideFor(test, MOST_NUMBERS / width)
      const scores =
        test.length === 0 ? undefined : await forecastScores(model, about, test, stride, checked.signal)
      made.add(about)
      return new Forecaster(model, about, scores)
    } catch (error) {
      model.dispose()
      throw error
    }
  }

  /** Loads what {@link Forecaster.save} wrote. */
  static async load(
    path: FilePath,
    options: Pick<DeviceOptions, 'device' | 'threads' | 'precision'> = {},
  ): Promise<Forecaster> {
    const op = 'Forecaster.load'
    const file = filePath(op, path)
    const device = rejectUnknownOptions(op, options, ['device', 'threads', 'precision'])
    const model = await SequenceModel.load(file, device)
    try {
      const about = forecastAbout(op, model.extra)
      made.add(about)
      return new Forecaster(model, about, undefined)
    } catch (error) {
      model.dispose()
      throw error
    }
  }

  /** Number of time steps that are forecast. */
  get horizon(): number {
    return this.#about.parts.horizon
  }

  /** Number of rows that a forecast needs before it. */
  get lookBack(): number {
    return this.#about.parts.lookBack
  }

  /** Rows of a season, as given or found; 1 is none. */
  get season(): number {
    return this.#about.season
  }

  /** Names of the columns that are forecast. */
  get targets(): readonly string[] {
    return [...this.#about.targets]
  }

  /** Names of the covariates that have to be known ahead. */
  get known(): readonly string[] {
    return [...this.#about.known]
  }

  /** Writes network, scales, column names and everything else to one file (safetensors). */
  async save(path: FilePath): Promise<void> {
    const op = this.#checkLive('save')
    await this.#model.save(filePath(op, path), { extra: forecastText(this.#about), optimizer: false })
  }

  /** The figures of forecasts of every row, beside persistence, seasonal naive and the linear model. */
  async evaluate(data: SeriesData, options: ForecastRange = {}): Promise<ForecastScores> {
    const op = this.#checkLive('evaluate')
    const { origins, stride, signal } = this.#range(op, data, options)
    return forecastScores(this.#model, this.#about, origins, stride, signal)
  }

  /**
   * Forecasts made at one row after another, `stride` rows apart (default the horizon), each from what came before it alone,
   * with figures beside persistence, seasonal naive and the linear model.
   */
  async backtest(data: SeriesData, options: ForecastRange = {}): Promise<Backtest> {
    const op = this.#checkLive('backtest')
    const { origins, stride, signal, numbers } = this.#range(op, data, options, this.horizon)
    const scores = await forecastScores(this.#model, this.#about, origins, stride, signal)
    const forecasts: BacktestForecast[] = []
    for await (const raw of rawForecasts(this.#model, this.#about.parts, origins, stride, signal)) {
      const { series } = origins[raw.part] as Part
      const row = raw.origin + 1
      const actual = series.targets.map((x, c) => this.#unscaled(c, x.subarray(row, row + this.horizon)))
      forecasts.push({
        series: numbers[raw.part] as number,
        row,
        forecast: this.#forecastOf(raw, series),
        actual: Object.fromEntries(this.targets.map((name, c) => [name, actual[c] as Float64Array])),
      })
    }
    return { scores, forecasts }
  }

  /** The windows that a range names, and the series that each part is of. */
  #range(op: string, data: SeriesData, options: ForecastRange, usual?: number) {
    const {
      from = 0,
      to,
      stride,
      signal,
    } = rejectUnknownOptions(op, options, ['from', 'to', 'stride', 'signal'])
    throwIfAborted(op, signal)
    wholeNumber(op, 'from', from, 0)
    if (to !== undefined) wholeNumber(op, 'to', to, 1)
    if (stride !== undefined) wholeNumber(op, 'stride', stride, 1)
    const { lookBack, horizon } = this.#about.parts
    const parts = tablesOf(op, 'data', data).map((table) => {
      const series = prepared(scaledSeries(op, table, this.#about), lookBack)
      return { series, from, to: Math.min(to ?? series.length, series.length) }
    })
    const all = originsOf(parts, lookBack, horizon)
    if (all.length === 0)
      throw fail(
        'ERR_S4_DATA',
        op,
        `data with at least ${lookBack + horizon} rows (lookBack + horizon), the last ${horizon} between from and to`,
        parts.map(({ series }) => series.length).join(', '),
      )
    const width = horizon * this.targets.length
    return {
      origins: all,
      numbers: all.map(({ series }) => parts.findIndex((part) => part.series === series)),
      stride: stride ?? Math.max(usual ?? 1, strideFor(all, MOST_NUMBERS / width)),
      signal,
    }
  }

  /**
   * What comes after the last row of `data`, which needs {@link Forecaster.lookBack} rows. Covariates that have to be known ahead
   * are given in `known` for the steps ahead, beside their past in `data`.
   */
  async forecast(
    data: Columns | ColumnHolder,
    options: { known?: Columns; signal?: AbortSignal } = {},
  ): Promise<Forecast> {
    const op = this.#checkLive('forecast')
    const { known, signal } = rejectUnknownOptions(op, options, ['known', 'signal'])
    throwIfAborted(op, signal)
    const { lookBack, horizon } = this.#about.parts
    const table = tableOf(op, 'data', data)
    const ahead = known === undefined ? {} : tableOf(op, 'known', known)
    for (const name of this.known) {
      const past = columnNamed(op, table, name)
      const future = Object.hasOwn(ahead, name) ? (ahead[name] as Float64Array) : undefined
      if (future === undefined || future.length < horizon)
        throw fail('ERR_S4_DATA', op, `known with ${horizon} values of '${name}'`, future?.length ?? 'none')
      const joined = new Float64Array(past.length + future.length)
      joined.set(past)
      joined.set(future, past.length)
      table[name] = joined
    }
    const series = prepared(scaledSeries(op, table, this.#about), lookBack)
    if (series.length < lookBack)
      throw fail('ERR_S4_DATA', op, `data with at least ${lookBack} rows (lookBack)`, series.length)
    const part = { series, from: series.length - 1, to: series.length }
    for await (const raw of rawForecasts(this.#model, this.#about.parts, [part], 1, signal))
      return this.#forecastOf(raw, series)
    throw fail('ERR_S4_INTERNAL', op, 'a forecast', 'none')
  }

  #unscaled(c: number, values: Float64Array): Float64Array {
    const { mean, deviation } = this.#about.scales[this.#about.targets[c] as string] as Scale
    return values.map((x) => x * deviation + mean)
  }

  /** A forecast in the unit of the data. */
  #forecastOf(
    { linear, outputs, origin }: { linear: ArrayLike<number>; outputs: ArrayLike<number>; origin: number },
    series: Part['series'],
  ): Forecast {
    const { parts, targets, scales } = this.#about
    const deviations = series.statistics.map(({ deviation }) => deviation[origin] as number)
    const { mean, sigma, quantiles } = combined(parts, linear, outputs, deviations)
    const own = (x: Float64Array, c: number) =>
      Float64Array.from({ length: parts.horizon }, (_, k) => x[k * targets.length + c] as number)
    const forecast = targets.map((name, c): [string, ColumnForecast] => {
      const { deviation } = scales[name] as Scale
      const column: ColumnForecast = { mean: this.#unscaled(c, own(mean, c)) }
      if (sigma !== undefined) column.sigma = own(sigma, c).map((x) => x * deviation)
      if (quantiles !== undefined) {
        const levels = parts.levels.map((level, q) => [
          String(level),
          this.#unscaled(c, own(quantiles[q]!, c)),
        ])
        column.quantiles = Object.fromEntries(levels) as Record<string, Float64Array>
      }
      return [name, column]
    })
    return Object.fromEntries(forecast)
  }

  /**
   * Follows a series row by row, in memory that does not grow: what was expected of each row, and whether it is improbable.
   * Where covariates have to be known ahead, `known` holds those of the first `horizon` rows.
   */
  stream(options: { known?: Columns } = {}): ForecastStream {
    const op = this.#checkLive('stream')
    const { known } = rejectUnknownOptions(op, options, ['known'])
    const first = known === undefined ? {} : tableOf(op, 'known', known)
    return ForecastStream.open(op, this.#model, this.#about, first)
  }

  /** Frees the network. A second call does nothing. */
  dispose(): void {
    this.#disposed = true
    this.#model.dispose()
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
