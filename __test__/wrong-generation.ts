/** Recipes of the table: generation, scores of tokens, inspection. */
import { ANY_LENGTH, RATIO, REAL } from './wrong-layers.js'
import { model, onModel, over, signal, streamOn, x } from './wrong-models.js'
import type { Receiver, Recipe } from './wrong-table.js'

/** Generation, on a model whose outputs are its own tokens, with every option. */
const onGenerating = async () =>
  over(await model({ encoder: 'embedding', vocabulary: 4, output: 4, loss: 'crossEntropy', dropout: 0 }))
const generateOptions = () => ({
  maxTokens: 3,
  temperature: 0.9,
  topK: 3,
  topP: 0.9,
  minP: 0.01,
  repetitionPenalty: 1.2,
  seed: 1,
  stop: [[3, 3, 3, 3]],
  signal: signal(),
})
const onValues = async () => over(await model({ output: 4, loss: 'crossEntropy', dropout: 0 }))
const classValues = () => ({ data: Float32Array.of(0, 0.25, 0.5, 1), shape: [4, 1] })
const generations = (
  options: () => object,
  receiver: () => Promise<Receiver>,
  values: () => Promise<Receiver>,
) => [
  { receiver, args: () => [[1, 2, 3], options()] },
  { under: 'prompt[][', receiver, args: () => [[[1, 2], [3]], options()] },
  { under: 'tokens[][', receiver, args: () => [[[1, 2], [3]], options()] },
  { under: 'options.stop[]$', receiver, args: () => [[1, 2, 3], { ...options(), stop: [3] }] },
  {
    under: 'options.inputs',
    receiver: values,
    args: () => [[1, 2, 3], { ...options(), inputs: classValues() }],
  },
]
const ANY_TOKENS = ['0'] as const
const generateLegal: Recipe['legal'] = {
  prompt: ['a BigUint64Array', ...ANY_LENGTH],
  'prompt[]': ANY_TOKENS,
  'prompt[][]': ANY_TOKENS,
  'options.temperature': ['0', '0.5', '1e-300'],
  'options.topK': ['0', '2**31'],
  'options.topP': ['0.5', '1e-300'],
  'options.minP': ['0', '0.5', '1e-300'],
  'options.repetitionPenalty': ['0.5'],
  'options.seed': ['0', '2**31'],
  'options.stop': ['[]', '[] of another realm', ...ANY_LENGTH],
  'options.stop[]': ['0'],
  'options.stop[][]': ['0'],
  'options.inputs.data[]': REAL,
}

export const generationRecipes: Readonly<Record<string, Recipe>> = {
  'SequenceModel#generate': {
    right: generations(() => ({ ...generateOptions(), rate: 1.5 }), onGenerating, onValues),
    legal: { ...generateLegal, 'options.rate': RATIO },
    untried: { 'options.maxTokens': { '2**31': 'is right, and goes on for hours' } },
  },
  'SequenceModel#score': {
    right: generations(() => ({ rate: 1.5, signal: signal() }), onGenerating, onValues).filter(
      ({ under }) => under !== 'options.stop[]$',
    ),
    legal: {
      tokens: ['a BigUint64Array', ...ANY_LENGTH],
      'tokens[]': ANY_TOKENS,
      'tokens[][]': ANY_TOKENS,
      'options.rate': RATIO,
      'options.inputs.data[]': REAL,
    },
  },
  'ModelStream#generate': {
    right: generations(
      generateOptions,
      () => streamOn({ encoder: 'embedding', vocabulary: 4, output: 4, loss: 'crossEntropy' }, 1),
      () => streamOn({ output: 4, loss: 'crossEntropy' }, 1),
    ),
    legal: generateLegal,
    untried: { 'options.maxTokens': { '2**31': 'is right, and goes on for hours' } },
  },
  'SequenceModel#inspect': {
    right: [
      {
        receiver: onModel,
        args: () => [
          {
            data: x(),
            lengths: [3, 2],
            intervals: { data: [0.5, 2, 1, 1, 3, 1], shape: [2, 3] },
            rate: 1.5,
            length: 3,
            samplingInterval: 0.5,
            signal: signal(),
          },
        ],
      },
      {
        under: 'options.intervals[]',
        receiver: onModel,
        args: () => [{ data: x(), intervals: [0.5, 2, 1, 1, 3, 1] }],
      },
    ],
    legal: {
      'options.data.data[]': REAL,
      'options.length': ['2**31'],
      'options.samplingInterval': RATIO,
      'options.rate': RATIO,
      'options.intervals.data[]': RATIO,
      'options.intervals[]': RATIO,
    },
    words: { 'options.data*': ['input', 'data'] },
  },
}
