import { filePath, listOf, rejectUnknownOptions, stepRatio, wholeNumber, type FilePath } from '../check.js'
import { describe, fail, throwIfAborted } from '../error.js'
import type { Inspection } from '../inspection.js'
import { SequenceModel } from '../model.js'
import type { DeviceOptions } from '../options.js'
import { classAbout, classText } from './class-file.js'
import { fileInput, fileOf, type InputFile } from './class-files.js'
import { fitClassifier, type ClassAbout } from './class-fit.js'
import {
  givenExamples,
  givenInput,
  StepMaker,
  type ClassExamples,
  type ClassInput,
  type GivenInput,
  type InputKind,
} from './class-inputs.js'
import { largest, padded, probabilities } from './class-network.js'
import { checkClassifyOptions, rateRatio, type ClassifyOptions } from './class-options.js'
import { ClassStream, type ClassStreamOptions } from './class-stream.js'
import type { F1Scores } from '../scores.js'
import { accuracy, confusion, f1, topK } from './metrics.js'
import { checkTokens, type Tokenizer } from './tokenizer.js'

/** The class of an input. */
export interface Classification {
  /** The most probable class. */
  label: string | number
  /** Its probability. */
  probability: number
  /** The probability of each class, in the order of {@link Classifier.classes}. */
  probabilities: Float64Array
}

/** Figures of a classifier over examples. */
export interface ClassScores {
  /** Number of examples. */
  examples: number
  /** Part of the examples with the right class. */
  accuracy: number
  /** Part of the examples whose class is among the three most probable (fewer where there are fewer classes). */
  top3: number
  /** Part of the examples whose class is among the `topK` most probable, with the option `topK`. */
  topK?: number
  /** exp of the mean cross-entropy. */
  perplexity: number
  /** Mean cross-entropy, in nats. */
  loss: number
  /** F1 scores. */
  f1: F1Scores
  /** Numbers of examples by class: row the actual one, column the predicted one, in the order of {@link Classifier.classes}. */
  confusion: number[][]
}

const made = new WeakSet<object>()

/**
 * Tells classes of series, sounds, pictures or texts, of any length, apart.
 *
 * @example
 * const c = await Classifier.fit(recordings.map(({ samples, digit }) => ({ input: samples, label: digit })), { sampleRate: 8000 })
 * const [{ label }] = await c.predict([samples])
 */
export class Classifier {
  readonly #model: SequenceModel
  readonly #about: ClassAbout
  /** Accuracy over the validation part of {@link Classifier.fit}; undefined of a loaded one. */
  readonly validationAccuracy: number | undefined
  #disposed = false

  private constructor(model: SequenceModel, about: ClassAbout, validationAccuracy: number | undefined) {
    // JavaScript lets a caller get here with anything.
    if (!made.has(about))
      throw fail('ERR_S4_VALUE', 'Classifier', 'Classifier.fit() or Classifier.load()', 'new')
    this.#model = model
    this.#about = about
    this.validationAccuracy = validationAccuracy
  }

