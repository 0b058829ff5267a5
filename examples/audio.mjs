// Learn a folder of recordings, one folder a class, and hear a long one: node audio.mjs FOLDER RECORDING [epochs]
import { audioChunks, audioFolder, split } from 's4-node/data'
import { Classifier } from 's4-node/tasks'
const [folder, long, epochs = '30'] = process.argv.slice(2)
const examples = []
for await (const example of audioFolder(folder, { sampleRate: 8000 })) examples.push(example)
const [keys, parts] = [examples.map((e) => e.label), { train: 0.8, test: 0.2 }]
const { train, test } = split(keys.length, { by: 'label', keys, parts })
const of = (rows) => Array.from(rows, (i) => examples[i])
const c = await Classifier.fit(of(train), { epochs: Number(epochs) })
console.log(`${c.classes.join(', ')}: ${(await c.evaluate(of(test))).accuracy} right of ${test.length}`)
const pieces = audioChunks(long, { length: 0.5, overlap: 0.25, sampleRate: 8000, mono: true })
for await (const { samples, start } of pieces) console.log(start, (await c.predict([samples]))[0].label)
