/**
 * The linear forecast of a window, fitted in closed form: the baseline that a forecaster is compared with, and the part of its
 * forecast from which the network learns what is left.
 *
 *   x̂[t+k] = x[t] + σ·(bias_k + Σ_j w_jk (x[t−j] − x[t])/σ + Σ_ci v_cik (known_c[t+i] − level_c)/σ),   k, i = 1 … horizon,
 *
 * with the deviation σ of the last `lookBack` values, and level_c the mean of the covariate over them. The penalty draws it to
 * persistence. Where rows came at uneven times, t−j and t+k are usual intervals before and after row t, not rows.
 */
import { fftConv } from '../math.js'
import { NormalEquations } from './linear.js'
import type { Statistics } from './causal.js'
import type { Clock } from './clock.js'

/** Sizes of a linear forecast. */
export interface LinearSizes {
  readonly lookBack: number
  readonly horizon: number
  readonly known: number
}

/** Weights (rows, horizon) of one target, or of all, in 32 bits, as the file holds them: the bias, the values from the last back, each covariate from the next on. */
export interface LinearForecast extends LinearSizes {
  readonly weights: readonly Float64Array[]
}

/** A series with what the linear forecast takes of it. */
export interface LinearSeries {
  readonly targets: readonly Float64Array[]
  readonly statistics: readonly Statistics[]
  readonly known: readonly Float64Array[]
  readonly knownLevels: readonly Float64Array[]
  readonly missing: Uint8Array | undefined
  /** When the rows came; undefined where they are taken as evenly spaced. */
  readonly clock: Clock | undefined
}

/** The value of a target, or of a covariate, k steps after row t. */
export const valueAhead = (
  { clock }: { clock: Clock | undefined },
  x: Float64Array,
  t: number,
  k: number,
): number => (clock === undefined ? (x[t + k] as number) : clock.from(x, t, k))

/** Whether the values of the targets at `steps` steps after row t are all known, by the rows before `end`. */
export function isKnownAhead(
  { missing, clock }: Pick<LinearSeries, 'missing' | 'clock'>,
  t: number,
  steps: number,
  end: number,
): boolean {
  if (clock === undefined) return t + steps < end && missing?.[t + steps] !== 1
  return clock.isKnown(t, steps, end, missing)
}

/** Whether all values of the targets up to `horizon` steps after row t are known, by the rows before `end`. */
export function isWholeAhead(
  series: Pick<LinearSeries, 'missing' | 'clock'>,
  t: number,
  horizon: number,
  end: number,
): boolean {
  for (let k = 1; k <= horizon; k++) if (!isKnownAhead(series, t, k, end)) return false
  return true
}

/** Number of regressors. */
export const linearRows = ({ lookBack, horizon, known }: LinearSizes): number =>
  1 + lookBack + known * horizon

/** Writes the regressors of one target at time step t. */
export function writeRegressors(
  row: Float64Array,
  { lookBack, horizon, known }: LinearSizes,
  series: LinearSeries,
  c: number,
  t: number,
): void {
  const x = series.targets[c] as Float64Array
  const level = x[t] as number
  const deviation = series.statistics[c]!.deviation[t] as number
  row[0] = 1
  if (series.clock === undefined)
    for (let j = 0; j < lookBack; j++) row[1 + j] = ((x[t - j] as number) - level) / deviation
  else {
    const past = row.subarray(1, 1 + lookBack)
    series.clock.before(x, t, past)
    for (let j = 0; j < lookBack; j++) past[j] = ((past[j] as number) - level) / deviation
  }
  for (let q = 0; q < known; q++) {
    const values = series.known[q] as Float64Array
    const mean = series.knownLevels[q]![t] as number
    const at = 1 + lookBack + q * horizon
    for (let i = 0; i < horizon; i++) row[at + i] = (valueAhead(series, values, t, 1 + i) - mean) / deviation
  }
}

/** Whether a window that ends at t has all its values, and those to forecast. */
function isWhole(series: LinearSeries, { lookBack, horizon }: LinearSizes, t: number): boolean {
  const { missing, clock } = series
  if (missing?.subarray(t - lookBack + 1, t + 1).includes(1)) return false
  return clock === undefined
    ? !missing?.subarray(t + 1, t + horizon + 1).includes(1)
    : isWholeAhead(series, t, horizon, Infinity)
}

/** Most windows that a fit takes: more do not change it, and take time. */
const MOST_WINDOWS = 24_000
const PENALTIES = [1e-3, 1e-2, 1e-1, 1]

/** Windows of a fit or of a choice: series, and the time steps at whose end a forecast is made. */
export interface Origins {
  readonly series: LinearSeries
  readonly from: number
  readonly to: number
}

