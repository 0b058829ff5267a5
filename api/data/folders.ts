// Files with labels: what their folders, their names or a function of the caller say.
import * as binding from '#binding'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { types } from 'node:util'
import { filePath, listOf, membersOf, oneOf, rejectUnknownOptions, textOf, type FilePath } from '../check.js'
import { callNativeAsync, describe, fail } from '../error.js'
import { choices } from '../options.js'
import { integers, type TensorLike } from '../tensor.js'
import { checkAudio, type AudioOptions } from './audio.js'

/**
 * The label of a file: the name of its folder (`'folder'`), what a pattern finds in its own name (its first group, or all of it), or
 * what a function makes of its path below the folder, with `/` between names; undefined leaves the file out.
 */
export type LabelRule = 'folder' | RegExp | ((file: string) => string | number | undefined)

/** Which files of a folder are taken, and their labels. */
export interface FolderOptions {
  /** The label of each file. Default the name of the folder below `path` that it is in. */
  label?: LabelRule
  /** Endings of the files that are taken, in capitals or not. Default those of its kind. */
  endings?: readonly string[]
}

/** A file with its label. */
export interface LabelledFile {
  /** Path of the file. */
  file: string
  /** Its label. */
  label: string | number
}

/** An example that was read from a file. */
export interface FileExample<I> extends LabelledFile {
  /** What a model sees. */
  input: I
  /** Samples a second, of recordings. */
  sampleRate?: number
}

/** Options of {@link audioFolder}. */
export type AudioFolderOptions = FolderOptions & AudioOptions

/** Options of {@link imageFolder}. */
export interface ImageFolderOptions extends FolderOptions {
  /** One number of luminance a pixel, three of colour, or as many as the first file has. Default `'asStored'`. */
  colours?: (typeof choices.colours)[number]
}

/** Options of {@link textFolder}. */
export interface TextFolderOptions extends FolderOptions {
  /** Makes tokens of the text: {@link byteTokens}, {@link characterTokens}, or any that has `encode`. Default none: inputs are text. */
  tokens?: { encode(text: string): ArrayLike<number> | { ids: ArrayLike<number> } }
}

/** Examples of files, read as they are walked over: in the order of their paths, each time from the beginning. */
export interface FileExamples<I> extends AsyncIterable<FileExample<I>> {
  /** The files with their labels, which are not read. */
  files(): Promise<LabelledFile[]>
  /** The different labels: numbers in ascending order, then texts. */
  labels(): Promise<(string | number)[]>
}

/** A rule and endings that were checked. */
interface GivenFolder {
  readonly folder: string
  readonly label: LabelRule
  readonly endings: readonly string[]
}

function givenFolder(
  op: string,
  path: unknown,
  options: FolderOptions,
  usual: readonly string[],
): GivenFolder {
  const { label = 'folder', endings = usual } = options
  if (label !== 'folder' && !types.isRegExp(label) && typeof label !== 'function')
    throw fail('ERR_S4_VALUE', op, "label 'folder', a RegExp or a function", describe(label))
  const list = listOf(op, 'endings', endings).map((ending) => {
    if (textOf(op, 'each of endings', ending) === '' || ending === '.')
      throw fail('ERR_S4_VALUE', op, "each of endings with letters, such as '.wav'", 'none')
    return (ending as string).toLowerCase()
  })
  return { folder: filePath(op, path), label, endings: list }
}

/** The files below a folder by their paths in it, sorted. Names that begin with a dot are left out. */
async function pathsBelow(op: string, folder: string): Promise<string[][]> {
  const out: string[][] = []
  const walk = async (names: readonly string[]): Promise<void> => {
    const at = join(folder, ...names)
    const entries = await readdir(at, { withFileTypes: true }).catch((error: unknown) => {
      throw fail('ERR_S4_DATA', op, 'a folder that can be read', `${at}: ${(error as Error).message}`)
    })
    const visible = entries.filter((entry) => !entry.name.startsWith('.'))
    for (const entry of visible.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = [...names, entry.name]
      if (entry.isDirectory()) await walk(path)
      // A link is followed where it leads to a file: to a folder it could lead round in circles.
      else if (entry.isFile() || (await stat(join(folder, ...path)).catch(() => undefined))?.isFile())
        out.push(path)
    }
  }
  await walk([])
  return out
}

