// Least squares with a small penalty, by the normal equations: (XᵀX + λI) W = XᵀY.

/** Sums that the normal equations need, of any number of rows. */
export class NormalEquations {
  readonly #inputs: number
  readonly #outputs: number
  readonly #gram: Float64Array
  readonly #right: Float64Array
  #rows = 0

  constructor(inputs: number, outputs: number) {
    this.#inputs = inputs
    this.#outputs = outputs
    this.#gram = new Float64Array(inputs * inputs)
    this.#right = new Float64Array(inputs * outputs)
  }

  /** Adds a row of X and the row of Y that belongs to it. */
  add(x: Float64Array, y: Float64Array): void {
    const [n, m] = [this.#inputs, this.#outputs]
    const [gram, right] = [this.#gram, this.#right]
    for (let i = 0; i < n; i++) {
      const a = x[i] as number
      if (a === 0) continue
      const row = i * n
      for (let j = 0; j <= i; j++) gram[row + j]! += a * (x[j] as number)
      const at = i * m
      for (let k = 0; k < m; k++) right[at + k]! += a * (y[k] as number)
    }
    this.#rows++
  }

  /** The equations of all rows of several together. */
  static sum(all: readonly NormalEquations[]): NormalEquations {
    const first = all[0] as NormalEquations
    const total = new NormalEquations(first.#inputs, first.#outputs)
    for (const one of all) {
      one.#gram.forEach((x, i) => (total.#gram[i]! += x))
      one.#right.forEach((x, i) => (total.#right[i]! += x))
      total.#rows += one.#rows
    }
    return total
  }

  get rows(): number {
    return this.#rows
  }

  /**
   * The weights W, (inputs, outputs), with `penalty` times the number of rows added to the diagonal. Positive, it gives a
   * solution whatever the rows were.
   */
  solve(penalty: number): Float64Array {
    const n = this.#inputs
    const a = Float64Array.from(this.#gram)
    for (let i = 0; i < n; i++) a[i * n + i]! += penalty * Math.max(this.#rows, 1)
    return solveCholesky(cholesky(a, n), n, Float64Array.from(this.#right), this.#outputs)
  }
}

/** The lower factor G of a positive definite matrix A = G Gᵀ, whose lower half is given; in its place. */
function cholesky(a: Float64Array, n: number): Float64Array {
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j] as number
      for (let k = 0; k < j; k++) sum -= (a[i * n + k] as number) * (a[j * n + k] as number)
      a[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-300)) : sum / (a[j * n + j] as number)
    }
  return a
}

/** Solves G Gᵀ W = B for the m columns of B by forward and backward substitution; in the place of B. */
function solveCholesky(g: Float64Array, n: number, b: Float64Array, m: number): Float64Array {
  const eliminate = (row: number, from: number, factor: number) => {
    for (let c = 0; c < m; c++) b[row * m + c]! -= factor * (b[from * m + c] as number)
  }
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) eliminate(i, k, g[i * n + k] as number)
    for (let c = 0; c < m; c++) b[i * m + c]! /= g[i * n + i] as number
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) eliminate(i, k, g[k * n + i] as number)
    for (let c = 0; c < m; c++) b[i * m + c]! /= g[i * n + i] as number
  }
  return b
}
