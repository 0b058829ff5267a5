// Inputs of a classifier that are in files.
import { readFile } from 'node:fs/promises'
import { filePath, membersOf, type FilePath } from '../check.js'
import { readAudio } from '../data/audio.js'
import { fail, readGiven, throwIfAborted } from '../error.js'
import { readPictures } from '../pictures.js'
import { givenInput, type GivenInput, type InputKind, type InputPlan } from './class-inputs.js'
import { textOfBytes } from './tokenizer.js'

/** A file that has an input: a recording, a picture, or a text in UTF-8. */
export interface InputFile {
  /** Its path. */
  file: FilePath
}

/** The path that an input is: `{ file }`, or a string where inputs are no texts. */
export function fileOf(op: string, x: unknown, kind: InputKind): string | undefined {
  if (typeof x === 'string') return kind === 'text' ? undefined : filePath(op, x, 'each of inputs')
  const isFile = readGiven(op, 'each of inputs', () => typeof x === 'object' && x !== null && 'file' in x)
  if (!isFile) return undefined
  const { file } = membersOf(op, 'each of inputs', x, 'ERR_S4_VALUE', ['file'])
  return filePath(op, file, 'file of each of inputs')
}

/** The input in a file: a recording at the rate of the call, a picture, or a text. */
export async function fileInput(
  op: string,
  path: string,
  { kind, sampleRate, sizes }: InputPlan,
  rate: number,
  signal: AbortSignal | undefined,
): Promise<GivenInput> {
  const what = 'each of inputs'
  if (kind === 'series')
    throw fail('ERR_S4_UNSUPPORTED', op, `${what} as values, of a classifier of series`, path)
  if (kind === 'text') {
    const bytes = await readFile(path).catch((error: unknown) => {
      throw fail('ERR_S4_DATA', op, 'a file that can be read', `${path}: ${(error as Error).message}`)
    })
    throwIfAborted(op, signal)
    return { text: textOfBytes(op, path, bytes) }
  }
  if (kind === 'audio') {
    const options = { sampleRate: Math.round(sampleRate / rate), mono: true, ...(signal && { signal }) }
    const { samples } = await readAudio(path, options)
    return givenInput(op, what, { data: samples, shape: [samples.length, 1] })
  }
  const colours = sizes[2] === undefined || sizes[2] === 1 ? 'grey' : sizes[2] === 3 ? 'rgb' : 'asStored'
  const { pixels, height, width, channels } = await readPictures([path], {
    colours,
    ...(signal && { signal }),
  })
  const shape = sizes.length === 2 ? [height, width] : [height, width, channels]
  return givenInput(op, what, { data: Float32Array.from(pixels, (v) => v / 255), shape })
}
