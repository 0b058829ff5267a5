// Generation and scores of tokens: the checks of what a caller gives, and the iterator over what comes off the event loop.
import type { GenerateCall, NativeModel } from '#binding'
import type { NativeAccess } from './access.js'
import { listOf, rejectUnknownOptions, wholeNumber } from './check.js'
import { describe, fail, readGiven, throwIfAborted } from './error.js'
import { floatsOfShape, integers, rateOf, type Dtype, type Floats, type TensorLike } from './tensor.js'

/** Options of what the tokens of a model stand for. */
export interface TokenOptions {
  /**
   * The input values of each class, (classes, input), of a model whose encoder is no embedding: what it is given for a token,
   * such as `{ data: grey levels from 0 to 1, shape: [256, 1] }` for pixels.
   */
  inputs?: TensorLike
  /** Ratio of sampling rates, by which every step size is multiplied. Default 1; a stream has its own. */
  rate?: number
  /** Ends the work within some milliseconds when it fires, with `ERR_S4_ABORTED`. */
  signal?: AbortSignal
}

/**
 * How tokens are chosen. The filters come in this order, as in Hugging Face's `transformers`: repetition penalty, temperature,
 * topK, topP, minP.
 */
export interface SamplingOptions {
  /** Divides the logits. 0 takes the most probable token, the first of equals. Default 1. */
  temperature?: number
  /** Keeps so many of the most probable tokens, and those as probable as the last of them. Default 0: all. */
  topK?: number
  /**
   * Keeps the fewest of the most probable tokens whose probabilities sum to at least this; of two that are equally probable the
   * one with the smaller number comes first. Default 1: all.
   */
  topP?: number
  /** Keeps tokens whose probability is at least this part of the largest. Default 0: all. */
  minP?: number
  /** Divides the logits above 0 of tokens that the prompt or the text so far has, and multiplies those below 0. Default 1. */
  repetitionPenalty?: number
  /** Seed of the random numbers: the same gives the same tokens. Default another one every time. */
  seed?: number
}

/** Options of {@link SequenceModel.generate} and {@link ModelStream.generate}. */
export interface GenerateOptions extends TokenOptions, SamplingOptions {
  /** Most tokens of each sequence. Default 256. */
  maxTokens?: number
  /**
   * Tokens, or sequences of tokens, after which a sequence ends; its last tokens are then those. Only what was generated is
   * looked at, not the prompt.
   */
  stop?: readonly (number | ArrayLike<number>)[]
}

/** One step of a generation. */
export interface GeneratedStep {
  /** The next token of each sequence; −1 of one that has ended before. */
  tokens: Int32Array
  /**
   * The logarithm of the probability of each token by the model itself, before temperature and filters; NaN of a sequence that
   * has ended before.
   */
  logProbabilities: Float64Array
}

/** One sequence of tokens, or several, of any lengths. */
export type TokenSequences = ArrayLike<number> | readonly ArrayLike<number>[]

/** What a model's tokens are: their number, and the values that stand for one (undefined where tokens go in as they are). */
export interface TokenShape {
  readonly classes: number
  readonly width: number | undefined
  readonly dtype: Dtype
}

/** Milliseconds of one native call: the most that an abort waits for, while the calls themselves take microseconds. */
const CALL_MILLISECONDS = 8
/** Most tokens of one call: their lengths are counted in 32 bits. */
const MOST_TOKENS = 2 ** 31 - 1

/** Checks one sequence of at least one token. */
function sequenceOf(op: string, what: string, x: unknown): Int32Array {
  const count: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<number>).length : undefined
  if (typeof count !== 'number')
    throw fail('ERR_S4_DTYPE', op, `${what} as an array of tokens, or an array of such arrays`, describe(x))
  if (count === 0) throw fail('ERR_S4_SHAPE', op, `${what} of at least one token`, 'none')
  if (count > MOST_TOKENS) throw fail('ERR_S4_SHAPE', op, `${what} of at most 2^31 tokens`, count)
  return integers(op, what, x as ArrayLike<number>)
}

/** Checks one sequence or several, and gives a list of them. */
export function tokenSequences(op: string, what: string, x: unknown): Int32Array[] {
  return readGiven(op, what, () => {
    const first: unknown = Array.isArray(x) ? x[0] : undefined
    if (typeof first !== 'object' || first === null) return [sequenceOf(op, what, x)]
    return listOf(op, what, x).map((each) => sequenceOf(op, `each ${what}`, each))
  })
}

/** The sequences one after the other, and their lengths. */
function joined(op: string, what: string, sequences: readonly Int32Array[]) {
  const lengths = Int32Array.from(sequences, (each) => each.length)
  const count = sequences.reduce((sum, each) => sum + each.length, 0)
  if (count > MOST_TOKENS) throw fail('ERR_S4_SHAPE', op, `${what} of at most 2^31 tokens in all`, count)
  const tokens = new Int32Array(count)
  let at = 0
  for (const each of sequences) {
    tokens.set(each, at)
    at += each.length
  }
  return { tokens, lengths }
}

/** Checks a number from `least` to `most`. */
function within(op: string, what: string, x: unknown, least: number, most: number): number {
  if (typeof x !== 'number' || !(x >= least && x <= most))
    throw fail('ERR_S4_VALUE', op, `${what} from ${least} to ${most}`, describe(x))
  return x
}

