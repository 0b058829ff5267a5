import type { Data, Floats as NativeFloats } from '#binding'
import { fail } from './error.js'

/** Sizes, outermost first. */
export type Shape = readonly number[]
/** Real numbers as the library gives them. */
export type Floats = NativeFloats
/** Element type of a model: `f64` runs on the CPU only. */
export type Dtype = 'f32' | 'f64'
/** Integers: tokens, labels, lengths. */
export type Integers = Int32Array | Uint8Array | Uint16Array | Uint32Array | BigInt64Array | readonly number[]

/** Any array with sizes: of this library, of another, or a literal. Row-major, densely packed. */
export interface TensorLike {
  readonly data: ArrayLike<number> | BigInt64Array
  readonly shape: Shape
}

/** What the library gives: a row-major array with its sizes. */
export interface Tensor {
  readonly data: Floats
  readonly shape: Shape
  readonly dtype: Dtype
}

/** Product of sizes. */
export function elements(shape: Shape): number {
  return shape.reduce((n, s) => n * s, 1)
}

/** A tensor around an array that the addon gave. */
export function tensor(data: Floats, shape: Shape): Tensor {
  return { data, shape, dtype: data instanceof Float64Array ? 'f64' : 'f32' }
}

/** An array for a result of so many numbers. */
export function room(op: string, shape: Shape, dtype: Dtype): Floats {
  const n = elements(shape)
  try {
    return dtype === 'f32' ? new Float32Array(n) : new Float64Array(n)
  } catch {
    throw fail('ERR_S4_MEMORY', op, 'JavaScript to allocate the result', `${n} elements of ${dtype}`)
  }
}

const show = (shape: Shape) => `[${shape.join(', ')}]`

/** Checks `{ data, shape }` by form, never by class: sizes are whole, at least 1, and their product is the data's length. */
export function checkTensor(
  op: string,
  what: string,
  x: unknown,
  rank?: number | readonly number[],
): TensorLike {
  const t = x as Partial<TensorLike> | null | undefined
  if (typeof t !== 'object' || t === null || t.data == null || !Array.isArray(t.shape)) {
    throw fail('ERR_S4_SHAPE', op, `${what} as { data, shape }`, describe(x))
  }
  const { data, shape } = t as TensorLike
  if (typeof data !== 'object' || typeof data.length !== 'number') {
    throw fail('ERR_S4_DTYPE', op, `${what}.data as an array of numbers`, describe(data))
  }
  const ranks = rank === undefined ? undefined : typeof rank === 'number' ? [rank] : rank
  if (ranks !== undefined && !ranks.includes(shape.length)) {
    throw fail('ERR_S4_SHAPE', op, `${what} with ${ranks.join(' or ')} sizes`, show(shape))
  }
  for (const s of shape) {
    if (!Number.isSafeInteger(s) || s < 1)
      throw fail('ERR_S4_SHAPE', op, `${what} with sizes of at least 1`, show(shape))
  }
  const n = elements(shape)
  if (!Number.isSafeInteger(n) || n > 2 ** 40) {
    throw fail('ERR_S4_SHAPE', op, `${what} of at most 2^40 elements`, show(shape))
  }
  if (data.length !== n) {
    throw fail('ERR_S4_SHAPE', op, `${what} ${show(shape)} with ${n} elements`, `${data.length} elements`)
  }
  return t as TensorLike
}

function describe(x: unknown): string {
  if (x === null || x === undefined) return String(x)
  if (typeof x !== 'object') return `${typeof x} ${String(x)}`
  return x.constructor?.name ?? 'an object'
}

/** Memory that another thread may write to while the addon reads it. */
const shared = (data: ArrayBufferView) =>
  typeof SharedArrayBuffer !== 'undefined' && data.buffer instanceof SharedArrayBuffer

/**
 * The data in the model's own type. The same array comes back when it is of that type already and no other thread can
 * write to it: the addon copies it, or reads it before it returns.
 */
export function floats(op: string, what: string, data: TensorLike['data'], dtype: Dtype): Floats {
  if (dtype === 'f32' && data instanceof Float32Array) return shared(data) ? data.slice() : data
  if (dtype === 'f64' && data instanceof Float64Array) return shared(data) ? data.slice() : data
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    throw fail('ERR_S4_DTYPE', op, `${what} of real numbers`, describe(data))
  }
  const out = room(op, [data.length], dtype)
  // A typed array holds nothing but numbers.
  if (ArrayBuffer.isView(data)) {
    out.set(data as ArrayLike<number>)
    return out
  }
  for (let i = 0; i < out.length; i++) {
    const x: unknown = data[i]
    if (typeof x !== 'number')
      throw fail('ERR_S4_DTYPE', op, `${what} of numbers`, `${describe(x)} at index ${i}`)
    out[i] = x
  }
  return out
}

/** Whole numbers as 32-bit integers; anything that is not one is `ERR_S4_DTYPE`. */
export function integers(op: string, what: string, data: ArrayLike<number> | BigInt64Array): Int32Array {
  if (data instanceof Int32Array) return data
  const out = new Int32Array(data.length)
  for (let i = 0; i < data.length; i++) {
    const given: unknown = data[i]
    const x = typeof given === 'bigint' ? Number(given) : given
    if (typeof x !== 'number' || !Number.isInteger(x) || x > 0x7fffffff || x < -0x80000000) {
      throw fail('ERR_S4_DTYPE', op, `${what} of 32-bit integers`, `${describe(given)} at index ${i}`)
    }
    out[i] = x
  }
  return out
}

/** `{ data, shape }` of exactly this shape, in the model's type. */
export function shaped(op: string, what: string, x: unknown, shape: Shape, dtype: Dtype): Floats {
  const t = checkTensor(op, what, x, shape.length)
  if (t.shape.some((s, i) => s !== shape[i])) {
    throw fail('ERR_S4_SHAPE', op, `${what} ${show(shape)}`, show(t.shape))
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
  if (lengths?.length !== batch)
    throw fail('ERR_S4_SHAPE', op, `lengths of ${batch} rows`, `${lengths?.length}`)
  return integers(op, 'lengths', lengths)
}

/** A whole number in a range. */
export function size(op: string, what: string, x: unknown, min = 1, max = 2 ** 40): number {
  if (typeof x !== 'number' || !Number.isSafeInteger(x) || x < min || x > max) {
    throw fail(
      'ERR_S4_VALUE',
      op,
      `${what} as a whole number of ${min} or more`,
      typeof x === 'bigint' ? `${x}n` : describe(x),
    )
  }
  return x
}

/** A finite positive number. */
export function positive(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !Number.isFinite(x) || x <= 0) {
    throw fail('ERR_S4_VALUE', op, `${what} above 0`, describe(x))
  }
  return x
}

/** True or false. */
export function boolean(op: string, what: string, x: unknown): boolean {
  if (typeof x !== 'boolean') throw fail('ERR_S4_VALUE', op, `${what} true or false`, describe(x))
  return x
}

/** Refuses options that do not exist, by name, and what is no object of options. */
export function known(op: string, options: object, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw fail('ERR_S4_VALUE', op, 'an object of options', describe(options))
  for (const key of Object.keys(options)) {
    if (!names.includes(key))
      throw fail('ERR_S4_VALUE', op, `one of the options ${names.join(', ')}`, `unknown option '${key}'`)
  }
}

export type { Data }
