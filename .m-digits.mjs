import { readdirSync } from 'node:fs'
import { readWav, lowPass } from './scripts/recipe-audio.mjs'
import { Classifier } from 's4-node/tasks'
const dir = '/work/h/datasets/free-spoken-digit-dataset/recordings/'
const [train, test, half] = [[], [], []]
for (const name of readdirSync(dir).filter((n) => n.endsWith('.wav')).sort()) {
  const [label, , number] = name.slice(0, -4).split('_')
  const { samples } = readWav(dir + name)
  if (Number(number) < 5) {
    test.push({ input: samples, label })
    const low = lowPass(samples, 0.24)
    half.push({ input: low.filter((_, t) => t % 2 === 0), label })
  } else train.push({ input: samples, label })
}
const opts = JSON.parse(process.argv[2] ?? '{}')
const t0 = performance.now()
const c = await Classifier.fit(train, { sampleRate: 8000, ...opts,
  onEvent: (e) => { if (e.type === 'plan') console.log(e.text); if (e.type === 'epoch') console.log(e.epoch, e.loss.toFixed(4), e.accuracy.toFixed(4), e.validationLoss.toFixed(4), e.best ? '*' : '', e.seconds.toFixed(1)); if (e.type === 'end') console.log(JSON.stringify(e)) } })
const cpu = process.cpuUsage(); const fit = (performance.now() - t0) / 1000
const a = await c.evaluate(test), b = await c.evaluate(half, { rate: 2 })
console.log(JSON.stringify(opts), test.length, 'accuracy', a.accuracy.toFixed(4), 'half', b.accuracy.toFixed(4), 'fit s', fit.toFixed(1), 'cpu s', ((cpu.user+cpu.system)/1e6).toFixed(1), 'validation', c.validationAccuracy)
