/**
 * Options as data: one description serves the command line, recipes, and the JSON schema of recipes. Each has the name of the
 * API's option; on the command line `maxSeconds` is `--max-seconds`.
 */
import { UsageError } from '../usage.js'

/** A value of an option. */
export type Value = string | number | boolean | string[] | number[] | Record<string, number>
/** The options that were given, by name. */
export type Values = Record<string, Value>

interface Described {
  /** The name in the API and in recipes. */
  readonly name: string
  readonly help: string
  /** What holds where the option is not given, in words. */
  readonly otherwise?: string
}

/** An option of a number. */
export interface NumberSpec extends Described {
  readonly kind: 'count' | 'number'
  readonly min: number
  readonly max?: number
}

/** An option of text. */
export interface TextSpec extends Described {
  readonly kind: 'text' | 'pattern'
  /** What stands for the text in the help. */
  readonly word: string
}

/** An option of one word of several. */
export interface ChoiceSpec extends Described {
  readonly kind: 'choice'
  readonly choices: readonly string[]
}

/** An option of several values: on the command line with commas between them. */
export interface ListSpec extends Described {
  readonly kind: 'names' | 'numbers'
  readonly word: string
  /** Number of values where it is fixed. */
  readonly count?: number
}

/** An option of a word, or of a number by name: on the command line `a=1,b=2.5`, in a recipe an object. */
export interface WeightsSpec extends Described {
  readonly kind: 'weights'
  readonly word: string
  /** The word that stands for all of them. */
  readonly instead: string
}

/** An option that is given or not; a negated one is `--no-NAME` on the command line, and `false` in a recipe. */
export interface FlagSpec extends Described {
  readonly kind: 'flag'
  readonly negated?: true
}

export type OptionSpec = NumberSpec | TextSpec | ChoiceSpec | ListSpec | WeightsSpec | FlagSpec

/** `maxSeconds` as `max-seconds`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)

/** The option as it stands on the command line and in its help: `--max-seconds <s>`. */
export function flagsOf(spec: OptionSpec): string {
  const flag = `--${spec.kind === 'flag' && spec.negated ? 'no-' : ''}${kebab(spec.name)}`
  if (spec.kind === 'flag') return flag
  if (spec.kind === 'choice') return `${flag} <word>`
  return `${flag} <${'word' in spec ? spec.word : 'n'}>`
}

/** What the help says of it. */
export function helpOf(spec: OptionSpec): string {
  const choices = spec.kind === 'choice' ? `: ${spec.choices.join(', ')}` : ''
  return `${spec.help}${choices}${spec.otherwise === undefined ? '' : ` (default: ${spec.otherwise})`}`
}

/** What a right value is, in words. */
function wanted(spec: OptionSpec): string {
  switch (spec.kind) {
    case 'count':
    case 'number': {
      const kind = spec.kind === 'count' ? 'a whole number' : 'a number'
      return `${kind} ${spec.max === undefined ? `of at least ${spec.min}` : `from ${spec.min} to ${spec.max}`}`
    }
    case 'choice':
      return `one of ${spec.choices.join(', ')}`
    case 'names':
      return 'names'
    case 'numbers':
      return spec.count === undefined ? 'numbers' : `${spec.count} numbers`
    case 'weights':
      return `'${spec.instead}' or numbers of 0 or more by name, such as a=1,b=2.5`
    case 'flag':
      return 'true or false'
    case 'pattern':
      return 'a regular expression'
    case 'text':
      return 'text'
  }
}

/** Checks a value as JSON has it; `called` is how the mistake names the option, `said` how it shows the value. */
export function checkedValue(
  spec: OptionSpec,
  value: unknown,
  called = `'${spec.name}'`,
  said = JSON.stringify(value),
): Value {
  const wrong = (why = '') => new UsageError(`${called} is ${wanted(spec)}, not ${said}${why}`)
  switch (spec.kind) {
    case 'count':
    case 'number': {
      const right =
        typeof value === 'number' &&
        (spec.kind === 'count' ? Number.isSafeInteger(value) : Number.isFinite(value)) &&
        value >= spec.min &&
        value <= (spec.max ?? Infinity)
      if (!right) throw wrong()
      return value
    }
    case 'choice':
      if (typeof value !== 'string' || !spec.choices.includes(value)) throw wrong()
      return value
    case 'names':
      if (!Array.isArray(value) || !value.every((x) => typeof x === 'string' && x !== '')) throw wrong()
      return value as string[]
    case 'numbers': {
      const right = Array.isArray(value) && value.length > 0 && value.every((x) => Number.isFinite(x))
      if (!right || (spec.count !== undefined && value.length !== spec.count)) throw wrong()
      return value as number[]
    }
    case 'weights': {
      if (value === spec.instead) return value as string
      const right =
        typeof value === 'object' &&
        value !== null &&
        !Array.isArray(value) &&
        Object.keys(value).length > 0 &&
        Object.entries(value).every(([name, x]) => name !== '' && Number.isFinite(x) && x >= 0)
      if (!right) throw wrong()
      return value as Record<string, number>
    }
    case 'flag':
      if (typeof value !== 'boolean') throw wrong()
      return value
    case 'pattern':
      if (typeof value !== 'string') throw wrong()
      try {
        RegExp(value)
      } catch (error) {
        throw wrong(` (${(error as Error).message})`)
      }
      return value
    case 'text':
      if (typeof value !== 'string' || value === '') throw wrong()
      return value
  }
}

/** Reads the text of a command line. */
export function valueOfText(spec: OptionSpec, text: string): Value {
  const number = (x: string) => (x.trim() === '' ? NaN : Number(x))
  const read = (): unknown => {
    if (spec.kind === 'count' || spec.kind === 'number') return number(text)
    if (spec.kind === 'names') return text.split(',').map((name) => name.trim())
    if (spec.kind === 'numbers') return text.split(',').map(number)
    if (spec.kind === 'weights' && text !== spec.instead)
      return Object.fromEntries(
        text.split(',').map((pair) => {
          const at = pair.lastIndexOf('=')
          return [pair.slice(0, Math.max(at, 0)).trim(), at < 0 ? NaN : number(pair.slice(at + 1))]
        }),
      )
    return text
  }
  return checkedValue(spec, read(), `--${kebab(spec.name)}`, `'${text}'`)
}

/** The JSON schema of a value. */
export function schemaOf(spec: OptionSpec): Record<string, unknown> {
  const description = helpOf(spec)
  switch (spec.kind) {
    case 'count':
    case 'number':
      return {
        description,
        type: spec.kind === 'count' ? 'integer' : 'number',
        minimum: spec.min,
        ...(spec.max !== undefined && { maximum: spec.max }),
      }
    case 'choice':
      return { description, enum: spec.choices }
    case 'names':
      return { description, type: 'array', items: { type: 'string', minLength: 1 } }
    case 'numbers':
      return {
        description,
        type: 'array',
        items: { type: 'number' },
        minItems: spec.count ?? 1,
        ...(spec.count !== undefined && { maxItems: spec.count }),
      }
    case 'weights':
      return {
        description,
        anyOf: [
          { const: spec.instead },
          { type: 'object', minProperties: 1, additionalProperties: { type: 'number', minimum: 0 } },
        ],
      }
    case 'flag':
      return {
        description: spec.negated ? `false: ${description}` : description,
        type: 'boolean',
      }
    case 'pattern':
      return { description, type: 'string', format: 'regex' }
    case 'text':
      return { description, type: 'string', minLength: 1 }
  }
}
