/** Wrong values for a place of the API, by its declared type, and right values in every form that they may come in. */
import { pathToFileURL } from 'node:url'
import { runInContext, createContext } from 'node:vm'
import type { Kind, Place } from './surface.js'

/** A value and what it is called in a report. `make` is given the right value that stands at the place. */
export interface Candidate {
  readonly name: string
  readonly make: (right: unknown) => unknown
}

const realm = createContext({ URL })
/** A value of another realm, as a vm context, Jest or an Electron window make them: no class is the class of here. */
export const foreign = (code: string): unknown => runInContext(code, realm)
const foreignCopy = {
  object: foreign('(o) => Object.defineProperties({}, o)') as (o: object) => object,
  array: foreign('(a) => { const r = []; for (let i = 0; i < a.length; i++) r[i] = a[i]; return r }') as (
    a: ArrayLike<unknown>,
  ) => unknown,
  typed: foreign('(name, a) => globalThis[name].from(a)') as (name: string, a: unknown) => unknown,
  url: foreign('(href) => new URL(href)') as (href: string) => unknown,
  call: foreign('(f) => (...args) => f(...args)') as (f: unknown) => unknown,
}

/** What every trap of the proxy and every getter throws. */
export class Trap extends Error {}
const throwing = (): never => {
  throw new Trap('a trap of the caller')
}

/** A proxy that throws whatever is done with it. */
export function throwingProxy(target: object = {}): object {
  const names = Object.getOwnPropertyNames(Reflect)
  return new Proxy(target, Object.fromEntries(names.map((name) => [name, throwing])))
}
function revokedProxy(): object {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

/** Values that are wrong at any place but those of the kinds beside them. */
const ANYWHERE: readonly [name: string, make: () => unknown, but: readonly Kind[]][] = [
  ['null', () => null, ['null']],
  ['true', () => true, ['boolean']],
  ['0', () => 0, ['number']],
  ['1', () => 1, ['number']],
  ['NaN', () => NaN, ['number']],
  ['text', () => 'text', ['string']],
  ["'1'", () => '1', ['string']],
  ['a symbol', () => Symbol('s'), []],
  ['a bigint', () => 5n, ['bigint']],
  ['a function', () => () => 1, ['function']],
  ['[]', () => [], []],
  ['[] of another realm', () => foreign('[]'), []],
  ['a Map', () => new Map([['rate', 1]]), []],
  ['a Set', () => new Set([1]), []],
  ['a Date', () => new Date(0), ['date']],
  ['a promise', () => Promise.resolve(1), []],
  ['a Number', () => Object(1), []],
  ['a String', () => Object('text'), []],
  ['a throwing proxy', () => throwingProxy(), []],
  ['a throwing proxy of an array', () => throwingProxy([1]), []],
  ['a throwing proxy of a function', () => throwingProxy(() => 1), ['function']],
  ['a revoked proxy', revokedProxy, []],
  [
    'an object that throws as text or number',
    () => ({ [Symbol.toPrimitive]: throwing, valueOf: throwing, toString: throwing }),
    [],
  ],
]

/** Objects without members. */
const EMPTY: readonly [name: string, make: () => unknown][] = [
  ['{}', () => ({})],
  ['{} of another realm', () => foreign('({})')],
  ['{} without prototype', () => Object.create(null) as object],
  ['an object with a prototype', () => Object.create({ rate: 1 }) as object],
]

const NUMBERS: readonly [string, number][] = [
  ['NaN', NaN],
  ['Infinity', Infinity],
  ['-Infinity', -Infinity],
  ['-1', -1],
  ['0', 0],
  ['0.5', 0.5],
  ['2**31', 2 ** 31],
  ['2**53', 2 ** 53],
  ['1e300', 1e300],
  ['1e-300', 1e-300],
]

const same = (name: string, value: () => unknown): Candidate => ({ name, make: value })

/** A copy of a typed array of which nothing is left: its buffer was handed to another thread. */
function detached(array: unknown): unknown {
  const copy = (array as Float32Array).slice()
  structuredClone(copy.buffer, { transfer: [copy.buffer] })
  return copy
}

type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void }
const resizable = (bytes: number, most: number): ResizableBuffer =>
  new (ArrayBuffer as unknown as new (n: number, o: object) => ResizableBuffer)(bytes, {
    maxByteLength: most,
  })
