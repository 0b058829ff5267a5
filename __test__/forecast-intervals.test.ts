/** Forecasters of tables whose rows came at uneven times: what the network is handed, what is forecast for which time, what is refused. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { SequenceModel, type Batch } from 's4-node'
import { Forecaster, type ForecastOptions, type TaskEvent } from 's4-node/tasks'
import { noise, refuses, rejects } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-forecast-intervals-'))
test.after.always(() => {
  fitted.dispose()
  rmSync(folder, { recursive: true })
})

const BEGIN = Date.UTC(2024, 0, 1)
const MINUTE = 60_000
/** What is measured, at a time in minutes. */
const law = (t: number) =>
  Math.sin((2 * Math.PI * t) / 9) +
  0.7 * Math.sin((2 * Math.PI * t) / 5.3 + 1) +
  0.5 * Math.sin((2 * Math.PI * t) / 23)

/** The law sampled at random times, 0.2 to 1.8 minutes apart, whole milliseconds. */
function sampled(rows: number, seed = 4) {
  let now = 0
  const minutes = Array.from(noise(rows, seed), (r) => (now += 0.2 + 0.8 * (1 + r)))
  const time = Float64Array.from(minutes, (t) => BEGIN + Math.round(t * MINUTE))
  return { columns: { x: time.map((ms) => law((ms - BEGIN) / MINUTE)) }, time }
}

/** The rows from..to of a table. */
const part = ({ columns: { x }, time }: ReturnType<typeof sampled>, from: number, to?: number) => ({
  columns: { x: x.subarray(from, to) },
  time: time.subarray(from, to),
})

const options: ForecastOptions = {
  horizon: 4,
  device: 'cpu',
  threads: 1,
  seed: 1,
  epochs: 2,
  features: 8,
  layers: 1,
  state: 8,
  lookBack: 32,
}
const data = sampled(700)
const events: TaskEvent[] = []
let fitted: Forecaster
test.before(async () => {
  fitted = await Forecaster.fit(data, { ...options, onEvent: (event) => events.push(event) })
})
/** The median of the differences of the first 490 rows, those that are learned from. */
const usual = Float64Array.from({ length: 489 }, (_, t) => data.time[t + 1] - data.time[t]).toSorted()[244]

/** The value of the table at a time, on the line between its rows. */
function between(ms: number, { columns: { x }, time } = data): number {
  const i = time.findIndex((t) => t >= ms)
  if (time[i] === ms) return x[i]
  return x[i - 1] + ((ms - time[i - 1]) / (time[i] - time[i - 1])) * (x[i] - x[i - 1])
}

test.serial(
  'at random times it is far better than what takes rows as evenly spaced, by the law itself',
  async (t) => {
    const table = sampled(1500)
    const errorOf = async (intervals: boolean | 'auto') => {
      using f = await Forecaster.fit(table, { ...options, lookBack: 64, features: 16, state: 16, intervals })
      let [sum, count] = [0, 0]
      for (let at = 1300; at < 1490; at += 7) {
        const { mean } = (await f.forecast(part(table, at - 100, at)))['x']!
        const last = (table.time[at - 1] - BEGIN) / MINUTE
        const step = (f.interval ?? MINUTE) / MINUTE
        mean.forEach((x, k) => (sum += (x - law(last + (k + 1) * step)) ** 2))
        count += mean.length
      }
      return sum / count
    }
    const [taken, ignored] = [await errorOf('auto'), await errorOf(false)]
    // The mean square of the law is ½(1 + 0.49 + 0.25) = 0.87.
    t.true(ignored > 0.2, `${ignored}`)
    t.true(taken < 0.1 * ignored, `${taken} of ${ignored}`)
  },
)

test.serial(
  'the usual interval is the median of the training part, told by the plan; months and jitter are even',
  async (t) => {
    t.is(fitted.interval, usual)
    const plan = events.find((event) => event.type === 'plan')!
    t.is(plan.options['interval'], usual)
    t.regex(
      plan.text,
      /uneven times: the usual interval, [\d.]+ (s|min), counts as 1, and intervals are 0\.2\d* to 1\.\d+$/,
    )
    const x = data.columns.x.subarray(0, 300)
    const even = async (time: Float64Array | undefined, intervals?: boolean) => {
      using f = await Forecaster.fit({ columns: { x }, time }, { ...options, epochs: 1, intervals })
      return [f.interval, Array.from((await f.forecast({ columns: { x }, time }))['x']!.mean)] as const
    }
    const [none, plain] = await even(undefined)
    t.is(none, undefined)
    const months = Float64Array.from({ length: 300 }, (_, i) => Date.UTC(1990, i))
    const jitter = Float64Array.from(noise(300, 2), (r, i) => BEGIN + 1000 * (i + 0.04 * r))
    for (const time of [months, jitter]) t.deepEqual(await even(time), [undefined, plain])
    // Asked for, even times are taken too: each interval is 1, and the regular network.
    const regular = Float64Array.from({ length: 300 }, (_, i) => BEGIN + 1000 * i)
    const [second, asked] = await even(regular, true)
    t.is(second, 1000)
    asked.forEach((value, k) => t.true(Math.abs(value - plain[k]) < 1e-3, `${value} ${plain[k]}`))
    const [skipped] = await even(data.time.subarray(0, 300), false)
    t.is(skipped, undefined)
  },
)

