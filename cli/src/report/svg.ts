/** Charts as SVG text, drawn by Observable Plot without a browser. */
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { colours } from './colours.js'

const { document } = parseHTML('<!doctype html><html><body></body></html>')
const style = {
  fontFamily: 'inherit',
  fontSize: '12px',
  background: 'transparent',
  color: colours.ink,
  overflow: 'visible',
}

/** The SVG text of a plot, with `label` for screen readers. */
export function svgOf(label: string, options: Plot.PlotOptions): string {
  const element = Plot.plot({
    document: document as unknown as Plot.PlotOptions['document'],
    style,
    ...options,
  })
  element.setAttribute('role', 'img')
  element.setAttribute('aria-label', label)
  // Two decimals are finer than a pixel, and make the file a third of the size.
  return element.outerHTML.replace(/\d+\.\d{3,}/g, (digits: string) =>
    String(Math.round(Number(digits) * 100) / 100),
  )
}
