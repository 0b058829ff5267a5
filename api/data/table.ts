import { listOf, membersOf, textOf, wholeNumber } from '../check.js'
import { describe, fail } from '../error.js'
import { column, columnMembers, HELD } from '../tasks/series.js'

/** What a {@link DataTable} is made of. */
export interface TableParts {
  readonly rows: number
  readonly columns: Readonly<Record<string, Float64Array>>
  readonly texts: Readonly<Record<string, readonly string[]>>
  readonly missing: Readonly<Record<string, Uint8Array>>
  readonly time: Float64Array | undefined
  /** Names of columns and texts, in the order of the file. */
  readonly names: readonly string[]
}

/** Numbers by the name of their column, one for each row, NaN where one is missing; or what has such columns, as a {@link DataTable} has. */
export type TableLike = Readonly<Record<string, ArrayLike<number>>> | ColumnsWithTime

/** Columns, and the time of each row. */
export interface ColumnsWithTime {
  /** Numbers by the name of their column. */
  readonly columns: Readonly<Record<string, ArrayLike<number>>>
  /** The time of each row, in milliseconds since 1970. */
  readonly time?: ArrayLike<number>
}

/** What only this file may make a table from. */
const made = new WeakSet<object>()

/**
 * Columns of equal length by name: numbers, texts, and the time of each row. Parts of a table share its memory.
 *
 * @example
 * const table = await readTable('ETTh1.csv', { time: 'date' })
 * table.columns.OT, table.time[0], table.tail(336)
 */
export class DataTable {
  /** Number of rows. */
  readonly rows: number
  /** Columns of numbers by name, NaN where one is missing. */
  readonly columns: Readonly<Record<string, Float64Array>>
  /** Columns of text by name, empty where one is missing. */
  readonly texts: Readonly<Record<string, readonly string[]>>
  /** For columns with gaps, by name: 1 in each row whose value is missing. */
  readonly missing: Readonly<Record<string, Uint8Array>>
  /** The time of each row in milliseconds since 1970 (UTC), NaN where it is missing. */
  readonly time: Float64Array | undefined
  /** Names of the columns of numbers and text, in the order of the file. */
  readonly names: readonly string[]

  private constructor(parts: TableParts) {
    // JavaScript lets a caller get here with anything.
    if (typeof parts !== 'object' || parts === null || !made.has(parts))
      throw fail('ERR_S4_VALUE', 'DataTable', 'readTable(), readJsonl() or tableFrom()', 'new')
    this.rows = parts.rows
    this.columns = parts.columns
    this.texts = parts.texts
    this.missing = parts.missing
    this.time = parts.time
    this.names = parts.names
  }

  /** @internal */
  static of(parts: TableParts): DataTable {
    made.add(parts)
    return new DataTable(parts)
  }

  /** @internal */
  static is(x: unknown): x is DataTable {
    return typeof x === 'object' && x !== null && #part in x
  }

  /** The numbers of a column. `ERR_S4_DATA` where there is no such column of numbers. */
  column(name: string): Float64Array {
    const op = 'DataTable.column'
    textOf(op, 'name', name)
    const values = Object.hasOwn(this.columns, name) ? this.columns[name] : undefined
    if (values === undefined)
      throw fail('ERR_S4_DATA', op, `name of a column of numbers`, `'${name}' beside ${this.#list()}`)
    return values
  }