/** Gives what one of the model's methods is called with while `work` goes on. */
async function calls<T>(name: 'train' | 'predict' | 'inspect', work: () => Promise<unknown>): Promise<T[][]> {
  const own = SequenceModel.prototype as unknown as Record<string, (...args: unknown[]) => unknown>
  const former = own[name]
  const seen: unknown[][] = []
  own[name] = function (this: unknown, ...args: unknown[]) {
    seen.push(name === 'train' ? [[...(args[0] as Iterable<Batch>)]] : args)
    return former.apply(this, name === 'train' ? [seen.at(-1)![0], ...args.slice(1)] : args)
  }
  try {
    await work()
  } finally {
    own[name] = former
  }
  return seen as T[][]
}

test.serial(
  'the network is handed the differences of the stamps, of the rows that are its windows',
  async (t) => {
    const stamps = Float32Array.from(data.time, (ms, i) => (i === 0 ? 1 : (ms - data.time[i - 1]) / usual))
    // Values in deviations of the first 490 rows.
    const learned = data.columns.x.subarray(0, 490)
    const mean = learned.reduce((a, b) => a + b, 0) / 490
    const deviation = Math.sqrt(learned.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 490)
    const scaled = data.columns.x.map((v) => (v - mean) / deviation)
    /** The row that a sequence begins with, found by its intervals; its values are then those of these rows. */
    const check = (intervals: Float32Array, input: Float32Array, length: number) => {
      const begin = stamps.findIndex((_, s) =>
        [1, 2, 3, 4, 5].every((i) => Math.abs(stamps[s + i] - intervals[i]) < 1e-6),
      )
      t.true(begin >= 0, 'these intervals are those of some rows')
      for (let i = 0; i < length; i++)
        t.true(Math.abs(intervals[i] - stamps[begin + i]) < 1e-6, `row ${begin + i}`)
      for (const row of [begin + 40, begin + length - 1].filter((r) => r < begin + length)) {
        const window = scaled.subarray(row - 31, row + 1)
        const level = window.reduce((a, b) => a + b, 0) / 32
        const spread = Math.sqrt(window.reduce((sum, v) => sum + (v - level) ** 2, 0) / 32) + 0.05
        const want = (scaled[row] - level) / spread
        t.true(Math.abs(input[3 * (row - begin)] - want) < 1e-4, `value of row ${row}`)
      }
      return begin
    }
    const trained = await calls<Batch[]>('train', async () =>
      (await Forecaster.fit(data, { ...options, epochs: 1 })).dispose(),
    )
    const begins = new Set<number>()
    for (const batches of trained)
      for (const { input, intervals } of batches[0]) {
        const [count, length] = input.shape as [number, number]
        t.is((intervals as Float32Array).length, count * length)
        for (let row = 0; row < count; row++)
          begins.add(
            check(
              (intervals as Float32Array).subarray(row * length, (row + 1) * length),
              (input.data as Float32Array).subarray(3 * row * length, 3 * (row + 1) * length),
              length,
            ),
          )
      }
    t.true(begins.size > 20, 'windows begin anywhere')
    const asked = await calls<{ data: Float32Array; intervals: Float32Array; shape: number[] }>(
      'predict',
      () => fitted.forecast(part(data, 600, 660)),
    )
    const [{ data: input, shape }, { intervals }] = asked[0]
    // A forecast is made from the last look-back of rows.
    t.deepEqual(shape, [1, 60, 3])
    t.is(check(intervals.subarray(0, 32), input.subarray(0, 96), 32), 628)
  },
)

