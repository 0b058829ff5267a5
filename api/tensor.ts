// Arrays with sizes: what a caller gives is checked by its form, never by its class.
import { types } from 'node:util'
import { ratio } from './check.js'
import { describe, fail, reading } from './error.js'

/** Sizes, outermost first. */
export type Shape = readonly number[]
/** Real numbers as the library gives them. */
export type Floats = Float32Array | Float64Array
/** Element type of a model: `f64` runs on the CPU only. */
export type Dtype = 'f32' | 'f64'
/** Integers: tokens, labels, lengths. */
export type Integers = Int32Array | Uint8Array | Uint16Array | Uint32Array | BigInt64Array | readonly number[]

/** Any array with sizes: of this library, of another, or a literal. Row-major, densely packed. */
export interface TensorLike {
  /** The elements, the last size running fastest. */
  readonly data: ArrayLike<number> | BigInt64Array
  /** Sizes of 1 or more whose product is the number of elements. */
  readonly shape: Shape
}

/** What the library gives: a row-major array with its sizes. */
export interface Tensor {
  /** The elements, the last size running fastest. */
  readonly data: Floats
  /** Sizes, outermost first. */
  readonly shape: Shape
  /** Element type of `data`. */
  readonly dtype: Dtype
}

/** Product of sizes. */
export function elements(shape: Shape): number {
  return shape.reduce((n, s) => n * s, 1)
}

/** A tensor around an array that the addon gave. */
export function tensor(data: Floats, shape: Shape): Tensor {
  return { data, shape, dtype: types.isFloat64Array(data) ? 'f64' : 'f32' }
}

/** A zeroed array of these sizes, for the addon to fill. */
export function allocate(op: string, shape: Shape, dtype: Dtype): Floats {
  const n = elements(shape)
  try {
    return dtype === 'f32' ? new Float32Array(n) : new Float64Array(n)
  } catch {
    throw fail('ERR_S4_MEMORY', op, 'JavaScript to allocate the result', `${n} elements of ${dtype}`)
  }
}

/** A shape as it is written. */
export const shapeText = (shape: Shape) => `[${shape.join(', ')}]`

/** Checks `{ data, shape }`: sizes are whole, at least 1, and their product is the data's length. Gives them as they were read. */
export function checkTensor(
  op: string,
  what: string,
  x: unknown,
  rank?: number | readonly number[],
): TensorLike {
  return reading(op, what, () => readTensor(op, what, x, rank))
}

function readTensor(op: string, what: string, x: unknown, rank?: number | readonly number[]): TensorLike {
  const { data, sizes } = typeof x === 'object' && x !== null ? readOnce(x) : NOTHING
  if (data === undefined || data === null || !Array.isArray(sizes))
    throw fail('ERR_S4_SHAPE', op, `${what} as { data, shape }`, describe(x))
  const shape: readonly number[] = Array.from(sizes as unknown[], (size) => {
    if (typeof size !== 'number')
      throw fail('ERR_S4_SHAPE', op, `${what} with sizes that are numbers`, describe(size))
    return size
  })
  if (typeof data !== 'object' || typeof data.length !== 'number')
    throw fail('ERR_S4_DTYPE', op, `${what}.data as an array of numbers`, describe(data))
  const ranks = rank === undefined ? undefined : typeof rank === 'number' ? [rank] : rank
  if (ranks !== undefined && !ranks.includes(shape.length)) {
    throw fail('ERR_S4_SHAPE', op, `${what} with ${ranks.join(' or ')} sizes`, shapeText(shape))
  }
  for (const s of shape) {
    if (!Number.isSafeInteger(s) || s < 1)
      throw fail('ERR_S4_SHAPE', op, `${what} with sizes of at least 1`, shapeText(shape))
  }
  const n = elements(shape)
  if (!Number.isSafeInteger(n) || n > 2 ** 40 || shape.some((s) => s > 2 ** 32 - 1)) {
    throw fail('ERR_S4_SHAPE', op, `${what} of at most 2^40 elements`, shapeText(shape))
  }
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

/** The two properties of a tensor, each read once. */
function readOnce(x: object): { data?: TensorLike['data'] | null; sizes?: unknown } {
  const { data, shape } = x as Partial<TensorLike>
  return { ...(data !== undefined && { data }), sizes: shape }
}

const NOTHING: ReturnType<typeof readOnce> = {}

/** A tensor of a file, which may be a scalar: the shape [], one element. */
export function checkFileTensor(op: string, what: string, x: unknown): TensorLike {
  const { given, scalar } = reading(op, what, () => {
    const read = typeof x === 'object' && x !== null ? readOnce(x) : NOTHING
    return { given: read, scalar: Array.isArray(read.sizes) && read.sizes.length === 0 }
  })
  const { data, shape } = checkTensor(op, what, { data: given.data, shape: scalar ? [1] : given.sizes })
  return { data, shape: scalar ? [] : shape }
}

/** Whether another thread may write to this memory while the addon reads it. */
const isShared = (data: ArrayBufferView) => types.isSharedArrayBuffer(data.buffer)

/**
 * The data in the model's own type. The same array comes back when it is of that type already and no other thread can
 * write to it: the addon copies it, or reads it before it returns.
 */
export function floats(op: string, what: string, data: TensorLike['data'], dtype: Dtype): Floats {
  const given: unknown = data
  if (dtype === 'f32' && types.isFloat32Array(given) && !isShared(given)) return given
  if (dtype === 'f64' && types.isFloat64Array(given) && !isShared(given)) return given
  if (types.isBigInt64Array(given) || types.isBigUint64Array(given)) {
    throw fail('ERR_S4_DTYPE', op, `${what} of real numbers`, describe(given))
  }
  return reading(op, what, () => {
    const out = allocate(op, [data.length], dtype)
    // A typed array holds nothing but numbers.
    if (ArrayBuffer.isView(data)) {
      out.set(data as unknown as ArrayLike<number>)
      return out
    }
    for (let i = 0; i < out.length; i++) {
      const x: unknown = data[i]
      if (typeof x !== 'number')
        throw fail('ERR_S4_DTYPE', op, `${what} of numbers`, `${describe(x)} at index ${i}`)
      out[i] = x
    }
    return out
  })
}

/** Refuses NaN and infinities by their place. */
export function finite(op: string, what: string, data: Floats): Floats {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i])) throw fail('ERR_S4_VALUE', op, `finite numbers in ${what}`, `${data[i]} at index ${i}`)
  }
  return data
}

