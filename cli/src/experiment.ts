/** The experiments of the paper (`recipes/` and `scripts/recipe.mjs` of the repository), which a build copies beside this program. */
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { experimentPage, shown, type Entry, type Experiment } from './report/experiment.js'
import { holdsRun, linesOf } from './run/folder.js'
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
  statSync(recipe, { throwIfNoEntry: false })?.isFile() !== true && experimentNames().includes(recipe)

const historyOf = (folder: string) => linesOf<Entry>(join(folder, 'history.jsonl'))

/** Refuses to go on in a folder with what is no run of this experiment, or was begun with other settings. */
function checkResumed(folder: string, name: string, settings: readonly string[]): void {
  if (!existsSync(join(folder, 'last.safetensors')) || !existsSync(join(folder, 'history.jsonl')))
    throw new UsageError(`${folder} holds no run that could be gone on with`)
  const begun = historyOf(folder).findLast((entry) => entry.event === 'start')
  if (begun?.recipe !== name)
    throw new UsageError(`${folder} holds a run of ${begun?.recipe ?? 'another experiment'}, not of ${name}`)
  const before = begun.settings ?? settings
  if (before.toSorted().join() !== settings.toSorted().join())
    throw new UsageError(
      `the run in ${folder} was begun with ${before.map((one) => `--set ${one}`).join(' ') || 'no --set'}: go on with the same`,
    )
}

/** The values of --set among the words. */
const settingsOf = (words: readonly string[]): string[] =>
  words.flatMap((word, i) =>
    word === '--set' ? words.slice(i + 1, i + 2) : word.startsWith('--set=') ? [word.slice(6)] : [],
  )

/** A line of the history as a person reads it. */
function line(entry: Entry): string {
  const { epoch, batch, validation, test } = entry
  switch (entry.event) {
    case 'start':
      return `${entry.recipe} ${(entry.settings ?? []).join(' ')}`.trimEnd()
    case 'epoch': {
      const judged =
        validation === undefined ? test && `; test: ${shown(test)}` : `; validation: ${shown(validation)}`
      const where =
        batch === undefined ? `epoch ${epoch} of ${entry.of}` : `${batch} batches after epoch ${epoch}`
      return `${where}: ${shown(entry)}${judged ?? ''}; ${entry.epochSeconds} s`
    }
    case 'end':
      return `test: ${shown(entry)}${entry.correct === undefined ? '' : ` (${entry.correct} of ${entry.of})`}`
    case 'paused':
      return `paused ${batch ? `${batch} batches ` : ''}after epoch ${epoch}; the same call with --resume and the run's folder, without --out, goes on`
    default:
      return entry.event
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
  if (resume !== undefined) checkResumed(resume, name, settingsOf(words))
  else if (folder !== undefined && holdsRun(folder))
    throw new UsageError(
      `${folder} holds a run: --resume ${folder} goes on with it, --out names another folder`,
    )
  const { runByWords } = (await import(new URL('scripts/recipe.mjs', FOLDER).href)) as Script
  const given = [
    ...(folder === undefined ? [] : ['--out', folder]),
    ...(resume === undefined ? [] : ['--resume']),
  ]
  try {
    return await runByWords([name, ...words, ...given], {
      // Results to the standard output, progress beside it.
      log: (entry) => {
        if (json) console.log(JSON.stringify(entry))
        else (entry.event === 'end' ? console.log : console.error)(line(entry))
      },
      done: (made) => {
        const page = join(made.out, 'report.html')
        writeFileSync(page, experimentPage(made, historyOf(made.out)))
        if (!json && folder !== undefined) console.log(`report: ${page}`)
      },
    })
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code?.startsWith('ERR_PARSE_ARGS')) throw new UsageError(message)
    throw error
  }
}
