// Values that the property test gives the API, right ones and hostile ones. Cases hold descriptions of them in plain JSON, so that a
// finding is a text which can be read, kept and run again; `real` and `tensorOf` make the values.
import * as fc from 'fast-check'
import { createContext, runInContext } from 'node:vm'

const throwing = () => {
  throw new Error('a trap of the caller')
}
const traps = Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((name) => [name, throwing]))

/** Values that stand where another is expected, by name. */
const HOSTILE = {
  null: () => null,
  undefined: () => undefined,
  NaN: () => NaN,
  Infinity: () => Infinity,
  '-Infinity': () => -Infinity,
  '-1': () => -1,
  0: () => 0,
  '-0': () => -0,
  0.5: () => 0.5,
  3: () => 3,
  '2**31': () => 2 ** 31,
  '2**32 + 1': () => 2 ** 32 + 1,
  '2**53': () => 2 ** 53,
  '1e300': () => 1e300,
  '1e-300': () => 1e-300,
  true: () => true,
  text: () => 'text',
  'empty text': () => '',
  array: () => [],
  object: () => ({}),
  symbol: () => Symbol('s'),
  bigint: () => 5n,
  function: () => () => 1,
  proxy: () => new Proxy({}, traps),
  date: () => new Date(0),
}

/** A hostile value, as a description. */
export const hostile = fc.constantFrom(...Object.keys(HOSTILE)).map((name) => ({ hostile: name }))

/** A value of a case: its own, or what the name of a hostile one stands for. Lists and objects are made anew. */
export function real(described) {
  if (typeof described !== 'object' || described === null) return described
  if (Array.isArray(described)) return described.map(real)
  if (typeof described.hostile === 'string') return HOSTILE[described.hostile]()
  return Object.fromEntries(Object.entries(described).map(([key, value]) => [key, real(value)]))
}

/** Mostly the right value, one time in eight a hostile one. */
export const mostly = (right) => fc.oneof({ arbitrary: right, weight: 7 }, { arbitrary: hostile, weight: 1 })

/** An option that is mostly left out. */
export const seldom = (value) =>
  fc.oneof({ arbitrary: fc.constant(undefined), weight: 3 }, { arbitrary: value, weight: 1 })

/** An object with some of these members; those that are undefined are left out. */
export const some = (members) =>
  fc.record(members).map((o) => Object.fromEntries(Object.entries(o).filter(([, x]) => x !== undefined)))

/** Ratios of sampling rates and of time steps. */
export const ratio = mostly(fc.constantFrom(1, 2, 0.5, 1.5, 10, 1e-3, 1e3, 1e-30, 1e30))

/** What the numbers of a tensor are; `large`, `tiny` and `mixed` reach the ends of 32 bits. */
const fill = fc.constantFrom('noise', 'noise', 'noise', 'noise', 'zeros', 'ones', 'large', 'tiny', 'mixed')
/** In which array they come. */
const form = fc.constantFrom('f32', 'f32', 'f64', 'list', 'shared', 'part', 'foreign', 'resizable')
/** What is wrong with the tensor. */
const FLAWS = [
  'NaN',
  'Infinity',
  '-Infinity',
  'detached',
  'shrunk',
  'one more',
  'one less',
  'empty',
  'another rank',
  'a zero size',
  'a negative size',
  'a fraction as size',
  'huge sizes',
  'sizes that overflow',
  'text elements',
  'holes',
  'null elements',
  'bigints',
  'a throwing element',
  'no data',
  'shape as text',
  'swapped sizes',
  'no tensor',
]

/** A description of a tensor; the sizes that fit are the caller's, `wide` makes the last one wrong. */
export const tensor = fc
  .record({
    seed: fc.nat(1000),
    fill,
    form,
    flaw: fc.oneof(
      { arbitrary: fc.constant(undefined), weight: 8 },
      { arbitrary: fc.constantFrom(...FLAWS), weight: 1 },
    ),
  })
  .map(({ flaw, ...rest }) => (flaw === undefined ? rest : { ...rest, flaw }))

/** A sound tensor of ordinary numbers. */
export const soundTensor = fc.nat(1000).map((seed) => ({ seed, fill: 'noise', form: 'f32' }))

