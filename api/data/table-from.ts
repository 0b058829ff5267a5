// Tables of what other libraries give: columns in memory, rows as objects, lines of JSON.
import { types } from 'node:util'
import type { AbortOptions } from '../background.js'
import { membersOf, rejectUnknownOptions, textOf } from '../check.js'
import { describe, fail, readGiven, throwIfAborted } from '../error.js'
import {
  byteBlocks,
  elementsOf,
  givenSource,
  isIterable,
  isOnceSource,
  nameOf,
  walkable,
  type DataSource,
} from './source.js'
import { gapsOf, DataTable } from './table.js'
import { timeOfText } from './time.js'

/** Columns by name, or rows as objects: what DuckDB, SQLite, Arrow and polars give. */
export type TableValues =
  | Readonly<Record<string, ArrayLike<unknown>>>
  | Iterable<Readonly<Record<string, unknown>>>
  | AsyncIterable<Readonly<Record<string, unknown>>>

/** Options of {@link tableFrom} and {@link readJsonl}. */
export interface TableFromOptions extends AbortOptions {
  /** The column of times: dates, milliseconds since 1970, or text in ISO 8601. Default the first column of dates. */
  time?: string
}

/** What the values of a column are, by the first that is there. */
type ValueKind = 'number' | 'date' | 'text'

type Refuse = (row: number, expected: string, got: string) => Error

/** A column that was read. */
interface ReadColumn {
  readonly kind: ValueKind | undefined
  readonly numbers: Float64Array
  readonly texts: readonly string[]
}

/** A column that grows by values of any kind. */
class GrowingColumn {
  readonly #values: (number | string | null)[] = []
  readonly #refuse: Refuse
  #kind: ValueKind | undefined

  constructor(refuse: Refuse) {
    this.#refuse = refuse
  }

  get length(): number {
    return this.#values.length
  }

  /** Adds the value of a row; `row` is its number in errors. */
  push(value: unknown, row: number): void {
    if (value === null || value === undefined || Number.isNaN(value)) {
      this.#values.push(null)
      return
    }
    const [kind, x] = this.#read(value, row)
    this.#kind ??= kind
    if (kind !== this.#kind)
      throw this.#refuse(row, this.#kind === 'text' ? 'text' : `a ${this.#kind}`, describe(value))
    this.#values.push(x)
  }

  #read(value: unknown, row: number): [ValueKind, number | string] {
    if (typeof value === 'string') return ['text', value]
    if (typeof value === 'boolean') return ['number', Number(value)]
    if (types.isDate(value)) {
      const ms = Date.prototype.getTime.call(value)
      if (Number.isNaN(ms)) throw this.#refuse(row, 'a valid Date', 'an invalid one')
      return ['date', ms]
    }
    const x = typeof value === 'bigint' ? Number(value) : value
    const isExact = typeof value !== 'bigint' || Math.abs(x as number) <= Number.MAX_SAFE_INTEGER
    if (typeof x !== 'number' || !Number.isFinite(x) || !isExact)
      throw this.#refuse(row, 'a finite number, text, a Date or null', describe(value))
    return ['number', x]
  }

  /** The column; `isTime`: texts are times. */
  read(isTime: boolean): ReadColumn {
    const values = this.#values
    if (this.#kind !== 'text')
      return {
        kind: this.#kind,
        numbers: Float64Array.from(values, (x) => (x === null ? NaN : (x as number))),
        texts: [],
      }
    if (!isTime)
      return {
        kind: 'text',
        numbers: Float64Array.from(values, (x) => (x === null ? NaN : 0)),
        texts: values.map((x) => (x === null ? '' : (x as string))),
      }
    const times = Float64Array.from(values, (text, i) => {
      if (text === null) return NaN
      const ms = timeOfText(text as string)
      if (Number.isNaN(ms)) throw this.#refuse(i + 1, 'a time in ISO 8601', describe(text))
      return ms
    })
    return { kind: 'date', numbers: times, texts: [] }
  }
}

/** The table of columns that were read, whose column `time` is that of times. */
function tableOfRead(
  op: string,
  rows: number,
  all: ReadonlyMap<string, (isTime: boolean) => ReadColumn>,
  time: string | undefined,
): DataTable {
  if (time !== undefined && !all.has(time))
    throw fail('ERR_S4_DATA', op, `time as one of the columns ${[...all.keys()].join(', ')}`, `'${time}'`)
  const read = [...all].map(([name, column]) => [name, column(name === time)] as const)
  const times = read.find(([name, { kind }]) => (time === undefined ? kind === 'date' : name === time))
  const others = read.filter((entry) => entry !== times)
  const entries = <T>(pick: (column: ReadColumn) => T | undefined) =>
    Object.fromEntries(
      others.flatMap(([name, column]) => {
        const value = pick(column)
        return value === undefined ? [] : [[name, value] as const]
      }),
    )
  return DataTable.of({
    rows,
    columns: entries(({ kind, numbers }) => (kind === 'text' ? undefined : numbers)),
    texts: entries(({ kind, texts }) => (kind === 'text' ? texts : undefined)),
    missing: entries(({ numbers }) => gapsOf(numbers)),
    time: times?.[1].numbers,
    names: others.map(([name]) => name),
  })
}

/** What makes the errors of a column. */
const refuserOf =
  (op: string, file: string, name: string): Refuse =>
  (row, expected, got) =>
    fail(
      'ERR_S4_DATA',
      op,
      `${expected} in column '${name}' of data`,
      `${file}row ${row}, column ${name}: ${got}`,
    )

/**
 * Rows whose names differ from one to the next have a column for each name, and a place for it in every row: beyond so many places one in
 * so many must hold a value, or a small file would take all memory.
 */
const [MOST_EMPTY, LEAST_FULL] = [2 ** 24, 64]

/** The columns of rows as they come. */
class GrowingTable {
  readonly #op: string
  readonly #file: string
  readonly #columns = new Map<string, GrowingColumn>()
  #rows = 0
  /** Values that are there. */
  #values = 0

