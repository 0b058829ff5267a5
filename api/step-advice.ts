// Whether the step sizes of a layer fit the data, and whether all of it does something.
import { durationText, medianOf, quantileOf } from './inspection-text.js'

/** What may be wrong with a layer. */
export type AdviceKind = 'stepTooLarge' | 'stepTooSmall' | 'unstable' | 'idleLayer' | 'idleHeads'

/** What the advice is made from. */
interface LayerFigures {
  readonly stepSizes: Float64Array
  readonly memory: { readonly nearlyAll: { readonly steps: Float64Array } }
  readonly unresolved: number
  readonly strength: Float64Array
  readonly idleHeads: readonly number[]
  readonly change?: number
}

/** Part of the modes that may be finer than a time step. Layers at the usual step sizes (0.001 to 0.1) have 0.05 to 0.25. */
const MOST_UNRESOLVED = 0.4
/** A layer whose longest memory is this many times shorter than the data sees next to nothing of it. */
const SHORTEST_MEMORY = 20
/** A layer half of whose kernels reach back so many times the data sees it as one moment. */
const LONGEST_MEMORY = 10
/** A block that changes its input by less does nothing; so does one whose heads are all weaker. */
const [LEAST_CHANGE, LEAST_STRENGTH] = [1e-3, 1e-4]

/** What is likely to be wrong with a layer. */
export function adviceOn(
  layer: LayerFigures,
  number: number,
  length: number | undefined,
  samplingInterval: number | undefined,
) {
  const { stepSizes, memory, unresolved, strength, idleHeads, change } = layer
  const advice: { kind: AdviceKind; layer: number; text: string }[] = []
  const say = (kind: AdviceKind, text: string) =>
    advice.push({ kind, layer: number, text: `layer ${number}: ${text}` })
  const time = (steps: number) => durationText(steps, samplingInterval)
  const [least, most] = [quantileOf(stepSizes, 0), quantileOf(stepSizes, 1)]
  const range = `Δ is ${least.toPrecision(2)} to ${most.toPrecision(2)}`
  const better = `begin with dtMin about ${(1 / Math.max(length ?? 1000, 1000)).toPrecision(1)} and dtMax about 0.1, or multiply Δ by`
  const reach = memory.nearlyAll.steps
  const finite = reach.filter((steps) => Number.isFinite(steps))
  const longest = quantileOf(reach, 0.95)
  const median = medianOf(reach)
  const typical = Math.exp(medianOf(stepSizes.map(Math.log)))
  const factor = (0.01 / typical).toPrecision(1)
  if (finite.length < reach.length / 2)
    say(
      'unstable',
      `the kernels of ${reach.length - finite.length} of ${reach.length} heads do not die away: Re Λ is 0 or above`,
    )
  else if (unresolved > MOST_UNRESOLVED)
    say(
      'stepTooLarge',
      `${range}, too large: ${(100 * unresolved).toFixed(0)} % of its modes turn or decay by more than half a period in ` +
        `${time(1)}, which no data can show; ${better} ${factor}`,
    )
  else if (length !== undefined && longest < length / SHORTEST_MEMORY)
    say(
      'stepTooLarge',
      `${range}, too large for sequences of ${time(length)}: the longest of its kernels reach back ${time(longest)}; ${better} ${factor}`,
    )
  else if (length !== undefined && median > LONGEST_MEMORY * length)
    say(
      'stepTooSmall',
      `${range}, too small for sequences of ${time(length)}: half of its kernels reach back more than ${time(median)}, over which ` +
        `a whole sequence is one moment; ${better} ${factor}`,
    )
  if ((change !== undefined && change < LEAST_CHANGE) || quantileOf(strength, 1) < LEAST_STRENGTH)
    say(
      'idleLayer',
      `it does nothing${change === undefined ? '' : `: it changes its input by ${change.toPrecision(2)} of it`}`,
    )
  else if (idleHeads.length > 0) {
    const names = idleHeads.slice(0, 8).join(', ') + (idleHeads.length > 8 ? ', …' : '')
    say('idleHeads', `${idleHeads.length} of ${strength.length} heads do nothing (${names})`)
  }
  return advice
}
