// Options of a generator, and their checks; sizes chosen by the text.
import { numberIn32Bits, rejectUnknownOptions, wholeNumber } from '../check.js'
import { describe, fail } from '../error.js'
import { checkTaskOptions, TASK_OPTIONS, type CheckedTaskOptions, type TaskTrainOptions } from './options.js'
import { checkTokens, type CheckedTokens, type TokenKind } from './tokenizer.js'

/** Options of {@link Generator.fit}. */
export interface GeneratorOptions extends TaskTrainOptions {
  /** What a text is made of: bytes of UTF-8, the characters that it has, or a tokeniser of your own. Default `'bytes'`. */
  tokens?: TokenKind
  /** Tokens of one example of training. Default 256, or as many as the text allows. */
  window?: number
  /** Part of the text, its end, that chooses the best epoch. Default 0.1. */
  validation?: number
}

/** {@link GeneratorOptions} after the check. */
export interface CheckedGeneratorOptions extends CheckedTaskOptions {
  tokens: CheckedTokens
  window: number | undefined
  validation: number
}

export function checkGeneratorOptions(op: string, given: unknown): CheckedGeneratorOptions {
  const names = [...TASK_OPTIONS, 'tokens', 'window', 'validation']
  const options = rejectUnknownOptions(op, given as GeneratorOptions, names)
  const { tokens = 'bytes', window, validation = 0.1 } = options
  if (window !== undefined) wholeNumber(op, 'window', window, 2, 1 << 24)
  if (numberIn32Bits(op, 'validation', validation) <= 0 || validation > 0.5)
    throw fail('ERR_S4_VALUE', op, 'validation as a share above 0, up to 0.5', describe(validation))
  return { ...checkTaskOptions(op, options), tokens: checkTokens(op, tokens), window, validation }
}

/** Every option of the training, with its value. */
export interface GeneratorPlan {
  readonly features: number
  readonly layers: number
  readonly state: number
  readonly mode: 's4' | 's4d'
  readonly dropout: number
  readonly window: number
  readonly epochs: number
  readonly updates: number
  readonly patience: number
  readonly batchSize: number
  readonly lr: number
  readonly ssmLr: number
  readonly weightDecay: number
}

/** Tokens that a training by default sees in all: minutes on two cores. */
const TOKENS_SEEN = 4e6

/** The plan for so many tokens to learn from. */
export function generatorPlan(tokens: number, given: CheckedGeneratorOptions): GeneratorPlan {
  const window = Math.min(given.window ?? 256, tokens - 1)
  const examples = Math.max(1, Math.floor((tokens - 1) / window))
  const batchSize = Math.min(given.batchSize ?? 16, examples)
  const small = tokens < 100_000
  const epochs = given.epochs ?? Math.max(4, Math.min(40, Math.round(TOKENS_SEEN / tokens)))
  return {
    features: given.features ?? (small ? 64 : 128),
    layers: given.layers ?? (small ? 2 : 4),
    state: given.state ?? 32,
    mode: given.mode ?? 's4d',
    dropout: given.dropout ?? 0.1,
    window,
    epochs,
    updates: Math.ceil(examples / batchSize),
    patience: given.patience ?? Math.max(3, Math.round(epochs / 4)),
    batchSize,
    lr: given.lr ?? 0.005,
    ssmLr: given.ssmLr ?? 0.001,
    weightDecay: given.weightDecay ?? 0.05,
  }
}

/** The plan in a sentence. */
export function generatorPlanText(plan: GeneratorPlan, tokens: number, kinds: number): string {
  const { features, layers, state, mode, epochs, updates, batchSize, window, lr } = plan
  return (
    `${tokens} tokens of ${kinds} kinds: ${layers} blocks of ${features} features (${mode}, state ${state}); up to ${epochs} epochs ` +
    `of ${updates} updates of ${batchSize} windows of ${window} tokens, rate ${lr}`
  )
}
