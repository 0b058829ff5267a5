// Tensors: arrays with sizes. Those that a caller gives are checked by their properties, never by `instanceof`, which fails
// for objects of another realm.
import { types } from 'node:util'
import { memoryLeft } from '#binding'
import { stepRatio } from './check.js'
import { describe, fail, readGiven } from './error.js'

/** Sizes, outermost first. */
export type Shape = readonly number[]
/** An array of real numbers, as the library gives them. */
export type Floats = Float32Array | Float64Array
/** Number format of a layer, block or model. `f64` is computed on the CPU only. */
export type Dtype = 'f32' | 'f64'
/** An array of integers: tokens, labels or lengths. */
export type Integers = Int32Array | Uint8Array | Uint16Array | Uint32Array | BigInt64Array | readonly number[]

/**
 * An array with sizes, of this library, of another, or an object literal. Elements lie densely, the last size running
 * fastest.
 */
export interface TensorLike {
  /** The elements, the last size running fastest. */
  readonly data: ArrayLike<number> | BigInt64Array
  /** Sizes, outermost first: each at least 1, their product the number of elements. */
  readonly shape: Shape
}

/** A tensor that the library gives: an array with its sizes. */
export interface Tensor {
  /** The elements, the last size running fastest. */
  readonly data: Floats
  /** Sizes, outermost first. */
  readonly shape: Shape
  /** Element type of `data`. */
  readonly dtype: Dtype
}

/** Number of elements of a tensor with these sizes. */
export function elementCount(shape: Shape): number {
  let count = 1
  for (const size of shape) count *= size
  return count
}

/** Makes a tensor of an array that the addon gave. */
export function tensor(data: Floats, shape: Shape): Tensor {
  return { data, shape, dtype: types.isFloat64Array(data) ? 'f64' : 'f32' }
}

/** Arrays of fewer bytes are asked for without a look at the memory that there is. */
const WORTH_A_LOOK = 2 ** 24
/** Arrays of fewer bytes are on JavaScript's own heap, or as small. */
const ALWAYS_THERE = 2 ** 12

/** What `make` allocates; `ERR_S4_MEMORY` where its bytes are more than this process may still have. */
export function allocated<A>(op: string, what: string, bytes: number, make: () => A): A {
  const mib = (n: number) => `${(n / 2 ** 20).toFixed(1)} MiB`
  const left = bytes < WORTH_A_LOOK ? undefined : memoryLeft()
  if (typeof left === 'number' && bytes > left)
    throw fail(
      'ERR_S4_MEMORY',
      op,
      `${mib(bytes)} of memory for ${what}`,
      `${mib(left)} that this process may still have`,
    )
  try {
    return make()
  } catch {
    throw fail('ERR_S4_MEMORY', op, `JavaScript to allocate ${what}`, mib(bytes))
  }
}

/** A zeroed array with room for these sizes, for the addon to write into. Every push comes through here. */
export function allocate(op: string, shape: Shape, dtype: Dtype): Floats {
  const n = elementCount(shape)
  const type = dtype === 'f32' ? Float32Array : Float64Array
  const bytes = n * type.BYTES_PER_ELEMENT
  if (bytes < ALWAYS_THERE) return new type(n)
  return allocated(op, `${n} elements of ${dtype}`, bytes, () => new type(n))
}

/** A shape as text, for error messages. */
export const shapeText = (shape: Shape) => `[${shape.join(', ')}]`

/**
 * Checks that x is `{ data, shape }` with whole sizes of at least 1 whose product is the length of data, and gives the two
 * as they were read. `rank`: how many sizes there must be.
 */
export function checkTensor(
  op: string,
  what: string,
  x: unknown,
  rank?: number | readonly number[],
): TensorLike {
  return readGiven(op, what, () => readTensor(op, what, x, rank))
}

