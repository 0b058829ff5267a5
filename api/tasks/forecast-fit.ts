// The making of a forecaster: columns, scales, the linear forecast, the network's training, calibration.
import { fail } from '../error.js'
import { SequenceModel } from '../model.js'
import { bestShare, calibrationOf, markThresholds, shareSums } from './forecast-calibration.js'
import type { ForecastAbout } from './forecast-file.js'
import {
  centreOf,
  LeftOver,
  trainingBatches,
  type ForecastParts,
  type Part,
  type RawForecast,
} from './forecast-network.js'
import { splitEnds, type CheckedForecastOptions } from './forecast-options.js'
import { intervalRange, isUneven, stampsOf, usualInterval } from './clock.js'
import { forecastPlan, planText, type ForecastPlan } from './forecast-plan.js'
import { valueAhead, fitLinearForecast, LinearFilter } from './linear-forecast.js'
import { naiveScale } from './metrics.js'
import { dataDigest } from './data-digest.js'
import { deviceOf, type EpochForecast } from './options.js'
import { inputWidth, movesOf, preparedTable, type NetworkScales } from './prepared.js'
import { seasonOf } from './season.js'
import { columnNamed, scaleOf, type ColumnPlan, type GivenTable, type Scale } from './series.js'
import { courseOf, resumed, runTraining } from './training.js'

/** A forecaster that was just trained, and the windows of its test part: time steps at whose end a forecast is made. */
export interface Fitted {
  readonly model: SequenceModel
  readonly about: ForecastAbout
  readonly test: readonly Part[]
}

/** The columns that are forecast and those that are known, with scales by the rows before `ends`. */
function columnPlan(
  op: string,
  tables: readonly GivenTable[],
  ends: readonly number[],
  { targets: given, known }: CheckedForecastOptions,
): ColumnPlan {
  const [first] = tables as [GivenTable]
  const targets = given ?? Object.keys(first.columns).filter((name) => !known.includes(name))
  if (targets.length === 0)
    throw fail('ERR_S4_VALUE', op, 'targets of at least one column', 'none beside known')
  const both = targets.find((name) => known.includes(name))
  if (both !== undefined) throw fail('ERR_S4_VALUE', op, 'targets that are not among known', `'${both}'`)
  const scales: Record<string, Scale> = {}
  for (const name of [...targets, ...known]) {
    const parts = tables.map(({ columns }, i) => columnNamed(op, columns, name).subarray(0, ends[i]))
    if (parts.every((part) => part.every(Number.isNaN)))
      throw fail('ERR_S4_DATA', op, `column '${name}' of data with values in the training part`, 'none')
    scales[name] = scaleOf(parts)
  }
  return { targets, known, scales }
}

/** Parts of series as time steps at whose end a whole forecast of values in [from, to) is made. */
export function originsOf(parts: readonly Part[], lookBack: number, horizon: number): Part[] {
  return parts
    .map(({ series, from, to }) => ({
      series,
      from: Math.max(from - 1, lookBack - 1),
      to: series.clock === undefined ? to - horizon : series.clock.lastOrigin(to, horizon),
    }))
    .filter(({ from, to }) => to > from)
}

/**
 * The usual interval in milliseconds, and the range of all in usual ones, where the network is to take them: as the option says, or
 * where the times of the rows are uneven.
 */
function intervalsOf(
  op: string,
  tables: readonly GivenTable[],
  { lengths, trainEnds }: { lengths: readonly number[]; trainEnds: readonly number[] },
  wanted: boolean | 'auto',
): { usual: number; range: [number, number] } | undefined {
  if (wanted === false || (wanted === 'auto' && tables.every(({ time }) => time === undefined)))
    return undefined
  const bare = tables.findIndex(({ time }) => time === undefined)
  if (bare >= 0)
    throw fail(
      'ERR_S4_DATA',
      op,
      'data with the time of each row, for intervals',
      `series ${bare} of data without`,
    )
  const hint = wanted === 'auto' ? ', or intervals: false' : ''
  const stamps = tables.map(({ time }, i) =>
    stampsOf(op, time, lengths[i] as number, hint).subarray(0, lengths[i]),
  )
  const usual = usualInterval(stamps.map((ms, i) => ms.subarray(0, trainEnds[i])))
  if (usual === undefined || (wanted === 'auto' && !isUneven(stamps, usual))) return undefined
  return { usual, range: intervalRange(stamps, usual) }
}

