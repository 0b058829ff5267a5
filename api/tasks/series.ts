// The series that a forecaster is given: columns of equal length, several tables of the same columns, gaps as NaN.
import { describe, membersOf } from '../check.js'
import { fail, readGiven } from '../error.js'

/** Columns of equal length by name, one row a time step. NaN stands for a missing value. */
export type Columns = Record<string, ArrayLike<number>>

/** What has such columns, as a table of `s4-node/data`. */
export interface ColumnHolder {
  /** The columns by name. */
  readonly columns: Readonly<Columns>
  /** The time of each row, in milliseconds since 1970. Where times are uneven, a forecaster takes the intervals between them. */
  readonly time?: ArrayLike<number> | undefined
}

/** A table that was given: its columns, read, and its times as they are. */
export interface GivenTable {
  readonly columns: Record<string, Float64Array>
  readonly time: unknown
}

/** One series, or several that were recorded apart, with the same columns. */
export type SeriesData = Columns | ColumnHolder | readonly (Columns | ColumnHolder)[]

/** A series as the forecaster computes with it: a row for each time step, in scaled units. */
export interface ScaledSeries {
  readonly length: number
  /** The columns to forecast, gaps filled. */
  readonly targets: readonly Float64Array[]
  /** The covariates that are known ahead, which may be longer than the targets. */
  readonly known: readonly Float64Array[]
  /** For each time step 1 where a value of the targets was missing; undefined where none was. */
  readonly missing: Uint8Array | undefined
}

/** Mean and deviation of a column in the training part. */
export interface Scale {
  readonly mean: number
  readonly deviation: number
}

/** Which columns a forecaster takes, and how they are scaled. */
export interface ColumnPlan {
  readonly targets: readonly string[]
  readonly known: readonly string[]
  readonly scales: Readonly<Record<string, Scale>>
}

const LARGEST = 1e30

/** The numbers of a column, NaN where one is missing. */
export function column(op: string, what: string, x: unknown): Float64Array {
  const data = readGiven(op, what, () => {
    const length: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<number>).length : undefined
    if (!Number.isSafeInteger(length) || (length as number) < 0 || (length as number) > 2 ** 31 - 1)
      throw fail('ERR_S4_DATA', op, `${what} as an array of numbers`, describe(x))
    if (ArrayBuffer.isView(x) && x.byteLength === 0)
      throw fail('ERR_S4_DATA', op, `${what} with at least one number`, 'none')
    if (Object.prototype.toString.call(x) === '[object DataView]')
      throw fail('ERR_S4_DATA', op, `${what} as an array of numbers`, 'a DataView')
    return x as ArrayLike<unknown>
  })
  const length = readGiven(op, what, () => data.length)
  if (length === 0) throw fail('ERR_S4_DATA', op, `${what} with at least one number`, 'none')
  // What only says that it is so long has no elements: look before room is made for them.
  element(op, what, data, 0)
  element(op, what, data, length - 1)
  const out = new Float64Array(length)
  for (let t = 0; t < length; t++) out[t] = element(op, what, data, t)
  return out
}

function element(op: string, what: string, data: ArrayLike<unknown>, t: number): number {
  const value: unknown = readGiven(op, what, () => data[t])
  if (typeof value !== 'number' || Math.abs(value) > LARGEST)
    throw fail(
      'ERR_S4_DATA',
      op,
      `${what} of numbers up to 1e30, NaN where one is missing`,
      `${describe(value)} in row ${t}`,
    )
  return value
}

/** The tables that a caller gave, each a record of columns; every name and array is read once. */
export function tablesOf(op: string, what: string, x: unknown): GivenTable[] {
  const list = readGiven(op, what, () => (Array.isArray(x) ? Array.from(x as unknown[]) : [x]))
  if (list.length === 0) throw fail('ERR_S4_DATA', op, `${what} with at least one series`, 'none')
  return list.map((table) => timedTable(op, what, table))
}

