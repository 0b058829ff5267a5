// What a classifier is given, and how it becomes the steps that the network sees.
import { describe, listOf, membersOf, textOf } from '../check.js'
import { elementsOf, isIterable } from '../data/source.js'
import { fail, readGiven } from '../error.js'
import { checkTensor, finite, floats, type TensorLike } from '../tensor.js'
import { textCodec } from './class-text.js'
import { resampled } from './resample.js'
import { bandsFor, Spectrum } from './spectrum.js'
import type { CheckedTokens, Codec } from './tokenizer.js'

/** What is classified: samples one after the other, values (len, channels), a picture (height, width, colours), or a text. */
export type ClassInput = ArrayLike<number> | TensorLike | string

/** An example with its class. */
export interface ClassExample {
  /** Samples, values (len, channels), a picture (height, width, colours), or a text. Lengths may differ. */
  input: ClassInput
  /** Its class, as text or a number. */
  label: string | number
  /** Samples a second, of sound. */
  sampleRate?: number
  /** The file that it is of, for errors. */
  file?: string
}

/** Examples: in an array or another iterable, or as they are read, such as `audioFolder`, `imageFolder` and `textFolder` of `s4-node/data` give them. */
export type ClassExamples = readonly ClassExample[] | Iterable<ClassExample> | AsyncIterable<ClassExample>

/** What inputs are: series of values, sound, pictures, or texts. */
export type InputKind = 'series' | 'audio' | 'image' | 'text'
export const inputKinds = ['series', 'audio', 'image', 'text'] as const

/** What a step of a picture is: a row of pixels, or a pixel. */
export type PictureScan = 'rows' | 'pixels'
export const pictureScans = ['rows', 'pixels'] as const

/** How inputs become steps, which a file of a classifier holds. */
export interface InputPlan {
  readonly kind: InputKind
  /** Samples a second of audio. */
  readonly sampleRate: number
  /** Values at each step: channels, bands, or those of a picture's row or pixel; 1 of tokens. */
  readonly width: number
  /** Sizes of a picture; channels of a series. */
  readonly sizes: readonly number[]
  /** What makes tokens of texts, and most tokens of one. */
  readonly codec?: Codec
  readonly maxLength?: number
  readonly means: ArrayLike<number>
  readonly deviations: ArrayLike<number>
}

/** An input of numbers that was read, with its sizes. */
export interface GivenValues {
  readonly data: Float32Array
  readonly sizes: readonly number[]
}

/** An input that was read. */
export type GivenInput = GivenValues | { readonly text: string }

/** Reads one input: a text, an array of numbers, or `{ data, shape }` of two or three sizes. */
export function givenInput(op: string, what: string, x: unknown): GivenInput {
  if (typeof x === 'string') return { text: x }
  const isTensor = readGiven(op, what, () => {
    if (typeof x !== 'object' || x === null)
      throw fail('ERR_S4_DATA', op, `${what} as an array of numbers, { data, shape } or a text`, describe(x))
    return 'shape' in x
  })
  const tensor = isTensor ? checkTensor(op, what, x, [1, 2, 3]) : undefined
  const data = tensor?.data ?? listed(op, what, x)
  const values = finite(op, what, floats(op, what, data, 'f32')) as Float32Array
  const shape = tensor?.shape ?? [values.length]
  return { data: values, sizes: shape.length === 1 ? [shape[0] as number, 1] : shape }
}

/** An array of numbers with a length that is one. */
function listed(op: string, what: string, x: unknown): ArrayLike<number> {
  return readGiven(op, what, () => {
    const { length } = x as ArrayLike<number>
    const isView = Object.prototype.toString.call(x) === '[object DataView]'
    if (isView || !Number.isSafeInteger(length) || length < 1 || length > 2 ** 30)
      throw fail('ERR_S4_DATA', op, `${what} as an array of at least one number`, describe(x))
    const [first, last]: unknown[] = [(x as ArrayLike<number>)[0], (x as ArrayLike<number>)[length - 1]]
    if (typeof first !== 'number' || typeof last !== 'number')
      throw fail('ERR_S4_DATA', op, `${what} of numbers`, describe(typeof first === 'number' ? last : first))
    return x as ArrayLike<number>
  })
}

/** Examples that were read. */
export interface GivenExamples {
  readonly inputs: readonly GivenInput[]
  readonly labels: readonly (string | number)[]
  /** Samples a second that the examples say they have. */
  readonly sampleRate: number | undefined
}

