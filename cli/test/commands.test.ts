import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { commands } from '../src/commands/all.js'
import type { Command } from '../src/commands/command.js'
import { flagsOf } from '../src/options/spec.js'
import { command, s4, scratch, waves } from './helpers.js'

const folder = scratch('commands')

test('mistakes are told in a line and exit code 2, failures exit code 1', () => {
  const one = (args: string[], status: number, message: RegExp, input = '') => {
    const { status: code, stderr } = s4(args, input, folder)
    assert.equal(code, status, `${args.join(' ')}: ${stderr}`)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at /, 'no stack')
  }
  one(['fly'], 2, /unknown command 'fly'/)
  one(['train', 'forecast'], 2, /missing required argument 'DATA'/)
  one(['train', 'forecast', 'x.csv', '--speed', '9'], 2, /unknown option '--speed'/)
  one(['train', 'forecast', 'x.csv', '--layers', '0'], 2, /--layers is a whole number of at least 1, not '0'/)
  one(
    ['train', 'forecast', 'x.csv', '--horizon', '-3'],
    2,
    /--horizon is a whole number from 1 to 65536, not '-3'/,
  )
  one(['train', 'forecast', 'x.csv', '--split', '1,2'], 2, /--split is 3 numbers, not '1,2'/)
  one(['train', 'forecast', 'x.csv', '--mode', 's5'], 2, /--mode is one of s4, s4d, not 's5'/)
  one(['train', 'forecast', 'nowhere.csv'], 1, /nowhere\.csv/)
  one(['forecast', join(folder, 'none'), 'x.csv'], 1, /ERR_S4_/)
  one(['verify', folder, 'more'], 2, /too many arguments/)
  one(['data'], 2, /show.*listops/s)
  one(['train'], 2, /s4 train forecast DATA/)
  writeFileSync(join(folder, 'old.csv'), waves(50))
  one(['train', 'old.csv', '--column', 'a', '--out', 'm'], 2, /s4 train forecast old\.csv --targets COLUMN/)
  assert.equal(s4([]).status, 2)
})

test('help names defaults, and the version is told', () => {
  assert.match(s4(['--help']).stdout, /Usage: s4 \[options\] \[command\]/)
  const help = s4(['train', 'classify', '--help']).stdout
  assert.match(help, /Usage: s4 train classify \[options\] <DATA\.\.\.>/)
  assert.match(help, /--validation <n>[^-]*\(default: 0\.15\)/)
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  for (const word of ['--version', '-V']) assert.equal(s4([word]).stdout, `${version}\n`)
})

/** Every command, with those below others. */
const every = (list: readonly Command[], before = ''): [string, Command][] =>
  list.flatMap((one) => [
    [`${before}${one.name}`, one] as [string, Command],
    ...every(one.children ?? [], `${before}${one.name} `),
  ])

test('every option says its default, and is tried in a test', () => {
  const sources = fileURLToPath(new URL('../../test/', import.meta.url))
  const text = readdirSync(sources)
    .filter((name) => name.endsWith('.test.ts') || name === 'helpers.ts')
    .map((name) => readFileSync(join(sources, name), 'utf8'))
    .join('\n')
  const missing: string[] = []
  for (const [name, { options }] of every(commands))
    for (const spec of options) {
      const flag = flagsOf(spec).split(' ')[0] as string
      assert.ok(spec.otherwise !== undefined, `${name} ${flag}`)
      if (!text.includes(`'${flag}'`)) missing.push(`${name} ${flag}`)
    }
  assert.deepEqual(missing, [])
})

test('a pipe that is closed ends the command', () => {
  const shell = `"${process.execPath}" "${command}" train forecast --help | head -2`
  const { status, stdout, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', shell], { encoding: 'utf8' })
  assert.equal(stdout.trim().split('\n').length, 1)
  assert.doesNotMatch(stderr, /EPIPE|Unhandled|at /)
  assert.equal(status, 0, stderr)
})

test('diagnose tells of this machine', () => {
  const { status, stdout } = s4(['diagnose', '--json'])
  assert.equal(status, 0)
  assert.equal(typeof JSON.parse(stdout), 'object')
  assert.ok(s4(['diagnose']).stdout.includes(':'))
})

test('bench times a network of the sizes that are asked for', () => {
  const sizes = ['--features', '8', '--layers', '1', '--state', '8', '--length', '64', '--batch-size', '2']
  const { status, stdout, stderr } = s4(['bench', ...sizes, '--seconds', '0', '--device', 'cpu', '--json'])
  assert.equal(status, 0, stderr)
  const { network, batch, trainStep, predict, stream } = JSON.parse(stdout) as Record<
    string,
    Record<string, number>
  >
  assert.deepEqual(
    [network, batch],
    [
      { layers: 1, features: 8, state: 8 },
      { sequences: 2, samples: 64 },
    ],
  )
  for (const figure of [trainStep, predict, stream])
    assert.ok(figure!['milliseconds']! > 0 && figure!['samplesPerSecond']! > 0)
  assert.match(s4(['bench', ...sizes, '--seconds', '0']).stdout, /training step +\d.* ms +[\d,]+ samples\/s/)
})
