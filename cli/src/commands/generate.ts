import { readFileSync } from 'node:fs'
import type { TextOptions } from 's4-node/tasks'
import { untilInterrupted } from '../interrupt.js'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import type { OptionSpec } from '../options/spec.js'
import { loadGenerator } from '../run/load.js'
import { UsageError } from '../usage.js'
import type { Command } from './command.js'

/** Options that {@link TextOptions} has under the same names. */
const samplingSpecs: readonly OptionSpec[] = [
  { name: 'maxTokens', kind: 'count', min: 1, help: 'most tokens', otherwise: '256' },
  {
    name: 'temperature',
    kind: 'number',
    min: 0,
    help: 'below 1 likelier tokens, 0 the likeliest alone',
    otherwise: '1',
  },
  { name: 'topK', kind: 'count', min: 0, help: 'only so many of the likeliest tokens', otherwise: 'all' },
  {
    name: 'topP',
    kind: 'number',
    min: 0,
    max: 1,
    help: 'only the likeliest tokens that are together so probable',
    otherwise: '1',
  },
  {
    name: 'minP',
    kind: 'number',
    min: 0,
    max: 1,
    help: 'only tokens that are at least so probable as the likeliest',
    otherwise: '0',
  },
  {
    name: 'repetitionPenalty',
    kind: 'number',
    min: 0.01,
    help: 'above 1 what has occurred is less likely',
    otherwise: '1',
  },
  { name: 'seed', kind: 'count', min: 0, help: 'of the choice of tokens', otherwise: 'another each time' },
  { name: 'stop', kind: 'names', word: 'text,text', help: 'texts at which it ends', otherwise: 'none' },
]

export const generate: Command = {
  name: 'generate',
  summary: 'continue a text by a run of `s4 train generate`',
  operands: [
    { name: 'RUN', help: 'folder of a run of a generator, or its best.safetensors' },
    { name: '[PROMPT]', help: 'the text to continue; - is standard input' },
  ],
  options: [...samplingSpecs, jsonSpec, ...deviceSpecs],
  notes: 'Prints the text as it comes, without the prompt; with --json one line at the end.',
  async run({ operands: [run, prompt = ''], values }) {
    const generator = await loadGenerator(run as string, deviceOf(values))
    try {
      const text = prompt === '-' ? readFileSync(0, 'utf8') : prompt
      const options = Object.fromEntries(
        samplingSpecs.flatMap(({ name }) => (values[name] === undefined ? [] : [[name, values[name]]])),
      ) as TextOptions
      let written = ''
      const { interrupted } = await untilInterrupted(async (signal) => {
        for await (const piece of generator.generate(text, { ...options, signal })) {
          written += piece
          if (!values['json']) process.stdout.write(piece)
        }
      })
      console.log(values['json'] ? JSON.stringify({ prompt: text, text: written }) : '')
      return interrupted === undefined ? 0 : 128 + interrupted
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_S4_VALUE') throw new UsageError((error as Error).message)
      throw error
    } finally {
      generator.dispose()
    }
  },
}
