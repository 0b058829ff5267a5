import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { history, json, rows, s4, scratch, small, waves } from './helpers.js'

const folder = scratch('forecast')
const table = join(folder, 'waves.csv')
writeFileSync(table, waves(900))
const run = join(folder, 'run')

interface Figures {
  mse: number
  byStep: number[]
}
type Scores = Record<'model' | 'linear' | 'persistence' | 'seasonalNaive', Figures> & { windows: number }

test('train forecast: a run folder with all its files, better than persistence', () => {
  const trained = s4([
    'train',
    'forecast',
    table,
    '--targets',
    'a,b',
    '--known',
    'calendar',
    '--time',
    'when',
    '--out',
    run,
    '--horizon',
    '6',
    '--look-back',
    '32',
    '--epochs',
    '3',
    '--season',
    '24',
    '--split',
    '0.6,0.2,0.2',
    ...small,
  ])
  assert.equal(trained.status, 0, trained.stderr)
  assert.match(trained.stdout, /MSE +MAE +MASE +sMAPE\nS4 .*\nlinear .*\n24 rows before .*\npersistence /)
  assert.match(trained.stderr, /2 targets, 540 training rows, horizon 6: look-back 32/)
  const files = readdirSync(run)
  for (const name of [
    'config.json',
    'data.json',
    'history.jsonl',
    'last.safetensors',
    'best.safetensors',
    'result.json',
    'report.html',
  ])
    assert.ok(files.includes(name), name)
  const { scores, horizon, lookBack, season, known } = json(join(run, 'result.json')) as {
    scores: Scores
  } & Record<string, unknown>
  assert.deepEqual([horizon, lookBack, season, known], [6, 32, 24, ['calendar']])
  assert.equal(scores.model.byStep.length, 6)
  assert.ok(scores.model.mse < scores.persistence.mse / 2, JSON.stringify(scores))
  const events = history(run)
  assert.deepEqual(
    events.map(({ type }) => type),
    ['plan', 'epoch', 'epoch', 'epoch', 'end'],
  )
  assert.ok(events.every(({ time }) => !Number.isNaN(Date.parse(time as string))))
})

