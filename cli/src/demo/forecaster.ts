/**
 * A causal model of one series: at every sample t it predicts a normal distribution for each of the next `horizon` samples.
 *
 * The series x is standardised by the training part. Inputs of the network are x[t] and its first and second difference; targets are
 * the moves (x[t + k] − x[t])/s_k, k = 1 … horizon, where s_k is the root mean square of such moves in the training part, so that targets
 * of every horizon have unit size. The differences are inputs because they help one sample ahead (RMSE 0.04 instead of 0.09 on the
 * electrocardiogram): computed from x alone they would be small beside its level, by which the first block's norm divides.
 */
import { schedules, SequenceModel } from 's4-node'
import type { ModelStream, SequenceModelOptions, TrainEvent } from 's4-node'
import { calibrate, type Thresholds } from './marks.js'
import { scaleOf, standardise, type Scale } from './series.js'

/** What a checkpoint stores of the series beside the network. */
export interface SeriesAbout {
  readonly horizon: number
  readonly scale: Scale
  /** The root mean squares s_k of the moves, k = 1 … horizon. */
  readonly moves: readonly number[]
  readonly thresholds?: Thresholds
  /** The column that it was trained on, by the name or place that `--column` gave. */
  readonly column?: string
  /** How it is trained, for a run that goes on. */
  readonly training?: StoredTraining
}

/** What a run that goes on must have as it was. */
export interface StoredTraining {
  /** Samples of the series. */
  readonly samples: number
  /** Those of them that are trained on. */
  readonly trainLength: number
  readonly settings: Omit<TrainSettings, 'maxSeconds' | 'signal'>
}

export interface TrainSettings {
  readonly horizon: number
  readonly window: number
  readonly batch: number
  readonly updates: number
  readonly lr: number
  readonly ssmLr: number
  readonly seed: number
  /** Training stops after this time, even where the learning rate's schedule is not at its end. */
  readonly maxSeconds?: number
  readonly signal?: AbortSignal
}

/** Means and standard deviations of forecasts, in the unit of the series. */
export interface Prediction {
  readonly mean: Float64Array
  readonly sigma: Float64Array
}

/** The number of inputs of the network at each sample: x and its two differences. */
export const frame = 3

/** Computes the inputs [x, Δx/s₁, Δ²x/s₁] of the network, one sample after another. Before the first sample the series counts as constant. */
export class Frames {
  readonly #about: SeriesAbout
  #last: number | undefined
  #step = 0

  constructor(about: SeriesAbout) {
    this.#about = about
  }

  /** Writes the inputs for the next value (in the unit of the series) to `out` from index `at` on, and returns `out`. */
  push(value: number, out = new Float32Array(frame), at = 0): Float32Array {
    const { scale, moves } = this.#about
    const x = (value - scale.mean) / scale.deviation
    const step = x - (this.#last ?? x)
    out[at] = x
    out[at + 1] = step / moves[0]
    out[at + 2] = (step - this.#step) / moves[0]
    this.#last = x
    this.#step = step
    return out
  }
}

export class Forecaster {
  readonly model: SequenceModel
  about: SeriesAbout

  constructor(model: SequenceModel, about: SeriesAbout) {
    this.model = model
    this.about = about
  }

  /** An untrained model, with the scale of `series[0..trainLength)`. */
  static async create(
    series: ArrayLike<number>,
    trainLength: number,
    horizon: number,
    options: Pick<SequenceModelOptions, 'features'> & Partial<SequenceModelOptions>,
  ): Promise<Forecaster> {
    const scale = scaleOf(series, 0, trainLength)
    const x = standardise(series, scale)
    const moves = Array.from({ length: horizon }, (_, k) => {
      let sum = 0
      for (let t = 0; t + k + 1 < trainLength; t++) sum += (x[t + k + 1] - x[t]) ** 2
      return Math.max(Math.sqrt(sum / (trainLength - k - 1)), 1e-6)
    })
    const model = await SequenceModel.create({
      input: frame,
      dtMax: 0.5,
      output: horizon,
      loss: 'gaussian',
      pooling: 'none',
      ...options,
    })
    return new Forecaster(model, { horizon, scale, moves })
  }

  /**
   * Trains on random windows of `series[0..trainLength)`; gives an event for each update. `resume`: goes on with the run that the model's
   * file was saved in.
   */
  async *train(
    series: ArrayLike<number>,
    trainLength: number,
    forecastTraining: TrainSettings,
    resume = false,
  ): AsyncGenerator<TrainEvent> {
    const { updates, lr, ssmLr, seed, maxSeconds = Infinity, signal } = forecastTraining
    const began = performance.now()
    const batches = this.#batches(
      Float64Array.from(series as ArrayLike<number>).subarray(0, trainLength),
      forecastTraining,
    )
    const events = this.model.train(batches, {
      epochs: 1,
      lr,
      ssmLr,
      seed,
      clip: 1,
      resume,
      signal,
      schedule: schedules.warmupCosine({ warmup: Math.min(20, Math.ceil(updates / 10)), total: updates }),
    })
    for await (const event of events) {
      if (event.type === 'step') yield event
      if (performance.now() - began > 1000 * maxSeconds) break
    }
  }

  *#batches(series: Float64Array, { window, batch, updates, seed }: TrainSettings) {
    const { horizon, moves, scale } = this.about
    const x = standardise(series, scale)
    const frames = this.inputs(series)
    const random = uniform(seed)
    const starts = x.length - window - horizon
    if (starts < 0)
      throw new RangeError(`windows of ${window} + ${horizon} samples do not fit in ${x.length}`)
    for (let update = 0; update < updates; update++) {
      const input = new Float32Array(batch * window * frame)
      const target = new Float32Array(batch * window * horizon)
      for (let row = 0; row < batch; row++) {
        const start = Math.floor(random() * (starts + 1))
        input.set(frames.subarray(start * frame, (start + window) * frame), row * window * frame)
        for (let t = 0; t < window; t++) {
          const now = x[start + t]
          const at = (row * window + t) * horizon
          for (let k = 0; k < horizon; k++) target[at + k] = (x[start + t + k + 1] - now) / moves[k]
        }
      }
      yield {
        input: { data: input, shape: [batch, window, frame] },
        target: { data: target, shape: [batch, window, horizon] },
      }
    }
  }

