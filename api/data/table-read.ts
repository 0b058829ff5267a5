// Text tables from files, bytes and streams.
import * as binding from '#binding'
import { inBackground, type AbortOptions } from '../background.js'
import { listOf, membersOf, oneOf, rejectUnknownOptions, textOf, wholeNumber } from '../check.js'
import { callNative, callNativeAsync, describe, fail } from '../error.js'
import {
  byteBlocks,
  givenSource,
  isOnceSource,
  nameOf,
  pathOrBytes,
  walkable,
  type DataSource,
  type GivenSource,
} from './source.js'
import { DataTable } from './table.js'

/** What a column holds. */
export type ColumnType = 'number' | 'time' | 'text'
const kinds: readonly ColumnType[] = ['number', 'time', 'text']
const signs = ['.', ','] as const

/** How a text table is written. What is not said is found out from its first lines. */
export interface TableFormat {
  /** The columns to read, in this order: names of the header, or places from 0. Default all. */
  columns?: readonly (string | number)[]
  /** The column of times: its name, or its place from 0. Default the first column of dates, if there is one. */
  time?: string | number
  /** What columns hold, by name: `'number'`, `'time'` or `'text'`. */
  types?: Readonly<Record<string, ColumnType>>
  /** Whether the first line holds names. Default `'auto'`; where columns are named it does. */
  header?: boolean | 'auto'
  /** The byte between fields. Default the one of tab, `;`, `|` and `,` that all lines have alike. */
  delimiter?: string
  /** The sign before a fraction: `'.'` or `','`. */
  decimal?: '.' | ','
  /** More words for a missing value, beside nothing, `NaN`, `NA`, `N/A`, `null` and `None`. */
  missing?: readonly string[]
  /** Time zone of times without an offset, as the IANA names it: `'Europe/Berlin'`. Default UTC. */
  zone?: string
  /** Format of times in the letters of strptime: `'%m/%d/%Y'`. Default ISO 8601 and what else has one meaning. */
  timeFormat?: string
}

/** Options of {@link tableRows}. */
export interface TableRowsOptions extends TableFormat {
  /** Rows of each table, but for the last. Default 4096. */
  batch?: number
}

const NAMES = [
  'columns',
  'time',
  'types',
  'header',
  'delimiter',
  'decimal',
  'missing',
  'zone',
  'timeFormat',
] as const

/** A checked format, as the addon takes it, and the column of times. */
interface GivenFormat {
  readonly native: binding.TableFormat
  readonly time: string | number | undefined
}

function columnChoice(op: string, what: string, x: unknown): { name?: string; index?: number } {
  return typeof x === 'string' ? { name: x } : { index: placeOf(op, what, x) }
}

function placeOf(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number')
    throw fail('ERR_S4_VALUE', op, `${what} as a name or a place from 0`, describe(x))
  return wholeNumber(op, what, x, 0, 2 ** 31)
}

/** Whether fields can be separated by it. */
function isDelimiter(text: string): boolean {
  const code = text.charCodeAt(0)
  return text.length === 1 && code > 0 && code < 128 && !'"\r\n'.includes(text)
}

function givenFormat(op: string, options: TableFormat): GivenFormat {
  const { columns, time, types, header = 'auto', delimiter, decimal, missing, zone, timeFormat } = options
  if (header !== 'auto' && typeof header !== 'boolean')
    throw fail('ERR_S4_VALUE', op, "header true, false or 'auto'", describe(header))
  if (delimiter !== undefined && !isDelimiter(textOf(op, 'delimiter', delimiter)))
    throw fail(
      'ERR_S4_VALUE',
      op,
      'delimiter as one ASCII character, no quote and no end of line',
      describe(delimiter),
    )
  if (decimal !== undefined) oneOf(op, 'decimal', decimal, signs)
  if (zone !== undefined) textOf(op, 'zone', zone)
  if (timeFormat !== undefined) textOf(op, 'timeFormat', timeFormat)
  const words = missing === undefined ? [] : listOf(op, 'missing', missing)
  words.forEach((word) => textOf(op, 'each of missing', word))
  const ofNames = types === undefined ? [] : Object.entries(membersOf(op, 'types', types))
  const kindOf = ofNames.map(([name, kind]) => ({
    name,
    kind: oneOf(op, `types of '${name}'`, kind, kinds),
  }))
  const timeColumn =
    time === undefined ? undefined : { ...columnChoice(op, 'time', time), kind: 'time' as const }
  const chosen =
    columns === undefined
      ? undefined
      : listOf(op, 'columns', columns).map((x) => columnChoice(op, 'each of columns', x))
  if (chosen?.length === 0) throw fail('ERR_S4_VALUE', op, 'columns, at least one', 'none')
  const isTimeChosen = chosen?.some((c) => c.name === timeColumn?.name && c.index === timeColumn?.index)
  if (chosen !== undefined && timeColumn !== undefined && !isTimeChosen) chosen.push(timeColumn)
  return {
    native: {
      ...(chosen !== undefined && { columns: chosen }),
      kinds: timeColumn === undefined ? kindOf : [...kindOf, timeColumn],
      ...(header !== 'auto' && { header }),
      ...(delimiter !== undefined && { delimiter }),
      ...(decimal !== undefined && { decimal }),
      missing: words as string[],
      ...(zone !== undefined && { zone }),
      ...(timeFormat !== undefined && { timeFormat }),
    },
    time,
  }
}

