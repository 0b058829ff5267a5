// Learn to write like a text, continue it, and say how probable a text is: node generate.mjs [file] [seconds]
import { fileURLToPath } from 'node:url'
import { Generator } from 's4-node/tasks'

const file = process.argv[2] ?? fileURLToPath(new URL('../README.md', import.meta.url))
const maxSeconds = Number(process.argv[3] ?? 60)
const generator = await Generator.fit({ file }, { maxSeconds, patience: 100 })
console.log(`bits a token of the text's end: ${(generator.validationLoss / Math.LN2).toFixed(2)}`)
for await (const piece of generator.generate('The model ', { temperature: 0.7, maxTokens: 200, seed: 1 }))
  process.stdout.write(piece)
const { perplexity } = await generator.score('A state space model of a sequence.')
console.log(`\nperplexity of a sentence: ${perplexity.toFixed(1)} of 256 bytes`)
