/** Mean and standard deviation of the training part of a series, by which the whole series is standardised. */
export interface Scale {
  readonly mean: number
  readonly deviation: number
}

/** Mean and (population) standard deviation of `x[from..to)`; a deviation of 0 is replaced by 1. */
export function scaleOf(x: ArrayLike<number>, from = 0, to = x.length): Scale {
  const n = to - from
  let sum = 0
  for (let t = from; t < to; t++) sum += x[t]
  const mean = sum / n
  let squares = 0
  for (let t = from; t < to; t++) squares += (x[t] - mean) ** 2
  const deviation = Math.sqrt(squares / n)
  return { mean, deviation: deviation > 0 ? deviation : 1 }
}

/** The standardised series (x − mean) / deviation, in f64. */
export function standardise(x: ArrayLike<number>, { mean, deviation }: Scale): Float64Array {
  return Float64Array.from({ length: x.length }, (_, t) => (x[t] - mean) / deviation)
}

/** The root mean square of the errors that `add` was given. */
export class Rmse {
  #sum = 0
  #count = 0
  add(error: number): void {
    this.#sum += error * error
    this.#count += 1
  }
  get count(): number {
    return this.#count
  }
  get value(): number {
    return this.#count > 0 ? Math.sqrt(this.#sum / this.#count) : Number.NaN
  }
}

/** The q-quantile (0 ≤ q ≤ 1) of the finite values of `x`, linearly interpolated; NaN where there are none. */
export function quantile(x: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(x as ArrayLike<number>)
    .filter(Number.isFinite)
    .toSorted()
  if (sorted.length === 0) return Number.NaN
  const at = q * (sorted.length - 1)
  const low = Math.floor(at)
  const high = Math.min(low + 1, sorted.length - 1)
  return sorted[low] + (at - low) * (sorted[high] - sorted[low])
}
