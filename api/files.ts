import * as binding from '#binding'
import { oneOf, rejectUnknownOptions, size } from './check.js'
import { native } from './error.js'
import { choices } from './options.js'
import { checkFileTensor, floats, type TensorLike } from './tensor.js'

/** A tensor of a file: real as it is stored, integers as 32-bit. A scalar has the shape []. */
export interface FileTensor {
  /** The elements, the last size running fastest. */
  readonly data: Float32Array | Float64Array | Int32Array
  /** Sizes, outermost first. */
  readonly shape: readonly number[]
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** By name. */
  tensors: Record<string, FileTensor>
  /** Texts by name. */
  metadata: Record<string, string>
}

/** Tensors and metadata of a safetensors file; a damaged one is `ERR_S4_CHECKPOINT`. */
export function readSafetensors(path: string): SafetensorsFile {
  const { tensors, metadata } = native(() => binding.readSafetensors(path))
  return {
    tensors: Object.fromEntries(tensors.map(({ name, shape, data }) => [name, { data, shape }])),
    metadata,
  }
}

/** Writes a safetensors file: a temporary file, then a rename. */
export function writeSafetensors(
  path: string,
  tensors: Record<string, TensorLike | FileTensor>,
  metadata: Record<string, string> = {},
): void {
  const list = Object.entries(tensors).map(([name, x]) => {
    const op = 'writeSafetensors'
    const data = checkFileTensor(op, name, x)
    const storable =
      data instanceof Float32Array || data instanceof Float64Array || data instanceof Int32Array
    return { name, shape: [...x.shape], data: storable ? data : floats(op, name, data, 'f32') }
  })
  native(() => binding.writeSafetensors(path, list, metadata))
}

/** Which column, and what a field without a value becomes. */
export interface CsvOptions {
  /** A string is a name in the header, a number a place from 0. Default the last. */
  column?: string | number
  /** `'error'` (default) names the row; `'linear'` draws the line between the values before and after. */
  gaps?: (typeof choices.gaps)[number]
}

/** One column of numbers; text, a gap or a ragged line is `ERR_S4_DATA` with its row. */
export function readCsv(path: string, options: CsvOptions = {}): Float64Array {
  const op = 'readCsv'
  rejectUnknownOptions(op, options, ['column', 'gaps'])
  const { column, gaps = 'error' } = options
  oneOf(op, 'gaps', gaps, choices.gaps)
  const name = typeof column === 'string' ? column : undefined
  const place =
    column === undefined || name !== undefined ? undefined : size(op, 'column', column, 0, 2 ** 31)
  return native(() => binding.readColumn(path, name, place, gaps))
}
