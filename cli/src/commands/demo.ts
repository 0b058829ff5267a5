import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { devices, readCsv } from 's4-node'
import { Args, UsageError } from '../args.js'
import { Forecaster, frame } from '../forecaster.js'
import type { Command } from './command.js'
import { findMarks, windowedSquares } from '../marks.js'
import { layerPictures, snapshot } from '../pictures.js'
import { progress } from '../progress.js'
import { reportPage } from '../report/page.js'
import { scores, scoreTable } from '../scores.js'
import { saveForecaster } from '../store.js'
import { deviceOf, deviceOptions } from './options.js'

const rate = 360
const trainSeconds = 240
const horizon = 36
const tolerance = 1e-5
const shape = { mode: 's4', layers: 3, features: 48, state: 64 } as const

export const demo: Command = {
  name: 'demo',
  summary: 'train on the electrocardiogram, forecast, stream, mark, and write a report',
  usage: `demo [DATA.csv] [--out FOLDER] [--updates N] [--max-seconds S] [--seed N] [--device cpu|cuda] [--threads N]

Five minutes of an electrocardiogram at 360 samples a second: trains on the first four, scores the last, streams all.
Writes FOLDER/index.html and FOLDER/model.safetensors; FOLDER is ./report unless said otherwise.`,
  async run(argv) {
    const text = { type: 'string' } as const
    const args = new Args(
      argv,
      { out: text, updates: text, 'max-seconds': text, seed: text, ...deviceOptions },
      ['[DATA.csv]'],
    )
    const folder = args.text('out') ?? 'report'
    const series = await electrocardiogram(args.positionals[0])
    const train = trainSeconds * rate
    if (series.length < train + 10 * rate)
      throw new UsageError(
        `the demonstration needs more than ${trainSeconds + 10} seconds at ${rate} samples a second, got ${series.length} samples`,
      )

    const pace = {
      updates: args.count('updates', 600),
      maxSeconds: args.number('max-seconds', 235, { min: 1 }),
      seed: args.count('seed', 0, 0),
    }
    const options = { ...shape, seed: pace.seed, ...deviceOf(args) }
    const make = () => Forecaster.create(series, train, horizon, options)
    const forecaster = await make()
    const device = describeDevice(forecaster, args.text('threads'))
    console.log(
      `${(series.length / rate).toFixed(0)} seconds of electrocardiogram; training on the first ${trainSeconds} on ${device}`,
    )
    const before = snapshot(forecaster.model)
    const training = await learn(forecaster, series, train, await planned(make, series, train, pace))

    const outputs = await forecaster.outputs(series)
    const table = scores(forecaster, outputs, series, train, [1, 2, 3, 5, 10, 15, 20, 25, 30, 36])
    console.log(
      `\nRMSE on the last ${series.length / rate - trainSeconds} seconds, in deviations of the training part:\n${scoreTable(table)}\n`,
    )

    const judged = table.filter((row) => row.horizon === 10 || row.horizon === horizon)
    const better = judged.every((row) => row.model < row.linear && row.model < row.persistence)
    console.log(
      better
        ? 'the model beats persistence and the linear model at 10 and 36 samples ahead\n'
        : 'the model does NOT beat persistence and the linear model at 10 and 36 samples ahead\n',
    )

    const streamed = follow(forecaster, series, outputs)
    const equal = streamed.error <= tolerance
    console.log(
      `streamed sample by sample: ${Math.round(streamed.samples / streamed.seconds)} samples a second; ${equal ? 'equal to' : 'DIFFERENT FROM'} the convolution (relative difference ${streamed.error.toExponential(1)}, allowed ${tolerance.toExponential(0)})`,
    )

    const z = forecaster.surprise(streamed.outputs, series)
    const thresholds = forecaster.calibrate(z, train)
    const marks = findMarks(z, thresholds)
    console.log(
      `marks: ${marks.length} in all, ${marks.filter((mark) => mark.from >= train).length} in the last ${series.length / rate - trainSeconds} seconds`,
    )

    mkdirSync(folder, { recursive: true })
    await saveForecaster(forecaster, join(folder, 'model.safetensors'))
    const band = forecaster.ahead(outputs, series, horizon)
    const page = reportPage({
      title: 'Five minutes of an electrocardiogram, learnt by S4',
      source:
        'MIT-BIH Arrhythmia Database, record 208, lead MLII, 360 samples a second (PhysioNet, ODC-By 1.0)',
      unit: 'mV',
      rate,
      device,
      holdout: train,
      signal: series,
      scores: table,
      training,
      model: {
        ...shape,
        horizon,
        parameters: forecaster.model
          .parameters()
          .reduce((sum, { shape: sizes }) => sum + sizes.reduce((a, b) => a * b, 1), 0),
      },
      band: { horizon, ...band },
      coverage: coverage(series, band, train),
      fans: [241.45, 247.6, 262.2].map((second) => ({
        origin: Math.round(second * rate),
        ...forecaster.fan(outputs, series, Math.round(second * rate)),
      })),
      surprise: windowedSquares(z, thresholds.options.window),
      threshold: thresholds.surprise,
      marks,
      layers: layerPictures(forecaster.model, before, rate, 1024),
      stream: { samples: streamed.samples, seconds: streamed.seconds, error: streamed.error, tolerance },
    })
    const file = resolve(folder, 'index.html')
    writeFileSync(file, page)
    console.log(`report: ${pathToFileURL(file).href}`)
    forecaster.dispose()
    return equal && better ? 0 : 1
  },
}