type TypedArrayMaker = new (from: unknown, offset?: number, length?: number) => Float32Array
const makerOf = (array: unknown) => (array as object).constructor as unknown as TypedArrayMaker

/** A copy of fixed length on a buffer that has shrunk below it. */
function shrunk(array: unknown): unknown {
  const { byteLength, length } = array as Float32Array
  const buffer = resizable(byteLength, byteLength)
  const copy = new (makerOf(array))(buffer, 0, length)
  buffer.resize(0)
  return copy
}

const isTyped = (x: unknown): x is Float32Array => ArrayBuffer.isView(x) && !(x instanceof DataView)
const list = (x: unknown): unknown[] => Array.from(x as ArrayLike<unknown>)
const count = (x: unknown) => (x as ArrayLike<unknown>).length

/** Wrong forms of what is listed, whatever its elements. */
const LISTS: readonly Candidate[] = [
  { name: 'one element more', make: (right) => [...list(right), list(right)[0]] },
  { name: 'one element less', make: (right) => list(right).slice(1) },
  { name: 'holes', make: (right) => Array.from({ length: count(right) }).fill(undefined) },
  { name: 'as text', make: (right) => '1'.repeat(count(right)) },
  { name: 'a DataView', make: (right) => new DataView(new ArrayBuffer(4 * count(right))) },
  { name: 'an ArrayBuffer', make: (right) => new ArrayBuffer(4 * count(right)) },
  { name: 'a BigUint64Array', make: (right) => new BigUint64Array(count(right)) },
  { name: '{ length }', make: (right) => ({ length: count(right) }) },
  ...([-1, NaN, 2 ** 31, 2 ** 53, '1', null] as const).map((length): Candidate => ({
    name: `length ${String(length)}`,
    make: () => ({ length }),
  })),
  {
    name: 'a throwing element',
    make: (right) => Object.defineProperty(list(right), 0, { get: throwing, enumerable: true }),
  },
]

const MEMORY: readonly Candidate[] = [
  { name: 'a detached array', make: detached },
  { name: 'an array on a shrunk buffer', make: shrunk },
]

/** Wrong values for this place, given a right one. */
export function wrongValues({ kinds, optional, required, steps }: Place, right: unknown): Candidate[] {
  const has = (...any: Kind[]) => any.some((kind) => kinds.has(kind))
  if (has('unknown')) return []
  const out = ANYWHERE.filter(([, , but]) => !has(...but)).map(([name, make]) => same(name, make))
  const mayBeEmpty = has('record') || (has('object') && required.length === 0)
  if (!mayBeEmpty) out.push(...EMPTY.map(([name, make]) => same(name, make)))
  if (!optional) out.push(same('undefined', () => undefined))
  if (has('number')) out.push(...NUMBERS.map(([name, x]) => same(name, () => x)))
  if (has('string')) out.push(...['', 'a\0b'].map((x) => same(JSON.stringify(x), () => x)))
  if (has('words'))
    for (const word of ['', '__proto__', 'constructor', 'toString']) out.push(same(`'${word}'`, () => word))
  if (has('words') && typeof right === 'string') {
    out.push({ name: 'with a space', make: () => `${right} ` })
    if (right.toUpperCase() !== right) out.push({ name: 'in capitals', make: () => right.toUpperCase() })
  }
  if (has('array', 'arraylike') && typeof right === 'object') {
    out.push(...LISTS)
    if (typeof list(right)[0] !== 'string')
      out.push({ name: 'its elements as text', make: () => list(right).map(String) })
  }
  if (isTyped(right)) out.push(...MEMORY)
  if (has('bytes'))
    out.push(
      same('a Float32Array', () => new Float32Array(8)),
      same('an ArrayBuffer', () => new ArrayBuffer(64)),
      same('no bytes', () => new Uint8Array(0)),
      { name: 'an array of its elements', make: (bytes) => list(bytes) },
      { name: 'all zeros', make: (bytes) => new Uint8Array(count(bytes)) },
    )
  if (has('bytes') && isTyped(right)) out.push({ name: 'cut short', make: () => right.slice(0, -1) })
  if (has('signal'))
    out.push(
      same('a controller', () => new AbortController()),
      same('an EventTarget', () => new EventTarget()),
      same('{ aborted: true }', () => ({ aborted: true })),
    )
  if (has('iterable'))
    out.push(
      same('an iterator of nothing', () => ({ [Symbol.iterator]: () => 5 })),
      same('an iterator that is none', () => ({ [Symbol.asyncIterator]: 5 })),
    )
  if (has('object') && steps.length === 1 && required.length === 0)
    out.push({ name: 'an unknown key', make: (options) => ({ ...(options as object), colour: 1 }) })
  return out
}

