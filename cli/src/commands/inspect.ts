import { SequenceModel, type Inspection, type InspectionOptions } from 's4-node'
import { Classifier, Forecaster } from 's4-node/tasks'
import { readInputs } from '../data/examples.js'
import { readOneTable } from '../data/tables.js'
import { rateOf } from '../data/rate.js'
import { readModelInput, saidOf } from '../data/model-input.js'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import { taskFile } from '../run/folder.js'
import { UsageError } from '../usage.js'
import type { Command } from './command.js'

/** Inputs of a classifier that are looked at, and bars of each. */
const MOST = 8
const BARS = 64

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
    {
      name: 'data',
      kind: 'text',
      word: 'file',
      help: 'data of the model, to see which steps its output depends on',
      otherwise: 'none',
    },
    {
      name: 'time',
      kind: 'text',
      word: 'column',
      help: 'forecasters: column of --data with the time of each row',
      otherwise: 'the first column of dates, if there is one',
    },
    {
      name: 'rate',
      kind: 'number',
      min: 1,
      max: 16,
      help: 'classifiers: how many times fewer samples a second --data have than those of the training',
      otherwise: 'what the files say, else 1',
    },
    jsonSpec,
    ...deviceSpecs,
  ],
  notes: `With --data it says too how each block changes its input, and, bar by bar from the first step to the last, how much the output of the last step
depends on the input at each: of a classifier on what \`s4 predict\` reads (the first ${MOST} inputs), of a forecaster on the last rows of a table, as
\`s4 forecast\` reads it, of another network on an array of its inputs (.npy), a table with as many columns, or a text.`,
  async run({ operands: [path], values }) {
    const { length, samplingInterval, data } = values as {
      length?: number
      samplingInterval?: number
      data?: string
    }
    const seconds = samplingInterval === undefined ? {} : { samplingInterval }
    const options: InspectionOptions = { ...(length !== undefined && { length }), ...seconds }
    const file = taskFile(path as string)
    using model = await SequenceModel.load(file, deviceOf(values))
    const task = data === undefined ? undefined : saidOf(model.extra).task
    for (const [name, whose] of [
      ['time', 'forecast'],
      ['rate', 'classify'],
    ] as const)
      if (values[name] !== undefined && task !== whose)
        throw new UsageError(
          `--${name} is of --data of a ${whose === 'forecast' ? 'forecaster' : 'classifier'}`,
        )
    if (length !== undefined && (task === 'classify' || task === 'forecast'))
      throw new UsageError('--length is what --data has')
    let inspection: Inspection
    if (data !== undefined && task === 'forecast') {
      const forecaster = await Forecaster.load(file, deviceOf(values))
      try {
        const { time } = values as { time?: string }
        const { columns, time: stamps } = await readOneTable(data, { ...(time !== undefined && { time }) })
        inspection = await forecaster.inspect({ columns, time: stamps }, seconds)
      } finally {
        forecaster.dispose()
      }
    } else if (data !== undefined && task === 'classify') {
      const classifier = await Classifier.load(file, deviceOf(values))
      try {
        const { inputs, sampleRate } = await readInputs([data], {}, classifier)
        inspection = await classifier.inspect(
          inputs.slice(0, MOST).map(({ input }) => input),
          { ...seconds, rate: rateOf(classifier, sampleRate, values) },
        )
      } finally {
        classifier.dispose()
      }
    } else
      inspection = await model.inspect({
        ...options,
        ...(data !== undefined && { data: await readModelInput(data, model) }),
      })
    if (values['json']) console.log(JSON.stringify(inspection, plainArrays))
    else console.log([inspection.text, ...influenceBars(inspection)].join('\n'))
    return 0
  },
}

/** The influence of the inputs of each sequence as a line of bars, each the mean over as many steps. */
function influenceBars({ influence }: Inspection): string[] {
  if (influence === undefined) return []
  const [batch, len] = influence.shape as [number, number]
  const count = Math.min(BARS, len)
  return Array.from({ length: Math.min(batch, MOST) }, (_, row) => {
    const own = influence.data.subarray(row * len, (row + 1) * len)
    const means = Array.from({ length: count }, (__, i) => {
      const part = own.subarray(Math.floor((i * len) / count), Math.floor(((i + 1) * len) / count))
      return part.reduce((a, b) => a + b, 0) / part.length
    })
    const most = Math.max(...means)
    const bars = means.map((x) =>
      x === 0 || most === 0 ? ' ' : '▁▂▃▄▅▆▇█'[Math.min(7, Math.floor((8 * x) / most))],
    )
    return `input gradients ${row + 1}, steps 1 to ${len}: |${bars.join('')}|`
  })
}

/** Typed arrays as lists, and what is infinite, which JSON has not, as text. */
function plainArrays(_key: string, value: unknown): unknown {
  if (value instanceof Float64Array) return Array.from(value, (x) => (Number.isFinite(x) ? x : String(x)))
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value
}