test.serial('a stream expects of each row what is forecast for its time', async (t) => {
  for (const begin of [0, 111, 300]) {
    using stream = fitted.stream()
    const rows = Array.from({ length: 33 }, (_, i) =>
      stream.push({ x: data.columns.x[begin + i] }, { time: data.time[begin + i] }),
    )
    const at = data.time[begin + 32]
    const { mean, sigma } = (await fitted.forecast(part(data, begin, begin + 32), { at: [at] }))['x']!
    const last = rows.at(-1)!
    t.is(last.time, at)
    t.true(Math.abs(last.expected['x'] - mean[0]) < 1e-4, `${last.expected['x']} ${mean[0]}`)
    t.true(Math.abs(last.sigma['x'] - sigma![0]) < 1e-4)
    t.true(Number.isNaN(rows[0].expected['x']))
  }
  using stream = fitted.stream()
  const followed = Array.from(data.columns.x.subarray(0, 600), (x, i) =>
    stream.push({ x }, { time: data.time[i] }),
  )
  const errors = followed.slice(100).map(({ expected }, i) => (expected['x'] - data.columns.x[100 + i]) ** 2)
  t.true(errors.reduce((a, b) => a + b, 0) / errors.length < 0.1)
  const spike = stream.push({ x: 30 }, { time: data.time[600] })
  t.regex(JSON.stringify(spike), /"mark":"surprise"/)
  // What is refused leaves the stream as it was.
  for (const time of [undefined, NaN, data.time[600], data.time[0]])
    refuses(t, 'ERR_S4_DATA', () => stream.push({ x: 1 }, { time }))
  t.is(stream.push({ x: data.columns.x[601] }, { time: data.time[601] }).row, 601)
})

test.serial('steps are usual intervals; times in between are on the line between steps', async (t) => {
  const seen = part(data, 0, 500)
  const last = data.time[499]
  const { mean, sigma } = (await fitted.forecast(seen))['x']!
  const at = [0.5, 1, 1.25, 3, 4].map((steps) => last + steps * usual)
  const named = (await fitted.forecast(seen, { at }))['x']!
  const line = (from: number, to: number, share: number) => from + share * (to - from)
  const want = [
    line(data.columns.x[499], mean[0], 0.5),
    mean[0],
    line(mean[0], mean[1], 0.25),
    mean[2],
    mean[3],
  ]
  want.forEach((x, k) => t.true(Math.abs(named.mean[k] - x) < 1e-6, `${k}: ${named.mean[k]} ${x}`))
  const spread = [sigma![0], sigma![0], line(sigma![0], sigma![1], 0.25), sigma![2], sigma![3]]
  spread.forEach((x, k) => t.true(Math.abs(named.sigma![k] - x) < 1e-6))
  for (const wrong of [[last], [last - 1], [last + 5 * usual], [last + usual, last + usual], [NaN]])
    await rejects(t, 'ERR_S4_VALUE', fitted.forecast(seen, { at: wrong }))
  await rejects(t, 'ERR_S4_DATA', fitted.forecast(seen, { at: [] }))
  await rejects(t, 'ERR_S4_DATA', fitted.forecast({ x: data.columns.x }))
})

test.serial(
  'a backtest is by time: its truth on the line between rows, its figures by hand, gaps left out',
  async (t) => {
    const { forecasts, scores } = await fitted.backtest(data, { from: 600, stride: 1 })
    const late = data.time.at(-1)!
    /** Rows after which four usual intervals are over by the last one. */
    const origins = Array.from(data.time.keys()).filter((r) => r >= 599 && data.time[r] + 4 * usual <= late)
    t.deepEqual(
      forecasts.map(({ row }) => row),
      origins.map((r) => r + 1),
    )
    const learned = data.columns.x.subarray(0, 490)
    const mean = learned.reduce((a, b) => a + b, 0) / 490
    const variance = learned.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 490
    let [model, persistence] = [0, 0]
    for (const { row, forecast, actual, time } of forecasts)
      actual['x'].forEach((came, k) => {
        t.true(Math.abs(time![k] - (data.time[row - 1] + (k + 1) * usual)) < 1e-3)
        t.true(Math.abs(came - between(time![k])) < 1e-6)
        model += (came - forecast['x'].mean[k]) ** 2
        persistence += (came - data.columns.x[row - 1]) ** 2
      })
    const count = 4 * forecasts.length * variance
    t.is(scores.windows, forecasts.length)
    t.true(Math.abs(model / count / scores.model.mse - 1) < 1e-3)
    t.true(Math.abs(persistence / count / scores.persistence.mse - 1) < 1e-6)
    // Ten minutes without a row: what lies in them is not known, and no window with it is counted.
    const gap = { columns: data.columns, time: data.time.map((ms, i) => (i < 650 ? ms : ms + 10 * MINUTE)) }
    const cut = await fitted.backtest(gap, { from: 600, stride: 1 })
    const within = cut.forecasts.filter(({ actual }) => actual['x'].some(Number.isNaN))
    const crossing = cut.forecasts.filter(({ row, time }) => row <= 650 && time![3] > gap.time[649])
    t.true(within.length > 0)
    t.deepEqual(within, crossing)
    t.is(cut.scores.windows, cut.forecasts.length - within.length)
    const { windows } = await fitted.evaluate(gap, { from: 600 })
    t.is(windows, cut.scores.windows)
  },
)

