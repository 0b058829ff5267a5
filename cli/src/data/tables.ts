/** Tables as a command line names them: several files, each of which is one series. */
import { extname } from 'node:path'
import type { OptionSpec, Values } from '../options/spec.js'
import { UsageError } from '../usage.js'
import { readTable } from './library.js'
import { readParquet } from './parquet.js'
import type { TableLike } from './table.js'

/** How tables are read. */
export const tableSpecs: readonly OptionSpec[] = [
  { name: 'time', kind: 'text', word: 'column', help: 'column with the time of each row', otherwise: 'none' },
  { name: 'columns', kind: 'names', word: 'a,b', help: 'columns to read', otherwise: 'all' },
  {
    name: 'header',
    kind: 'choice',
    choices: ['auto', 'true', 'false'],
    help: 'whether the first line holds names',
    otherwise: 'auto',
  },
  {
    name: 'delimiter',
    kind: 'text',
    word: 'sign',
    help: 'sign between fields',
    otherwise: 'what the file shows',
  },
  {
    name: 'decimal',
    kind: 'choice',
    choices: ['.', ','],
    help: 'sign before a fraction',
    otherwise: 'what the file shows',
  },
  {
    name: 'missing',
    kind: 'names',
    word: 'a,b',
    help: 'words that stand for a missing value, beside empty fields, NA and NaN',
    otherwise: 'none',
  },
  { name: 'zone', kind: 'text', word: 'zone', help: 'zone of times that name none', otherwise: 'UTC' },
  {
    name: 'timeFormat',
    kind: 'text',
    word: 'format',
    help: 'format of times, as strptime has it',
    otherwise: 'what the file shows',
  },
]

/** Reads one table by the options of {@link tableSpecs}. */
export async function readOneTable(path: string, options: Values): Promise<TableLike> {
  const { time, columns: names } = options as { time?: string; columns?: string[] }
  if (extname(path).toLowerCase() === '.parquet')
    return readParquet(path, { ...(time !== undefined && { time }), ...(names !== undefined && { names }) })
  return readTable(path, { ...(time !== undefined && { time }) })
}

/** Reads the tables that are named, each one series. They have columns of numbers, and the same ones. */
export async function readTables(paths: readonly string[], options: Values): Promise<TableLike[]> {
  if (paths.length === 0) throw new UsageError('missing DATA: a table (CSV, TSV, JSONL, Parquet)')
  const tables: TableLike[] = []
  for (const path of paths) {
    const table = await readOneTable(path, options)
    if (table.rows === 0 || Object.keys(table.columns).length === 0)
      throw new Error(`${path} has no rows of numbers`)
    tables.push(table)
  }
  const first = Object.keys((tables[0] as TableLike).columns)
  tables.forEach(({ columns }, i) => {
    const missing = first.find((name) => !Object.hasOwn(columns, name))
    if (missing !== undefined)
      throw new Error(`${paths[i]} has no column '${missing}', which ${paths[0]} has`)
  })
  return tables
}
