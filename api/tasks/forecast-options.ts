// Options of a forecaster, and their checks.
import { booleanOf, listOf, membersOf, oneOf, rejectUnknownOptions, textOf, wholeNumber } from '../check.js'
import { describe, fail } from '../error.js'
import type { Predicted } from './forecast-network.js'
import { checkTaskOptions, TASK_OPTIONS, type CheckedTaskOptions, type TaskTrainOptions } from './options.js'

/** How the rows of each series are divided in time: shares of 1, or numbers of rows, of which what is beyond is not used. */
export interface SeriesSplit {
  /** The part that is learned from, at the start. */
  train: number
  /** The part after it, that chooses the best epoch and calibrates. */
  validation: number
  /** The last part, for the scores. 0 for none. */
  test: number
}

/** Options of {@link Forecaster.fit}. */
export interface ForecastOptions extends TaskTrainOptions {
  /** Number of time steps to forecast. */
  horizon: number
  /** Names of the columns to forecast. Default all but those of `known`. */
  targets?: readonly string[]
  /** Names of covariates that are known ahead: a calendar, a plan, a weather forecast. Default none. */
  known?: readonly string[]
  /** Number of last values that a forecast is normalised by, and that its linear part sees. */
  lookBack?: number
  /** Rows of a season, for the seasonal naive forecast and MASE. Default the one that the training part shows; 1 is none. */
  season?: number
  /**
   * What is predicted: the mean with one deviation for each step (`'mean'`, default), a normal distribution
   * (`'gaussian'`), or `'quantiles'`.
   */
  predict?: Predicted
  /** Levels of the quantiles: up to 9 from 1e-6 to 1 − 1e-6, ascending. Default 0.1, 0.5, 0.9. */
  levels?: readonly number[]
  /** How the rows are divided. Default 0.7, 0.1 and 0.2. */
  split?: SeriesSplit
  /**
   * Whether the model takes the time between rows, from the `time` of each table: the usual interval of the training part, its median,
   * counts as 1, and steps ahead are usual intervals. `'auto'` (default): where tables have times of which one interval is further than
   * a tenth from the usual one. `true` needs times; `false` takes rows as evenly spaced, whatever their times.
   */
  intervals?: boolean | 'auto'
}

export const predictions = ['mean', 'gaussian', 'quantiles'] as const

const OPTIONS = [
  ...TASK_OPTIONS,
  'horizon',
  'targets',
  'known',
  'lookBack',
  'season',
  'predict',
  'levels',
  'split',
  'intervals',
] as const

/** {@link ForecastOptions} after the check. */
export interface CheckedForecastOptions extends CheckedTaskOptions {
  horizon: number
  targets: string[] | undefined
  known: string[]
  lookBack: number | undefined
  season: number | undefined
  predict: Predicted
  levels: number[]
  split: SeriesSplit
  intervals: boolean | 'auto'
}

export function checkForecastOptions(op: string, given: unknown): CheckedForecastOptions {
  const options = rejectUnknownOptions(op, given as ForecastOptions, OPTIONS)
  const { predict = 'mean', levels, split, season, lookBack, intervals = 'auto' } = options
  wholeNumber(op, 'horizon', options.horizon, 1, 1 << 16)
  if (lookBack !== undefined) wholeNumber(op, 'lookBack', lookBack, 2, 1 << 16)
  if (season !== undefined) wholeNumber(op, 'season', season, 1, 1 << 20)
  oneOf(op, 'predict', predict, predictions)
  if (intervals !== 'auto') booleanOf(op, 'intervals', intervals)
  return {
    ...checkTaskOptions(op, options),
    horizon: options.horizon,
    targets: options.targets === undefined ? undefined : names(op, 'targets', options.targets, 1),
    known: options.known === undefined ? [] : names(op, 'known', options.known, 0),
    lookBack,
    season,
    predict,
    levels: levels === undefined ? [0.1, 0.5, 0.9] : checkLevels(op, levels),
    split: split === undefined ? { train: 0.7, validation: 0.1, test: 0.2 } : checkSplit(op, split),
    intervals,
  }
}

function names(op: string, what: string, x: unknown, least: number): string[] {
  const list = listOf(op, what, x).map((name) => textOf(op, `each of ${what}`, name))
  if (list.length < least || new Set(list).size !== list.length)
    throw fail(
      'ERR_S4_VALUE',
      op,
      `${what} of different columns, at least ${least}`,
      list.join(', ') || 'none',
    )
  return list
}

function checkLevels(op: string, x: unknown): number[] {
  const list = listOf(op, 'levels', x)
  const right = list.every(
    (level, i) =>
      typeof level === 'number' &&
      level >= 1e-6 &&
      level <= 1 - 1e-6 &&
      (i === 0 || level > (list[i - 1] as number)),
  )
  if (!right || list.length < 1 || list.length > 9)
    throw fail(
      'ERR_S4_VALUE',
      op,
      'levels of 1 to 9 numbers from 1e-6 to 1 − 1e-6, ascending',
      list.map(describe).join(', '),
    )
  return list as number[]
}

function checkSplit(op: string, x: unknown): SeriesSplit {
  const given = membersOf(op, 'split', x)
  const { train, validation, test, ...others } = given
  const [unknown] = Object.keys(others)
  if (unknown !== undefined)
    throw fail('ERR_S4_VALUE', op, 'split of train, validation, test', `unknown part '${unknown}'`)
  for (const [name, part] of Object.entries({ train, validation, test })) {
    const least = name === 'test' ? 0 : Number.MIN_VALUE
    if (
      typeof part !== 'number' ||
      !(part >= least && part <= 2 ** 40) ||
      (part > 1 && !Number.isSafeInteger(part))
    )
      throw fail(
        'ERR_S4_VALUE',
        op,
        `${name} of split as a share up to 1 or a number of rows`,
        describe(part),
      )
  }
  return given as unknown as SeriesSplit
}

/** The rows at which the parts of a series of `rows` rows end. */
export function splitEnds(rows: number, { train, validation, test }: SeriesSplit): [number, number, number] {
  const count = (part: number) => (part <= 1 ? part * rows : part)
  const at = (end: number) => Math.min(rows, Math.round(end))
  return [
    at(count(train)),
    at(count(train) + count(validation)),
    at(count(train) + count(validation) + count(test)),
  ]
}
