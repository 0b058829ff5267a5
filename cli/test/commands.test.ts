import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const command = fileURLToPath(new URL('../../bin/s4.mjs', import.meta.url))
const data = fileURLToPath(new URL('../../../data/', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 's4-commands-'))
after(() => rmSync(folder, { recursive: true }))
const model = join(folder, 'model.safetensors')
const s4 = (args: string[], input = '') =>
  spawnSync(process.execPath, [command, ...args], { encoding: 'utf8', input })
const rows = (csv: string) =>
  csv
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','))

test('train, forecast and stream a series', () => {
  const sunspots = join(data, 'sunspots_monthly.csv')
  const trained = s4([
    'train',
    sunspots,
    '--column',
    'sunspots',
    '--out',
    model,
    '--horizon',
    '12',
    '--layers',
    '2',
    '--features',
    '16',
    '--state',
    '16',
    '--window',
    '512',
    '--updates',
    '40',
    '--device',
    'cpu',
  ])
  assert.equal(trained.status, 0, trained.stderr)
  assert.match(trained.stdout, /persistence +linear +model/)
  assert.match(trained.stderr, /^train: 40\/40 loss -?\d/m)
  assert.ok(existsSync(model))

  const ahead = s4(['forecast', model, sunspots, '--column', 'sunspots', '--steps', '30'])
  assert.equal(ahead.status, 0, ahead.stderr)
  const steps = rows(ahead.stdout)
  assert.equal(steps.length, 30)
  for (const [at, [step, mean, low, high]] of steps.entries()) {
    assert.equal(Number(step), at + 1)
    assert.ok(Number(low) < Number(mean) && Number(mean) < Number(high), `${low} ${mean} ${high}`)
  }

  const values = readFileSync(sunspots, 'utf8')
    .trim()
    .split('\n')
    .slice(1, 401)
    .map((line) => line.split(',')[1])
  const streamed = s4(['stream', model], `sunspots\n${values.join('\n')}\n`)
  assert.equal(streamed.status, 0, streamed.stderr)
  const followed = rows(streamed.stdout)
  assert.equal(followed.length, 400)
  assert.equal(followed[0][2], '', 'nothing was expected of the first sample')
  assert.ok(followed.slice(1).every((row) => Number(row[3]) > 0))

  // what the stream expects next after all 400 is the first step of a forecast of the same 400
  const head = join(folder, 'head.csv')
  writeFileSync(head, `sunspots\n${values.slice(0, 399).join('\n')}\n`)
  const one = rows(s4(['forecast', model, head, '--steps', '1']).stdout)[0]
  assert.ok(
    Math.abs(Number(one[1]) - Number(followed[399][2])) < 1e-3 * Math.abs(Number(one[1])) + 1e-3,
    `${one[1]} ${followed[399][2]}`,
  )

  // a spike is marked
  const spiked = values.map((value, t) => (t === 300 ? '2000' : value))
  const marked = rows(s4(['stream', model, '--marks'], spiked.join('\n')).stdout)
  assert.ok(marked.some((row) => Number(row[0]) >= 300 && Number(row[0]) < 306 && row[5] === 'surprise'))
})

const twoColumns = join(folder, 'two.csv')
const wave = Array.from({ length: 600 }, (_, t) => Math.sin(t / 5) + 0.3 * Math.sin(t / 2.3))
writeFileSync(twoColumns, `wave,ramp\n${wave.map((x, t) => `${x},${1000 + 7 * t}`).join('\n')}\n`)
const small = [
  '--layers',
  '1',
  '--features',
  '8',
  '--state',
  '8',
  '--window',
  '64',
  '--horizon',
  '5',
  '--device',
  'cpu',
]

