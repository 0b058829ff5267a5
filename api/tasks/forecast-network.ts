// Linear forecast and network together: the batches that the network learns from, and its forecasts for whole series.
import type { Batch } from '../dataset.js'
import type { SequenceModel } from '../model.js'
import { LinearFilter, type LinearForecast } from './linear-forecast.js'
import { checkOutputs } from './outputs.js'
import {
  inputWidth,
  leftOver,
  pieceInputs,
  pieceIntervals,
  type NetworkScales,
  type PreparedSeries,
} from './prepared.js'
import { ofEpoch } from './random.js'

/** What a forecaster predicts: means, normal distributions, or quantiles. */
export type Predicted = 'mean' | 'gaussian' | 'quantiles'

/** A trained forecaster's numbers besides the network's. */
export interface ForecastParts extends NetworkScales {
  readonly lookBack: number
  readonly targets: number
  readonly linear: LinearForecast
  readonly predicted: Predicted
  readonly levels: readonly number[]
  /** The part of the network's correction that is added: what helped most in the validation part, from 0 to 1. */
  readonly share: number
  /**
   * By step and target: what a deviation is multiplied by so that it is that of the validation part (of `'mean'` the
   * deviation itself, in residuals), or of quantiles, level by level, what is added in residuals.
   */
  readonly calibration: ArrayLike<number>
}

/** Rows [from, to) of a series whose values may be forecast. */
export interface Part {
  readonly series: PreparedSeries
  readonly from: number
  readonly to: number
}

/** Numbers a training keeps of what the linear forecast leaves; beyond them it is computed again for each batch. */
const MOST_KEPT = 2 ** 25

/** Length of the pieces that a network learns from and is evaluated on. */
export const pieceLength = (lookBack: number): number => 3 * lookBack

/** What the linear forecast leaves in the training parts, kept or computed when asked. */
export class LeftOver {
  readonly #parts: readonly Part[]
  readonly #filter: LinearFilter
  readonly #horizon: number
  readonly #kept: (Float32Array | undefined)[]
  readonly #width: number

