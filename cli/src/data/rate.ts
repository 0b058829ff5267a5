import type { Classifier } from 's4-node/tasks'
import type { Values } from '../options/spec.js'

/** How many times fewer samples a second data have than those of a classifier's training: as said, or by the files' own rate. */
export function rateOf(
  { sampleRate: trained, kind }: Classifier,
  sampleRate: number | undefined,
  { rate }: Values,
): number {
  if (rate !== undefined) return rate as number
  if (kind !== 'audio' || sampleRate === undefined) return 1
  const ratio = (trained as number) / sampleRate
  if (ratio < 1 || ratio > 16)
    throw new Error(
      `recordings of ${sampleRate} samples a second, where those of the training had ${trained}: --sample-rate ${trained} resamples them`,
    )
  return ratio
}