  constructor(op: string, file: string | undefined) {
    this.#op = op
    this.#file = file === undefined ? '' : `${file}: `
  }

  push(members: Record<string, unknown>, row: number): void {
    for (const [name, value] of Object.entries(members)) {
      let column = this.#columns.get(name)
      if (column === undefined) {
        column = new GrowingColumn(refuserOf(this.#op, this.#file, name))
        // Rows before the first with this name have no value.
        for (let i = 0; i < this.#rows; i++) column.push(null, i)
        this.#columns.set(name, column)
      }
      column.push(value, row)
      if (value !== null && value !== undefined) this.#values++
    }
    this.#rows++
    const cells = this.#rows * this.#columns.size
    if (cells > MOST_EMPTY && cells > LEAST_FULL * this.#values)
      throw fail(
        'ERR_S4_DATA',
        this.#op,
        `data of which one value in ${LEAST_FULL} is there, with more than ${MOST_EMPTY} places`,
        `${this.#file}row ${row}: ${this.#columns.size} names so far, of ${this.#values} values in ${this.#rows} rows`,
      )
    for (const column of this.#columns.values()) if (column.length < this.#rows) column.push(null, row)
  }

  /** The table, whose column `time` is that of times. */
  table(time: string | undefined): DataTable {
    if (this.#rows === 0 || this.#columns.size === 0)
      throw fail('ERR_S4_DATA', this.#op, 'data with at least one row', `${this.#file}none`)
    const readers = [...this.#columns].map(
      ([name, column]) => [name, (isTime: boolean) => column.read(isTime)] as const,
    )
    return tableOfRead(this.#op, this.#rows, new Map(readers), time)
  }
}

/**
 * A table of columns in memory, or of rows as objects, which may come asynchronously: the rows of DuckDB, SQLite, Arrow,
 * polars. Numbers, booleans, bigints up to 2^53, dates and texts; null, undefined and NaN are missing values. A Float64Array is
 * kept as it is.
 *
 * @example
 * const table = await tableFrom({ load: Float32Array.of(1, 2), day: [new Date(0), new Date(864e5)] })
 * const rows = await tableFrom(database.prepare('SELECT * FROM load').iterate())
 */
export async function tableFrom(data: TableValues, options: TableFromOptions = {}): Promise<DataTable> {
  const op = 'tableFrom'
  const { time, signal } = checkOptions(op, options)
  const isRows = readGiven(op, 'data', () => typeof data === 'object' && data !== null && isIterable(data))
  if (!isRows) return tableOfArrays(op, membersOf(op, 'data', data, 'ERR_S4_DATA'), time)
  const table = new GrowingTable(op, undefined)
  let row = 0
  for await (const given of elementsOf(op, 'data', data)) {
    throwIfAborted(op, signal)
    table.push(membersOf(op, `each row of data (row ${++row})`, given, 'ERR_S4_DATA'), row)
  }
  return table.table(time)
}

function checkOptions(op: string, options: TableFromOptions): TableFromOptions {
  const given = rejectUnknownOptions(op, options, ['time', 'signal'])
  if (given.time !== undefined) textOf(op, 'time', given.time)
  throwIfAborted(op, given.signal)
  return given
}

function tableOfArrays(op: string, members: Record<string, unknown>, time: string | undefined): DataTable {
  const all = new Map<string, (isTime: boolean) => ReadColumn>()
  let rows: number | undefined
  for (const [name, given] of Object.entries(members)) {
    const what = `column '${name}' of data`
    const values = readGiven(op, what, () => arrayOf(op, what, given))
    rows ??= values.length
    if (values.length !== rows)
      throw fail('ERR_S4_DATA', op, `columns of data with ${rows} rows`, `'${name}' with ${values.length}`)
    const numbers = numbersOf(op, name, values)
    if (numbers !== undefined) {
      all.set(name, () => ({ kind: 'number', numbers, texts: [] }))
      continue
    }
    const column = new GrowingColumn(refuserOf(op, '', name))
    for (let i = 0; i < rows; i++)
      column.push(
        readGiven(op, what, () => values[i]),
        i + 1,
      )
    all.set(name, (isTime) => column.read(isTime))
  }
  if (rows === undefined) throw fail('ERR_S4_DATA', op, 'data with at least one column', 'none')
  return tableOfRead(op, rows, all, time)
}

/** An array of a caller, with elements. */
function arrayOf(op: string, what: string, x: unknown): ArrayLike<unknown> {
  const length: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<unknown>).length : undefined
  const isView = Object.prototype.toString.call(x) === '[object DataView]'
  const isLength = Number.isSafeInteger(length) && (length as number) >= 1 && (length as number) < 2 ** 31
  // What only says that it is so long has no elements.
  if (isView || !isLength || !((length as number) - 1 in (x as object)))
    throw fail('ERR_S4_DATA', op, `${what} as an array with values`, describe(x))
  return x as ArrayLike<unknown>
}

/** The numbers of a typed array; undefined of other arrays. */
function numbersOf(op: string, name: string, values: ArrayLike<unknown>): Float64Array | undefined {
  if (!ArrayBuffer.isView(values)) return undefined
  const isKept = types.isFloat64Array(values) && !types.isSharedArrayBuffer(values.buffer)
  const numbers = isKept
    ? (values as Float64Array)
    : Float64Array.from(values as ArrayLike<number | bigint>, Number)
  const isWide = types.isBigInt64Array(values) || types.isBigUint64Array(values)
  const most = isWide ? Number.MAX_SAFE_INTEGER : Number.MAX_VALUE
  const wrong = numbers.findIndex((x) => Math.abs(x) > most)
  if (wrong >= 0)
    throw refuserOf(op, '', name)(
      wrong + 1,
      isWide ? 'integers up to 2^53' : 'a finite number',
      String(values[wrong]),
    )
  return numbers
}

/** A line of a text and its number from 1. */
interface Line {
  readonly text: string
  readonly number: number
}

/** The lines of UTF-8 text that are not blank. */
async function* linesOf(op: string, blocks: AsyncIterable<Uint8Array>, file: string): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let rest: Uint8Array = new Uint8Array(0)
  let number = 0
  const line = (bytes: Uint8Array): Line[] => {
    number++
    let text
    try {
      text = decoder.decode(bytes).trim()
    } catch {
      throw fail('ERR_S4_DATA', op, 'lines of UTF-8 text', `${file}row ${number}: other bytes`)
    }
    return text === '' ? [] : [{ text, number }]
  }
  for await (const block of blocks) {
    const bytes = new Uint8Array(rest.length + block.length)
    bytes.set(rest)
    bytes.set(block, rest.length)
    let begin = 0
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, begin)) {
      yield* line(bytes.subarray(begin, end))
      begin = end + 1
    }
    rest = bytes.subarray(begin)
    if (rest.length > 2 ** 28)
      throw fail('ERR_S4_DATA', op, 'lines of less than 256 MiB', `${file}row ${number + 1}: a longer one`)
  }
  if (rest.length > 0) yield* line(rest)
}

/** The objects of lines of JSON, with the number of each line. */
async function* objectsOf(
  op: string,
  source: ReturnType<typeof givenSource>,
): AsyncGenerator<{ object: Record<string, unknown>; line: number }> {
  const name = nameOf(source)
  const file = name === undefined ? '' : `${name}: `
  for await (const { text, number } of linesOf(op, byteBlocks(op, 'source', source), file)) {
    let object: unknown
    try {
      object = JSON.parse(text)
    } catch (error) {
      const { message } = error as Error
      throw fail('ERR_S4_DATA', op, 'lines of JSON', `${file}row ${number}: ${message}`)
    }
    if (typeof object !== 'object' || object === null || Array.isArray(object))
      throw fail('ERR_S4_DATA', op, 'an object in each line', `${file}row ${number}: ${describe(object)}`)
    yield { object: object as Record<string, unknown>, line: number }
  }
}

/**
 * The objects of a JSONL file, one a line, as they are read. `ERR_S4_DATA` with file and row where a line is no object. Each walk
 * over a path reads it from the beginning.
 */
export function jsonlRows(source: DataSource): AsyncIterable<Record<string, unknown>> {
  const op = 'jsonlRows'
  const given = givenSource(op, 'source', source)
  return walkable(isOnceSource(op, 'source', given), async function* () {
    for await (const { object } of objectsOf(op, given)) yield object
  })
}

/**
 * Reads a JSONL file as a table: a column for each name, as {@link tableFrom} takes values. `ERR_S4_DATA` with file, row and
 * column.
 */
export async function readJsonl(source: DataSource, options: TableFromOptions = {}): Promise<DataTable> {
  const op = 'readJsonl'
  const { time, signal } = checkOptions(op, options)
  const given = givenSource(op, 'source', source)
  const table = new GrowingTable(op, nameOf(given))
  for await (const { object, line } of objectsOf(op, given)) {
    throwIfAborted(op, signal)
    table.push(object, line)
  }
  return table.table(time)
}