async function labelled(op: string, { folder, label, endings }: GivenFolder): Promise<LabelledFile[]> {
  const kept = (name: string) => endings.length === 0 || endings.some((e) => name.toLowerCase().endsWith(e))
  const files: LabelledFile[] = []
  for (const names of await pathsBelow(op, folder)) {
    const name = names.at(-1) as string
    if (!kept(name)) continue
    const file = join(folder, ...names)
    const found = labelOf(op, label, names, file)
    if (found !== undefined) files.push({ file, label: found })
  }
  if (files.length === 0)
    throw fail('ERR_S4_DATA', op, `a folder with ${endings.join(', ') || 'files'}`, `${folder}: none`)
  return files
}

function labelOf(
  op: string,
  rule: LabelRule,
  names: readonly string[],
  file: string,
): string | number | undefined {
  const [first, ...below] = names as [string, ...string[]]
  if (rule === 'folder') {
    if (below.length > 0) return first
    throw fail('ERR_S4_DATA', op, "files in folders, one a label, or the option 'label'", `${file}: in none`)
  }
  if (typeof rule !== 'function') {
    rule.lastIndex = 0
    const match = rule.exec(names.at(-1) as string)
    if (match !== null) return match[1] ?? match[0]
    throw fail('ERR_S4_DATA', op, `files whose names match the label ${String(rule)}`, file)
  }
  // What it throws is the caller's own.
  const label: unknown = rule(names.join('/'))
  if (label === undefined || typeof label === 'string') return label
  if (typeof label === 'number' && Number.isFinite(label)) return label
  throw fail(
    'ERR_S4_DATA',
    op,
    'label of each file as text, a finite number or undefined',
    `${describe(label)} for ${file}`,
  )
}

/**
 * The files below a folder with their labels, in the order of their paths. `ERR_S4_DATA` where there are none, or where one has no
 * label.
 *
 * @example
 * await labelledFolder('recordings/', { label: /^(\d)_/, endings: ['.wav'] })
 */
export async function labelledFolder(path: FilePath, options: FolderOptions = {}): Promise<LabelledFile[]> {
  const op = 'labelledFolder'
  const given = rejectUnknownOptions(op, options, ['label', 'endings'])
  return labelled(op, givenFolder(op, path, given, []))
}

/** Groups of files that are read ahead of their use. */
const AHEAD = 2

/** Examples of a folder, whose files `read` reads `group` at a time. */
function examplesOf<I>(
  op: string,
  folder: GivenFolder,
  group: number,
  read: (files: readonly LabelledFile[]) => Promise<FileExample<I>[]>,
): FileExamples<I> {
  const files = () => labelled(op, folder)
  return {
    files,
    labels: async () => {
      const different = [...new Set((await files()).map(({ label }) => label))]
      const numbers = different.filter((x) => typeof x === 'number').toSorted((a, b) => a - b)
      return [...numbers, ...different.filter((x) => typeof x === 'string').toSorted()]
    },
    [Symbol.asyncIterator]: async function* () {
      const list = await files()
      const waiting: Promise<FileExample<I>[]>[] = []
      for (let at = 0; at < list.length || waiting.length > 0; at += group) {
        if (at < list.length) {
          const next = read(list.slice(at, at + group))
          // What fails is told where its turn comes.
          next.catch(() => undefined)
          waiting.push(next)
        }
        if (waiting.length > AHEAD || at + group >= list.length)
          yield* await (waiting.shift() as Promise<FileExample<I>[]>)
      }
    },
  }
}

const SOUNDS = ['.wav', '.flac', '.mp3', '.ogg', '.oga']
const PICTURES = ['.png', '.jpg', '.jpeg']

/**
 * The recordings below a folder, each with its label: what `Classifier.fit` takes. Inputs are (frames, channels), by default of one
 * channel.
 *
 * @example
 * const c = await Classifier.fit(audioFolder('recordings/', { label: /^(\d)_/ }))
 */
