// The data sets ETTh1 and ETTh2 with the protocol of the Informer paper: training, validation and test are 12, 4 and 4 months of 30
// days; errors are averaged over every window, in standard deviations of the training part.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const MONTH = 30 * 24
const ENDS = [12 * MONTH, 16 * MONTH, 20 * MONTH]
const PARTS = ['hour', 'weekday', 'day', 'year']

/** Reads a CSV file whose first column is a date: `{ time, columns }`, times and a Float64Array for each name. */
function readTable(path) {
  const [head, ...lines] = readFileSync(path, 'utf8').trim().split(/\r?\n/)
  const names = head.split(',')
  const cells = lines.map((line) => line.split(','))
  return {
    time: cells.map((row) => new Date(`${row[0].replace(' ', 'T')}Z`)),
    columns: Object.fromEntries(
      names.slice(1).map((name, i) => [name, Float64Array.from(cells, (row) => Number(row[i + 1]))]),
    ),
  }
}

/** The named parts of a date (hour, weekday, day of the month, time of the year), each as a point on a circle. */
function timeFeatures(date, parts) {
  const all = {
    hour: date.getUTCHours() / 24,
    weekday: date.getUTCDay() / 7,
    day: (date.getUTCDate() - 1) / 31,
    year: (date.getUTCMonth() + (date.getUTCDate() - 1) / 31) / 12,
  }
  return parts.flatMap((part) => [Math.sin(2 * Math.PI * all[part]), Math.cos(2 * Math.PI * all[part])])
}

/** A column standardised by the mean and (population) standard deviation of its training rows. */
function scaled(column) {
  const part = column.subarray(0, ENDS[0])
  const mean = part.reduce((a, b) => a + b, 0) / part.length
  const deviation = Math.sqrt(part.reduce((a, b) => a + (b - mean) ** 2, 0) / part.length)
  return Float32Array.from(column, (x) => (x - mean) / deviation)
}

/**
 * The forecasting task: windows of `lookBack` known hours and `horizon` hours to forecast, whose input values are 0 but whose times are
 * known. With `normalize`, a level is subtracted from each window and the rest divided by its standard deviation, and the forecast is
 * transformed back: the level is the mean of the known hours (`'mean'`) or their last value (`'last'`). `'none'` does not normalise.
 */
export function ett(
  folder,
  { file, columns, horizon, lookBack = 336, normalize = 'mean', times = PARTS } = {},
) {
  const path = [join(folder, file), join(folder, 'ETT-small', file)].find(existsSync)
  if (path === undefined) throw new Error(`${folder}: no ${file}`)
  const table = readTable(path)
  const names = columns ?? Object.keys(table.columns)
  const series = names.map((name) => scaled(table.columns[name]))
  const length = lookBack + horizon
  // The inputs of an hour: its values (0 where they are to be forecast), 1 where they are to be forecast, its time features.
  const width = names.length + 1 + 2 * times.length
  const frame = new Float32Array(table.time.length * width)
  table.time.forEach((date, t) => frame.set(timeFeatures(date, times), t * width + names.length + 1))

  /** The windows whose hours to forecast lie in a part (0 training, 1 validation, 2 test); their known hours may lie in the part before. */
  const starts = (part) => {
    const from = part === 0 ? 0 : ENDS[part - 1] - lookBack
    return Array.from({ length: ENDS[part] - from - length + 1 }, (_, i) => ({ start: from + i, length }))
  }
  const statistics = (column, start) => {
    if (normalize === 'none') return [0, 1]
    let [sum, squares] = [0, 0]
    for (let t = start; t < start + lookBack; t++) sum += column[t]
    const mean = sum / lookBack
    for (let t = start; t < start + lookBack; t++) squares += (column[t] - mean) ** 2
    const level = normalize === 'last' ? column[start + lookBack - 1] : mean
    return [level, Math.sqrt(squares / lookBack) + 0.05]
  }

  function batch(windows) {
    const [rows, outputs] = [windows.length, names.length]
    const input = new Float32Array(rows * length * width)
    const target = new Float32Array(rows * length * outputs)
    const weights = new Float32Array(rows * length)
    windows.forEach(({ start }, row) => {
      const from = row * length
      input.set(frame.subarray(start * width, (start + length) * width), from * width)
      series.forEach((column, k) => {
        const [mean, deviation] = statistics(column, start)
        for (let t = 0; t < lookBack; t++)
          input[(from + t) * width + k] = (column[start + t] - mean) / deviation
        for (let t = lookBack; t < length; t++)
          target[(from + t) * outputs + k] = (column[start + t] - mean) / deviation
      })
      for (let t = lookBack; t < length; t++) input[(from + t) * width + outputs] = 1
      weights.fill(1, from + lookBack, from + length)
    })
    return {
      input: { data: input, shape: [rows, length, width] },
      target: { data: target, shape: [rows, length, outputs] },
      weights,
    }
  }

  /** Sums of squared and absolute errors of a batch's forecast in scaled units, and their number. */
  function errors(windows, forecast) {
    const outputs = names.length
    const sums = { squared: 0, absolute: 0, count: windows.length * horizon * outputs }
    windows.forEach(({ start }, row) => {
      series.forEach((column, k) => {
        const [mean, deviation] = statistics(column, start)
        for (let t = lookBack; t < length; t++) {
          const error = forecast[(row * length + t) * outputs + k] * deviation + mean - column[start + t]
          sums.squared += error * error
          sums.absolute += Math.abs(error)
        }
      })
    })
    return sums
  }

  return {
    kind: 'forecast',
    model: { input: width, output: names.length },
    train: starts(0),
    batch,
    errors,
    validation: { name: 'validation', examples: starts(1) },
    tests: [{ name: 'test', examples: starts(2) }],
    summary: { columns: names, lookBack, horizon, train: starts(0).length, test: starts(2).length },
  }
}
