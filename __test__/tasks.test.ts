/** `s4-node/tasks`: forecasts and classifications from data to figures, on data whose law is known. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { Classifier, Forecaster, metrics, type TaskEvent } from 's4-node/tasks'
import { rejects, refuses } from './helpers.js'

const device = 'cpu'
const folder = mkdtempSync(join(tmpdir(), 's4-tasks-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** Numbers in [0, 1), the same for the same seed. */
function uniform(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

test('figures are those of NumPy, and of an integral', (t) => {
  const actual = [3, -0.5, 2, 7, 0]
  const predicted = Float32Array.of(2.5, 0, 2, 8, 0)
  const near = (x: number, want: number, tolerance = 1e-12) =>
    t.true(Math.abs(x - want) <= tolerance, `${x} ${want}`)
  near(metrics.mse(actual, predicted), 0.3)
  near(metrics.mae(actual, predicted), 0.4)
  near(metrics.smape(actual, predicted), 0.463030303030303)
  near(metrics.mase(actual, predicted, [1, 3, 2, 5, 4, 4]), 0.28571428571428575)
  near(metrics.mase(actual, predicted, [1, 3, 2, 5, 4, 4], 2), 0.26666666666666666)
  near(metrics.pinball(actual, predicted, 0.3), 0.24)
  near(metrics.quantileLoss(actual, [predicted, actual], [0.3, 0.9]), 0.24)
  // ∫ (Φ((x − mean)/sigma) − [x ≥ a])² dx by SciPy’s quad.
  near(metrics.crps(actual, [2, 0, 2, 6, 0], [1, 0.5, 2, 1.5, 0.1]), 0.400299210965746)
  const [a, p] = [
    [0, 1, 2, 2, 1, 0, 2],
    [0, 2, 2, 2, 1, 1, 0],
  ] as const
  near(metrics.accuracy(a, p), 4 / 7)
  const counts = metrics.confusion(a, p, 3)
  t.deepEqual(counts, [
    [1, 1, 0],
    [0, 1, 1],
    [1, 0, 2],
  ])
  const { perClass, macro, weighted } = metrics.f1(counts)
  for (const [i, want] of [0.5, 0.5, 2 / 3].entries()) near(perClass[i] as number, want)
  near(macro, 0.5555555555555555)
  near(weighted, 0.5714285714285714)
  const scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.1, 0.3, 0.3, 0.4]
  near(metrics.topK([0, 1, 1], scores, 1), 1 / 3)
  near(metrics.topK([0, 1, 1], scores, 2), 1 / 3)
  near(metrics.topK([1, 1, 0], scores, 2), 1)
})

/** The Hénon map with a slow wave, which no linear forecast tells; a second column that only follows it. */
function henon(rows: number): { x: Float64Array; copy: Float64Array } {
  const [x, copy] = [new Float64Array(rows), new Float64Array(rows)]
  let [a, b] = [0.3, 0.1]
  for (let t = 0; t < rows; t++) {
    ;[a, b] = [1 - 1.4 * a * a + 0.3 * b, a]
    x[t] = 100 + 5 * (a + 2 * Math.sin(t / 20))
    copy[t] = -3 * a
  }
  return { x, copy }
}