export function audioFolder(path: FilePath, options: AudioFolderOptions = {}): FileExamples<TensorLike> {
  const op = 'audioFolder'
  const given = rejectUnknownOptions(op, options, ['label', 'endings', 'sampleRate', 'mono'])
  const { sampleRate, mono } = checkAudio(op, { mono: true, ...given })
  const one = async (x: LabelledFile): Promise<FileExample<TensorLike>> => {
    const audio = await callNativeAsync(() => binding.readAudio(x.file, sampleRate, mono))
    const shape = [audio.samples.length / audio.channels, audio.channels]
    return { input: { data: audio.samples, shape }, ...x, sampleRate: audio.sampleRate }
  }
  return examplesOf(op, givenFolder(op, path, given, SOUNDS), 8, (files) => Promise.all(files.map(one)))
}

/** Bytes as numbers from 0 to 1. */
export function shares(bytes: Uint8Array): Float32Array {
  const out = new Float32Array(bytes.length)
  for (let i = 0; i < bytes.length; i++) out[i] = (bytes[i] as number) / 255
  return out
}

/** The pictures below a folder, PNG and JPEG of one size, each with its label. Inputs are (height, width, channels), from 0 to 1. */
export function imageFolder(path: FilePath, options: ImageFolderOptions = {}): FileExamples<TensorLike> {
  const op = 'imageFolder'
  const { colours = 'asStored', ...given } = rejectUnknownOptions(op, options, [
    'label',
    'endings',
    'colours',
  ])
  oneOf(op, 'colours', colours, choices.colours)
  const pictures = examplesOf(op, givenFolder(op, path, given, PICTURES), 64, async (files) => {
    const paths = files.map(({ file }) => file)
    const { pixels, height, width, channels } = await callNativeAsync(() =>
      binding.readPictures(paths, colours),
    )
    const size = height * width * channels
    return files.map((x, i) => ({
      input: {
        data: shares(pixels.subarray(i * size, (i + 1) * size)),
        shape: [height, width, channels],
      },
      ...x,
    }))
  })
  return { ...pictures, [Symbol.asyncIterator]: () => ofOneSize(op, pictures) }
}

/** Pictures, as long as they have the sizes of the first. */
async function* ofOneSize(
  op: string,
  pictures: FileExamples<TensorLike>,
): AsyncGenerator<FileExample<TensorLike>> {
  let first: string | undefined
  for await (const picture of pictures) {
    const sizes = picture.input.shape.join(' × ')
    first ??= sizes
    if (sizes !== first)
      throw fail('ERR_S4_DATA', op, `pictures of ${first}, as the first`, `${picture.file}: ${sizes}`)
    yield picture
  }
}

/** The texts below a folder in UTF-8, each with its label. Inputs are text, or tokens (len) where `tokens` makes them. */
export function textFolder(
  path: FilePath,
  options: TextFolderOptions = {},
): FileExamples<string | TensorLike> {
  const op = 'textFolder'
  const given = rejectUnknownOptions(op, options, ['label', 'endings', 'tokens'])
  const { tokens } = given
  if (tokens !== undefined) {
    const { encode } = membersOf(op, 'tokens', tokens, 'ERR_S4_VALUE', ['encode'])
    if (typeof encode !== 'function') throw fail('ERR_S4_VALUE', op, 'tokens with encode', describe(encode))
  }
  const one = async (x: LabelledFile): Promise<FileExample<string | TensorLike>> => {
    const bytes = await readFile(x.file).catch((error: unknown) => {
      throw fail('ERR_S4_DATA', op, 'files that can be read', `${x.file}: ${(error as Error).message}`)
    })
    let text
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch {
      throw fail('ERR_S4_DATA', op, 'texts in UTF-8', `${x.file}: other bytes`)
    }
    return { input: tokens === undefined ? text : tensorOf(op, x.file, tokens.encode(text)), ...x }
  }
  return examplesOf(op, givenFolder(op, path, given, ['.txt']), 64, (files) => Promise.all(files.map(one)))
}

/** What a tokeniser gave, as an input. */
function tensorOf(
  op: string,
  file: string,
  given: ArrayLike<number> | { ids: ArrayLike<number> },
): TensorLike {
  const list = 'ids' in given ? given.ids : given
  const data = Int32Array.from(integers(op, `tokens of ${file}`, list))
  if (data.length === 0) throw fail('ERR_S4_DATA', op, 'texts with tokens', `${file}: none`)
  return { data, shape: [data.length] }
}
