import * as binding from '#binding'
import { types } from 'node:util'
import { inBackground, type AbortOptions } from './background.js'
import {
  filePath,
  membersOf,
  oneOf,
  rejectUnknownOptions,
  wholeNumber,
  textOf,
  type FilePath,
} from './check.js'
import { fail, callNative, type S4Error } from './error.js'
import { choices } from './options.js'
import { allocate, allocated, checkFileTensor, floats, type TensorLike } from './tensor.js'

/** A tensor that was read from a safetensors file. A scalar has the shape []. */
export interface FileTensor {
  /**
   * The elements, the last size running fastest, in an array that holds each of them exactly: F16, BF16 and F32 in a
   * Float32Array; F64 in a Float64Array; BOOL and integers that fit 32 bits in an Int32Array; U32, and 64-bit integers up
   * to 2^53, in a Float64Array.
   */
  readonly data: Float32Array | Float64Array | Int32Array
  /** Sizes, outermost first. */
  readonly shape: readonly number[]
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /**
   * The tensors by name. Some cannot be read: those of types such as `F8_E4M3` and `C64`, and integers beyond 2^53. They
   * are not listed, and to ask for one by its name throws `ERR_S4_DTYPE`.
   */
  tensors: Record<string, FileTensor>
  /** The texts of the file's metadata, by name. */
  metadata: Record<string, string>
}

/** Reads the tensors and the metadata of a safetensors file. `ERR_S4_CHECKPOINT` where it is damaged or of another kind. */
export function readSafetensors(path: FilePath): SafetensorsFile {
  const op = 'readSafetensors'
  const file = filePath(op, path)
  return tensorsOfFile(
    op,
    callNative(() => binding.readSafetensors(file)),
  )
}

/** As {@link readSafetensors}, without holding up the event loop. */
export async function readSafetensorsAsync(
  path: FilePath,
  options: AbortOptions = {},
): Promise<SafetensorsFile> {
  const op = 'readSafetensorsAsync'
  const { signal } = rejectUnknownOptions(op, options, ['signal'])
  const file = filePath(op, path)
  return tensorsOfFile(op, await inBackground(op, () => binding.readSafetensorsAsync(file), signal))
}

/** What the addon has read of a safetensors file, as the API gives it. */
function tensorsOfFile(op: string, { tensors, metadata }: binding.TensorFile): SafetensorsFile {
  const byName: Record<string, FileTensor> = {}
  for (const { name, shape, dtype, data: stored } of tensors) {
    const data = stored === undefined || stored === null ? undefined : exactNumbers(op, stored)
    const unreadableError = (): S4Error =>
      fail('ERR_S4_DTYPE', op, `a tensor of a type that is read here for '${name}'`, `the type ${dtype}`)
    Object.defineProperty(
      byName,
      name,
      data === undefined
        ? {
            get: () => {
              throw unreadableError()
            },
          }
        : { value: { data, shape }, enumerable: true, writable: true, configurable: true },
    )
  }
  return { tensors: byName, metadata }
}

/**
 * The numbers of a file's tensor: integers of 64 bits, or of 32 without sign, become a Float64Array if it holds each of
 * them exactly; else undefined.
 */
function exactNumbers(
  op: string,
  data: NonNullable<binding.FileTensor['data']>,
): FileTensor['data'] | undefined {
  const given: unknown = data
  if (types.isUint32Array(given)) {
    const values = allocate(op, [given.length], 'f64')
    values.set(given)
    return values
  }
  if (types.isBigInt64Array(given) || types.isBigUint64Array(given)) {
    const values = allocate(op, [given.length], 'f64')
    given.forEach((x: bigint, i: number) => (values[i] = Number(x)))
    return values.every((x) => Math.abs(x) <= Number.MAX_SAFE_INTEGER) ? values : undefined
  }
  return given as FileTensor['data']
}

/**
 * The typed arrays that a safetensors file can hold: the name of each element type in the file, and a test for the array.
 */
