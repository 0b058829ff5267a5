import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Classifier, Forecaster, StreamRow, WindowClass } from 's4-node/tasks'
import { readRecordings } from '../data/examples.js'
import { kindOf } from '../data/files.js'
import { rateOf } from '../data/rate.js'
import { stampOf } from '../data/stamp.js'
import { SampleBytes, sampleFormats, type SampleFormat } from '../data/sample-bytes.js'
import { readOneTable } from '../data/tables.js'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import type { OptionSpec, Values } from '../options/spec.js'
import { csv, number } from '../output.js'
import { disposeTask, loadTask } from '../run/load.js'
import { UsageError } from '../usage.js'
import type { Command } from './command.js'

const forecastSpecs: readonly OptionSpec[] = [
  {
    name: 'time',
    kind: 'text',
    word: 'column',
    help: 'forecasters of uneven times: column with the time of each row, ISO 8601 (UTC) or milliseconds since 1970',
    otherwise: 'none',
  },
  { name: 'marks', kind: 'flag', help: 'forecasters: print marked rows alone', otherwise: 'off' },
  {
    name: 'knownFirst',
    kind: 'text',
    word: 'file',
    help: 'forecasters with columns that are known ahead: table with those of the first rows, as many as the horizon',
    otherwise: 'none',
  },
]
const classSpecs: readonly OptionSpec[] = [
  {
    name: 'window',
    kind: 'count',
    min: 1,
    help: 'classifiers: samples that are classified at a time',
    otherwise: 'as many as the examples of the training had',
  },
  {
    name: 'hop',
    kind: 'count',
    min: 1,
    help: 'classifiers: samples between two windows',
    otherwise: 'a quarter of the window',
  },
  {
    name: 'debounce',
    kind: 'count',
    min: 1,
    help: 'classifiers: windows in a row that a class has to win to be reported',
    otherwise: '2',
  },
  {
    name: 'threshold',
    kind: 'number',
    min: 0,
    max: 1,
    help: 'classifiers: least probability with which it has to win',
    otherwise: '0.5',
  },
  {
    name: 'rate',
    kind: 'number',
    min: 1,
    max: 16,
    help: 'classifiers: how many times fewer samples a second there are',
    otherwise: 'what the file says, else 1',
  },
  {
    name: 'format',
    kind: 'choice',
    choices: sampleFormats,
    help: 'classifiers: of samples on standard input',
    otherwise: 'i16',
  },
  {
    name: 'reports',
    kind: 'flag',
    help: 'classifiers: print windows alone that report a class',
    otherwise: 'off',
  },
]

export const stream: Command = {
  name: 'stream',
  summary: 'follow a series row by row, or listen to sound',
  operands: [
    { name: 'RUN', help: 'folder of a run, or its best.safetensors' },
    { name: '[FILE]', help: 'what to follow; standard input without it, or where it is -' },
  ],
  options: [...forecastSpecs, ...classSpecs, jsonSpec, ...deviceSpecs],
  notes: `A forecaster reads lines of CSV: a header with the names of its columns, then a row at a time; of one column numbers alone will do. It
answers each row at once with row,column,value,expected,sigma,strength,mark: expected and sigma were said one row before, a strength
above 1 is a mark, 'surprise' or 'flat'. An empty field is a missing value. With --json a row has its time too, of a forecaster of uneven times,
whose rows are expected at their times.

A classifier reads a recording, or raw samples from standard input (little-endian, one channel, at the rate of its training), and
answers every window with position,label,probability,report. One of texts reads text, and its windows are of tokens.`,
  async run({ operands: [run, file], values }) {
    const loaded = await loadTask(run as string, deviceOf(values))
    try {
      if (loaded.task === 'generate')
        throw new UsageError(`${run} is a generator: \`s4 generate\` continues a text`)
      const foreign = (loaded.task === 'forecast' ? classSpecs : forecastSpecs).find(
        ({ name }) => values[name] !== undefined,
      )
      if (foreign !== undefined)
        throw new UsageError(`--${foreign.name} is no option of the task ${loaded.task}`)
      if (loaded.task === 'forecast') await follow(loaded.forecaster, file, values)
      else await listen(loaded.classifier, file, values)
      return 0
    } finally {
      disposeTask(loaded)
    }
  },
}

const source = (file: string | undefined): Readable =>
  file === undefined || file === '-' ? process.stdin : createReadStream(file)