/** A table of what the addon has read. */
function tableOfData(
  op: string,
  data: binding.TableData,
  time: string | number | undefined,
  file: string | undefined,
): DataTable {
  const isTime = (c: binding.ColumnData) =>
    c.kind === 'time' && (time === undefined || c.name === time || c.index === time)
  const times = data.columns.find(isTime)
  const others = data.columns.filter((c) => c !== times)
  const names = others.map((c) => c.name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined)
    throw fail(
      'ERR_S4_DATA',
      op,
      'columns of different names (or header: false)',
      `${placeIn(file)}row 1: column '${twice}' twice`,
    )
  const entries = <T>(pick: (c: binding.ColumnData) => T | null | undefined) =>
    Object.fromEntries(
      others.flatMap((c) => {
        const value = pick(c)
        return value === undefined || value === null ? [] : [[c.name, value]]
      }),
    )
  return DataTable.of({
    rows: data.rows,
    columns: entries((c) => c.numbers),
    texts: entries(
      (c) => c.texts && Array.from(c.codes as Int32Array, (k) => (c.texts as string[])[k] as string),
    ),
    missing: entries((c) => c.missing),
    time: times?.numbers,
    names,
  })
}

/**
 * Reads a table of text, such as CSV: columns of numbers, texts and times. `ERR_S4_DATA` with file, row and column where a
 * field is not what its column holds, or a line has another number of fields.
 *
 * @example
 * const table = await readTable('ETTh1.csv', { time: 'date' })
 * const piped = await readTable(process.stdin, { delimiter: ';', decimal: ',' })
 */
export async function readTable(
  source: DataSource,
  options: TableFormat & AbortOptions = {},
): Promise<DataTable> {
  const op = 'readTable'
  const { signal, ...format } = rejectUnknownOptions(op, options, [...NAMES, 'signal'])
  const { native, time } = givenFormat(op, format)
  const given = givenSource(op, 'source', source)
  const from = await pathOrBytes(op, 'source', given, signal)
  const read = () =>
    typeof from === 'string' ? binding.readTable(from, native) : binding.readTableBytes(from, native)
  const table = tableOfData(op, await inBackground(op, read, signal), time, nameOf(given))
  if (table.rows === 0) throw noRows(op, given)
  return table
}

const placeIn = (file: string | undefined) => (file === undefined ? '' : `${file}: `)
const noRows = (op: string, source: GivenSource) =>
  fail('ERR_S4_DATA', op, 'source with at least one row', `${placeIn(nameOf(source))}none`)

/**
 * The rows of a table of text as they are read, in tables of `batch` rows: a file may be larger than memory, a stream may go on
 * for ever. Each walk over a path reads it from the beginning.
 *
 * @example
 * for await (const rows of tableRows('huge.csv', { batch: 10_000 })) console.log(rows.columns.load)
 */
export function tableRows(source: DataSource, options: TableRowsOptions = {}): AsyncIterable<DataTable> {
  const op = 'tableRows'
  const { batch = 4096, ...format } = rejectUnknownOptions(op, options, [...NAMES, 'batch'])
  wholeNumber(op, 'batch', batch, 1, 2 ** 31)
  const { native, time } = givenFormat(op, format)
  const given = givenSource(op, 'source', source)
  return walkable(isOnceSource(op, 'source', given), async function* () {
    const pieces = callNative(() => new binding.NativeTablePieces(native, nameOf(given)))
    const rest: DataTable[] = []
    let isEmpty = true
    for await (const block of byteBlocks(op, 'source', given)) {
      const data = await callNativeAsync(() => pieces.push(block))
      if (data === null) continue
      rest.push(tableOfData(op, data, time, nameOf(given)))
      isEmpty &&= data.rows === 0
      yield* batches(rest, batch)
    }
    const last = await callNativeAsync(() => pieces.push())
    if (last !== null) rest.push(tableOfData(op, last, time, nameOf(given)))
    if (isEmpty && (last === null || last.rows === 0)) throw noRows(op, given)
    yield* batches(rest, batch)
    if (rest.some((table) => table.rows > 0)) yield joined(rest)
  })
}

/** Takes tables of `batch` rows out of `rest`, as long as there are so many. */
function* batches(rest: DataTable[], batch: number): Generator<DataTable> {
  const rows = rest.reduce((sum, table) => sum + table.rows, 0)
  if (rows < batch) return
  const all = joined(rest.splice(0))
  let at = 0
  for (; at + batch <= rows; at += batch) yield all.slice(at, at + batch)
  if (at < rows) rest.push(all.slice(at))
}

/** Tables of the same columns, one after the other. */
function joined(tables: readonly DataTable[]): DataTable {
  const [first] = tables
  if (first === undefined || tables.length === 1) return first as DataTable
  const rows = tables.reduce((sum, table) => sum + table.rows, 0)
  const numbers = (of: (table: DataTable) => Float64Array | undefined) => {
    const all = new Float64Array(rows)
    let at = 0
    for (const table of tables) {
      all.set(of(table) as Float64Array, at)
      at += table.rows
    }
    return all
  }
  const masks = first.names.flatMap((name) => {
    if (!tables.some((table) => Object.hasOwn(table.missing, name))) return []
    const mask = new Uint8Array(rows)
    let at = 0
    for (const table of tables) {
      mask.set(table.missing[name] ?? [], at)
      at += table.rows
    }
    return [[name, mask] as const]
  })
  return DataTable.of({
    rows,
    columns: Object.fromEntries(
      Object.keys(first.columns).map((name) => [name, numbers((table) => table.columns[name])]),
    ),
    texts: Object.fromEntries(
      Object.keys(first.texts).map((name) => [name, tables.flatMap((table) => table.texts[name] ?? [])]),
    ),
    missing: Object.fromEntries(masks),
    time: first.time === undefined ? undefined : numbers((table) => table.time),
    names: first.names,
  })
}
