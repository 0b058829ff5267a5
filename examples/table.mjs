// From a table to a model: read, split in time, scale by the past, cut windows, train.
import { fileURLToPath } from 'node:url'
import { SequenceModel } from 's4-node'
import { readTable, Scaler, split, windows } from 's4-node/data'
const csv = fileURLToPath(new URL('../data/sunspots_monthly.csv', import.meta.url))
const table = await readTable(process.argv[2] ?? csv, { time: 'month' })
const { train, test } = split(table, { at: { test: '1980-01-01' } })
const scaled = Scaler.fit(table.slice(0, train.length)).transform(table)
const cut = (rows) => windows(scaled, { length: 64, horizon: 12, inputs: ['sunspots'], rows })
const model = await SequenceModel.create({
  input: 1,
  output: 12,
  features: 16,
  layers: 2,
  loss: 'mse',
  pooling: 'last',
})
await model.fit([...cut({ to: train.length })], { epochs: 3, batchSize: 32, lr: 0.004, shuffle: true })
const { loss } = await model.evaluate(cut({ from: test[0], reachBack: true }), { batchSize: 256 })
console.log(`${table.rows} months, ${test.length} of them to test; mean squared error ${loss.toFixed(3)}`)