test.serial(
  'it is saved and loaded with its interval; a run goes on with the same times alone',
  async (t) => {
    const file = join(folder, 'saved')
    await fitted.save(file)
    using loaded = await Forecaster.load(file, { device: 'cpu', threads: 1 })
    t.is(loaded.interval, usual)
    const seen = part(data, 400, 470)
    t.deepEqual(await loaded.forecast(seen), await fitted.forecast(seen))
    const run = { ...options, folder: join(folder, 'run') }
    mkdirSync(run.folder)
    ;(await Forecaster.fit(data, { ...run, epochs: 1 })).dispose()
    using resumed = await Forecaster.fit(data, { ...run, resume: true })
    t.deepEqual((await resumed.forecast(seen))['x'].mean.length, 4)
    const other = { columns: data.columns, time: data.time.map((ms, i) => ms + (i > 600 ? 1000 : 0)) }
    await rejects(t, 'ERR_S4_CHECKPOINT', Forecaster.fit(other, { ...run, resume: true }))
  },
)

test.serial('covariates that are known ahead are taken by time, in forecasts and in streams', async (t) => {
  const table = sampled(900, 9)
  const plan = (ms: number) => Math.sin((ms - BEGIN) / MINUTE / 3) + Math.cos((ms - BEGIN) / MINUTE / 1.7)
  const known = table.time.map(plan)
  // The plan of the same time is a part of the value, the law another.
  const x = table.columns.x.map((v, i) => 0.3 * v + 2 * known[i])
  using f = await Forecaster.fit(
    { columns: { x, plan: known }, time: table.time },
    { ...options, known: ['plan'], epochs: 1 },
  )
  const interval = f.interval!
  const errors: number[] = []
  for (let at = 800; at < 880; at += 5) {
    const last = table.time[at - 1]
    const stamps = [1, 2, 3, 4].map((k) => last + k * interval)
    const ahead = stamps.map(plan)
    const seen = {
      columns: { x: x.subarray(0, at), plan: known.subarray(0, at) },
      time: table.time.subarray(0, at),
    }
    const { mean } = (await f.forecast(seen, { known: { plan: ahead } }))['x']!
    mean.forEach((value, k) =>
      errors.push((value - 0.3 * law((stamps[k] - BEGIN) / MINUTE) - 2 * plan(stamps[k])) ** 2),
    )
  }
  // The plan has a mean square of 4: it is told by the covariate, at its time.
  t.true(
    errors.reduce((a, b) => a + b, 0) / errors.length < 0.15,
    `${errors.reduce((a, b) => a + b, 0) / errors.length}`,
  )
  using stream = f.stream({ known: { plan: [0, 1, 2, 3].map((k) => plan(table.time[0] + k * interval)) } })
  const late = Array.from({ length: 300 }, (_, i) =>
    stream.push({ x: x[i], plan: plan(table.time[i] + 4 * interval) }, { time: table.time[i] }),
  ).slice(100)
  const streamed =
    late.reduce((sum, { row, expected }) => sum + (expected['x'] - x[row]) ** 2, 0) / late.length
  t.true(streamed < 0.3, `${streamed}`)
})