  #checkLive(op: string): string {
    const name = `Classifier.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live classifier', 'a disposed one')
    return name
  }

  /**
   * Learns from examples. A part of each class chooses the best epoch. Sizes and rates that are not given are chosen by the
   * data, and told in an event `plan`.
   */
  static async fit(examples: ClassExamples, options: ClassifyOptions = {}): Promise<Classifier> {
    const op = 'Classifier.fit'
    const checked = checkClassifyOptions(op, options)
    const given = await givenExamples(op, examples)
    const { sampleRate } = checked
    if (sampleRate !== undefined && given.sampleRate !== undefined && sampleRate !== given.sampleRate)
      throw fail('ERR_S4_DATA', op, `examples at the option's sampleRate ${sampleRate}`, given.sampleRate)
    checked.sampleRate ??= given.sampleRate
    const { model, about, validationAccuracy } = await fitClassifier(op, given, checked)
    made.add(about)
    return new Classifier(model, about, validationAccuracy)
  }

  /** Loads what {@link Classifier.save} wrote. A tokeniser is not in the file: it is given again as `tokens`. */
  static async load(
    path: FilePath,
    options: Pick<DeviceOptions, 'device' | 'threads' | 'precision'> & { tokens?: Tokenizer } = {},
  ): Promise<Classifier> {
    const op = 'Classifier.load'
    const file = filePath(op, path)
    const { tokens, ...device } = rejectUnknownOptions(op, options, [
      'device',
      'threads',
      'precision',
      'tokens',
    ])
    const tokenizer = tokens === undefined ? undefined : checkTokens(op, tokens)
    if (typeof tokenizer === 'string')
      throw fail('ERR_S4_VALUE', op, 'tokens as a tokeniser', describe(tokens))
    const model = await SequenceModel.load(file, device)
    try {
      const about = classAbout(op, model.extra, model.config, tokenizer)
      made.add(about)
      return new Classifier(model, about, undefined)
    } catch (error) {
      model.dispose()
      throw error
    }
  }

  /** The classes: numbers in ascending order, then texts. */
  get classes(): readonly (string | number)[] {
    return [...this.#about.classes]
  }

  /** What its inputs are: series of values, sound, pictures, or texts. */
  get kind(): InputKind {
    return this.#about.input.kind
  }

  /** Samples a second of the sound that it learned from; undefined of other inputs. */
  get sampleRate(): number | undefined {
    const { kind, sampleRate } = this.#about.input
    return kind === 'audio' ? sampleRate : undefined
  }

  /** Sizes of the pictures that it learned from, (height, width, colours) or (height, width); undefined of other inputs. */
  get pictureSizes(): readonly number[] | undefined {
    const { kind, sizes } = this.#about.input
    return kind === 'image' ? [...sizes] : undefined
  }

  /** Writes network, scales, tokens and class names to one file (safetensors). */
  async save(path: FilePath): Promise<void> {
    const op = this.#checkLive('save')
    await this.#model.save(filePath(op, path), { extra: classText(this.#about), optimizer: false })
  }

  /**
   * The classes of inputs. A string is the path of a recording or a picture, of a classifier of texts it is the text itself; `{ file }` is
   * a file of any of them. `rate` 2 says that they have half as many samples a second as those of the training: nothing is
   * learned again. Pictures and texts have no rate.
   */
  async predict(
    inputs: readonly (ClassInput | InputFile)[] | string,
    options: { rate?: number; signal?: AbortSignal } = {},
  ): Promise<Classification[]> {
    const op = this.#checkLive('predict')
    const { rate, signal } = this.#call(op, options)
    const given = await this.#given(op, inputs, rate, signal)
    if (given.length === 0) return []
    const chances = await this.#probabilities(op, 'each of inputs', given, rate, signal)
    const { classes } = this.#about
    return given.map((_, i) => {
      const own = chances.slice(i * classes.length, (i + 1) * classes.length)
      const best = largest(own, 0, own.length)
      return { label: classes[best] as string | number, probability: own[best] as number, probabilities: own }
    })
  }

  /**
   * What the network has learned, as {@link SequenceModel.inspect} says it, and on which steps of inputs (as
   * {@link Classifier.predict} takes them) its answers depend. Steps are those that the network sees: of sound spectra, of pictures rows or
   * pixels, of texts tokens. With `rate` 2 those of series
   * have half as many samples a second, as in {@link Classifier.predict}: see {@link InspectionOptions.rate}.
   */
  async inspect(
    inputs: readonly (ClassInput | InputFile)[] | string,
    options: { rate?: number; samplingInterval?: number; signal?: AbortSignal } = {},
  ): Promise<Inspection> {
    const op = this.#checkLive('inspect')
    const { samplingInterval, ...call } = rejectUnknownOptions(op, options, [
      'rate',
      'samplingInterval',
      'signal',
    ])
    const { rate, signal } = this.#call(op, call)
    const step =
      samplingInterval === undefined
        ? {}
        : { samplingInterval: stepRatio(op, 'samplingInterval', samplingInterval) }
    const { input } = this.#about
    const given = await this.#given(op, inputs, rate, signal)
    const maker = new StepMaker(input, rate)
    const steps = given.map((x) => maker.scaled(op, 'each of inputs', x, input))
    if (steps.length === 0) throw fail('ERR_S4_VALUE', op, 'inputs, at least one', 'none')
    const { input: data, lengths } = padded(steps, input)
    return this.#model.inspect({
      data,
      ...(lengths && { lengths }),
      // Sound is told apart by spectra, of which there are as many a second at every rate.
      ...(input.kind === 'series' && { rate }),
      ...step,
      ...(signal && { signal }),
    })
  }

  /** Inputs that were read, from files where they are there. */
  async #given(
    op: string,
    inputs: unknown,
    rate: number,
    signal: AbortSignal | undefined,
  ): Promise<GivenInput[]> {
    const { input } = this.#about
    const list = typeof inputs === 'string' ? [inputs] : listOf(op, 'inputs', inputs)
    // Asynchronous throughout: a wrong input must not leave the reading of a file before it without a handler.
    return Promise.all(
      list.map(async (x) => {
        const file = fileOf(op, x, input.kind)
        return file === undefined
          ? givenInput(op, 'each of inputs', x)
          : fileInput(op, file, input, rate, signal)
      }),
    )
  }

  /** Figures over examples. A label that is no class of this classifier is `ERR_S4_DATA`. */
  async evaluate(
    examples: ClassExamples,
    options: { rate?: number; topK?: number; signal?: AbortSignal } = {},
  ): Promise<ClassScores> {
    const op = this.#checkLive('evaluate')
    const { topK: k, ...others } = rejectUnknownOptions(op, options, ['rate', 'topK', 'signal'])
    const { rate: asked, signal } = this.#call(op, others)
    if (k !== undefined) wholeNumber(op, 'topK', k, 1, this.#about.classes.length)
    const { inputs, labels, sampleRate } = await givenExamples(op, examples)
    const rate = this.#rateOf(op, asked, others.rate === undefined ? sampleRate : undefined)
    const { classes } = this.#about
    const actual = labels.map((label) => {
      const place = classes.indexOf(label)
      if (place < 0)
        throw fail('ERR_S4_DATA', op, `label of each of examples one of ${classes.join(', ')}`, String(label))
      return place
    })
    const chances = await this.#probabilities(op, 'input of each of examples', inputs, rate, signal)
    const count = classes.length
    const predicted = actual.map((_, i) => largest(chances, i * count, count))
    const counts = confusion(actual, predicted, count)
    const losses = actual.map((label, i) => -Math.log(Math.max(chances[i * count + label] as number, 1e-300)))
    const loss = losses.reduce((a, b) => a + b, 0) / losses.length
    return {
      examples: actual.length,
      accuracy: accuracy(actual, predicted),
      top3: topK(actual, chances, Math.min(3, count)),
      ...(k !== undefined && { topK: topK(actual, chances, k) }),
      loss,
      perplexity: Math.exp(loss),
      f1: f1(counts),
      confusion: counts,
    }
  }

  /** The rate of recordings that say their own: that of the training over theirs. */
  #rateOf(op: string, rate: number, sampleRate: number | undefined): number {
    const { kind, sampleRate: trained } = this.#about.input
    if (kind !== 'audio' || sampleRate === undefined) return rate
    return rateRatio(
      op,
      `sampleRate of the training (${trained}) over that of examples`,
      trained / sampleRate,
    )
  }

  /** Checks the options of a call. */
  #call(op: string, options: { rate?: number; signal?: AbortSignal }) {
    const { rate = 1, signal } = rejectUnknownOptions(op, options, ['rate', 'signal'])
    throwIfAborted(op, signal)
    rateRatio(op, 'rate', rate)
    const { kind } = this.#about.input
    if (rate !== 1 && (kind === 'image' || kind === 'text'))
      throw fail('ERR_S4_UNSUPPORTED', op, `no rate for ${kind === 'image' ? 'pictures' : 'texts'}`, rate)
    return { rate, signal }
  }

  async #probabilities(
    op: string,
    what: string,
    inputs: readonly GivenInput[],
    rate: number,
    signal: AbortSignal | undefined,
  ): Promise<Float64Array> {
    const { input, classes } = this.#about
    const maker = new StepMaker(input, rate)
    const steps = inputs.map((x) => maker.scaled(op, what, x, input))
    return probabilities(this.#model, steps, {
      plan: input,
      classes: classes.length,
      rate: input.kind === 'series' ? rate : 1,
      signal,
    })
  }

  /**
   * Classifies what comes in piece by piece: every `hop` samples (of texts tokens) the last `window` of them. A class is reported when it has won
   * `debounce` times in a row with at least the probability `threshold`, and then not again before another one has.
   */
  stream(options: ClassStreamOptions = {}): ClassStream {
    const op = this.#checkLive('stream')
    const given = rejectUnknownOptions(op, options, ['window', 'hop', 'debounce', 'threshold', 'rate'])
    const { rate } = this.#call(op, given.rate === undefined ? {} : { rate: given.rate })
    const { input, window: usual } = this.#about
    if (input.kind === 'image')
      throw fail('ERR_S4_UNSUPPORTED', op, 'a classifier of series, sound or texts', 'one of pictures')
    const { window = Math.max(1, Math.round(usual / rate)), debounce = 2, threshold = 0.5 } = given
    wholeNumber(op, 'window', window, 1, 2 ** 28)
    const { hop = Math.max(1, Math.floor(window / 4)) } = given
    wholeNumber(op, 'hop', hop, 1, 2 ** 28)
    wholeNumber(op, 'debounce', debounce, 1, 1 << 20)
    if (typeof threshold !== 'number' || !(threshold >= 0 && threshold <= 1))
      throw fail('ERR_S4_VALUE', op, 'threshold from 0 to 1', threshold)
    return ClassStream.open(this.#model, this.#about, { window, hop, debounce, threshold, rate })
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
