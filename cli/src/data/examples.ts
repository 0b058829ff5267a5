/** Labelled examples as a command line names them: folders of recordings or pictures, and tables. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, extname, join, relative, sep } from 'node:path'
import { readAudio } from 's4-node/data'
import type { ClassExample } from 's4-node/tasks'
import type { OptionSpec, Values } from '../options/spec.js'
import { UsageError } from '../usage.js'
import { readOneTable, tableSpecs } from './tables.js'
import type { TableLike } from './table.js'

/** How examples and their classes are found. */
export const exampleSpecs: readonly OptionSpec[] = [
  {
    name: 'label',
    kind: 'pattern',
    word: 'pattern',
    help: "the class of a file: the pattern's first group (or all of it) in the file's name",
    otherwise: "the name of the file's folder",
  },
  {
    name: 'labelColumn',
    kind: 'text',
    word: 'column',
    help: 'the class of a row of a table; the other columns of numbers are its values, one after the other',
    otherwise: 'none',
  },
  {
    name: 'sampleRate',
    kind: 'count',
    min: 100,
    max: 1 << 20,
    help: 'samples a second, to which recordings are resampled',
    otherwise: "the recordings' own",
  },
  ...tableSpecs.filter(({ name }) => name !== 'time'),
]

/** An example with the name of its file, or of its row. */
export interface NamedExample extends ClassExample {
  readonly name: string
}

export interface Examples {
  readonly examples: readonly NamedExample[]
  readonly kind: 'audio' | 'series'
  /** Samples a second, of recordings. */
  readonly sampleRate: number | undefined
}

const SOUND = new Set(['.wav', '.wave', '.flac', '.mp3', '.ogg', '.oga'])
const TABLES = new Set(['.csv', '.tsv', '.txt', '.jsonl', '.ndjson', '.parquet'])

/** The files at and below paths, by name; with the path below which each was found. */
export function filesOf(paths: readonly string[]): { file: string; root: string }[] {
  const found: { file: string; root: string }[] = []
  const walk = (path: string, root: string): void => {
    if (statSync(path).isDirectory())
      for (const name of readdirSync(path).toSorted()) {
        if (!name.startsWith('.')) walk(join(path, name), root)
      }
    else found.push({ file: path, root })
  }
  for (const path of paths) {
    if (!existsSync(path)) throw new Error(`${path} does not exist`)
    walk(path, path)
  }
  return found
}

export const kindOf = (file: string): 'audio' | 'table' | undefined => {
  const ending = extname(file).toLowerCase()
  return SOUND.has(ending) ? 'audio' : TABLES.has(ending) ? 'table' : undefined
}

/** An input with the name of its file, or of its row. */
export interface NamedInput {
  readonly name: string
  readonly input: Float32Array
}

/** What is at and below paths, and of what kind it is. */
export interface Inputs {
  readonly inputs: readonly NamedInput[]
  readonly kind: 'audio' | 'series'
  /** Samples a second, of recordings. */
  readonly sampleRate: number | undefined
  /** For each input its class, of rows of tables with --label-column. */
  readonly labels: readonly (string | number)[] | undefined
  /** For each input the path below which its file was found. */
  readonly roots: readonly string[]
}

/** Reads the recordings, or with --label-column or where there are none the rows of tables, at and below paths. */
export async function readInputs(paths: readonly string[], options: Values): Promise<Inputs> {
  const files = filesOf(paths)
  const { labelColumn, sampleRate: rate } = options as { labelColumn?: string; sampleRate?: number }
  const sounds = files.filter(({ file }) => kindOf(file) === 'audio')
  if (sounds.length > 0 && labelColumn === undefined) {
    const { inputs, sampleRate } = await readRecordings(
      sounds.map(({ file }) => file),
      rate,
    )
    return {
      inputs: sounds.map(({ file }, i) => ({ name: file, input: inputs[i] as Float32Array })),
      kind: 'audio',
      sampleRate,
      labels: undefined,
      roots: sounds.map(({ root }) => root),
    }
  }
  const tables = files.filter(({ file }) => kindOf(file) === 'table')
  if (tables.length === 0)
    throw new Error(
      `${paths.join(', ')}: no recordings (${[...SOUND].join(' ')}) and no tables (${[...TABLES].join(' ')})`,
    )
  const rows = []
  for (const { file, root } of tables)
    rows.push(
      ...rowsOf(file, await readOneTable(file, options), labelColumn).map((row) => ({ ...row, root })),
    )
  return {
    inputs: rows.map(({ name, input }) => ({ name, input })),
    kind: 'series',
    sampleRate: undefined,
    labels: labelColumn === undefined ? undefined : rows.map(({ label }) => label as string | number),
    roots: rows.map(({ root }) => root),
  }
}