  #list(): string {
    return Object.keys(this.columns).join(', ') || 'none'
  }

  /** The first rows, 5 by default. */
  head(rows: number = 5): DataTable {
    wholeNumber('DataTable.head', 'rows', rows, 0, 2 ** 53 - 1)
    return this.#part(0, rows)
  }

  /** The last rows, 5 by default. */
  tail(rows: number = 5): DataTable {
    wholeNumber('DataTable.tail', 'rows', rows, 0, 2 ** 53 - 1)
    return this.#part(Math.max(0, this.rows - rows), this.rows)
  }

  /** The rows from `from` to before `to` (default all that follow). */
  slice(from: number, to: number = this.rows): DataTable {
    const op = 'DataTable.slice'
    wholeNumber(op, 'from', from, 0, this.rows)
    wholeNumber(op, 'to', to, from, this.rows)
    return this.#part(from, to)
  }

  #part(from: number, to: number): DataTable {
    const end = Math.min(to, this.rows)
    const each = <T, R>(record: Readonly<Record<string, T>>, part: (values: T) => R) =>
      Object.fromEntries(Object.entries(record).map(([name, values]) => [name, part(values)]))
    return DataTable.of({
      rows: end - from,
      columns: each(this.columns, (x) => x.subarray(from, end)),
      texts: each(this.texts, (x) => x.slice(from, end)),
      missing: each(this.missing, (x) => x.subarray(from, end)),
      time: this.time?.subarray(from, end),
      names: this.names,
    })
  }

  /** These columns alone, in this order, with the time. */
  select(names: readonly string[]): DataTable {
    const op = 'DataTable.select'
    const list = listOf(op, 'names', names).map((name) => textOf(op, 'each of names', name))
    const unknown = list.find((name) => !this.names.includes(name))
    if (unknown !== undefined || list.length === 0 || new Set(list).size !== list.length)
      throw fail(
        'ERR_S4_DATA',
        op,
        `names, each once, of ${this.names.join(', ')}`,
        unknown === undefined ? list.join(', ') || 'none' : `'${unknown}'`,
      )
    const chosen = <T>(record: Readonly<Record<string, T>>) =>
      Object.fromEntries(
        list.flatMap((name) => (Object.hasOwn(record, name) ? [[name, record[name] as T]] : [])),
      )
    return DataTable.of({
      rows: this.rows,
      columns: chosen(this.columns),
      texts: chosen(this.texts),
      missing: chosen(this.missing),
      time: this.time,
      names: list,
    })
  }
}

/** The table that a caller gave: one of ours, what has columns, or a record of them. Every array is read once. */
export function givenTable(op: string, what: string, x: unknown): DataTable {
  if (DataTable.is(x)) return x
  const members = membersOf(op, what, x, 'ERR_S4_DATA', HELD)
  const record = columnMembers(op, what, members)
  const names = Object.keys(record)
  if (names.length === 0) throw fail('ERR_S4_DATA', op, `${what} with at least one column`, 'none')
  const read = names.map((name) => [name, column(op, `column '${name}' of ${what}`, record[name])] as const)
  const rows = (read[0] as (typeof read)[0])[1].length
  for (const [name, values] of read)
    if (values.length !== rows)
      throw fail(
        'ERR_S4_DATA',
        op,
        `columns of ${what} with ${rows} rows, as '${names[0]}'`,
        `'${name}' with ${values.length}`,
      )
  const given = record === members ? undefined : members['time']
  const time = given === undefined ? undefined : timesOf(op, given, rows)
  return tableOfColumns(Object.fromEntries(read), time)
}

/** Times of rows, in milliseconds. */
function timesOf(op: string, x: unknown, rows: number): Float64Array {
  const times = column(op, 'time', x)
  if (times.length !== rows) throw fail('ERR_S4_DATA', op, `time of ${rows} rows`, times.length)
  return times
}

/** A table of columns of numbers, with masks for those that have gaps. */
export function tableOfColumns(
  columns: Readonly<Record<string, Float64Array>>,
  time?: Float64Array,
): DataTable {
  const names = Object.keys(columns)
  const masks = Object.entries(columns).flatMap(([name, values]) => {
    const mask = gapsOf(values)
    return mask === undefined ? [] : [[name, mask] as const]
  })
  return DataTable.of({
    rows: names.length === 0 ? 0 : (columns[names[0] as string] as Float64Array).length,
    columns,
    texts: {},
    missing: Object.fromEntries(masks),
    time,
    names,
  })
}

/** 1 where a number is missing; undefined where none is. */
export function gapsOf(values: Float64Array): Uint8Array | undefined {
  let mask: Uint8Array | undefined
  for (let i = 0; i < values.length; i++)
    if (Number.isNaN(values[i])) (mask ??= new Uint8Array(values.length))[i] = 1
  return mask
}

/** The columns of these names, or `usual` where none were named. */
export function columnNames(
  op: string,
  what: string,
  x: unknown,
  table: DataTable,
  usual: readonly string[],
): string[] {
  if (x === undefined) return [...usual]
  const list = listOf(op, what, x).map((name) => textOf(op, `each of ${what}`, name))
  const unknown = list.find((name) => !Object.hasOwn(table.columns, name))
  if (unknown !== undefined || new Set(list).size !== list.length)
    throw fail(
      'ERR_S4_VALUE',
      op,
      `${what}, each once, of the columns of numbers ${Object.keys(table.columns).join(', ')}`,
      unknown === undefined ? list.join(', ') : describe(unknown),
    )
  return list
}
