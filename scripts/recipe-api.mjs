// The one place where recipes meet the names of the library's options.
import { SequenceModel, schedules } from 's4-node'

/** A new model from a recipe's `model`, with what the data decide (input, output, vocabulary). */
export function createModel(recipe, dataset, { seed, device }) {
  return SequenceModel.create({ ...recipe.model, ...dataset.model, seed, device })
}

export const loadModel = (path, { device, precision }) => SequenceModel.load(path, { device, precision })
export const modelFromBytes = (bytes, { device, precision }) =>
  SequenceModel.fromBytes(bytes, { device, precision })

/** Options of one epoch of training, whose learning rate follows a warm-up and half a cosine down to update `total`. */
export function epochOptions(recipe, { warmup, total, seed, resume }) {
  const { lr, ssmLr, weightDecay, beta2, clip, ema, spareNormsAndBiases } = recipe.train
  const given = { lr, ssmLr, weightDecay, beta2, clip, ema, spareNormsAndBiases }
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, x]) => x !== undefined)),
    schedule: schedules.warmupCosine({ warmup, total }),
    epochs: 1,
    seed,
    resume,
  }
}
