// Checks of arguments that a caller gave. Each throws an S4Error with a code, the operation, what was expected and what it
// got.
import { types } from 'node:util'
import { fileURLToPath } from 'node:url'
import { describe, fail, readGiven, type S4ErrorCode } from './error.js'

export { describe } from './error.js'

/** Checks that x is a whole number from `min` to `max`, and gives it. `what` names the argument in the error. */
export function wholeNumber(op: string, what: string, x: unknown, min = 1, max = 2 ** 40): number {
  if (typeof x !== 'number' || !Number.isSafeInteger(x) || x < min || x > max)
    throw fail('ERR_S4_VALUE', op, `${what} as a whole number from ${min} to ${max}`, describe(x))
  return x
}

/** Checks that x is a ratio of step sizes, a number from 1e-30 to 1e30, and gives it. Beyond these limits a step size would be nothing or infinite in 32 bits. */
export function stepRatio(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 1e-30 && x <= 1e30))
    throw fail('ERR_S4_VALUE', op, `${what} as a number above 0, from 1e-30 to 1e30`, describe(x))
  return x
}

/** Checks that x is 0 or of a size from 1e-37 to 1e18, and gives it: products of two such numbers fit in 32 bits. */
export function numberIn32Bits(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x === 0 || (Math.abs(x) >= 1e-37 && Math.abs(x) <= 1e18)))
    throw fail(
      'ERR_S4_VALUE',
      op,
      `${what} as a number that is 0 or of a size from 1e-37 to 1e18`,
      describe(x),
    )
  return x
}

/** Checks that x is true or false, and gives it. */
export function booleanOf(op: string, what: string, x: unknown): boolean {
  if (typeof x !== 'boolean') throw fail('ERR_S4_VALUE', op, `${what} true or false`, describe(x))
  return x
}

/** Checks that x is one of `words`, and gives it. */
export function oneOf<T extends string>(op: string, what: string, x: unknown, words: readonly T[]): T {
  if (!words.includes(x as T))
    throw fail(
      'ERR_S4_VALUE',
      op,
      `${what} one of ${words.join(', ')}`,
      typeof x === 'string' ? x : describe(x),
    )
  return x as T
}

/** A path as Node's own functions take one: text, a `file:` URL, or its bytes. */
export type FilePath = string | URL | Uint8Array

/**
 * Checks a path and gives it as text. A URL or Buffer is known by its properties: it may be of another realm, where
 * `instanceof` fails.
 */
export function filePath(op: string, x: unknown, what = 'a path'): string {
  const expected = `${what} (a string, a file: URL or a Buffer)`
  const path = readGiven(op, what, () => {
    if (types.isUint8Array(x)) {
      try {
        return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(x)
      } catch {
        throw fail('ERR_S4_VALUE', op, expected, 'bytes that are not UTF-8')
      }
    }
    if (typeof x !== 'object' || x === null) return x
    const { href, protocol } = x as Partial<URL>
    if (typeof href !== 'string' || typeof protocol !== 'string') return x
    if (protocol !== 'file:') throw fail('ERR_S4_VALUE', op, expected, href)
    return fileURLToPath(href)
  })
  if (typeof path !== 'string' || path.length === 0)
    throw fail('ERR_S4_VALUE', op, expected, path === '' ? 'an empty one' : describe(path))
  if (path.includes('\0')) throw fail('ERR_S4_VALUE', op, expected, 'one with a null byte')
  return path
}

/** Options that were renamed: the present name of each former one. */
const RENAMED: Readonly<Record<string, string>> = { disc: 'discretization' }

/** Whether an object is of no class: a literal, of whatever realm, or one without a prototype. */
function isLiteral(x: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(x)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/**
 * The members of an object, each read once. Arrays, maps, dates and promises are none, of whatever realm they are. `known`:
 * the names that are asked for, which an object may inherit (a class has its getters from its prototype). Of a caller's own
 * class they are all that is read: it may have fields of its own.
 */
export function membersOf(
  op: string,
  what: string,
  x: unknown,
  code: S4ErrorCode = 'ERR_S4_VALUE',
  known: readonly string[] = [],
): Record<string, unknown> {
  const names = readGiven(op, what, () => {
    const tag = typeof x === 'object' && x !== null ? Object.prototype.toString.call(x) : ''
    if (tag !== '[object Object]' && tag !== '[object Module]')
      throw fail(code, op, `${what} in an object`, describe(x))
    const object = x as object
    const own = Object.keys(object)
    const inherited = known.filter((name) => !own.includes(name) && name in object)
    const all = known.length === 0 || isLiteral(object)
    return [...(all ? own : own.filter((name) => known.includes(name))), ...inherited]
  })
  const members = x as Record<string, unknown>
  return Object.fromEntries(names.map((name) => [name, readGiven(op, name, () => members[name])]))
}

/**
 * A copy of a caller's options, for which each is read once. Refuses anything that is not an object of options. `names`: those
 * that an object may inherit.
 */
export function optionsObject(
  op: string,
  options: unknown,
  names: readonly string[] = [],
): Record<string, unknown> {
  return membersOf(op, 'options', options, 'ERR_S4_VALUE', names)
}

/** Checks that x is text, and gives it. */
export function textOf(op: string, what: string, x: unknown): string {
  if (typeof x !== 'string') throw fail('ERR_S4_VALUE', op, `${what} as a string`, describe(x))
  return x
}

/** Checks that x is a Uint8Array or a Buffer of any realm, with at least one byte, and gives it. */
export function bytesOf(op: string, what: string, x: unknown): Uint8Array {
  if (!types.isUint8Array(x) || x.length === 0)
    throw fail(
      'ERR_S4_VALUE',
      op,
      `${what} as a Uint8Array with bytes`,
      types.isUint8Array(x) ? 'none' : describe(x),
    )
  return x
}

/** Refuses an option that has the former name of a renamed one; the error says the present name. */
export function rejectRenamedOption(op: string, name: string): void {
  if (Object.hasOwn(RENAMED, name))
    throw fail('ERR_S4_VALUE', op, `the option '${RENAMED[name]}'`, `its former name '${name}'`)
}

/**
 * A copy of a caller's options, for which each is read once. Refuses names other than `names`, and anything that is not an
 * object of options.
 */
export function rejectUnknownOptions<T>(op: string, options: T, names: readonly string[]): T {
  const given = optionsObject(op, options, names)
  for (const key of Object.keys(given)) {
    if (names.includes(key)) continue
    rejectRenamedOption(op, key)
    throw fail('ERR_S4_VALUE', op, `options of ${names.join(', ')}`, `unknown option '${key}'`)
  }
  return given as T
}

/** Checks that x is an array, and gives a copy, each element read once. */
export function listOf(op: string, what: string, x: unknown): unknown[] {
  return readGiven(op, what, () => {
    if (!Array.isArray(x)) throw fail('ERR_S4_VALUE', op, `${what} in an array`, describe(x))
    return Array.from(x as unknown[])
  })
}

/** The options of these names that were given, each a number. */
export function realNumbers<K extends string>(
  op: string,
  options: { readonly [name in K]?: unknown },
  names: readonly K[],
): Record<string, unknown> {
  const numbers: Record<string, unknown> = {}
  for (const name of names) {
    const x = options[name]
    if (x !== undefined) numbers[name] = numberIn32Bits(op, name, x)
  }
  return numbers
}
