import { writeFileSync } from 'node:fs'
import { Args } from '../args.js'
import type { Command } from './command.js'
import { frame, Frames } from '../forecaster.js'
import { loadForecaster } from '../store.js'
import { deviceOf, deviceOptions, readSeries, seriesOptions } from './options.js'

export const forecast: Command = {
  name: 'forecast',
  summary: 'what comes after the last sample of a CSV file',
  usage: `forecast MODEL DATA.csv [--steps N] [--out FILE] [--column NAME|PLACE] [--gaps error|linear] [--header auto|true|false]
          [--device cpu|cuda] [--threads N]

Prints CSV lines step,mean,low,high: low and high are mean ∓ 2σ. Past the model's horizon the means themselves are taken as
what came, so the band there is too narrow.

Defaults: --steps the model's horizon, --out standard output, --column that of the training, --gaps error, --header auto,
--device a GPU where there is one, --threads all cores.`,
  async run(argv) {
    const args = new Args(
      argv,
      { steps: { type: 'string' }, out: { type: 'string' }, ...seriesOptions, ...deviceOptions },
      ['MODEL', 'DATA.csv'],
    )
    const [path, data] = args.positionals
    const forecaster = await loadForecaster(path, deviceOf(args))
    const series = await readSeries(data, args, forecaster.about.column)
    const { horizon } = forecaster.about
    const steps = args.count('steps', horizon)
    using stream = forecaster.stream()
    const frames = new Frames(forecaster.about)
    let latest: ArrayLike<number> = series
    const lines = ['step,mean,low,high']
    while (lines.length <= steps) {
      const outputs = (
        await stream.pushAsync({ data: forecaster.inputs(latest, frames), shape: [1, latest.length, frame] })
      ).data
      const last = outputs.subarray(outputs.length - 2 * horizon)
      const { mean, sigma } = forecaster.fan(last, [latest[latest.length - 1]], 0)
      for (let k = 0; k < horizon && lines.length <= steps; k++) {
        lines.push(
          [lines.length, mean[k], mean[k] - 2 * sigma[k], mean[k] + 2 * sigma[k]]
            .map((v) => Number(v.toPrecision(6)))
            .join(','),
        )
      }
      latest = mean
    }
    const out = args.text('out')
    if (out === undefined) console.log(lines.join('\n'))
    else writeFileSync(out, `${lines.join('\n')}\n`)
    forecaster.dispose()
    return 0
  },
}
