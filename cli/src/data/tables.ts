/** Tables as a command line names them: several files, each of which is one series. */
import { extname } from 'node:path'
import { kebab, type OptionSpec, type Values } from '../options/spec.js'
import { UsageError } from '../usage.js'
import { readJsonl, readTable, type TableFormat } from 's4-node/data'
import { readParquet } from './parquet.js'
import type { TableLike } from './table.js'

/** How tables are read. */
export const tableSpecs: readonly OptionSpec[] = [
  {
    name: 'time',
    kind: 'text',
    word: 'column',
    help: 'column with the time of each row',
    otherwise: 'the first column of dates, if there is one',
  },
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

/** Options that only tables of text have. */
const TEXT_ONLY = ['header', 'delimiter', 'decimal', 'missing', 'zone', 'timeFormat'] as const

/** Reads one table by the options of {@link tableSpecs}: its ending says whether it is JSONL, Parquet, or text. */
export async function readOneTable(path: string, options: Values): Promise<TableLike> {
  const { time, columns: names } = options as { time?: string; columns?: string[] }
  const ending = extname(path).toLowerCase()
  const isLines = ending === '.jsonl' || ending === '.ndjson'
  if (!isLines && ending !== '.parquet') return readTable(path, textFormat(options))
  const foreign = TEXT_ONLY.find((name) => options[name] !== undefined)
  if (foreign !== undefined)
    throw new UsageError(`--${kebab(foreign)} is of tables of text, which ${path} is not`)
  if (!isLines)
    return readParquet(path, { ...(time !== undefined && { time }), ...(names !== undefined && { names }) })
  const table = await readJsonl(path, { ...(time !== undefined && { time }) })
  return names === undefined ? table : table.select(names)
}

/** The options of a table of text as the library takes them. */
function textFormat(options: Values): TableFormat {
  const { header, columns } = options as { header?: string; columns?: string[] }
  const given = Object.entries(options).filter(([name]) => FORMAT.has(name))
  return {
    ...Object.fromEntries(given),
    // Without a header a number can only be a place.
    ...(columns !== undefined && {
      columns: columns.map((x) => (header === 'false' && /^\d+$/.test(x) ? Number(x) : x)),
    }),
    ...(header !== undefined && header !== 'auto' && { header: header === 'true' }),
  }
}
const FORMAT = new Set(['time', 'delimiter', 'decimal', 'missing', 'zone', 'timeFormat'])

/** Reads the tables that are named, each one series. They have columns of numbers, and the same ones. */
export async function readTables(paths: readonly string[], options: Values): Promise<TableLike[]> {
  if (paths.length === 0) throw new UsageError('missing DATA: a table (CSV, TSV, JSONL, Parquet)')
  const tables: TableLike[] = []
  for (const path of paths) {
    const table = await readOneTable(path, options)
    if (table.rows === 0 || Object.keys(table.columns).length === 0)
      throw new Error(`${path} has no rows of numbers`)
    const { time } = table
    const late = time === undefined ? -1 : time.findIndex((t, i) => i > 0 && t < time[i - 1]!)
    if (late > 0)
      throw new Error(
        `${path}: row ${late + 1} of the data is earlier than the row before it; sort it by time`,
      )
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
