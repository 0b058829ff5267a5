/**
 * Baseline forecasts to compare a model with: persistence, and a linear autoregressive model that is fitted for each horizon.
 *
 * A forecast for horizon h is made at t from x[0..t] and compared with x[t + h]. Both t and t + h lie in `[from, to)`, but a forecast
 * may use samples before `from`.
 */
import { Rmse } from './series.js'

/** The RMSE of persistence, the forecast x̂[t + h] = x[t]. */
export function persistenceRmse(x: ArrayLike<number>, horizon: number, from: number, to: number): number {
  const error = new Rmse()
  for (let t = from; t + horizon < to; t++) error.add(x[t + horizon] - x[t])
  return error.value
}

/** A linear forecast x̂[t + h] = constant + Σ_k weights[k]·x[t − k]. */
export interface LinearModel {
  readonly horizon: number
  readonly constant: number
  readonly weights: Float64Array
}

/**
 * Fits linear forecasts for several horizons to `x[from..to)` by least squares: (XᵀX) w = Xᵀy, where X has a row
 * [1, x[t], x[t−1], …, x[t−order+1]] for each t.
 *
 * All horizons use the t of the longest one, at the loss of a few samples, so that X, the matrix XᵀX and its Cholesky factor are the same
 * for all and only Xᵀy differs.
 */
export function fitLinear(
  x: ArrayLike<number>,
  order: number,
  horizons: readonly number[],
  from = 0,
  to = x.length,
): LinearModel[] {
  const first = from + order - 1
  const last = to - Math.max(...horizons) // t in [first, last)
  if (!(order >= 1) || last - first <= order + 1) {
    throw new RangeError(
      `an autoregressive model of order ${order} needs more than ${2 * order + Math.max(...horizons)} samples, got ${to - from}`,
    )
  }
  const n = order + 1
  const gram = gramMatrix(x, order, first, last)
  const factor = cholesky(gram, n)
  return horizons.map((horizon) => {
    const right = new Float64Array(n)
    for (let t = first; t < last; t++) right[0] += x[t + horizon]
    for (let k = 0; k < order; k++) {
      let sum = 0
      for (let t = first; t < last; t++) sum += x[t - k] * x[t + horizon]
      right[k + 1] = sum
    }
    const solution = solveCholesky(factor, right, n)
    return { horizon, constant: solution[0], weights: solution.slice(1) }
  })
}

/** The linear forecast x̂[t + h] from the samples up to and including t. */
export function predictLinear({ constant, weights }: LinearModel, x: ArrayLike<number>, t: number): number {
  let sum = constant
  for (let k = 0; k < weights.length; k++) sum += weights[k] * x[t - k]
  return sum
}

/** The RMSE of a linear forecast on `[from, to)`. */
export function linearRmse(model: LinearModel, x: ArrayLike<number>, from: number, to: number): number {
  const error = new Rmse()
  const first = Math.max(from, model.weights.length - 1)
  for (let t = first; t + model.horizon < to; t++)
    error.add(x[t + model.horizon] - predictLinear(model, x, t))
  return error.value
}

/**
 * The matrix XᵀX over t in [first, last), row-major, (order + 1)². An entry is computed from its neighbour up and left, since their sums
 * differ in two products only:
 * Σ x[t−i−1]x[t−j−1] = Σ x[t−i]x[t−j] + x[first−1−i]x[first−1−j] − x[last−1−i]x[last−1−j].
 */
function gramMatrix(x: ArrayLike<number>, order: number, first: number, last: number): Float64Array {
  const n = order + 1
  const gram = new Float64Array(n * n)
  gram[0] = last - first
  for (let k = 0; k < order; k++) {
    let sum = 0
    let product = 0
    for (let t = first; t < last; t++) {
      sum += x[t - k]
      product += x[t] * x[t - k]
    }
    gram[k + 1] = gram[(k + 1) * n] = sum
    gram[n + k + 1] = gram[(k + 1) * n + 1] = product
  }
  for (let i = 0; i + 1 < order; i++) {
    for (let j = i; j + 1 < order; j++) {
      const next =
        gram[(i + 1) * n + j + 1] + x[first - 1 - i] * x[first - 1 - j] - x[last - 1 - i] * x[last - 1 - j]
      gram[(i + 2) * n + j + 2] = gram[(j + 2) * n + i + 2] = next
    }
  }
  return gram
}

/**
 * The lower Cholesky factor G of a positive definite matrix A = G Gᵀ, row-major n². A small number is added to the diagonal, so that a
 * constant series, whose matrix is singular, has a solution as well.
 */
function cholesky(a: Float64Array, n: number): Float64Array {
  const g = new Float64Array(n * n)
  let largest = 0
  for (let i = 0; i < n; i++) largest = Math.max(largest, a[i * n + i])
  const ridge = largest * 1e-13
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j]
      for (let k = 0; k < j; k++) sum -= g[i * n + k] * g[j * n + k]
      if (i === j) g[i * n + i] = Math.sqrt(Math.max(sum + ridge, ridge))
      else g[i * n + j] = sum / g[j * n + j]
    }
  }
  return g
}

/** Solves G Gᵀ w = right by forward and backward substitution. */
function solveCholesky(g: Float64Array, right: Float64Array, n: number): Float64Array {
  const w = Float64Array.from(right)
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) w[i] -= g[i * n + k] * w[k]
    w[i] /= g[i * n + i]
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) w[i] -= g[k * n + i] * w[k]
    w[i] /= g[i * n + i]
  }
  return w
}