  /** The network's outputs for a whole series, by convolution: (len, 2·horizon), means and then log σ of the moves. */
  async outputs(series: ArrayLike<number>): Promise<Float32Array> {
    const { data } = await this.model.predict({ data: this.inputs(series), shape: [1, series.length, frame] })
    return data as Float32Array
  }

  /** The network's inputs for a series, (len, frame); `frames` has the samples before it, where there are any. */
  inputs(series: ArrayLike<number>, frames = new Frames(this.about)): Float32Array {
    const out = new Float32Array(series.length * frame)
    for (let t = 0; t < series.length; t++) frames.push(series[t], out, t * frame)
    return out
  }

  stream(): ModelStream {
    return this.model.stream({ batch: 1 })
  }

  /**
   * Mean and standard deviation of the forecast for sample t + k, from the outputs at t, which begin at `outputs[at]`; `now` is the
   * value at t.
   */
  moment(outputs: ArrayLike<number>, at: number, k: number, now: number): { mean: number; sigma: number } {
    const { horizon, moves, scale } = this.about
    const mean = now + moves[k - 1] * outputs[at + k - 1] * scale.deviation
    const sigma = moves[k - 1] * Math.exp(outputs[at + horizon + k - 1]) * scale.deviation
    return { mean, sigma }
  }

  /** For each sample of the series the forecast that was made k samples before it; NaN for the first k samples. */
  ahead(outputs: ArrayLike<number>, series: ArrayLike<number>, k: number): Prediction {
    const mean = new Float64Array(series.length).fill(Number.NaN)
    const sigma = new Float64Array(series.length).fill(Number.NaN)
    for (let t = 0; t + k < series.length; t++) {
      const moment = this.moment(outputs, t * 2 * this.about.horizon, k, series[t])
      mean[t + k] = moment.mean
      sigma[t + k] = moment.sigma
    }
    return { mean, sigma }
  }

  /** The forecast that is made at sample t, for the next `horizon` samples. */
  fan(outputs: ArrayLike<number>, series: ArrayLike<number>, t: number): Prediction {
    const moments = Array.from({ length: this.about.horizon }, (_, k) =>
      this.moment(outputs, t * 2 * this.about.horizon, k + 1, series[t]),
    )
    return {
      mean: Float64Array.from(moments, (m) => m.mean),
      sigma: Float64Array.from(moments, (m) => m.sigma),
    }
  }

  /** The surprise z = (x[t] − mean)/σ of each sample, by the forecast made one sample before it; NaN for the first sample. */
  surprise(outputs: ArrayLike<number>, series: ArrayLike<number>): Float64Array {
    const { mean, sigma } = this.ahead(outputs, series, 1)
    return mean.map((expected, t) => (series[t] - expected) / sigma[t])
  }

  /** Sets the thresholds of marks by the surprise z of the training part, without its first `warm` samples. */
  calibrate(z: ArrayLike<number>, trainLength: number, warm = 720): Thresholds {
    const thresholds = calibrate(z, Math.min(warm, Math.floor(trainLength / 4)), trainLength)
    this.about = { ...this.about, thresholds }
    return thresholds
  }

  dispose(): void {
    this.model.dispose()
  }
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
