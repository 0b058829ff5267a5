import { SequenceModel, type InspectionOptions } from 's4-node'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import { taskFile } from '../run/folder.js'
import type { Command } from './command.js'

export const inspect: Command = {
  name: 'inspect',
  summary:
    'what a model has learned: timescales, memory, what does nothing, and whether its step sizes fit the data',
  operands: [{ name: 'MODEL', help: 'a checkpoint, or the folder of a run' }],
  options: [
    {
      name: 'length',
      kind: 'count',
      min: 1,
      help: 'time steps of the sequences that it is for',
      otherwise: 'unknown, and no advice that needs it',
    },
    {
      name: 'samplingInterval',
      kind: 'number',
      min: 1e-12,
      help: 'seconds from one time step to the next: times are then said in seconds too',
      otherwise: 'unknown',
    },
    jsonSpec,
    ...deviceSpecs,
  ],
  async run({ operands: [path], values }) {
    const { length, samplingInterval } = values as { length?: number; samplingInterval?: number }
    const options: InspectionOptions = {
      ...(length !== undefined && { length }),
      ...(samplingInterval !== undefined && { samplingInterval }),
    }
    using model = await SequenceModel.load(taskFile(path as string), deviceOf(values))
    const inspection = await model.inspect(options)
    console.log(values['json'] ? JSON.stringify(inspection, plainArrays) : inspection.text)
    return 0
  },
}

/** Typed arrays as lists, and what is infinite, which JSON has not, as text. */
function plainArrays(_key: string, value: unknown): unknown {
  if (value instanceof Float64Array) return Array.from(value, (x) => (Number.isFinite(x) ? x : String(x)))
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value
}