export async function givenExamples(op: string, x: unknown): Promise<GivenExamples> {
  const isWalked = readGiven(
    op,
    'examples',
    () => typeof x === 'object' && x !== null && !Array.isArray(x) && isIterable(x),
  )
  const read: ReturnType<typeof givenExample>[] = []
  if (isWalked)
    for await (const example of elementsOf(op, 'examples', x as object)) read.push(givenExample(op, example))
  else for (const example of listOf(op, 'examples', x)) read.push(givenExample(op, example))
  if (read.length === 0) throw fail('ERR_S4_DATA', op, 'examples, at least one', 'none')
  const rate = read[0]?.sampleRate
  const other = read.find((e) => e.sampleRate !== rate)
  if (other !== undefined)
    throw fail(
      'ERR_S4_DATA',
      op,
      `examples of one sampleRate (${rate ?? 'none'}, as the first)`,
      `${other.file === undefined ? '' : `${other.file}: `}${other.sampleRate ?? 'none'}`,
    )
  return { inputs: read.map((e) => e.input), labels: read.map((e) => e.label), sampleRate: rate }
}

function givenExample(op: string, example: unknown) {
  const { input, label, sampleRate, file, ...others } = membersOf(
    op,
    'each of examples',
    example,
    'ERR_S4_DATA',
  )
  const [unknown] = Object.keys(others)
  if (unknown !== undefined)
    throw fail(
      'ERR_S4_DATA',
      op,
      'examples of input, label, sampleRate and file',
      `the unknown key '${unknown}'`,
    )
  if (typeof label !== 'string' && !(typeof label === 'number' && Number.isFinite(label)))
    throw fail('ERR_S4_DATA', op, 'label of each of examples as text or a finite number', describe(label))
  if (file !== undefined) textOf(op, 'file of each of examples', file)
  return {
    input: givenInput(op, 'input of each of examples', input),
    label,
    sampleRate:
      sampleRate === undefined ? undefined : hertz(op, 'sampleRate of each of examples', sampleRate),
    file: file as string | undefined,
  }
}

/** Checks a sampling rate of sound. */
export function hertz(op: string, what: string, x: unknown): number {
  if (typeof x !== 'number' || !(x >= 100 && x <= 1e7))
    throw fail('ERR_S4_VALUE', op, `${what} in hertz, from 100 to 1e7`, describe(x))
  return x
}

/** The classes of labels: numbers in ascending order, then texts. */
export function classesOf(labels: readonly (string | number)[]): (string | number)[] {
  const different = [...new Set(labels)]
  const numbers = different.filter((x) => typeof x === 'number').toSorted((a, b) => a - b)
  return [...numbers, ...different.filter((x) => typeof x === 'string').toSorted()]
}

/** Steps (len, width) of an input, in the scales of the training part where a plan has any. */
export interface Steps {
  readonly data: Float32Array
  readonly length: number
}

/** Makes the steps of inputs of one kind at one sampling rate. */
export class StepMaker {
  readonly #plan: Omit<InputPlan, 'means' | 'deviations'>
  readonly #spectrum: Spectrum | undefined

  constructor(plan: Omit<InputPlan, 'means' | 'deviations'>, rate = 1) {
    this.#plan = plan
    this.#spectrum = plan.kind === 'audio' ? new Spectrum(plan.sampleRate, plan.width, rate) : undefined
  }

  /** Bands that are there at this rate; all values of other kinds. */
  get present(): number {
    return this.#spectrum?.present ?? this.#plan.width
  }

  /** Steps that have not been scaled. */
  raw(op: string, what: string, given: GivenInput): Steps {
    const { kind, width, sizes: wanted, codec, maxLength } = this.#plan
    if (codec !== undefined) return tokenSteps(op, what, given, codec, maxLength)
    if ('text' in given)
      throw fail('ERR_S4_DATA', op, `${what} as numbers, of a classifier of ${kind}`, 'a text')
    const { data, sizes } = given
    const right =
      kind === 'image'
        ? sizes.join() === wanted.join()
        : sizes.length === 2 && sizes[1] === (wanted[0] as number)
    if (!right) {
      const expected = kind === 'image' ? `a picture ${wanted.join(' × ')}` : `values (len, ${wanted[0]})`
      throw fail('ERR_S4_SHAPE', op, `${what} as ${expected}`, `sizes ${sizes.join(' × ')}`)
    }
    const steps = this.#spectrum?.of(data) ?? data
    return { data: steps, length: steps.length / width }
  }