/** Checks how tokens are chosen; `options` have been read. */
export function checkSampling(op: string, options: SamplingOptions) {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options
  const { seed = Math.floor(Math.random() * 2 ** 48) } = options
  if (within(op, 'topP', topP, 0, 1) === 0) throw fail('ERR_S4_VALUE', op, 'topP above 0, up to 1', 0)
  return {
    temperature: within(op, 'temperature', temperature, 0, 1e6),
    topK: wholeNumber(op, 'topK', topK, 0, 2 ** 31),
    topP,
    minP: within(op, 'minP', minP, 0, 1),
    repetitionPenalty: within(op, 'repetitionPenalty', repetitionPenalty, 0.01, 100),
    seed: wholeNumber(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER),
  }
}

/** The names of {@link SamplingOptions}. */
export const SAMPLING_OPTIONS = ['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'seed'] as const

/** Checks the stop sequences. */
function stopSequences(op: string, stop: unknown, classes: number): Int32Array[] {
  if (stop === undefined) return []
  return listOf(op, 'stop', stop).map((each) => {
    const one = () => sequenceOf(op, 'each of stop', typeof each === 'number' ? [each] : each)
    const tokens = readGiven(op, 'stop', one)
    const wrong = tokens.find((token) => token < 0 || token >= classes)
    if (wrong !== undefined) throw fail('ERR_S4_VALUE', op, `tokens of stop from 0 to ${classes - 1}`, wrong)
    return tokens
  })
}

/** Checks the values that stand for the classes. */
function classInputs(op: string, inputs: unknown, { classes, width, dtype }: TokenShape): Floats | undefined {
  if (inputs === undefined) return undefined
  if (width === undefined)
    throw fail('ERR_S4_VALUE', op, `no 'inputs' for a model that takes tokens`, describe(inputs))
  // A copy: the caller may change the array before it is used.
  return floatsOfShape(op, 'inputs', inputs, [classes, width], dtype).slice()
}

/** Frees generations whose iterators were garbage-collected before their end. */
const finalizer = new FinalizationRegistry<() => void>((free) => free())

/** An iterator over a generation, from zero states or from those of the stream number `stream`. Checks everything at once. */
export function generate(
  access: NativeAccess<NativeModel>,
  op: string,
  shape: TokenShape,
  prompt: TokenSequences,
  options: GenerateOptions,
  stream?: number,
): AsyncGenerator<GeneratedStep, void, void> {
  const names = [...SAMPLING_OPTIONS, 'maxTokens', 'stop', 'inputs', 'signal']
  const given = rejectUnknownOptions(op, options, stream === undefined ? [...names, 'rate'] : names)
  throwIfAborted(op, given.signal)
  const { maxTokens = 256 } = given
  const { tokens: prompts, lengths } = joined(op, 'prompt', tokenSequences(op, 'prompt', prompt))
  const stop = joined(op, 'stop', stopSequences(op, given.stop, shape.classes))
  const inputs = classInputs(op, given.inputs, shape)
  const call: GenerateCall = {
    prompts,
    lengths,
    ...(stream !== undefined && { stream }),
    ...(inputs !== undefined && { inputs }),
    rate: rateOf(op, given.rate),
    maxTokens: wholeNumber(op, 'maxTokens', maxTokens, 1, Number.MAX_SAFE_INTEGER),
    ...checkSampling(op, given),
    stop: stop.tokens,
    stopLengths: stop.lengths,
  }
  const opened: Opened = { free: () => undefined }
  const iterator = steps(access, op, call, opened, given.signal)
  finalizer.register(iterator, () => opened.free())
  return iterator
}

/** How the native side of a generation is freed. */
interface Opened {
  free: () => void
}

async function* steps(
  access: NativeAccess<NativeModel>,
  op: string,
  call: GenerateCall,
  opened: Opened,
  signal: AbortSignal | undefined,
): AsyncGenerator<GeneratedStep, void, void> {
  throwIfAborted(op, signal)
  const batch = call.lengths.length
  const id = await access.read('generate', (handle) => handle.generateOpen(call))
  opened.free = () => {
    opened.free = () => undefined
    access.free((handle) => handle.generateClose(id))
  }
  try {
    for (let done = false; !done;) {
      const next = await access.read(
        'generate',
        (handle, cancel) => handle.generateNext(id, CALL_MILLISECONDS, cancel),
        signal,
      )
      done = next.done
      for (let at = 0; at < next.tokens.length; at += batch) {
        throwIfAborted(op, signal)
        yield {
          tokens: next.tokens.subarray(at, at + batch),
          logProbabilities: next.logProbabilities.subarray(at, at + batch),
        }
      }
    }
  } finally {
    opened.free()
  }
}

/** The scores of sequences, one after the other. */
export async function score(
  access: NativeAccess<NativeModel>,
  op: string,
  shape: TokenShape,
  tokens: TokenSequences,
  options: TokenOptions,
): Promise<Float64Array[]> {
  const given = rejectUnknownOptions(op, options, ['inputs', 'rate', 'signal'])
  const rate = rateOf(op, given.rate)
  const inputs = classInputs(op, given.inputs, shape)
  const scores: Float64Array[] = []
  const sequences = tokenSequences(op, 'tokens', tokens).map((sequence) => sequence.slice())
  for (const sequence of sequences)
    scores.push(
      await access.read(
        'score',
        (handle, cancel) => handle.score(sequence, inputs, rate, cancel),
        given.signal,
      ),
    )
  return scores
}
