import { choices } from 's4-node'
import { Args, UsageError } from '../args.js'
import { Forecaster, type StoredTraining } from '../forecaster.js'
import type { Command } from './command.js'
import { progress } from '../progress.js'
import { scoreTable, scores } from '../scores.js'
import { loadForecaster, saveForecaster } from '../store.js'
import { untilInterrupted } from '../interrupt.js'
import { deviceOf, deviceOptions, readSeries, seriesOptions } from './options.js'

export const train: Command = {
  name: 'train',
  summary: 'train a forecasting model on one column of a CSV file',
  usage: `train DATA.csv --out MODEL [--column NAME|PLACE] [--gaps error|linear] [--header auto|true|false]
          [--horizon N] [--holdout SHARE] [--mode s4|s4d] [--layers N] [--features N] [--state N] [--window N] [--batch N] [--updates N]
          [--lr X] [--ssm-lr X] [--max-seconds S] [--seed N] [--device cpu|cuda] [--precision P] [--threads N] [--resume]

The model predicts a Gaussian for each of the next --horizon samples at every sample. The last --holdout of the series is
kept from training; errors there are printed beside those of persistence and of a linear autoregressive model. Ctrl-C ends the
training after the update under way and saves the model; --resume goes on with it, with the sizes and rates of its first run.

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
        resume: { type: 'boolean' },
        ...seriesOptions,
        ...deviceOptions,
      },
      ['DATA.csv'],
    )
    const out = args.required('out')
    const seconds =
      args.text('max-seconds') === undefined ? {} : { maxSeconds: args.number('max-seconds', 0) }
    const resume = args.flag('resume')
    const { forecaster, series, training } = resume ? await storedRun(args, out) : await newRun(args)
    const { trainLength, settings } = training
    const { updates, horizon } = settings
    const progressLine = progress('train')
    let done = 0
    const interrupted = await untilInterrupted(async (signal) => {
      for await (const { step, loss } of forecaster.train(
        series,
        trainLength,
        { ...settings, ...seconds },
        resume,
      )) {
        done = step
        progressLine.update(step, updates, `loss ${loss.toFixed(3)}`)
        if (signal.aborted) break
      }
    })
    progressLine.end()
    const outputs = await forecaster.outputs(series)
    forecaster.calibrate(forecaster.surprise(outputs, series), trainLength)
    await saveForecaster(forecaster, out)
    if (interrupted !== undefined && done < updates) {
      forecaster.dispose()
      console.error(
        `s4 train: stopped after update ${done} of ${updates}, saved in ${out}; the same command with --out and --resume goes on`,
      )
      return 128 + interrupted
    }
    console.log(scoreTable(scores(forecaster, outputs, series, trainLength, tenHorizons(horizon))))
    console.log(`model: ${out}`)
    forecaster.dispose()
    return 0
  },
}

/** What is trained, on what, and how. */
interface Run {
  readonly forecaster: Forecaster
  readonly series: Float64Array
  readonly training: StoredTraining
}

/** A run with a new model, by the options. */
async function newRun(args: Args): Promise<Run> {
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
  }
  const holdoutShare = args.number('holdout', 0.2)
  if (holdoutShare >= 1) throw new UsageError(`--holdout is a share below 1, not ${holdoutShare}`)
  // 0 stands for an option that was not given.
  const givenSizes = { horizon: countOrZero('horizon'), window: countOrZero('window') }

  const series = await readSeries(args.positionals[0], args)
  const horizon = givenSizes.horizon || Math.min(36, Math.max(1, Math.floor(series.length / 20)))
  const trainLength = Math.floor(series.length * (1 - holdoutShare))
  const window = givenSizes.window || Math.max(2, Math.min(4096, Math.floor((trainLength - horizon) / 2)))
  const training = {
    samples: series.length,
    trainLength,
    settings: { ...trainingOptions, horizon, window },
  }
  const forecaster = await Forecaster.create(series, trainLength, horizon, modelOptions)
  const column = args.text('column')
  forecaster.about = { ...forecaster.about, training, ...(column !== undefined && { column }) }
  return { forecaster, series, training }
}

/** Options that a run which goes on has from its first part. */
const SETTLED = [
  'horizon',
  'holdout',
  'mode',
  'layers',
  'features',
  'state',
  'window',
  'batch',
  'updates',
  'lr',
  'ssm-lr',
  'seed',
]

/** The run that was saved in a file. */
async function storedRun(args: Args, file: string): Promise<Run> {
  const given = SETTLED.find((name) => args.text(name) !== undefined)
  if (given !== undefined)
    throw new UsageError(`--resume goes on with the --${given} of the first run; leave it out`)
  const forecaster = await loadForecaster(file, deviceOf(args))
  const { column, training } = forecaster.about
  const refuse = (reason: string): never => {
    forecaster.dispose()
    throw new Error(`${file} cannot be gone on with: ${reason}`)
  }
  if (training === undefined) return refuse('it does not say how it was trained')
  const series = await readSeries(args.positionals[0], args, column)
  if (series.length !== training.samples)
    return refuse(
      `it was trained on a series of ${training.samples} samples, and this one has ${series.length}`,
    )
  return { forecaster, series, training }
}

/** Up to ten horizons from 1 to the last. */
export function tenHorizons(last: number): number[] {
  return [...new Set(Array.from({ length: 10 }, (_, i) => Math.max(1, Math.round(last ** (i / 9)))))]
}
