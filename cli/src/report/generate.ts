/** The report of a generator: its curves, its figures, and a sample of what it writes. */
import type { Settings } from '../task/settings.js'
import type { HistoryEntry } from '../task/task.js'
import { bestEpochOf, curve, epochsOf } from './curves.js'
import { escape, figure } from './html.js'
import { runPage } from './page.js'

export function textPage(
  { validationLoss, bitsPerToken, sample }: { validationLoss: number; bitsPerToken: number; sample: string },
  history: readonly HistoryEntry[],
  settings: Settings,
  inside: readonly string[],
): string {
  const epochs = epochsOf(history)
  const best = bestEpochOf(history)
  const sections = [
    '<h2>Training</h2>',
    `<div class="two">${figure(curve('loss', epochs, 'loss', best), 'Mean −log p of a token in each epoch’s updates. The ring is the epoch that was kept.')}${figure(
      curve('validation loss', epochs, 'validationLoss', best),
      'The same over the end of the text, which is not learned from.',
    )}</div>`,
    '<h2>A sample</h2>',
    '<p>From nothing, at temperature 0.8, with seed 1.</p>',
    `<pre style="white-space: pre-wrap">${escape(sample)}</pre>`,
  ]
  const cards = [
    { value: bitsPerToken.toFixed(3), label: 'bits a token', beside: 'of the end of the text' },
    { value: Math.exp(validationLoss).toFixed(2), label: 'perplexity of a token' },
  ]
  return runPage('A text is learned', cards, [...sections, ...inside], history, settings)
}