test('a forecast takes the column that the model was trained on', () => {
  const file = join(folder, 'wave.safetensors')
  const trained = s4(['train', twoColumns, '--column', 'wave', '--out', file, '--updates', '10', ...small])
  assert.equal(trained.status, 0, trained.stderr)
  const named = s4(['forecast', file, twoColumns, '--column', 'wave'])
  const unnamed = s4(['forecast', file, twoColumns])
  assert.equal(unnamed.status, 0, unnamed.stderr)
  assert.equal(unnamed.stdout, named.stdout)
  assert.ok(
    rows(unnamed.stdout).every((row) => Math.abs(Number(row[1])) < 10),
    'not the ramp, which is above 1000',
  )
  assert.notEqual(s4(['forecast', file, twoColumns, '--column', 'ramp']).stdout, named.stdout)
  const other = join(folder, 'other.csv')
  writeFileSync(other, 'ramp\n1\n2\n3\n4\n5\n')
  const refused = s4(['forecast', file, other])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /wave/)
})

test('Ctrl-C saves, says how to go on, and the run that goes on is the undisturbed one', async () => {
  const [cut, whole] = ['cut', 'whole'].map((name) => join(folder, `${name}.safetensors`))
  const arguments_ = ['train', twoColumns, '--column', 'wave', '--updates', '400', ...small]
  const child = spawn(process.execPath, [command, ...arguments_, '--out', cut], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (stderr === '') child.kill('SIGINT')
    stderr += text
  })
  const code = await new Promise((resolve) => child.on('exit', resolve))
  assert.equal(code, 130, stderr)
  const stopped =
    /stopped after update (\d+) of 400, saved in .*cut\.safetensors; the same command with --out and --resume goes on/
  const at = Number(stopped.exec(stderr)?.[1])
  assert.ok(at >= 1 && at < 400, stderr)
  assert.doesNotMatch(stderr, /\n\s+at /)
  const refused = s4(['train', twoColumns, '--out', cut, '--resume', '--lr', '1'])
  assert.equal(refused.status, 2)
  assert.match(refused.stderr, /--lr/)
  const resumed = s4(['train', twoColumns, '--out', cut, '--resume', '--device', 'cpu'])
  assert.equal(resumed.status, 0, resumed.stderr)
  assert.match(resumed.stderr, /train: 400\/400/)
  assert.equal(s4([...arguments_, '--out', whole]).status, 0)
  const [a, b] = [cut, whole].map((file) => s4(['forecast', file, twoColumns]).stdout)
  assert.equal(a, b)
  const wrongLength = s4([
    'train',
    join(data, 'sunspots_monthly.csv'),
    '--column',
    'sunspots',
    '--out',
    cut,
    '--resume',
  ])
  assert.equal(wrongLength.status, 1)
  assert.match(wrongLength.stderr, /trained on a series of 600 samples/)
})

test('mistakes are one line and exit code 2, failures exit code 1', () => {
  const one = (args: string[], status: number, message: RegExp, input = '') => {
    const { status: code, stderr } = s4(args, input)
    assert.equal(code, status, `${args.join(' ')}: ${stderr}`)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at /, 'no stack')
  }
  one(['fly'], 2, /'fly' is not a command/)
  one(['train'], 2, /missing DATA\.csv/)
  one(['train', 'x.csv'], 2, /missing --out/)
  one(['train', 'x.csv', '--out', model, '--speed', '9'], 2, /--speed/)
  one(
    [
      'train',
      join(data, 'co2_weekly.csv'),
      '--column',
      'co2_ppm',
      '--out',
      join(folder, 'x'),
      '--layers',
      '0',
    ],
    2,
    /--layers is a whole number of at least 1/,
  )
  one(['train', join(folder, 'nowhere.csv'), '--column', 'a', '--out', join(folder, 'x')], 1, /nowhere\.csv/)
  one(
    ['train', join(data, 'co2_weekly.csv'), '--column', 'co2_ppm', '--out', join(folder, 'x')],
    1,
    /co2_ppm|gap|empty|row|line/,
  )
  one(['forecast', join(data, 'README.md'), join(data, 'co2_weekly.csv')], 1, /ERR_S4_/)
  one(['verify', data, 'more'], 2, /unexpected argument 'more'/)
  assert.equal(s4([]).status, 2)
  assert.match(s4(['--help']).stdout, /usage: s4 <command>/)
  for (const name of ['train', 'forecast', 'stream', 'data', 'diagnose', 'verify', 'demo'])
    assert.match(s4([name, '--help']).stdout, new RegExp(`usage: s4 ${name}`))
})

