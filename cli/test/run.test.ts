import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { command, fixtures, history, json, s4, scratch, small, waves } from './helpers.js'
import { recipeSchema, settingsOf } from '../src/recipe.js'
import { EventFile, record, scalarEvent, versionEvent } from '../src/run/tensorboard.js'

const folder = scratch('runs')
const table = join(folder, 'waves.csv')
writeFileSync(table, waves(700))
const options = ['--targets', 'a,b', '--horizon', '4', '--epochs', '8', ...small]

/** Runs the command until it has printed what matches, and then presses Ctrl-C. */
async function interrupted(args: readonly string[], after: RegExp, run: string) {
  const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const watch = setInterval(() => {
    let told = ''
    try {
      told = readFileSync(join(run, 'history.jsonl'), 'utf8')
    } catch {
      // Not yet there.
    }
    if (!after.test(told)) return
    child.kill('SIGINT')
    clearInterval(watch)
  }, 5)
  const status = await new Promise<number | null>((resolve) => child.on('exit', resolve))
  clearInterval(watch)
  return { status, stderr }
}

test('Ctrl-C keeps the last epoch and says how to go on; the run that goes on is the undisturbed one', async () => {
  const [cut, whole] = [join(folder, 'cut'), join(folder, 'whole')]
  const args = ['train', 'forecast', table, ...options]
  const { status, stderr } = await interrupted([...args, '--out', cut], /"epoch":2,/, cut)
  assert.equal(status, 130, stderr)
  const told = /stopped; epoch (\d) is saved in .*cut; `s4 train --resume .*cut` goes on/.exec(stderr)
  assert.ok(Number(told?.[1]) >= 2 && Number(told?.[1]) < 8, stderr)
  assert.doesNotMatch(stderr, /\n\s+at /)
  assert.match(s4(['forecast', cut, table]).stderr, /is a run that has not ended: `s4 train --resume/)
  assert.match(s4([...args, '--out', cut]).stderr, /cut holds a run/)
  const resumed = s4(['train', '--resume', cut, '--json'])
  assert.equal(resumed.status, 0, resumed.stderr)
  const undisturbed = s4([...args, '--out', whole, '--json'])
  assert.equal(undisturbed.status, 0, undisturbed.stderr)
  const [a, b] = [resumed, undisturbed].map(({ stdout }) => JSON.parse(stdout) as { scores: unknown })
  assert.deepEqual(a!.scores, b!.scores)
  const losses = (run: string) =>
    history(run)
      .filter(({ type }) => type === 'epoch')
      .map(({ epoch, loss, mse }) => [epoch, loss, mse])
  assert.deepEqual(losses(cut), losses(whole))
  assert.match(s4(['train', '--resume', cut]).stderr, /has ended: `s4 eval/)
})

test('a run goes on with its own data alone', async () => {
  const [run, own] = [join(folder, 'other'), join(folder, 'own.csv')]
  writeFileSync(own, waves(700))
  const args = ['train', 'forecast', own, ...options, '--out', run]
  assert.equal((await interrupted(args, /"epoch":1,/, run)).status, 130)
  // As many rows of the same columns, with another value.
  writeFileSync(own, waves(700).replace(/\n([^,]+),[^,]+,/, '\n$1,9,'))
  const changed = s4(['train', '--resume', run])
  assert.equal(changed.status, 1)
  assert.match(changed.stderr, /the same data in 'folder'.*of other data/)
  writeFileSync(own, waves(800))
  const refused = s4(['train', '--resume', run])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /cannot be gone on with: its data had rows \[700\], now \[800\]/)
  for (const more of [['--out', run], ['--recipe', 'x.json'], [table]])
    assert.match(s4(['train', '--resume', run, ...more]).stderr, /leave out/)
  assert.match(s4(['train', '--resume', folder]).stderr, /is not the folder of a run/)
})

test('a run that was stopped before its first epoch is begun anew', async () => {
  const run = join(folder, 'early')
  const args = ['train', 'forecast', table, ...options, '--out', run]
  const { status, stderr } = await interrupted(args, /"type":"plan"/, run)
  assert.equal(status, 130, stderr)
  if (readdirSync(run).includes('last.safetensors')) return
  assert.match(stderr, /no epoch of this call was over/)
  const again = s4(args)
  assert.equal(again.status, 0, again.stderr)
  assert.equal(history(run).filter(({ type }) => type === 'plan').length, 1)
})

test('a folder with other files is left alone; a line of the history that was cut is left out', () => {
  const foreign = join(folder, 'foreign')
  mkdirSync(foreign)
  writeFileSync(join(foreign, 'data.json'), '{"mine": true}')
  const args = ['train', 'forecast', table, ...options, '--out', foreign]
  const refused = s4(args)
  assert.equal(refused.status, 2, refused.stderr)
  assert.match(refused.stderr, /is not empty and holds no run/)
  writeFileSync(join(foreign, 'config.json'), '{"name": "of another program"}')
  assert.equal(s4(args).status, 2)
  assert.deepEqual(readdirSync(foreign).toSorted(), ['config.json', 'data.json'])
  assert.equal(readFileSync(join(foreign, 'data.json'), 'utf8'), '{"mine": true}')
})

