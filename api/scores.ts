// What sums over targets say: the metrics of evaluations and of epochs, and F1 scores of counts.
import type { MetricSums, Sums } from '#binding'
import type { ModelConfig } from './options.js'

/** F1 scores. */
export interface F1Scores {
  /** 2·TP/(2·TP + FP + FN) of each class; 0 where it is neither there nor predicted. */
  perClass: number[]
  /** Mean over the classes. */
  macro: number
  /** Mean by the number of examples of each class, or by their weights. */
  weighted: number
}

/** F1 scores of the rows of a square matrix of counts or weights: row the actual class, column the predicted one. */
export function f1Of(rows: readonly ArrayLike<number>[]): F1Scores {
  const sums = rows.map((row) => Array.from(row).reduce((a, b) => a + b, 0))
  const perClass = rows.map((row, c) => {
    const predicted = rows.reduce((sum, other) => sum + (other[c] as number), 0)
    const both = (sums[c] as number) + predicted
    return both === 0 ? 0 : (2 * (row[c] as number)) / both
  })
  const total = sums.reduce((a, b) => a + b, 0)
  const weighted = perClass.reduce((sum, f, c) => sum + f * (sums[c] as number), 0)
  return {
    perClass,
    macro: perClass.reduce((a, b) => a + b, 0) / perClass.length,
    weighted: total === 0 ? 0 : weighted / total,
  }
}

/**
 * Metrics that a loss makes possible: means over the targets by their own weights. Weights of classes and smoothed labels are in the loss
 * alone; ignored labels are in neither. Those with cross-entropy are `accuracy` to `bitsPerDimension`, those with other losses `mse`
 * to `crps`.
 */
export interface Scores {
  /** Part of the targets that was predicted right. */
  accuracy?: number
  /** Part of the targets whose label is among the `topK` largest outputs, with the option `topK`; of equal outputs the lower class comes first. */
  topK?: number
  /** exp of the mean of −log p, p being the probability of the label. */
  perplexity?: number
  /** The mean of −log₂ p: bits a dimension, or a character, a sample, whatever a target is. */
  bitsPerDimension?: number
  /** Mean squared error of the outputs: of the means with loss `'gaussian'`, of the level nearest to ½ with `'quantile'`. */
  mse?: number
  /** Mean absolute error of the same outputs. */
  mae?: number
  /**
   * Mean continuous ranked probability score, in the unit of the targets: with loss `'gaussian'` in its closed form, with `'quantile'`
   * twice the mean pinball loss of the levels.
   */
  crps?: number
}

/** The metrics of sums over targets. */
export function scoresOf(
  { loss }: Pick<ModelConfig, 'loss'>,
  { weight, sums }: MetricSums,
  topK: number | undefined,
): Scores {
  const [first, second, third] = sums.map((sum) => sum / weight) as [number, number, number]
  if (loss !== 'crossEntropy')
    return { mse: first, mae: second, ...((loss === 'gaussian' || loss === 'quantile') && { crps: third }) }
  return {
    accuracy: first,
    ...(topK !== undefined && { topK: second }),
    perplexity: Math.exp(third),
    bitsPerDimension: third / Math.LN2,
  }
}

/** Sums over no target. */
export function noSums(): Sums {
  return { loss: 0, weight: 0, metrics: { weight: 0, sums: [0, 0, 0] }, rows: 0, confusion: undefined }
}

/** Adds sums over other targets. */
export function addSums(totals: Sums, sums: Sums): void {
  totals.loss += sums.loss
  totals.weight += sums.weight
  totals.rows += sums.rows
  totals.metrics.weight += sums.metrics.weight
  sums.metrics.sums.forEach((sum, i) => (totals.metrics.sums[i]! += sum))
  if (totals.confusion === undefined) totals.confusion = sums.confusion
  else sums.confusion?.forEach((weight, i) => (totals.confusion![i]! += weight))
}
