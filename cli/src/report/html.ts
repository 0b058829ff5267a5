/** What all reports have in common: one HTML page that loads nothing, its styles, and small pieces of markup. */
import { colours } from './colours.js'

/** Text as it stands in HTML. */
export const escape = (text: string) =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c] as string)
export const figure = (svg: string, caption: string) =>
  `<figure>${svg}<figcaption>${caption}</figcaption></figure>`
export const swatch = (colour: string) => `<i style="background:${colour}"></i>`

/** The styles of a page. */
export const css = `
:root { color-scheme: light; }
body { margin: 0; background: #f6f7f8; color: ${colours.ink}; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 32px 64px; background: #fff; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 20px; border-top: 1px solid #e4e7ea; }
h3 { font-size: 15px; margin: 24px 0 4px; }
p { max-width: 800px; margin: 0 0 12px; }
header p, figcaption, .caption, footer, .legend { color: ${colours.muted}; }
figcaption, .caption, .legend { font-size: 13px; max-width: none; }
figure { margin: 12px 0; } svg { max-width: 100%; height: auto; display: block; }
.legend i, figcaption i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin: 0 4px 0 12px; vertical-align: -1px; }
.legend i:first-child { margin-left: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; margin: 24px 0 0; }
.card { border: 1px solid #e4e7ea; border-radius: 8px; padding: 14px 16px; }
.card b { display: block; font-size: 26px; line-height: 1.1; font-variant-numeric: tabular-nums; } .card span { display: block; font-size: 13px; }
.card em { font-style: normal; font-size: 12px; color: ${colours.muted}; } .card .good { color: #2f7d4f; } .card .bad { color: ${colours.mark}; font-weight: 700; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 32px; align-items: start; } .three { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; }
@media (max-width: 800px) { .two, .three { grid-template-columns: 1fr; } main { padding: 24px 16px; } }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: 12px; }
th, td { text-align: right; padding: 7px 10px; border-bottom: 1px solid #e4e7ea; } thead th { font-size: 12px; color: ${colours.muted}; font-weight: 600; } tbody th { font-weight: 400; }
.best { font-weight: 700; color: ${colours.model}; }
footer { margin-top: 48px; font-size: 13px; } code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
`

/** A page that loads nothing, with what stands in it. */
export const pageOf = (title: string, inside: string) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${css}</style>
<main>
${inside}
</main>
</html>
`
