import { fitScales } from '#binding'
import { listOf, membersOf, oneOf, rejectUnknownOptions } from '../check.js'
import { callNative, describe, fail } from '../error.js'
import { columnNames, givenTable, DataTable, type TableLike } from './table.js'

/** How columns are scaled. */
export const scalings = ['zScore', 'minMax', 'robust'] as const
/**
 * How columns are scaled: to mean 0 and (population) deviation 1, to the range from 0 to 1, or to median 0 and an interquartile
 * range of 1, which outliers do not change.
 */
export type Scaling = (typeof scalings)[number]

/** What a {@link Scaler} is made of, as JSON holds it. */
export interface ScalerValues {
  /** Names of the columns. */
  readonly columns: readonly string[]
  /** What is subtracted from each column. */
  readonly offset: readonly number[]
  /** What each column is then divided by, above 0. */
  readonly scale: readonly number[]
}

/** What only this file may make a scaler from. */
const made = new WeakSet<object>()

/**
 * Scales columns to a common range, x ↦ (x − offset)/scale, and back. Fitted to the training part alone, so that nothing of the
 * others leaks into it.
 *
 * @example
 * const scaler = Scaler.fit(table.slice(0, 8640))
 * const scaled = scaler.transform(table), again = scaler.inverse(scaled)
 */
export class Scaler {
  /** Names of the columns. */
  readonly columns: readonly string[]
  /** What is subtracted from each column. */
  readonly offset: Float64Array
  /** What each column is then divided by; 1 for a column that never changes. */
  readonly scale: Float64Array

  private constructor(values: ScalerValues) {
    // JavaScript lets a caller get here with anything.
    if (typeof values !== 'object' || values === null || !made.has(values))
      throw fail('ERR_S4_VALUE', 'Scaler', 'Scaler.fit() or Scaler.fromJSON()', 'new')
    this.columns = [...values.columns]
    this.offset = Float64Array.from(values.offset)
    this.scale = Float64Array.from(values.scale)
  }

  static #of(values: ScalerValues): Scaler {
    made.add(values)
    return new Scaler(values)
  }

  /**
   * Fits a scale to each column of numbers (or to those of `columns`), by `kind`, default `'zScore'`. Missing values are left out;
   * a column without any value is `ERR_S4_DATA`.
   */
  static fit(data: TableLike, options: { kind?: Scaling; columns?: readonly string[] } = {}): Scaler {
    const op = 'Scaler.fit'
    const { kind = 'zScore', columns } = rejectUnknownOptions(op, options, ['kind', 'columns'])
    oneOf(op, 'kind', kind, scalings)
    const table = givenTable(op, 'data', data)
    const names = columnNames(op, 'columns', columns, table, Object.keys(table.columns))
    if (names.length === 0) throw fail('ERR_S4_DATA', op, 'data with columns of numbers', 'none')
    const { offset, scale } = callNative(() =>
      fitScales(
        names.map((name) => table.column(name)),
        kind,
      ),
    )
    return Scaler.#of({ columns: names, offset: [...offset], scale: [...scale] })
  }

  /** The columns in the common range. Columns that the scaler does not have stay as they are. */
  transform(data: TableLike): DataTable {
    return this.#mapped('Scaler.transform', data, (x, offset, scale) => (x - offset) / scale)
  }

  /** The inverse of {@link Scaler.transform}, also of some of the columns alone, such as those of a forecast. */
  inverse(data: TableLike): DataTable {
    return this.#mapped('Scaler.inverse', data, (x, offset, scale) => x * scale + offset)
  }

  #mapped(op: string, data: unknown, map: (x: number, offset: number, scale: number) => number): DataTable {
    const table = givenTable(op, 'data', data)
    const own = this.columns.filter((name) => Object.hasOwn(table.columns, name))
    if (own.length === 0)
      throw fail(
        'ERR_S4_DATA',
        op,
        `data with one of the columns ${this.columns.join(', ')}`,
        Object.keys(table.columns).join(', '),
      )
    const columns = Object.entries(table.columns).map(([name, values]) => {
      const place = this.columns.indexOf(name)
      if (place < 0) return [name, values] as const
      const [offset, scale] = [this.offset[place] as number, this.scale[place] as number]
      return [name, values.map((x) => map(x, offset, scale))] as const
    })
    const { rows, texts, missing, time, names } = table
    return DataTable.of({ rows, columns: Object.fromEntries(columns), texts, missing, time, names })
  }

  /** What `JSON.stringify` writes, for {@link Scaler.fromJSON}. */
  toJSON(): ScalerValues {
    return { columns: [...this.columns], offset: [...this.offset], scale: [...this.scale] }
  }

  /** The scaler of what {@link Scaler.toJSON} gave. */
  static fromJSON(values: ScalerValues): Scaler {
    const op = 'Scaler.fromJSON'
    const given = membersOf(op, 'values', values, 'ERR_S4_DATA')
    const [columns, offset, scale] = ['columns', 'offset', 'scale'].map((name) =>
      listOf(op, `${name} of values`, given[name]),
    ) as [unknown[], unknown[], unknown[]]
    const place = columns.findIndex((name) => typeof name !== 'string')
    if (place >= 0 || columns.length === 0 || new Set(columns).size !== columns.length)
      throw fail(
        'ERR_S4_DATA',
        op,
        'columns of values as different names',
        place >= 0 ? describe(columns[place]) : columns.join(', ') || 'none',
      )
    for (const [name, list] of Object.entries({ offset, scale })) {
      const isNumber = (x: unknown) =>
        typeof x === 'number' && Number.isFinite(x) && (name === 'offset' || x > 0)
      const wrong = list.findIndex((x) => !isNumber(x))
      if (list.length !== columns.length || wrong >= 0)
        throw fail(
          'ERR_S4_DATA',
          op,
          `${name} of values as ${columns.length} ${name === 'scale' ? 'numbers above 0' : 'finite numbers'} (columns)`,
          wrong >= 0 ? describe(list[wrong]) : list.length,
        )
    }
    return Scaler.#of({ columns: columns as string[], offset: offset as number[], scale: scale as number[] })
  }
}
