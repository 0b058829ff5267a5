import { fail } from '../error.js'
import type { SequenceModel } from '../model.js'
import type { ClassAbout } from './class-fit.js'
import { givenInput, StepMaker, type ClassInput, type GivenInput } from './class-inputs.js'
import { largest, padded, softmax } from './class-network.js'
import { checkOutputs } from './outputs.js'

/** Options of {@link Classifier.stream}. */
export interface ClassStreamOptions {
  /** Samples (or time steps, or tokens of texts) that are classified at a time. Default as many as the examples of the training had. */
  window?: number
  /** Samples between two classifications. Default a quarter of the window. */
  hop?: number
  /** Windows in a row that a class has to win to be reported. Default 2. */
  debounce?: number
  /** Least probability with which it has to win. Default 0.5. */
  threshold?: number
  /** Ratio of sampling rates: 2 for half as many samples a second as the training had. Default 1. */
  rate?: number
}

/** The class of a window of a stream. */
export interface WindowClass {
  /** Number of samples (of texts tokens) so far, at the end of the window. */
  position: number
  /** The most probable class. */
  label: string | number
  /** Its probability. */
  probability: number
  /** Whether it is reported with this window: it has won often enough, and is another class than the last report. */
  report: boolean
}

const opened = new WeakSet<object>()

/** A classifier that listens, see {@link Classifier.stream}. */
export class ClassStream {
  readonly #model: SequenceModel
  readonly #about: ClassAbout
  readonly #options: Required<ClassStreamOptions>
  readonly #maker: StepMaker
  readonly #channels: number
  /** The last samples, or tokens, those of the window at its end. */
  #ring: Float32Array
  #position = 0
  #run: { label: number; wins: number } = { label: -1, wins: 0 }
  #reported = -1
  #disposed = false

  private constructor(model: SequenceModel, about: ClassAbout, options: Required<ClassStreamOptions>) {
    // JavaScript lets a caller get here with anything.
    if (!opened.has(options)) throw fail('ERR_S4_VALUE', 'ClassStream', 'Classifier.stream()', 'new')
    this.#model = model
    this.#about = about
    this.#options = options
    this.#maker = new StepMaker(about.input, options.rate)
    this.#channels = about.input.sizes[0] as number
    this.#ring = new Float32Array(options.window * this.#channels)
  }

  /** @internal */
  static open(model: SequenceModel, about: ClassAbout, options: Required<ClassStreamOptions>): ClassStream {
    opened.add(options)
    return new ClassStream(model, about, options)
  }

  /** Number of samples so far. */
  get position(): number {
    return this.#position
  }

  /**
   * The next samples, values (len, channels) or piece of text, any number of them; gives the class of each window that ended in them.
   * What is refused leaves the stream as it was.
   */
  push(samples: ClassInput): WindowClass[] {
    const op = 'ClassStream.push'
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', op, 'a live stream', 'a disposed one')
    const data = this.#valuesOf(op, givenInput(op, 'samples', samples))
    const former = {
      ring: this.#ring.slice(),
      position: this.#position,
      run: this.#run,
      reported: this.#reported,
    }
    try {
      return this.#take(op, data, data.length / this.#channels)
    } catch (error) {
      this.#ring = former.ring
      this.#position = former.position
      this.#run = former.run
      this.#reported = former.reported
      throw error
    }
  }

  /** The values of what was pushed: of a text its tokens. */
  #valuesOf(op: string, given: GivenInput): Float32Array {
    const { codec, kind } = this.#about.input
    const channels = this.#channels
    if ('text' in given) {
      if (codec !== undefined) return Float32Array.from(codec.encode(op, 'samples', given.text))
      throw fail('ERR_S4_DATA', op, `samples as numbers, of a classifier of ${kind}`, 'a text')
    }
    const { data, sizes } = given
    if (codec !== undefined) throw fail('ERR_S4_DATA', op, 'samples as a text', `sizes ${sizes.join(' × ')}`)
    if (sizes.length !== 2 || sizes[1] !== channels)
      throw fail('ERR_S4_SHAPE', op, `samples (len, ${channels})`, `sizes ${sizes.join(' × ')}`)
    return data
  }

  #take(op: string, data: Float32Array, length: number): WindowClass[] {
    const { window, hop } = this.#options
    const channels = this.#channels
    const said: WindowClass[] = []
    for (let at = 0; at < length;) {
      // Up to the end of the next window, but never past it.
      const next =
        this.#position < window ? window : window + Math.ceil((this.#position - window + 1) / hop) * hop
      const take = Math.min(length - at, next - this.#position, window)
      this.#ring.copyWithin(0, take * channels)
      this.#ring.set(data.subarray(at * channels, (at + take) * channels), (window - take) * channels)
      this.#position += take
      at += take
      if (this.#position === next) said.push(this.#classify(op))
    }
    return said
  }

  #classify(op: string): WindowClass {
    const { input, classes } = this.#about
    const { debounce, threshold, window, rate } = this.#options
    const steps =
      input.kind === 'text'
        ? { data: this.#ring, length: window }
        : this.#maker.scaled(op, 'samples', { data: this.#ring, sizes: [window, this.#channels] }, input)
    const { data } = this.#model.predictSync(padded([steps], input).input, {
      rate: input.kind === 'series' ? rate : 1,
    })
    checkOutputs(op, data)
    const chances = softmax(data)
    const best = largest(chances, 0, chances.length)
    const probability = chances[best] as number
    const wins = probability < threshold ? 0 : this.#run.label === best ? this.#run.wins + 1 : 1
    this.#run = { label: wins === 0 ? -1 : best, wins }
    const report = wins >= debounce && best !== this.#reported
    if (report) this.#reported = best
    return { position: this.#position, label: classes[best] as string | number, probability, report }
  }

  /** Forgets everything. */
  reset(): void {
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', 'ClassStream.reset', 'a live stream', 'a disposed one')
    this.#ring.fill(0)
    this.#position = 0
    this.#run = { label: -1, wins: 0 }
    this.#reported = -1
  }

  /** Ends it. A second call does nothing. */
  dispose(): void {
    this.#disposed = true
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
