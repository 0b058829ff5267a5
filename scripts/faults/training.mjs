// The training program that kill.mjs kills. It goes on from its checkpoint where there is one, writes a checkpoint every few updates
// and after every epoch, and evaluates. Before and after each part it writes a line to stdout, at once:
//   u N / U    the updates after update N                w N / W N    a checkpoint of N updates is being written / has been written
//   v / V      an evaluation
//   node scripts/faults/training.mjs CHECKPOINT FINAL
import { existsSync, writeSync } from 'node:fs'
import { schedules, SequenceModel } from 's4-node'
import { generator } from '../recipe-random.mjs'

const [checkpoint, final] = process.argv.slice(2)
const say = (line) => writeSync(1, `${line}\n`)
const random = generator(7)
const numbers = (n) => Float32Array.from({ length: n }, () => random() * 2 - 1)
const samples = Array.from({ length: 20 }, () => ({
  input: { data: numbers(64), shape: [64, 1] },
  target: { data: numbers(64), shape: [64, 1] },
}))
const validation = samples.splice(16)

const resume = existsSync(checkpoint)
const model = resume
  ? await SequenceModel.load(checkpoint, { device: 'cpu', threads: 1 })
  : await SequenceModel.create({
      input: 1,
      output: 1,
      features: 16,
      layers: 2,
      state: 16,
      loss: 'mse',
      dropout: 0.2,
      norm: 'batch',
      seed: 3,
      device: 'cpu',
      threads: 1,
    })
const run = {
  epochs: 12,
  seed: 2 ** 40 + 7,
  shuffle: true,
  ema: 0.9,
  schedule: schedules.plateau({ factor: 0.5, patience: 0 }),
}
say(`u ${model.progress.steps}`)
const events = model.train(samples, { ...(resume ? { resume } : run), batchSize: 3, validation })
for await (const event of events) {
  const { steps } = model.progress
  if (event.type === 'epoch' || steps % 2 === 0) {
    say(`w ${steps}`)
    await model.save(checkpoint)
    say(`W ${steps}`)
  }
  if (event.type === 'epoch') {
    say('v')
    for (let i = 0; i < 4; i++) await model.evaluate(validation, { batchSize: 2 })
    say('V')
  }
  say(`u ${steps}`)
}
say('U')
await model.save(final)
