/** The `s4` command. Exit codes: 0 done, 1 it failed (or a check did not hold), 2 a mistake in the command line. */
import { diagnose as library } from 's4-node'
import { UsageError } from './args.js'
import type { Command } from './commands/command.js'
import { data } from './commands/data.js'
import { demo } from './commands/demo.js'
import { diagnose } from './commands/diagnose.js'
import { forecast } from './commands/forecast.js'
import { importOfficial } from './commands/import.js'
import { stream } from './commands/stream.js'
import { train } from './commands/train.js'
import { verify } from './commands/verify.js'

const commands: readonly Command[] = [train, forecast, stream, importOfficial, data, diagnose, verify, demo]

function help(): string {
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`)
  return `usage: s4 <command> [options]\n\n${lines.join('\n')}\n\n\`s4 <command> --help\` tells more, \`s4 --version\` the version.`
}

/** Runs one command line and gives the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(help())
    return name === undefined ? 2 : 0
  }
  if (name === '--version' || name === '-V' || name === 'version') {
    console.log(library().version)
    return 0
  }
  const command = commands.find((c) => c.name === name)
  if (command === undefined) {
    console.error(`s4: '${name}' is not a command; one of ${commands.map((c) => c.name).join(', ')}`)
    return 2
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    console.log(`usage: s4 ${command.usage}`)
    return 0
  }
  try {
    return await command.run(rest)
  } catch (error) {
    const { message, code } = error as Error & { code?: string }
    const detail = code !== undefined && !message.includes(code) ? ` (${code})` : ''
    console.error(`s4 ${name}: ${message.split('\n')[0]}${detail}`)
    if (error instanceof UsageError) console.error(`usage: s4 ${command.usage.split('\n')[0]}`)
    return error instanceof UsageError ? 2 : 1
  }
}