/** Follows the rows of a series. */
async function follow(forecaster: Forecaster, file: string | undefined, values: Values): Promise<void> {
  const first = values['knownFirst'] as string | undefined
  const known = first === undefined ? undefined : (await readOneTable(first, {})).columns
  using live = forecaster.stream({ ...(known && { known }) })
  const wanted = [...forecaster.targets, ...forecaster.known]
  const time = forecaster.interval === undefined ? undefined : (values['time'] as string | undefined)
  if (forecaster.interval !== undefined && time === undefined)
    throw new UsageError('the forecaster takes the time between rows: --time names the column of their times')
  let names: string[] | undefined
  let line = 0
  if (!values['json']) console.log('row,column,value,expected,sigma,strength,mark')
  for await (const text of createInterface({ input: source(file), crlfDelay: Infinity })) {
    line++
    if (text.trim() === '') continue
    const cells = text.split(',').map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'))
    if (names === undefined) {
      const isHeader = cells.some((cell) => cell !== '' && Number.isNaN(Number(cell)))
      if (!isHeader && (wanted.length > 1 || cells.length > 1))
        throw new Error(
          `line ${line}: a header with the columns ${[...wanted, ...(time === undefined ? [] : [time])].join(', ')} is to come first`,
        )
      names = isHeader ? cells : wanted
      // Of one column the header may say what it likes.
      if (names.length === 1 && wanted.length === 1 && time === undefined) names = wanted
      const missing = [...wanted, ...(time === undefined ? [] : [time])].find(
        (name) => !names!.includes(name),
      )
      if (missing !== undefined)
        throw new Error(`line ${line}: no column '${missing}' among ${names.join(', ')}`)
      if (isHeader) continue
    }
    const row: Record<string, number> = {}
    for (const name of wanted) {
      const cell = cells[names.indexOf(name)] ?? ''
      const value = /^(|na|nan)$/i.test(cell) ? NaN : Number(cell)
      if (cell !== '' && !/^(na|nan)$/i.test(cell) && !Number.isFinite(value))
        throw new Error(`line ${line}: '${cell.slice(0, 40)}' in column '${name}' is not a number`)
      row[name] = value
    }
    const when = time === undefined ? {} : { time: stampOf(cells[names.indexOf(time)] ?? '', `line ${line}`) }
    const said = live.push(row, when)
    if (values['marks'] && said.mark === undefined) continue
    for (const printed of linesOf(said, row, forecaster.targets, values['json'] === true))
      console.log(printed)
  }
}

function linesOf(
  said: StreamRow,
  row: Record<string, number>,
  targets: readonly string[],
  json: boolean,
): string[] {
  if (json) {
    const finite = (x: Record<string, number>) =>
      Object.fromEntries(Object.entries(x).map(([name, v]) => [name, Number.isFinite(v) ? v : null]))
    return [
      JSON.stringify({
        ...said,
        value: finite(row),
        expected: finite(said.expected),
        sigma: finite(said.sigma),
      }),
    ]
  }
  return targets.map((name) =>
    csv([
      said.row,
      name,
      number(row[name] as number),
      number(said.expected[name] as number),
      number(said.sigma[name] as number),
      number(said.strength),
      said.mark ?? '',
    ]),
  )
}

/** Classifies windows of what is heard. */
async function listen(classifier: Classifier, file: string | undefined, values: Values): Promise<void> {
  const { window, hop, debounce, threshold } = values as Record<string, number>
  const live = (rate: number) =>
    classifier.stream({
      rate,
      ...(window !== undefined && { window }),
      ...(hop !== undefined && { hop }),
      ...(debounce !== undefined && { debounce }),
      ...(threshold !== undefined && { threshold }),
    })
  if (!values['json']) console.log('position,label,probability,report')
  const say = (windows: readonly WindowClass[]): void => {
    for (const one of windows) {
      if (values['reports'] && !one.report) continue
      const { position, label, probability, report } = one
      console.log(
        values['json']
          ? JSON.stringify(one)
          : csv([position, label, number(probability), report ? 'yes' : '']),
      )
    }
  }
  if (file !== undefined && file !== '-' && kindOf(file) === 'audio') {
    const { inputs, sampleRate } = await readRecordings([file], undefined)
    using heard = live(rateOf(classifier, sampleRate, values))
    const [samples] = inputs as [Float32Array]
    // In pieces, so that windows are told as they are classified.
    for (let at = 0; at < samples.length; at += 4096) say(heard.push(samples.subarray(at, at + 4096)))
    return
  }
  using heard = live(rateOf(classifier, undefined, values))
  if (classifier.kind === 'text') {
    // A character that comes in two pieces is one.
    const decoder = new TextDecoder('utf-8', { fatal: true })
    for await (const piece of source(file)) {
      const text = decoder.decode(piece as Buffer, { stream: true })
      if (text !== '') say(heard.push(text))
    }
    // A character that the end cuts off is no text.
    decoder.decode()
    return
  }
  const bytes = new SampleBytes((values['format'] as SampleFormat | undefined) ?? 'i16')
  for await (const piece of source(file)) {
    const samples = bytes.push(piece as Buffer)
    if (samples.length > 0) say(heard.push(samples))
  }
}
