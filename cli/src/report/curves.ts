/** The curves of a training. */
import * as Plot from '@observablehq/plot'
import type { HistoryEntry } from '../task/task.js'
import { colours } from './colours.js'
import { svgOf } from './svg.js'

type Epoch = Extract<HistoryEntry, { type: 'epoch' }>

/** The epochs of a history; of one that was run twice, after an interruption, the last. */
export function epochsOf(history: readonly HistoryEntry[]): Epoch[] {
  const byNumber = new Map<number, Epoch>()
  for (const entry of history) if (entry.type === 'epoch') byNumber.set(entry.epoch, entry)
  return [...byNumber.values()].toSorted((a, b) => a.epoch - b.epoch)
}

/** One figure of each epoch, with a ring at the best one. */
export function curve(
  label: string,
  epochs: readonly Epoch[],
  figure: 'loss' | 'mse' | 'accuracy' | 'validationLoss',
  best: number | undefined,
): string {
  const rows = epochs.map((entry) => ({ epoch: entry.epoch, value: entry[figure] as number }))
  return svgOf(label, {
    width: 520,
    height: 240,
    marginLeft: 56,
    x: { label: 'epoch', ticks: Math.min(8, rows.length), tickFormat: 'd' },
    y: { label, grid: true },
    marks: [
      Plot.lineY(rows, { x: 'epoch', y: 'value', stroke: colours.model, strokeWidth: 2 }),
      Plot.dot(
        rows.filter(({ epoch }) => epoch === best),
        { x: 'epoch', y: 'value', r: 5, stroke: colours.mark, strokeWidth: 2 },
      ),
    ],
  })
}

/** The epoch whose parameters were kept. */
export const bestEpochOf = (history: readonly HistoryEntry[]): number | undefined =>
  history.findLast((entry) => entry.type === 'end')?.bestEpoch

/** The sentence in which the plan was told. */
export const planOf = (history: readonly HistoryEntry[]): string =>
  history.findLast((entry) => entry.type === 'plan')?.text ?? ''
