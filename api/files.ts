import * as binding from '#binding'
import { fail, native } from './error.js'
import { checkTensor, floats, known, size, type TensorLike } from './tensor.js'

/** A tensor of a file: real as it is stored, integers as 32-bit. A scalar has the shape []. */
export interface FileTensor {
  readonly data: Float32Array | Float64Array | Int32Array
  readonly shape: readonly number[]
}

/** Tensors and metadata of a safetensors file; a damaged one is `ERR_S4_CHECKPOINT`. */
export function readSafetensors(path: string): {
  tensors: Record<string, FileTensor>
  metadata: Record<string, string>
} {
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
    // A scalar has no sizes.
    const { data } = checkTensor(op, name, x?.shape?.length === 0 ? { data: x.data, shape: [1] } : x)
    const kept = data instanceof Float32Array || data instanceof Float64Array || data instanceof Int32Array
    return { name, shape: [...x.shape], data: kept ? data : floats(op, name, data, 'f32') }
  })
  native(() => binding.writeSafetensors(path, list, metadata))
}

/** Which column, and what a field without a value becomes. */
export interface CsvOptions {
  /** A string is a name in the header, a number a place from 0. Default the last. */
  column?: string | number
  /** `'error'` (default) names the row; `'linear'` draws the line between the values before and after. */
  gaps?: 'error' | 'linear'
}

/** One column of numbers; text, a gap or a ragged line is `ERR_S4_DATA` with its row. */
export function readCsv(path: string, options: CsvOptions = {}): Float64Array {
  const op = 'readCsv'
  known(op, options, ['column', 'gaps'])
  const { column, gaps = 'error' } = options
  if (gaps !== 'error' && gaps !== 'linear') throw fail('ERR_S4_VALUE', op, "gaps 'error' or 'linear'", gaps)
  const name = typeof column === 'string' ? column : undefined
  const place =
    column === undefined || name !== undefined ? undefined : size(op, 'column', column, 0, 2 ** 31)
  return native(() => binding.readColumn(path, name, place, gaps))
}
