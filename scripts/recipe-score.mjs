// Scores of a model on a test set: accuracy and confusion matrix for classification, MSE and MAE for forecasts, bits and perplexity for tokens.
import { testBatches } from './recipe-batches.mjs'

/**
 * { loss, accuracy } for classes, { mse, mae } for forecasts, { loss, bitsPerDimension, perplexity, tokens } for tokens; with `confusion`
 * classes also have the matrix of counts [true class][predicted class].
 */
export async function score(model, dataset, set, { batchSize, pad, confusion = false }) {
  if (dataset.kind === 'forecast') return forecastScore(model, dataset, set, { batchSize })
  if (confusion && dataset.kind === 'classes') return classScore(model, dataset, set, { batchSize, pad })
  const only = (function* () {
    for (const { batch } of testBatches(dataset, set, { batchSize, pad })) yield batch
  })()
  const { loss, accuracy, bitsPerDimension, perplexity, rows } = await model.evaluate(only)
  return dataset.kind === 'tokens' ? { loss, bitsPerDimension, perplexity, tokens: rows } : { loss, accuracy }
}

/** The figure of a validation that chooses an epoch; the smallest is the best. */
export const judgement = (dataset, { mse, accuracy, loss }) =>
  dataset.kind === 'tokens' ? loss : (mse ?? -accuracy)

async function classScore(model, dataset, set, options) {
  const table = Array.from({ length: dataset.classes }, () =>
    Array.from({ length: dataset.classes }, () => 0),
  )
  let correct = 0
  for (const { group, batch } of testBatches(dataset, set, options)) {
    const { data } = await model.predict(batch.input, { lengths: batch.lengths, rate: batch.rate })
    group.forEach((example, row) => {
      const logits = data.subarray(row * dataset.classes, (row + 1) * dataset.classes)
      const answer = logits.indexOf(Math.max(...logits))
      table[example.target][answer]++
      if (answer === example.target) correct++
    })
  }
  return { accuracy: correct / set.examples.length, correct, of: set.examples.length, confusion: table }
}

async function forecastScore(model, dataset, set, { batchSize }) {
  const sum = { squared: 0, absolute: 0, count: 0 }
  for (const { group, batch } of testBatches(dataset, set, { batchSize })) {
    const { data } = await model.predict(batch.input)
    const part = dataset.errors(group, data)
    for (const key of Object.keys(sum)) sum[key] += part[key]
  }
  return { mse: sum.squared / sum.count, mae: sum.absolute / sum.count }
}
