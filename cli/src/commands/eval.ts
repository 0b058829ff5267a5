import { readFileSync } from 'node:fs'
import type { Generator } from 's4-node/tasks'
import { exampleSpecs, readExamples } from '../data/examples.js'
import { readTables, tableSpecs } from '../data/tables.js'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import type { OptionSpec, Values } from '../options/spec.js'
import { disposeTask, loadTask, type Loaded } from '../run/load.js'
import { classLines } from '../task/class-scores.js'
import { scoreLines } from '../task/forecast-scores.js'
import { UsageError } from '../usage.js'
import type { Command } from './command.js'
import { rateOf } from '../data/rate.js'

/** Options of one task alone. */
const rangeSpecs: readonly OptionSpec[] = [
  {
    name: 'from',
    kind: 'count',
    min: 0,
    help: 'forecasters: first row that is forecast',
    otherwise: '0; the look-back must come before it',
  },
  {
    name: 'to',
    kind: 'count',
    min: 1,
    help: 'forecasters: end of the rows that are forecast',
    otherwise: 'all',
  },
  {
    name: 'stride',
    kind: 'count',
    min: 1,
    help: 'forecasters: rows between two forecasts',
    otherwise: '1, or what keeps their number in bounds',
  },
]
const classSpecs: readonly OptionSpec[] = [
  {
    name: 'only',
    kind: 'pattern',
    word: 'pattern',
    help: 'classifiers: the files whose path matches',
    otherwise: 'all',
  },
  {
    name: 'rate',
    kind: 'number',
    min: 1,
    max: 16,
    help: 'classifiers: how many times fewer samples a second the data have',
    otherwise: 'what the files say, else 1',
  },
]
const ownClassSpecs = exampleSpecs.filter(({ name }) => !tableSpecs.some((spec) => spec.name === name))

/** Options that a task has not. */
const foreignSpecs = {
  forecast: [...classSpecs, ...ownClassSpecs],
  classify: rangeSpecs,
  generate: [...rangeSpecs, ...classSpecs, ...ownClassSpecs, ...tableSpecs],
}

export const evaluate: Command = {
  name: 'eval',
  summary: 'figures of a run on other data',
  operands: [
    { name: 'RUN', help: 'folder of a run, or its best.safetensors' },
    { name: 'DATA...', help: 'tables, labelled files and folders, or texts, as of its training' },
  ],
  options: [...rangeSpecs, ...ownClassSpecs, ...classSpecs, jsonSpec, ...tableSpecs, ...deviceSpecs],
  notes: `Recordings at a lower sampling rate than those of the training are classified as they are, with nothing learned again; --sample-rate
resamples them first.`,
  async run({ operands: [run, ...data], values }) {
    const loaded = await loadTask(run as string, deviceOf(values))
    try {
      const foreign = foreignSpecs[loaded.task].find(({ name }) => values[name] !== undefined)
      if (foreign !== undefined)
        throw new UsageError(`--${foreign.name} is no option of the task ${loaded.task}`)
      const { scores, text } = await figures(loaded, data, values)
      console.log(values['json'] ? JSON.stringify(scores) : text)
      return 0
    } finally {
      disposeTask(loaded)
    }
  },
}

async function figures(
  loaded: Loaded,
  data: readonly string[],
  values: Values,
): Promise<{ scores: object; text: string }> {
  if (loaded.task === 'forecast') {
    const { forecaster } = loaded
    const tables = await readTables(data, values)
    const { from, to, stride } = values as { from?: number; to?: number; stride?: number }
    const scores = await forecaster.evaluate(
      tables.map(({ columns, time }) => ({ columns, time })),
      {
        ...(from !== undefined && { from }),
        ...(to !== undefined && { to }),
        ...(stride !== undefined && { stride }),
      },
    )
    return { scores, text: scoreLines(scores, forecaster.season) }
  }
  if (loaded.task === 'generate') return textFigures(loaded.generator, data)
  const { classifier } = loaded
  const { examples, sampleRate } = await readExamples(data, values, classifier)
  const only = new RegExp((values['only'] as string | undefined) ?? '')
  const chosen = examples.filter(({ name }) => only.test(name))
  if (chosen.length === 0)
    throw new UsageError(`--only ${only.source} matches none of ${examples.length} examples`)
  const scores = await classifier.evaluate(
    chosen.map(({ input, label }) => ({ input, label })),
    { rate: rateOf(classifier, sampleRate, values) },
  )
  return { scores, text: classLines(scores, classifier.classes) }
}

/** How probable texts are. */
async function textFigures(
  generator: Generator,
  files: readonly string[],
): Promise<{ scores: object; text: string }> {
  const scores = []
  for (const file of files) {
    const { tokens, bytes, logProbability, perplexity, bitsPerByte } = await generator.score(
      readFileSync(file, 'utf8'),
    )
    scores.push({ file, tokens, bytes, logProbability, perplexity, bitsPerByte })
  }
  const lines = scores.map(
    ({ file, tokens, perplexity, bitsPerByte }) =>
      `${file}: perplexity ${perplexity.toFixed(3)} over ${tokens} tokens, ${bitsPerByte.toFixed(3)} bits a byte`,
  )
  return { scores: { task: 'generate', texts: scores }, text: lines.join('\n') }
}
