/** The live page: markup and styles; its script is `browser/script.ts`. */
import { colours } from '../report/colours.js'

export const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>s4 train</title>
<link rel="stylesheet" href="page.css">
<main>
<header><h1 id="title">s4 train</h1><button id="stop" type="button" disabled>Stop training</button></header>
<p id="status" role="status">Connecting …</p>
<progress id="progress" max="1" value="0" aria-label="updates that are made"></progress>
<p id="plan"></p>
<section class="two">
<figure><svg id="losses" viewBox="0 0 520 240" role="img" aria-label="loss"></svg><figcaption>Loss of updates (grey) and its mean over each epoch.</figcaption></figure>
<figure><svg id="figures" viewBox="0 0 520 240" role="img" aria-label="validation"></svg><figcaption id="figure-name">Validation. The ring is the best epoch, which is kept.</figcaption></figure>
</section>
<section id="forecasts" class="three" hidden></section>
<p id="forecast-name" hidden></p>
<section id="confusions" hidden><table id="confusion"><thead></thead><tbody></tbody></table><p id="confusion-name"></p></section>
<figure><svg id="kernels" viewBox="0 0 1060 240" role="img" aria-label="kernels"></svg><figcaption id="kernel-name">Kernels: after the first epoch.</figcaption></figure>
<table id="epochs"><thead><tr><th>epoch</th><th>loss</th><th id="figure-head">validation</th><th>seconds</th></tr></thead><tbody></tbody></table>
</main>
<script type="module" src="page.js"></script>
</html>
`

export const styles = `
:root { color-scheme: light; }
body { margin: 0; background: #f6f7f8; color: ${colours.ink}; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px; background: #fff; }
header { display: flex; justify-content: space-between; align-items: center; gap: 16px; }
h1 { font-size: 26px; margin: 0; }
button { font: inherit; padding: 8px 16px; border: 1px solid ${colours.mark}; border-radius: 6px; background: ${colours.mark}; color: #fff; cursor: pointer; }
button:disabled { border-color: #c9ced4; background: #e4e7ea; color: ${colours.muted}; cursor: default; }
progress { width: 100%; height: 8px; accent-color: ${colours.model}; }
p, figcaption { color: ${colours.muted}; } #status { color: ${colours.ink}; margin: 8px 0; }
figure { margin: 16px 0; } svg { width: 100%; height: auto; overflow: visible; font-size: 12px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 32px; } .three { display: grid; grid-template-columns: repeat(3, 1fr); gap: 24px; } .three[hidden] { display: none; } @media (max-width: 800px) { .two, .three { grid-template-columns: 1fr; } main { padding: 16px; } }
.axis { stroke: #c9ced4; } .label { fill: ${colours.muted}; } .update { stroke: #c9ced4; fill: none; } .mean { stroke: ${colours.model}; stroke-width: 2; fill: none; }
.came { stroke: ${colours.ink}; stroke-width: 1.2; fill: none; } .right { background: #dcebe6; }
.point { fill: ${colours.model}; } .best { stroke: ${colours.mark}; stroke-width: 2; fill: none; }
${colours.layers.map((colour, i) => `.kernel-${i} { stroke: ${colour}; stroke-width: 1.5; fill: none; }`).join('\n')}
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid #e4e7ea; }
`
