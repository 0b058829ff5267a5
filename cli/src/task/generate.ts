/** The task `generate`: texts in, a generator out. */
import { Generator, type GeneratorOptions } from 's4-node/tasks'
import { readFileSync, statSync } from 'node:fs'
import { deviceSpecs, trainingSpecs } from '../options/common.js'
import type { OptionSpec } from '../options/spec.js'
import { UsageError } from '../usage.js'
import type { Task, TrainingData } from './task.js'

const specs: readonly OptionSpec[] = [
  {
    name: 'tokens',
    kind: 'choice',
    choices: ['bytes', 'characters'],
    help: 'what a text is made of',
    otherwise: 'bytes',
  },
  {
    name: 'window',
    kind: 'count',
    min: 2,
    help: 'tokens of one example of the training',
    otherwise: '256, or as many as the text allows',
  },
  {
    name: 'validation',
    kind: 'number',
    min: 0.01,
    max: 0.5,
    help: 'part of the text, its end, that chooses the best epoch',
    otherwise: '0.1',
  },
  ...trainingSpecs,
  ...deviceSpecs,
]

/** Characters of a text's end that a report looks at. */
const LOOKED_AT = 1000

/** The end of a text, beginning with a whole line where there is one. */
function endOf(file: string): string {
  const text = readFileSync(file, 'utf8')
  // A character that the cut halves is none.
  const end = text.slice(-LOOKED_AT).replace(/^[\uDC00-\uDFFF]/, '')
  const line = text.length > end.length ? end.indexOf('\n') + 1 : 0
  return line < end.length ? end.slice(line) : end
}

/** Tokens of the sample of a report. */
const SAMPLE = 400

export const generate: Task = {
  name: 'generate',
  specs,
  async read({ data, options }): Promise<TrainingData> {
    if (data.length === 0) throw new UsageError('name one file with text or more')
    const bytes = data.map((file) => statSync(file).size)
    return {
      summary: { bytes },
      async fit(course) {
        const texts = data.map((file) => ({ file }))
        const generator = await Generator.fit(texts.length === 1 ? texts[0]! : texts, {
          ...options,
          ...course,
        } as GeneratorOptions)
        return {
          save: (path) => generator.save(path),
          inspect: () => generator.inspect(endOf(data.at(-1) as string)),
          async judge(history, settings, inside) {
            // Its charts take a while to load, which other commands need not wait for.
            const { textPage } = await import('../report/generate.js')
            const validationLoss = generator.validationLoss as number
            let sample = ''
            for await (const piece of generator.generate('', {
              maxTokens: SAMPLE,
              temperature: 0.8,
              seed: 1,
            }))
              sample += piece
            const bits = validationLoss / Math.LN2
            const result = { task: 'generate', validationLoss, bitsPerToken: bits, sample }
            const text = `${bits.toFixed(3)} bits a token of the end of the text, which was not learned from; perplexity ${Math.exp(validationLoss).toFixed(2)}`
            return { result, text, page: textPage(result, history, settings, inside) }
          },
          dispose: () => generator.dispose(),
        }
      },
    }
  },
}
