/** The script of the live page, for browsers: draws what server-sent events tell, and has the button stop the training. */
import type { LiveMessage, LiveState } from '../messages.js'

const SVG = 'http://www.w3.org/2000/svg'
const byId = <T extends Element = HTMLElement>(id: string): T => document.getElementById(id) as unknown as T

/** What a part of a picture is, by names of attributes. */
type Attributes = Readonly<Record<string, string | number>>

function add(parent: Element, name: string, attributes: Attributes, text?: string): void {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  if (text !== undefined) element.textContent = text
  parent.append(element)
}

type Points = readonly (readonly [number, number])[]

/** A picture of lines over axes; gives the places of points in it. */
function axes(
  svg: Element,
  all: Points,
): ((point: readonly [number, number]) => [number, number]) | undefined {
  svg.replaceChildren()
  const shown = all.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))
  if (shown.length === 0) return undefined
  const [, , width = 0, height = 0] = (svg.getAttribute('viewBox') ?? '').split(' ').map(Number)
  const [left, right, top, bottom] = [56, width - 8, 12, height - 28]
  const range = (values: number[]): [number, number] => {
    const [least, most] = [Math.min(...values), Math.max(...values)]
    return least === most
      ? [least - Math.abs(least) / 10 - 1e-9, most + Math.abs(most) / 10 + 1e-9]
      : [least, most]
  }
  const [x0, x1] = range(shown.map(([x]) => x))
  const [y0, y1] = range(shown.map(([, y]) => y))
  add(svg, 'path', { class: 'axis', fill: 'none', d: `M${left} ${top}V${bottom}H${right}` })
  for (const [y, value] of [
    [top, y1],
    [bottom, y0],
  ] as const)
    add(
      svg,
      'text',
      { class: 'label', x: left - 6, y: y + 4, 'text-anchor': 'end' },
      Number(value.toPrecision(3)).toString(),
    )
  for (const [x, value, anchor] of [
    [left, x0, 'start'],
    [right, x1, 'end'],
  ] as const)
    add(svg, 'text', { class: 'label', x, y: bottom + 18, 'text-anchor': anchor }, String(Math.round(value)))
  return ([x, y]) => [
    left + ((x - x0) / (x1 - x0)) * (right - left),
    bottom - ((y - y0) / (y1 - y0)) * (bottom - top),
  ]
}

const line = (svg: Element, kind: string, points: readonly [number, number][]): void =>
  add(svg, 'path', {
    class: kind,
    d: points.map(([x, y], i) => `${i === 0 ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`).join(''),
  })

let state: LiveState | undefined

function draw(): void {
  if (state === undefined) return
  const { title, plan, step, of, epochs, losses, kernels, ended, stopping } = state
  document.title = title
  byId('title').textContent = title
  byId('plan').textContent = plan
  const last = epochs.at(-1)
  byId('status').textContent =
    ended ??
    `${stopping ? 'Ending … ' : ''}${step === 0 ? 'Reading the data …' : `Update ${step} of ${of}, epoch ${(last?.epoch ?? 0) + 1}`}`
  byId<HTMLProgressElement>('progress').value = of === 0 ? 0 : step / of
  byId<HTMLButtonElement>('stop').disabled = stopping || ended !== undefined
  const each = epochs.length === 0 ? 1 : step / Math.max(last?.epoch ?? 1, 1)
  const means: Points = epochs.map(({ epoch, loss }) => [epoch * each, loss])
  const svg = byId<SVGElement>('losses')
  const at = axes(svg, [...losses, ...means])
  if (at !== undefined) {
    line(svg, 'update', losses.map(at))
    line(svg, 'mean', means.map(at))
  }
  drawFigures(state)
  if (kernels !== undefined) {
    const picture = byId<SVGElement>('kernels')
    const place = axes(
      picture,
      kernels.kernels.flatMap((taps) => taps.map((y, x): [number, number] => [x, y])),
    )
    if (place !== undefined)
      kernels.kernels.forEach((taps, i) =>
        line(
          picture,
          `kernel-${i}`,
          taps.map((y, x) => place([x, y])),
        ),
      )
    byId('kernel-name').textContent =
      `The first ${kernels.kernels[0]?.length ?? 0} taps of the kernels of block ${kernels.block}’s strongest heads, after epoch ${kernels.epoch}.`
  }
}

function drawFigures({ epochs }: LiveState): void {
  const figures: Points = epochs.map(({ epoch, figure }) => [epoch, figure ?? NaN])
  const svg = byId<SVGElement>('figures')
  const at = axes(svg, figures)
  if (at !== undefined) {
    line(svg, 'mean', figures.map(at))
    for (const point of figures.map(at))
      add(svg, 'circle', { class: 'point', cx: point[0], cy: point[1], r: 2.5 })
    const best = epochs.findLastIndex((epoch) => epoch.best)
    const ring = figures[best]
    if (ring !== undefined) add(svg, 'circle', { class: 'best', cx: at(ring)[0], cy: at(ring)[1], r: 6 })
  }
  byId('figure-head').textContent = epochs.at(-1)?.name ?? 'validation'
  byId('figure-name').textContent =
    `${epochs.at(-1)?.name ?? 'Validation'}. The ring is the best epoch, which is kept.`
  const body = byId('epochs').querySelector('tbody') as HTMLElement
  body.replaceChildren(
    ...epochs.toReversed().map(({ epoch, loss, figure, seconds }) => {
      const row = document.createElement('tr')
      for (const text of [
        String(epoch),
        loss.toPrecision(4),
        figure?.toPrecision(4) ?? '',
        seconds.toFixed(1),
      ]) {
        const cell = document.createElement('td')
        cell.textContent = text
        row.append(cell)
      }
      return row
    }),
  )
}

function take(message: LiveMessage): void {
  if (message.type === 'state') ({ state } = message)
  else if (state === undefined) return
  else if (message.type === 'change') state = { ...state, ...message.change }
  else if (message.type === 'epoch') state = { ...state, epochs: [...state.epochs, message.epoch] }
  else state = { ...state, step: message.step, of: message.of, losses: [...state.losses, ...message.losses] }
}

const events = new EventSource('events')
let drawing = false
events.addEventListener('message', ({ data }: MessageEvent<string>) => {
  take(JSON.parse(data) as LiveMessage)
  if (state?.ended !== undefined) events.close()
  // As often as the screen shows it, and no more.
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    draw()
  })
})
events.addEventListener('error', () => {
  if (state?.ended === undefined)
    byId('status').textContent = 'No answer: the training has ended, or the page comes back by itself.'
})
byId('stop').addEventListener('click', () => {
  byId<HTMLButtonElement>('stop').disabled = true
  void fetch('stop', { method: 'POST' })
})
