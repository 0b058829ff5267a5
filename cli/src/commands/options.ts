/** Options that several commands have, and the reading of a series. */
import { choices, readCsv, S4Error } from 's4-node'
import type { Args } from '../args.js'
import type { RunOptions } from '../verify/cases.js'

export const deviceOptions = {
  device: { type: 'string' },
  threads: { type: 'string' },
  precision: { type: 'string' },
} as const

export function deviceOf(args: Args): Omit<RunOptions, 'dtype' | 'algorithm'> {
  const device = args.oneOf('device', choices.device)
  const precision = args.oneOf('precision', choices.precision)
  const threads = args.text('threads') === undefined ? undefined : args.count('threads', 1)
  return { ...(device && { device }), ...(precision && { precision }), ...(threads && { threads }) }
}

export const seriesOptions = {
  column: { type: 'string' },
  gaps: { type: 'string' },
  header: { type: 'string' },
} as const

const HEADERS = { auto: 'auto', true: true, false: false } as const

/**
 * Reads one column of a CSV file. `--column` is its name, or where no column has that name its number from 0; `trainedColumn` stands for
 * an option that is not given.
 */
export async function readSeries(path: string, args: Args, trainedColumn?: string): Promise<Float64Array> {
  const gaps = args.oneOf('gaps', choices.gaps)
  const word = args.oneOf('header', Object.keys(HEADERS) as (keyof typeof HEADERS)[])
  const header = word && HEADERS[word]
  const read = (column?: string | number) =>
    readCsv(path, {
      ...(column !== undefined && { column }),
      ...(gaps && { gaps }),
      ...(header !== undefined && { header }),
    })
  const column = args.text('column') ?? trainedColumn
  // Without a header a number can only be a place.
  if (header === false && column !== undefined && /^\d+$/.test(column)) return read(Number(column))
  try {
    return read(column)
  } catch (error) {
    // Only the error of a column that does not exist lists the columns it expected; others name the row of a bad value.
    const missing = error instanceof S4Error && /(^|: )column .*: expected one of /.test(error.got)
    if (column === undefined || !/^\d+$/.test(column) || !missing) throw error
    return read(Number(column))
  }
}
