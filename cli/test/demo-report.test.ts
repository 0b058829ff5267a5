import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ReportData } from '../src/demo/data.js'
import { reportPage } from '../src/demo/page.js'
import { s4, scratch } from './helpers.js'

function sample(): ReportData {
  const rate = 100
  const length = 3000
  const signal = Float64Array.from({ length }, (_, t) => Math.sin(t / 20))
  const curve = (phase: number) => Float64Array.from({ length: 36 }, (_, k) => Math.cos(k / 9 + phase))
  const layer = (name: string) => ({
    name,
    heads: 4,
    length: 64,
    kernel: Float32Array.from({ length: 256 }, (_, i) => Math.exp(-(i % 64) / 9)),
    dtBefore: [0.01, 0.02, 0.03, 0.04],
    dtAfter: [0.011, 0.019, 0.033, 0.05],
    modes: [
      { decay: 0.1, frequency: 1 },
      { decay: 0.2, frequency: 5 },
    ],
  })
  return {
    title: 'A <sine> & more',
    source: 'made up',
    unit: 'mV',
    rate,
    device: 'cpu',
    model: { mode: 's4', layers: 2, features: 4, state: 8, horizon: 36, parameters: 100 },
    training: {
      updates: 3,
      seconds: 1,
      windows: 4,
      window: 64,
      curve: [1, 2, 3].map((step) => ({ step, loss: 1 / step })),
    },
    scores: [1, 10, 36].map((horizon) => ({ horizon, persistence: 0.9, linear: 0.6, model: 0.4 })),
    coverage: 0.95,
    signal,
    band: { horizon: 36, mean: signal, sigma: signal.map(() => 0.1) },
    trainLength: 2000,
    fans: [0, 1].map((i) => ({ origin: 2100 + 200 * i, mean: curve(i), sigma: curve(i).map(() => 0.1) })),
    surprise: signal.map((v) => v * v),
    threshold: 5,
    marks: [{ from: 2200, to: 2230, peak: 2210, kind: 'surprise', strength: 2 }],
    layers: [layer('layer 1'), layer('layer 2')],
    stream: { samples: length, seconds: 0.5, error: 3e-7, tolerance: 1e-5 },
  }
}

test('the report is whole in itself and shows every part', () => {
  const html = reportPage(sample())
  // a clip path refers to the page itself: url(#…)
  assert.equal(
    /<(script|link|img|iframe)\b|@import|url\((?!#)|\bsrc=|\bhref="(?!#)/i.exec(html)?.[0],
    undefined,
    'nothing is fetched',
  )
  assert.equal(/NaN|undefined|Infinity/.exec(html)?.[0], undefined)
  assert.ok(html.includes('A &lt;sine&gt; &amp; more'))
  for (const label of [
    'Loss while training',
    'Error against the horizon',
    'Signal, seconds 20 to 30',
    'Forecast at second 21.00',
    'The whole series',
    'Surprise',
    'Timescales',
    'Kernels of layer 1',
    'Kernels of layer 2',
    'Modes',
  ]) {
    assert.ok(html.includes(`aria-label="${label}"`), label)
  }
  assert.ok(html.includes('3.0e-7') && html.includes('equal within 1e-5'))
  assert.equal(html.split('class="best"').length - 1, 3, 'the best of each row')
})

test('a streamed run that differs is said to differ', () => {
  const data = sample()
  assert.ok(reportPage({ ...data, stream: { ...data.stream, error: Number.NaN } }).includes('NOT equal'))
})

test('s4 demo: trains, says how it does, writes its page, and names what to try next', () => {
  const folder = scratch('demo')
  const { status, stdout, stderr } = s4([
    'demo',
    '--out',
    folder,
    '--updates',
    '2',
    '--max-seconds',
    '60',
    '--seed',
    '1',
    '--device',
    'cpu',
  ])
  // Two updates beat nobody, which it says, with the exit code 1.
  assert.equal(status, 1, stderr)
  assert.match(stdout, /does NOT beat persistence/)
  assert.match(stdout, /equal to the convolution \(relative difference \d\.\de-\d/)
  assert.ok(readFileSync(join(folder, 'index.html'), 'utf8').includes('Five minutes of an electrocardiogram'))
  assert.deepEqual(readdirSync(folder).toSorted(), ['index.html', 'model.safetensors'])
  assert.match(
    stdout,
    /next, with data of your own.*\n.*s4 train forecast .*\n.*s4 train classify .*\n.*s4 stream .*\n$/,
  )
})
