// Runs a recipe, an experiment of the paper as a JSON file in recipes/; `s4 train --recipe NAME` is the same with a report:
//   node scripts/recipe.mjs NAME --data DIR --out DIR [--minutes M [--ahead M]] [--resume] [--device cuda] [--seed N] [--set data.horizon=48] …
//   node scripts/recipe.mjs NAME --smoke [--out DIR]: a miniature of it on made data, in seconds
//   torchrun --no-python --nproc-per-node=2 node scripts/recipe.mjs NAME … [--pause-after EPOCHS]: each batch is divided among the ranks
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { joinGroup } from 's4-node'
import { spokenDigits } from './recipe-audio.mjs'
import { cifar10 } from './recipe-cifar.mjs'
import { mnistDensity } from './recipe-density.mjs'
import { ett } from './recipe-ett.mjs'
import { mnist } from './recipe-images.mjs'
import { listops } from './recipe-listops.mjs'
import { makeMiniature, shrunk } from './recipe-miniature.mjs'
import { pathfinder } from './recipe-pathfinder.mjs'
import { runRecipe } from './recipe-run.mjs'
import { aclImdb } from './recipe-text.mjs'
import { words } from './recipe-words.mjs'

const READERS = {
  'acl-imdb': aclImdb,
  cifar10,
  digits: spokenDigits,
  ett,
  listops,
  mnist,
  'mnist-density': mnistDensity,
  pathfinder,
  words,
}

const OPTIONS = {
  data: { type: 'string' },
  out: { type: 'string' },
  minutes: { type: 'string' },
  ahead: { type: 'string' },
  resume: { type: 'boolean' },
  device: { type: 'string' },
  seed: { type: 'string' },
  set: { type: 'string', multiple: true, default: [] },
  'checkpoint-every': { type: 'string', default: '60' },
  'evaluate-every': { type: 'string', default: '1' },
  plan: { type: 'string' },
  updates: { type: 'string' },
  'pause-after': { type: 'string' },
  limit: { type: 'string' },
  smoke: { type: 'boolean' },
}

/** What a recipe's `train` may say. The model says itself what it does not know. */
export const TRAIN = new Set(
  `batchSize batchesPerEpoch beta2 bucket clip ema epochs evaluateLast lr pad patience spareNormsAndBiases ssmLr testBatchSize
  warmupEpochs weightDecay`.split(/\s+/),
)

/** A mistake in the words of the command line, as `parseArgs` has it. */
const wrong = (message) =>
  Object.assign(new TypeError(message), { code: 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE' })

/**
 * Runs a recipe by the words of a command line, and gives the exit code: 130 or 143 where a signal has paused it. `log` gets what history.jsonl gets; `done`, where the run came to its
 * end, the recipe, its results and its folder.
 */
export async function runByWords(args, { log, done }) {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: OPTIONS })
  const [name, ...more] = positionals
  if (more.length > 0) throw wrong(`${more.join(' ')}: what is that? One recipe is run at a time`)
  for (const option of [
    'minutes',
    'ahead',
    'seed',
    'checkpoint-every',
    'evaluate-every',
    'updates',
    'pause-after',
    'limit',
  ])
    if (values[option] !== undefined && !(Number(values[option]) >= 0))
      throw wrong(`--${option} takes a number, not ${values[option]}`)
  const missing = !values.smoke && (values.data === undefined || values.out === undefined)
  if (name === undefined || missing) {
    console.error(
      'node scripts/recipe.mjs NAME --data DIR --out DIR [--minutes M] [--resume] [--device cuda], or NAME --smoke',
    )
    return 2
  }

  let recipe = JSON.parse(
    readFileSync(fileURLToPath(new URL(`../recipes/${name}.json`, import.meta.url)), 'utf8'),
  )
  recipe.name = name
  if (values.smoke) recipe = shrunk(recipe)
  for (const pair of values.set) {
    if (!/^[\w.]+=./.test(pair))
      throw wrong(`--set takes a place and a value, as train.epochs=20, not ${pair}`)
    const [path, text] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]
    const keys = path.split('.')
    const [part, place] = keys
    const isPlace = ['data', 'model', 'train'].includes(part) && place !== undefined
    if (!isPlace || (part === 'train' && !TRAIN.has(place)))
      throw wrong(`--set ${pair}: a recipe has no such place`)
    let inner = recipe
    for (const key of keys.slice(0, -1)) inner = inner[key] ??= {}
    // A number may begin with its point. What begins like a value and is none is refused.
    const isValue = /^([[{"\d-]|\.\d)|^(true|false|null)$/.test(text)
    inner[keys.at(-1)] = isValue ? JSON.parse(text.replace(/^-?(?=\.)/, '$&0')) : text
  }

  const scratch = values.smoke ? mkdtempSync(join(tmpdir(), 's4-recipe-')) : undefined
  if (scratch !== undefined) process.once('exit', () => rmSync(scratch, { recursive: true }))
  if (values.smoke) await makeMiniature(recipe, join(scratch, 'data'))
  const { reader, ...data } = recipe.data
  const dataset = await READERS[reader](values.smoke ? join(scratch, 'data') : values.data, data)
  // For a trial: so many examples of each part.
  const limit = values.limit ?? (values.smoke ? '24' : undefined)
  if (limit !== undefined)
    for (const set of [dataset, ...dataset.tests, ...(dataset.validation ? [dataset.validation] : [])]) {
      const key = set === dataset ? 'train' : 'examples'
      const stride = Math.max(1, Math.floor(set[key].length / Number(limit)))
      set[key] = set[key].filter((_, i) => i % stride === 0).slice(0, Number(limit))
    }

  // A run that is told to end saves itself first; a second signal ends it at once.
  const stop = new AbortController()
  let signal
  for (const event of ['SIGINT', 'SIGTERM'])
    process.once(event, () => {
      signal = event
      stop.abort()
    })

  const group = await joinGroup()
  const number = (text) => (text === undefined ? undefined : Number(text))
  const out = values.out ?? join(scratch, 'out')
  const result = await runRecipe(recipe, dataset, {
    out,
    minutes: number(values.minutes),
    ahead: number(values.ahead),
    begun: 0,
    signal: stop.signal,
    // 24,11x3 is 24,11,11,11.
    plan: values.plan?.split(',').flatMap((part) => {
      const [epochs, times = 1] = part.split('x').map(Number)
      return Array.from({ length: times }, () => epochs)
    }),
    resume: values.resume,
    device: values.device ?? (group.worldSize > 1 ? group.device : values.smoke ? 'cpu' : 'auto'),
    seed: number(values.seed) ?? recipe.seed,
    every: number(values['checkpoint-every']),
    evaluateEvery: number(values['evaluate-every']),
    updates: number(values.updates),
    pauseAfter: number(values['pause-after']),
    group,
    settings: values.set,
    log,
  })
  await group.close()
  if (result !== undefined) await done?.({ recipe, result, out, isSmoke: values.smoke === true })
  // As a shell has it: 128 and the signal's number.
  else if (signal !== undefined) return signal === 'SIGINT' ? 130 : 143
  return 0
}

const [, called] = process.argv
if (called !== undefined && pathToFileURL(realpathSync(called)).href === import.meta.url)
  process.exitCode = await runByWords(process.argv.slice(2), {
    log: (entry) => console.log(JSON.stringify(entry)),
  })
