// Forecast a signal whose samples came at uneven times, then follow it: node uneven.mjs [epochs]
import { Forecaster } from 's4-node/tasks'
const law = (s) => Math.sin(s / 3) + 0.5 * Math.sin(s / 1.3)
let ms = Date.UTC(2026, 0, 1)
const time = Array.from(Array(600).keys(), (i) => (ms += 200 + 800 * Math.abs(Math.sin(7 * i))))
const x = time.map((t) => law((t - time[0]) / 1000))
const size = { features: 16, layers: 1, state: 16, lookBack: 48, epochs: Number(process.argv[2] ?? 4) }
const f = await Forecaster.fit({ columns: { x }, time }, { horizon: 4, ...size })
const { model, persistence } = f.scores
console.log(`usual interval ${f.interval} ms; error ${model.mse}, of persistence ${persistence.mse}`)
const soon = await f.forecast({ columns: { x }, time }, { at: [ms + 500, ms + 1000] })
console.log('after ½ and 1 second:', ...soon.x.mean)
const stream = f.stream()
const rows = time.map((t, i) => stream.push({ x: x[i] }, { time: t }))
console.log('expected of the last row:', rows.at(-1).expected.x, 'it was:', x.at(-1))