test.serial(
  'stamps that do not go up, or are missing, are refused with their row before any work',
  async (t) => {
    const wrong = (row: number, ms: number) => ({
      columns: data.columns,
      time: data.time.map((own, i) => (i === row ? ms : own)),
    })
    const twice = wrong(200, data.time[199])
    const late = wrong(200, data.time[150])
    const none = wrong(200, NaN)
    for (const [table, said] of [
      [
        twice,
        /later in every row than in the one before, or intervals: false, got 2024-\d\d-\d\dT[\d:.]+Z in row 200 after 2024/,
      ],
      [late, /in row 200 after 2024/],
      [none, /time of data in every row, or intervals: false, got number NaN in row 200/],
    ] as const) {
      const told: TaskEvent[] = []
      const error = await t.throwsAsync(Forecaster.fit(table, { ...options, onEvent: (e) => told.push(e) }))
      t.is((error as { code?: string }).code, 'ERR_S4_DATA')
      t.regex(error!.message, said)
      t.deepEqual(told, [])
      await rejects(t, 'ERR_S4_DATA', fitted.evaluate(table))
      using f = await Forecaster.fit(table, { ...options, epochs: 1, intervals: false })
      t.is(f.interval, undefined)
      await rejects(t, 'ERR_S4_UNSUPPORTED', f.forecast(table, { at: [Date.now()] }))
      refuses(t, 'ERR_S4_UNSUPPORTED', () => f.stream().push({ x: 1 }, { time: 1 }))
    }
    await rejects(t, 'ERR_S4_DATA', Forecaster.fit({ x: data.columns.x }, { ...options, intervals: true }))
    await rejects(t, 'ERR_S4_DATA', Forecaster.fit([data, { x: data.columns.x }], options))
    await rejects(t, 'ERR_S4_DATA', Forecaster.fit({ ...data, time: data.time.subarray(1) }, options))
    await rejects(t, 'ERR_S4_VALUE', Forecaster.fit(data, { ...options, intervals: 'always' as never }))
  },
)

test.serial('inspection sees what a forecast sees, and the seconds between rows', async (t) => {
  const seen = part(data, 300, 332)
  type Call = {
    data: { data: Float32Array; shape: number[] }
    intervals: Float32Array
    samplingInterval: number
  }
  const [[inspected]] = await calls<Call>('inspect', () => fitted.inspect(seen))
  const [[input, more]] = await calls<unknown>('predict', () => fitted.forecast(seen))
  const { intervals } = more as { intervals: Float32Array }
  t.deepEqual([inspected.data, inspected.intervals], [input, intervals] as never)
  t.is(inspected.samplingInterval, usual / 1000)
  const { length, influence, text } = await fitted.inspect(part(data, 0, 500))
  // Three look-backs of 32 rows.
  t.deepEqual([length, influence!.shape], [96, [1, 96]])
  t.true(influence!.data.every((x) => x >= 0) && influence!.data.at(-1)! > 0)
  t.regex(text, /^for sequences of 96 steps \(1\.\d+ h\)/)
  // Of even rows the seconds are those of the times, where there are some.
  const x = data.columns.x.subarray(0, 300)
  const time = Float64Array.from(x, (_, i) => BEGIN + 250 * i)
  using even = await Forecaster.fit({ x }, { ...options, epochs: 1 })
  t.is((await even.inspect({ columns: { x }, time })).samplingInterval, 0.25)
  t.is((await even.inspect({ x })).samplingInterval, undefined)
  t.is((await even.inspect({ columns: { x }, time }, { samplingInterval: 3 })).samplingInterval, 3)
  await rejects(t, 'ERR_S4_DATA', even.inspect({ x: x.subarray(0, 9) }))
})

test.serial('each epoch tells one forecast of its validation part, the same window', async (t) => {
  const x = data.columns.x.subarray(0, 400)
  const told: TaskEvent[] = []
  using f = await Forecaster.fit(
    { x, y: x.map((v) => 100 - 2 * v) },
    { ...options, onEvent: (e) => told.push(e) },
  )
  const epochs = told.flatMap((e) => (e.type === 'epoch' ? [e.forecast!] : []))
  t.is(epochs.length, 2)
  for (const { series, row, past, actual, mean } of epochs) {
    t.deepEqual([series, row], [0, epochs[0].row])
    // Rows 280 to 320 are the validation part; its middle.
    t.true(row > 294 && row < 304, `${row}`)
    for (const [name, own] of [
      ['x', (v: number) => v],
      ['y', (v: number) => 100 - 2 * v],
    ] as const) {
      const near = (a: number[], from: number) =>
        a.forEach((v, i) => t.true(Math.abs(v - own(x[from + i])) < 1e-4, `${name} ${v}`))
      t.deepEqual([past[name].length, actual[name].length, mean[name].length], [8, 4, 4])
      near(past[name], row - 8)
      near(actual[name], row)
    }
  }
  // The last epoch’s, where it is the one that is kept, is what the forecaster says of these rows.
  if (told.findLast((e) => e.type === 'epoch')!.best) {
    const { row, mean } = epochs[1]
    const made = await f.forecast({ x: x.subarray(0, row), y: x.subarray(0, row).map((v) => 100 - 2 * v) })
    mean['x'].forEach((v, k) => t.true(Math.abs(v - made['x'].mean[k]) < 0.05, `${v} ${made['x'].mean[k]}`))
  } else t.pass()
})
