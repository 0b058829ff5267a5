/** The experiments of the paper (`recipes/` and `scripts/recipe.mjs` of the repository), which a build copies beside this program. */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { experimentPage, shown, type Entry, type Experiment } from './report/experiment.js'
import { UsageError } from './usage.js'

const FOLDER = new URL('../experiments/', import.meta.url)

interface Script {
  runByWords(
    words: readonly string[],
    how: { log: (entry: Entry) => void; done: (made: Experiment & { out: string }) => void },
  ): Promise<number>
}

/** The names of the experiments. */
export const experimentNames = (): string[] =>
  readdirSync(new URL('recipes/', FOLDER))
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -5))

/** Whether a recipe is meant by its name, and is no file. */
export const isExperiment = (recipe: string): boolean =>
  !existsSync(recipe) && experimentNames().includes(recipe)

/** A line of the history as a person reads it. */
function line(entry: Entry): string {
  const judged = entry.validation ?? entry.test
  const on = entry.validation === undefined ? 'test' : 'validation'
  switch (entry.event) {
    case 'epoch':
      return `epoch ${entry.epoch} of ${entry.of}: training ${shown(entry)}${judged === undefined ? '' : `, ${on} ${shown(judged)}`}, ${entry.seconds} s`
    case 'end':
      return `test: ${shown(entry)}${entry.correct === undefined ? '' : ` (${entry.correct} of ${entry.of})`}`
    case 'paused':
      return `paused in epoch ${entry.epoch}; --resume FOLDER goes on`
    default:
      return `${entry.event}`
  }
}

/**
 * Runs an experiment by its name. `words`: the options of `scripts/recipe.mjs`. In a run's folder there are then history.jsonl, result.json, the
 * checkpoints and report.html.
 */
export async function runExperiment(
  name: string,
  words: readonly string[],
  { json, live, out, resume }: { json: boolean; live: boolean; out?: string; resume?: string },
): Promise<number> {
  if (live) throw new UsageError(`--live shows no experiment of the paper; leave it out beside ${name}`)
  if (out !== undefined && resume !== undefined)
    throw new UsageError('--resume FOLDER names the folder of the run; leave out --out')
  const isSmoke = words.includes('--smoke')
  if (!isSmoke && !words.some((word) => word === '--data' || word.startsWith('--data=')))
    throw new UsageError(`the experiment ${name} needs --data FOLDER, or --smoke for a miniature of it`)
  const folder = resume ?? out ?? (isSmoke ? undefined : join('runs', name))
  const { runByWords } = (await import(new URL('scripts/recipe.mjs', FOLDER).href)) as Script
  const given = [
    ...(folder === undefined ? [] : ['--out', folder]),
    ...(resume === undefined ? [] : ['--resume']),
  ]
  try {
    return await runByWords([name, ...words, ...given], {
      log: (entry) => console.log(json ? JSON.stringify(entry) : line(entry)),
      done: (made) => {
        const history = readFileSync(join(made.out, 'history.jsonl'), 'utf8')
        const entries = history
          .split('\n')
          .filter(Boolean)
          .map((text) => JSON.parse(text) as Entry)
        writeFileSync(join(made.out, 'report.html'), experimentPage(made, entries))
      },
    })
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code?.startsWith('ERR_PARSE_ARGS')) throw new UsageError(message)
    throw error
  }
}
