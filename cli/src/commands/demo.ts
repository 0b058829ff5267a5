import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { devices, readCsv } from 's4-node'
import { Forecaster, frame } from '../demo/forecaster.js'
import type { Command } from './command.js'
import { findMarks, windowedSquares } from '../demo/marks.js'
import { layerPictures, snapshot } from '../demo/pictures.js'
import { progress } from '../progress.js'
import { scores, scoreTable } from '../demo/scores.js'
import { saveForecaster } from '../demo/store.js'
import { deviceOf, deviceSpecs } from '../options/common.js'
import { UsageError } from '../usage.js'

/** Samples per second of the electrocardiogram. */
const rate = 360
/** Seconds at the beginning of the series that the model is trained on. */
const trainSeconds = 240
/** Samples that each forecast reaches ahead. */
const horizon = 36
/** Largest relative difference allowed between the streamed outputs and those of the convolution. */
const streamTolerance = 1e-5
const modelOptions = { mode: 's4', layers: 3, features: 48, state: 64 } as const

export const demo: Command = {
  name: 'demo',
  summary: 'train on the electrocardiogram, forecast, stream, mark, and write a report',
  operands: [{ name: '[DATA.csv]', help: 'a table with a column mv' }],
  options: [
    {
      name: 'out',
      kind: 'text',
      word: 'folder',
      help: 'where index.html and model.safetensors are written',
      otherwise: 'report',
    },
    {
      name: 'updates',
      kind: 'count',
      min: 1,
      help: 'updates of the training',
      otherwise: '600, or what the time allows',
    },
    { name: 'maxSeconds', kind: 'number', min: 1, help: 'most seconds of training', otherwise: '235' },
    { name: 'seed', kind: 'count', min: 0, help: 'of initial values and windows', otherwise: '0' },
    ...deviceSpecs,
  ],
  notes: `Five minutes of an electrocardiogram at 360 samples a second: trains on the first four, scores the last, streams all.`,
  async run({ operands, values }) {
    const { updates = 600, maxSeconds = 235, seed = 0, threads } = values as Record<string, number>
    const folder = (values['out'] as string | undefined) ?? 'report'
    const series = await electrocardiogram(operands[0])
    const trainLength = trainSeconds * rate
    if (series.length < trainLength + 10 * rate)
      throw new UsageError(
        `the demonstration needs more than ${trainSeconds + 10} seconds at ${rate} samples a second, got ${series.length} samples`,
      )

    const limits = { updates, maxSeconds, seed }
    const options = { ...modelOptions, seed, ...deviceOf(values) }
    const createForecaster = () => Forecaster.create(series, trainLength, horizon, options)
    const forecaster = await createForecaster()
    const device = describeDevice(forecaster, threads)
    console.log(
      `${(series.length / rate).toFixed(0)} seconds of electrocardiogram; training on the first ${trainSeconds} on ${device}`,
    )
    const untrained = snapshot(forecaster.model)
    const training = await trainWithProgress(
      forecaster,
      series,
      trainLength,
      await limitToTime(createForecaster, series, trainLength, limits),
    )

    const outputs = await forecaster.outputs(series)
    const scoreRows = scores(forecaster, outputs, series, trainLength, [1, 2, 3, 5, 10, 15, 20, 25, 30, 36])
    console.log(
      `\nRMSE on the last ${series.length / rate - trainSeconds} seconds, in deviations of the training part:\n${scoreTable(scoreRows)}\n`,
    )

    const comparedRows = scoreRows.filter((row) => row.horizon === 10 || row.horizon === horizon)
    const beatsBaselines = comparedRows.every((row) => row.model < row.linear && row.model < row.persistence)
    console.log(
      beatsBaselines
        ? 'the model beats persistence and the linear model at 10 and 36 samples ahead\n'
        : 'the model does NOT beat persistence and the linear model at 10 and 36 samples ahead\n',
    )

    const streamRun = streamAndCompare(forecaster, series, outputs)
    const streamAgrees = streamRun.error <= streamTolerance
    console.log(
      `streamed sample by sample: ${Math.round(streamRun.samples / streamRun.seconds)} samples a second; ${streamAgrees ? 'equal to' : 'DIFFERENT FROM'} the convolution (relative difference ${streamRun.error.toExponential(1)}, allowed ${streamTolerance.toExponential(0)})`,
    )

    const z = forecaster.surprise(streamRun.outputs, series)
    const thresholds = forecaster.calibrate(z, trainLength)
    const marks = findMarks(z, thresholds)
    console.log(
      `marks: ${marks.length} in all, ${marks.filter((mark) => mark.from >= trainLength).length} in the last ${series.length / rate - trainSeconds} seconds`,
    )

    mkdirSync(folder, { recursive: true })
    await saveForecaster(forecaster, join(folder, 'model.safetensors'))
    const band = forecaster.ahead(outputs, series, horizon)
    // Its charts take a while to load, which other commands need not wait for.
    const { reportPage } = await import('../demo/page.js')
    const page = reportPage({
      title: 'Five minutes of an electrocardiogram, learnt by S4',
      source:
        'MIT-BIH Arrhythmia Database, record 208, lead MLII, 360 samples a second (PhysioNet, ODC-By 1.0)',
      unit: 'mV',
      rate,
      device,
      trainLength,
      signal: series,
      scores: scoreRows,
      training,
      model: {
        ...modelOptions,
        horizon,
        parameters: forecaster.model
          .parameters()
          .reduce((sum, { shape: sizes }) => sum + sizes.reduce((a, b) => a * b, 1), 0),
      },
      band: { horizon, ...band },
      coverage: coverageOfBand(series, band, trainLength),
      fans: [241.45, 247.6, 262.2].map((second) => ({
        origin: Math.round(second * rate),
        ...forecaster.fan(outputs, series, Math.round(second * rate)),
      })),
      surprise: windowedSquares(z, thresholds.options.window),
      threshold: thresholds.surprise,
      marks,
      layers: layerPictures(forecaster.model, untrained, rate, 1024),
      stream: {
        samples: streamRun.samples,
        seconds: streamRun.seconds,
        error: streamRun.error,
        tolerance: streamTolerance,
      },
    })
    const file = resolve(folder, 'index.html')
    writeFileSync(file, page)
    console.log(`report: ${pathToFileURL(file).href}`)
    console.log(NEXT)
    forecaster.dispose()
    return streamAgrees && beatsBaselines ? 0 : 1
  },
}

