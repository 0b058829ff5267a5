import { readFileSync } from 'node:fs'
import { basename, extname, join } from 'node:path'
import { jsonSpec } from '../options/common.js'
import { experimentNames, isExperiment, runExperiment } from '../experiment.js'
import type { OptionSpec, Values } from '../options/spec.js'
import { settingsOf } from '../recipe.js'
import { RunFolder } from '../run/folder.js'
import { runInFolder } from '../run/training.js'
import type { Settings, TaskName } from '../task/settings.js'
import { taskOf } from '../task/tasks.js'
import { UsageError } from '../usage.js'
import type { Command } from './command.js'

const outSpec: OptionSpec = {
  name: 'out',
  kind: 'text',
  word: 'folder',
  help: 'folder of the run',
  otherwise: 'runs/ and the name of the data',
}

const liveSpec: OptionSpec = {
  name: 'live',
  kind: 'flag',
  help: 'a page on this machine that shows the training while it runs, and can stop it; its address is printed',
  otherwise: 'off',
}

/** What the command itself is told, beside the options of a training. */
const shown = (values: Values) => ({ json: values['json'] === true, live: values['live'] === true })

/** The folder of a run that names none. */
const usualFolder = ([first = 'run']: readonly string[]): string =>
  join('runs', basename(first, extname(first)) || 'run')

/** Begins a run and runs it. */
function begin(settings: Settings, values: Values): Promise<number> {
  const out = (values['out'] as string | undefined) ?? usualFolder(settings.data)
  return runInFolder(() => RunFolder.create(out, settings), settings, shown(values))
}

const notes = `The run's folder gets config.json (a recipe that makes the same run again), history.jsonl and an event file for TensorBoard (every
epoch), last.safetensors and best.safetensors (checkpoints, the latter at the end the trained task), result.json, report.html. Ctrl-C
ends training and keeps the last whole epoch; \`s4 train --resume FOLDER\` goes on. The button of --live ends it as if it had come to its end: the best
epoch so far is kept and judged.`

/** What stands in a recipe's file. */
function textOf(recipe: string): string {
  try {
    return readFileSync(recipe, 'utf8')
  } catch (error) {
    throw new Error(
      `${recipe}: ${(error as Error).message}; the experiments of the paper are ${experimentNames().join(', ')}`,
      { cause: error },
    )
  }
}

function trainTask(task: TaskName, summary: string, operand: string, more: string): Command {
  return {
    name: task,
    summary,
    operands: [{ name: 'DATA...', help: operand }],
    options: [...taskOf(task).specs, outSpec, liveSpec, jsonSpec],
    notes: `${more}\n${notes}`,
    run({ operands, values }) {
      const { out: _out, json: _json, live: _live, ...options } = values
      return begin({ task, data: operands, options }, values)
    },
  }
}

export const train: Command = {
  name: 'train',
  summary: 'train a forecaster, a classifier or a generator on files',
  operands: [{ name: '[DATA...]', help: 'with --recipe: data in the place of those that it names' }],
  options: [
    {
      name: 'recipe',
      kind: 'text',
      word: 'file',
      help: 'a training as JSON (recipe.schema.json), or the name of an experiment of the paper',
      otherwise: 'none',
    },
    {
      name: 'resume',
      kind: 'text',
      word: 'folder',
      help: 'go on with the run in this folder',
      otherwise: 'none',
    },
    outSpec,
    liveSpec,
    jsonSpec,
  ],
  notes: `An experiment of the paper (s4 train --recipe lra-text --data FOLDER) takes further options: --smoke (a miniature of it on made data, without
--data), --set PLACE=VALUE (train.epochs=20, model.dropout=0.2), --minutes M (the time decides how many epochs it has), --seed N, --device cpu|cuda,
--evaluate-every EPOCHS, --checkpoint-every SECONDS, --pause-after EPOCHS. With --resume RUN instead of --out the same call goes on with a run. A name that is
none lists them all.`,
  takesUnknown: true,
  children: [
    trainTask(
      'forecast',
      'train a forecaster on tables (CSV, TSV, JSONL, Parquet)',
      'tables with the same columns, each one series',
      'The first rows of each table are learned from, those after them choose the best epoch, the last are for the scores, beside those\nof a linear forecast, of the value a season before, and of persistence.',
    ),
    trainTask(
      'classify',
      'train a classifier on recordings or on rows of tables',
      'folders of recordings (WAV, FLAC, MP3, Ogg Vorbis), a folder a class or with --label; or tables with --label-column',
      'A part of each class is held out for the scores.',
    ),
    trainTask(
      'generate',
      'train a generator on texts',
      'files with text, each on its own: its beginning and end are learned too where there are several',
      'The end of the text is not learned from: it chooses the best epoch, and is what the scores are over.',
    ),
  ],
  async run({ operands, values }) {
    const { recipe, resume } = values as { recipe?: string; resume?: string }
    if (recipe !== undefined && isExperiment(recipe))
      return runExperiment(recipe, operands, {
        ...shown(values),
        out: values['out'] as string | undefined,
        resume,
      })
    // A name that is none is said before what is wrong beside it.
    const text = recipe === undefined || resume !== undefined ? undefined : textOf(recipe)
    const unknown = operands.find((word) => word.startsWith('-'))
    if (recipe === undefined && resume === undefined) {
      const data = operands.find((word) => word !== unknown)
      throw new UsageError(
        `say what is to be trained: s4 train forecast ${data ?? 'DATA'}${unknown === '--column' ? ' --targets COLUMN' : ''}, s4 train classify ${data ?? 'DATA'}, or s4 train generate ${data ?? 'DATA'}`,
      )
    }
    if (unknown !== undefined)
      throw new UsageError(
        `unknown option '${unknown}' beside --${recipe === undefined ? 'resume' : 'recipe'}`,
      )
    if (resume !== undefined) {
      const beside = recipe !== undefined ? '--recipe' : values['out'] !== undefined ? '--out' : operands[0]
      if (beside !== undefined)
        throw new UsageError(`--resume goes on with the run's own data and options; leave out ${beside}`)
      const { folder, settings } = RunFolder.open(resume)
      return runInFolder(() => folder, settings, shown(values))
    }
    const settings = settingsOf(text as string, recipe as string)
    return begin(operands.length === 0 ? settings : { ...settings, data: operands }, values)
  },
}