test('a recipe is the same run; config.json is one; other data may be named', () => {
  const [recipe, first, second] = ['recipe.json', 'first', 'second'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  const given = {
    task: 'forecast',
    title: 'two waves',
    data: ['waves.csv'],
    targets: ['a'],
    horizon: 3,
    epochs: 1,
    features: 8,
    layers: 1,
  }
  writeFileSync(recipe, JSON.stringify(given))
  const run = s4(['train', '--recipe', recipe, '--out', first, '--json'], '', folder)
  assert.equal(run.status, 0, run.stderr)
  const again = s4(['train', '--recipe', join(first, 'config.json'), '--out', second, '--json'])
  assert.equal(again.status, 0, again.stderr)
  const [a, b] = [run, again].map(({ stdout }) => JSON.parse(stdout) as { scores: unknown })
  assert.deepEqual(a!.scores, b!.scores)
  const config = json(join(second, 'config.json'))
  assert.deepEqual([config['data'], config['horizon']], [[table], 3])
  const named = s4(['train', '--recipe', recipe, table], '', folder)
  assert.equal(named.status, 0, named.stderr)
  assert.ok(readdirSync(join(folder, 'runs/waves')).includes('report.html'), 'the usual folder')
})

test('recipes: every mistake is told with the file and the option', () => {
  const recipe = join(folder, 'wrong.json')
  const one = (given: unknown, message: RegExp) => {
    writeFileSync(recipe, typeof given === 'string' ? given : JSON.stringify(given))
    const { status, stderr } = s4(['train', '--recipe', recipe])
    assert.equal(status, 2, stderr)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at /)
  }
  one('{', /wrong\.json is not JSON/)
  one([], /holds no object/)
  one({ task: 'fly' }, /'task' is one of forecast, classify, generate, not "fly"/)
  one({ model: {}, data: {} }, /run by its name: s4 train --recipe lra-text/)
  one({ task: 'forecast', data: 'x.csv' }, /'data' is a list of files/)
  one({ task: 'forecast', speed: 1 }, /'speed' is no option of the task forecast/)
  one({ task: 'forecast', horizon: '6' }, /'horizon' is a whole number from 1 to 65536, not "6"/)
  one({ task: 'forecast', targets: 'a' }, /'targets' is names/)
  one({ task: 'forecast', split: [1, 2] }, /'split' is 3 numbers/)
  one({ task: 'forecast', mode: 's5' }, /'mode' is one of s4, s4d/)
  one({ task: 'classify', vary: 1 }, /'vary' is true or false/)
  one({ task: 'classify', label: '(' }, /'label' is a regular expression/)
  one({ task: 'classify', time: '' }, /'time' is no option/)
  assert.match(s4(['train', '--recipe', join(folder, 'nowhere.json')]).stderr, /nowhere\.json/)
  assert.match(s4(['train', '--recipe', recipe, '--speed', '1']).stderr, /unknown option '--speed'/)
})

test('the recipes that come with the command are recipes', () => {
  const own = fileURLToPath(new URL('../../recipes/', import.meta.url))
  const read = readdirSync(own).map((name) => settingsOf(readFileSync(join(own, name), 'utf8'), name))
  assert.deepEqual(
    read.map(({ task, data }) => [task, data]),
    [
      ['forecast', ['ETTh1.csv']],
      ['classify', ['recordings']],
    ],
  )
})

test('the published schema is that of the options', () => {
  const published = json(fileURLToPath(new URL('../../recipe.schema.json', import.meta.url)))
  assert.deepEqual(JSON.parse(JSON.stringify(recipeSchema())), published, 'npm run schema -w cli')
})

test('event files are those that TensorBoard writes, byte for byte', () => {
  // The fixture was written by tensorboard 2.21's RecordWriter from tensorboard.compat.proto.event_pb2.Event.
  const events = [
    versionEvent(1700000000.25),
    scalarEvent(1700000001.5, 0, { 'loss/update': 0.125 }),
    scalarEvent(1700000002.75, 1, { 'loss/update': 3.1415927410125732, 'validation/mse': -1e-7 }),
    scalarEvent(1700000003, 300, { 'loss/epoch': 12345.678 }),
    scalarEvent(1700000004, 5_000_000_000, { 'Δ loss': 1 }),
  ]
  assert.ok(Buffer.concat(events.map(record)).equals(readFileSync(join(fixtures, 'tensorboard.tfevents'))))
  const file = new EventFile(folder, 1700000000250)
  assert.match(file.path, /events\.out\.tfevents\.1700000000\./)
  file.scalars(0, { 'loss/update': 0.125, lost: NaN }, 1700000001500)
  file.scalars(1, { lost: Infinity })
  assert.ok(
    readFileSync(file.path).equals(Buffer.concat(events.slice(0, 2).map(record))),
    'what is not finite is left out',
  )
})

test('a run writes its event file', () => {
  const run = join(folder, 'whole')
  const name = readdirSync(run).find((one) => one.startsWith('events.out.tfevents.'))
  const bytes = readFileSync(join(run, name as string))
  const tags: string[] = []
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at))
    const event = bytes.subarray(at + 12, at + 12 + length)
    assert.ok(record(event).equals(bytes.subarray(at, at + 16 + length)), 'its checksums')
    tags.push(...(event.toString('latin1').match(/(loss|validation)\/\w+/g) ?? []))
    at += 16 + length
  }
  const epochs = history(run).filter(({ type }) => type === 'epoch').length
  for (const tag of ['loss/epoch', 'validation/mse'])
    assert.equal(tags.filter((t) => t === tag).length, epochs, tag)
  assert.ok(tags.filter((t) => t === 'loss/update').length >= epochs)
})
