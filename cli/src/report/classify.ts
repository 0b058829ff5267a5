/** The report of a classifier: its curves, its errors, which classes are taken for which, and the examples that it got most wrong. */
import * as Plot from '@observablehq/plot'
import type { Classifier, ClassScores } from 's4-node/tasks'
import { basename } from 'node:path'
import type { NamedExample } from '../data/examples.js'
import { confusions } from '../task/class-scores.js'
import type { Settings } from '../task/settings.js'
import type { HistoryEntry } from '../task/task.js'
import { bestEpochOf, curve, epochsOf } from './curves.js'
import { figure } from './html.js'
import { runPage, table, type Card } from './page.js'
import { colours } from './colours.js'
import { svgOf } from './svg.js'

/** Wrong examples that are shown. */
const WRONG = 12

export async function classPage(
  classifier: Classifier,
  held: readonly NamedExample[],
  scores: ClassScores | undefined,
  history: readonly HistoryEntry[],
  settings: Settings,
  inside: readonly string[],
): Promise<string> {
  const { classes, validationAccuracy } = classifier
  const epochs = epochsOf(history)
  const best = bestEpochOf(history)
  const sections = [
    '<h2>Training</h2>',
    `<div class="two">${figure(curve('loss', epochs, 'loss', best), 'Mean loss of each epoch’s updates. The ring is the epoch that was kept.')}${figure(
      curve('validation accuracy', epochs, 'accuracy', best),
      'Part of the validation examples with the right class.',
    )}</div>`,
  ]
  if (scores !== undefined) {
    const wrong = confusions(scores, classes)
    sections.push(
      '<h2>Errors</h2>',
      `<p>Over the ${scores.examples} examples of the test part.</p>`,
      `<div class="two">${figure(confusionChart(scores, classes), 'Rows: the class; columns: what was said.')}${table(
        ['class', 'examples', 'F1'],
        classes.map((name, i) => [
          String(name),
          String(scores.confusion[i]!.reduce((a, b) => a + b, 0)),
          scores.f1.perClass[i]!.toFixed(3),
        ]),
      )}</div>`,
    )
    if (wrong.length > 0)
      sections.push(
        '<h3>Most confused</h3>',
        table(
          ['class', 'taken for', 'times'],
          wrong.map((w) => [w.actual, w.predicted, String(w.count)]),
        ),
      )
    sections.push(...(await wrongExamples(classifier, held)))
  }
  const cards: Card[] = [
    ...(scores === undefined
      ? []
      : [
          {
            value: `${(100 * scores.accuracy).toFixed(1)} %`,
            label: 'right',
            beside: `${scores.examples} examples of the test part`,
          },
          { value: scores.f1.macro.toFixed(3), label: 'F1, mean over the classes' },
          {
            value: scores.loss.toFixed(3),
            label: 'cross-entropy',
            beside: `chance ${Math.log(classes.length).toFixed(3)}`,
          },
        ]),
    { value: `${(100 * (validationAccuracy as number)).toFixed(1)} %`, label: 'right in validation' },
  ]
  return runPage(`${classes.length} classes told apart`, cards, [...sections, ...inside], history, settings)
}

function confusionChart({ confusion }: ClassScores, classes: readonly (string | number)[]): string {
  const names = classes.map(String)
  const cells = confusion.flatMap((row, i) => {
    const sum = Math.max(
      row.reduce((a, b) => a + b, 0),
      1,
    )
    return row.map((count, j) => ({ actual: names[i], predicted: names[j], count, share: count / sum }))
  })
  return svgOf('Confusion', {
    width: 520,
    height: Math.max(160, Math.min(520, 60 + 30 * names.length)),
    marginLeft: 80,
    x: { label: 'said', domain: names },
    y: { label: 'class', domain: names },
    color: { type: 'linear', domain: [0, 1], range: ['#f6f7f8', colours.model] },
    marks: [
      Plot.cell(cells, { x: 'predicted', y: 'actual', fill: 'share', inset: 0.5 }),
      Plot.text(
        cells.filter(({ count }) => count > 0),
        {
          x: 'predicted',
          y: 'actual',
          text: 'count',
          fill: ({ share }: { share: number }) => (share > 0.5 ? '#fff' : colours.ink),
        },
      ),
    ],
  })
}

/** The wrong answers of which the classifier was most certain. */
async function wrongExamples(classifier: Classifier, held: readonly NamedExample[]): Promise<string[]> {
  const answers = await classifier.predict(held.map(({ input }) => input))
  const wrong = held
    .map(({ name, label }, i) => ({
      name,
      label,
      said: answers[i]!.label,
      probability: answers[i]!.probability,
    }))
    .filter(({ label, said }) => label !== said)
    .toSorted((a, b) => b.probability - a.probability)
    .slice(0, WRONG)
  if (wrong.length === 0) return ['<p>No example of the test part was wrong.</p>']
  return [
    '<h3>Wrong examples</h3>',
    table(
      ['example', 'class', 'said', 'probability'],
      wrong.map(({ name, label, said, probability }) => [
        basename(name),
        String(label),
        String(said),
        probability.toFixed(3),
      ]),
    ),
  ]
}
