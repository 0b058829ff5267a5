/** A command of the program `s4`. */
export interface Command {
  readonly name: string
  readonly summary: string
  /** The help text: arguments and options as they follow `s4`, then a description. */
  readonly usage: string
  /** Runs the command with its arguments; gives the exit code of the program. */
  readonly run: (argv: readonly string[]) => Promise<number>
}
