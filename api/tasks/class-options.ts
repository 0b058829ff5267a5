// Options of a classifier, and their checks; sizes and rates chosen by the data.
import { booleanOf, listOf, numberIn32Bits, oneOf, rejectUnknownOptions, wholeNumber } from '../check.js'
import { describe, fail, readGiven } from '../error.js'
import {
  hertz,
  inputKinds,
  pictureScans,
  type InputKind,
  type InputOptions,
  type PictureScan,
} from './class-inputs.js'
import { checkTaskOptions, TASK_OPTIONS, type CheckedTaskOptions, type TaskTrainOptions } from './options.js'
import { checkTokens, type TokenKind } from './tokenizer.js'

/** Options of {@link Classifier.fit}. */
export interface ClassifyOptions extends TaskTrainOptions {
  /**
   * What the inputs are: `'series'` of values (len, channels); `'audio'`, whose spectrum the network sees; `'image'`, which
   * it sees row by row, or pixel by pixel; `'text'`, token by token. Default text where inputs are, audio where `sampleRate` is given,
   * pictures where inputs have three sizes, else series.
   */
  kind?: InputKind
  /** Samples a second of audio. Default what its examples say. */
  sampleRate?: number
  /**
   * Ratios of sampling rates that are learned, from data with so many times fewer samples. Default 1, 1.5 and 2 for audio
   * (which cost it nothing), else 1.
   */
  rates?: readonly number[]
  /** Whether training varies speed and level of its examples, which are no text. Default for audio alone. */
  vary?: boolean
  /**
   * What a step of a picture is: a row of it (default), which is quick, or a pixel, for which the network has to remember as far
   * back as there are pixels, and takes as many times longer.
   */
  scan?: PictureScan
  /**
   * What a text is made of: bytes of UTF-8, the characters that more than one of the texts has (all others are one token), or a
   * tokeniser of your own, which is given again when the classifier is loaded. Default `'bytes'`.
   */
  tokens?: TokenKind
  /** Most tokens of a text; those beyond them are left out. Default 4096. */
  maxLength?: number
  /** Whether outputs at a step depend on later steps too. Default true. */
  bidirectional?: boolean
  /** Part of the examples of each class that chooses the best epoch. Default 0.15. */
  validation?: number
  /** ε of smoothed labels, from 0 to 1, see {@link ModelOptions.labelSmoothing}. Default 0. */
  labelSmoothing?: number
  /**
   * What each class counts in the loss: `'balanced'` examples/(classes·examples of the class) in the part that is learned, as
   * scikit-learn has it, or a number for each class by its name. The best epoch is then that of the best F1 over all classes, in the
   * place of the accuracy. Default 1 for each.
   */
  classWeights?: 'balanced' | Readonly<Record<string, number>>
}

const OPTIONS = [
  ...TASK_OPTIONS,
  'kind',
  'sampleRate',
  'rates',
  'vary',
  'scan',
  'tokens',
  'maxLength',
  'bidirectional',
  'validation',
  'labelSmoothing',
  'classWeights',
] as const

/** {@link ClassifyOptions} after the check. */
export interface CheckedClassifyOptions extends CheckedTaskOptions, InputOptions {
  sampleRate: number | undefined
  rates: number[] | undefined
  vary: boolean | undefined
  bidirectional: boolean
  validation: number
  labelSmoothing: number
  classWeights: 'balanced' | Map<string, number> | undefined
}

/** Checks the weights of classes, whose names are not known yet. */
function checkClassWeights(op: string, given: unknown): CheckedClassifyOptions['classWeights'] {
  if (given === undefined || given === 'balanced') return given
  const expected = `classWeights 'balanced' or an object of numbers of 0 or more by class`
  return readGiven(op, 'classWeights', () => {
    if (typeof given !== 'object' || given === null || Array.isArray(given) || ArrayBuffer.isView(given))
      throw fail('ERR_S4_VALUE', op, expected, describe(given))
    const weights = new Map<string, number>()
    for (const [name, weight] of Object.entries(given)) {
      if (numberIn32Bits(op, `classWeights of '${name}'`, weight) < 0)
        throw fail('ERR_S4_VALUE', op, expected, `${describe(weight)} of '${name}'`)
      weights.set(name, weight as number)
    }
    return weights
  })
}

/**
 * The weights of `classes` for the network; undefined where each counts 1. `labels`: those of the examples that are learned, as places
 * in `classes`. A name that is no class, or a class without a weight, is `ERR_S4_VALUE`.
 */
export function classWeightsOf(
  op: string,
  given: CheckedClassifyOptions['classWeights'],
  classes: readonly (string | number)[],
  labels: readonly number[],
): number[] | undefined {
  if (given === undefined) return undefined
  if (given === 'balanced') {
    const counts = classes.map(() => 0)
    for (const label of labels) counts[label]! += 1
    return counts.map((count) => (count === 0 ? 0 : labels.length / (classes.length * count)))
  }
  const names = classes.map(String)
  const unknown = [...given.keys()].find((name) => !names.includes(name))
  const missing = names.find((name) => !given.has(name))
  if (unknown !== undefined || missing !== undefined)
    throw fail(
      'ERR_S4_VALUE',
      op,
      `classWeights of each of the classes ${names.join(', ')}`,
      unknown === undefined ? `none of '${missing}'` : `one of '${unknown}'`,
    )
  const weights = names.map((name) => given.get(name) as number)
  if (weights.every((weight) => weight === 0))
    throw fail('ERR_S4_VALUE', op, 'classWeights of which one is above 0', 'zeros')
  return weights
}

