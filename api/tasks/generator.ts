import { types } from 'node:util'
import { filePath, listOf, rejectUnknownOptions, textOf, wholeNumber, type FilePath } from '../check.js'
import { describe, fail, throwIfAborted } from '../error.js'
import { checkSampling, SAMPLING_OPTIONS, type SamplingOptions } from '../generate.js'
import type { Inspection } from '../inspection.js'
import { SequenceModel } from '../model.js'
import type { DeviceOptions } from '../options.js'
import { generatorAbout, generatorText } from './generate-file.js'
import { boundaryOf, fitGenerator, givenTexts, type GeneratorAbout, type TextSource } from './generate-fit.js'
import { checkGeneratorOptions, type GeneratorOptions } from './generate-options.js'
import { StopText } from './stop-text.js'
import { checkTokens, type Tokenizer } from './tokenizer.js'

/** Options of {@link Generator.generate}. */
export interface TextOptions extends SamplingOptions {
  /** Most tokens. Default 256. */
  maxTokens?: number
  /** Texts at which the generation ends; they are not given. They may go over the borders of tokens. */
  stop?: readonly string[]
  /** Ends the generation within some milliseconds when it fires, with `ERR_S4_ABORTED`. */
  signal?: AbortSignal
}

/** How probable a text is. */
export interface TextScore {
  /** Number of its tokens. */
  tokens: number
  /** Number of its bytes in UTF-8. */
  bytes: number
  /** The natural logarithm of its probability. */
  logProbability: number
  /** e to the mean of −log p over its tokens: as if so many tokens were equally probable each time. */
  perplexity: number
  /** Mean of −log₂ p over its bytes: what an ideal compression by this model would need. */
  bitsPerByte: number
  /** The logarithm of the probability of each token, given those before it. */
  logProbabilities: Float64Array
}

const made = new WeakSet<object>()

/**
 * Learns to write like a text, token by token (bytes, characters or those of a tokeniser), and says how probable a text is.
 *
 * @example
 * const generator = await Generator.fit({ file: 'book.txt' }, { maxSeconds: 600 })
 * for await (const piece of generator.generate('Once ', { temperature: 0.8, maxTokens: 400, seed: 1 })) process.stdout.write(piece)
 */
export class Generator {
  readonly #model: SequenceModel
  readonly #about: GeneratorAbout
  /** Mean −log p of a token of the validation part of {@link Generator.fit}, in nats; undefined of a loaded one. */
  readonly validationLoss: number | undefined
  #disposed = false

  private constructor(model: SequenceModel, about: GeneratorAbout, validationLoss: number | undefined) {
    // JavaScript lets a caller get here with anything.
    if (!made.has(about))
      throw fail('ERR_S4_VALUE', 'Generator', 'Generator.fit() or Generator.load()', 'new')
    this.#model = model
    this.#about = about
    this.validationLoss = validationLoss
  }

