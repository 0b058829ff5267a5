// Checks of what a caller gave: each refuses with the code, the operation, what was expected and what came.
import { fail } from './error.js'

/** What a value is, for a message. */
export function describe(x: unknown): string {
  if (x === null || x === undefined) return String(x)
  if (typeof x === 'bigint') return `${x}n`
  if (typeof x !== 'object') return `${typeof x} ${String(x)}`
  return x.constructor?.name ?? 'an object'
}

/** A whole number in a range. */
export function size(op: string, what: string, x: unknown, min = 1, max = 2 ** 40): number {
  if (typeof x !== 'number' || !Number.isSafeInteger(x) || x < min || x > max)
    throw fail('ERR_S4_VALUE', op, `${what} as a whole number of ${min} or more`, describe(x))
  return x
}

/** A finite positive number. */
export function positive(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !Number.isFinite(x) || x <= 0)
    throw fail('ERR_S4_VALUE', op, `${what} above 0`, describe(x))
  return x
}

/** True or false. */
export function boolean(op: string, what: string, x: unknown): boolean {
  if (typeof x !== 'boolean') throw fail('ERR_S4_VALUE', op, `${what} true or false`, describe(x))
  return x
}

/** One of several words. */
export function oneOf<T extends string>(op: string, what: string, x: unknown, words: readonly T[]): T {
  if (!words.includes(x as T)) throw fail('ERR_S4_VALUE', op, `${what} one of ${words.join(', ')}`, x)
  return x as T
}

/** The path of a file. */
export function filePath(op: string, x: unknown): string {
  if (typeof x !== 'string' || x.length === 0) throw fail('ERR_S4_VALUE', op, 'a path', describe(x))
  return x
}

/** Options that had another name in an earlier version. */
const RENAMED: Readonly<Record<string, string>> = { disc: 'discretization' }

/** Refuses what is no object of options. */
export function optionsObject(op: string, options: unknown): object {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw fail('ERR_S4_VALUE', op, 'an object of options', describe(options))
  return options
}

/** Refuses an option by its former name, and says the present one. */
export function rejectRenamedOption(op: string, name: string): void {
  if (Object.hasOwn(RENAMED, name))
    throw fail('ERR_S4_VALUE', op, `the option '${RENAMED[name]}'`, `its former name '${name}'`)
}

/** Refuses options that do not exist, by name, and what is no object of options. */
export function rejectUnknownOptions(op: string, options: unknown, names: readonly string[]): void {
  for (const key of Object.keys(optionsObject(op, options))) {
    if (names.includes(key)) continue
    rejectRenamedOption(op, key)
    throw fail('ERR_S4_VALUE', op, `one of the options ${names.join(', ')}`, `unknown option '${key}'`)
  }
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
      throw fail('ERR_S4_VALUE', op, `a finite number for '${name}'`, String(x))
    out[name] = x
  }
  return out
}
