/** Parquet files as tables: flat columns of numbers, times and texts, in any of the format's compressions. */
import { asyncBufferFromFile, parquetMetadataAsync, parquetRead, parquetSchema } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import type { TableLike } from './table.js'

/** `names`: the columns to read; `time`: the one with the time of each row. */
export async function readParquet(
  path: string,
  { time, names }: { time?: string; names?: readonly string[] },
): Promise<TableLike> {
  const file = await asyncBufferFromFile(path)
  const metadata = await parquetMetadataAsync(file).catch((error: unknown) => {
    throw new Error(`${path} is no Parquet file that can be read: ${(error as Error).message}`)
  })
  const rows = Number(metadata.num_rows)
  // Columns with elements below them are lists and records.
  const flat = parquetSchema(metadata).children.filter(({ children }) => children.length === 0)
  const there = flat.map(({ element }) => element.name)
  const wanted = names === undefined ? there : time === undefined ? names : [...names, time]
  const unknown = [...wanted, ...(time === undefined ? [] : [time])].find((name) => !there.includes(name))
  if (unknown !== undefined) throw new Error(`${path} has no column '${unknown}': ${there.join(', ')}`)
  const cells = new Map<string, unknown[]>(wanted.map((name) => [name, Array.from({ length: rows })]))
  await parquetRead({
    file,
    metadata,
    compressors,
    columns: [...wanted],
    onChunk: ({ columnName, columnData, rowStart }) => {
      const column = cells.get(columnName) as unknown[]
      for (let i = 0; i < columnData.length; i++) column[rowStart + i] = columnData[i]
    },
  })
  const columns: Record<string, Float64Array> = {}
  const texts: Record<string, string[]> = {}
  for (const [name, values] of cells) {
    if (name === time) continue
    const known = values.find((x) => x !== null && x !== undefined)
    if (typeof known === 'string') texts[name] = values.map((x) => (typeof x === 'string' ? x : ''))
    else if (known === undefined || isNumeric(known)) columns[name] = Float64Array.from(values, numberOf)
  }
  const times = time === undefined ? undefined : Float64Array.from(cells.get(time)!, timeOf)
  return {
    rows,
    columns,
    texts,
    time: times,
    names: wanted.filter((name) => name in columns || name in texts),
  }
}

const isNumeric = (x: unknown) => typeof x === 'number' || typeof x === 'bigint' || typeof x === 'boolean'
const numberOf = (x: unknown): number => (isNumeric(x) ? Number(x) : NaN)

/** Milliseconds since 1970 of a date, of a text of one, or of a number of them. */
function timeOf(x: unknown): number {
  if (x instanceof Date) return x.getTime()
  if (typeof x !== 'string') return numberOf(x)
  // Text without an offset is UTC, as in every reader.
  const whole = x.trim().replace(' ', 'T')
  return Date.parse(!whole.includes('T') || /(?:Z|[+-]\d{2}:?\d{2})$/.test(whole) ? whole : `${whole}Z`)
}
