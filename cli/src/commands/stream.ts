import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { Args, UsageError } from '../args.js'
import type { Command } from './command.js'
import { Detector } from '../marks.js'
import { frame, Frames } from '../forecaster.js'
import { loadForecaster } from '../store.js'
import { deviceOf, deviceOptions } from './options.js'

export const stream: Command = {
  name: 'stream',
  summary: 'follow a series sample by sample: what was expected, and marks',
  usage: `stream MODEL [FILE] [--marks] [--device cpu|cuda] [--threads N]

Reads one number a line from FILE, or from standard input, and answers each at once with a CSV line
index,value,expected,sigma,strength,mark: expected and sigma were said one sample before; a strength above 1 is a mark,
'surprise' or 'flat'. With --marks only the marked samples are printed. A first line that is not a number is a header.

Defaults: FILE standard input, --marks off, --device a GPU where there is one, --threads all cores.`,
  async run(argv) {
    const args = new Args(argv, { marks: { type: 'boolean' }, ...deviceOptions }, ['MODEL', '[FILE]'])
    const [path, file] = args.positionals
    const forecaster = await loadForecaster(path, deviceOf(args))
    const { thresholds } = forecaster.about
    if (thresholds === undefined) throw new UsageError(`${path} has no thresholds for marks`)
    const detector = new Detector(thresholds)
    using network = forecaster.stream()
    const frames = new Frames(forecaster.about)
    let expected = { mean: Number.NaN, sigma: Number.NaN }
    let index = 0
    console.log('index,value,expected,sigma,strength,mark')
    const source = file === undefined || file === '-' ? process.stdin : createReadStream(file)
    let number = 0
    for await (const line of createInterface({ input: source, crlfDelay: Infinity })) {
      number += 1
      if (line.trim() === '') continue
      const value = Number(line)
      if (!Number.isFinite(value)) {
        if (number === 1) continue
        throw new Error(`line ${number}: '${line.slice(0, 40)}' is not a number`)
      }
      const { strength, kind } = detector.push((value - expected.mean) / expected.sigma)
      const marked = strength > 1
      if (marked || !args.flag('marks')) {
        const cells = [index, value, expected.mean, expected.sigma, strength].map((v) =>
          Number.isFinite(v) ? Number(v.toPrecision(6)) : '',
        )
        console.log(`${cells.join(',')},${marked ? kind : ''}`)
      }
      expected = forecaster.moment(
        network.push({ data: frames.push(value), shape: [1, 1, frame] }).data,
        0,
        1,
        value,
      )
      index += 1
    }
    forecaster.dispose()
    return 0
  },
}