/** Checks a ratio of sampling rates. */
export function rateRatio(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 1 && x <= 16))
    throw fail('ERR_S4_VALUE', op, `${what} from 1 to 16`, describe(x))
  return x
}

export function checkClassifyOptions(op: string, given: unknown): CheckedClassifyOptions {
  const options = rejectUnknownOptions(op, given as ClassifyOptions, OPTIONS)
  const {
    kind,
    sampleRate,
    rates,
    vary,
    scan,
    tokens,
    maxLength,
    bidirectional = true,
    validation = 0.15,
    labelSmoothing = 0,
  } = options
  if (scan !== undefined) oneOf(op, 'scan', scan, pictureScans)
  if (maxLength !== undefined) wholeNumber(op, 'maxLength', maxLength, 1, 2 ** 28)
  if (kind !== undefined) oneOf(op, 'kind', kind, inputKinds)
  if (sampleRate !== undefined) hertz(op, 'sampleRate', sampleRate)
  if (vary !== undefined) booleanOf(op, 'vary', vary)
  booleanOf(op, 'bidirectional', bidirectional)
  if (typeof validation !== 'number' || !(validation > 0 && validation <= 0.5))
    throw fail('ERR_S4_VALUE', op, 'validation as a share above 0, up to 0.5', describe(validation))
  const smoothing = numberIn32Bits(op, 'labelSmoothing', labelSmoothing)
  if (!(smoothing >= 0 && smoothing <= 1))
    throw fail('ERR_S4_VALUE', op, 'labelSmoothing from 0 to 1', smoothing)
  const classWeights = checkClassWeights(op, options.classWeights)
  const list =
    rates === undefined ? undefined : listOf(op, 'rates', rates).map((x) => rateRatio(op, 'each of rates', x))
  if (list?.length === 0) throw fail('ERR_S4_VALUE', op, 'rates, at least one', 'none')
  return {
    ...checkTaskOptions(op, options),
    kind,
    sampleRate,
    rates: list,
    vary,
    scan,
    tokens: tokens === undefined ? undefined : checkTokens(op, tokens),
    maxLength,
    bidirectional,
    validation,
    labelSmoothing,
    classWeights,
  }
}

/** The options that are of inputs of some kinds alone. */
const OPTIONS_OF = {
  rates: ['series', 'audio'],
  vary: ['series', 'audio', 'image'],
  scan: ['image'],
  tokens: ['text'],
  maxLength: ['text'],
} as const

/** Refuses options that inputs of this kind have not: ignored they would mislead. */
export function checkKindOptions(op: string, kind: InputKind, options: CheckedClassifyOptions): void {
  for (const [name, kinds] of Object.entries(OPTIONS_OF)) {
    const given = options[name as keyof typeof OPTIONS_OF]
    if (given !== undefined && !(kinds as readonly InputKind[]).includes(kind))
      throw fail('ERR_S4_VALUE', op, `no '${name}' for inputs of the kind '${kind}'`, describe(given))
  }
}

/** What a plan is made from. */
export interface ClassSize {
  readonly kind: InputKind
  readonly examples: number
  readonly classes: number
  /** Steps of all examples together, and of the median one. */
  readonly steps: number
  readonly median: number
}

/** Every option of the training, with its value. */
export interface ClassPlan {
  readonly features: number
  readonly layers: number
  readonly state: number
  readonly mode: 's4' | 's4d'
  readonly dropout: number
  readonly epochs: number
  readonly updates: number
  readonly patience: number
  readonly batchSize: number
  readonly lr: number
  readonly ssmLr: number
  readonly weightDecay: number
  readonly rates: readonly number[]
  readonly vary: boolean
}

/** Steps that a training by default sees in all, each example many times: minutes on two cores. */
const STEPS_SEEN = 2.5e6

export function classPlan(
  { kind, examples, steps, median }: ClassSize,
  given: CheckedClassifyOptions,
): ClassPlan {
  const batchSize =
    given.batchSize ?? Math.max(4, Math.min(32, Math.floor(examples / 8), Math.round(16_384 / median)))
  const updates = Math.ceil(examples / batchSize)
  const small = steps < 20_000
  const fewest = kind === 'text' ? 4 : 8
  const epochs = given.epochs ?? Math.max(fewest, Math.min(60, Math.round(STEPS_SEEN / steps)))
  return {
    features: given.features ?? (small ? 32 : 64),
    layers: given.layers ?? (small ? 2 : 4),
    state: given.state ?? 32,
    mode: given.mode ?? 's4d',
    dropout: given.dropout ?? 0.1,
    epochs,
    updates,
    patience: given.patience ?? Math.max(8, Math.round(epochs / 3)),
    batchSize,
    lr: given.lr ?? 0.005,
    ssmLr: given.ssmLr ?? 0.001,
    weightDecay: given.weightDecay ?? 0.05,
    rates: given.rates ?? (kind === 'audio' ? [1, 1.5, 2] : [1]),
    vary: given.vary ?? kind === 'audio',
  }
}

/** The plan in a sentence. */
export function classPlanText(plan: ClassPlan, { kind, examples, classes, median }: ClassSize): string {
  const { features, layers, state, mode, epochs, updates, batchSize, lr, rates } = plan
  return (
    `${examples} examples (${kind}) of ${classes} classes, ${median} steps in the middle: ${layers} blocks of ${features} features ` +
    `(${mode}, state ${state}); up to ${epochs} epochs of ${updates} updates of ${batchSize} sequences, rate ${lr}` +
    (kind === 'series' || kind === 'audio' ? `; sampling rates ÷ ${rates.join(', ')}` : '')
  )
}
