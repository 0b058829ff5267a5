import * as binding from '#binding'
import { inBackground, type AbortOptions } from '../background.js'
import { filePath, listOf, rejectUnknownOptions, type FilePath } from '../check.js'
import { fail } from '../error.js'
import { givenSource, pathOrBytes, type DataSource } from './source.js'

/** An array of numbers of a file, in the type that the file has; numbers of 16 bits with a fraction in 32 bits. */
export interface FileArray {
  /** The numbers, the last size running fastest. Booleans are 0 and 1. */
  data:
    | Uint8Array
    | Int8Array
    | Uint16Array
    | Int16Array
    | Uint32Array
    | Int32Array
    | BigUint64Array
    | BigInt64Array
    | Float32Array
    | Float64Array
  /** Sizes, outermost first; none of a single number. */
  shape: number[]
}

/** Pictures with a class each, as CIFAR-10's binary files hold them. */
export interface Cifar10 {
  /** (count, 32, 32, 3): red, green and blue of each pixel. */
  pixels: Uint8Array
  /** (count): classes from 0 to 9. */
  labels: Uint8Array
}

async function arraysOf(
  op: string,
  source: DataSource,
  options: AbortOptions,
  format: 'npy' | 'npz' | 'idx',
): Promise<binding.ArrayData[]> {
  const { signal } = rejectUnknownOptions(op, options, ['signal'])
  const given = await pathOrBytes(op, 'source', givenSource(op, 'source', source), signal)
  return inBackground(op, () => binding.readArrays(given, format), signal)
}

function only(op: string, arrays: binding.ArrayData[]): FileArray {
  const [first] = arrays
  if (first === undefined) throw fail('ERR_S4_INTERNAL', op, 'an array', 'none')
  return { data: first.data, shape: first.shape }
}

/** Reads a NumPy array (`.npy`). `ERR_S4_DATA` where the file is damaged, or holds no plain numbers. */
export async function readNpy(source: DataSource, options: AbortOptions = {}): Promise<FileArray> {
  return only('readNpy', await arraysOf('readNpy', source, options, 'npy'))
}

/** Reads the NumPy arrays of an archive (`.npz`), by name. `ERR_S4_DATA` where the file is damaged. */
export async function readNpz(
  source: DataSource,
  options: AbortOptions = {},
): Promise<Record<string, FileArray>> {
  const arrays = await arraysOf('readNpz', source, options, 'npz')
  return Object.fromEntries(arrays.map(({ name, data, shape }) => [name, { data, shape }]))
}

/** Reads an IDX file, as MNIST has them: pictures (count, height, width) or labels (count). `ERR_S4_DATA` where it is damaged. */
export async function readIdx(source: DataSource, options: AbortOptions = {}): Promise<FileArray> {
  return only('readIdx', await arraysOf('readIdx', source, options, 'idx'))
}

/** Reads binary files of CIFAR-10, one after the other. `ERR_S4_DATA` with path and byte where one is damaged. */
export async function readCifar10(paths: readonly FilePath[], options: AbortOptions = {}): Promise<Cifar10> {
  const op = 'readCifar10'
  const { signal } = rejectUnknownOptions(op, options, ['signal'])
  const list = listOf(op, 'paths', paths).map((path) => filePath(op, path, 'each of paths'))
  if (list.length === 0) throw fail('ERR_S4_VALUE', op, 'one or more paths', 'none')
  return inBackground(op, () => binding.readCifar10(list), signal)
}