const STORED_TYPES: readonly (readonly [dtype: string, is: (x: unknown) => boolean])[] = [
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

/**
 * Checks a tensor and converts it to what the addon writes: a typed array keeps its type, other arrays of numbers become
 * F32.
 */
function storedTensor(op: string, name: string, x: unknown): binding.BytesTensor {
  if (name === '__metadata__')
    throw fail('ERR_S4_VALUE', op, `a tensor's name other than '__metadata__', which the format keeps`, name)
  const { data, shape } = checkFileTensor(op, name, x)
  const dtype = STORED_TYPES.find(([, is]) => is(data))?.[0]
  if (dtype === undefined && ArrayBuffer.isView(data))
    throw fail(
      'ERR_S4_DTYPE',
      op,
      `${name}.data as one of ${STORED_TYPES.map(([word]) => word).join(', ')}`,
      data,
    )
  const array = dtype === undefined ? floats(op, name, data, 'f32') : (data as unknown as Float32Array)
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  return {
    name,
    shape: [...shape],
    dtype: dtype ?? 'F32',
    bytes: types.isSharedArrayBuffer(bytes.buffer)
      ? allocated(op, name, bytes.length, () => new Uint8Array(bytes))
      : bytes,
  }
}

/** Checks what {@link writeSafetensors} is given, and converts it to the addon's arguments. */
function writeCall(op: string, path: FilePath, tensors: unknown, metadata: unknown) {
  const file = filePath(op, path)
  const storedTensors = Object.entries(membersOf(op, 'tensors', tensors)).map(([name, x]) =>
    storedTensor(op, name, x),
  )
  const texts = Object.entries(membersOf(op, 'metadata', metadata))
  const meta = Object.fromEntries(texts.map(([name, x]) => [name, textOf(op, `metadata '${name}'`, x)]))
  return [file, storedTensors, meta] as const
}

/**
 * Writes a safetensors file: to a temporary file, which is then renamed, so that a reader finds the old file or the new
 * one. The permissions of a file that it replaces are kept, and a symbolic link stays: the file that it leads to is
 * replaced. Typed arrays are written as their own type, other arrays of numbers as F32.
 */
export function writeSafetensors(
  path: FilePath,
  tensors: Record<string, TensorLike | FileTensor>,
  metadata: Record<string, string> = {},
): void {
  const args = writeCall('writeSafetensors', path, tensors, metadata)
  callNative(() => binding.writeSafetensors(...args))
}

/** As {@link writeSafetensors}, without holding up the event loop; what is written is as it was at the call. */
export async function writeSafetensorsAsync(
  path: FilePath,
  tensors: Record<string, TensorLike | FileTensor>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const op = 'writeSafetensorsAsync'
  const args = writeCall(op, path, tensors, metadata)
  await inBackground(op, () => binding.writeSafetensorsAsync(...args), undefined)
}

/** Options of {@link readCsv}: which column, and what a field without a value becomes. */
export interface CsvOptions {
  /** The column: a string is its name in the header, a number its place from 0. Default the last. */
  column?: string | number
  /**
   * What a field without a value is: an error (`'error'`, default), or the value on the line between those before and after
   * (`'linear'`).
   */
  gaps?: (typeof choices.gaps)[number]
  /**
   * Whether the first line holds names. `'auto'` (default) finds it out: names above numbers are a header, and so is any first line
   * where `column` is a name; a first line with names and numbers of its own is `ERR_S4_DATA`, as it may be either.
   */
  header?: boolean | 'auto'
}

/** Checks what {@link readCsv} is given, and converts it to the addon's arguments. */
function columnCall(op: string, path: FilePath, { column, gaps = 'error', header = 'auto' }: CsvOptions) {
  const fill = oneOf(op, 'gaps', gaps, choices.gaps)
  const named = header === 'auto' ? undefined : header
  if (named !== undefined && typeof named !== 'boolean')
    throw fail('ERR_S4_VALUE', op, "header true, false or 'auto'", named)
  const file = filePath(op, path)
  const name = typeof column === 'string' ? column : undefined
  const place =
    column === undefined || name !== undefined ? undefined : wholeNumber(op, 'column', column, 0, 2 ** 31)
  return [file, name, place, fill, named] as const
}

/**
 * Reads one column of a CSV file as numbers. `ERR_S4_DATA`, with the line, where a field is no number or a line has another
 * number of fields.
 */
export function readCsv(path: FilePath, options: CsvOptions = {}): Float64Array {
  const op = 'readCsv'
  const given = rejectUnknownOptions(op, options, ['column', 'gaps', 'header'])
  const args = columnCall(op, path, given)
  return callNative(() => binding.readColumn(...args))
}

/** As {@link readCsv}, without holding up the event loop. */
export async function readCsvAsync(
  path: FilePath,
  options: CsvOptions & AbortOptions = {},
): Promise<Float64Array> {
  const op = 'readCsvAsync'
  const given = rejectUnknownOptions(op, options, ['column', 'gaps', 'header', 'signal'])
  const args = columnCall(op, path, given)
  return inBackground(op, () => binding.readColumnAsync(...args), given.signal)
}
