// Figures of forecasts and of classifications, as pure functions of arrays.
import { describe, listOf, wholeNumber } from '../check.js'
import { fail, readGiven } from '../error.js'
import { f1Of, type F1Scores } from '../scores.js'

/** The numbers of an array of at least one, each finite. */
function numbers(op: string, what: string, x: unknown): ArrayLike<number> {
  const length = readGiven(op, what, () => {
    const count: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<number>).length : undefined
    const isView = Object.prototype.toString.call(x) === '[object DataView]'
    if (isView || !Number.isSafeInteger(count) || (count as number) < 1 || (count as number) > 2 ** 32)
      throw fail('ERR_S4_VALUE', op, `${what} as an array of at least one number`, describe(x))
    return count as number
  })
  // What only says that it is so long ends here at its first element.
  const out: number[] | Float64Array = isTyped(x) ? new Float64Array(length) : []
  for (let i = 0; i < length; i++) {
    const value = readGiven(op, what, () => (x as ArrayLike<unknown>)[i])
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw fail('ERR_S4_VALUE', op, `${what} of finite numbers`, `${describe(value)} at ${i}`)
    out[i] = value
  }
  return out
}

const isTyped = (x: unknown): x is ArrayLike<number> => ArrayBuffer.isView(x)

/** Two arrays of equal length. */
function pair(op: string, actual: unknown, predicted: unknown): [ArrayLike<number>, ArrayLike<number>] {
  const a = numbers(op, 'actual', actual)
  const p = numbers(op, 'predicted', predicted)
  if (a.length !== p.length)
    throw fail('ERR_S4_SHAPE', op, `predicted of ${a.length} numbers, as actual`, p.length)
  return [a, p]
}

/** Mean of f over the elements of two arrays of equal length. */
function meanOf(a: ArrayLike<number>, b: ArrayLike<number>, f: (x: number, y: number) => number): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += f(a[i] as number, b[i] as number)
  return sum / a.length
}

/** Mean squared error. */
export function mse(actual: ArrayLike<number>, predicted: ArrayLike<number>): number {
  return meanOf(...pair('metrics.mse', actual, predicted), (a, p) => (a - p) ** 2)
}

/** Mean absolute error. */
export function mae(actual: ArrayLike<number>, predicted: ArrayLike<number>): number {
  return meanOf(...pair('metrics.mae', actual, predicted), (a, p) => Math.abs(a - p))
}

/**
 * Mean absolute error over that which the forecast "as a season before" makes, one step ahead, in `history` (Hyndman and
 * Koehler 2006). Below 1 it is the better one.
 */
export function mase(
  actual: ArrayLike<number>,
  predicted: ArrayLike<number>,
  history: ArrayLike<number>,
  season = 1,
): number {
  const op = 'metrics.mase'
  const error = meanOf(...pair(op, actual, predicted), (a, p) => Math.abs(a - p))
  wholeNumber(op, 'season', season, 1, 2 ** 31)
  const past = numbers(op, 'history', history)
  if (past.length <= season)
    throw fail('ERR_S4_VALUE', op, `history of more than one season (${season})`, `${past.length} values`)
  const scale = naiveScale(past, season)
  if (scale === 0)
    throw fail('ERR_S4_VALUE', op, 'history that is not the same every season', 'an error of 0')
  return error / scale
}

/** Mean absolute difference between a value and that a season before it. */
export function naiveScale(history: ArrayLike<number>, season: number): number {
  let sum = 0
  for (let t = season; t < history.length; t++)
    sum += Math.abs((history[t] as number) - (history[t - season] as number))
  return sum / (history.length - season)
}

/**
 * Symmetric mean absolute percentage error in its form from 0 to 2 (times 100: that of the M4 competition, 0 to 200 %): the
 * mean of 2|a − p|/(|a| + |p|), in which a pair of zeros counts 0.
 */
export function smape(actual: ArrayLike<number>, predicted: ArrayLike<number>): number {
  return meanOf(...pair('metrics.smape', actual, predicted), (a, p) => {
    const size = Math.abs(a) + Math.abs(p)
    return size === 0 ? 0 : (2 * Math.abs(a - p)) / size
  })
}

