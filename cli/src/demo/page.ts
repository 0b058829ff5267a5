import type { ReportData } from './data.js'
import {
  fanChart,
  kernelChart,
  lossChart,
  modeChart,
  overviewChart,
  scoreChart,
  signalChart,
  timescaleChart,
} from './charts.js'
import { escape, figure, pageOf, swatch } from '../report/html.js'
import { colours } from '../report/colours.js'
import { quantile } from './series.js'

/** The report as one HTML page with its SVG and styles inline, which loads no other file. */
export function reportPage(data: ReportData): string {
  const { model, training, stream, rate, signal } = data
  const holdoutLength = signal.length - data.trainLength
  const domain = range(data)
  const rows: string[] = []
  const step = 10 * rate
  for (let from = data.trainLength; from < signal.length; from += step)
    rows.push(signalChart(data, from, Math.min(from + step, signal.length), domain))
  const heldOutMarkCount = data.marks.filter((mark) => mark.from >= data.trainLength).length
  const bandMs = Math.round((1000 * data.band.horizon) / rate)
  const equal = Number.isFinite(stream.error) && stream.error <= stream.tolerance
  return pageOf(
    data.title,
    `<header>
  <h1>${escape(data.title)}</h1>
  <p>${escape(data.source)}. ${model.mode.toUpperCase()}, ${model.layers} layers of ${model.features} features, state ${model.state}, ${model.parameters.toLocaleString('en')} parameters;
  trained on ${escape(data.device)} for ${training.seconds.toFixed(0)} s: ${training.updates} updates of ${training.windows} windows of ${training.window.toLocaleString('en')} samples.</p>
</header>
<section class="cards">
  ${card('RMSE, 1 sample ahead', scoreAt(data, 1))}
  ${card('RMSE, 10 samples ahead', scoreAt(data, 10))}
  ${card('RMSE, 36 samples ahead', scoreAt(data, 36))}
  <div class="card"><b>${stream.error.toExponential(1)}</b><span>streamed = convolution, relative</span><em class="${equal ? 'good' : 'bad'}">${equal ? 'equal' : 'NOT equal'} within ${stream.tolerance.toExponential(0)} over ${stream.samples.toLocaleString('en')} samples</em></div>
  <div class="card"><b>${Math.round(stream.samples / stream.seconds).toLocaleString('en')}</b><span>samples a second, one at a time</span><em>${(stream.samples / stream.seconds / rate).toFixed(0)} × real time</em></div>
</section>
<h2>Against persistence and a linear model</h2>
<p>Root mean square error on the held-out ${Math.round(holdoutLength / rate)} seconds, in deviations of the training part. The linear model is autoregressive of order 512, fitted by least squares for each horizon on the same training part.</p>
<div class="two">
  ${scoreTable(data)}
  ${figure(scoreChart(data), 'Error against the horizon.')}
</div>
<h2>Forecast and marks</h2>
<p class="legend">${swatch(colours.ink)} signal ${swatch(colours.band)} forecast made ${bandMs} ms before, mean ± 2σ (holds ${(100 * data.coverage).toFixed(1)} % of the samples) ${swatch('#f3cdd2')} samples that the model finds improbable (${heldOutMarkCount} marks here)</p>
${rows.join('\n')}
<h3>Single forecasts</h3>
<div class="three">${data.fans.map((fan) => fanChart(data, fan)).join('')}</div>
<h2>All ${Math.round(signal.length / rate)} seconds, streamed sample by sample</h2>
${figure(overviewChart(data), `Above: the signal. Below: the surprise of each sample, given all samples before it, on a logarithmic scale; red where it passes the threshold (dashed), which was set on the training part alone. ${data.marks.length} marks in all.`)}
<h2>Training</h2>
<div class="two">
  ${figure(lossChart(data), 'Loss of each update (pale) and its running mean: the negative log likelihood of the next 36 samples.')}
  ${figure(timescaleChart(data), 'The step size Δ of each head is learnt: 1/Δ is how far it looks back. Rings: before training; dots: after.')}
</div>
<h2>What the layers became</h2>
<div class="three">${data.layers.map((layer) => kernelChart(layer, rate)).join('')}</div>
<p class="caption">Each head's convolution kernel K̄, scaled to its largest value, from the shortest timescale (top) to the longest, on a logarithmic axis of lags.</p>
${figure(modeChart(data, 1080, 320), `Each mode of each head (the diagonal part Λ of A): an oscillation with a frequency and a decay time. ${data.layers.map((layer, i) => `${swatch(colours.layers[i % colours.layers.length])} ${layer.name}`).join(' ')}`)}
<footer>Made by <code>s4 demo</code> (s4-node). This file is complete in itself: it loads nothing.</footer>`,
  )
}

function range({ signal, trainLength }: ReportData): [number, number] {
  const holdoutSignal = Array.from(signal).slice(trainLength)
  const low = quantile(holdoutSignal, 0)
  const high = quantile(holdoutSignal, 1)
  const margin = 0.05 * (high - low)
  return [low - margin, high + margin]
}

function scoreAt({ scores }: ReportData, horizon: number) {
  return scores.find((score) => score.horizon === horizon)
}

function card(label: string, score: ReportData['scores'][number] | undefined): string {
  if (!score) return ''
  const better = score.model < score.linear && score.model < score.persistence
  return `<div class="card"><b>${score.model.toFixed(3)}</b><span>${label}</span><em class="${better ? 'good' : ''}">linear ${score.linear.toFixed(3)}, persistence ${score.persistence.toFixed(3)}</em></div>`
}

function scoreTable({ scores, rate }: ReportData): string {
  const cell = (value: number, best: number) =>
    `<td${value === best ? ' class="best"' : ''}>${value.toFixed(3)}</td>`
  const body = scores
    .map((s) => {
      const best = Math.min(s.persistence, s.linear, s.model)
      return `<tr><th>${s.horizon}</th><td>${((1000 * s.horizon) / rate).toFixed(0)} ms</td>${cell(s.persistence, best)}${cell(s.linear, best)}${cell(s.model, best)}</tr>`
    })
    .join('')
  return `<table><thead><tr><th>samples</th><th>ahead</th><th>persistence</th><th>linear AR(512)</th><th>this model</th></tr></thead><tbody>${body}</tbody></table>`
}
