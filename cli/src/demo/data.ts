import type { Mark } from './marks.js'

/** All data that the report shows. Times are in seconds, values in the unit of the series, positions are sample numbers from 0. */
export interface ReportData {
  readonly title: string
  readonly source: string
  readonly unit: string
  /** Samples per second. */
  readonly rate: number
  readonly device: string
  readonly model: {
    readonly mode: string
    readonly layers: number
    readonly features: number
    readonly state: number
    readonly horizon: number
    readonly parameters: number
  }
  readonly training: {
    readonly updates: number
    readonly seconds: number
    readonly windows: number
    readonly window: number
    readonly curve: readonly { readonly step: number; readonly loss: number }[]
  }
  /** RMSE for each horizon in samples, in standard deviations of the training part. */
  readonly scores: readonly {
    readonly horizon: number
    readonly persistence: number
    readonly linear: number
    readonly model: number
  }[]
  /** Share of the held-out samples inside mean ± 2σ. */
  readonly coverage: number
  /** The whole series, and for each sample of it what was forecast `horizon` samples before. */
  readonly signal: ArrayLike<number>
  readonly band: {
    readonly horizon: number
    readonly mean: ArrayLike<number>
    readonly sigma: ArrayLike<number>
  }
  /** Number of samples at the beginning of the series that were used in training. */
  readonly trainLength: number
  readonly fans: readonly {
    readonly origin: number
    readonly mean: ArrayLike<number>
    readonly sigma: ArrayLike<number>
  }[]
  readonly surprise: ArrayLike<number>
  readonly threshold: number
  readonly marks: readonly Mark[]
  readonly layers: readonly LayerPicture[]
  readonly stream: {
    readonly samples: number
    readonly seconds: number
    readonly error: number
    readonly tolerance: number
  }
}

/** One layer: the kernel of each head (heads × length) and the timescales of its modes. */
export interface LayerPicture {
  readonly name: string
  readonly heads: number
  readonly length: number
  readonly kernel: ArrayLike<number>
  /** Δ of each head, in units of 1 / (samples at the training rate), before and after training. */
  readonly dtBefore: ArrayLike<number>
  readonly dtAfter: ArrayLike<number>
  /** The modes of all heads: decay time in seconds and frequency in hertz. */
  readonly modes: readonly { readonly decay: number; readonly frequency: number }[]
}
