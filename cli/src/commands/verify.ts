import { statSync } from 'node:fs'
import { choices } from 's4-node'
import { Args, UsageError } from '../args.js'
import type { Command } from './command.js'
import { verify as verifyFolder } from '../verify/verify.js'
import { deviceOf, deviceOptions } from './options.js'

export const verify: Command = {
  name: 'verify',
  summary: 'run a folder of golden cases through the public API',
  usage: `verify DIR [--f64] [--algorithm auto|fft|chunk|cauchy] [--device cpu|cuda] [--precision highest|high|bf16] [--threads N]

Prints one line \`CASE QUANTITY ERROR\` for every tensor that the files hold besides inputs and probes, ERROR being
‖a − b‖/‖b‖, then the count and the worst. Exit code 1 past a tolerance, on an unknown tensor, or on a file that cannot be run.
The algorithm cauchy is of bilinear layers: cases of zero-order hold are skipped, and counted.

Defaults: --f64 off (f32), --algorithm auto, --device cpu, --precision highest, --threads all cores.`,
  async run(argv) {
    const args = new Args(
      argv,
      { f64: { type: 'boolean' }, algorithm: { type: 'string' }, ...deviceOptions },
      ['DIR'],
    )
    const [folder] = args.positionals
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new UsageError(`${folder} is not a folder`)
    const algorithm = args.oneOf('algorithm', choices.algorithm)
    const verdict = await verifyFolder(
      folder,
      {
        dtype: args.flag('f64') ? 'f64' : 'f32',
        device: 'cpu',
        ...deviceOf(args),
        ...(algorithm && { algorithm }),
      },
      (line) => console.log(line),
    )
    return verdict.failures === 0 ? 0 : 1
  },
}
