/** The charts of the report, drawn as SVG by Observable Plot, without a browser. */
import * as Plot from '@observablehq/plot'
import type { Mark } from './marks.js'
import { colours } from '../report/colours.js'
import { svgOf } from '../report/svg.js'
import type { LayerPicture, ReportData } from './data.js'

/** The loss of each update as a thin line, with its running mean as a thick one. */
export function lossChart({ training }: ReportData, width = 520, height = 260): string {
  const runningMean: { step: number; loss: number }[] = []
  let mean = training.curve[0]?.loss ?? 0
  for (const { step, loss } of training.curve) runningMean.push({ step, loss: (mean += 0.1 * (loss - mean)) })
  const high = Math.max(...runningMean.map((point) => point.loss))
  const low = Math.min(...training.curve.map((point) => point.loss))
  return svgOf('Loss while training', {
    width,
    height,
    marginLeft: 48,
    x: { label: 'update' },
    y: { label: 'negative log likelihood', grid: true, domain: [low, high], clamp: true },
    marks: [
      Plot.lineY(training.curve, {
        x: 'step',
        y: 'loss',
        stroke: colours.band,
        strokeWidth: 0.8,
        clip: true,
      }),
      Plot.lineY(runningMean, { x: 'step', y: 'loss', stroke: colours.model, strokeWidth: 2 }),
    ],
  })
}

/** The RMSE of the three forecasts (persistence, linear, model) against the horizon. */
export function scoreChart({ scores, rate }: ReportData, width = 520, height = 260): string {
  const rows = scores.flatMap(({ horizon, persistence, linear, model }) => [
    { ahead: (1000 * horizon) / rate, rmse: persistence, forecast: 'persistence' },
    { ahead: (1000 * horizon) / rate, rmse: linear, forecast: 'linear' },
    { ahead: (1000 * horizon) / rate, rmse: model, forecast: 'model' },
  ])
  const stroke = (row: { forecast: string }) => colours[row.forecast as 'model' | 'linear' | 'persistence']
  return svgOf('Error against the horizon', {
    width,
    height,
    marginLeft: 48,
    marginRight: 84,
    x: { label: 'milliseconds ahead' },
    y: { label: 'RMSE (training deviations)', grid: true, zero: true },
    marks: [
      Plot.lineY(rows, { x: 'ahead', y: 'rmse', z: 'forecast', stroke, strokeWidth: 2 }),
      Plot.dot(rows, { x: 'ahead', y: 'rmse', fill: stroke, r: 2.5 }),
      Plot.text(
        rows,
        Plot.selectLast({
          x: 'ahead',
          y: 'rmse',
          z: 'forecast',
          text: 'forecast',
          fill: stroke,
          textAnchor: 'start',
          dx: 8,
          fontWeight: 600,
        }),
      ),
    ],
  })
}

/** The signal from sample `from` to `to`, the band (mean ± 2σ) that was forecast `band.horizon` samples before, and the marks. */
export function signalChart(
  data: ReportData,
  from: number,
  to: number,
  domain: [number, number],
  width = 1080,
  height = 150,
): string {
  const { signal, band, rate } = data
  const rows: { t: number; v: number; low: number; high: number }[] = []
  for (let t = from; t < to; t += 2) {
    const mean = band.mean[t]
    rows.push({ t: t / rate, v: signal[t], low: mean - 2 * band.sigma[t], high: mean + 2 * band.sigma[t] })
  }
  return svgOf(`Signal, seconds ${from / rate} to ${to / rate}`, {
    width,
    height,
    marginLeft: 40,
    marginBottom: 24,
    marginTop: 8,
    x: { label: null, domain: [from / rate, to / rate], tickFormat: (t: number) => `${t} s` },
    y: { label: data.unit, domain, ticks: 4 },
    marks: [
      Plot.rect(markSpans(data.marks, from, to, rate), {
        x1: 'beginSeconds',
        x2: 'endSeconds',
        y1: domain[0],
        y2: domain[1],
        fill: colours.mark,
        fillOpacity: 0.16,
      }),
      Plot.areaY(rows, { x: 't', y1: 'low', y2: 'high', fill: colours.band, fillOpacity: 0.75, clip: true }),
      Plot.lineY(rows, { x: 't', y: 'v', stroke: colours.ink, strokeWidth: 1, clip: true }),
      Plot.ruleX(markSpans(data.marks, from, to, rate), {
        x: 'peakSeconds',
        y1: domain[0],
        y2: domain[0] + 0.08 * (domain[1] - domain[0]),
        stroke: colours.mark,
        strokeWidth: 3,
      }),
    ],
  })
}

