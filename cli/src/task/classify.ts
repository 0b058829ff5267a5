/** The task `classify`: labelled examples in, a classifier out. */
import { Classifier, type ClassifyOptions, type ClassScores } from 's4-node/tasks'
import { exampleSpecs, readExamples, type NamedExample } from '../data/examples.js'
import { deviceSpecs, trainingSpecs } from '../options/common.js'
import type { OptionSpec, Values } from '../options/spec.js'
import { UsageError } from '../usage.js'
import { classLines } from './class-scores.js'
import type { Task, TrainingData } from './task.js'

const specs: readonly OptionSpec[] = [
  ...exampleSpecs,
  {
    name: 'test',
    kind: 'pattern',
    word: 'pattern',
    help: 'files whose path matches are the test part, and not learned from',
    otherwise: 'what folders or names call test, as of CIFAR-10, MNIST and aclImdb',
  },
  {
    name: 'testShare',
    kind: 'number',
    min: 0,
    max: 0.9,
    help: 'the test part of each class where --test is not given',
    otherwise: '0.1, where nothing is called test',
  },
  {
    name: 'validation',
    kind: 'number',
    min: 0.01,
    max: 0.5,
    help: 'part of each class that chooses the best epoch',
    otherwise: '0.15',
  },
  {
    name: 'labelSmoothing',
    kind: 'number',
    min: 0,
    max: 1,
    help: 'part of each target that goes to all classes alike',
    otherwise: '0',
  },
  {
    name: 'classWeights',
    kind: 'weights',
    word: 'balanced|a=1,b=2',
    instead: 'balanced',
    help: 'what each class counts in the loss; balanced: rare ones more',
    otherwise: '1 each',
  },
  {
    name: 'rates',
    kind: 'numbers',
    word: 'a,b',
    help: 'ratios of sampling rates that are learned',
    otherwise: '1,1.5,2 for recordings, else 1',
  },
  {
    name: 'vary',
    kind: 'flag',
    help: 'vary speed and level of examples, which are no texts, while training',
    otherwise: 'for recordings',
  },
  {
    name: 'bidirectional',
    kind: 'flag',
    negated: true,
    help: 'let outputs depend on earlier steps alone',
    otherwise: 'on later ones too',
  },
  {
    name: 'scan',
    kind: 'choice',
    choices: ['rows', 'pixels'],
    help: 'what a step of a picture is',
    otherwise: 'rows',
  },
  {
    name: 'tokens',
    kind: 'choice',
    choices: ['bytes', 'characters'],
    help: 'what a text is made of',
    otherwise: 'bytes',
  },
  {
    name: 'maxLength',
    kind: 'count',
    min: 1,
    help: 'most tokens of a text; those beyond them are left out',
    otherwise: '4096',
  },
  ...trainingSpecs,
  ...deviceSpecs,
]

/** Examples whose steps a report looks at. */
const LOOKED_AT = 4

/** Names of {@link ClassifyOptions} that are given as they are. */
const READING = new Set([...exampleSpecs.map(({ name }) => name), 'test', 'testShare'])

interface Parts {
  learned: NamedExample[]
  held: NamedExample[]
}

/** Refuses a test part with classes that are not learned, of which no figure could tell. */
function known(parts: Parts, what: string): Parts {
  const classes = new Set(parts.learned.map(({ label }) => label))
  const counts = new Map<string | number, number>()
  for (const { label } of parts.held) if (!classes.has(label)) counts.set(label, (counts.get(label) ?? 0) + 1)
  if (counts.size === 0) return parts
  const said = [...counts].map(([label, count]) => `${count} of '${label}'`).join(', ')
  throw new UsageError(
    `${what} has examples of classes that are not learned: ${said}; --classes a,b leaves others out`,
  )
}

/** Divides examples into those that are learned from and those of the test. */
export function testPart(examples: readonly NamedExample[], { test, testShare }: Values): Parts {
  if (test !== undefined) {
    const matches = new RegExp(test as string)
    const held = examples.filter(({ name }) => matches.test(name))
    if (held.length === 0)
      throw new UsageError(`--test ${String(test)} matches none of ${examples.length} examples`)
    return known({ held, learned: examples.filter(({ name }) => !matches.test(name)) }, '--test')
  }
  if (testShare === undefined && examples.some(({ part }) => part === 'test')) {
    const learned = examples.filter(({ part }) => part !== 'test')
    // Files of the test part alone are divided as others are.
    if (learned.length > 0)
      return known({ learned, held: examples.filter(({ part }) => part === 'test') }, 'the test part')
  }
  const [learned, held]: [NamedExample[], NamedExample[]] = [[], []]
  for (const label of new Set(examples.map((one) => one.label))) {
    const own = examples.filter((one) => one.label === label)
    const count = own.length < 3 ? 0 : Math.round(own.length * ((testShare as number | undefined) ?? 0.1))
    // Spread over the class, whose files may be in an order.
    own.forEach((one, i) =>
      (Math.floor(((i + 1) * count) / own.length) > Math.floor((i * count) / own.length)
        ? held
        : learned
      ).push(one),
    )
  }
  return { learned, held }
}

export const classify: Task = {
  name: 'classify',
  specs,
  async read({ data, options }): Promise<TrainingData> {
    const { examples, kind, sampleRate } = await readExamples(data, options)
    const { learned, held } = testPart(examples, options)
    const given = Object.fromEntries(Object.entries(options).filter(([name]) => !READING.has(name)))
    return {
      summary: {
        examples: examples.length,
        test: held.length,
        classes: [...new Set(examples.map((one) => one.label))].toSorted(),
      },
      async fit(course) {
        const classifier = await Classifier.fit(
          learned.map(({ input, label }) => ({ input, label })),
          { kind, ...(sampleRate !== undefined && { sampleRate }), ...given, ...course } as ClassifyOptions,
        )
        return {
          save: (path) => classifier.save(path),
          inspect: () =>
            classifier.inspect(
              (held.length === 0 ? learned : held).slice(0, LOOKED_AT).map(({ input }) => input),
            ),
          async judge(history, settings, inside) {
            // Its charts take a while to load, which other commands need not wait for.
            const { classPage } = await import('../report/classify.js')
            const scores: ClassScores | undefined =
              held.length === 0
                ? undefined
                : await classifier.evaluate(held.map(({ input, label }) => ({ input, label })))
            const { classes, validationAccuracy } = classifier
            const result = {
              task: 'classify',
              classes,
              validationAccuracy,
              ...(sampleRate !== undefined && { sampleRate }),
              scores,
            }
            const text =
              scores === undefined
                ? `no test part; right in validation: ${((validationAccuracy as number) * 100).toFixed(1)} %`
                : classLines(scores, classes)
            return {
              result,
              text,
              page: await classPage(classifier, held, scores, history, settings, inside),
            }
          },
          dispose: () => classifier.dispose(),
        }
      },
    }
  },
}
