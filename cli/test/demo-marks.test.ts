import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Forecaster } from '../src/demo/forecaster.js'
import { calibrate, Detector, findMarks, type Mark } from '../src/demo/marks.js'
import { disturb, normalStretches, rate, type Stretch } from './beats.js'

const train = 240 * rate
const series = Float64Array.from(
  readFileSync(new URL('../../../data/ecg_mitdb208.csv', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .slice(1),
  Number,
)
const touches = (mark: Mark, { from, to }: Stretch, slack = 0) => mark.from < to + slack && mark.to > from

test(
  'a short run finds what was disturbed in the last minute, and leaves normal beats alone',
  { timeout: 300_000 },
  async () => {
    const forecaster = await Forecaster.create(series, train, 36, {
      mode: 's4',
      layers: 2,
      features: 32,
      state: 32,
      seed: 1,
      device: 'cpu',
    })
    const settings = { horizon: 36, window: 2048, batch: 4, updates: 150, lr: 1e-2, ssmLr: 4e-3, seed: 1 }
    for await (const { loss } of forecaster.train(series, train, settings)) assert.ok(Number.isFinite(loss))

    const surprise = async (x: Float64Array) => forecaster.surprise(await forecaster.outputs(x), x)
    const z = await surprise(series)
    const thresholds = forecaster.calibrate(z, train)
    const marks = findMarks(z, thresholds)

    const normal = normalStretches(series, train, series.length)
    const seconds = normal.reduce((sum, { from, to }) => sum + to - from, 0) / rate
    const wrong = marks.filter((mark) => normal.some((stretch) => touches(mark, stretch)))
    assert.ok(seconds > 15, `${seconds} seconds of normal beats`)
    assert.ok(
      wrong.length <= seconds / 10,
      `${wrong.length} false marks in ${seconds.toFixed(1)} seconds of normal beats`,
    )

    const { x, disturbances } = disturb(series, 20, train + rate, series.length - rate, 7)
    const after = findMarks(await surprise(x), thresholds)
    // found: a mark begins on it (or within 0.1 s of its end) that was not there before
    const fresh = after.filter((mark) => !marks.some((old) => Math.abs(old.peak - mark.peak) < 18))
    const found = disturbances.filter((disturbance) => fresh.some((mark) => touches(mark, disturbance, 36)))
    const missed = disturbances
      .filter((d) => !found.includes(d))
      .map(({ kind, from }) => `${kind} at ${(from / rate).toFixed(2)}`)
    assert.ok(found.length >= 18, `${found.length} of 20 found; missed: ${missed.join(', ')}`)
    console.log(
      `${found.length} of 20 disturbances found, ${wrong.length} false marks in ${seconds.toFixed(1)} seconds of normal beats`,
    )
    forecaster.dispose()
  },
)

test('thresholds come from the ordinary part, and the detector is the search one sample at a time', () => {
  const z = Float64Array.from({ length: 4000 }, (_, t) => Math.sqrt(2) * Math.sin(t * 1.7))
  const thresholds = calibrate(z, 0, 3000, { window: 5, quietWindow: 60, gap: 20, quantile: 0.99 })
  assert.deepEqual(findMarks(z.subarray(0, 3000), { ...thresholds, surprise: thresholds.surprise * 1.2 }), [])
  z[3300] = 40
  z.fill(0.001, 3500, 3700)
  const marks = findMarks(z, { ...thresholds, surprise: thresholds.surprise * 1.2 })
  assert.deepEqual(
    marks.map(({ kind }) => kind),
    ['surprise', 'flat'],
  )
  assert.ok(marks[0].from <= 3300 && marks[0].to > 3300 && marks[1].to >= 3700)
  const detector = new Detector(thresholds)
  for (let t = 0; t < 3299; t++) detector.push(z[t])
  detector.push(z[3299])
  assert.ok(detector.push(z[3300]).strength > 1)
})

test('a value that is not finite starts the windows again', () => {
  const detector = new Detector({
    options: { window: 2, quietWindow: 3, gap: 1, quantile: 0.9 },
    surprise: 1,
    quiet: 0.1,
  })
  assert.equal(detector.push(5).strength, 0)
  assert.ok(detector.push(5).strength > 1)
  assert.equal(detector.push(Number.NaN).strength, 0)
  assert.equal(detector.push(5).strength, 0)
})
