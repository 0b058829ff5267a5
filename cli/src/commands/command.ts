import type { OptionSpec, Values } from '../options/spec.js'

/** What a command was called with. */
export interface Call {
  /** Its arguments that are no options. */
  readonly operands: readonly string[]
  /** The options that were given. */
  readonly values: Values
}

/** A command of the program `s4`. */
export interface Command {
  readonly name: string
  readonly summary: string
  /** Its arguments: `'DATA...'` for at least one, `'[FILE]'` for one that may be left out. */
  readonly operands: readonly { readonly name: string; readonly help: string }[]
  readonly options: readonly OptionSpec[]
  /** What the help says below the options. */
  readonly notes?: string
  /** Commands below it: `s4 train forecast`. */
  readonly children?: readonly Command[]
  /** Whether options that it does not know are left among its operands. */
  readonly takesUnknown?: boolean
  /** Runs it; gives the exit code of the program. Without it there are its children alone. */
  readonly run?: (call: Call) => Promise<number>
}