/** The marks between samples `from` and `to`: beginning, end and worst sample in seconds. */
function markSpans(marks: readonly Mark[], from: number, to: number, rate: number) {
  return marks
    .filter((mark) => mark.to > from && mark.from < to)
    .map((mark) => ({
      beginSeconds: Math.max(mark.from, from) / rate,
      endSeconds: Math.min(mark.to, to) / rate,
      peakSeconds: Math.min(Math.max(mark.peak, from), to) / rate,
    }))
}

/** Two charts of the whole series: its range in each of 900 intervals of time, and below it the largest surprise in each. */
export function overviewChart(data: ReportData, width = 1080): string {
  const { signal, surprise, rate } = data
  const intervals = 900
  const intervalSamples = Math.ceil(signal.length / intervals)
  const rows: { t: number; low: number; high: number; surprise: number }[] = []
  for (let from = 0; from < signal.length; from += intervalSamples) {
    const to = Math.min(from + intervalSamples, signal.length)
    const row = { t: (from + to) / 2 / rate, low: Infinity, high: -Infinity, surprise: 0 }
    for (let t = from; t < to; t++) {
      row.low = Math.min(row.low, signal[t])
      row.high = Math.max(row.high, signal[t])
      if (surprise[t] > row.surprise) row.surprise = surprise[t]
    }
    rows.push(row)
  }
  const seconds = signal.length / rate
  const holdoutStart = [{ x: data.trainLength / rate }]
  const signalSvg = svgOf('The whole series', {
    width,
    height: 150,
    marginLeft: 40,
    marginRight: 20,
    marginBottom: 8,
    marginTop: 20,
    x: { domain: [0, seconds], axis: null },
    y: { label: data.unit, ticks: 4 },
    marks: [
      Plot.areaY(rows, { x: 't', y1: 'low', y2: 'high', fill: colours.ink, fillOpacity: 0.75 }),
      Plot.ruleX(holdoutStart, { x: 'x', stroke: colours.mark, strokeDasharray: '4 3' }),
      Plot.text(holdoutStart, {
        x: 'x',
        frameAnchor: 'top',
        text: () => 'held out →',
        textAnchor: 'start',
        dx: 6,
        dy: -12,
        fill: colours.mark,
      }),
    ],
  })
  const surpriseSvg = svgOf('Surprise', {
    width,
    height: 140,
    marginLeft: 40,
    marginRight: 20,
    marginTop: 16,
    x: { label: null, domain: [0, seconds], tickFormat: (t: number) => `${t} s` },
    y: {
      label: 'surprise',
      type: 'log',
      domain: [0.5, Math.max(...rows.map((row) => row.surprise), 10)],
      clamp: true,
      ticks: 3,
      tickFormat: '~s',
      grid: true,
    },
    marks: [
      Plot.ruleX(rows, {
        x: 't',
        y1: 0.5,
        y2: 'surprise',
        stroke: (row: { surprise: number }) => (row.surprise > data.threshold ? colours.mark : colours.band),
        strokeWidth: 1.1,
      }),
      Plot.ruleY([data.threshold], { stroke: colours.ink, strokeDasharray: '3 3' }),
      Plot.ruleX(holdoutStart, { x: 'x', stroke: colours.mark, strokeDasharray: '4 3' }),
    ],
  })
  return signalSvg + surpriseSvg
}

/** One forecast: the signal before and after it, and the forecast's mean with its band (mean ± 2σ). */
export function fanChart(
  data: ReportData,
  fan: ReportData['fans'][number],
  width = 340,
  height = 220,
): string {
  const { signal, rate } = data
  const rows: { ms: number; mean: number; low: number; high: number }[] = [
    { ms: 0, mean: signal[fan.origin], low: signal[fan.origin], high: signal[fan.origin] },
  ]
  for (let k = 0; k < fan.mean.length; k++)
    rows.push({
      ms: (1000 * (k + 1)) / rate,
      mean: fan.mean[k],
      low: fan.mean[k] - 2 * fan.sigma[k],
      high: fan.mean[k] + 2 * fan.sigma[k],
    })
  const actual: { ms: number; v: number }[] = []
  for (let t = fan.origin - 108; t <= fan.origin + fan.mean.length; t++)
    if (t >= 0 && t < signal.length) actual.push({ ms: (1000 * (t - fan.origin)) / rate, v: signal[t] })
  return svgOf(`Forecast at second ${(fan.origin / rate).toFixed(2)}`, {
    width,
    height,
    marginLeft: 36,
    marginTop: 28,
    title: undefined,
    x: { label: 'milliseconds', ticks: 5 },
    y: { label: data.unit, ticks: 5, grid: true },
    marks: [
      Plot.areaY(rows, { x: 'ms', y1: 'low', y2: 'high', fill: colours.band, fillOpacity: 0.6 }),
      Plot.ruleX([0], { stroke: colours.muted, strokeDasharray: '3 3' }),
      Plot.lineY(actual, { x: 'ms', y: 'v', stroke: colours.ink, strokeWidth: 1.2 }),
      Plot.lineY(rows, { x: 'ms', y: 'mean', stroke: colours.model, strokeWidth: 2.2 }),
      Plot.text([0], {
        frameAnchor: 'top-right',
        dy: -22,
        text: () => `at second ${(fan.origin / rate).toFixed(2)}`,
        fill: colours.muted,
      }),
    ],
  })
}

