import { choices } from 's4-node'
import { Args, UsageError } from '../args.js'
import { Forecaster } from '../forecaster.js'
import type { Command } from './command.js'
import { progress } from '../progress.js'
import { scoreTable, scores } from '../scores.js'
import { saveForecaster } from '../store.js'
import { deviceOf, deviceOptions, readSeries, seriesOptions } from './options.js'

export const train: Command = {
  name: 'train',
  summary: 'train a forecasting model on one column of a CSV file',
  usage: `train DATA.csv --out MODEL [--column NAME|PLACE] [--gaps error|linear] [--header auto|true|false]
          [--horizon N] [--holdout SHARE] [--mode s4|s4d] [--layers N] [--features N] [--state N] [--window N] [--batch N] [--updates N]
          [--lr X] [--ssm-lr X] [--max-seconds S] [--seed N] [--device cpu|cuda] [--precision P] [--threads N]

The model predicts a Gaussian for each of the next --horizon samples at every sample. The last --holdout of the series is
kept from training; errors there are printed beside those of persistence and of a linear autoregressive model.

Defaults: --column the last, --gaps error, --header auto, --horizon a twentieth of the series and at most 36, --holdout 0.2,
--mode s4, --layers 3, --features 48, --state 64, --window half of the training part and at most 4096, --batch 4, --updates 400, --lr 0.01,
--ssm-lr 0.004, --max-seconds no limit, --seed 0, --device a GPU where there is one, --precision highest, --threads all cores.`,
  async run(argv) {
    const text = { type: 'string' } as const
    const args = new Args(
      argv,
      {
        out: text,
        horizon: text,
        holdout: text,
        mode: text,
        layers: text,
        features: text,
        state: text,
        window: text,
        batch: text,
        updates: text,
        lr: text,
        'ssm-lr': text,
        'max-seconds': text,
        seed: text,
        ...seriesOptions,
        ...deviceOptions,
      },
      ['DATA.csv'],
    )
    const out = args.required('out')
    const number = (name: string, otherwise: number, min = 1) => args.count(name, otherwise, min)
    const countOrZero = (name: string) => (args.text(name) === undefined ? 0 : number(name, 1))
    const modelOptions = {
      mode: args.oneOf('mode', choices.mode) ?? ('s4' as const),
      layers: number('layers', 3),
      features: number('features', 48),
      state: number('state', 64, 2),
      seed: number('seed', 0, 0),
      ...deviceOf(args),
    }
    const trainingOptions = {
      batch: number('batch', 4),
      updates: number('updates', 400),
      lr: args.number('lr', 1e-2),
      ssmLr: args.number('ssm-lr', 4e-3),
      seed: modelOptions.seed,
      ...(args.text('max-seconds') === undefined ? {} : { maxSeconds: args.number('max-seconds', 0) }),
    }
    const holdoutShare = args.number('holdout', 0.2)
    if (holdoutShare >= 1) throw new UsageError(`--holdout is a share below 1, not ${holdoutShare}`)
    // 0 stands for an option that was not given.
    const givenSizes = { horizon: countOrZero('horizon'), window: countOrZero('window') }

    const series = await readSeries(args.positionals[0], args)
    const horizon = givenSizes.horizon || Math.min(36, Math.max(1, Math.floor(series.length / 20)))
    const trainLength = Math.floor(series.length * (1 - holdoutShare))
    const forecastTraining = {
      ...trainingOptions,
      horizon,
      window: givenSizes.window || Math.max(2, Math.min(4096, Math.floor((trainLength - horizon) / 2))),
    }
    const forecaster = await Forecaster.create(series, trainLength, horizon, modelOptions)
    const progressLine = progress('train')
    for await (const { step, loss } of forecaster.train(series, trainLength, forecastTraining))
      progressLine.update(step, forecastTraining.updates, `loss ${loss.toFixed(3)}`)
    progressLine.end()
    const outputs = await forecaster.outputs(series)
    forecaster.calibrate(forecaster.surprise(outputs, series), trainLength)
    await saveForecaster(forecaster, out)
    console.log(scoreTable(scores(forecaster, outputs, series, trainLength, tenHorizons(horizon))))
    console.log(`model: ${out}`)
    forecaster.dispose()
    return 0
  },
}

/** Up to ten horizons from 1 to the last. */
export function tenHorizons(last: number): number[] {
  return [...new Set(Array.from({ length: 10 }, (_, i) => Math.max(1, Math.round(last ** (i / 9)))))]
}