/** One table: a record of columns of equal length, and the times of its rows where it holds both. */
export function timedTable(op: string, what: string, x: unknown): GivenTable {
  const given = membersOf(op, what, x, 'ERR_S4_DATA', HELD)
  const members = columnMembers(op, what, given)
  const names = Object.keys(members)
  if (names.length === 0) throw fail('ERR_S4_DATA', op, `${what} with at least one column`, 'none')
  const columns = names.map((name) => [name, column(op, `column '${name}' of ${what}`, members[name])])
  return {
    columns: Object.fromEntries(columns) as Record<string, Float64Array>,
    time: members === given ? undefined : given['time'],
  }
}

/** The columns of one table. */
export const tableOf = (op: string, what: string, x: unknown): Record<string, Float64Array> =>
  timedTable(op, what, x).columns

/** Members of what has columns. */
export const HELD = ['columns', 'time'] as const

/** The columns among an object's members: those under `columns`, unless that is a column itself. */
export function columnMembers(
  op: string,
  what: string,
  members: Record<string, unknown>,
): Record<string, unknown> {
  const held = members['columns']
  const isColumn = readGiven(
    op,
    'columns',
    () =>
      typeof held !== 'object' || held === null || typeof (held as { length?: unknown }).length === 'number',
  )
  return isColumn ? members : membersOf(op, `columns of ${what}`, held, 'ERR_S4_DATA')
}

/** The numbers of a table's column `name`, which must be there. */
export function columnNamed(op: string, table: Record<string, Float64Array>, name: string): Float64Array {
  const values = Object.hasOwn(table, name) ? table[name] : undefined
  if (values === undefined)
    throw fail(
      'ERR_S4_DATA',
      op,
      `data with a column '${name}'`,
      `the columns ${Object.keys(table).join(', ')}`,
    )
  return values
}

/** Mean and population standard deviation of the values that are there; 1 in the place of a deviation of 0. */
export function scaleOf(parts: readonly Float64Array[]): Scale {
  let [count, sum] = [0, 0]
  for (const part of parts) for (const x of part) if (!Number.isNaN(x)) [count, sum] = [count + 1, sum + x]
  const mean = count === 0 ? 0 : sum / count
  let squares = 0
  for (const part of parts) for (const x of part) if (!Number.isNaN(x)) squares += (x - mean) ** 2
  const deviation = count === 0 ? 0 : Math.sqrt(squares / count)
  return { mean, deviation: deviation > Math.abs(mean) * 1e-12 && deviation > 1e-30 ? deviation : 1 }
}

/**
 * A table in scaled units. A missing value of a target, or of a covariate, becomes the one before it (at the start the
 * mean). Covariates may go on beyond the targets, by `ahead` rows where these are needed.
 */
export function scaledSeries(
  op: string,
  table: Record<string, Float64Array>,
  { targets, known, scales }: ColumnPlan,
): ScaledSeries {
  const given = targets.map((name) => columnNamed(op, table, name))
  const length = (given[0] as Float64Array).length
  given.forEach((values, i) => {
    if (values.length !== length)
      throw fail(
        'ERR_S4_DATA',
        op,
        `columns of data with ${length} rows, as '${targets[0]}'`,
        `'${targets[i]}' with ${values.length}`,
      )
  })
  let missing: Uint8Array | undefined
  const scaled = given.map((values, i) =>
    filled(values, scales[targets[i] as string] as Scale, (t) => {
      missing ??= new Uint8Array(length)
      missing[t] = 1
    }),
  )
  const covariates = known.map((name) => {
    const values = columnNamed(op, table, name)
    if (values.length < length)
      throw fail('ERR_S4_DATA', op, `column '${name}' of data with at least ${length} rows`, values.length)
    return filled(values, scales[name] as Scale, () => undefined)
  })
  return { length, targets: scaled, known: covariates, missing }
}

function filled(values: Float64Array, { mean, deviation }: Scale, onGap: (t: number) => void): Float64Array {
  const out = new Float64Array(values.length)
  let last = 0
  values.forEach((x, t) => {
    if (Number.isNaN(x)) onGap(t)
    else last = (x - mean) / deviation
    out[t] = last
  })
  return out
}

/** The rows from `from` to `to` of a table's columns; covariates keep what follows them. */
export function rowsOf(
  table: Record<string, Float64Array>,
  from: number,
  to?: number,
): Record<string, Float64Array> {
  return Object.fromEntries(Object.entries(table).map(([name, values]) => [name, values.subarray(from, to)]))
}