/** {@link checkTensor} but for what getters and proxies throw. Every push comes through here: no closures, no lists. */
function readTensor(op: string, what: string, x: unknown, rank?: number | readonly number[]): TensorLike {
  const { data, shape: sizes } = typeof x === 'object' && x !== null ? readDataAndShape(x) : NO_TENSOR
  if (data === undefined || data === null || !Array.isArray(sizes))
    throw fail('ERR_S4_SHAPE', op, `${what} as { data, shape }`, describe(x))
  const { length } = sizes
  const shape: number[] = []
  let n = 1
  let isCounted = true
  for (let i = 0; i < length; i++) {
    const size: unknown = sizes[i]
    if (typeof size !== 'number')
      throw fail('ERR_S4_SHAPE', op, `${what} with sizes that are numbers`, describe(size))
    isCounted &&= Number.isSafeInteger(size) && size >= 1
    n *= size
    shape.push(size)
  }
  if (typeof data !== 'object' || typeof data.length !== 'number')
    throw fail('ERR_S4_DTYPE', op, `${what}.data as an array of numbers`, describe(data))
  if (rank !== undefined && !(typeof rank === 'number' ? rank === length : rank.includes(length))) {
    const ranks = typeof rank === 'number' ? rank : rank.join(' or ')
    throw fail('ERR_S4_SHAPE', op, `${what} with ${ranks} sizes`, shapeText(shape))
  }
  if (!isCounted) throw fail('ERR_S4_SHAPE', op, `${what} with sizes of at least 1`, shapeText(shape))
  if (n > 2 ** 40 || shape.some((size) => size > 2 ** 32 - 1))
    throw fail('ERR_S4_SHAPE', op, `${what} of at most 2^40 elements`, shapeText(shape))
  if (data.length !== n) {
    throw fail(
      'ERR_S4_SHAPE',
      op,
      `${what} ${shapeText(shape)} with ${n} elements`,
      `${data.length} elements`,
    )
  }
  return { data, shape }
}

/** Data and shape of an object, each read once: a getter may give another value the next time. */
function readDataAndShape(x: object): { data: TensorLike['data'] | null | undefined; shape: unknown } {
  const { data, shape } = x as Partial<TensorLike>
  return { data, shape }
}

const NO_TENSOR: ReturnType<typeof readDataAndShape> = { data: undefined, shape: undefined }

/** As {@link checkTensor}, for a tensor of a file, which may be a scalar: one element, with the shape []. */
export function checkFileTensor(op: string, what: string, x: unknown): TensorLike {
  const { given, scalar } = readGiven(op, what, () => {
    const read = typeof x === 'object' && x !== null ? readDataAndShape(x) : NO_TENSOR
    return { given: read, scalar: Array.isArray(read.shape) && read.shape.length === 0 }
  })
  const { data, shape } = checkTensor(op, what, { data: given.data, shape: scalar ? [1] : given.shape })
  return { data, shape: scalar ? [] : shape }
}

/** Whether the array's memory is shared with other threads, which may write to it while the addon reads it. */
const isShared = (data: ArrayBufferView) => types.isSharedArrayBuffer(data.buffer)

/**
 * The numbers in the number format of a model. An array of that type is given back as it is, unless other threads can write
 * to it: the addon copies it, or reads it before the call returns.
 */
export function floats(op: string, what: string, data: TensorLike['data'], dtype: Dtype): Floats {
  const given: unknown = data
  if (dtype === 'f32' && types.isFloat32Array(given) && !isShared(given)) return given
  if (dtype === 'f64' && types.isFloat64Array(given) && !isShared(given)) return given
  if (types.isBigInt64Array(given) || types.isBigUint64Array(given)) {
    throw fail('ERR_S4_DTYPE', op, `${what} of real numbers`, describe(given))
  }
  return readGiven(op, what, () => {
    const converted = allocate(op, [data.length], dtype)
    // The elements of a typed array need no check: they are numbers.
    if (ArrayBuffer.isView(data)) {
      converted.set(data as unknown as ArrayLike<number>)
      return converted
    }
    for (let i = 0; i < converted.length; i++) {
      const x: unknown = data[i]
      if (typeof x !== 'number')
        throw fail('ERR_S4_DTYPE', op, `${what} of numbers`, `${describe(x)} at index ${i}`)
      converted[i] = x
    }
    return converted
  })
}

/** Refuses NaN and infinities by their place. */
export function finite(op: string, what: string, data: Floats): Floats {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i]))
      throw fail('ERR_S4_VALUE', op, `finite numbers in ${what}`, `${data[i]} at index ${i}`)
  }
  return data
}