/** What to try next. */
const NEXT = `
next, with data of your own (npx s4 … in a clone):
  s4 train forecast TABLE.csv --horizon 24      forecasts every column of numbers, beside simpler forecasts
  s4 train classify RECORDINGS/                 tells sounds apart that lie in a folder for each class
  s4 stream RUN < ROWS.csv                      follows a series as it comes, and marks what is improbable`

/**
 * Reads the series of the file `path`, or where there is none the electrocardiogram that comes with the package, or in a clone with
 * the repository; in millivolts.
 */
async function electrocardiogram(path: string | undefined): Promise<Float64Array> {
  const below = (folder: string) => fileURLToPath(new URL(`${folder}/data/ecg_mitdb208.csv`, import.meta.url))
  const packed = below('../../..')
  const includedFile = existsSync(packed) ? packed : below('../../../..')
  if (path === undefined && !existsSync(includedFile))
    throw new UsageError(`no data: ${includedFile} is missing, name a CSV file`)
  return Float64Array.from((await readCsv(path ?? includedFile, { column: 'mv' })) as ArrayLike<number>)
}

/** The device of a model in words: `the CPU (2 threads, avx512)`, or the name of the GPU. */
function describeDevice({ model }: Forecaster, threads: number | undefined): string {
  const info = devices().find(({ id }) => id === model.device)
  if (info === undefined || info.kind === 'cpu')
    return `the CPU (${[`${threads ?? info?.threads ?? 1} threads`, ...(info?.simd ? [info.simd] : [])].join(', ')})`
  return `${info.name ?? 'a GPU'} (${info.id})`
}

/** How long training runs, and its seed. */
interface TrainLimits {
  readonly updates: number
  readonly maxSeconds: number
  readonly seed: number
}

