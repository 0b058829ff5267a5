// Checks of what a caller gave: each refuses with the code, the operation, what was expected and what came.
import { types } from 'node:util'
import { fileURLToPath } from 'node:url'
import { describe, fail, reading } from './error.js'

export { describe } from './error.js'

/** A whole number in a range. */
export function size(op: string, what: string, x: unknown, min = 1, max = 2 ** 40): number {
  if (typeof x !== 'number' || !Number.isSafeInteger(x) || x < min || x > max)
    throw fail('ERR_S4_VALUE', op, `${what} as a whole number from ${min} to ${max}`, describe(x))
  return x
}

/** A finite positive number. */
export function positive(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !Number.isFinite(x) || x <= 0)
    throw fail('ERR_S4_VALUE', op, `${what} as a finite number above 0`, describe(x))
  return x
}

/** True or false. */
export function boolean(op: string, what: string, x: unknown): boolean {
  if (typeof x !== 'boolean') throw fail('ERR_S4_VALUE', op, `${what} true or false`, describe(x))
  return x
}

/** One of several words. */
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

/** The path of a file, by form: a URL or a Buffer may be of another realm. */
export function filePath(op: string, x: unknown, what = 'a path'): string {
  const expected = `${what} (a string, a file: URL or a Buffer)`
  const path = reading(op, what, () => {
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

/** Options that had another name in an earlier version. */
const RENAMED: Readonly<Record<string, string>> = { disc: 'discretization' }

/** The options that were given, each read once; refuses what is no object of options. */
export function optionsObject(op: string, options: unknown): Record<string, unknown> {
  return reading(op, 'options', () => {
    if (
      typeof options !== 'object' ||
      options === null ||
      Array.isArray(options) ||
      ArrayBuffer.isView(options)
    )
      throw fail('ERR_S4_VALUE', op, 'an object of options', describe(options))
    return { ...options }
  })
}

/** Refuses an option by its former name, and says the present one. */
export function rejectRenamedOption(op: string, name: string): void {
  if (Object.hasOwn(RENAMED, name))
    throw fail('ERR_S4_VALUE', op, `the option '${RENAMED[name]}'`, `its former name '${name}'`)
}

/** Refuses options that do not exist, by name, and what is no object of options; gives the options, each read once. */
export function rejectUnknownOptions<T>(op: string, options: T, names: readonly string[]): T {
  const given = optionsObject(op, options)
  for (const key of Object.keys(given)) {
    if (names.includes(key)) continue
    rejectRenamedOption(op, key)
    throw fail('ERR_S4_VALUE', op, `one of the options ${names.join(', ')}`, `unknown option '${key}'`)
  }
  return given as T
}

/** The options of these names that were given, each a finite number. */
export function finiteNumbers<K extends string>(
  op: string,
  options: { readonly [name in K]?: unknown },
  names: readonly K[],
): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const name of names) {
    const x = options[name]
    if (x === undefined) continue
    if (typeof x !== 'number' || !Number.isFinite(x))
      throw fail('ERR_S4_VALUE', op, `a finite number for '${name}'`, describe(x))
    out[name] = x
  }
  return out
}