/** Mean pinball loss of predicted quantiles of one level: level·(a − p) where a lies above, (1 − level)·(p − a) where below. */
export function pinball(actual: ArrayLike<number>, predicted: ArrayLike<number>, level: number): number {
  const op = 'metrics.pinball'
  const [a, p] = pair(op, actual, predicted)
  const q = levelOf(op, 'level', level)
  return meanOf(a, p, (x, y) => (x > y ? q * (x - y) : (1 - q) * (y - x)))
}

function levelOf(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x > 0 && x < 1))
    throw fail('ERR_S4_VALUE', op, `${what} as a number between 0 and 1`, describe(x))
  return x
}

/** Mean continuous ranked probability score of normal distributions, in its closed form (Gneiting and Raftery 2007). */
export function crps(actual: ArrayLike<number>, mean: ArrayLike<number>, sigma: ArrayLike<number>): number {
  const op = 'metrics.crps'
  const [a, m, s] = [numbers(op, 'actual', actual), numbers(op, 'mean', mean), numbers(op, 'sigma', sigma)]
  for (const [what, x] of [
    ['mean', m],
    ['sigma', s],
  ] as const)
    if (x.length !== a.length)
      throw fail('ERR_S4_SHAPE', op, `${what} of ${a.length} numbers, as actual`, x.length)
  let sum = 0
  for (let i = 0; i < a.length; i++) {
    const sd = s[i] as number
    if (!(sd > 0)) throw fail('ERR_S4_VALUE', op, 'sigma above 0', `${sd} at ${i}`)
    const z = ((a[i] as number) - (m[i] as number)) / sd
    const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI)
    sum += sd * (z * (2 * normalCdf(z) - 1) + 2 * density - 1 / Math.sqrt(Math.PI))
  }
  return sum / a.length
}

/** Distribution function of the standard normal, to 1e-15: a power series near 0, a continued fraction beyond. */
export function normalCdf(z: number): number {
  const x = Math.abs(z)
  const density = Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI)
  let upper
  if (x < 3) {
    let [term, sum] = [x, x]
    for (let n = 1; n < 100 && term > 1e-17 * sum; n++) {
      term *= (x * x) / (2 * n + 1)
      sum += term
    }
    upper = 0.5 - density * sum
  } else {
    let fraction = 0
    for (let n = 80; n > 0; n--) fraction = n / (x + fraction)
    upper = density / (x + fraction)
  }
  return z > 0 ? 1 - upper : upper
}

/**
 * Mean quantile loss over several levels, twice the mean of their pinball losses: an approximation of the CRPS that is close
 * where the levels are evenly spread. `predicted` holds an array for each level.
 */
export function quantileLoss(
  actual: ArrayLike<number>,
  predicted: readonly ArrayLike<number>[],
  levels: readonly number[],
): number {
  const op = 'metrics.quantileLoss'
  const a = numbers(op, 'actual', actual)
  const q = listOf(op, 'levels', levels).map((x) => levelOf(op, 'each of levels', x))
  const p = listOf(op, 'predicted', predicted).map((x) => numbers(op, 'predicted', x))
  if (q.length === 0 || p.length !== q.length)
    throw fail(
      'ERR_S4_SHAPE',
      op,
      `predicted of one array for each of the levels, at least one`,
      `${p.length} for ${q.length}`,
    )
  let sum = 0
  for (const [i, values] of p.entries()) {
    if (values.length !== a.length)
      throw fail('ERR_S4_SHAPE', op, `predicted of ${a.length} numbers, as actual`, values.length)
    const level = q[i] as number
    sum += meanOf(a, values, (x, y) => (x > y ? level * (x - y) : (1 - level) * (y - x)))
  }
  return (2 * sum) / p.length
}

