// The curves of learning runs as Markdown, from the history.jsonl and result.json in their folders: node scripts/learn-curves.mjs FOLDER …
// Runs of one recipe share a table: what the judged epochs had, on the validation set or, where there is none, on the test set, and below
// it what training had over that epoch.
import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/** Columns of a table at the most. */
const MOST = 12

const lines = (file) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))

/** The figure of some results that a table shows, and how. */
const figure = (of) => {
  if (of === undefined) return '–'
  if (of.accuracy !== undefined) return (100 * of.accuracy).toFixed(1)
  if (of.mse !== undefined) return of.mse.toFixed(3)
  if (of.perplexity !== undefined) return of.perplexity.toFixed(1)
  return (of.bitsPerDimension ?? of.loss).toFixed(3)
}

/** Some of the numbers, evenly, with the first and the last. */
const some = (all) =>
  all.length <= MOST
    ? all
    : [
        ...new Set(
          Array.from({ length: MOST }, (_, i) => all[Math.round((i * (all.length - 1)) / (MOST - 1))]),
        ),
      ]

const byRecipe = new Map()
for (const folder of process.argv.slice(2)) {
  const result = join(folder, 'result.json')
  if (!existsSync(result)) {
    console.error(`${folder}: no result.json, left out`)
    continue
  }
  const { recipe, checkpoint, tests, seed, minutes } = JSON.parse(readFileSync(result, 'utf8'))
  const epochs = lines(join(folder, 'history.jsonl')).filter(
    // Not what was left within an epoch.
    (entry) => entry.event === 'epoch' && entry.batch === undefined,
  )
  const run = { name: basename(folder), epochs, checkpoint, tests, seed, minutes }
  byRecipe.set(recipe, [...(byRecipe.get(recipe) ?? []), run])
}
for (const [recipe, runs] of byRecipe) {
  const judged = (run) => run.epochs.filter((entry) => entry.validation ?? entry.test)
  const columns = some(
    [...new Set(runs.flatMap((run) => judged(run).map((entry) => entry.epoch)))].toSorted((a, b) => a - b),
  )
  const on = runs.some((run) => run.epochs.some((entry) => entry.validation)) ? 'validation' : 'test'
  console.log(`### ${recipe}\n`)
  console.log(`| epoch | ${columns.join(' | ')} | test | seed, minutes, SHA-256 |`)
  console.log(`|---|${columns.map(() => '---:|').join('')}---:|---|`)
  for (const run of runs) {
    const at = (epoch) => run.epochs.find((entry) => entry.epoch === epoch)
    const tests = Object.values(run.tests ?? {}).map(figure)
    const cells = (f) => columns.map((epoch) => (at(epoch) === undefined ? '' : f(at(epoch)))).join(' | ')
    const facts = `${run.seed}, ${run.minutes}, \`${run.checkpoint.sha256.slice(0, 12)}\``
    console.log(
      `| ${run.name}, ${on} | ${cells((entry) => figure(entry.validation ?? entry.test))} | ${tests.join(', ')} | ${facts} |`,
    )
    console.log(`| … training | ${cells(figure)} | | |`)
  }
  console.log()
}