test('the report has curves, errors and examples, and loads nothing', () => {
  const html = readFileSync(join(run, 'report.html'), 'utf8')
  assert.equal(
    /<(script|link|img|iframe)\b|@import|url\((?!#)|\bsrc=|\bhref="(?!#)/i.exec(html)?.[0],
    undefined,
  )
  assert.equal(/NaN|undefined|Infinity/.exec(html)?.[0], undefined)
  for (const label of ['loss', 'validation MSE', 'Error by step ahead', 'Forecast of a from row 894'])
    assert.ok(html.includes(`aria-label="${label}"`), label)
  assert.ok(html.includes('&quot;task&quot;: &quot;forecast&quot;'), 'its recipe')
})

test('forecast: lines for each step and column with times, bands, JSON, a file', () => {
  const ahead = join(folder, 'ahead.csv')
  writeFileSync(
    ahead,
    `calendar\n${Array.from({ length: 6 }, (_, k) => Math.sin((2 * Math.PI * (900 + k)) / 24)).join('\n')}\n`,
  )
  const args = ['forecast', run, table, '--time', 'when', '--known-ahead', ahead, '--device', 'cpu']
  const printed = s4(args)
  assert.equal(printed.status, 0, printed.stderr)
  const steps = rows(printed.stdout)
  assert.equal(steps.length, 12)
  for (const [i, [step, time, column, mean, low, high]] of steps.entries()) {
    assert.deepEqual([step, column], [String(1 + (i >> 1)), 'ab'[i % 2]])
    assert.equal(time, new Date(Date.UTC(2024, 0, 1) + (900 + (i >> 1)) * 3_600_000).toISOString())
    assert.ok(Number(low) < Number(mean) && Number(mean) < Number(high))
    // The laws of the table, of which the noise and what was not learned are left.
    const t = 900 + (i >> 1)
    const right =
      i % 2 === 0 ? 3 * Math.sin(t / 5) : 10 + Math.sin((2 * Math.PI * t) / 24) + 0.5 * Math.sin(t / 2.3)
    assert.ok(Math.abs(Number(mean) - right) < 0.6, `${column} ${step}: ${mean}, ${right}`)
  }
  const out = join(folder, 'next.json')
  assert.equal(s4([...args, '--json', '--out', out]).stdout, '')
  const { times, columns } = json(out) as {
    times: string[]
    columns: Record<string, { mean: number[]; sigma: number[] }>
  }
  assert.equal(times.length, 6)
  assert.equal(Number(columns['b']!.mean[5]!.toPrecision(6)), Number(steps[11]![3]))
  const missing = s4(['forecast', run, table, '--device', 'cpu'])
  assert.equal(missing.status, 1)
  assert.match(missing.stderr, /known with 6 values of 'calendar'/)
})

test('eval: the figures of a range of rows are those of the training for the test part', () => {
  const { scores } = json(join(run, 'result.json')) as unknown as { scores: Scores }
  const whole = s4(['eval', run, table, '--from', '720', '--json', '--time', 'when'])
  assert.equal(whole.status, 0, whole.stderr)
  const found = JSON.parse(whole.stdout) as Scores
  assert.equal(found.windows, scores.windows)
  assert.ok(Math.abs(found.model.mse - scores.model.mse) < 1e-5 * scores.model.mse)
  const part = s4(['eval', run, table, '--from', '720', '--to', '760', '--stride', '5', '--json'])
  assert.equal((JSON.parse(part.stdout) as Scores).windows, 7)
  assert.match(s4(['eval', run, table]).stdout, /S4 +\d/)
  assert.match(s4(['eval', run, table, '--rate', '2']).stderr, /--rate is no option of the task forecast/)
})

test('stream: what was expected of each row; a spike is marked; gaps are taken', () => {
  const one = join(folder, 'one')
  const trained = s4([
    'train',
    'forecast',
    table,
    '--targets',
    'a',
    '--out',
    one,
    '--epochs',
    '3',
    ...small,
    '--horizon',
    '3',
  ])
  assert.equal(trained.status, 0, trained.stderr)
  const values = rows(waves(900)).map((row) => row[1]!)
  const streamed = s4(['stream', one], `a\n${values.slice(0, 400).join('\n')}\n`)
  assert.equal(streamed.status, 0, streamed.stderr)
  const followed = rows(streamed.stdout)
  assert.equal(followed.length, 400)
  assert.equal(followed[0]![3], '', 'nothing was expected of the first row')
  const late = followed.slice(200)
  const error = Math.sqrt(
    late.reduce((sum, row) => sum + (Number(row[2]) - Number(row[3])) ** 2, 0) / late.length,
  )
  assert.ok(error < 0.4, `${error}`)
  assert.deepEqual(
    rows(s4(['stream', one, '-'], values.slice(0, 5).join('\n')).stdout).length,
    5,
    'numbers alone',
  )
  const spiked = values.slice(0, 500).map((x, t) => (t === 450 ? '300' : t === 100 ? '' : x))
  const marked = rows(s4(['stream', one, '--marks'], `a\n${spiked.join('\n')}\n`).stdout)
  assert.ok(
    marked.some((row) => Number(row[0]) >= 450 && Number(row[0]) < 456 && row[6] === 'surprise'),
    JSON.stringify(marked),
  )
  const file = join(folder, 'rows.csv')
  writeFileSync(file, `a\n${spiked.join('\n')}\n`)
  const lines = s4(['stream', one, file, '--json']).stdout.trim().split('\n')
  assert.equal(lines.length, 499, 'an empty line is none')
  assert.equal((JSON.parse(lines[449]!) as { mark: string }).mark, 'surprise')
  assert.match(s4(['stream', one], 'a\n1\nx\n').stderr, /line 3: 'x' in column 'a' is not a number/)
  assert.match(s4(['stream', one, '--hop', '3'], '').stderr, /--hop is no option of the task forecast/)
  // Columns that are known ahead: those of the first rows come first.
  const first = join(folder, 'first.csv')
  writeFileSync(
    first,
    `calendar\n${Array.from({ length: 6 }, (_, k) => Math.sin((2 * Math.PI * k) / 24)).join('\n')}\n`,
  )
  const several = rows(waves(60)).map(([, a, b], t) => `${a},${b},${Math.sin((2 * Math.PI * (t + 6)) / 24)}`)
  const both = s4(['stream', run, '--known-first', first], `a,b,calendar\n${several.join('\n')}\n`)
  assert.equal(both.status, 0, both.stderr)
  assert.equal(rows(both.stdout).length, 120)
})

test('quantiles and several tables', () => {
  const other = join(folder, 'other.csv')
  writeFileSync(other, waves(500))
  const out = join(folder, 'quantiles')
  const trained = s4([
    'train',
    'forecast',
    table,
    other,
    '--columns',
    'a,b',
    '--predict',
    'quantiles',
    '--levels',
    '0.05,0.5,0.95',
    '--out',
    out,
    '--epochs',
    '1',
    '--json',
    ...small,
  ])
  assert.equal(trained.status, 0, trained.stderr)
  const { scores, targets } = JSON.parse(trained.stdout) as { scores: Scores; targets: string[] }
  assert.deepEqual(targets, ['a', 'b'])
  assert.ok(scores.model.mse > 0)
  assert.deepEqual(json(join(out, 'data.json'))['rows'], [900, 500])
  const made = s4(['forecast', out, other, '--json'])
  const { columns } = JSON.parse(made.stdout) as {
    columns: Record<string, { quantiles: Record<string, number[]> }>
  }
  const { quantiles } = columns['a']!
  assert.deepEqual(Object.keys(quantiles), ['0.05', '0.5', '0.95'])
  assert.equal(quantiles['0.05']!.length, 24, 'the usual horizon')
  quantiles['0.05']!.forEach((low, k) => assert.ok(low <= quantiles['0.95']![k]!))
})

test('every option of the training reaches it', () => {
  const out = join(folder, 'all')
  const given = {
    features: 12,
    layers: 2,
    state: 10,
    mode: 's4',
    dropout: 0.25,
    epochs: 1,
    patience: 3,
    batchSize: 2,
    lr: 0.003,
    ssmLr: 0.0007,
    weightDecay: 0.02,
  }
  const flags = [
    '--features',
    '12',
    '--layers',
    '2',
    '--state',
    '10',
    '--mode',
    's4',
    '--dropout',
    '0.25',
    '--epochs',
    '1',
    '--patience',
    '3',
    '--batch-size',
    '2',
    '--lr',
    '0.003',
    '--ssm-lr',
    '0.0007',
    '--weight-decay',
    '0.02',
  ]
  const more = [
    '--seed',
    '5',
    '--max-seconds',
    '60',
    '--threads',
    '1',
    '--precision',
    'highest',
    '--device',
    'cpu',
  ]
  const trained = s4(['train', 'forecast', table, '--out', out, ...flags, ...more])
  assert.equal(trained.status, 0, trained.stderr)
  const [plan] = history(out) as [{ options: Record<string, unknown> }]
  for (const [name, value] of Object.entries(given)) assert.equal(plan.options[name], value, name)
  const config = json(join(out, 'config.json'))
  assert.deepEqual([config['seed'], config['maxSeconds'], config['threads']], [5, 60, 1])
  assert.ok(existsSync(join(out, 'report.html')))
})

/** Two waves at uneven times: stamps 12 to 108 seconds apart, the law of a stamp, as a table. */
function unevenWaves(count: number): { text: string; stamps: number[]; law: (ms: number) => number } {
  const begin = Date.UTC(2024, 0, 1)
  let [now, state] = [begin, 7]
  const stamps = Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (now += 12_000 + Math.round((96_000 * state) / 2 ** 32))
  })
  const law = (ms: number) => 5 + 3 * Math.sin((ms - begin) / 300_000) + Math.sin((ms - begin) / 80_000)
  const lines = stamps.map((ms) => `${new Date(ms).toISOString()},${law(ms).toFixed(6)}`)
  return { text: `when,x\n${lines.join('\n')}\n`, stamps, law }
}

