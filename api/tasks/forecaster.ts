import { filePath, rejectUnknownOptions, stepRatio, wholeNumber, type FilePath } from '../check.js'
import { fail, throwIfAborted } from '../error.js'
import type { Inspection } from '../inspection.js'
import { SequenceModel } from '../model.js'
import type { DeviceOptions } from '../options.js'
import { stampsOf, usualInterval } from './clock.js'
import { forecastAbout, forecastText, type ForecastAbout } from './forecast-file.js'
import { fitForecaster, originsOf, strideFor } from './forecast-fit.js'
import { combined, pieceLength, rawForecasts, type Part } from './forecast-network.js'
import { checkForecastOptions, type ForecastOptions } from './forecast-options.js'
import { forecastScores, MOST_NUMBERS, type ForecastScores } from './forecast-scores.js'
import { ForecastStream } from './forecast-stream.js'
import { forecastAt } from './forecast-times.js'
import { valueAhead, isKnownAhead } from './linear-forecast.js'
import { pieceInputs, pieceIntervals, preparedTable, type PreparedSeries } from './prepared.js'
import {
  column as numbersOf,
  columnNamed,
  tableOf,
  tablesOf,
  timedTable,
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
  /** What came, by column; where the model takes intervals, on the line between the rows, and NaN where that is unknown. */
  actual: Record<string, Float64Array>
  /** Where the model takes intervals: the time of each step, in milliseconds since 1970. */
  time?: Float64Array
}

/** Options of {@link Forecaster.forecast}. */
export interface ForecastCall {
  /** The covariates that have to be known ahead, for the steps ahead. */
  known?: Columns
  /**
   * Times to forecast, in milliseconds since 1970, ascending, from after the last row to `horizon` usual intervals after it, in the
   * place of the steps: of a forecaster that takes intervals alone. Default 1, 2, … usual intervals after the last row.
   */
  at?: ArrayLike<number>
  /** Ends it when it fires. */
  signal?: AbortSignal
}

/** A {@link Forecaster.backtest}. */
export interface Backtest {
  /** Figures over all its windows, beside persistence, seasonal naive and a linear model. */
  scores: ForecastScores
  /** Its forecasts, in the order of time. */
  forecasts: BacktestForecast[]
}

