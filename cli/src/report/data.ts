import type { Mark } from '../marks.js'

/** Everything that the report shows; nothing in it is computed again while drawing. Times are seconds, values the unit of the series. */
export interface ReportData {
  readonly title: string
  readonly source: string
  readonly unit: string
  /** samples a second */
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
  /** RMSE in units of the training deviation */
  readonly scores: readonly {
    readonly horizon: number
    readonly persistence: number
    readonly linear: number
    readonly model: number
  }[]
  readonly coverage: number
  /** the series from its first sample, and what was forecast `horizon` samples before each sample */
  readonly signal: ArrayLike<number>
  readonly band: {
    readonly horizon: number
    readonly mean: ArrayLike<number>
    readonly sigma: ArrayLike<number>
  }
  readonly holdout: number
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
  /** Δ a head, in samples of the training rate, before and after training */
  readonly dtBefore: ArrayLike<number>
  readonly dtAfter: ArrayLike<number>
  /** of each head's modes: decay time (seconds) and frequency (hertz) */
  readonly modes: readonly { readonly decay: number; readonly frequency: number }[]
}
