/** One command of `s4`. */
export interface Command {
  readonly name: string
  readonly summary: string
  /** After `s4`: arguments and options on the first lines, then what it does. */
  readonly usage: string
  /** Gives the exit code. */
  readonly run: (argv: readonly string[]) => Promise<number>
}