/** At most about `most` windows of these parts. */
export const strideFor = (origins: readonly Part[], most: number): number =>
  Math.max(1, Math.ceil(origins.reduce((sum, { from, to }) => sum + to - from, 0) / Math.max(most, 1)))

export async function fitForecaster(
  op: string,
  tables: readonly GivenTable[],
  options: CheckedForecastOptions,
): Promise<Fitted> {
  const { horizon, split, predict, levels, signal, onEvent } = options
  const lengths = tables.map(({ columns }) => (Object.values(columns)[0] as Float64Array).length)
  const ends = lengths.map((length) => splitEnds(length, split))
  const trainEnds = ends.map(([end]) => end)
  const columns = columnPlan(op, tables, trainEnds, options)
  const intervals = intervalsOf(op, tables, { lengths, trainEnds }, options.intervals)
  const interval = intervals?.usual
  const size = {
    longest: Math.max(...trainEnds),
    rows: trainEnds.reduce((a, b) => a + b, 0),
    targets: columns.targets.length,
    horizon,
  }
  const plan = forecastPlan(size, options)
  const { lookBack } = plan
  if (size.longest < lookBack + horizon + 1)
    throw fail(
      'ERR_S4_DATA',
      op,
      `data with a training part of at least ${lookBack + horizon + 1} rows (lookBack + horizon + 1)`,
      size.longest,
    )
  const all = tables.map((table) => preparedTable(op, table, columns, lookBack, interval))
  const partOf = (
    from: (e: [number, number, number]) => number,
    to: (e: [number, number, number]) => number,
  ) => all.map((series, i) => ({ series, from: from(ends[i]!), to: to(ends[i]!) }))
  const learned = partOf(
    () => 0,
    ([a]) => a,
  ).filter(({ to }) => to >= lookBack + horizon + 1)
  const validation = originsOf(
    partOf(
      ([a]) => a,
      ([, b]) => b,
    ),
    lookBack,
    horizon,
  )
  const test = originsOf(
    partOf(
      ([, b]) => b,
      ([, , c]) => c,
    ),
    lookBack,
    horizon,
  )
  if (validation.length === 0)
    throw fail(
      'ERR_S4_DATA',
      op,
      `data with a validation part of at least ${horizon} ${interval === undefined ? 'rows' : 'usual intervals'}`,
      'fewer: see the option split',
    )
  const chosen = { ...plan, predict, ...(interval !== undefined && { interval }) }
  onEvent({ type: 'plan', options: chosen, text: planText(plan, size, intervals) })

  const sizes = { lookBack, horizon, known: columns.known.length }
  const linear = fitLinearForecast(sizes, originsOf(learned, lookBack, horizon), validation)
  const filter = new LinearFilter(linear, size.targets)
  const left = new LeftOver(learned, filter, horizon)
  const scales = {
    lookBack,
    horizon,
    linear,
    moves: movesOf(
      learned.map(({ series }) => series),
      learned.map(({ to }) => to),
    ),
    // As a file holds them, so that a loaded forecaster forecasts the same.
    residuals: left.residuals(lookBack).map(Math.fround),
  }
  const given = [
    JSON.stringify([
      columns.targets,
      columns.known,
      ends,
      horizon,
      predict,
      levels,
      ...(interval === undefined ? [] : [interval]),
    ]),
    ...all.flatMap((series) => [
      ...series.targets,
      ...series.known,
      ...(series.missing ? [series.missing] : []),
      ...(series.clock ? [series.clock.times] : []),
    ]),
  ]
  const data = options.folder === undefined ? undefined : await dataDigest(op, given, signal)
  const model = await trainedNetwork(op, options, plan, { learned, validation, left, scales, data, columns })
  try {
    const stride = strideFor(validation, 600)
    const centre = predict === 'quantiles' ? centreOf(levels) : 0
    const { share } = bestShare(await shareSums(model, scales, validation, { stride, centre, signal }))
    const parts: Omit<ForecastParts, 'calibration'> = {
      ...scales,
      targets: size.targets,
      predicted: predict,
      levels: predict === 'quantiles' ? levels : [],
      share,
    }
    const whole = { ...parts, calibration: await calibrationOf(model, parts, validation, stride) }
    const past = (i: number) =>
      columns.targets.map((_, c) => {
        const { targets, clock } = all[i]!
        const x = (targets[c] as Float64Array).subarray(0, trainEnds[i])
        return clock === undefined ? x : clock.even(x, x.length)
      })
    const longest = trainEnds.indexOf(size.longest)
    const season = options.season ?? seasonOf(past(longest))
    return {
      model,
      test,
      about: {
        ...columns,
        parts: whole,
        season,
        interval,
        naiveScales: past(longest).map((x) => (x.length > season ? naiveScale(x, season) : 1)),
        thresholds: await markThresholds(model, whole, validation),
      },
    }
  } catch (error) {
    model.dispose()
    throw error
  }
}

