import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fitLinear, linearRmse, persistenceRmse, predictLinear } from '../src/demo/baseline.js'
import { scaleOf, standardise } from '../src/demo/series.js'

const csv = new URL('../../../data/ecg_mitdb208.csv', import.meta.url)
const rate = 360

test('persistence and AR(512) on the last minute of the electrocardiogram are the known figures', () => {
  const raw = Float64Array.from(readFileSync(csv, 'utf8').trim().split('\n').slice(1), Number)
  assert.equal(raw.length, 300 * rate)
  const train = 240 * rate
  const x = standardise(raw, scaleOf(raw, 0, train))
  const horizons = [1, 10, 36]
  const round = (v: number) => Number(v.toFixed(3))
  assert.deepEqual(
    horizons.map((h) => round(persistenceRmse(x, h, train, x.length))),
    [0.102, 0.63, 0.959],
  )
  const models = fitLinear(x, 512, horizons, 0, train)
  assert.deepEqual(
    models.map((m) => round(linearRmse(m, x, train, x.length))),
    [0.039, 0.541, 0.711],
  )
})

test('least squares finds the weights that made a series', () => {
  const x = new Float64Array(2000)
  let seed = 1
  const noise = () => (seed = (seed * 16807) % 2147483647) / 2147483647 - 0.5
  for (let t = 2; t < x.length; t++) x[t] = 0.3 + 1.2 * x[t - 1] - 0.5 * x[t - 2] + noise()
  const [one] = fitLinear(x, 2, [1])
  assert.ok(
    Math.abs(one.weights[0] - 1.2) < 0.05 &&
      Math.abs(one.weights[1] + 0.5) < 0.05 &&
      Math.abs(one.constant - 0.3) < 0.05,
  )
  // the residual is orthogonal to what it was fitted on
  let dot = 0
  let energy = 0
  for (let t = 1; t < x.length - 1; t++) {
    dot += (x[t + 1] - predictLinear(one, x, t)) * x[t]
    energy += x[t] * x[t]
  }
  assert.ok(Math.abs(dot) / energy < 1e-9)
})

test('a series that is too short is refused', () => {
  assert.throws(() => fitLinear(new Float64Array(100), 64, [1]), RangeError)
})