/** Reads what is at and below paths, with a class for each example. */
export async function readExamples(paths: readonly string[], options: Values): Promise<Examples> {
  if (paths.length === 0)
    throw new UsageError('missing DATA: a folder of recordings, or a table with --label-column')
  const { inputs, kind, sampleRate, labels, roots } = await readInputs(paths, options)
  if (kind === 'series' && labels === undefined)
    throw new UsageError('tables need --label-column, the column that holds the class')
  const examples = inputs.map(({ name, input }, i): NamedExample => ({
    name,
    input,
    label: labels?.[i] ?? labelOf(name, roots[i] as string, options['label'] as string | undefined),
  }))
  return { examples, kind, sampleRate }
}

/** The class of a file. */
function labelOf(file: string, root: string, pattern: string | undefined): string {
  if (pattern !== undefined) {
    const match = new RegExp(pattern).exec(basename(file))
    if (match === null) throw new Error(`${file}: its name does not match --label ${pattern}`)
    return match[1] ?? match[0]
  }
  const parts = relative(root, dirname(file)).split(sep)
  if (file === root || parts[0] === '')
    throw new UsageError(`${file} is in no folder of a class: --label PATTERN finds the class in its name`)
  return parts[0] as string
}

/** Recordings at one sampling rate, their channels averaged; of files with several rates it must be said which. */
export async function readRecordings(
  files: readonly string[],
  rate: number | undefined,
): Promise<{ inputs: Float32Array[]; sampleRate: number }> {
  const inputs: Float32Array[] = []
  let sampleRate = rate
  for (let at = 0; at < files.length; at += GROUP) {
    const group = files.slice(at, at + GROUP)
    const read = await Promise.all(
      group.map((file) => readAudio(file, { mono: true, ...(rate !== undefined && { sampleRate: rate }) })),
    )
    read.forEach((audio, i) => {
      sampleRate ??= audio.sampleRate
      if (audio.sampleRate !== sampleRate)
        throw new Error(
          `${group[i]} has ${audio.sampleRate} samples a second, the others ${sampleRate}: --sample-rate resamples`,
        )
      inputs.push(audio.samples)
    })
  }
  return { inputs, sampleRate: sampleRate as number }
}

/** Files that are read at a time. */
const GROUP = 32

/** The rows of a table. A class that is a number stays one. */
function rowsOf(
  file: string,
  table: TableLike,
  column: string | undefined,
): (NamedInput & { label: string | number | undefined })[] {
  const labels = column === undefined ? undefined : (table.texts[column] ?? table.columns[column])
  if (column !== undefined && labels === undefined)
    throw new Error(`${file} has no column '${column}': ${table.names.join(', ')}`)
  const values = Object.entries(table.columns).filter(([name]) => name !== column)
  if (values.length === 0) throw new Error(`${file} has no columns of numbers beside '${column}'`)
  return Array.from({ length: table.rows }, (_, row) => {
    const gap = values.find(([, x]) => Number.isNaN(x[row]))
    if (gap !== undefined) throw new Error(`${file}: row ${row + 1} has no number in column '${gap[0]}'`)
    const input = Float32Array.from(values, ([, x]) => x[row] as number)
    return { name: `${file}:${row + 1}`, input, label: labels?.[row] }
  })
}
