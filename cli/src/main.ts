/** The `s4` command. Exit codes: 0 done, 1 it failed (or a check did not hold), 2 a mistake in the command line, 130 ended by Ctrl-C. */
import { Command as Program, CommanderError } from 'commander'
import { diagnose as library } from 's4-node'
import { commands } from './commands/all.js'
import type { Command } from './commands/command.js'
import { flagsOf, helpOf, valueOfText, type Values } from './options/spec.js'
import { UsageError } from './usage.js'

/** Adds a command below `parent`; `done` is called with its exit code. */
function add(parent: Program, command: Command, done: (code: number) => void): void {
  const { name, summary, operands, options, notes, children = [], takesUnknown = false } = command
  const program = parent.command(name).summary(summary).description(summary)
  program.allowUnknownOption(takesUnknown)
  // What stands behind a child's name is the child's.
  if (children.length > 0) program.enablePositionalOptions()
  for (const operand of operands) {
    const usage = operand.name.startsWith('[') ? operand.name : `<${operand.name}>`
    program.argument(usage, operand.help)
  }
  for (const spec of options) program.option(flagsOf(spec), helpOf(spec))
  if (notes !== undefined) program.addHelpText('after', `\n${notes}`)
  for (const child of children) add(program, child, done)
  const { run } = command
  if (run === undefined) return
  program.action(async () => {
    const values: Values = {}
    for (const spec of options) {
      if (program.getOptionValueSource(spec.name) !== 'cli') continue
      const given = program.getOptionValue(spec.name) as string | boolean
      values[spec.name] = typeof given === 'boolean' ? given : valueOfText(spec, given)
    }
    done(await run({ operands: program.args, values }))
  })
}

/** Runs one command line and gives the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let code = 0
  const program = new Program('s4')
  program
    .description('S4, the Structured State Space sequence model: train, forecast, classify, generate, stream')
    .version(library().version)
    // Before commands are added, which take these settings over.
    .exitOverride()
    .enablePositionalOptions()
    .configureHelp({ showGlobalOptions: false })
  for (const command of commands) add(program, command, (result) => (code = result))
  try {
    if (argv.length === 0) {
      program.outputHelp({ error: true })
      return 2
    }
    await program.parseAsync(argv, { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    const { message, code: reason } = error as Error & { code?: string }
    const detail = reason !== undefined && !message.includes(reason) ? ` (${reason})` : ''
    console.error(`s4 ${argv[0]}: ${message.split('\n')[0]}${detail}`)
    if (!(error instanceof UsageError)) return 1
    console.error(`\`s4 ${argv[0]} --help\` lists arguments and options`)
    return 2
  }
}
