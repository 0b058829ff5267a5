/** Pictures as examples: files of one each, and files of many. */
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { choices, readPictures } from 's4-node'
import { cifar10Examples, idxExamples, readIdx } from 's4-node/data'
import type { ClassInput } from 's4-node/tasks'
import { labelsOf, type Part } from './files.js'

/** What a pixel is to be. */
export type Colours = (typeof choices.colours)[number]

/** Pictures that are read at a time. */
const GROUP = 64

/** Bytes as numbers from 0 to 1. */
const shares = (bytes: Uint8Array): Float32Array => Float32Array.from(bytes, (v) => v / 255)

/** The colours of a classifier's pictures, by their sizes. */
export const coloursOf = (sizes: readonly number[]): Colours =>
  (sizes[2] ?? 1) === 1 ? 'grey' : sizes[2] === 3 ? 'rgb' : 'asStored'

/** Pictures of a file each, (height, width, colours), of one size; colours as asked for, or as the first has. */
export async function readPictureFiles(files: readonly string[], asked: Colours): Promise<ClassInput[]> {
  const inputs: ClassInput[] = []
  let colours = asked
  let first: string | undefined
  for (let at = 0; at < files.length; at += GROUP) {
    const group = files.slice(at, at + GROUP)
    const { pixels, height, width, channels } = await readPictures(group, { colours })
    const shape = [height, width, channels]
    first ??= shape.join(' × ')
    if (shape.join(' × ') !== first)
      throw new Error(
        `${group[0]} has ${shape.join(' × ')} numbers, ${files[0]} ${first}: pictures are of one size`,
      )
    // The first of all says what the first of each group would.
    if (colours === 'asStored') colours = coloursOf(shape)
    const size = height * width * channels
    group.forEach((_, i) => inputs.push({ data: shares(pixels.subarray(i * size, (i + 1) * size)), shape }))
  }
  return inputs
}

/** A picture of a file of many. */
export interface OneOfMany {
  readonly name: string
  readonly input: ClassInput
  readonly label: string | number | undefined
  readonly part: Part | undefined
}

const bytesOf = (file: string): Uint8Array => {
  const bytes = readFileSync(file)
  return file.toLowerCase().endsWith('.gz') ? gunzipSync(bytes, { maxOutputLength: 2 ** 31 }) : bytes
}

/** The pictures of an IDX file, with the classes of the file beside it; `sizes` are those that a classifier wants. */
export async function readIdxFile(file: string, sizes: readonly number[] | undefined): Promise<OneOfMany[]> {
  const beside = labelsOf(file)
  const part = /^(t10k|test)/i.test(basename(file)) ? 'test' : 'train'
  try {
    if (existsSync(beside)) {
      const examples = await idxExamples(bytesOf(file), bytesOf(beside))
      return examples.map(({ input, label }, i) => ({
        name: `${file}:${i + 1}`,
        input: sized(input, sizes),
        label,
        part,
      }))
    }
    const { data, shape } = await readIdx(bytesOf(file))
    const [count = 0, height = 0, width = 0] = shape
    const size = height * width
    const pixels = shares(data as Uint8Array)
    return Array.from({ length: count }, (_, i) => ({
      name: `${file}:${i + 1}`,
      input: sized({ data: pixels.subarray(i * size, (i + 1) * size), shape: [height, width, 1] }, sizes),
      label: undefined,
      part,
    }))
  } catch (error) {
    throw new Error(`${file}${existsSync(beside) ? `, ${beside}` : ''}: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** A picture of one colour with as many sizes as a classifier wants. */
const sized = <T extends { shape: readonly number[] }>(input: T, sizes: readonly number[] | undefined): T =>
  sizes?.length === 2 ? { ...input, shape: input.shape.slice(0, 2) } : input

/** The pictures of CIFAR-10's binary files; class names are those of `batches.meta.txt` beside them. */
export async function readCifarFiles(files: readonly string[]): Promise<OneOfMany[]> {
  const read: OneOfMany[] = []
  for (const file of files) {
    const meta = join(dirname(file), 'batches.meta.txt')
    const names = existsSync(meta)
      ? readFileSync(meta, 'utf8')
          .split('\n')
          .map((x) => x.trim())
          .filter((x) => x !== '')
      : []
    const part = /^test/i.test(basename(file)) ? 'test' : 'train'
    const examples = await cifar10Examples([file], names.length === 10 ? { names } : {})
    for (const [i, { input, label }] of examples.entries())
      read.push({ name: `${file}:${i + 1}`, input, label, part })
  }
  return read
}