test('uneven times: trained, evaluated, forecast and followed by them', () => {
  const { text, stamps, law } = unevenWaves(700)
  const uneven = join(folder, 'uneven.csv')
  const out = join(folder, 'uneven')
  writeFileSync(uneven, text)
  const train = ['train', 'forecast', uneven, '--time', 'when', '--horizon', '4', '--look-back', '48']
  const trained = s4([...train, '--epochs', '2', '--out', out, ...small])
  assert.equal(trained.status, 0, trained.stderr)
  assert.match(trained.stderr, /uneven times: the usual interval, .* min|s, counts as 1/)
  const { interval, scores } = json(join(out, 'result.json')) as { interval: number; scores: Scores }
  // The median of the first 490 stamps' differences.
  const gaps = stamps.slice(1, 490).map((ms, i) => ms - stamps[i]!)
  assert.equal(interval, gaps.toSorted((a, b) => a - b)[244])
  assert.ok(scores.model.mse < 0.2 * scores.persistence.mse, JSON.stringify(scores))
  const html = readFileSync(join(out, 'report.html'), 'utf8')
  assert.equal(/NaN|undefined|Infinity/.exec(html)?.[0], undefined)

  const cpu = ['--device', 'cpu']
  const printed = rows(s4(['forecast', out, uneven, '--time', 'when', ...cpu]).stdout)
  const last = stamps.at(-1)!
  assert.equal(printed.length, 4)
  for (const [k, [step, time, column, mean]] of printed.entries()) {
    const ms = last + (k + 1) * interval
    assert.deepEqual([step, time, column], [String(k + 1), new Date(ms).toISOString(), 'x'])
    assert.ok(Math.abs(Number(mean) - law(ms)) < 0.5, `${mean} ${law(ms)}`)
  }
  const half = new Date(last + Math.round(interval / 2)).toISOString()
  const at = ['--at', `${half},${last + 2 * interval}`]
  const named = rows(s4(['forecast', out, uneven, '--time', 'when', ...at, ...cpu]).stdout)
  assert.equal(named[0]![1], half)
  assert.equal(named[1]![3], printed[1]![3])
  assert.match(s4(['forecast', out, uneven, '--columns', 'x', ...cpu]).stderr, /the time of each row/)
  assert.match(s4(['forecast', out, uneven, '--time', 'when', '--at', 'soon']).stderr, /'soon' is no time/)
  const evaluated = s4(['eval', out, uneven, '--time', 'when', '--from', '560', '--json', ...cpu])
  assert.equal((JSON.parse(evaluated.stdout) as Scores).windows, scores.windows, evaluated.stderr)

  const streamed = s4(['stream', out, '--time', 'when', '--json', ...cpu], text)
  assert.equal(streamed.status, 0, streamed.stderr)
  const followed = streamed.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { time: number; expected: { x: number } })
  assert.deepEqual(
    followed.map(({ time }) => time),
    stamps,
  )
  const late = followed.slice(200)
  const error = late.reduce((sum, { time, expected }) => sum + (expected.x - law(time)) ** 2, 0) / late.length
  assert.ok(error < 0.1, `${error}`)
  assert.match(s4(['stream', out, ...cpu], text).stderr, /--time names the column/)
  const back = `${text}${new Date(stamps[3]!).toISOString()},1\n`
  assert.match(
    s4(['stream', out, '--time', 'when', ...cpu], back).stderr,
    /later than that of the row before/,
  )

  // Rows as evenly spaced, where it is asked for; stamps that do not go up are refused, with their row.
  const plain = s4([
    ...train,
    '--intervals',
    'false',
    '--epochs',
    '1',
    '--out',
    join(folder, 'plain'),
    ...small,
  ])
  assert.equal(plain.status, 0, plain.stderr)
  assert.equal(json(join(folder, 'plain', 'result.json'))['interval'], undefined)
  const lines = text.split('\n')
  const twice = join(folder, 'twice.csv')
  writeFileSync(twice, [...lines.slice(0, 100), lines[99]!, ...lines.slice(100)].join('\n'))
  const refused = s4(['train', 'forecast', twice, '--time', 'when', '--out', join(folder, 'none'), ...small])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /in row 99 after 2024/)
  assert.equal(existsSync(join(folder, 'none', 'best.safetensors')), false)
})

