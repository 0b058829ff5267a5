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

/** A line, broken where a value is missing. */
function brokenLine(
  svg: Element,
  kind: string,
  points: readonly (readonly [number, number | null])[],
  place: (point: readonly [number, number]) => [number, number],
): void {
  let part: [number, number][] = []
  for (const [x, y] of [...points, [0, null] as const]) {
    if (y !== null) part.push(place([x, y]))
    else {
      if (part.length > 0) line(svg, kind, part)
      part = []
    }
  }
}

/** The forecasts of the validation window, beside what came. */
function drawForecast({ forecast }: LiveState): void {
  if (forecast === undefined) return
  const section = byId('forecasts')
  const { epoch, row, columns } = forecast
  while (section.children.length < columns.length) {
    const figure = document.createElement('figure')
    const svg = document.createElementNS(SVG, 'svg')
    svg.setAttribute('viewBox', '0 0 340 200')
    svg.setAttribute('role', 'img')
    figure.append(svg, document.createElement('figcaption'))
    section.append(figure)
  }
  columns.forEach(({ name, came, before, mean }, i) => {
    const figure = section.children[i] as Element
    const svg = figure.firstElementChild as Element
    svg.setAttribute('aria-label', `forecast of ${name}`)
    ;(figure.lastElementChild as Element).textContent = name
    const first = row - before
    const known: Points = came.flatMap((y, k) => (y === null ? [] : [[first + k, y] as const]))
    const steps: Points = mean.map((y, k) => [row + k, y])
    const place = axes(svg, [...known, ...steps])
    if (place === undefined) return
    brokenLine(
      svg,
      'came',
      came.map((y, k) => [first + k, y] as const),
      place,
    )
    line(svg, 'mean', steps.map(place))
    const [x, y] = place(steps[0] as readonly [number, number])
    add(svg, 'circle', { class: 'point', cx: x, cy: y, r: 2.5 })
  })
  section.hidden = false
  byId('forecast-name').hidden = false
  byId('forecast-name').textContent =
    `A forecast of the validation part after epoch ${epoch}, from row ${row} on (coloured), beside what came: the same rows after every epoch.`
}

/** Which classes are taken for which. */
function drawConfusion({ confusion }: LiveState): void {
  if (confusion === undefined) return
  const { epoch, classes, counts } = confusion
  const table = byId('confusion')
  const rowOf = (kind: 'th' | 'td', cells: readonly string[], right = -1) => {
    const row = document.createElement('tr')
    cells.forEach((text, i) => {
      const cell = document.createElement(i === 0 ? 'th' : kind)
      cell.textContent = text
      if (i === right + 1 && right >= 0) cell.className = 'right'
      row.append(cell)
    })
    return row
  }
  table.querySelector('thead')?.replaceChildren(rowOf('th', ['', ...classes]))
  table
    .querySelector('tbody')
    ?.replaceChildren(...counts.map((row, i) => rowOf('td', [classes[i] as string, ...row.map(String)], i)))
  byId('confusions').hidden = false
  byId('confusion-name').textContent =
    `The validation part after epoch ${epoch}. Rows: the class; columns: what was said.`
}

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
  drawForecast(state)
  drawConfusion(state)
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