test('a nonlinear series is forecast better than by its linear baseline, saved, loaded and followed', async (t) => {
  const data = henon(2600)
  const events: TaskEvent[] = []
  const f = await Forecaster.fit(
    { x: data.x },
    { horizon: 4, device, threads: 2, epochs: 12, seed: 1, onEvent: (event) => events.push(event) },
  )
  const { model, linear, persistence, seasonalNaive } = f.scores!
  t.true(model.mse < 0.7 * linear!.mse, `${model.mse} of ${linear!.mse}`)
  t.true(linear!.mse < Math.min(persistence.mse, seasonalNaive?.mse ?? Infinity))
  t.is(events[0]!.type, 'plan')
  t.regex((events[0] as { text: string }).text, /horizon 4: look-back \d+/)
  t.is(events.at(-1)!.type, 'end')

  const seen = { x: data.x.subarray(0, 2000) }
  const { x } = await f.forecast(seen)
  t.is(x!.mean.length, 4)
  t.true(x!.sigma!.every((s) => s > 0))
  t.true(Math.abs(x!.mean[0]! - data.x[2000]!) < 4 * x!.sigma![0]!)

  // The figures of a backtest are those of its forecasts, in the data's unit: its scores are in training deviations.
  const { forecasts, scores } = await f.backtest({ x: data.x }, { from: 2100 })
  const errors = forecasts.flatMap(({ forecast, actual }) =>
    Array.from(actual['x']!, (value, k) => (value - forecast['x']!.mean[k]!) ** 2),
  )
  const mean = errors.reduce((sum, e) => sum + e, 0) / errors.length
  const train = data.x.subarray(0, 1820)
  const center = train.reduce((sum, v) => sum + v, 0) / train.length
  const variance = train.reduce((sum, v) => sum + (v - center) ** 2, 0) / train.length
  t.true(Math.abs(mean / variance / scores.model.mse - 1) < 1e-3, `${mean / variance} ${scores.model.mse}`)
  t.is(forecasts[0]!.row, 2100)
  t.deepEqual(
    Array.from(forecasts[0]!.actual['x']!.map(Math.fround)),
    Array.from(data.x.slice(2100, 2104).map(Math.fround)),
  )

  const file = join(folder, 'forecaster')
  await f.save(file)
  const loaded = await Forecaster.load(file, { device, threads: 2 })
  t.deepEqual([loaded.horizon, loaded.lookBack, loaded.targets, loaded.known], [4, f.lookBack, ['x'], []])
  t.deepEqual((await loaded.forecast(seen))['x']!.mean, x!.mean)

  // A stream expects what a forecast at that row says; a value that is far off is marked.
  const stream = loaded.stream()
  const rows = Array.from(data.x.subarray(1000, 1700), (value) => stream.push({ x: value }))
  const spike = stream.push({ x: data.x[1700]! + 60 })
  t.regex(JSON.stringify(spike), /"mark":"surprise"/)
  t.true(rows.slice(300).filter((row) => row.mark !== undefined).length < 20)
  for (const one of [f, loaded]) one.dispose()
  await rejects(t, 'ERR_S4_DISPOSED', f.forecast(seen))
})

test('several columns, gaps, covariates known ahead and quantiles', async (t) => {
  const rows = 900
  const random = uniform(3)
  const plan = Float64Array.from({ length: rows + 3 }, () => (random() < 0.2 ? 1 : 0))
  const load = Float64Array.from(
    { length: rows },
    (_, i) => 10 + 4 * plan[i]! + Math.sin(i / 6) + 0.1 * random(),
  )
  load[50] = NaN
  const other = load.map((v, i) => 0.5 * v + Math.cos(i / 6))
  const data = { load, other, plan: plan.subarray(0, rows) }
  const options = {
    horizon: 3,
    known: ['plan'],
    device,
    threads: 2,
    epochs: 8,
    predict: 'quantiles',
    season: 38,
  } as const
  const f = await Forecaster.fit(data, options)
  t.deepEqual([f.targets, f.known, f.season], [['load', 'other'], ['plan'], 38])
  t.true(f.scores!.model.mse < 0.5 * f.scores!.persistence.mse)
  const ahead = (values: number[]) => f.forecast(data, { known: { plan: values } })
  const [quiet, busy] = [await ahead([0, 0, 0]), await ahead([1, 1, 1])]
  for (let k = 0; k < 3; k++) {
    const lift = busy['load']!.mean[k]! - quiet['load']!.mean[k]!
    t.true(Math.abs(lift - 4) < 1.5, `a plan of 1 adds ${lift}`)
    const [low, high] = [quiet['load']!.quantiles!['0.1']![k]!, quiet['load']!.quantiles!['0.9']![k]!]
    t.true(low <= high)
  }
  await rejects(t, 'ERR_S4_DATA', f.forecast(data))
  await rejects(t, 'ERR_S4_DATA', f.forecast({ load, plan: data.plan }, { known: { plan: [0, 0, 0] } }))
  f.dispose()
})

test('quantiles are calibrated by held-out data: each lies above as many values as its level says', async (t) => {
  // A wave with noise of a skewed law, which a normal forecast would miss: −log u has its ninth decile at 2.3, its first at 0.1.
  const random = uniform(11)
  const rows = 4000
  const x = Float64Array.from({ length: rows }, (_, i) => 3 * Math.sin(i / 5) - Math.log(1 - random()))
  const levels = [0.1, 0.5, 0.9]
  const options = {
    horizon: 2,
    device,
    threads: 2,
    epochs: 3,
    predict: 'quantiles',
    levels,
    seed: 1,
  } as const
  using f = await Forecaster.fit({ x: x.subarray(0, 3000) }, options)
  const below = levels.map(() => 0)
  let windows = 0
  for (let at = 3000; at + 2 <= rows; at += 4) {
    const { quantiles } = (await f.forecast({ x: x.subarray(at - 500, at) }))['x']!
    for (let k = 0; k < 2; k++)
      levels.forEach((level, q) => (below[q]! += x[at + k]! <= quantiles![level]![k]! ? 1 : 0))
    windows++
  }
  // 500 values: the share has a deviation of 0.022 at ½; calibration by some hundred windows adds as much.
  levels.forEach((level, q) => {
    const share = below[q]! / (2 * windows)
    t.true(Math.abs(share - level) < 0.08, `${share} of the values below the level ${level}`)
  })
})

