/** What the live page is told, as JSON. Types alone: the page's script and the server share them. */

/** An epoch that has ended. */
export interface LiveEpoch {
  readonly epoch: number
  readonly loss: number
  /** The figure of the validation that is shown, and its name. */
  readonly figure: number | null
  readonly name: string
  readonly best: boolean
  readonly seconds: number
}

/** The first taps of the kernels of a block's strongest heads. */
export interface LiveKernels {
  readonly epoch: number
  readonly block: number
  readonly kernels: readonly (readonly number[])[]
}

/** A forecast of the validation part beside what came, after an epoch: the same window each time. NaN, where a value is missing, is null in JSON. */
export interface LiveForecast {
  readonly epoch: number
  /** First row that is forecast. */
  readonly row: number
  readonly columns: readonly {
    readonly name: string
    /** Rows before, then those that came. */
    readonly came: readonly (number | null)[]
    /** Of `came`, how many are before the forecast. */
    readonly before: number
    readonly mean: readonly number[]
  }[]
}

/** Which classes of the validation part are taken for which, after an epoch: rows the actual ones. */
export interface LiveConfusion {
  readonly epoch: number
  readonly classes: readonly string[]
  readonly counts: readonly (readonly number[])[]
}

/** How far a training is. */
export interface LiveState {
  readonly title: string
  readonly plan: string
  readonly step: number
  readonly of: number
  /** Losses of updates, thinned out: [update, loss]. */
  readonly losses: readonly (readonly [number, number])[]
  readonly epochs: readonly LiveEpoch[]
  readonly kernels: LiveKernels | undefined
  readonly forecast: LiveForecast | undefined
  readonly confusion: LiveConfusion | undefined
  /** How it ended, in words; undefined while it runs. */
  readonly ended: string | undefined
  /** Whether it comes to its end: it was told to stop, or all updates are made. */
  readonly stopping: boolean
}

/** A message: all of it for a browser that comes, then what changes. */
export type LiveMessage =
  | { readonly type: 'state'; readonly state: LiveState }
  | { readonly type: 'change'; readonly change: Partial<Omit<LiveState, 'losses' | 'epochs'>> }
  | {
      readonly type: 'losses'
      readonly step: number
      readonly of: number
      readonly losses: LiveState['losses']
    }
  | { readonly type: 'epoch'; readonly epoch: LiveEpoch }
