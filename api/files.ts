import * as binding from '#binding'
import { types } from 'node:util'
import { describe, filePath, oneOf, rejectUnknownOptions, size, type FilePath } from './check.js'
import { fail, native, reading, type S4Error } from './error.js'
import { choices } from './options.js'
import { checkFileTensor, floats, type TensorLike } from './tensor.js'

/** A tensor of a file. A scalar has the shape []. */
export interface FileTensor {
  /**
   * The elements, the last size running fastest, each exactly: F16, BF16 and F32 in a Float32Array; F64 in a Float64Array; BOOL and
   * integers that fit 32 bits in an Int32Array; U32, and 64-bit integers up to 2^53, in a Float64Array.
   */
  readonly data: Float32Array | Float64Array | Int32Array
  /** Sizes, outermost first. */
  readonly shape: readonly number[]
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** By name. One of a type that is not read here (`F8_E4M3`, `C64`, integers beyond 2^53) is not listed; to ask for it by name is `ERR_S4_DTYPE`. */
  tensors: Record<string, FileTensor>
  /** Texts by name. */
  metadata: Record<string, string>
}

/** Tensors and metadata of a safetensors file; a damaged one is `ERR_S4_CHECKPOINT`. */
export function readSafetensors(path: FilePath): SafetensorsFile {
  const op = 'readSafetensors'
  const file = filePath(op, path)
  const { tensors, metadata } = native(() => binding.readSafetensors(file))
  const byName: Record<string, FileTensor> = {}
  for (const { name, shape, dtype, data: stored } of tensors) {
    const data = stored === undefined || stored === null ? undefined : exactly(stored)
    const unread = (): S4Error =>
      fail('ERR_S4_DTYPE', op, `a tensor of a type that is read here for '${name}'`, `the type ${dtype}`)
    Object.defineProperty(
      byName,
      name,
      data === undefined
        ? {
            get: () => {
              throw unread()
            },
          }
        : { value: { data, shape }, enumerable: true, writable: true, configurable: true },
    )
  }
  return { tensors: byName, metadata }
}

/** Integers of other types as reals where each is exact; nothing where one is not. */
function exactly(data: NonNullable<binding.FileTensor['data']>): FileTensor['data'] | undefined {
  const given: unknown = data
  if (types.isUint32Array(given)) return Float64Array.from(given)
  if (types.isBigInt64Array(given) || types.isBigUint64Array(given)) {
    const values = Float64Array.from(given as BigInt64Array, Number)
    return values.every((x) => Math.abs(x) <= Number.MAX_SAFE_INTEGER) ? values : undefined
  }
  return given as FileTensor['data']
}

/** The file's words for the arrays that it can hold as they are. */
const STORED: readonly (readonly [dtype: string, is: (x: unknown) => boolean])[] = [
  ['F32', types.isFloat32Array],
  ['F64', types.isFloat64Array],
  ['I8', types.isInt8Array],
  ['U8', (x) => types.isUint8Array(x) || types.isUint8ClampedArray(x)],
  ['I16', types.isInt16Array],
  ['U16', types.isUint16Array],
  ['I32', types.isInt32Array],
  ['U32', types.isUint32Array],
  ['I64', types.isBigInt64Array],
  ['U64', types.isBigUint64Array],
]

/** A tensor as the addon writes it: a typed array as its own type, other arrays of numbers as F32. */
function storedTensor(op: string, name: string, x: unknown): binding.BytesTensor {
  if (name === '__metadata__')
    throw fail('ERR_S4_VALUE', op, `a tensor's name other than '__metadata__', which the format keeps`, name)
  const { data, shape } = checkFileTensor(op, name, x)
  const dtype = STORED.find(([, is]) => is(data))?.[0]
  if (dtype === undefined && ArrayBuffer.isView(data))
    throw fail('ERR_S4_DTYPE', op, `${name}.data as one of ${STORED.map(([word]) => word).join(', ')}`, data)
  const array = dtype === undefined ? floats(op, name, data, 'f32') : (data as unknown as Float32Array)
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  return {
    name,
    shape: [...shape],
    dtype: dtype ?? 'F32',
    bytes: types.isSharedArrayBuffer(bytes.buffer) ? new Uint8Array(bytes) : bytes,
  }
}

/**
 * Writes a safetensors file: a temporary file, then a rename; an existing file keeps its permissions, a symbolic link leads to
 * what is replaced. Typed arrays are written as their own type, other arrays of numbers as F32.
 */
export function writeSafetensors(
  path: FilePath,
  tensors: Record<string, TensorLike | FileTensor>,
  metadata: Record<string, string> = {},
): void {
  const op = 'writeSafetensors'
  const file = filePath(op, path)
  const list = entries(op, 'tensors', tensors).map(([name, x]) => storedTensor(op, name, x))
  const texts = entries(op, 'metadata', metadata).map(([name, text]) => {
    if (typeof text !== 'string')
      throw fail('ERR_S4_VALUE', op, `a string for metadata '${name}'`, describe(text))
    return [name, text]
  })
  const meta = Object.fromEntries(texts) as Record<string, string>
  native(() => binding.writeSafetensors(file, list, meta))
}

/** Names and values of an object, each read once. */
function entries(op: string, what: string, x: unknown): [string, unknown][] {
  return reading(op, what, () => {
    if (typeof x !== 'object' || x === null || Array.isArray(x) || ArrayBuffer.isView(x))
      throw fail('ERR_S4_VALUE', op, `${what} by name, in an object`, describe(x))
    return Object.entries(x)
  })
}

/** Which column, and what a field without a value becomes. */
export interface CsvOptions {
  /** A string is a name in the header, a number a place from 0. Default the last. */
  column?: string | number
  /** `'error'` (default) names the row; `'linear'` draws the line between the values before and after. */
  gaps?: (typeof choices.gaps)[number]
  /**
   * Whether the first line holds names. `'auto'` (default) finds it out: names above numbers are a header, and so is any first line
   * where `column` is a name; a first line with names and numbers of its own is `ERR_S4_DATA`, as it may be either.
   */
  header?: boolean | 'auto'
}

/** One column of numbers; text, a gap or a ragged line is `ERR_S4_DATA` with its row. */
export function readCsv(path: FilePath, options: CsvOptions = {}): Float64Array {
  const op = 'readCsv'
  const {
    column,
    gaps = 'error',
    header = 'auto',
  } = rejectUnknownOptions(op, options, ['column', 'gaps', 'header'])
  oneOf(op, 'gaps', gaps, choices.gaps)
  const named = header === 'auto' ? undefined : header
  if (named !== undefined && typeof named !== 'boolean')
    throw fail('ERR_S4_VALUE', op, "header true, false or 'auto'", named)
  const file = filePath(op, path)
  const name = typeof column === 'string' ? column : undefined
  const place =
    column === undefined || name !== undefined ? undefined : size(op, 'column', column, 0, 2 ** 31)
  return native(() => binding.readColumn(file, name, place, gaps, named))
}
