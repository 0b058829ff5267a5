/** The report of an experiment of the paper: its figures, its curves, and what was taken for what. */
import * as Plot from '@observablehq/plot'
import { diagnose } from 's4-node'
import { colours } from './colours.js'
import { escape, figure, pageOf, swatch } from './html.js'
import { cardsOf, table } from './page.js'
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
  readonly recipe?: string
  readonly settings?: readonly string[]
  readonly epoch?: number
  /** Of an epoch that was left within: the batches done. */
  readonly batch?: number
  readonly of?: number
  readonly epochSeconds?: number
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
  readonly isSmoke: boolean
}

const KINDS = ['accuracy', 'mse', 'mae', 'perplexity', 'bitsPerDimension', 'loss'] as const
type Kind = (typeof KINDS)[number]
const NAMES = {
  accuracy: 'accuracy',
  mse: 'mean squared error',
  mae: 'mean absolute error',
  perplexity: 'perplexity',
  bitsPerDimension: 'bits a dimension',
  loss: 'loss',
}

const text = (kind: Kind, value: number) =>
  kind === 'accuracy' ? `${(100 * value).toFixed(2)} %` : String(Number(value.toPrecision(4)))

/** The figures that some scores have, each with its name and its text. */
const figuresOf = (scores: Scores) =>
  KINDS.filter((kind) => scores[kind] !== undefined).map((kind) => ({
    name: NAMES[kind],
    text: text(kind, scores[kind] as number),
  }))

/** The figures of some scores in words. */
export const shown = (scores: Scores): string =>
  figuresOf(scores)
    .map((one) => `${one.name} ${one.text}`)
    .join(', ')

/** Curves of training (blue) and of the judged epochs (red), each where it has points. */
function curves(kind: Kind, epochs: readonly Entry[], judged: string): string {
  const rows = (of: (entry: Entry) => Scores | undefined) =>
    epochs
      .map((entry) => ({ epoch: entry.epoch as number, value: of(entry)?.[kind] as number | undefined }))
      .filter(({ value }) => value !== undefined)
  const lines = [
    { data: rows((entry) => entry), stroke: colours.model, name: 'training' },
    { data: rows((entry) => entry.validation ?? entry.test), stroke: colours.mark, name: judged },
  ].filter(({ data }) => data.length > 0)
  const svg = svgOf(NAMES[kind], {
    width: 520,
    height: 240,
    marginLeft: 56,
    x: { label: 'epoch', ticks: Math.min(8, epochs.length), tickFormat: 'd' },
    y: { label: NAMES[kind], grid: true },
    marks: lines.flatMap(({ data, stroke }) => [
      Plot.lineY(data, { x: 'epoch', y: 'value', stroke, strokeWidth: 2 }),
      Plot.dot(data, { x: 'epoch', y: 'value', fill: stroke, r: 2 }),
    ]),
  })
  return figure(svg, lines.map(({ stroke, name }) => `${swatch(stroke)}${name}`).join(' '))
}

/** The report as a page that loads nothing. */
export function experimentPage({ recipe, result, isSmoke }: Experiment, history: readonly Entry[]): string {
  // An epoch that was run twice, after an interruption, counts once, and a part of one (which has its batches) not at all.
  const byNumber = new Map<number, Entry>()
  for (const entry of history)
    if (entry.event === 'epoch' && entry.epoch !== undefined && entry.batch === undefined)
      byNumber.set(entry.epoch, entry)
  const epochs = [...byNumber.values()].toSorted((a, b) => (a.epoch as number) - (b.epoch as number))
  const tests = Object.entries(result.tests)
  const judged = epochs.some((entry) => entry.validation) ? 'validation set' : 'test set'
  const kinds = KINDS.filter((kind) =>
    epochs.some((entry) => (entry[kind] ?? entry.validation?.[kind] ?? entry.test?.[kind]) !== undefined),
  )
  const cards = tests.flatMap(([name, scores]) =>
    figuresOf(scores).map((one) => ({ value: one.text, label: `${name}, ${one.name}` })),
  )
  const charts = kinds.map((kind) => curves(kind, epochs, judged))
  const errors = tests
    .filter(([, { confusion }]) => confusion !== undefined)
    .map(([name, { confusion = [] }]) => {
      const rows = confusion.map((row, i) => [String(i), ...row.map(String)])
      return `<h3>${escape(name)}</h3>${table(['class', ...confusion.map((_, i) => `said ${i}`)], rows)}`
    })
  const paper = Object.entries(recipe.paper ?? {})
    .filter(([, value]) => typeof value === 'number')
    .map(([name, value]) => `${name} ${String(value)}`)
  const { seed, device, parameters, minutes, chosenBy, settings, checkpoint } = result
  const facts = [
    `Seed ${seed}, ${parameters.toLocaleString('en')} parameters, ${result.epochs} epochs in ${minutes} minutes on ${device}.`,
    `The epoch is chosen by: ${chosenBy}. ${checkpoint.file} has SHA-256 ${checkpoint.sha256}.`,
    ...(settings.length > 0 ? [`Set: ${settings.join(', ')}.`] : []),
    ...(isSmoke ? ['A miniature of the experiment on made data: its figures say nothing.'] : []),
    ...(paper.length > 0 && !isSmoke ? [`The paper: ${paper.join(', ')}.`] : []),
  ]
  return pageOf(
    recipe.title,
    `<header><h1>${escape(recipe.title)}</h1>${facts.map((fact) => `<p>${escape(fact)}</p>`).join('')}</header>
${cardsOf(cards)}
<h2>Training</h2>
<div class="two">${charts.join('')}</div>
${errors.length > 0 ? `<h2>Errors</h2><p>Rows: the class; columns: what was said.</p>${errors.join('')}` : ''}
${recipe.differs === undefined ? '' : `<h2>What differs from the paper</h2><ul>${recipe.differs.map((line) => `<li>${escape(line)}</li>`).join('')}</ul>`}
<footer>s4-node ${escape(diagnose().version)}. This file is complete in itself: it loads nothing.</footer>`,
  )
}
