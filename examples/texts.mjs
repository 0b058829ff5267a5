// Tell texts apart, of a folder for each class: node texts.mjs aclImdb/train 'A film to remember.'
import { textFolder } from 's4-node/data'
import { Classifier } from 's4-node/tasks'

const [folder, text, epochs] = process.argv.slice(2)
const options = { maxLength: 1024, ...(epochs && { epochs: Number(epochs) }) }
const c = await Classifier.fit(textFolder(folder), options)
console.log(
  `${c.classes.join(', ')}: ${(100 * c.validationAccuracy).toFixed(0)} % right of those not learned`,
)
const [said] = await c.predict([text])
console.log(`'${text}' is ${said.label} (${said.probability.toFixed(2)})`)
for (const { position, label } of c.stream({ window: 40, hop: 20 }).push(text.repeat(4)))
  console.log(position, label)
