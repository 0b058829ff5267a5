import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readSafetensors } from 's4-node'

const folder = fileURLToPath(new URL('../../../examples/', import.meta.url))
const run = (name: string, ...args: string[]) =>
  execFileSync(process.execPath, [join(folder, name), ...args], { encoding: 'utf8' })
const differences = (text: string) => (text.match(/\d\.\de[+-]\d+/g) ?? []).map(Number)

test('examples/layer.mjs: recurrence and convolution agree', () => {
  const found = differences(run('layer.mjs'))
  assert.equal(found.length, 2)
  for (const error of found) assert.ok(error <= 1e-5, `${error}`)
})

test('examples/train.mjs: learns, saves, loads', () => {
  const out = mkdtempSync(join(tmpdir(), 's4-examples-'))
  try {
    const text = run('train.mjs', join(out, 'sines.safetensors'))
    assert.match(text, /same outputs: true/)
    assert.ok(Number(/(\d+) of 16 right/.exec(text)?.[1]) >= 14, text)
  } finally {
    rmSync(out, { recursive: true })
  }
})

test('examples/stream.mjs: the stream is the prediction', () => {
  const [error] = differences(run('stream.mjs'))
  assert.ok(error <= 1e-5, `${error}`)
})

test('examples/forecast.mjs: forecasts, better than the simple ones', () => {
  const text = run('forecast.mjs', '5')
  const [model, persistence] = ['model', 'persistence'].map((name) =>
    Number(new RegExp(`^${name}: mean squared error ([\\d.]+)$`, 'm').exec(text)?.[1]),
  )
  assert.ok(model < 0.8 * persistence, text)
  assert.match(text, /next months, 10 to 90 %:( -?\d+–-?\d+){12}\n/)
})

test('examples/classify.mjs: hears tones, at half the rate too', () => {
  const text = run('classify.mjs')
  for (const [, right] of text.matchAll(/right at \d kHz: ([\d.]+)/g)) assert.ok(Number(right) >= 0.9, text)
  assert.match(text, /this one is high\n$/)
})

test('examples/generate.mjs: learns a text, continues it, scores a sentence', () => {
  const text = run('generate.mjs', fileURLToPath(new URL('../../../CONTRIBUTING.md', import.meta.url)), '4')
  const bits = Number(/^bits a token of the text's end: ([\d.]+)\n/.exec(text)?.[1])
  // A text of this length by the frequencies of its bytes alone has 4.9.
  assert.ok(bits > 0.5 && bits < 4.7, text)
  assert.ok(!text.includes('\uFFFD'), text)
  const perplexity = Number(/\nperplexity of a sentence: ([\d.]+) of 256 bytes\n$/.exec(text)?.[1])
  assert.ok(perplexity > 1 && perplexity < 100, text)
})

test('examples/official.mjs: a checkpoint of the official code runs, and goes back with its names', () => {
  const out = mkdtempSync(join(tmpdir(), 's4-examples-'))
  try {
    const fixtures = fileURLToPath(new URL('../../../__test__/fixtures/official/', import.meta.url))
    const back = join(out, 'back.safetensors')
    assert.match(run('official.mjs', join(fixtures, 'v4-lightning.ckpt'), back), /^2 × \d+ \[\]\noutputs \[/)
    const original = readSafetensors(join(fixtures, 'v4-lightning.safetensors'))
    assert.deepEqual(readSafetensors(back).tensors, original.tensors)
  } finally {
    rmSync(out, { recursive: true })
  }
})