/** Numbers that look random and are the same every time, in [-1, 1). */
export function noise(n, seed) {
  let state = (seed + 1) >>> 0
  return Float64Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

const MAGNITUDES = [0, 1e-40, 1e-20, 1, 1e10, 1e19, 3e38]
const fills = {
  noise: (n, seed) => noise(n, seed),
  zeros: (n) => new Float64Array(n),
  ones: (n) => new Float64Array(n).fill(1),
  large: (n, seed) => noise(n, seed).map((x) => x * 3e38),
  tiny: (n, seed) => noise(n, seed).map((x) => x * 1e-39),
  mixed: (n, seed) => noise(n, seed).map((x, i) => x * MAGNITUDES[(i * 7 + seed) % MAGNITUDES.length]),
}

const realm = createContext({})
const foreignArray = runInContext('(a) => Float32Array.from(a)', realm)
const forms = {
  f32: (a) => Float32Array.from(a),
  f64: (a) => Float64Array.from(a),
  list: (a) => Array.from(a),
  shared: (a) => {
    const copy = new Float32Array(new SharedArrayBuffer(4 * a.length))
    copy.set(a)
    return copy
  },
  part: (a) => {
    const whole = new Float32Array(a.length + 5)
    whole.set(a, 3)
    return whole.subarray(3, 3 + a.length)
  },
  foreign: (a) => foreignArray(a),
  resizable: (a) => {
    const copy = new Float32Array(new ArrayBuffer(4 * a.length, { maxByteLength: 8 * a.length + 8 }))
    copy.set(a)
    return copy
  },
}

/** The numbers of a described tensor of so many elements. */
export const numbersOf = ({ fill: kind, seed }, n) => fills[kind](n, seed)

/** Spoils a tensor in one way. */
function spoiled(flaw, data, shape) {
  const at = data.length >> 1
  const rest = shape.slice(1)
  switch (flaw) {
    case 'NaN':
    case 'Infinity':
    case '-Infinity':
      data[at] = Number(flaw)
      return { data, shape }
    case 'detached': {
      const copy = Float32Array.from(data)
      structuredClone(copy.buffer, { transfer: [copy.buffer] })
      return { data: copy, shape }
    }
    case 'shrunk': {
      const buffer = new ArrayBuffer(4 * data.length, { maxByteLength: 4 * data.length })
      const copy = new Float32Array(buffer, 0, data.length)
      buffer.resize(0)
      return { data: copy, shape }
    }
    case 'one more':
      return { data: [...data, 0], shape }
    case 'one less':
      return { data: Array.from(data).slice(1), shape }
    case 'empty':
      return { data: [], shape: [0, ...rest] }
    case 'another rank':
      return { data, shape: [...shape, 1] }
    case 'a zero size':
      return { data, shape: [...shape.slice(0, -1), 0] }
    case 'a negative size':
      return { data, shape: shape.map((size) => -size) }
    case 'a fraction as size':
      return { data, shape: [shape[0] / 2, ...rest.slice(0, -1), 2 * (rest.at(-1) ?? 1)] }
    case 'huge sizes':
      return { data: { length: 2 ** 31 * rest.reduce((a, b) => a * b, 1) }, shape: [2 ** 31, ...rest] }
    case 'sizes that overflow':
      return { data, shape: shape.map(() => 2 ** 32) }
    case 'text elements':
      return { data: Array.from(data, String), shape }
    case 'holes':
      return { data: Array.from({ length: data.length }), shape }
    case 'null elements':
      return { data: Array.from(data, () => null), shape }
    case 'bigints':
      return { data: new BigInt64Array(data.length), shape }
    case 'a throwing element':
      return { data: Object.defineProperty(Array.from(data), at, { get: throwing }), shape }
    case 'no data':
      return { shape }
    case 'shape as text':
      return { data, shape: shape.join() }
    case 'swapped sizes':
      return { data, shape: shape.toReversed() }
    default:
      return [data]
  }
}

/** The described tensor in this shape. */
export function tensorOf(described, shape) {
  const n = shape.reduce((a, b) => a * b, 1)
  const data = forms[described.form](numbersOf(described, n))
  return described.flaw === undefined ? { data, shape } : spoiled(described.flaw, data, shape)
}

/** The described tensor as whole numbers from 0 to below n: tokens or labels. */
export function indicesOf(described, shape, below) {
  const count = shape.reduce((a, b) => a * b, 1)
  const data = Int32Array.from(noise(count, described.seed), (x) => Math.floor(((x + 1) / 2) * below))
  return described.flaw === undefined ? { data, shape } : spoiled(described.flaw, data, shape)
}