test('a rare class counts by its weight, labels are smoothed, and a validation says F1', async (t) => {
  const random = uniform(5)
  // Two levels that overlap; one example in ten is of the rare class.
  const made = (count: number) =>
    Array.from({ length: count }, (_, i) => {
      const label = i % 10 === 0 ? 'rare' : 'usual'
      const level = label === 'rare' ? 1 : 0
      return { input: Float64Array.from({ length: 12 }, () => level + 3 * (random() - 0.5)), label }
    })
  const [learned, held] = [made(300), made(300)]
  const options = { kind: 'series', device, threads: 2, epochs: 6, seed: 1, patience: 6 } as const
  const recall = async (more: object) => {
    const events: TaskEvent[] = []
    using c = await Classifier.fit(learned, { ...options, ...more, onEvent: (e) => events.push(e) })
    const { confusion, perplexity, loss, topK } = await c.evaluate(held, { topK: 1 })
    t.is(topK, (confusion[0]![0]! + confusion[1]![1]!) / 300)
    t.is(perplexity, Math.exp(loss))
    t.true(events.some((e) => e.type === 'epoch' && e.f1! >= 0 && e.f1! <= 1))
    const plan = events.find((e) => e.type === 'plan')!
    return { found: confusion[0]![0]! / 30, plan: plan.options }
  }
  const plain = await recall({})
  const balanced = await recall({ classWeights: 'balanced', labelSmoothing: 0.05 })
  // 255 examples are learned, 0.15 of each class are held for validation: 25 rare ones of 255, or 26.
  const [usual, rare] = String(balanced.plan['classWeights'])
    .split(' ')
    .map(Number)
    .toSorted((a, b) => a - b)
  t.true(rare! > 4.5 && rare! < 5.5 && usual! > 0.5 && usual! < 0.6, String(balanced.plan['classWeights']))
  t.is(balanced.plan['labelSmoothing'], 0.05)
  t.true(
    balanced.found > plain.found + 0.05,
    `${balanced.found} of the rare class are found, else ${plain.found}`,
  )
  const named = await recall({ classWeights: { rare: 5, usual: 0.55 } })
  t.is(named.plan['classWeights'], '5 0.55')
  for (const classWeights of [
    { rare: 1 },
    { rare: 1, usual: 1, other: 1 },
    { rare: 0, usual: 0 },
    { rare: -1, usual: 1 },
  ])
    await rejects(t, 'ERR_S4_VALUE', Classifier.fit(learned, { ...options, classWeights } as never))
  await rejects(t, 'ERR_S4_VALUE', Classifier.fit(learned, { ...options, labelSmoothing: 2 }))
})

test('a fit that is aborted goes on from its folder', async (t) => {
  const data = { x: henon(700).x }
  const run = { horizon: 2, device, threads: 1, epochs: 4, seed: 2, folder } as const
  const controller = new AbortController()
  const cut = Forecaster.fit(data, {
    ...run,
    signal: controller.signal,
    onEvent: (event) => event.type === 'epoch' && event.epoch === 2 && controller.abort(),
  })
  await rejects(t, 'ERR_S4_ABORTED', cut)
  const epochs: number[] = []
  const resumed = await Forecaster.fit(data, {
    ...run,
    resume: true,
    onEvent: (event) => event.type === 'epoch' && epochs.push(event.epoch),
  })
  t.deepEqual(epochs, [3, 4])
  const whole = await Forecaster.fit(data, { ...run, folder: undefined })
  t.deepEqual((await resumed.forecast(data))['x'], (await whole.forecast(data))['x'])
  t.deepEqual(resumed.scores, whole.scores)
})