  constructor(parts: readonly Part[], filter: LinearFilter, horizon: number) {
    this.#parts = parts
    this.#filter = filter
    this.#horizon = horizon
    this.#width = horizon * (parts[0] as Part).series.targets.length
    const total = parts.reduce((sum, { to }) => sum + to * this.#width, 0)
    this.#kept = parts.map((part) => (total <= MOST_KEPT ? this.#compute(part, 0, part.to) : undefined))
  }

  #compute({ series, to }: Part, start: number, length: number): Float32Array {
    return leftOver(series, this.#filter, { start, length, end: to }, this.#horizon)
  }

  /** (length, horizon·targets) from time step `start` of a part on. */
  at(part: number, start: number, length: number): Float32Array {
    const kept = this.#kept[part]
    if (kept !== undefined) return kept.subarray(start * this.#width, (start + length) * this.#width)
    return this.#compute(this.#parts[part] as Part, start, length)
  }

  /** Root mean square by step and target, over some pieces. */
  residuals(lookBack: number): Float64Array {
    const sums = new Float64Array(this.#width)
    const counts = new Float64Array(this.#width)
    this.#parts.forEach(({ to }, part) => {
      const origins = to - lookBack
      const pieces = Math.max(1, Math.min(8, Math.ceil(origins / (4 * lookBack))))
      for (let p = 0; p < pieces; p++) {
        const start = lookBack - 1 + Math.floor((origins / pieces) * p)
        const length = Math.min(Math.ceil(origins / pieces), 4 * lookBack, to - start)
        if (length <= 0) continue
        // The values before a piece are needed for its first window.
        const values = this.at(part, start - lookBack + 1, length + lookBack - 1)
        for (let i = (lookBack - 1) * this.#width; i < values.length; i++) {
          const x = values[i] as number
          if (Number.isNaN(x)) continue
          sums[i % this.#width]! += x * x
          counts[i % this.#width]! += 1
        }
      }
    })
    return sums.map((sum, i) => Math.max(Math.sqrt(sum / Math.max(counts[i] as number, 1)), 1e-4))
  }
}

/** How batches are drawn. */
export interface Drawing {
  readonly batchSize: number
  readonly updates: number
  readonly seed: number
}

/** Batches of an epoch: pieces of the training parts that begin anywhere, the same for the same seed and epoch. */
export function* trainingBatches(
  parts: readonly Part[],
  left: LeftOver,
  { lookBack, horizon, residuals, moves }: NetworkScales & { lookBack: number },
  { batchSize, updates, seed }: Drawing,
  epoch: number,
): Generator<Batch> {
  const random = ofEpoch(seed, epoch)
  const { targets, known } = (parts[0] as Part).series
  const [inputs, width] = [inputWidth(targets.length, known.length), horizon * targets.length]
  const longest = Math.max(...parts.map(({ to }) => to - 1))
  const length = Math.min(pieceLength(lookBack), longest)
  // A part is drawn by the number of its windows.
  const starts = parts.map(({ to }) => Math.max(to - 1 - length, 0) + 1)
  const total = starts.reduce((a, b) => a + b, 0)
  for (let update = 0; update < updates; update++) {
    const input = new Float32Array(batchSize * length * inputs)
    const target = new Float32Array(batchSize * length * width)
    const weights = new Float32Array(batchSize * length)
    const intervals = isTimed(parts) ? new Float32Array(batchSize * length).fill(1) : undefined
    for (let row = 0; row < batchSize; row++) {
      let at = Math.floor(random() * total)
      let part = 0
      while (at >= (starts[part] as number)) at -= starts[part++] as number
      const { series, to } = parts[part] as Part
      const here = Math.min(length, to - at)
      input.set(pieceInputs(series, at, here, { horizon, residuals, moves }), row * length * inputs)
      intervals?.set(pieceIntervals(series, at, here) as Float32Array, row * length)
      const values = left.at(part, at, here)
      for (let t = lookBack - 1; t < here; t++) {
        const first = (row * length + t) * width
        let whole = true
        for (let i = 0; i < width; i++) {
          const x = values[t * width + i] as number
          if (Number.isNaN(x)) whole = false
          target[first + i] = Number.isNaN(x) ? 0 : x / (residuals[i] as number)
        }
        if (whole) weights[row * length + t] = 1
      }
    }
    if (!weights.some((w) => w > 0)) weights[lookBack - 1] = 1e-6
    yield {
      input: { data: input, shape: [batchSize, length, inputs] },
      target: { data: target, shape: [batchSize, length, width] },
      weights,
      ...(intervals && { intervals }),
    }
  }
}

/** Whether the network takes the intervals between rows. */
const isTimed = ([first]: readonly Part[]): boolean => first?.series.clock !== undefined

/** Forecasts made at one time step, as they come from the network. */
export interface RawForecast {
  /** Number of the part, and the time step at whose end it was made. */
  readonly part: number
  readonly origin: number
  /** The linear forecast, in scaled units: step k of target c at k·targets + c. */
  readonly linear: Float32Array
  /** Outputs of the network, in residuals. */
  readonly outputs: Float32Array
}

/**
 * Forecasts at the time steps [from, to) of each part and every `stride`-th of them. Each is made from the last one to three
 * look-backs before it, as those that the network learned from.
 */
export async function* rawForecasts(
  model: SequenceModel,
  {
    lookBack,
    horizon,
    linear,
    moves,
    residuals,
  }: Pick<ForecastParts, 'lookBack' | 'horizon' | 'linear' | 'moves' | 'residuals'>,
  parts: readonly Part[],
  stride: number,
  signal?: AbortSignal,
): AsyncGenerator<RawForecast> {
  const first = (parts[0] as Part).series
  const width = horizon * first.targets.length
  const inputs = inputWidth(first.targets.length, first.known.length)
  const filter = new LinearFilter(linear, first.targets.length)
  const longest = Math.max(...parts.map(({ series }) => series.length))
  const length = Math.min(pieceLength(lookBack), longest)
  const block = Math.max(length - lookBack + 1, 1)
  const pieces = parts.flatMap(({ from, to }, part) => {
    const begin = Math.max(from, 0)
    return Array.from({ length: Math.max(Math.ceil((to - begin) / block), 0) }, (_, i) => {
      const origin = begin + i * block
      return { part, origin, end: Math.min(origin + block, to), start: Math.max(origin - lookBack + 1, 0) }
    })
  })
  const rows = Math.max(1, Math.min(16, Math.floor(2 ** 23 / (length * width))))
  for (let at = 0; at < pieces.length; at += rows) {
    const group = pieces.slice(at, at + rows)
    const input = new Float32Array(group.length * length * inputs)
    const intervals = isTimed(parts) ? new Float32Array(group.length * length).fill(1) : undefined
    group.forEach(({ part, start, end }, row) => {
      const { series } = parts[part] as Part
      input.set(pieceInputs(series, start, end - start, { horizon, moves, residuals }), row * length * inputs)
      intervals?.set(pieceIntervals(series, start, end - start) as Float32Array, row * length)
    })
    const { data, shape } = await model.predict(
      { data: input, shape: [group.length, length, inputs] },
      { ...(intervals && { intervals }), signal },
    )
    checkOutputs('Forecaster', data)
    const outputWidth = shape[2] as number
    for (const [row, { part, start, origin, end }] of group.entries()) {
      const { series } = parts[part] as Part
      const base = filter.apply(series, start, end - start)
      for (let t = origin; t < end; t++) {
        if ((t - (parts[part] as Part).from) % stride !== 0) continue
        const i = t - start
        yield {
          part,
          origin: t,
          linear: base.subarray(i * width, (i + 1) * width),
          outputs: (data as Float32Array).subarray(
            (row * length + i) * outputWidth,
            (row * length + i + 1) * outputWidth,
          ),
        }
      }
    }
  }
}

/** A forecast in scaled units; step k of target c at k·targets + c. */
export interface ScaledForecast {
  readonly mean: Float64Array
  readonly sigma: Float64Array | undefined
  /** Values of each level. */
  readonly quantiles: readonly Float64Array[] | undefined
}

/** Which output holds the centre of quantiles. */
export const centreOf = (levels: readonly number[]): number =>
  levels.reduce(
    (best, level, i) => (Math.abs(level - 0.5) < Math.abs((levels[best] as number) - 0.5) ? i : best),
    0,
  )

/** A forecast of the network and the linear forecast together; `deviations` are those of the targets' windows. */
export function combined(
  { predicted, levels, residuals, share, calibration, targets }: ForecastParts,
  linear: ArrayLike<number>,
  outputs: ArrayLike<number>,
  deviations: readonly number[],
): ScaledForecast {
  const width = residuals.length
  const unit = (i: number) => (deviations[i % targets] as number) * (residuals[i] as number)
  const value = (i: number, output: number) => (linear[i] as number) + unit(i) * share * output
  if (predicted !== 'quantiles') {
    const mean = Float64Array.from({ length: width }, (_, i) => value(i, outputs[i] as number))
    const sigma = Float64Array.from({ length: width }, (_, i) => {
      const spread = predicted === 'gaussian' ? Math.exp(outputs[width + i] as number) : 1
      return unit(i) * spread * (calibration[i] as number)
    })
    return { mean, sigma, quantiles: undefined }
  }
  const quantiles = levels.map((_, q) =>
    Float64Array.from({ length: width }, (__, i) => {
      const added = unit(i) * (calibration[q * width + i] as number)
      return value(i, outputs[q * width + i] as number) + added
    }),
  )
  for (let i = 0; i < width; i++) {
    // Levels that cross are put in order.
    const sorted = quantiles.map((values) => values[i] as number).toSorted((a, b) => a - b)
    quantiles.forEach((values, q) => (values[i] = sorted[q] as number))
  }
  return { mean: (quantiles[centreOf(levels)] as Float64Array).slice(), sigma: undefined, quantiles }
}
