// Tell pictures apart, of MNIST's files or others of their format: node pictures.mjs FOLDER
import { join } from 'node:path'
import { idxExamples } from 's4-node/data'
import { Classifier } from 's4-node/tasks'

const [folder, scan = 'rows', epochs] = process.argv.slice(2)
const part = (name) =>
  idxExamples(join(folder, `${name}-images-idx3-ubyte`), join(folder, `${name}-labels-idx1-ubyte`))
const c = await Classifier.fit(await part('train'), { scan, ...(epochs && { epochs: Number(epochs) }) })
const { accuracy, examples, confusion } = await c.evaluate(await part('t10k'))
console.log(`${Math.round(accuracy * examples)} of ${examples} right`)
console.log(confusion.map((row, i) => `${c.classes[i]}: ${row.join(' ')}`).join('\n'))
