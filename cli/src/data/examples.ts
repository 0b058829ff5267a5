/** Labelled examples as a command line names them: folders of recordings, pictures or texts, files of many pictures, and tables. */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { choices } from 's4-node'
import { readAudio } from 's4-node/data'
import type { ClassExample, Classifier, ClassInput } from 's4-node/tasks'
import type { OptionSpec, Values } from '../options/spec.js'
import { UsageError } from '../usage.js'
import {
  filesOf,
  kindOf,
  placesOf,
  readable,
  type FileKind,
  type FoundFile,
  type Part,
  type Place,
} from './files.js'
import {
  coloursOf,
  readCifarFiles,
  readIdxFile,
  readPictureFiles,
  type Colours,
  type OneOfMany,
} from './pictures.js'
import { readRows } from './rows.js'
import { tableSpecs } from './tables.js'

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
    name: 'classes',
    kind: 'names',
    word: 'a,b',
    help: 'classes that are taken; what is of others, or of none, is left out',
    otherwise: 'all, and each example must have one',
  },
  {
    name: 'labelColumn',
    kind: 'text',
    word: 'column',
    help: 'the class of a row of a table; the other columns of numbers are its values, one after the other',
    otherwise: 'none',
  },
  {
    name: 'textColumn',
    kind: 'text',
    word: 'column',
    help: 'the text of a row of a table, instead of columns of numbers',
    otherwise: 'the one column of text beside the class, where there are no numbers',
  },
  {
    name: 'sampleRate',
    kind: 'count',
    min: 100,
    max: 1 << 20,
    help: 'samples a second, to which recordings are resampled',
    otherwise: "the recordings' own",
  },
  {
    name: 'colours',
    kind: 'choice',
    choices: choices.colours,
    help: 'what a pixel of a picture is',
    otherwise: 'as the first picture has, or as those of the training',
  },
  ...tableSpecs.filter(({ name }) => name !== 'time'),
]

/** What the examples of a classifier are. */
export type ExampleKind = Classifier['kind']

/** An example with the name of its file, or of its row, and the part that its place says. */
export interface NamedExample extends ClassExample {
  readonly name: string
  readonly part: Part | undefined
}

export interface Examples {
  readonly examples: readonly NamedExample[]
  readonly kind: ExampleKind
  /** Samples a second, of recordings. */
  readonly sampleRate: number | undefined
}

/** An input with the name of its file, or of its row, and what is said of its class. */
export interface NamedInput {
  readonly name: string
  readonly input: ClassInput
  /** The class that a table or a file of many says. */
  readonly label: string | number | undefined
  /** Where its file is, of files of one each. */
  readonly place: Place | undefined
  readonly part: Part | undefined
}

/** What is at and below paths, and of what kind it is. */
export interface Inputs {
  readonly inputs: readonly NamedInput[]
  readonly kind: ExampleKind
  /** Samples a second, of recordings. */
  readonly sampleRate: number | undefined
}

/** For each kind of classifier the kinds of files that it is for, the first of which is there being taken. */
const FILES: Readonly<Record<ExampleKind, readonly FileKind[]>> = {
  audio: ['audio'],
  image: ['idx', 'cifar', 'picture'],
  text: ['text', 'table'],
  series: ['table', 'text'],
}

/** Which files are taken, and what they are to be: what a classifier is for, or what is there. */
function chosen(
  files: readonly FoundFile[],
  wanted: ExampleKind | undefined,
  ofTable: boolean,
): FileKind | undefined {
  const there = new Set(files.map(({ file }) => kindOf(file)))
  // With a column that is asked for a file .txt is a table too.
  if (ofTable) return there.has('table') || there.has('text') ? 'table' : undefined
  const order: readonly FileKind[] =
    wanted === undefined ? ['audio', 'idx', 'cifar', 'picture', 'text', 'table'] : FILES[wanted]
  const kind = order.find((one) => there.has(one))
  const other = kind === 'audio' && there.has('picture')
  if (other && wanted === undefined)
    throw new UsageError('there are recordings and pictures: name the files or folders of one of them')
  return wanted === 'series' && kind === 'text' ? 'table' : kind
}

/**
 * Reads what is at and below paths. `wanted`: the classifier that it is for; else recordings, pictures, texts or tables, the first of
 * these that are there.
 */
