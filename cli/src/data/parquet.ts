/** Parquet files as tables: flat columns of numbers, times and texts, in any of the format's compressions. */
import { asyncBufferFromFile, parquetMetadataAsync, parquetRead, parquetSchema } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { tableFrom } from 's4-node/data'
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
  const columns = Object.fromEntries([...cells].filter(([name, values]) => name === time || isPlain(values)))
  for (const [name, values] of Object.entries(columns)) columns[name] = values.map(plain)
  try {
    return await tableFrom(columns, { ...(time !== undefined && { time }) })
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error })
  }
}

/** Whether a column holds numbers or texts; what else a file may hold is left out. */
function isPlain(values: readonly unknown[]): boolean {
  const known = values.find((x) => x !== null && x !== undefined)
  return known === undefined || ['number', 'bigint', 'boolean', 'string'].includes(typeof known)
}

/** A whole number of 64 bits as the nearest number. */
const plain = (x: unknown): unknown => (typeof x === 'bigint' ? Number(x) : x)