/** The whole numbers of an array, from 0 to below `classes`. */
function labels(op: string, what: string, x: unknown, classes = 2 ** 31): ArrayLike<number> {
  const values = numbers(op, what, x)
  for (let i = 0; i < values.length; i++) {
    const label = values[i] as number
    if (!Number.isSafeInteger(label) || label < 0 || label >= classes)
      throw fail('ERR_S4_VALUE', op, `${what} of whole numbers from 0 to ${classes - 1}`, `${label} at ${i}`)
  }
  return values
}

function labelPair(op: string, actual: unknown, predicted: unknown, classes?: number) {
  const a = labels(op, 'actual', actual, classes)
  const p = labels(op, 'predicted', predicted, classes)
  if (a.length !== p.length)
    throw fail('ERR_S4_SHAPE', op, `predicted of ${a.length} labels, as actual`, p.length)
  return [a, p] as const
}

/** Part of the labels that were predicted right. */
export function accuracy(actual: ArrayLike<number>, predicted: ArrayLike<number>): number {
  return meanOf(...labelPair('metrics.accuracy', actual, predicted), (a, p) => (a === p ? 1 : 0))
}

/**
 * Part of the labels that are among the `k` classes with the highest scores. `scores` holds as many numbers an example as
 * there are classes; of equal scores the lower class comes first.
 */
export function topK(actual: ArrayLike<number>, scores: ArrayLike<number>, k: number): number {
  const op = 'metrics.topK'
  const all = numbers(op, 'scores', scores)
  const first = labels(op, 'actual', actual)
  const classes = all.length / first.length
  if (!Number.isSafeInteger(classes))
    throw fail('ERR_S4_SHAPE', op, `scores of as many numbers for each of ${first.length} labels`, all.length)
  const a = labels(op, 'actual', first, classes)
  wholeNumber(op, 'k', k, 1, classes)
  let right = 0
  for (let i = 0; i < a.length; i++) {
    const label = a[i] as number
    const own = all[i * classes + label] as number
    let above = 0
    for (let c = 0; c < classes; c++) {
      const other = all[i * classes + c] as number
      if (other > own || (other === own && c < label)) above++
    }
    if (above < k) right++
  }
  return right / a.length
}

/** Numbers of examples by class, row the actual one, column the predicted one. */
export function confusion(
  actual: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number,
): number[][] {
  const op = 'metrics.confusion'
  wholeNumber(op, 'classes', classes, 1, 1 << 14)
  const [a, p] = labelPair(op, actual, predicted, classes)
  const counts = Array.from({ length: classes }, () => Array.from({ length: classes }, () => 0))
  for (let i = 0; i < a.length; i++) counts[a[i] as number]![p[i] as number]! += 1
  return counts
}

/** F1 scores of a {@link confusion} matrix, of counts or of weights. */
export function f1(counts: readonly (readonly number[])[]): F1Scores {
  const op = 'metrics.f1'
  const rows = listOf(op, 'counts', counts).map((row) => numbers(op, 'counts', listOf(op, 'counts', row)))
  if (rows.length === 0 || rows.some((row) => row.length !== rows.length))
    throw fail('ERR_S4_SHAPE', op, 'counts as a square matrix', `${rows.length} rows`)
  if (rows.some((row) => Array.from(row).some((n) => n < 0)))
    throw fail('ERR_S4_VALUE', op, 'counts of 0 or more', 'others')
  return f1Of(rows)
}

/** Figures of forecasts and classifications, as pure functions of arrays. */
export const metrics = {
  /** Mean squared error. */
  mse,
  /** Mean absolute error. */
  mae,
  /** Mean absolute scaled error. */
  mase,
  /** Symmetric mean absolute percentage error, 0 to 2. */
  smape,
  /** Mean pinball loss of one level. */
  pinball,
  /** Mean CRPS of normal distributions. */
  crps,
  /** Twice the mean pinball loss over levels. */
  quantileLoss,
  /** Part of the labels that were predicted right. */
  accuracy,
  /** Part of the labels among the k highest scores. */
  topK,
  /** Numbers of examples by actual and predicted class. */
  confusion,
  /** F1 scores of a confusion matrix. */
  f1,
}
