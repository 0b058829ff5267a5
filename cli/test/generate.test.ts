import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { history, json, s4, scratch } from './helpers.js'

const folder = scratch('generate')
const at = (name: string) => join(folder, name)
// What comes next is known from the three letters before.
writeFileSync(at('letters.txt'), 'abcabd'.repeat(400))
const run = at('run')

test('a text is learned, told, continued and scored', () => {
  const training = ['--epochs', '12', '--window', '32', '--features', '16', '--layers', '2', '--state', '8']
  const more = [
    '--tokens',
    'characters',
    '--lr',
    '0.01',
    '--batch-size',
    '8',
    '--validation',
    '0.2',
    '--seed',
    '1',
  ]
  const made = s4([
    'train',
    'generate',
    at('letters.txt'),
    '--out',
    run,
    ...training,
    ...more,
    '--device',
    'cpu',
  ])
  assert.equal(made.status, 0, made.stderr)
  const bits = Number(/^([\d.]+) bits a token/.exec(made.stdout)?.[1])
  // A fair choice among four letters has two bits.
  assert.ok(bits < 0.3, made.stdout)
  const result = json(join(run, 'result.json'))
  assert.equal(result['task'], 'generate')
  assert.equal((result['sample'] as string).length, 400)
  assert.equal(json(join(run, 'config.json'))['tokens'], 'characters')
  assert.ok(history(run).some(({ type, validationLoss }) => type === 'epoch' && Number(validationLoss) < 0.3))
  const page = readFileSync(join(run, 'report.html'), 'utf8')
  for (const part of ['bits a token', '<svg', 'abcabd']) assert.ok(page.includes(part), part)

  const again = ['--max-tokens', '24', '--temperature', '0', '--json']
  const continued = s4(['generate', run, 'abcabdabcabd', ...again])
  assert.equal(continued.status, 0, continued.stderr)
  assert.deepEqual(JSON.parse(continued.stdout), { prompt: 'abcabdabcabd', text: 'abcabd'.repeat(4) })
  // From standard input, as text that comes piece by piece, ended by a text of its own.
  const piped = s4(
    ['generate', run, '-', '--max-tokens', '24', '--temperature', '0', '--stop', 'dabca,xyz'],
    'abcabdabcabd',
  )
  assert.equal(piped.stdout, 'abcab\n')
  const choosing = ['--temperature', '2', '--top-k', '3', '--top-p', '0.99', '--min-p', '0.001']
  const sampled = (seed: string) =>
    s4([
      'generate',
      run,
      'abc',
      '--max-tokens',
      '40',
      ...choosing,
      '--repetition-penalty',
      '1.1',
      '--seed',
      seed,
    ]).stdout
  assert.equal(sampled('1'), sampled('1'))
  assert.notEqual(sampled('1'), sampled('2'))

  writeFileSync(at('other.txt'), 'abcabd'.repeat(10))
  writeFileSync(at('odd.txt'), 'ddcc'.repeat(15))
  const figures = s4(['eval', run, at('other.txt'), at('odd.txt'), '--json'])
  assert.equal(figures.status, 0, figures.stderr)
  const { texts } = JSON.parse(figures.stdout) as { texts: { perplexity: number; tokens: number }[] }
  assert.equal(texts[0]!.tokens, 60)
  assert.ok(texts[0]!.perplexity < 1.5 && texts[1]!.perplexity > 4, figures.stdout)
  assert.match(s4(['eval', run, at('other.txt')]).stdout, /other\.txt: perplexity [\d.]+ over 60 tokens/)
})

test('a generator is no other task, and no other task one', () => {
  assert.match(s4(['forecast', run, at('other.txt')]).stderr, /is a generator: `s4 generate`/)
  assert.match(s4(['stream', run]).stderr, /is a generator: `s4 generate`/)
  const foreign = s4(['eval', run, at('other.txt'), '--stride', '2'])
  assert.equal(foreign.status, 2)
  assert.match(foreign.stderr, /--stride is no option of the task generate/)
  const unknown = s4(['generate', run, 'abq', '--max-tokens', '4'])
  assert.notEqual(unknown.status, 0)
  assert.match(unknown.stderr, /q/)
  assert.equal(s4(['train', 'generate', at('nothing.txt'), '--out', at('none')]).status, 1)
})

test('a model is inspected, in words and as JSON', () => {
  const text = s4(['inspect', run, '--length', '64', '--sampling-interval', '0.01'])
  assert.equal(text.status, 0, text.stderr)
  assert.match(text.stdout, /blocks\.0/)
  const { layers, length, samplingInterval } = JSON.parse(
    s4(['inspect', run, '--length', '64', '--sampling-interval', '0.01', '--json']).stdout,
  ) as { layers: { stepSizes: number[] }[]; length: number; samplingInterval: number }
  assert.deepEqual([layers.length, length, samplingInterval], [2, 64, 0.01])
  assert.equal(layers[0]!.stepSizes.length, 16)
  assert.equal(s4(['inspect', at('letters.txt')]).status, 1)
  const onText = s4(['inspect', run, '--data', at('letters.txt')])
  assert.match(onText.stdout, /the last output depends on the inputs: half within/, onText.stderr)
  assert.match(onText.stdout, /input gradients 1, steps 1 to \d+: \|[ ▁▂▃▄▅▆▇█]{64}\|\n$/)
  assert.match(onText.stdout, /█/)
})