/** The numbers as 32-bit integers. `ERR_S4_DTYPE` where one is not whole or does not fit. */
export function integers(op: string, what: string, data: ArrayLike<number> | BigInt64Array): Int32Array {
  const array: unknown = data
  if (types.isInt32Array(array) && !isShared(array)) return array
  return readGiven(op, what, () => {
    const n: unknown = data.length
    if (typeof n !== 'number') throw fail('ERR_S4_DTYPE', op, `${what} of 32-bit integers`, describe(data))
    const converted = allocated(op, what, 4 * n, () => new Int32Array(n))
    for (let i = 0; i < converted.length; i++) {
      const given: unknown = data[i]
      const x = typeof given === 'bigint' ? Number(given) : given
      if (typeof x !== 'number' || !Number.isInteger(x) || x > 0x7fffffff || x < -0x80000000) {
        throw fail('ERR_S4_DTYPE', op, `${what} of 32-bit integers`, `${describe(given)} at index ${i}`)
      }
      converted[i] = x
    }
    return converted
  })
}

/** Checks a tensor, which must have exactly this shape, and gives its numbers in the number format of a model. */
export function floatsOfShape(op: string, what: string, x: unknown, shape: Shape, dtype: Dtype): Floats {
  const t = checkTensor(op, what, x, shape.length)
  if (t.shape.some((s, i) => s !== shape[i])) {
    throw fail('ERR_S4_SHAPE', op, `${what} ${shapeText(shape)}`, shapeText(t.shape))
  }
  return floats(op, what, t.data, dtype)
}

/**
 * Checks that there is a length for each sequence of a batch, and gives them as integers; undefined where none are given.
 */
export function rowLengths(
  op: string,
  lengths: ArrayLike<number> | undefined,
  batch: number,
): Int32Array | undefined {
  if (lengths === undefined) return undefined
  const n: unknown = readGiven(op, 'lengths', () => (lengths as ArrayLike<number> | null)?.length)
  if (n !== batch)
    throw fail('ERR_S4_SHAPE', op, `lengths of ${batch} rows`, typeof n === 'number' ? n : describe(lengths))
  return integers(op, 'lengths', lengths)
}

/**
 * Checks that there is an interval for each time step of a batch or an example, in this shape or as many numbers, and gives
 * them in the number format of a model; undefined where none are given. Their values are checked by the addon, which knows the padding.
 */
export function stepsIntervals(
  op: string,
  intervals: TensorLike | ArrayLike<number> | undefined,
  shape: Shape,
  dtype: Dtype,
): Floats | undefined {
  if (intervals === undefined) return undefined
  const shaped = readGiven(op, 'intervals', () => {
    if (typeof intervals !== 'object' || intervals === null)
      throw fail(
        'ERR_S4_SHAPE',
        op,
        'intervals as { data, shape } or an array of numbers',
        describe(intervals),
      )
    return 'shape' in intervals
  })
  if (shaped) return floatsOfShape(op, 'intervals', intervals, shape, dtype)
  const values = intervals as ArrayLike<number>
  const count: unknown = readGiven(op, 'intervals', () => values.length)
  const n = elementCount(shape)
  if (count !== n)
    throw fail(
      'ERR_S4_SHAPE',
      op,
      `intervals of ${n} time steps`,
      typeof count === 'number' ? count : describe(intervals),
    )
  return floats(op, 'intervals', values, dtype)
}

/** Checks the ratio of sampling rates of a call, and gives it; 1 where none is given. */
export function rateOf(op: string, rate: number | undefined): number {
  return rate === undefined ? 1 : stepRatio(op, 'rate', rate)
}

/**
 * Checks the intervals of time steps, and gives them in the number format of a model: one number for all, one for each
 * sequence, or as many as `shape` has elements.
 */
export function stepIntervals(
  op: string,
  interval: number | ArrayLike<number> | undefined,
  shape: Shape,
  dtype: Dtype,
): Floats | undefined {
  if (interval === undefined) return undefined
  if (typeof interval === 'number')
    return allocate(op, shape, dtype).fill(stepRatio(op, 'interval', interval)) as Floats
  return readGiven(op, 'interval', () => {
    const n = elementCount(shape)
    const count: unknown = (interval as ArrayLike<number> | null)?.length
    if (typeof count !== 'number' || typeof interval === 'string')
      throw fail('ERR_S4_VALUE', op, `interval as a number or ${n} numbers`, describe(interval))
    if (count !== n && count !== shape[0])
      throw fail('ERR_S4_SHAPE', op, `interval as a number or ${n} numbers`, count)
    for (let i = 0; i < count; i++) stepRatio(op, 'interval', interval[i])
    return floats(op, 'interval', interval, dtype)
  })
}
