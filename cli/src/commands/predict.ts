import { exampleSpecs, readInputs } from '../data/examples.js'
import { rateOf } from '../data/rate.js'
import { deviceOf, deviceSpecs, jsonSpec } from '../options/common.js'
import { csv, number } from '../output.js'
import { loadClassifier } from '../run/load.js'
import type { Command } from './command.js'

export const predict: Command = {
  name: 'predict',
  summary: 'the classes of files, or of the rows of tables',
  operands: [
    { name: 'RUN', help: 'folder of a run of a classifier, or its best.safetensors' },
    { name: 'DATA...', help: 'recordings, pictures, texts, folders of them, or tables' },
  ],
  options: [
    {
      name: 'rate',
      kind: 'number',
      min: 1,
      max: 16,
      help: 'how many times fewer samples a second the data have than those of the training',
      otherwise: 'what the files say, else 1',
    },
    jsonSpec,
    ...exampleSpecs.filter(({ name }) => name !== 'label' && name !== 'classes'),
    ...deviceSpecs,
  ],
  notes:
    'Prints lines file,label,probability; with --json a line of JSON each, which has the probabilities of all classes.',
  async run({ operands: [run, ...data], values }) {
    const classifier = await loadClassifier(run as string, deviceOf(values))
    try {
      const { inputs, sampleRate } = await readInputs(data, values, classifier)
      const answers = await classifier.predict(
        inputs.map(({ input }) => input),
        { rate: rateOf(classifier, sampleRate, values) },
      )
      if (!values['json']) console.log('file,label,probability')
      const { classes } = classifier
      answers.forEach(({ label, probability, probabilities }, i) => {
        const { name } = inputs[i]!
        console.log(
          values['json']
            ? JSON.stringify({
                file: name,
                label,
                probability,
                probabilities: Object.fromEntries(classes.map((c, k) => [c, probabilities[k]])),
              })
            : csv([name, label, number(probability)]),
        )
      })
      return 0
    } finally {
      classifier.dispose()
    }
  },
}
