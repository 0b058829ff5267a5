// Learn from a folder of recordings, one folder a class, and cut a long one into pieces: node audio.mjs FOLDER [RECORDING]
import { audioChunks, audioFolder, split } from 's4-node/data'
import { Classifier } from 's4-node/tasks'

const [folder, long] = process.argv.slice(2)
const examples = []
for await (const example of audioFolder(folder, { sampleRate: 8000 })) examples.push(example)
const { train, test } = split(examples.length, {
  by: 'label',
  keys: examples.map((e) => e.label),
  parts: { train: 0.8, test: 0.2 },
})
const of = (rows) => Array.from(rows, (i) => examples[i])
const c = await Classifier.fit(of(train), { epochs: Number(process.env.EPOCHS ?? 30) })
console.log(`${c.classes.join(', ')}: ${(await c.evaluate(of(test))).accuracy} right of ${test.length}`)
for await (const { samples, start } of audioChunks(long ?? examples[0].file, {
  length: 0.5,
  overlap: 0.25,
  sampleRate: 8000,
  mono: true,
}))
  console.log(start, (await c.predict([samples]))[0].label)
