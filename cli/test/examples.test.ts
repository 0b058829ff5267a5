import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readSafetensors } from 's4-node'
import { diagonal, idx, texts, uniform } from './made.js'

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

test('examples/streams.mjs: many streams are answered, all in time', () => {
  const text = run('streams.mjs', '40', '0.5')
  const [, frames, late] =
    /^40 streams, (\d+) frames of ten samples: 99 % answered within (\d+) ms$/m.exec(text) ?? []
  assert.equal(Number(frames), 200)
  // A bound for a machine that does other things meanwhile: what matters is that each answer came.
  assert.ok(Number(late) < 5000, text)
})

test('examples/intervals.mjs: learns from samples at uneven times', () => {
  const text = run('intervals.mjs', '12')
  // The mean square of a wave is 0.5, and three in four of its values are not shown.
  const error = Number(/^mean squared error: ([\d.]+),/m.exec(text)?.[1])
  assert.ok(error < 0.25, text)
  assert.match(text, /^streamed:( -?\d\.[\de-]+){4}$/m)
})

test('examples/forecast.mjs: forecasts, better than the simple ones', () => {
  const text = run('forecast.mjs', '5')
  const [model, persistence] = ['model', 'persistence'].map((name) =>
    Number(new RegExp(`^${name}: mean squared error ([\\d.]+)$`, 'm').exec(text)?.[1]),
  )
  assert.ok(model < 0.8 * persistence, text)
  assert.match(text, /next months, 10 to 90 %:( -?\d+–-?\d+){12}\n/)
})

test('examples/uneven.mjs: forecasts and follows samples of uneven times', () => {
  const text = run('uneven.mjs', '2')
  const [, interval, error, persistence] =
    /^usual interval ([\d.]+) ms; error ([\de.-]+), of persistence ([\d.]+)$/m.exec(text) ?? []
  assert.ok(Number(interval) > 200 && Number(interval) < 1000, text)
  assert.ok(Number(error) < 0.1 * Number(persistence), text)
  const numbers = (line: string) =>
    (new RegExp(`^${line}(.*)$`, 'm').exec(text)?.[1]?.match(/-?[\d.]+/g) ?? []).map(Number)
  // The law that the example says, half a second and a second after its last sample.
  let ms = 0
  const times = Array.from({ length: 600 }, (_, i) => (ms += 200 + 800 * Math.abs(Math.sin(7 * i))))
  const law = (s: number) => Math.sin(s / 3) + 0.5 * Math.sin(s / 1.3)
  const last = (times[599]! - times[0]!) / 1000
  const [half, one] = numbers('after ½ and 1 second: ')
  assert.ok(Math.abs(half! - law(last + 0.5)) < 0.15 && Math.abs(one! - law(last + 1)) < 0.15, text)
  const [expected, was] = numbers('expected of the last row: ')
  assert.ok(Math.abs(expected! - was!) < 0.15, text)
})

test('examples/classify.mjs: hears tones, at half the rate too', () => {
  const text = run('classify.mjs')
  for (const [, right] of text.matchAll(/right at \d kHz: ([\d.]+)/g)) assert.ok(Number(right) >= 0.9, text)
  assert.match(text, /this one is high\n$/)
})

