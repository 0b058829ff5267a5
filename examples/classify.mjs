// Tell sounds apart, also at a sampling rate that was never heard: which of three tones is it?
import { Classifier } from 's4-node/tasks'

const names = ['low', 'middle', 'high']
const tone = (i, rate) =>
  Float32Array.from(
    { length: 1200 / rate },
    (_, t) => Math.sin((1.57 * 2 ** (i % 3) * t * rate) / 8 + i) + 0.3 * Math.random(),
  )
const sounds = (count, rate = 1) =>
  Array.from({ length: count }, (_, i) => ({ input: tone(i, rate), label: names[i % 3] }))
const c = await Classifier.fit(sounds(60), { sampleRate: 8000, epochs: 8 })
console.log('right at 8 kHz:', (await c.evaluate(sounds(30))).accuracy)
console.log('right at 4 kHz:', (await c.evaluate(sounds(30, 2), { rate: 2 })).accuracy)
console.log('this one is', (await c.predict([tone(2, 1)]))[0].label)
