import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { history, json, recordings, rows, s4, scratch, small, tone, wav } from './helpers.js'

const folder = scratch('classify')
const named = recordings(join(folder, 'named'), 16, 8000)
const run = join(folder, 'run')

interface Scores {
  examples: number
  accuracy: number
  confusion: number[][]
}

test('train classify: classes by a pattern, a test part by another', () => {
  const trained = s4([
    'train',
    'classify',
    named,
    '--label',
    '^([a-z]+)_',
    '--test',
    '_[0-3]\\.wav$',
    '--out',
    run,
    '--validation',
    '0.25',
    '--epochs',
    '12',
    ...small,
  ])
  assert.equal(trained.status, 0, trained.stderr)
  assert.match(trained.stderr, /36 examples|27 examples/)
  const { scores, classes, sampleRate } = json(join(run, 'result.json')) as { scores: Scores } & Record<
    string,
    unknown
  >
  assert.deepEqual(classes, ['high', 'low', 'middle'])
  assert.equal(sampleRate, 8000)
  assert.equal(scores.examples, 12)
  assert.ok(scores.accuracy >= 0.9, trained.stdout)
  assert.match(trained.stdout, /^right: (\d|\.)+ % \(\d+ of 12\)/)
  const html = readFileSync(join(run, 'report.html'), 'utf8')
  for (const label of ['loss', 'validation accuracy', 'Confusion'])
    assert.ok(html.includes(`aria-label="${label}"`), label)
  assert.equal(/NaN|undefined|Infinity/.exec(html)?.[0], undefined)
})

test('predict and eval: other recordings, at half the rate too', () => {
  const half = recordings(join(folder, 'half'), 4, 4000)
  const said = s4(['predict', run, half, '--device', 'cpu'])
  assert.equal(said.status, 0, said.stderr)
  const lines = rows(said.stdout)
  assert.equal(lines.length, 12)
  const right = lines.filter(([file, label]) => file!.includes(`/${label}_`))
  assert.ok(right.length >= 11, said.stdout)
  const figures = s4(['eval', run, half, '--label', '^([a-z]+)_', '--json'])
  const { examples, accuracy } = JSON.parse(figures.stdout) as Scores
  assert.equal(examples, 12)
  assert.equal(Math.round(accuracy * 12), right.length, 'the files say that they have half the rate')
  // A spectrum covers the same time at either rate: a quarter of a second has as many, and the report looked at such ones.
  const steps = (data: string, ...more: string[]) => {
    const told = s4(['inspect', run, '--data', data, '--json', '--device', 'cpu', ...more])
    assert.equal(told.status, 0, told.stderr)
    return (JSON.parse(told.stdout) as { length: number }).length
  }
  const own = steps(join(named, 'low_0.wav'))
  assert.ok(Math.abs(steps(join(half, 'low_0.wav')) - own) <= 1, 'the file says its rate')
  assert.ok(steps(join(half, 'low_0.wav'), '--rate', '1') < 0.7 * own)
  assert.ok(readFileSync(join(run, 'report.html'), 'utf8').includes('aria-label="input gradients"'))
  const some = s4([
    'eval',
    run,
    named,
    '--label',
    '^([a-z]+)_',
    '--only',
    '_[0-3]\\.wav$',
    '--sample-rate',
    '4000',
    '--json',
  ])
  assert.equal(some.status, 0, some.stderr)
  assert.ok((JSON.parse(some.stdout) as Scores).accuracy >= 0.9, 'resampled first')
  const one = s4(['predict', run, join(half, 'low_0.wav'), '--json', '--rate', '2'])
  const { label, probabilities } = JSON.parse(one.stdout) as {
    label: string
    probabilities: Record<string, number>
  }
  assert.equal(label, 'low')
  assert.deepEqual(Object.keys(probabilities).toSorted(), ['high', 'low', 'middle'])
  const fast = join(folder, 'fast.wav')
  writeFileSync(fast, wav(tone(0, 0, 16_000), 16_000))
  assert.match(s4(['predict', run, fast]).stderr, /recordings of 16000 samples a second.*--sample-rate 8000/)
  assert.match(
    s4(['eval', run, half, '--label', '^([a-z]+)_', '--stride', '2']).stderr,
    /--stride is no option of the task/,
  )
  assert.match(s4(['forecast', run, half]).stderr, /is a classifier: `s4 predict`/)
})

test('stream: a recording, and raw samples on standard input', () => {
  const heard = join(folder, 'heard.wav')
  const samples = Float32Array.from([...tone(0, 1, 8000, 1), ...tone(2, 2, 8000, 1)])
  writeFileSync(heard, wav(samples, 8000))
  const args = [
    'stream',
    run,
    heard,
    '--debounce',
    '2',
    '--threshold',
    '0.4',
    '--window',
    '2000',
    '--hop',
    '500',
  ]
  const printed = rows(s4(args).stdout)
  assert.equal(printed.length, (16_000 - 2000) / 500 + 1)
  assert.ok(printed.every(([position]) => Number(position) % 500 === 0))
  const reports = s4([...args, '--reports', '--json'])
    .stdout.trim()
    .split('\n')
  const labels = reports.map((line) => (JSON.parse(line) as { label: string }).label)
  assert.deepEqual([labels[0], labels.at(-1)], ['low', 'high'])
  const raw = Buffer.alloc(2 * samples.length)
  samples.forEach((x, t) => raw.writeInt16LE(Math.round(32_000 * x), 2 * t))
  const piped = s4(['stream', run, ...args.slice(3)], raw)
  assert.deepEqual(rows(piped.stdout), printed, 'the same samples')
  const floats = Buffer.from(Float32Array.from(samples, (x) => Math.round(32_000 * x) / 32_768).buffer)
  assert.deepEqual(
    rows(s4(['stream', run, '-', ...args.slice(3), '--format', 'f32'], floats).stdout),
    printed,
  )
  assert.match(s4(['stream', run, heard, '--rate', '2']).stdout, /^position/)
  assert.match(s4(['stream', run, '--marks'], '').stderr, /--marks is no option of the task classify/)
})