/** The stamps of the rows that there are: those beyond them, of covariates that are known ahead, are left out. */
const rowStamps = (op: string, time: unknown, rows: number) => stampsOf(op, time, rows).subarray(0, rows)

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

  /**
   * The usual interval in milliseconds, which counts as 1, of a forecaster that takes the intervals between rows: its data need
   * times. Undefined of one that takes rows as evenly spaced.
   */
  get interval(): number | undefined {
    return this.#about.interval
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
      const actual = series.targets.map((x, c) => this.#unscaled(c, this.#came(series, x, raw.origin)))
      forecasts.push({
        series: numbers[raw.part] as number,
        row,
        ...(series.clock && { time: series.clock.stampsAfter(raw.origin, this.horizon) }),
        forecast: this.#forecastOf(raw, series),
        actual: Object.fromEntries(this.targets.map((name, c) => [name, actual[c] as Float64Array])),
      })
    }
    return { scores, forecasts }
  }

  /** What came after row t of a target, in scaled units. */
  #came(series: PreparedSeries, x: Float64Array, t: number): Float64Array {
    const { horizon } = this
    if (series.clock === undefined) return x.subarray(t + 1, t + 1 + horizon)
    return Float64Array.from({ length: horizon }, (_, k) =>
      isKnownAhead(series, t, 1 + k, series.length) ? valueAhead(series, x, t, 1 + k) : NaN,
    )
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
      const series = preparedTable(op, table, this.#about, lookBack, this.#about.interval)
      return { series, from, to: Math.min(to ?? series.length, series.length) }
    })
    const all = originsOf(parts, lookBack, horizon)
    if (all.length === 0)
      throw fail(
        'ERR_S4_DATA',
        op,
        `data with at least ${lookBack + horizon} rows (lookBack + horizon), the last ${horizon} ${this.interval === undefined ? '' : 'usual intervals '}between from and to`,
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
   * are given in `known` for the steps ahead, beside their past in `data`. Of a forecaster that takes intervals a step is a usual
   * interval, unless `at` names times.
   */
  async forecast(data: Columns | ColumnHolder, options: ForecastCall = {}): Promise<Forecast> {
    const op = this.#checkLive('forecast')
    const { known, at, signal } = rejectUnknownOptions(op, options, ['known', 'at', 'signal'])
    throwIfAborted(op, signal)
    const { lookBack, horizon } = this.#about.parts
    const { columns: table, time } = timedTable(op, 'data', data)
    // Covariates may be given beyond the last row; what is forecast follows the rows of the targets.
    const rows = columnNamed(op, table, this.targets[0] as string).length
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
    const { interval } = this.#about
    const stamps = interval === undefined || time === undefined ? undefined : rowStamps(op, time, rows)
    const series = preparedTable(op, { columns: table, time: stamps }, this.#about, lookBack, interval)
    if (series.length < lookBack)
      throw fail('ERR_S4_DATA', op, `data with at least ${lookBack} rows (lookBack)`, series.length)
    const steps = at === undefined ? undefined : this.#stepsTo(op, at, stamps?.at(-1))
    const part = { series, from: series.length - 1, to: series.length }
    for await (const raw of rawForecasts(this.#model, this.#about.parts, [part], 1, signal))
      return this.#forecastOf(raw, series, steps)
    throw fail('ERR_S4_INTERNAL', op, 'a forecast', 'none')
  }

  /**
   * What the network has learned, as {@link SequenceModel.inspect} says it, and on which of the last rows of `data` (at most three
   * look-backs, as many as it learned from at a time) its outputs of the last row depend. The seconds of a step are those between
   * rows where `data` have times, unless `samplingInterval` says them.
   */
  async inspect(
    data: Columns | ColumnHolder,
    options: { samplingInterval?: number; signal?: AbortSignal } = {},
  ): Promise<Inspection> {
    const op = this.#checkLive('inspect')
    const { samplingInterval, signal } = rejectUnknownOptions(op, options, ['samplingInterval', 'signal'])
    throwIfAborted(op, signal)
    const asked =
      samplingInterval === undefined ? undefined : stepRatio(op, 'samplingInterval', samplingInterval)
    const { parts, interval } = this.#about
    const table = timedTable(op, 'data', data)
    const series = preparedTable(op, table, this.#about, parts.lookBack, interval)
    if (series.length < parts.lookBack)
      throw fail('ERR_S4_DATA', op, `data with at least ${parts.lookBack} rows (lookBack)`, series.length)
    const length = Math.min(pieceLength(parts.lookBack), series.length)
    const start = series.length - length
    const intervals = pieceIntervals(series, start, length)
    const input = pieceInputs(series, start, length, parts)
    const times =
      interval === undefined && table.time !== undefined
        ? usualInterval([numbersOf(op, 'time of data', table.time).filter(Number.isFinite)])
        : interval
    const seconds = asked ?? (times !== undefined && times > 0 ? times / 1000 : undefined)
    return this.#model.inspect({
      data: { data: input, shape: [1, length, input.length / length] },
      ...(intervals && { intervals }),
      ...(seconds !== undefined && { samplingInterval: seconds }),
      ...(signal && { signal }),
    })
  }

  /** How many usual intervals after the last row these times are. */
  #stepsTo(op: string, at: unknown, last: number | undefined): number[] {
    const { interval, horizon } = this
    if (interval === undefined || last === undefined)
      throw fail('ERR_S4_UNSUPPORTED', op, "no 'at' for a forecaster that takes no intervals", 'times')
    const times = numbersOf(op, 'at', at)
    const steps = Array.from(times, (ms) => (ms - last) / interval)
    const wrong = steps.findIndex(
      (step, k) => !(step > 0 && step <= horizon && (k === 0 || step > (steps[k - 1] as number))),
    )
    if (wrong >= 0)
      throw fail(
        'ERR_S4_VALUE',
        op,
        `at of ascending times from after the last row (${last}) to ${horizon} usual intervals after it (${last + horizon * interval})`,
        `${times[wrong]} at index ${wrong}`,
      )
    return steps
  }

  #unscaled(c: number, values: Float64Array): Float64Array {
    const { mean, deviation } = this.#about.scales[this.#about.targets[c] as string] as Scale
    return values.map((x) => x * deviation + mean)
  }

  /** A forecast in the unit of the data. */
  #forecastOf(
    { linear, outputs, origin }: { linear: ArrayLike<number>; outputs: ArrayLike<number>; origin: number },
    series: Part['series'],
    steps?: readonly number[],
  ): Forecast {
    const { parts, targets, scales } = this.#about
    const deviations = series.statistics.map(({ deviation }) => deviation[origin] as number)
    const whole = combined(parts, linear, outputs, deviations)
    const last = series.targets.map((x) => x[origin] as number)
    const { mean, sigma, quantiles } = steps === undefined ? whole : forecastAt(parts, whole, last, steps)
    const length = steps?.length ?? parts.horizon
    const own = (x: Float64Array, c: number) =>
      Float64Array.from({ length }, (_, k) => x[k * targets.length + c] as number)
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