/**
 * Fits to `train`, with weights of each target's own and with weights that all share, and several penalties; takes what has the
 * least squared error over `validation`.
 */
export function fitLinearForecast(
  sizes: LinearSizes,
  train: readonly Origins[],
  validation: readonly Origins[],
): LinearForecast {
  const { horizon } = sizes
  const n = linearRows(sizes)
  const count = train[0]!.series.targets.length
  const equations = Array.from({ length: count }, () => new NormalEquations(n, horizon))
  const windows = train.reduce((sum, { from, to }) => sum + Math.max(to - from, 0), 0) * count
  const stride = Math.max(1, Math.ceil(windows / MOST_WINDOWS))
  const [row, right] = [new Float64Array(n), new Float64Array(horizon)]
  for (const { series, from, to } of train)
    for (let c = 0; c < count; c++)
      for (let t = from + (c % stride); t < to; t += stride) {
        if (!isWhole(series, sizes, t)) continue
        writeRegressors(row, sizes, series, c, t)
        writeTargets(right, series, c, t)
        equations[c]!.add(row, right)
      }
  const shared = equations.length === 1 ? [] : [NormalEquations.sum(equations)]
  const own = count <= 16 ? [equations] : []
  let best: LinearForecast | undefined
  let least = Infinity
  for (const set of [...shared.map((one) => [one]), ...own])
    for (const penalty of PENALTIES) {
      const tried = { ...sizes, weights: set.map((one) => one.solve(penalty).map(Math.fround)) }
      const error = squaredError(tried, validation.length > 0 ? validation : train)
      if (error < least || best === undefined) [best, least] = [tried, error]
    }
  return best as LinearForecast
}

function writeTargets(right: Float64Array, series: LinearSeries, c: number, t: number): void {
  const x = series.targets[c] as Float64Array
  const level = x[t] as number
  const deviation = series.statistics[c]!.deviation[t] as number
  for (let k = 0; k < right.length; k++) right[k] = (valueAhead(series, x, t, 1 + k) - level) / deviation
}

/** Mean squared error over some hundreds of windows, in scaled units. */
function squaredError(linear: LinearForecast, origins: readonly Origins[]): number {
  const total = origins.reduce(
    (sum, { series, from, to }) => sum + Math.max(to - from, 0) * series.targets.length,
    0,
  )
  const stride = Math.max(1, Math.ceil(total / 1500))
  const row = new Float64Array(linearRows(linear))
  const out = new Float64Array(linear.horizon)
  let [sum, count] = [0, 0]
  for (const { series, from, to } of origins)
    for (let c = 0; c < series.targets.length; c++)
      for (let t = from + ((c * 7) % stride); t < to; t += stride) {
        if (!isWhole(series, linear, t)) continue
        writeRegressors(row, linear, series, c, t)
        predictWindow(linear, row, c, series.targets[c]![t]!, series.statistics[c]!.deviation[t]!, out)
        for (let k = 0; k < out.length; k++)
          sum += (out[k]! - valueAhead(series, series.targets[c]!, t, 1 + k)) ** 2
        count += out.length
      }
  return count === 0 ? Infinity : sum / count
}

/** The forecast of one target from its regressors. */
export function predictWindow(
  { weights, horizon }: LinearForecast,
  row: Float64Array,
  c: number,
  level: number,
  deviation: number,
  out: Float64Array,
): void {
  const w = weights[weights.length === 1 ? 0 : c] as Float64Array
  out.fill(0)
  for (let j = 0; j < row.length; j++) {
    const a = row[j] as number
    for (let k = 0; k < horizon; k++) out[k]! += a * (w[j * horizon + k] as number)
  }
  for (let k = 0; k < horizon; k++) out[k] = level + deviation * (out[k] as number)
}

/** A linear forecast as convolutions, for every time step of a piece at once. */
export class LinearFilter {
  readonly #linear: LinearForecast
  readonly #targets: number
  readonly #values: Float32Array
  readonly #known: Float32Array
  readonly #sums: Float64Array
  readonly #knownSums: Float64Array