test('folders of classes, rows of tables, and the options of a classifier', () => {
  const foldered = recordings(join(folder, 'foldered'), 8, 8000, true)
  const out = join(folder, 'folders')
  const trained = s4([
    'train',
    'classify',
    foldered,
    '--out',
    out,
    '--test-share',
    '0.25',
    '--sample-rate',
    '4000',
    '--rates',
    '1,1.5',
    '--vary',
    '--no-bidirectional',
    '--epochs',
    '2',
    '--json',
    ...small,
  ])
  assert.equal(trained.status, 0, trained.stderr)
  const { scores, sampleRate, classes } = JSON.parse(trained.stdout) as { scores: Scores } & Record<
    string,
    unknown
  >
  assert.deepEqual([scores.examples, sampleRate, classes], [6, 4000, ['high', 'low', 'middle']])
  const [plan] = history(out) as [{ options: Record<string, unknown> }]
  assert.deepEqual([plan.options['rates'], plan.options['vary']], ['1 1.5', true])
  assert.equal(json(join(out, 'config.json'))['bidirectional'], false)
  const table = join(folder, 'rows.csv')
  const lines = Array.from({ length: 60 }, (_, i) => {
    const values = Array.from({ length: 24 }, (__, t) => Math.sin((t * (1 + (i % 2))) / 2 + i).toFixed(4))
    return [i % 2 === 0 ? 'slow' : 'fast', ...values].join(',')
  })
  writeFileSync(
    table,
    `kind,${Array.from({ length: 24 }, (_, t) => `t${t}`).join(',')}\n${lines.join('\n')}\n`,
  )
  const rowsOut = join(folder, 'rows')
  const learned = s4([
    'train',
    'classify',
    table,
    '--label-column',
    'kind',
    '--out',
    rowsOut,
    '--epochs',
    '10',
    '--label-smoothing',
    '0.1',
    '--class-weights',
    'slow=1, fast=2.5',
    ...small,
  ])
  assert.equal(learned.status, 0, learned.stderr)
  const result = json(join(rowsOut, 'result.json')) as { scores: Scores } & Record<string, unknown>
  assert.deepEqual([result.scores.examples, result['classes']], [6, ['fast', 'slow']])
  const config = json(join(rowsOut, 'config.json'))
  assert.deepEqual([config['labelSmoothing'], config['classWeights']], [0.1, { slow: 1, fast: 2.5 }])
  const [weighted] = history(rowsOut) as [{ options: Record<string, unknown> }]
  assert.deepEqual(
    [weighted.options['labelSmoothing'], weighted.options['classWeights']],
    [0.1, '2.5 1'],
    'in the order of the classes',
  )
  const said = rows(s4(['predict', rowsOut, table, '--label-column', 'kind']).stdout)
  assert.deepEqual([said.length, said[3]![0]], [60, `${table}:4`])
})

test('weights of classes are a word or numbers by name, on the command line and in recipes', () => {
  const usage = /'balanced' or numbers of 0 or more by name, such as a=1,b=2.5/
  for (const text of ['slow', 'slow=', 'slow=x', 'slow=-1', '=1', 'slow=1,fast']) {
    const { status, stderr } = s4([
      'train',
      'classify',
      named,
      '--class-weights',
      text,
      '--out',
      join(folder, 'w'),
    ])
    assert.equal(status, 2, stderr)
    assert.match(stderr, usage)
  }
  const recipe = join(folder, 'weights.json')
  for (const classWeights of ['even', [1, 2], {}, { a: -1 }, { a: '1' }, null]) {
    writeFileSync(recipe, JSON.stringify({ task: 'classify', classWeights }))
    const { status, stderr } = s4(['train', '--recipe', recipe, named, '--out', join(folder, 'w')])
    assert.equal(status, 2, stderr)
    assert.match(stderr, usage)
  }
  const trained = (classWeights: unknown, out: string) => {
    const size = { features: 8, layers: 1, state: 8, epochs: 1, device: 'cpu' }
    writeFileSync(recipe, JSON.stringify({ task: 'classify', label: '^([a-z]+)_', ...size, classWeights }))
    return s4(['train', '--recipe', recipe, named, '--out', out])
  }
  const partly = trained({ low: 1 }, join(folder, 'w'))
  assert.equal(partly.status, 1, partly.stderr)
  assert.match(partly.stderr, /classWeights of each of the classes high, low, middle/)
  const out = join(folder, 'balanced')
  const balanced = trained('balanced', out)
  assert.equal(balanced.status, 0, balanced.stderr)
  assert.equal(json(join(out, 'config.json'))['classWeights'], 'balanced')
})

test('mistakes in examples are told with the file', () => {
  const one = (args: string[], message: RegExp, status = 1) => {
    const { status: code, stderr } = s4([
      'train',
      'classify',
      ...args,
      '--out',
      join(folder, 'none'),
      ...small,
    ])
    assert.equal(code, status, stderr)
    assert.match(stderr, message)
  }
  one([named, '--label', '^x'], /high_0\.wav: its name does not match --label/)
  one([named], /high_0\.wav is in no folder of a class: --label PATTERN/, 2)
  one([join(folder, 'nowhere')], /nowhere does not exist/)
  one([named, '--label', '('], /--label is a regular expression, not '\('/, 2)
  one([named, '--label', '^([a-z]+)_', '--test', 'xyz'], /--test xyz matches none of 48 examples/, 2)
})
