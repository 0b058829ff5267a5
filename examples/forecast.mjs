// Forecast the sunspots of the next year, beside simpler forecasts: node forecast.mjs [seconds]
import { fileURLToPath } from 'node:url'
import { readCsvAsync } from 's4-node'
import { Forecaster } from 's4-node/tasks'
const csv = fileURLToPath(new URL('../data/sunspots_monthly.csv', import.meta.url))
const sunspots = await readCsvAsync(csv, { column: 'sunspots' })
const maxSeconds = Number(process.argv[2] ?? 60)
const f = await Forecaster.fit({ sunspots }, { horizon: 12, predict: 'quantiles', maxSeconds })
for (const [name, { mse }] of Object.entries(f.scores).filter(([, s]) => s?.mse))
  console.log(`${name}: mean squared error ${mse.toFixed(3)}`)
const { quantiles } = (await f.forecast({ sunspots })).sunspots
console.log(
  'next months, 10 to 90 %:',
  Array.from(quantiles['0.1'], (q, k) => `${q.toFixed(0)}–${quantiles['0.9'][k].toFixed(0)}`).join(' '),
)
