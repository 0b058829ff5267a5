import { statSync } from 'node:fs'
import { choices } from 's4-node'
import { deviceOf, deviceSpecs } from '../options/common.js'
import { UsageError } from '../usage.js'
import { verify as verifyFolder } from '../verify/verify.js'
import type { RunOptions } from '../verify/cases.js'
import type { Command } from './command.js'

export const verify: Command = {
  name: 'verify',
  summary: 'run a folder of golden cases through the public API',
  operands: [{ name: 'DIR', help: 'folder of the cases' }],
  options: [
    { name: 'f64', kind: 'flag', help: 'in double precision', otherwise: 'off' },
    {
      name: 'algorithm',
      kind: 'choice',
      choices: choices.algorithm,
      help: 'how the SSM is computed',
      otherwise: 'auto',
    },
    ...deviceSpecs.map((spec) => (spec.name === 'device' ? { ...spec, otherwise: 'cpu' } : spec)),
  ],
  notes: `Prints one line \`CASE QUANTITY ERROR\` for every tensor that the files hold besides inputs and probes, ERROR being
‖a − b‖/‖b‖, then the count and the worst. Exit code 1 past a tolerance, on an unknown tensor, or on a file that cannot be run.
The algorithm cauchy is of bilinear layers: cases of zero-order hold are skipped, and counted.`,
  async run({ operands, values }) {
    const [folder] = operands as [string]
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new UsageError(`${folder} is not a folder`)
    const { algorithm } = values as Pick<RunOptions, 'algorithm'>
    const verdict = await verifyFolder(
      folder,
      {
        dtype: values['f64'] ? 'f64' : 'f32',
        device: 'cpu',
        ...deviceOf(values),
        ...(algorithm && { algorithm }),
      },
      (line) => console.log(line),
    )
    return verdict.failures === 0 ? 0 : 1
  },
}
