// Sizes and rates of a forecaster, chosen by the length, width and number of its series.
import { secondsText } from '../inspection-text.js'
import type { TaskTrainOptions } from './options.js'
import { pieceLength } from './forecast-network.js'

/** What a plan is made from. */
export interface ForecastSize {
  /** Rows of the longest training part, and of all together. */
  readonly longest: number
  readonly rows: number
  readonly targets: number
  readonly horizon: number
}

/** Every option of the training, with its value. */
export interface ForecastPlan {
  readonly lookBack: number
  readonly features: number
  readonly layers: number
  readonly state: number
  readonly mode: 's4' | 's4d'
  readonly dropout: number
  readonly epochs: number
  readonly updates: number
  readonly patience: number
  readonly batchSize: number
  readonly lr: number
  readonly ssmLr: number
  readonly weightDecay: number
}

/**
 * The look-back is 3.5 horizons, from 64 to 720, and at most a quarter of a training part; the network is larger where more
 * values are there to learn from.
 */
export function forecastPlan(
  { longest, rows, targets, horizon }: ForecastSize,
  given: TaskTrainOptions & { lookBack?: number },
): ForecastPlan {
  const values = rows * targets
  const most = Math.max(2, Math.floor((longest - horizon) / 4))
  const lookBack = given.lookBack ?? Math.min(Math.max(64, Math.round(3.5 * horizon)), 720, most)
  const large = values > 40_000
  const features = given.features ?? (values > 4000 ? (large ? 64 : 48) : 32)
  const layers = given.layers ?? 2
  const state = given.state ?? 32
  const piece = Math.min(pieceLength(lookBack), longest)
  const batchSize = given.batchSize ?? Math.max(1, Math.min(16, Math.round(8192 / piece)))
  // An epoch sees about as many time steps as there are, at least a few updates and at most 50.
  const useful = Math.max(piece - lookBack + 1, 1) * batchSize
  const updates = Math.max(16, Math.min(50, Math.round((2 * rows) / useful)))
  const epochs = given.epochs ?? 60
  return {
    lookBack,
    features,
    layers,
    state,
    mode: given.mode ?? 's4d',
    dropout: given.dropout ?? 0.1,
    epochs,
    updates,
    patience: given.patience ?? 8,
    batchSize,
    lr: given.lr ?? 0.004,
    ssmLr: given.ssmLr ?? 0.001,
    weightDecay: given.weightDecay ?? 0.01,
  }
}

/** The intervals that a network takes, in milliseconds: the usual one, and the least and the most in usual ones. */
export interface PlannedIntervals {
  readonly usual: number
  readonly range: readonly [number, number]
}

/** The plan in a sentence. */
export function planText(
  plan: ForecastPlan,
  { rows, targets, horizon }: ForecastSize,
  intervals?: PlannedIntervals,
): string {
  const { lookBack, features, layers, state, mode, epochs, updates, batchSize, lr } = plan
  return (
    `${targets} target${targets === 1 ? '' : 's'}, ${rows} training rows, horizon ${horizon}: look-back ${lookBack}; ` +
    `${layers} blocks of ${features} features (${mode}, state ${state}); up to ${epochs} epochs of ${updates} updates of ${batchSize} sequences, rate ${lr}` +
    (intervals === undefined ? '' : intervalsText(intervals))
  )
}

function intervalsText({ usual, range: [least, most] }: PlannedIntervals): string {
  const short = (x: number) => String(Number(x.toPrecision(3)))
  return `; uneven times: the usual interval, ${secondsText(usual / 1000)}, counts as 1, and intervals are ${short(least)} to ${short(most)}`
}