  #checkLive(op: string): string {
    const name = `Generator.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live generator', 'a disposed one')
    return name
  }

  /**
   * Learns from a text, or from several that have nothing to do with each other, such as poems: their beginnings and ends are then
   * learned too. The end of the whole, or the last of them, chooses the best epoch. Sizes and rates that are not given are chosen
   * by the text's length, and told in an event `plan`.
   */
  static async fit(
    text: TextSource | readonly TextSource[],
    options: GeneratorOptions = {},
  ): Promise<Generator> {
    const op = 'Generator.fit'
    const checked = checkGeneratorOptions(op, options)
    const texts = givenTexts(op, text)
    const { model, about, validationLoss } = await fitGenerator(op, texts, checked)
    made.add(about)
    return new Generator(model, about, validationLoss)
  }

  /** Loads what {@link Generator.save} wrote. A tokeniser is not in the file: it is given again as `tokens`. */
  static async load(
    path: FilePath,
    options: Pick<DeviceOptions, 'device' | 'threads' | 'precision'> & { tokens?: Tokenizer } = {},
  ): Promise<Generator> {
    const op = 'Generator.load'
    const file = filePath(op, path)
    const given = rejectUnknownOptions(op, options, ['device', 'threads', 'precision', 'tokens'])
    const { tokens, ...device } = given
    const tokenizer = tokens === undefined ? undefined : checkTokens(op, tokens)
    if (typeof tokenizer === 'string')
      throw fail('ERR_S4_VALUE', op, 'tokens as a tokeniser', describe(tokens))
    const model = await SequenceModel.load(file, device)
    try {
      const about = generatorAbout(op, model.extra, model.config, tokenizer)
      made.add(about)
      return new Generator(model, about, undefined)
    } catch (error) {
      model.dispose()
      throw error
    }
  }

  /** Writes network and tokens to one file (safetensors). */
  async save(path: FilePath): Promise<void> {
    const op = this.#checkLive('save')
    await this.#model.save(filePath(op, path), { extra: generatorText(this.#about), optimizer: false })
  }

  /** The tokens of a checked text, or of bytes, after the boundary of a text. */
  #tokensOf(op: string, what: string, text: string | Uint8Array): Int32Array {
    const { codec } = this.#about
    const tokens = codec.encode(op, what, text)
    const all = new Int32Array(tokens.length + 1)
    all[0] = boundaryOf(codec)
    all.set(tokens, 1)
    return all
  }

  /** Checks the options of a generation, and gives them for the model. */
  #call(op: string, options: Omit<TextOptions, 'stop'>): Parameters<SequenceModel['generate']>[1] {
    const { maxTokens = 256, signal } = options
    throwIfAborted(op, signal)
    return {
      ...checkSampling(op, options),
      maxTokens: wholeNumber(op, 'maxTokens', maxTokens, 1, Number.MAX_SAFE_INTEGER),
      stop: [boundaryOf(this.#about.codec)],
      ...(signal !== undefined && { signal }),
    }
  }

  /**
   * Continues a text, or begins one where the prompt is empty: yields pieces of text as they come off the event loop, never a part
   * of a character. Ends after `maxTokens` tokens, at a text of `stop`, or where the model ends the text.
   */
  generate(prompt: string, options: TextOptions = {}): AsyncGenerator<string, void, void> {
    const op = this.#checkLive('generate')
    const names = [...SAMPLING_OPTIONS, 'maxTokens', 'stop', 'signal']
    const given = rejectUnknownOptions(op, options, names)
    const { stop = [] } = given
    const stops = listOf(op, 'stop', stop).map((each) => {
      if (typeof each !== 'string' || each === '')
        throw fail(
          'ERR_S4_VALUE',
          op,
          'each of stop as a text',
          each === '' ? 'an empty one' : describe(each),
        )
      return each
    })
    const tokens = this.#tokensOf(op, 'prompt', textOf(op, 'prompt', prompt))
    return this.#pieces(tokens, this.#call(op, given), new StopText(stops))
  }

  async *#pieces(
    tokens: Int32Array,
    call: Parameters<SequenceModel['generate']>[1],
    stop: StopText,
  ): AsyncGenerator<string, void, void> {
    // Without the boundary before the prompt, which is no token of the tokeniser.
    const decode = this.#about.codec.decoder(tokens.subarray(1))
    for await (const token of this.#tokens(tokens, call)) {
      const text = stop.add(decode(token))
      if (text !== '') yield text
      if (stop.found) return
    }
    const rest = stop.end()
    if (rest !== '') yield rest
  }

  /** The tokens of a generation up to the end of a text. */
  async *#tokens(
    tokens: Int32Array,
    call: Parameters<SequenceModel['generate']>[1],
  ): AsyncGenerator<number, void, void> {
    for await (const step of this.#model.generate(tokens, call)) {
      const token = step.tokens[0] as number
      if (token === boundaryOf(this.#about.codec)) return
      yield token
    }
  }

  /**
   * As {@link Generator.generate}, for bytes that are no text, such as grey levels row by row, or sound in 8 bits (μ-law): yields them
   * one by one. For a generator of `tokens: 'bytes'`; `ERR_S4_UNSUPPORTED` for others.
   */
  generateBytes(
    prompt: Uint8Array,
    options: Omit<TextOptions, 'stop'> = {},
  ): AsyncGenerator<number, void, void> {
    const op = this.#checkLive('generateBytes')
    const given = rejectUnknownOptions(op, options, [...SAMPLING_OPTIONS, 'maxTokens', 'signal'])
    if (!types.isUint8Array(prompt))
      throw fail('ERR_S4_VALUE', op, 'prompt as a Uint8Array', describe(prompt))
    const { kind } = this.#about.codec
    if (kind !== 'bytes')
      throw fail('ERR_S4_UNSUPPORTED', op, `a generator of tokens 'bytes'`, kind === 'own' ? 'others' : kind)
    return this.#tokens(this.#tokensOf(op, 'prompt', prompt), this.#call(op, given))
  }

  /** How probable a text is: perplexity, and bits a byte. For a generator of `tokens: 'bytes'` bytes may be given too. */
  async score(text: string | Uint8Array, options: { signal?: AbortSignal } = {}): Promise<TextScore> {
    const op = this.#checkLive('score')
    const { signal } = rejectUnknownOptions(op, options, ['signal'])
    throwIfAborted(op, signal)
    const tokens = this.#tokensOf(op, 'text', this.#givenText(op, text))
    if (tokens.length < 2) throw fail('ERR_S4_DATA', op, 'text of at least one token', 'none')
    const [scores] = await this.#model.score(tokens, { ...(signal !== undefined && { signal }) })
    const logProbabilities = scores as Float64Array
    const logProbability = logProbabilities.reduce((a, b) => a + b, 0)
    const bytes = typeof text === 'string' ? Buffer.byteLength(text) : text.length
    return {
      tokens: logProbabilities.length,
      bytes,
      logProbability,
      perplexity: Math.exp(-logProbability / logProbabilities.length),
      bitsPerByte: -logProbability / Math.LN2 / bytes,
      logProbabilities,
    }
  }

  /**
   * What the network has learned, as {@link SequenceModel.inspect} says it, and on which tokens of a text (after the boundary that it
   * begins with) its answer at the end depends. For a generator of `tokens: 'bytes'` bytes may be given too.
   */
  async inspect(text: string | Uint8Array, options: { signal?: AbortSignal } = {}): Promise<Inspection> {
    const op = this.#checkLive('inspect')
    const { signal } = rejectUnknownOptions(op, options, ['signal'])
    throwIfAborted(op, signal)
    const tokens = this.#tokensOf(op, 'text', this.#givenText(op, text))
    return this.#model.inspect({
      data: { data: tokens, shape: [1, tokens.length] },
      ...(signal !== undefined && { signal }),
    })
  }

  /** A text, or bytes of a generator of bytes. */
  #givenText(op: string, text: unknown): string | Uint8Array {
    if (typeof text === 'string' || (this.#about.codec.kind === 'bytes' && types.isUint8Array(text)))
      return text
    throw fail('ERR_S4_VALUE', op, 'text as a string, or as bytes where tokens are', describe(text))
  }

  /** Frees the network. A second call does nothing. */
  dispose(): void {
    this.#disposed = true
    this.#model.dispose()
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