/** Tones of three pitches in noise, of any length, at a sampling rate that may be `rate` times lower. */
function tones(count: number, seed: number, rate = 1): { input: Float32Array; label: string }[] {
  const random = uniform(seed)
  return Array.from({ length: count }, (_, i) => {
    const label = ['low', 'middle', 'high'][i % 3] as string
    const hertz = [250, 500, 1000][i % 3]! * (0.95 + 0.1 * random())
    const [phase, level] = [7 * random(), 0.3 + random()]
    const length = Math.round((800 + 800 * random()) / rate)
    const input = Float32Array.from(
      { length },
      (__, s) => level * Math.sin((2 * Math.PI * hertz * s * rate) / 8000 + phase) + 0.2 * (random() - 0.5),
    )
    return { input, label }
  })
}

test('sounds are told apart, at half the sampling rate too, saved, loaded and heard in a stream', async (t) => {
  const options = { sampleRate: 8000, device, threads: 2, epochs: 6, seed: 1 } as const
  const c = await Classifier.fit(tones(90, 1), options)
  t.deepEqual(c.classes, ['high', 'low', 'middle'])
  const scores = await c.evaluate(tones(30, 2))
  t.true(scores.accuracy >= 0.9, `${scores.accuracy}`)
  t.is(
    scores.confusion.flat().reduce((a, b) => a + b),
    30,
  )
  const half = await c.evaluate(tones(30, 3, 2), { rate: 2 })
  t.true(half.accuracy >= 0.9, `at 4 kHz ${half.accuracy}`)
  const file = join(folder, 'classifier')
  await c.save(file)
  const loaded = await Classifier.load(file, { device, threads: 2 })
  const inputs = tones(6, 4).map(({ input }) => input)
  t.deepEqual(await loaded.predict(inputs), await c.predict(inputs))
  const stream = loaded.stream({ window: 1200, hop: 300 })
  const sound = Float32Array.from(
    { length: 9000 },
    (_, s) => 0.8 * Math.sin((2 * Math.PI * (s < 4500 ? 250 : 1000) * s) / 8000),
  )
  const reported = [sound.subarray(0, 777), sound.subarray(777)]
    .flatMap((piece) => stream.push(piece))
    .filter((w) => w.report)
  t.deepEqual(
    reported.map((w) => w.label).filter((label) => label !== 'middle'),
    ['low', 'high'],
  )
  t.deepEqual((await loaded.predict(inputs)).length, 6)
  await rejects(t, 'ERR_S4_DATA', c.evaluate([{ input: inputs[0]!, label: 'shrill' }]))
  for (const one of [c, loaded]) one.dispose()
})

test('series of several channels and pictures', async (t) => {
  const random = uniform(9)
  const series = Array.from({ length: 40 }, (_, i) => {
    const length = 20 + Math.floor(30 * random())
    const data = Float32Array.from(
      { length: 2 * length },
      (__, k) => (k % 2 === i % 2 ? Math.sin(k / 3) : 0) + 0.1 * random(),
    )
    return { input: { data, shape: [length, 2] }, label: i % 2 }
  })
  const c = await Classifier.fit(series, { device, threads: 2, epochs: 15 })
  t.true((await c.evaluate(series)).accuracy >= 0.95)
  await rejects(t, 'ERR_S4_SHAPE', c.predict([{ data: [1, 2, 3], shape: [1, 3] }]))
  const pictures = Array.from({ length: 40 }, (_, i) => {
    const data = Float32Array.from(
      { length: 64 },
      (__, k) => ((i % 2 === 0 ? k % 8 : Math.floor(k / 8)) < 4 ? 1 : 0) + 0.2 * random(),
    )
    return { input: { data, shape: [8, 8, 1] }, label: i % 2 === 0 ? 'left' : 'top' }
  })
  const p = await Classifier.fit(pictures, { device, threads: 2, epochs: 15 })
  t.true((await p.evaluate(pictures)).accuracy >= 0.95)
  refuses(t, 'ERR_S4_UNSUPPORTED', () => p.stream())
  await rejects(t, 'ERR_S4_UNSUPPORTED', p.predict([pictures[0]!.input], { rate: 2 }))
})

test('too little data is refused before any work', async (t) => {
  await rejects(t, 'ERR_S4_DATA', Forecaster.fit({ x: [1, 2, 3] }, { horizon: 2, device }))
  await rejects(t, 'ERR_S4_DATA', Forecaster.fit({ x: [1, 2, 3], y: [1, 2] }, { horizon: 1, device }))
  await rejects(t, 'ERR_S4_VALUE', Forecaster.fit({ x: [1, 2, 3] }, { horizon: 0, device }))
  await rejects(t, 'ERR_S4_DATA', Classifier.fit([], { device }))
  await rejects(t, 'ERR_S4_DATA', Classifier.fit([{ input: [1, 2], label: 'a' }], { device }))
})