/** Every head's kernel, scaled to its largest value, heads ordered from the shortest timescale (top) to the longest. */
export function kernelChart(layer: LayerPicture, rate: number, width = 340, height = 420): string {
  const headsByTimescale = Array.from({ length: layer.heads }, (_, h) => h).toSorted(
    (a, b) => layer.dtAfter[b] - layer.dtAfter[a],
  )
  const rows: { ms: number; v: number; head: number }[] = []
  const lags = logLags(layer.length)
  for (const [place, h] of headsByTimescale.entries()) {
    let largest = 1e-30
    for (const l of lags) largest = Math.max(largest, Math.abs(layer.kernel[h * layer.length + l]))
    for (const l of lags)
      rows.push({
        ms: (1000 * (l + 1)) / rate,
        v: -place + (1.4 * layer.kernel[h * layer.length + l]) / largest,
        head: h,
      })
  }
  return svgOf(`Kernels of ${layer.name}`, {
    width,
    height,
    marginLeft: 12,
    marginRight: 12,
    marginTop: 28,
    x: { type: 'log', label: 'lag, milliseconds', ticks: 4, tickFormat: '~s', grid: true },
    y: { axis: null, domain: [-layer.heads, 1.6] },
    marks: [
      Plot.lineY(rows, {
        x: 'ms',
        y: 'v',
        z: 'head',
        stroke: colours.model,
        strokeWidth: 0.9,
        strokeOpacity: 0.9,
      }),
      Plot.text([layer.name], {
        frameAnchor: 'top-left',
        dy: -22,
        text: (name: string) => name,
        fill: colours.muted,
      }),
    ],
  })
}

/** About 130 lags from 0 to length − 1, at equal distances on a logarithmic scale. */
function logLags(length: number): number[] {
  const lags = new Set<number>()
  for (let i = 0; i <= 160; i++) lags.add(Math.min(length - 1, Math.round(length ** (i / 160)) - 1))
  return [...lags].toSorted((a, b) => a - b)
}

/** The timescale 1/Δ of each head in milliseconds, before training (ring) and after it (dot). */
export function timescaleChart({ layers, rate }: ReportData, width = 520, height = 260): string {
  const rows = layers.flatMap((layer) =>
    Array.from(layer.dtAfter, (dt, h) => ({
      layer: layer.name,
      before: 1000 / (layer.dtBefore[h] * rate),
      after: 1000 / (dt * rate),
    })),
  )
  return svgOf('Timescales', {
    width,
    height,
    marginLeft: 64,
    x: {
      type: 'log',
      label: 'timescale of a head 1/Δ, milliseconds',
      tickFormat: '~s',
      grid: true,
      ticks: 5,
    },
    y: { label: null, domain: layers.map((layer) => layer.name) },
    marks: [
      Plot.dot(rows, { x: 'before', y: 'layer', stroke: colours.muted, r: 3, strokeOpacity: 0.6, dy: -9 }),
      Plot.dot(rows, { x: 'after', y: 'layer', fill: colours.model, r: 3, fillOpacity: 0.7, dy: 9 }),
    ],
  })
}

/** The decay time of every mode of each layer against its frequency. */
export function modeChart({ layers }: ReportData, width = 520, height = 260): string {
  const rows = layers.flatMap((layer, i) =>
    layer.modes
      .filter((mode) => mode.frequency > 0 && mode.frequency < 180)
      .map((mode) => ({
        ...mode,
        decay: mode.decay * 1000,
        colour: colours.layers[i % colours.layers.length],
      })),
  )
  return svgOf('Modes', {
    width,
    height,
    marginLeft: 52,
    x: {
      type: 'log',
      label: 'frequency, hertz',
      tickFormat: '~g',
      ticks: 5,
      grid: true,
      domain: [0.1, 180],
      clamp: true,
    },
    y: { type: 'log', label: 'decay time, milliseconds', tickFormat: '~s', ticks: 4, grid: true },
    marks: [
      Plot.dot(rows, { x: 'frequency', y: 'decay', fill: 'colour', r: 1.3, fillOpacity: 0.5, clip: true }),
    ],
  })
}
