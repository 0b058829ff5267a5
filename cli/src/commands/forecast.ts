import { writeFileSync } from 'node:fs'
import type { ColumnHolder, Forecast, Forecaster } from 's4-node/tasks'
import { stampOf } from '../data/stamp.js'
import type { TableLike } from '../data/table.js'
import { readOneTable, tableSpecs } from '../data/tables.js'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import { csv, number } from '../output.js'
import { loadForecaster } from '../run/load.js'
import type { Command } from './command.js'

export const forecast: Command = {
  name: 'forecast',
  summary: 'what comes after the last row of a table',
  operands: [
    { name: 'RUN', help: 'folder of a run, or its best.safetensors' },
    { name: 'DATA', help: 'table with the rows before' },
  ],
  options: [
    {
      name: 'knownAhead',
      kind: 'text',
      word: 'file',
      help: 'table with the columns that are known ahead, for the rows to forecast',
      otherwise: 'none',
    },
    {
      name: 'at',
      kind: 'names',
      word: 'a,b',
      help: 'times to forecast, ascending, of a forecaster of uneven times: ISO 8601 (UTC), or milliseconds since 1970',
      otherwise: 'the usual intervals after the last row',
    },
    { name: 'out', kind: 'text', word: 'file', help: 'file to write', otherwise: 'standard output' },
    jsonSpec,
    ...tableSpecs,
    ...deviceSpecs,
  ],
  notes: `Prints lines step,time,column,mean,low,high: low and high are two deviations from the mean, or the outer quantiles; the time is empty
where --time names no column of the data. A forecaster of uneven times needs --time; its steps are the usual intervals of its training.`,
  async run({ operands: [run, data], values }) {
    const forecaster = await loadForecaster(run as string, deviceOf(values))
    try {
      const table = await readOneTable(data as string, values)
      // The table of what is known ahead is written alike, but need not have the other columns.
      const { time: _time, columns: _columns, ...ofValues } = values
      const ahead = values['knownAhead'] as string | undefined
      const known = ahead === undefined ? undefined : (await readOneTable(ahead, ofValues)).columns
      const at = (values['at'] as string[] | undefined)?.map((text) => stampOf(text, '--at'))
      const made = await forecaster.forecast(lastRows(table, forecaster), {
        ...(known && { known }),
        ...(at && { at }),
      })
      const times = at?.map((ms) => new Date(ms).toISOString()) ?? timesAhead(table, forecaster)
      const text = values['json'] ? JSON.stringify(asJson(made, times)) : asLines(made, times)
      const out = values['out'] as string | undefined
      if (out === undefined) console.log(text)
      else writeFileSync(out, `${text}\n`)
      return 0
    } finally {
      forecaster.dispose()
    }
  },
}

/** The last rows of the columns that a forecaster takes: it looks back three look-backs at most. */
function lastRows(
  { columns, rows, time }: TableLike,
  { targets, known, lookBack }: Forecaster,
): ColumnHolder {
  const from = Math.max(0, rows - 3 * lookBack)
  const own = [...targets, ...known]
    .filter((name) => columns[name] !== undefined)
    .map((name): [string, Float64Array] => [name, columns[name]!.subarray(from)])
  return { columns: Object.fromEntries(own), time: time?.subarray(from) }
}

/** Rows whose times tell the step from one to the next. */
const ROWS_OF_A_RHYTHM = 10

/** The times of the steps ahead: usual intervals, or as the last rows are where these are evenly spaced. */
function timesAhead({ time }: TableLike, { horizon, interval }: Forecaster): (string | undefined)[] {
  const ends = time === undefined ? [] : Array.from(time.slice(-ROWS_OF_A_RHYTHM))
  const step = interval ?? (ends.length < 2 ? NaN : ends[1]! - ends[0]!)
  // Months, and weeks with their ends left out, have no step of their own.
  const isEven =
    interval !== undefined || (step > 0 && ends.every((t, i) => i === 0 || step === t - ends[i - 1]!))
  const last = ends.at(-1)!
  return Array.from({ length: horizon }, (_, k) =>
    isEven ? new Date(last + (k + 1) * step).toISOString() : undefined,
  )
}

function bands(made: Forecast, name: string) {
  const { mean, sigma, quantiles } = made[name]!
  const outer = quantiles && Object.values(quantiles)
  return {
    mean,
    low: outer?.[0] ?? mean.map((m, k) => m - 2 * (sigma?.[k] ?? 0)),
    high: outer?.at(-1) ?? mean.map((m, k) => m + 2 * (sigma?.[k] ?? 0)),
  }
}

function asLines(made: Forecast, times: readonly (string | undefined)[]): string {
  const lines = ['step,time,column,mean,low,high']
  const names = Object.keys(made)
  const all = names.map((name) => bands(made, name))
  const steps = all[0]!.mean.length
  for (let k = 0; k < steps; k++)
    names.forEach((name, c) => {
      const { mean, low, high } = all[c]!
      lines.push(csv([k + 1, times[k] ?? '', name, number(mean[k]!), number(low[k]!), number(high[k]!)]))
    })
  return lines.join('\n')
}

function asJson(made: Forecast, times: readonly (string | undefined)[]): object {
  const columns = Object.entries(made).map(([name, { mean, sigma, quantiles }]) => [
    name,
    {
      mean: Array.from(mean),
      ...(sigma && { sigma: Array.from(sigma) }),
      ...(quantiles && {
        quantiles: Object.fromEntries(Object.entries(quantiles).map(([level, x]) => [level, Array.from(x)])),
      }),
    },
  ])
  return { ...(times[0] !== undefined && { times }), columns: Object.fromEntries(columns) as object }
}
