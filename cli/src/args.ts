/** Options of a command, read by node:util parseArgs, with one line of text for each mistake in them. */
import { parseArgs, type ParseArgsConfig } from 'node:util'

/** A mistake in the command line: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

type Options = NonNullable<ParseArgsConfig['options']>

/** `--horizon -3` as `--horizon=-3`: what looks like a number is a value, which the option's own check then refuses or takes. */
function withValues(argv: readonly string[], options: Options): string[] {
  const out: string[] = []
  for (const [i, argument] of argv.entries()) {
    const before = argv[i - 1]
    const named = before?.startsWith('--') === true && options[before.slice(2)]?.type === 'string'
    if (named && /^-\.?\d/.test(argument)) out.push(`${out.pop()}=${argument}`)
    else out.push(argument)
  }
  return out
}

export class Args {
  readonly #values: Record<string, unknown>
  readonly positionals: readonly string[]

  constructor(argv: readonly string[], options: Options, names: readonly string[]) {
    try {
      const { values, positionals } = parseArgs({
        args: withValues(argv, options),
        options,
        allowPositionals: true,
        strict: true,
      })
      this.#values = values
      this.positionals = positionals
    } catch (error) {
      throw new UsageError((error as Error).message.split('. ')[0])
    }
    const required = names.filter((name) => !name.startsWith('['))
    if (this.positionals.length < required.length)
      throw new UsageError(`missing ${required[this.positionals.length]}`)
    if (this.positionals.length > names.length)
      throw new UsageError(`unexpected argument '${this.positionals[names.length]}'`)
  }

  flag(name: string): boolean {
    return this.#values[name] === true
  }

  text(name: string): string | undefined {
    return this.#values[name] as string | undefined
  }

  required(name: string): string {
    const value = this.text(name)
    if (value === undefined || value === '') throw new UsageError(`missing --${name}`)
    return value
  }

  oneOf<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.text(name)
    if (value === undefined || (choices as readonly string[]).includes(value)) return value as T | undefined
    throw new UsageError(`--${name} is one of ${choices.join(', ')}, not '${value}'`)
  }

  number(
    name: string,
    otherwise: number,
    { min = 0, integer = false }: { min?: number; integer?: boolean } = {},
  ): number {
    const text = this.text(name)
    if (text === undefined) return otherwise
    const value = Number(text)
    if (
      text.trim() === '' ||
      !Number.isFinite(value) ||
      value < min ||
      (integer && !Number.isSafeInteger(value))
    ) {
      throw new UsageError(
        `--${name} is ${integer ? 'a whole number' : 'a number'} of at least ${min}, not '${text}'`,
      )
    }
    return value
  }

  count(name: string, otherwise: number, min = 1): number {
    return this.number(name, otherwise, { min, integer: true })
  }
}