  /** Steps in the scales of the training part; bands that are not there are 0. */
  scaled(
    op: string,
    what: string,
    input: GivenInput,
    scales: Pick<InputPlan, 'means' | 'deviations'>,
  ): Steps {
    const steps = scaledSteps(this.raw(op, what, input), this.#plan.width, scales, this.present)
    if (!steps.data.every(Number.isFinite))
      throw fail('ERR_S4_DATA', op, `${what} within 32 bits, in the scales of the training`, 'larger numbers')
    return steps
  }
}

/** The tokens of a text as steps: whole numbers, which 32 bits hold exactly. */
function tokenSteps(op: string, what: string, given: GivenInput, codec: Codec, most = Infinity): Steps {
  if (!('text' in given))
    throw fail('ERR_S4_DATA', op, `${what} as a text`, `sizes ${given.sizes.join(' × ')}`)
  const tokens = codec.encode(op, what, given.text).subarray(0, most)
  if (tokens.length === 0) throw fail('ERR_S4_DATA', op, `${what} as a text with tokens`, 'an empty one')
  return { data: Float32Array.from(tokens), length: tokens.length }
}

export function scaledSteps(
  { data, length }: Steps,
  width: number,
  { means, deviations }: Pick<InputPlan, 'means' | 'deviations'>,
  present = width,
): Steps {
  const out = new Float32Array(data.length)
  for (let t = 0; t < length; t++)
    for (let c = 0; c < present; c++) {
      const i = t * width + c
      out[i] = ((data[i] as number) - (means[c] as number)) / (deviations[c] as number)
    }
  return { data: out, length }
}

/** Options that say how inputs become steps. */
export interface InputOptions {
  readonly kind: InputKind | undefined
  readonly sampleRate: number | undefined
  readonly scan: PictureScan | undefined
  readonly tokens: CheckedTokens | undefined
  readonly maxLength: number | undefined
}

/** How inputs of a training are to be read: their kind by what was said and by their sizes. */
export function inputPlan(
  op: string,
  inputs: readonly GivenInput[],
  { kind: given, sampleRate, scan = 'rows', tokens = 'bytes', maxLength = 4096 }: InputOptions,
): Omit<InputPlan, 'means' | 'deviations'> {
  const [one] = inputs as [GivenInput]
  if ('text' in one || given === 'text') {
    if (given !== undefined && given !== 'text')
      throw fail('ERR_S4_DATA', op, `input of each of examples as numbers, of the kind '${given}'`, 'a text')
    const texts = inputs.map((input) => {
      if ('text' in input) return input.text
      throw fail(
        'ERR_S4_DATA',
        op,
        `input of each of examples as a text, of the kind 'text'`,
        `sizes ${input.sizes.join(' × ')}`,
      )
    })
    return {
      kind: 'text',
      sampleRate: 0,
      sizes: [1],
      width: 1,
      codec: textCodec(op, texts, tokens),
      maxLength,
    }
  }
  const first = one.sizes
  const kind = given ?? (sampleRate !== undefined ? 'audio' : first.length === 3 ? 'image' : 'series')
  if (kind === 'image') {
    const sizes = first.length === 3 ? first : [...first, 1]
    const [, columns, colours] = sizes as [number, number, number]
    return { kind, sampleRate: 0, sizes: first, width: scan === 'rows' ? columns * colours : colours }
  }
  if (first.length === 3)
    throw fail(
      'ERR_S4_SHAPE',
      op,
      `input of each of examples as values (len, channels)`,
      `sizes ${first.join(' × ')}`,
    )
  const channels = first[1] as number
  if (kind === 'series') return { kind, sampleRate: sampleRate ?? 1, sizes: [channels], width: channels }
  if (sampleRate === undefined) throw fail('ERR_S4_VALUE', op, 'sampleRate of audio in hertz', 'none')
  if (channels !== 1)
    throw fail('ERR_S4_SHAPE', op, 'input of each of examples with one channel of audio', channels)
  return { kind, sampleRate, sizes: [1], width: bandsFor(sampleRate) }
}

/** Mean and deviation of each value over steps; of pictures over all values together. Tokens stay as they are. */
export function stepScales(
  all: readonly Steps[],
  { kind, width }: Pick<InputPlan, 'kind' | 'width'>,
): { means: number[]; deviations: number[] } {
  if (kind === 'text') return { means: [0], deviations: [1] }
  const together = kind === 'image'
  const [sums, squares] = [new Float64Array(width), new Float64Array(width)]
  let count = 0
  for (const { data, length } of all) {
    for (let i = 0; i < data.length; i++) sums[i % width]! += data[i] as number
    count += length
  }
  const total = sums.reduce((a, b) => a + b, 0)
  const means = Array.from(sums, (sum) => (together ? total / (count * width) : sum / count))
  for (const { data } of all)
    for (let i = 0; i < data.length; i++)
      squares[i % width]! += ((data[i] as number) - (means[i % width] as number)) ** 2
  const totalSquares = squares.reduce((a, b) => a + b, 0)
  const deviations = Array.from(squares, (sum) => {
    const deviation = Math.sqrt(together ? totalSquares / (count * width) : sum / count)
    return deviation > 1e-12 ? deviation : 1
  })
  return { means, deviations }
}

/** The input with `rate` times fewer samples, in scaled steps. */
export const fewerSteps = ({ data }: Steps, width: number, rate: number): Steps => {
  const fewer = resampled(data, width, rate)
  return { data: fewer, length: fewer.length / width }
}