/** Whole numbers as 32-bit integers; anything that is not one is `ERR_S4_DTYPE`. */
export function integers(op: string, what: string, data: ArrayLike<number> | BigInt64Array): Int32Array {
  const array: unknown = data
  if (types.isInt32Array(array) && !isShared(array)) return array
  return reading(op, what, () => {
    const n: unknown = data.length
    if (typeof n !== 'number') throw fail('ERR_S4_DTYPE', op, `${what} of 32-bit integers`, describe(data))
    let out: Int32Array
    try {
      out = new Int32Array(n)
    } catch {
      throw fail('ERR_S4_MEMORY', op, `JavaScript to allocate ${what}`, `${n} integers`)
    }
    for (let i = 0; i < out.length; i++) {
      const given: unknown = data[i]
      const x = typeof given === 'bigint' ? Number(given) : given
      if (typeof x !== 'number' || !Number.isInteger(x) || x > 0x7fffffff || x < -0x80000000) {
        throw fail('ERR_S4_DTYPE', op, `${what} of 32-bit integers`, `${describe(given)} at index ${i}`)
      }
      out[i] = x
    }
    return out
  })
}

/** `{ data, shape }` of exactly this shape, in the model's type. */
export function shaped(op: string, what: string, x: unknown, shape: Shape, dtype: Dtype): Floats {
  const t = checkTensor(op, what, x, shape.length)
  if (t.shape.some((s, i) => s !== shape[i])) {
    throw fail('ERR_S4_SHAPE', op, `${what} ${shapeText(shape)}`, shapeText(t.shape))
  }
  return floats(op, what, t.data, dtype)
}

/** Lengths of the rows of a batch. */
export function rowLengths(
  op: string,
  lengths: ArrayLike<number> | undefined,
  batch: number,
): Int32Array | undefined {
  if (lengths === undefined) return undefined
  const n: unknown = reading(op, 'lengths', () => (lengths as ArrayLike<number> | null)?.length)
  if (n !== batch)
    throw fail('ERR_S4_SHAPE', op, `lengths of ${batch} rows`, typeof n === 'number' ? n : describe(lengths))
  return integers(op, 'lengths', lengths)
}

/** The ratio of sampling rates of a call; 1 where none is given. */
export function rateOf(op: string, rate: number | undefined): number {
  return rate === undefined ? 1 : ratio(op, 'rate', rate)
}

/** Intervals of steps in the model's type: one number for all, one a row, or as many as `shape` has. */
export function stepIntervals(
  op: string,
  interval: number | ArrayLike<number> | undefined,
  shape: Shape,
  dtype: Dtype,
): Floats | undefined {
  if (interval === undefined) return undefined
  if (typeof interval === 'number')
    return allocate(op, shape, dtype).fill(ratio(op, 'interval', interval)) as Floats
  return reading(op, 'interval', () => {
    const n = elements(shape)
    const count: unknown = (interval as ArrayLike<number> | null)?.length
    if (typeof count !== 'number' || typeof interval === 'string')
      throw fail('ERR_S4_VALUE', op, `interval as a number or ${n} numbers`, describe(interval))
    if (count !== n && count !== shape[0])
      throw fail('ERR_S4_SHAPE', op, `interval as a number or ${n} numbers`, count)
    for (let i = 0; i < count; i++) ratio(op, 'interval', interval[i])
    return floats(op, 'interval', interval, dtype)
  })
}