  constructor(linear: LinearForecast, targets: number) {
    const { weights, lookBack, horizon, known } = linear
    this.#linear = linear
    this.#targets = targets
    this.#values = new Float32Array(horizon * targets * lookBack)
    this.#sums = new Float64Array(horizon * targets)
    this.#known = new Float32Array(targets * horizon * known * horizon)
    this.#knownSums = new Float64Array(targets * horizon * known)
    for (let c = 0; c < targets; c++) {
      const w = weights[weights.length === 1 ? 0 : c] as Float64Array
      for (let k = 0; k < horizon; k++) {
        for (let j = 0; j < lookBack; j++) {
          const a = w[(1 + j) * horizon + k] as number
          this.#values[(k * targets + c) * lookBack + j] = a
          this.#sums[k * targets + c]! += a
        }
        for (let q = 0; q < known; q++)
          for (let i = 0; i < horizon; i++) {
            const a = w[(1 + lookBack + q * horizon + i) * horizon + k] as number
            // The input is the covariate `horizon` steps ahead, so the next value is horizon − 1 steps back.
            this.#known[((k * targets + c) * known + q) * horizon + horizon - 1 - i] = a
            this.#knownSums[(k * targets + c) * known + q]! += a
          }
      }
    }
  }

  /**
   * Forecasts at each time step, (length, horizon·targets), target c of step k at k·targets + c, in scaled units. They are right
   * from step lookBack − 1 on.
   */
  apply(series: LinearSeries, start: number, length: number): Float32Array {
    const { horizon, known, lookBack, weights } = this.#linear
    const targets = this.#targets
    const width = horizon * targets
    if (series.clock !== undefined) return this.#applyEach(series, start, length)
    const padded = Math.max(length, lookBack, horizon)
    const input = new Float32Array(padded * targets)
    for (let c = 0; c < targets; c++) {
      const x = series.targets[c] as Float64Array
      for (let t = 0; t < length; t++) input[t * targets + c] = x[start + t] as number
    }
    const kernel = { data: this.#values, shape: [horizon, targets, lookBack] }
    const y = fftConv({ data: input, shape: [1, padded, targets] }, kernel).data as Float32Array
    const ahead = known === 0 ? undefined : this.#applyKnown(series, start, length, padded)
    for (let c = 0; c < targets; c++) {
      const w = weights[weights.length === 1 ? 0 : c] as Float64Array
      const x = series.targets[c] as Float64Array
      const { deviation } = series.statistics[c] as Statistics
      for (let t = 0; t < length; t++) {
        const [m, d] = [x[start + t] as number, deviation[start + t] as number]
        for (let k = 0; k < horizon; k++) {
          const i = k * targets + c
          let value =
            (y[t * width + i] as number) + m * (1 - (this.#sums[i] as number)) + d * (w[k] as number)
          for (let q = 0; q < known; q++)
            value +=
              (ahead![(t * width + i) * known + q] as number) -
              (this.#knownSums[i * known + q] as number) * (series.knownLevels[q]![start + t] as number)
          y[t * width + i] = value
        }
      }
    }
    return y.subarray(0, length * width)
  }

  /** As {@link LinearFilter.apply} where rows came at uneven times: there is no convolution, so each row has regressors of its own. */
  #applyEach(series: LinearSeries, start: number, length: number): Float32Array {
    const { horizon, lookBack } = this.#linear
    const targets = this.#targets
    const out = new Float32Array(length * horizon * targets)
    const row = new Float64Array(linearRows(this.#linear))
    const own = new Float64Array(horizon)
    for (let i = Math.min(lookBack - 1, length); i < length; i++)
      for (let c = 0; c < targets; c++) {
        const t = start + i
        writeRegressors(row, this.#linear, series, c, t)
        predictWindow(this.#linear, row, c, series.targets[c]![t]!, series.statistics[c]!.deviation[t]!, own)
        own.forEach((x, k) => (out[(i * horizon + k) * targets + c] = x))
      }
    return out
  }

  /** What the covariates add, (length, horizon·targets, known). */
  #applyKnown(series: LinearSeries, start: number, length: number, padded: number): Float32Array {
    const { horizon, known } = this.#linear
    const width = horizon * this.#targets
    const out = new Float32Array(length * width * known)
    for (let q = 0; q < known; q++) {
      const values = series.known[q] as Float64Array
      const before = horizon - 1
      const input = new Float32Array(padded + before)
      for (let t = -before; t < length; t++) {
        const at = Math.max(0, Math.min(values.length - 1, start + t + horizon))
        input[t + before] = values[at] as number
      }
      const kernel = new Float32Array(width * horizon)
      for (let i = 0; i < width; i++)
        kernel.set(
          this.#known.subarray((i * known + q) * horizon, (i * known + q + 1) * horizon),
          i * horizon,
        )
      const y = fftConv(
        { data: input, shape: [1, input.length, 1] },
        { data: kernel, shape: [width, 1, horizon] },
      ).data
      for (let t = 0; t < length; t++)
        for (let i = 0; i < width; i++)
          out[(t * width + i) * known + q] = y[(t + before) * width + i] as number
    }
    return out
  }
}
