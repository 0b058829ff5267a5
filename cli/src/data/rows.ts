/** The rows of tables as examples: values, or a text, and a class. */
import type { Values } from '../options/spec.js'
import { UsageError } from '../usage.js'
import { readOneTable } from './tables.js'
import type { TableLike } from './table.js'

/** A row. */
export interface Row {
  readonly name: string
  readonly input: Float32Array | string
  readonly label: string | number | undefined
}

/** Reads the rows of tables. `wanted`: whether they are to be series or texts. */
export async function readRows(
  files: readonly string[],
  options: Values,
  wanted: string | undefined,
): Promise<{ inputs: Row[]; kind: 'series' | 'text' }> {
  const { labelColumn } = options as { labelColumn?: string }
  const inputs: Row[] = []
  let kind: 'series' | 'text' | undefined
  for (const file of files) {
    const table = await readOneTable(file, options)
    const labels = labelColumn === undefined ? undefined : labelsOf(file, table, labelColumn)
    const column = textColumnOf(file, table, options, wanted)
    const own = column === undefined ? 'series' : 'text'
    if (kind !== undefined && own !== kind)
      throw new Error(`${file} has rows of ${own === 'text' ? 'text' : 'numbers'}, other than ${files[0]}`)
    kind = own
    const read = column === undefined ? valuesOf(file, table, labelColumn) : textsOf(file, table, column)
    read.forEach((input, row) => inputs.push({ name: `${file}:${row + 1}`, input, label: labels?.[row] }))
  }
  return { inputs, kind: kind ?? 'series' }
}

/** The classes of rows. A class that is a number stays one. */
function labelsOf(file: string, table: TableLike, column: string): ArrayLike<string | number> {
  const labels = table.texts[column] ?? table.columns[column]
  if (labels === undefined) throw new Error(`${file} has no column '${column}': ${table.names.join(', ')}`)
  const missing = Array.from(labels).findIndex((label) => label === '' || Number.isNaN(label))
  if (missing >= 0) throw new Error(`${file}: row ${missing + 1} has no class in column '${column}'`)
  return labels
}

/** The column of text that is to be classified, if any. */
function textColumnOf(
  file: string,
  { texts, columns, names }: TableLike,
  { labelColumn, textColumn }: Values,
  wanted: string | undefined,
): string | undefined {
  if (textColumn !== undefined) {
    if (wanted !== undefined && wanted !== 'text')
      throw new UsageError(`--text-column is for a classifier of texts, which this one of ${wanted} is not`)
    if (Object.hasOwn(texts, textColumn as string)) return textColumn as string
    throw new Error(`${file} has no column of text '${String(textColumn)}': ${names.join(', ')}`)
  }
  if (wanted === 'series') return undefined
  const others = Object.keys(texts).filter((name) => name !== labelColumn)
  const hasNumbers = Object.keys(columns).some((name) => name !== labelColumn)
  if (wanted === undefined && hasNumbers) return undefined
  if (others.length === 1) return others[0]
  if (others.length === 0 && wanted === undefined) return undefined
  throw new UsageError(
    `${file} has ${others.length === 0 ? 'no column of text' : `the columns of text ${others.join(', ')}`}: --text-column says which is classified`,
  )
}

function textsOf(file: string, { texts }: TableLike, column: string): readonly string[] {
  const rows = texts[column] as readonly string[]
  const empty = rows.indexOf('')
  if (empty >= 0) throw new Error(`${file}: row ${empty + 1} has no text in column '${column}'`)
  return rows
}

function valuesOf(
  file: string,
  { columns, rows }: TableLike,
  labelColumn: string | undefined,
): Float32Array[] {
  const values = Object.entries(columns).filter(([name]) => name !== labelColumn)
  if (values.length === 0) throw new Error(`${file} has no columns of numbers beside '${labelColumn ?? ''}'`)
  return Array.from({ length: rows }, (_, row) => {
    const gap = values.find(([, x]) => Number.isNaN(x[row]))
    if (gap !== undefined) throw new Error(`${file}: row ${row + 1} has no number in column '${gap[0]}'`)
    return Float32Array.from(values, ([, x]) => x[row] as number)
  })
}
