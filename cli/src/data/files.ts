/** The files that a command line names, one by one or by their folders, and what they hold. */
import { existsSync, statSync } from 'node:fs'
import { extname, basename, relative, sep } from 'node:path'
import { labelledFolder } from 's4-node/data'

/** A file, with the path of the command line at or below which it was found. */
export interface FoundFile {
  readonly file: string
  readonly root: string
}

/** What a file holds: a recording, a picture, many pictures (IDX, CIFAR-10), a text, or a table. */
export type FileKind = 'audio' | 'picture' | 'idx' | 'cifar' | 'text' | 'table'

const ENDINGS: Readonly<Record<Exclude<FileKind, 'idx'>, readonly string[]>> = {
  audio: ['.wav', '.wave', '.flac', '.mp3', '.ogg', '.oga'],
  picture: ['.png', '.jpg', '.jpeg'],
  cifar: ['.bin'],
  text: ['.txt'],
  table: ['.csv', '.tsv', '.jsonl', '.ndjson', '.parquet'],
}

/** Names of MNIST's files with pictures: `train-images-idx3-ubyte`, `t10k-images.idx3-ubyte.gz`. */
const IDX = /images?[-._]idx\d-ubyte(\.gz)?$/i

/** What the name of a file says that it holds. */
export function kindOf(file: string): FileKind | undefined {
  if (IDX.test(file)) return 'idx'
  const ending = extname(file).toLowerCase()
  return (Object.keys(ENDINGS) as (keyof typeof ENDINGS)[]).find((kind) => ENDINGS[kind].includes(ending))
}

/** The file with the labels of an IDX file with pictures. */
export const labelsOf = (file: string): string =>
  file.replace(IDX, (name) => name.replace(/image/i, 'label').replace(/idx\d/i, 'idx1'))

/** What can be read, for messages. */
export const readable = `recordings (${ENDINGS.audio.join(' ')}), pictures (${ENDINGS.picture.join(' ')}, IDX, CIFAR-10's ${ENDINGS.cifar.join()}), texts (${ENDINGS.text.join()}) or tables (${ENDINGS.table.join(' ')})`

/** The files at and below paths, by name. Names that begin with a dot are left out. */
export async function filesOf(paths: readonly string[]): Promise<FoundFile[]> {
  const found: FoundFile[] = []
  for (const root of paths) {
    if (!existsSync(root)) throw new Error(`${root} does not exist`)
    if (!statSync(root).isDirectory()) found.push({ file: root, root })
    else
      for (const { file } of await labelledFolder(root, { label: (name) => name })) found.push({ file, root })
  }
  return found
}

/** A part that a layout of folders or names says. */
export type Part = 'train' | 'test'

/** The folder of a class and the part that the place of a file says. */
export interface Place {
  readonly folder: string | undefined
  readonly part: Part | undefined
}

const partOf = (name: string | undefined): Part | undefined =>
  name === undefined
    ? undefined
    : /^test$/i.test(name)
      ? 'test'
      : /^(train|val|valid|validation)$/i.test(name)
        ? 'train'
        : undefined

/**
 * For each file the folder of its class: that below the named folder, or below `train` and `test` where it has both (`val` is learned
 * from); of several named folders with files each is a class itself.
 */
export function placesOf(files: readonly FoundFile[]): Place[] {
  const below = files.map(({ file, root }) => relative(root, file).split(sep).slice(0, -1))
  const firsts = new Map<string, Set<string>>()
  files.forEach(({ root }, i) => {
    const parts = firsts.get(root) ?? new Set()
    firsts.set(root, parts.add(partOf(below[i]![0]) ?? ''))
  })
  return files.map(({ file, root }, i) => {
    const [first, second] = below[i]!
    const parts = firsts.get(root) as Set<string>
    if (parts.has('train') && parts.has('test'))
      return { folder: partOf(first) && second, part: partOf(first) }
    const own = firsts.size > 1 && root !== file ? basename(root) : undefined
    return { folder: first ?? own, part: undefined }
  })
}
