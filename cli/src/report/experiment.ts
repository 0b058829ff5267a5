/** The report of an experiment of the paper: its figures, its curves, and what was taken for what. */
import * as Plot from '@observablehq/plot'
import { diagnose } from 's4-node'
import { colours } from './colours.js'
import { css, escape, figure, swatch } from './html.js'
import { table } from './page.js'
import { svgOf } from './svg.js'

/** Figures of some examples. */
export interface Scores {
  readonly loss?: number
  readonly accuracy?: number
  readonly mse?: number
  readonly mae?: number
  readonly perplexity?: number
  readonly bitsPerDimension?: number
  readonly correct?: number
  readonly of?: number
  /** Rows: the class; columns: what was said. */
  readonly confusion?: readonly (readonly number[])[]
}

/** A line of an experiment's history.jsonl. */
export interface Entry extends Scores {
  readonly event: string
  readonly epoch?: number
  readonly of?: number
  readonly seconds?: number
  readonly validation?: Scores
  readonly test?: Scores
}

/** An experiment, and what its result.json has. */
export interface Experiment {
  readonly recipe: {
    readonly name: string
    readonly title: string
    readonly paper?: Readonly<Record<string, unknown>>
    readonly differs?: readonly string[]
  }
  readonly result: {
    readonly seed: number
    readonly device: string
    readonly parameters: number
    readonly epochs: number
    readonly minutes: number
    readonly chosenBy: string
    readonly settings: readonly string[]
    readonly checkpoint: { readonly file: string; readonly sha256: string }
    readonly tests: Readonly<Record<string, Scores>>
  }
}

const KINDS = ['accuracy', 'mse', 'perplexity', 'bitsPerDimension', 'loss'] as const
const NAMES = {
  accuracy: 'accuracy',
  mse: 'mean squared error',
  perplexity: 'perplexity',
  bitsPerDimension: 'bits a dimension',
  loss: 'loss',
}

/** What the figures of some scores are, and the first of them. */
const kindOf = (scores: Scores) => KINDS.find((kind) => scores[kind] !== undefined)

/** The figure of some scores as text. */
export function shown(scores: Scores): string {
  const kind = kindOf(scores)
  if (kind === undefined) return '–'
  const value = scores[kind] as number
  return kind === 'accuracy' ? `${(100 * value).toFixed(2)} %` : String(Number(value.toPrecision(4)))
}

/** Curves of training (blue) and of the judged epochs (red). */
function curves(label: string, kind: (typeof KINDS)[number], epochs: readonly Entry[]): string {
  const rows = (of: (entry: Entry) => Scores | undefined) =>
    epochs
      .map((entry) => ({ epoch: entry.epoch as number, value: of(entry)?.[kind] as number | undefined }))
      .filter(({ value }) => value !== undefined)
  const lines = [
    [rows((entry) => entry), colours.model],
    [rows((entry) => entry.validation ?? entry.test), colours.mark],
  ] as const
  return svgOf(label, {
    width: 520,
    height: 240,
    marginLeft: 56,
    x: { label: 'epoch', ticks: Math.min(8, epochs.length), tickFormat: 'd' },
    y: { label, grid: true },
    marks: lines.flatMap(([data, stroke]) => [
      Plot.lineY(data, { x: 'epoch', y: 'value', stroke, strokeWidth: 2 }),
      Plot.dot(data, { x: 'epoch', y: 'value', fill: stroke, r: 2 }),
    ]),
  })
}

/** The report as a page that loads nothing. */
export function experimentPage({ recipe, result }: Experiment, history: readonly Entry[]): string {
  // An epoch that was run twice, after an interruption, counts once.
  const byNumber = new Map<number, Entry>()
  for (const entry of history)
    if (entry.event === 'epoch' && entry.epoch !== undefined) byNumber.set(entry.epoch, entry)
  const epochs = [...byNumber.values()].toSorted((a, b) => (a.epoch as number) - (b.epoch as number))
  const tests = Object.entries(result.tests)
  const judged = epochs.some((entry) => entry.validation) ? 'validation set' : 'test set'
  const kinds = KINDS.filter((kind) =>
    epochs.some((entry) => entry[kind] ?? entry.validation?.[kind] ?? entry.test?.[kind]),
  )
  const cards = tests.map(
    ([name, scores]) =>
      `<div class="card"><b>${shown(scores)}</b><span>${escape(`${name}, ${NAMES[kindOf(scores) ?? 'loss']}`)}</span></div>`,
  )
  const charts = kinds.map((kind) =>
    figure(
      curves(NAMES[kind], kind, epochs),
      `${swatch(colours.model)}training ${swatch(colours.mark)}${judged}`,
    ),
  )
  const errors = tests
    .filter(([, { confusion }]) => confusion !== undefined)
    .map(([name, { confusion = [] }]) => {
      const rows = confusion.map((row, i) => [String(i), ...row.map(String)])
      return `<h3>${escape(name)}</h3>${table(['class', ...confusion.map((_, i) => `said ${i}`)], rows)}`
    })
  const paper = Object.entries(recipe.paper ?? {}).map(([name, value]) => `${name} ${String(value)}`)
  const { seed, device, parameters, minutes, chosenBy, settings, checkpoint } = result
  const facts = [
    `Seed ${seed}, ${parameters.toLocaleString('en')} parameters, ${result.epochs} epochs in ${minutes} minutes on ${device}.`,
    `The epoch is chosen by: ${chosenBy}. ${checkpoint.file} has SHA-256 ${checkpoint.sha256}.`,
    ...(settings.length > 0 ? [`Set: ${settings.join(', ')}.`] : []),
    ...(paper.length > 0 ? [`The paper: ${paper.join(', ')}.`] : []),
  ]
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(recipe.title)}</title>
<style>${css}</style>
<main>
<header><h1>${escape(recipe.title)}</h1>${facts.map((fact) => `<p>${escape(fact)}</p>`).join('')}</header>
<section class="cards">${cards.join('')}</section>
<h2>Training</h2>
<div class="two">${charts.join('')}</div>
${errors.length > 0 ? `<h2>Errors</h2><p>Rows: the class; columns: what was said.</p>${errors.join('')}` : ''}
${recipe.differs === undefined ? '' : `<h2>What differs from the paper</h2><ul>${recipe.differs.map((line) => `<li>${escape(line)}</li>`).join('')}</ul>`}
<footer>s4-node ${escape(diagnose().version)}. This file is complete in itself: it loads nothing.</footer>
</main>
</html>
`
}
