/** The report of a run: what tasks have in common. */
import { diagnose } from 's4-node'
import type { HistoryEntry } from '../task/task.js'
import { recipeOf, type Settings } from '../task/settings.js'
import { planOf } from './curves.js'
import { escape, pageOf } from './html.js'

/** A number on a card, with what it is, and what it is to be compared with. */
export interface Card {
  readonly value: string
  readonly label: string
  readonly beside?: string
  readonly good?: boolean
}

/** Cards side by side. */
export const cardsOf = (cards: readonly Card[]): string => {
  const made = cards.map(
    ({ value, label, beside = '', good }) =>
      `<div class="card"><b>${escape(value)}</b><span>${escape(label)}</span><em class="${good ? 'good' : ''}">${escape(beside)}</em></div>`,
  )
  return `<section class="cards">${made.join('')}</section>`
}

/** A page with a title, cards and the sections of a task. */
export function runPage(
  title: string,
  cards: readonly Card[],
  sections: readonly string[],
  history: readonly HistoryEntry[],
  settings: Settings,
): string {
  const seconds = history.findLast((entry) => entry.type === 'end')?.seconds ?? 0
  return pageOf(
    title,
    `<header><h1>${escape(title)}</h1><p>${escape(planOf(history))}. Trained for ${seconds.toFixed(0)} s.</p></header>
${cardsOf(cards)}
${sections.join('\n')}
<h2>How it was made</h2>
<p><code>s4 train --recipe config.json</code> makes the same run again:</p>
<pre>${escape(JSON.stringify(recipeOf(settings), undefined, 2))}</pre>
<footer>s4-node ${escape(diagnose().version)}. This file is complete in itself: it loads nothing.</footer>`,
  )
}

/** A table of HTML; the first cell of each row is its name. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? `<th>${escape(cell)}</th>` : `<td>${escape(cell)}</td>`)).join('')
  return `<table><thead><tr>${head.map((name) => `<th>${escape(name)}</th>`).join('')}</tr></thead><tbody>${rows
    .map((row) => `<tr>${cells(row)}</tr>`)
    .join('')}</tbody></table>`
}