interface NetworkData {
  readonly learned: readonly Part[]
  readonly validation: readonly Part[]
  readonly left: LeftOver
  readonly scales: Parameters<typeof shareSums>[1]
  readonly data: string | undefined
  readonly columns: ColumnPlan
}

/** The network with its best parameters. */
async function trainedNetwork(
  op: string,
  options: CheckedForecastOptions,
  plan: ForecastPlan,
  { learned, validation, left, scales, data, columns }: NetworkData,
): Promise<SequenceModel> {
  const { predict, levels, seed, signal } = options
  const device = deviceOf(options)
  const { targets, known } = (learned[0] as Part).series
  const begun = await resumed(op, options, device, data)
  const made =
    begun?.model ??
    (await SequenceModel.create({
      ...device,
      input: inputWidth(targets.length, known.length),
      output: targets.length * scales.horizon,
      features: plan.features,
      layers: plan.layers,
      state: plan.state,
      mode: plan.mode,
      dropout: plan.dropout,
      dtMax: 0.5,
      loss: ({ mean: 'mse', gaussian: 'gaussian', quantiles: 'quantile' } as const)[predict],
      ...(predict === 'quantiles' && { quantiles: levels }),
      seed,
    }))
  const stride = strideFor(validation, 800)
  const centre = predict === 'quantiles' ? centreOf(levels) : 0
  const { model } = await runTraining(
    made,
    {
      ...courseOf(op, plan, options),
      data,
      batches: (epoch) => trainingBatches(learned, left, scales, { ...plan, seed }, epoch),
      validate: async (network) => {
        const sums = await shareSums(network, scales, validation, { stride, centre, signal })
        const { mse, share } = bestShare(sums)
        const forecast =
          sums.middle && epochForecast(sums.middle, validation, columns, { ...scales, share, centre })
        return { figure: mse, figures: { mse, ...(forecast && { forecast }) } }
      },
    },
    begun?.state,
  )
  return model
}

/** Targets that an event has a forecast of. */
const SHOWN = 4

/** A forecast of a validation part, for the event of its epoch. */
function epochForecast(
  { part, origin, linear, outputs }: RawForecast,
  parts: readonly Part[],
  { targets, scales }: ColumnPlan,
  { horizon, residuals, share, centre }: NetworkScales & { share: number; centre: number },
): EpochForecast {
  const { series } = parts[part] as Part
  const steps = Array.from({ length: horizon }, (_, k) => k)
  const byColumn = (of: (c: number, x: Float64Array) => number[]) =>
    Object.fromEntries(
      targets.slice(0, SHOWN).map((name, c) => {
        const { mean, deviation } = scales[name] as Scale
        return [name, of(c, series.targets[c] as Float64Array).map((x) => x * deviation + mean)]
      }),
    )
  const isGap = (t: number) => series.missing?.[t] === 1
  return {
    series: part,
    row: origin + 1,
    past: byColumn((_, x) => {
      const from = Math.max(0, origin + 1 - 2 * horizon)
      return Array.from(x.subarray(from, origin + 1), (value, i) => (isGap(from + i) ? NaN : value))
    }),
    actual: byColumn((_, x) => steps.map((k) => valueAhead(series, x, origin, 1 + k))),
    mean: byColumn((c) =>
      steps.map((k) => {
        const i = k * targets.length + c
        const unit = (series.statistics[c]!.deviation[origin] as number) * (residuals[i] as number)
        const output = outputs[centre * horizon * targets.length + i] as number
        return (linear[i] as number) + unit * share * output
      }),
    ),
  }
}
