// What a classifier's file holds beside its network: the metadata `extra` of the checkpoint, as JSON.
import { fail } from '../error.js'
import type { ModelConfig } from '../options.js'
import type { ClassAbout } from './class-fit.js'
import { inputKinds, type InputPlan } from './class-inputs.js'
import { savedCodec, savedTokens, type CheckedTokenizer, type SavedTokens } from './tokenizer.js'

const FORMAT = 1

/** An {@link InputPlan} in a file: what makes tokens is said, not held. */
type SavedInput = Omit<InputPlan, 'codec'> & { readonly tokens?: SavedTokens }

export function classText(about: ClassAbout): string {
  const { means, deviations, codec, ...input } = about.input
  const saved: SavedInput = {
    ...input,
    means: Array.from(means),
    deviations: Array.from(deviations),
    ...(codec !== undefined && { tokens: savedTokens(codec) }),
  }
  return JSON.stringify({ task: 'classify', format: FORMAT, ...about, input: saved })
}

/** Reads what {@link classText} gave. `ERR_S4_CHECKPOINT` for anything else, before the network is used. */
export function classAbout(
  op: string,
  text: string | undefined,
  config: Readonly<ModelConfig>,
  tokenizer: CheckedTokenizer | undefined,
): ClassAbout {
  const wrong = (got: string) => fail('ERR_S4_CHECKPOINT', op, 'a file that Classifier.save wrote', got)
  let given: { task?: unknown; format?: unknown; input?: SavedInput } & Partial<Omit<ClassAbout, 'input'>>
  try {
    given = JSON.parse(text ?? '') as typeof given
  } catch {
    throw wrong('a model that does not say its classes')
  }
  if (given?.task !== 'classify')
    throw wrong(
      typeof given?.task === 'string' ? `a file of the task '${given.task}'` : 'a model of another program',
    )
  if (given.format !== FORMAT) throw wrong(`one of the format ${String(given.format)}`)
  const { input: saved, classes, window, rates } = given
  if (saved === undefined || typeof saved !== 'object' || saved === null) throw wrong('a damaged one')
  const { tokens, ...input } = saved
  const codec = input.kind === 'text' ? savedCodec(op, 'classifier', tokens, tokenizer) : undefined
  if (input.kind !== 'text' && tokenizer !== undefined)
    throw fail('ERR_S4_VALUE', op, `no 'tokens' for a classifier of ${String(input.kind)}`, 'a tokeniser')
  const isNumbers = (x: unknown, count: number) =>
    Array.isArray(x) && x.length === count && x.every((v) => Number.isFinite(v))
  const { encoder, vocabulary, input: width, output } = config
  const ofNetwork =
    input.kind === 'text'
      ? codec !== undefined && encoder === 'embedding' && vocabulary === codec.size && input.width === 1
      : encoder === 'linear' && width === input.width
  const right =
    Array.isArray(classes) &&
    classes.length === output &&
    classes.every((name) => typeof name === 'string' || Number.isFinite(name)) &&
    Number.isSafeInteger(window) &&
    (window as number) > 0 &&
    Array.isArray(rates) &&
    isNumbers(rates, rates.length) &&
    inputKinds.includes(input.kind) &&
    Array.isArray(input.sizes) &&
    (isNumbers(input.sizes, input.kind === 'image' ? 3 : 1) ||
      (input.kind === 'image' && isNumbers(input.sizes, 2))) &&
    Number.isSafeInteger(input.width) &&
    ofNetwork &&
    (input.maxLength === undefined || (Number.isSafeInteger(input.maxLength) && input.maxLength > 0)) &&
    Number.isFinite(input.sampleRate) &&
    isNumbers(input.means, input.width) &&
    isNumbers(input.deviations, input.width) &&
    Array.from(input.deviations).every((d) => d > 0)
  if (!right) throw wrong('a damaged one')
  return {
    input: { ...input, ...(codec !== undefined && { codec }) },
    classes,
    window: window as number,
    rates: rates as number[],
  }
}