test('a number for --column is a name first, then a place', () => {
  const years = join(folder, 'years.csv')
  const lines = Array.from({ length: 400 }, (_, i) => `${i},${i % 7},${i === 3 ? '' : i % 5},${i % 7}`)
  writeFileSync(years, `t,value,0,2020\n${lines.join('\n')}\n`)
  const run = (column: string) => s4(['forecast', model, years, '--steps', '1', '--column', column])
  const named = run('value')
  assert.equal(named.status, 0, named.stderr)
  assert.equal(run('2020').stdout, named.stdout, 'the column named 2020')
  // Names and numbers in one line may be a header or data: a name says that they are a header, a place does not.
  assert.match(run('1').stderr, /names or values, got some of both/)
  const words = join(folder, 'words.csv')
  writeFileSync(words, `t,value,a,b\n${lines.join('\n')}\n`)
  const placed = s4(['forecast', model, words, '--steps', '1', '--column', '1'])
  assert.equal(placed.stdout, named.stdout, 'the column at place 1')
  const gap = run('0')
  assert.equal(gap.status, 1)
  assert.match(gap.stderr, /row 5, column 0/, 'the column named 0, not the one at place 0')
  assert.match(s4(['forecast', model, words, '--column', '9']).stderr, /expected one of 4 columns/)
  assert.match(run('x').stderr, /expected one of t, value, 0, 2020/)
})

test('--header says what a first line is', () => {
  // Of a model that was trained without --column, so that its forecast takes the last one.
  const last = join(folder, 'last.safetensors')
  const trained = s4(['train', twoColumns, '--out', last, '--updates', '2', ...small])
  assert.equal(trained.status, 0, trained.stderr)
  const file = join(folder, 'mixed.csv')
  const lines = Array.from({ length: 400 }, (_, i) => `${i},${i % 7}`)
  writeFileSync(file, `t,2020\n${lines.join('\n')}\n`)
  const run = (...more: string[]) => s4(['forecast', last, file, '--steps', '1', ...more])
  const refused = run()
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /names or values.*header/)
  const named = run('--header', 'true')
  assert.equal(named.status, 0, named.stderr)
  assert.equal(run('--header', 'true', '--column', '2020').stdout, named.stdout)
  // As data its first line is a number too, and one more sample before the others.
  const values = run('--header', 'false')
  assert.equal(values.status, 0, values.stderr)
  assert.equal(run('--header', 'false', '--column', '1').stdout, values.stdout)
  assert.match(run('--header', 'false', '--column', '0').stderr, /row 1, column 0 .*"t"/)
  const wrong = run('--header', 'maybe')
  assert.equal(wrong.status, 2)
  assert.match(wrong.stderr, /--header is one of auto, true, false, not 'maybe'/)
})

test('a pipe that is closed ends the command, values may be negative, the version is told', () => {
  const values = Array.from({ length: 20_000 }, (_, i) => i % 7).join('\n')
  const shell = `"${process.execPath}" "${command}" stream "${model}" | head -2`
  const { status, stdout, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', shell], {
    encoding: 'utf8',
    input: values,
  })
  assert.equal(stdout.trim().split('\n').length, 2)
  assert.doesNotMatch(stderr, /EPIPE|Unhandled|at /)
  assert.equal(status, 0, stderr)
  const negative = s4(['train', 'x.csv', '--out', join(folder, 'x'), '--horizon', '-3'])
  assert.equal(negative.status, 2)
  assert.match(negative.stderr, /--horizon is a whole number of at least 1, not '-3'/)
  const zero = s4(['train', 'x.csv', '--out', join(folder, 'x'), '--horizon', '0'])
  assert.match(zero.stderr, /--horizon is a whole number of at least 1, not '0'/)
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  for (const word of ['--version', '-V', 'version']) assert.equal(s4([word]).stdout, `${version}\n`)
  for (const name of ['train', 'forecast', 'stream', 'verify'])
    assert.match(s4([name, '--help']).stdout, /Defaults: /, name)
})

test('diagnose tells of this machine', () => {
  const { status, stdout } = s4(['diagnose', '--json'])
  assert.equal(status, 0)
  assert.equal(typeof JSON.parse(stdout), 'object')
  assert.ok(s4(['diagnose']).stdout.includes(':'))
})