test('inspect: a forecaster by the last rows of a table, with their interval; the report has the gradients', () => {
  const inspected = s4(['inspect', run, '--data', table, '--time', 'when', '--device', 'cpu'])
  assert.equal(inspected.status, 0, inspected.stderr)
  // Three look-backs of 32 rows, an hour each.
  assert.match(inspected.stdout, /^for sequences of 96 steps \(4 d\)\n/)
  assert.match(
    inspected.stdout,
    /the last output depends on the inputs: half within \d+ steps? \([\d.]+ (h|d)\)/,
  )
  assert.match(inspected.stdout, /input gradients 1, steps 1 to 96: \|[ ▁▂▃▄▅▆▇█]{64}\|\n$/)
  const told = s4(['inspect', run, '--data', table, '--sampling-interval', '2', '--json', '--device', 'cpu'])
  const { length, samplingInterval, influence } = JSON.parse(told.stdout) as {
    length: number
    samplingInterval: number
    influence: { shape: number[]; data: number[] }
  }
  assert.deepEqual([length, samplingInterval, influence.shape], [96, 2, [1, 96]])
  assert.ok(influence.data.every((x) => x >= 0) && influence.data.at(-1)! > 0)
  assert.match(
    s4(['inspect', run, '--data', table, '--rate', '2']).stderr,
    /--rate is of --data of a classifier/,
  )
  assert.match(s4(['inspect', run, '--data', table, '--length', '9']).stderr, /--length is what --data has/)
  const html = readFileSync(join(run, 'report.html'), 'utf8')
  for (const label of ['input gradients', 'timescales', 'frequency response', 'kernels of blocks.0'])
    assert.ok(html.includes(`aria-label="${label}"`), label)
  assert.match(html, /for sequences of 96 steps \(4 d\)/)
})