/** The series that comes with the package, or in a clone with the repository, unless another is named. */
async function electrocardiogram(path: string | undefined): Promise<Float64Array> {
  const below = (folder: string) => fileURLToPath(new URL(`${folder}/data/ecg_mitdb208.csv`, import.meta.url))
  const packed = below('../../..')
  const own = existsSync(packed) ? packed : below('../../../..')
  if (path === undefined && !existsSync(own))
    throw new UsageError(`no data: ${own} is missing, name a CSV file`)
  return Float64Array.from((await readCsv(path ?? own, { column: 'mv' })) as ArrayLike<number>)
}

/** `the CPU (2 threads, avx512)`, or the GPU's name. */
function describeDevice({ model }: Forecaster, threads: string | undefined): string {
  const found = devices().find(({ id }) => id === model.device)
  if (found === undefined || found.kind === 'cpu')
    return `the CPU (${[`${threads ?? found?.threads ?? 1} threads`, ...(found?.simd ? [found.simd] : [])].join(', ')})`
  return `${found.name ?? 'a GPU'} (${found.id})`
}

interface Pace {
  readonly updates: number
  readonly maxSeconds: number
  readonly seed: number
}

/** Trains with a progress line; gives the curve. */
async function learn(forecaster: Forecaster, series: Float64Array, train: number, pace: Pace) {
  const settings = { ...pace, horizon, window: 4096, batch: 4, lr: 1e-2, ssmLr: 4e-3 }
  const curve: { step: number; loss: number }[] = []
  const bar = progress('train')
  const began = performance.now()
  for await (const { step, loss } of forecaster.train(series, train, settings)) {
    curve.push({ step, loss })
    bar.update(step, settings.updates, `loss ${loss.toFixed(3)}`)
  }
  const seconds = (performance.now() - began) / 1000
  bar.end(
    `${curve.length} updates in ${seconds.toFixed(0)} s, loss ${curve[curve.length - 1].loss.toFixed(3)}`,
  )
  return { updates: curve.length, seconds, windows: settings.batch, window: settings.window, curve }
}

/**
 * As many updates as asked, or as fit in 0.9 of the time: the schedule has to know the last one beforehand. A few updates of a model
 * that is thrown away tell how fast this machine is.
 */
async function planned(
  make: () => Promise<Forecaster>,
  series: Float64Array,
  train: number,
  pace: Pace,
): Promise<Pace> {
  const [warm, timed] = [2, 4]
  const probe = await make()
  let began = performance.now()
  const settings = { ...pace, updates: warm + timed, horizon, window: 4096, batch: 4, lr: 0, ssmLr: 0 }
  let done = 0
  for await (const event of probe.train(series, train, settings)) {
    if (event.type === 'step' && ++done === warm) began = performance.now()
  }
  const each = (performance.now() - began) / 1000 / timed
  probe.dispose()
  const fit = Math.max(1, Math.floor((0.9 * pace.maxSeconds) / each))
  if (fit < pace.updates) {
    console.log(
      `one update takes ${each.toFixed(2)} s here: ${fit} updates instead of ${pace.updates}, to stay within ${pace.maxSeconds} s`,
    )
  }
  return { ...pace, updates: Math.min(pace.updates, fit) }
}

/** The network as a recurrence over the whole series, one sample at a time, beside what the convolution gave. */
function follow(forecaster: Forecaster, series: Float64Array, convolved: Float32Array) {
  const x = forecaster.inputs(series)
  const width = 2 * horizon
  const outputs = new Float32Array(series.length * width)
  const bar = progress('stream')
  using stream = forecaster.stream()
  const began = performance.now()
  for (let t = 0; t < series.length; t++) {
    outputs.set(
      stream.push({ data: x.subarray(t * frame, (t + 1) * frame), shape: [1, 1, frame] }).data,
      t * width,
    )
    if (t % 512 === 0) bar.update(t, series.length, `second ${Math.floor(t / rate)}`)
  }
  const seconds = (performance.now() - began) / 1000
  bar.end()
  let difference = 0
  let norm = 0
  for (let i = 0; i < outputs.length; i++) {
    difference += (outputs[i] - convolved[i]) ** 2
    norm += convolved[i] ** 2
  }
  const error = Math.sqrt(difference / norm)
  return { outputs, samples: series.length, seconds, error: Number.isFinite(error) ? error : Infinity }
}

/** Share of the held-out samples inside mean ± 2σ. */
function coverage(
  series: Float64Array,
  { mean, sigma }: { mean: Float64Array; sigma: Float64Array },
  train: number,
): number {
  let inside = 0
  for (let t = train + horizon; t < series.length; t++)
    if (Math.abs(series[t] - mean[t]) <= 2 * sigma[t]) inside += 1
  return inside / (series.length - train - horizon)
}