export async function readInputs(
  paths: readonly string[],
  options: Values,
  wanted?: Pick<Classifier, 'kind' | 'pictureSizes'>,
): Promise<Inputs> {
  const all = await filesOf(paths)
  const {
    labelColumn,
    textColumn,
    sampleRate: rate,
  } = options as {
    labelColumn?: string
    textColumn?: string
    sampleRate?: number
  }
  const kind = chosen(all, wanted?.kind, labelColumn !== undefined || textColumn !== undefined)
  const files = all.filter(({ file }) => {
    const own = kindOf(file)
    return own === kind || (kind === 'table' && own === 'text')
  })
  const names = files.map(({ file }) => file)
  const many = (read: readonly OneOfMany[]): NamedInput[] => read.map((one) => ({ ...one, place: undefined }))
  const each = (inputs: readonly ClassInput[]): NamedInput[] => {
    const places = placesOf(files)
    return names.map((name, i) => {
      const place = places[i] as Place
      return { name, input: inputs[i] as ClassInput, label: undefined, place, part: place.part }
    })
  }
  const sizes = wanted?.pictureSizes
  switch (kind) {
    case 'audio': {
      const { inputs, sampleRate } = await readRecordings(names, rate)
      return { inputs: each(inputs), kind: 'audio', sampleRate }
    }
    case 'idx': {
      const read = []
      for (const file of names) read.push(...(await readIdxFile(file, sizes)))
      return { inputs: many(read), kind: 'image', sampleRate: undefined }
    }
    case 'cifar':
      return { inputs: many(await readCifarFiles(names)), kind: 'image', sampleRate: undefined }
    case 'picture': {
      const usual = sizes === undefined ? 'asStored' : coloursOf(sizes)
      const pictures = await readPictureFiles(names, (options['colours'] as Colours | undefined) ?? usual)
      return { inputs: each(pictures), kind: 'image', sampleRate: undefined }
    }
    case 'text':
      return { inputs: each(names.map(readText)), kind: 'text', sampleRate: undefined }
    case 'table': {
      const rows = await readRows(names, options, wanted?.kind)
      const inputs = rows.inputs.map((one) => ({ ...one, place: undefined, part: undefined }))
      return { inputs, kind: rows.kind, sampleRate: undefined }
    }
    case undefined:
      throw new Error(
        `${paths.join(', ')}: no ${wanted === undefined ? readable : `data of a classifier of the kind '${wanted.kind}'`}`,
      )
  }
}

/** A text in UTF-8. */
function readText(file: string): string {
  let text
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch {
    throw new Error(`${file} is no text in UTF-8`)
  }
  if (text === '') throw new Error(`${file} is empty`)
  return text
}

/** Reads what is at and below paths, with a class for each example. */
export async function readExamples(
  paths: readonly string[],
  options: Values,
  wanted?: Pick<Classifier, 'kind' | 'pictureSizes'>,
): Promise<Examples> {
  if (paths.length === 0)
    throw new UsageError(
      'missing DATA: a folder of recordings, pictures or texts, or a table with --label-column',
    )
  const { inputs, kind, sampleRate } = await readInputs(paths, options, wanted)
  const { classes, label: pattern } = options as { classes?: string[]; label?: string }
  const left = new Map<string, number>()
  const examples = inputs.flatMap(({ name, input, part, label: said, place }): NamedExample[] => {
    const label = said ?? labelOf(name, place, pattern)
    if (label !== undefined && (classes === undefined || classes.includes(String(label))))
      return [{ name, input, label, part }]
    if (classes === undefined) throw noClass(name, place, pattern)
    left.set(
      label === undefined ? 'no class' : `'${label}'`,
      (left.get(label === undefined ? 'no class' : `'${label}'`) ?? 0) + 1,
    )
    return []
  })
  const missing = classes?.find((one) => !examples.some(({ label }) => String(label) === one))
  if (missing !== undefined)
    throw new UsageError(`--classes ${missing}: none of ${inputs.length} examples is of it`)
  if (left.size > 0)
    console.error(
      `left out by --classes: ${[...left].map(([name, count]) => `${count} of ${name}`).join(', ')}`,
    )
  return { examples, kind, sampleRate }
}

/** The class of a file: what the pattern finds in its name, or its folder. */
function labelOf(file: string, place: Place | undefined, pattern: string | undefined): string | undefined {
  if (place === undefined || pattern === undefined) return place?.folder
  const match = new RegExp(pattern).exec(basename(file))
  return match === null ? undefined : (match[1] ?? match[0])
}

/** Why an example has no class. */
function noClass(file: string, place: Place | undefined, pattern: string | undefined): Error {
  if (place === undefined)
    return file.includes('ubyte')
      ? new Error(`${file} has no class: the IDX file with the labels is to be beside it`)
      : new UsageError('tables need --label-column, the column that holds the class')
  return pattern === undefined
    ? new UsageError(
        `${file} is in no folder of a class: --label PATTERN finds the class in its name, --classes a,b leaves out what has none`,
      )
    : new Error(`${file}: its name does not match --label ${pattern}`)
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
