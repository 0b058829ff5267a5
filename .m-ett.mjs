import { readFileSync } from 'node:fs'
import { Forecaster } from 's4-node/tasks'
const [head, ...lines] = readFileSync('/work/h/datasets/ETTh1.csv', 'utf8').trim().split('\n')
const names = head.split(',').slice(1)
const cells = lines.map((l) => l.split(','))
const table = Object.fromEntries(names.map((n, i) => [n, Float64Array.from(cells, (r) => Number(r[i + 1]))]))
const opts = JSON.parse(process.argv[2] ?? '{}')
const t0 = performance.now()
const f = await Forecaster.fit(table, { horizon: 96, split: { train: 8640, validation: 2880, test: 2880 }, ...opts,
  onEvent: (e) => { if (e.type === 'plan') console.log(e.text); if (e.type === 'epoch') console.log(e.epoch, e.loss.toFixed(4), e.mse.toFixed(4), e.best ? '*' : '', e.seconds.toFixed(1)); if (e.type === 'end') console.log(JSON.stringify(e)) } })
const s = f.scores
console.log(JSON.stringify(opts), 'windows', s.windows, 'model', s.model.mse.toFixed(4), s.model.mae.toFixed(4), 'linear', s.linear.mse.toFixed(4), 'ratio', (s.model.mse / s.linear.mse).toFixed(4), 'persist', s.persistence.mse.toFixed(3), 'season', s.seasonalNaive.mse.toFixed(3), 'total s', ((performance.now() - t0) / 1000).toFixed(1))
