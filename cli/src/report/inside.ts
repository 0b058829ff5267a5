/** What a trained network looks like inside, in pictures: timescales, kernels, frequency responses. */
import * as Plot from '@observablehq/plot'
import { SequenceModel, type InspectedLayer, type Inspection } from 's4-node'
import { colours } from './colours.js'
import { escape, figure } from './html.js'
import { svgOf } from './svg.js'

/** Layers whose kernels are shown, and kernels of each. */
const LAYERS = 6
const HEADS = 4

/** The sections of a report on the network in a file, of which this was found. */
export async function insideSections(path: string, inspection: Inspection): Promise<string[]> {
  using model = await SequenceModel.load(path, { device: 'cpu' })
  const { layers, frequencies, text, influence } = inspection
  const colour = { domain: layers.map(({ name }) => name), range: colours.layers, legend: false }
  const kernels = layers.slice(0, LAYERS).map((layer, i) => kernelChart(model, layer, i))
  return [
    '<h2>Inside the network</h2>',
    `<div class="two">${figure(timescales(layers, colour), 'The times 1/Δ over which the heads of each block sum up, a stroke a head.')}${figure(
      responses(layers, frequencies, colour),
      'The frequency response of each block, the root of the mean square over its heads; colours as beside.',
    )}</div>`,
    `<div class="two">${kernels.join('')}</div>`,
    ...(influence === undefined
      ? []
      : [
          figure(
            influences(influence),
            'How much the output of the last step depends on the input at each step before it: the norm of the gradient, of some sequences of the data.',
          ),
        ]),
    `<pre>${escape(text)}</pre>`,
  ]
}

type Colour = Plot.ScaleOptions

/** Sequences whose gradients are shown, and points of each. */
const [SEQUENCES, POINTS] = [4, 256]

/** The gradients of some sequences, back from the end of each; long ones as means over neighbours. */
function influences({ data, shape }: NonNullable<Inspection['influence']>): string {
  const [batch, len] = shape as [number, number]
  const rows = Array.from({ length: Math.min(batch, SEQUENCES) }, (_, row) => {
    const own = data.subarray(row * len, (row + 1) * len)
    // Padding has none.
    const end = own.findLastIndex((x) => x > 0) + 1
    const count = Math.min(end, POINTS)
    return Array.from({ length: count }, (__, i) => {
      const [from, to] = [Math.floor((i * end) / count), Math.floor(((i + 1) * end) / count)]
      const gradient = own.subarray(from, to).reduce((a, b) => a + b, 0) / (to - from)
      return { sequence: String(row), step: (from + to - 1) / 2 - (end - 1), gradient }
    })
  }).flat()
  return svgOf('input gradients', {
    width: 1060,
    height: 220,
    marginLeft: 64,
    x: { label: 'steps before the last', ticks: 8 },
    y: { label: '‖∂y/∂u‖', grid: true, ticks: 4 },
    color: { range: colours.layers },
    marks: [Plot.lineY(rows, { x: 'step', y: 'gradient', stroke: 'sequence', strokeWidth: 1.5 })],
  })
}

function timescales(layers: readonly InspectedLayer[], color: Colour): string {
  const rows = layers.flatMap(({ name, timescales: { steps } }) =>
    Array.from(steps, (time) => ({ name, time })).filter(({ time }) => Number.isFinite(time) && time > 0),
  )
  return svgOf('timescales', {
    width: 520,
    height: 60 + 36 * layers.length,
    marginLeft: 72,
    x: { type: 'log', label: '1/Δ, steps', grid: true, ticks: 6 },
    y: { label: null, domain: layers.map(({ name }) => name) },
    color,
    marks: [Plot.tickX(rows, { x: 'time', y: 'name', stroke: 'name', strokeOpacity: 0.6 })],
  })
}

function responses(layers: readonly InspectedLayer[], frequencies: Float64Array, color: Colour): string {
  const rows = layers.flatMap(({ name, gain: { data, shape } }) =>
    Array.from(frequencies, (frequency, f) => {
      let squares = 0
      for (let i = f; i < data.length; i += frequencies.length) squares += (data[i] as number) ** 2
      return { name, frequency, gain: Math.sqrt(squares / (shape[0] as number)) }
    }).filter(({ gain }) => Number.isFinite(gain) && gain > 0),
  )
  return svgOf('frequency response', {
    width: 520,
    height: 240,
    marginLeft: 56,
    x: { type: 'log', label: 'cycles a step', grid: true, ticks: 5, tickFormat: '~g' },
    y: { type: 'log', label: '|K̂|', grid: true, ticks: 5 },
    color,
    marks: [Plot.lineY(rows, { x: 'frequency', y: 'gain', stroke: 'name', strokeWidth: 2 })],
  })
}

/** The kernels of a layer's strongest heads, as far as the middle one of them reaches. */
function kernelChart(
  model: SequenceModel,
  { name, strength, memory }: InspectedLayer,
  block: number,
): string {
  const heads = [...strength.keys()].toSorted((a, b) => strength[b]! - strength[a]!).slice(0, HEADS)
  const reach = heads.map((h) => memory.nearlyAll.steps[h] as number).toSorted((a, b) => a - b)[
    heads.length >> 1
  ]!
  const taps = Math.max(16, Math.min(512, Number.isFinite(reach) ? Math.ceil(reach) : 512))
  const { data } = model.kernel(block, taps)
  const rows = heads.flatMap((head, i) =>
    Array.from(data.subarray(head * taps, (head + 1) * taps), (value, step) => ({
      head: String(i),
      step,
      value,
    })),
  )
  const chart = svgOf(`kernels of ${name}`, {
    width: 520,
    height: 200,
    marginLeft: 56,
    x: { label: 'steps back', ticks: 6 },
    y: { label: 'K̄', grid: true, ticks: 4 },
    color: { domain: heads.map((_, i) => String(i)), range: colours.layers },
    marks: [Plot.lineY(rows, { x: 'step', y: 'value', stroke: 'head', strokeWidth: 1.5 })],
  })
  return figure(chart, `Kernels of the strongest heads of ${name}, the first ${taps} taps.`)
}
