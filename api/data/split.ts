import { splitRows, splitTimes } from '#binding'
import { types } from 'node:util'
import { membersOf, oneOf, rejectUnknownOptions, textOf, wholeNumber } from '../check.js'
import { callNative, describe, fail, readGiven } from '../error.js'
import { givenTable, DataTable, type TableLike } from './table.js'
import { timeOfText } from './time.js'

/** Options of {@link split}: one of `parts` and `at`. */
export interface SplitOptions {
  /** Share of each part, by name; together 1. Default `{ train: 0.7, validation: 0.1, test: 0.2 }`. */
  parts?: Readonly<Record<string, number>>
  /**
   * Instead of shares: where each part after the first begins, by name, in time: a date, its text in ISO 8601 or milliseconds.
   * The rows before the first of them are the part `train`.
   */
  at?: Readonly<Record<string, number | string | Date>>
  /**
   * Rows in their `'order'` (default: nothing of the past is in a later part), at `'random'`, by `'label'` (every part has the same
   * share of each label), or by `'group'` (all rows of a group, such as a speaker, are in one part).
   */
  by?: 'order' | 'random' | 'label' | 'group'
  /** The label or group of each row: the name of a column of the table, or an array. */
  keys?: string | ArrayLike<string | number>
  /** Seed of what is random. Default 0. */
  seed?: number
}

const ways = ['order', 'random', 'label', 'group'] as const

/** Rows of each part. */
export type SplitParts = Record<string, Int32Array>

/**
 * Divides rows into parts for training, validation and test, without a row in two of them. `data` is a table, or the number of
 * rows. Gives the rows of each part by name, ascending but where they are random.
 *
 * @example
 * const { train, test } = split(table, { at: { test: '2018-01-01' } })
 * const parts = split(labels.length, { by: 'label', keys: labels, seed: 1 })
 */
export function split(data: TableLike | number, options: SplitOptions = {}): SplitParts {
  const op = 'split'
  const given = rejectUnknownOptions(op, options, ['parts', 'at', 'by', 'keys', 'seed'])
  const { at, by = 'order', seed = 0 } = given
  const table = typeof data === 'number' ? undefined : givenTable(op, 'data', data)
  const rows = wholeNumber(op, 'data', table?.rows ?? data, 1, 2 ** 31 - 1)
  oneOf(op, 'by', by, ways)
  wholeNumber(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER)
  const needsKeys = by === 'label' || by === 'group'
  if (needsKeys !== (given.keys !== undefined))
    throw fail(
      'ERR_S4_VALUE',
      op,
      needsKeys ? `keys, for by '${by}'` : `by 'label' or 'group', for keys`,
      needsKeys ? 'none' : `by '${by}'`,
    )
  const keys = given.keys === undefined ? new Int32Array(0) : codesOf(op, given.keys, table, rows)
  if (at !== undefined) {
    if (given.parts !== undefined || by !== 'order')
      throw fail('ERR_S4_VALUE', op, "at alone, without parts, by 'order'", 'both')
    return inTime(op, at, table, rows)
  }
  const parts = membersOf(op, 'parts', given.parts ?? { train: 0.7, validation: 0.1, test: 0.2 })
  const names = Object.keys(parts)
  const shares = names.map((name) => {
    const share = parts[name]
    if (typeof share !== 'number' || !(share > 0 && share <= 1))
      throw fail('ERR_S4_VALUE', op, `share of '${name}' in parts above 0, up to 1`, describe(share))
    return share
  })
  const sum = shares.reduce((a, b) => a + b, 0)
  if (names.length === 0 || Math.abs(sum - 1) > 1e-6)
    throw fail(
      'ERR_S4_VALUE',
      op,
      'shares in parts that are 1 together',
      names.length === 0 ? 'no parts' : sum,
    )
  const found = callNative(() => splitRows(rows, Float64Array.from(shares), by, keys, seed))
  return Object.fromEntries(names.map((name, k) => [name, found[k] as Int32Array]))
}

/** The parts that begin at times. */
function inTime(op: string, at: unknown, table: DataTable | undefined, rows: number): SplitParts {
  const time = table?.time
  if (time === undefined) throw fail('ERR_S4_DATA', op, 'data with a time in each row, for at', 'none')
  const missing = time.findIndex((t) => Number.isNaN(t))
  if (missing >= 0)
    throw fail('ERR_S4_DATA', op, 'data with a time in each row', `none in row ${missing + 1}`)
  const bounds = Object.entries(membersOf(op, 'at', at)).map(
    ([name, x]) => [name, momentOf(op, name, x)] as const,
  )
  if (bounds.length === 0 || bounds.some(([name]) => name === 'train'))
    throw fail('ERR_S4_VALUE', op, "at with parts after 'train'", bounds.length === 0 ? 'none' : "'train'")
  const starts = callNative(() =>
    splitTimes(
      time,
      Float64Array.from(bounds, ([, ms]) => ms),
    ),
  )
  const names = ['train', ...bounds.map(([name]) => name)]
  const ends = [...starts, rows]
  return Object.fromEntries(
    names.map((name, k) => {
      const from = k === 0 ? 0 : (ends[k - 1] as number)
      return [name, Int32Array.from({ length: (ends[k] as number) - from }, (_, i) => from + i)]
    }),
  )
}

function momentOf(op: string, name: string, x: unknown): number {
  const ms = readGiven(op, `at.${name}`, () => {
    if (types.isDate(x)) return Date.prototype.getTime.call(x)
    if (typeof x === 'string') return timeOfText(x)
    return typeof x === 'number' ? x : NaN
  })
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15)
    throw fail(
      'ERR_S4_VALUE',
      op,
      `at '${name}' as a Date, its text in ISO 8601 or milliseconds`,
      describe(x),
    )
  return ms
}

/** The number of each different key, one for each row. */
function codesOf(op: string, x: unknown, table: DataTable | undefined, rows: number): Int32Array {
  const values = typeof x === 'string' ? ofColumn(op, x, table) : (x as ArrayLike<unknown>)
  return readGiven(op, 'keys', () => {
    const length: unknown = typeof values === 'object' && values !== null ? values.length : undefined
    if (length !== rows)
      throw fail('ERR_S4_DATA', op, `keys of ${rows} rows`, typeof length === 'number' ? length : describe(x))
    const codes = new Map<unknown, number>()
    const code = (i: number): number => {
      const key: unknown = values[i]
      if (typeof key !== 'string' && !(typeof key === 'number' && Number.isFinite(key)))
        throw fail(
          'ERR_S4_DATA',
          op,
          'keys that are text or finite numbers',
          `${describe(key)} in row ${i + 1}`,
        )
      const known = codes.get(key) ?? codes.size
      codes.set(key, known)
      return known
    }
    code(rows - 1)
    codes.clear()
    return Int32Array.from({ length: rows }, (_, i) => code(i))
  })
}

function ofColumn(op: string, name: string, table: DataTable | undefined): ArrayLike<unknown> {
  textOf(op, 'keys', name)
  for (const record of [table?.texts, table?.columns])
    if (record !== undefined && Object.hasOwn(record, name)) return record[name] as ArrayLike<unknown>
  throw fail(
    'ERR_S4_DATA',
    op,
    `keys as a column of data (${table?.names.join(', ') ?? 'no table'}) or an array`,
    `'${name}'`,
  )
}