test('examples/generate.mjs: learns a text, continues it, scores a sentence', () => {
  const text = run('generate.mjs', fileURLToPath(new URL('../../../CONTRIBUTING.md', import.meta.url)), '8')
  const bits = Number(/^bits a token of the text's end: ([\d.]+)\n/.exec(text)?.[1])
  // A text of this length by the frequencies of its bytes alone has 4.9.
  assert.ok(bits > 0.5 && bits < 4.7, text)
  const perplexity = Number(/\nperplexity of a sentence: ([\d.]+) of 256 bytes\n$/.exec(text)?.[1])
  assert.ok(perplexity > 1 && perplexity < 100, text)
})

test('examples/losses.mjs: finds a rare class by its weight, and counts no padding', () => {
  const text = run('losses.mjs')
  const [, counted, matrix] = /^(\d+) labels, confusion (.*), perplexity [\d.]+$/m.exec(text) ?? []
  assert.equal(Number(counted), 24 * 50, text)
  const [[_, alarms], [missed, found]] = JSON.parse(matrix!) as number[][]
  assert.equal(_ + alarms + missed + found, 24 * 50)
  assert.ok(found / (found + missed) > 0.7, text)
})

test('examples/table.mjs: a table is read, split, scaled, cut and learned', () => {
  const text = run('table.mjs')
  const [, rows, held, error] =
    /^(\d+) months, (\d+) of them to test; mean squared error ([\d.]+)$/m.exec(text) ?? []
  assert.ok(Number(rows) > 3000 && Number(held) > 300 && Number(held) < Number(rows) / 5, text)
  // In units of the past's deviation: its mean alone would have about 1.
  assert.ok(Number(error) < 0.6, text)
})

/** A WAV file of 16 bits. */
function wav(samples: Float64Array, rate: number): Buffer {
  const bytes = Buffer.alloc(44 + 2 * samples.length)
  bytes.write('RIFF\0\0\0\0WAVEfmt ', 0, 'latin1')
  bytes.writeUInt32LE(16, 16)
  bytes.writeUInt32LE(0x10001, 20)
  bytes.writeUInt32LE(rate, 24)
  bytes.writeUInt32LE(2 * rate, 28)
  bytes.writeUInt32LE(0x100002, 32)
  bytes.write('data', 36)
  bytes.writeUInt32LE(2 * samples.length, 40)
  samples.forEach((x, i) => bytes.writeInt16LE(Math.round(32767 * x), 44 + 2 * i))
  return bytes
}

test('examples/audio.mjs: a folder of recordings is learned, a long one heard piece by piece', () => {
  const out = mkdtempSync(join(tmpdir(), 's4-examples-'))
  const tone = (hertz: number, count: number, phase: number) =>
    Float64Array.from({ length: count }, (_, t) => 0.5 * Math.sin((2 * Math.PI * hertz * t) / 16_000 + phase))
  try {
    for (const [name, hertz] of Object.entries({ low: 300, high: 1200 })) {
      mkdirSync(join(out, 'sounds', name), { recursive: true })
      for (let i = 0; i < 15; i++)
        writeFileSync(join(out, 'sounds', name, `${i}.wav`), wav(tone(hertz, 6000, i), 16_000))
    }
    const long = join(out, 'long.wav')
    const half = 16_000
    writeFileSync(long, wav(Float64Array.from([...tone(300, half, 0), ...tone(1200, half, 0)]), 16_000))
    const text = run('audio.mjs', join(out, 'sounds'), long, '8')
    assert.match(text, /^high, low: (0\.8|0\.9|1)\d* right of 6$/m, text)
    const heard = [...text.matchAll(/^([\d.]+) (high|low)$/gm)]
    assert.deepEqual([heard[0]?.[1], heard[0]?.[2], heard.at(-1)?.[2]], ['0', 'low', 'high'], text)
    assert.equal(heard.length, 7, text)
  } finally {
    rmSync(out, { recursive: true })
  }
})

test('examples/texts.mjs, pictures.mjs: folders of texts, files of pictures', () => {
  const out = mkdtempSync(join(tmpdir(), 's4-examples-'))
  try {
    texts(90, 1).forEach(({ text, label }, i) => {
      mkdirSync(join(out, 'texts', label), { recursive: true })
      writeFileSync(join(out, 'texts', label, `${i}.txt`), text)
    })
    const said = run('texts.mjs', join(out, 'texts'), 'abc abc abc ', '20')
    assert.ok(Number(/^neg, pos: (\d+) % right/.exec(said)?.[1]) >= 80, said)
    assert.match(said, /'abc abc abc ' is pos \((0.[5-9]\d|1.00)\)\n40 pos\n$/)
    const random = uniform(1)
    for (const [name, count] of [
      ['train', 80],
      ['t10k', 20],
    ] as const) {
      const pictures = Array.from({ length: count }, (_, i) => diagonal(6, i % 2, random))
      writeFileSync(join(out, `${name}-images-idx3-ubyte`), idx([count, 6, 6], Buffer.concat(pictures)))
      const labels = Uint8Array.from({ length: count }, (_, i) => i % 2)
      writeFileSync(join(out, `${name}-labels-idx1-ubyte`), idx([count], labels))
    }
    const seen = run('pictures.mjs', out, 'rows', '15')
    assert.ok(Number(/^(\d+) of 20 right\n0: \d+ \d+\n1: \d+ \d+\n$/.exec(seen)?.[1]) >= 17, seen)
  } finally {
    rmSync(out, { recursive: true })
  }
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