const transparent = (x: object): Candidate => ({ name: 'a proxy', make: () => new Proxy(x, {}) })

/** The same right value in other forms: each must give the same result, bit for bit. */
export function rightForms({ kinds }: Place, right: unknown): Candidate[] {
  const maker = isTyped(right) ? makerOf(right) : undefined
  if (isTyped(right) && maker !== undefined) {
    const bytes = right.byteLength
    const sharedCopy = () => {
      const copy = new maker(new SharedArrayBuffer(bytes))
      copy.set(right)
      return copy
    }
    const growing = () => {
      const copy = new maker(resizable(bytes, 2 * bytes))
      copy.set(right)
      return copy
    }
    const part = () => {
      const whole = new maker(right.length + 3)
      whole.set(right, 2)
      return whole.subarray(2, -1)
    }
    const out: Candidate[] = [
      { name: 'of another realm', make: () => foreignCopy.typed(maker.name, right) },
      { name: 'on shared memory', make: sharedCopy },
      { name: 'on a resizable buffer', make: growing },
      { name: 'a part of a longer array', make: part },
    ]
    if (kinds.has('arraylike'))
      out.push(
        { name: 'as a plain array', make: () => list(right) },
        { name: 'as an array of another realm', make: () => foreignCopy.array(right) },
        { name: 'as an object with a length', make: () => ({ ...list(right), length: right.length }) },
      )
    return out
  }
  if (typeof right === 'string' && kinds.has('url'))
    return [
      { name: 'as a URL', make: () => pathToFileURL(right) },
      { name: 'as its bytes', make: () => Buffer.from(right) },
      { name: 'as a URL of another realm', make: () => foreignCopy.url(pathToFileURL(right).href) },
    ]
  if (typeof right === 'function') return [{ name: 'of another realm', make: () => foreignCopy.call(right) }]
  if (typeof right !== 'object' || right === null) return []
  if (Array.isArray(right)) {
    const out: Candidate[] = [
      { name: 'of another realm', make: () => foreignCopy.array(right) },
      { name: 'frozen', make: () => Object.freeze([...(right as unknown[])]) },
      transparent(right),
    ]
    if (kinds.has('iterable'))
      out.push(
        { name: 'as a generator', make: () => right.values() },
        {
          name: 'as an async generator',
          make: async function* () {
            yield* right as unknown[]
          },
        },
        { name: 'as a Set', make: () => new Set(right) },
      )
    return out
  }
  if (!kinds.has('object') && !kinds.has('record')) return []
  const properties = Object.getOwnPropertyDescriptors(right)
  const getters = Object.fromEntries(
    Object.entries(right).map(([key, value]) => [key, { get: () => value as unknown, enumerable: true }]),
  )
  return [
    { name: 'of another realm', make: () => foreignCopy.object(properties) },
    { name: 'without a prototype', make: () => Object.create(null, properties) as object },
    { name: 'frozen', make: () => Object.freeze({ ...right }) },
    { name: 'with getters', make: () => Object.defineProperties({}, getters) },
    transparent(right),
  ]
}