/** Trains the model with a progress line; gives the loss of every update, and the time. */
async function trainWithProgress(
  forecaster: Forecaster,
  series: Float64Array,
  trainLength: number,
  limits: TrainLimits,
) {
  const forecastTraining = { ...limits, horizon, window: 4096, batch: 4, lr: 1e-2, ssmLr: 4e-3 }
  const curve: { step: number; loss: number }[] = []
  const progressLine = progress('train')
  const began = performance.now()
  for await (const { step, loss } of forecaster.train(series, trainLength, forecastTraining)) {
    curve.push({ step, loss })
    progressLine.update(step, forecastTraining.updates, `loss ${loss.toFixed(3)}`)
  }
  const seconds = (performance.now() - began) / 1000
  progressLine.end(
    `${curve.length} updates in ${seconds.toFixed(0)} s, loss ${curve[curve.length - 1].loss.toFixed(3)}`,
  )
  return {
    updates: curve.length,
    seconds,
    windows: forecastTraining.batch,
    window: forecastTraining.window,
    curve,
  }
}

/**
 * Reduces the number of updates to what fits into 0.9 of the allowed time, since the learning rate's schedule needs the number
 * beforehand. The time of an update is measured on a few updates of another model, which is then disposed of.
 */
async function limitToTime(
  create: () => Promise<Forecaster>,
  series: Float64Array,
  trainLength: number,
  limits: TrainLimits,
): Promise<TrainLimits> {
  const [warmUpdates, timedUpdates] = [2, 4]
  const probe = await create()
  let began = performance.now()
  const forecastTraining = {
    ...limits,
    updates: warmUpdates + timedUpdates,
    horizon,
    window: 4096,
    batch: 4,
    lr: 0,
    ssmLr: 0,
  }
  let done = 0
  for await (const event of probe.train(series, trainLength, forecastTraining)) {
    if (event.type === 'step' && ++done === warmUpdates) began = performance.now()
  }
  const secondsPerUpdate = (performance.now() - began) / 1000 / timedUpdates
  probe.dispose()
  const fittingUpdates = Math.max(1, Math.floor((0.9 * limits.maxSeconds) / secondsPerUpdate))
  if (fittingUpdates < limits.updates) {
    console.log(
      `one update takes ${secondsPerUpdate.toFixed(2)} s here: ${fittingUpdates} updates instead of ${limits.updates}, to stay within ${limits.maxSeconds} s`,
    )
  }
  return { ...limits, updates: Math.min(limits.updates, fittingUpdates) }
}

/** The outputs of a stream over a series, and how they compare with those of the convolution. */
interface StreamRun {
  /** (samples, 2·horizon): means, then log σ */
  readonly outputs: Float32Array
  readonly samples: number
  readonly seconds: number
  /** Relative difference from the outputs of the convolution. */
  readonly error: number
}

/** Streams the whole series through the network, one sample at a time, and compares with `convolved`, the convolution's outputs. */
function streamAndCompare(forecaster: Forecaster, series: Float64Array, convolved: Float32Array): StreamRun {
  const inputs = forecaster.inputs(series)
  const outputsPerSample = 2 * horizon
  const outputs = new Float32Array(series.length * outputsPerSample)
  const progressLine = progress('stream')
  using stream = forecaster.stream()
  const began = performance.now()
  for (let t = 0; t < series.length; t++) {
    outputs.set(
      stream.push({ data: inputs.subarray(t * frame, (t + 1) * frame), shape: [1, 1, frame] }).data,
      t * outputsPerSample,
    )
    if (t % 512 === 0) progressLine.update(t, series.length, `second ${Math.floor(t / rate)}`)
  }
  const seconds = (performance.now() - began) / 1000
  progressLine.end()
  let difference = 0
  let norm = 0
  for (let i = 0; i < outputs.length; i++) {
    difference += (outputs[i] - convolved[i]) ** 2
    norm += convolved[i] ** 2
  }
  const error = Math.sqrt(difference / norm)
  return { outputs, samples: series.length, seconds, error: Number.isFinite(error) ? error : Infinity }
}

/** Share of the held-out samples that lie inside mean ± 2σ of their forecasts. */
function coverageOfBand(
  series: Float64Array,
  { mean, sigma }: { mean: Float64Array; sigma: Float64Array },
  trainLength: number,
): number {
  let inside = 0
  for (let t = trainLength + horizon; t < series.length; t++)
    if (Math.abs(series[t] - mean[t]) <= 2 * sigma[t]) inside += 1
  return inside / (series.length - trainLength - horizon)
}
