// Streams of frames: Node's Transform and the web's TransformStream around a stream of a model.
import { Transform } from 'node:stream'
import { TransformStream } from 'node:stream/web'
import { oneOf, rejectUnknownOptions } from './check.js'
import { checkFrame, SampleReader, SAMPLE_FORMATS, type SampleFormat } from './samples.js'
import type { Floats } from './tensor.js'

/** Options of {@link ModelStream.toTransform} and of {@link LiveStream.toTransform}. */
export interface SampleTransformOptions {
  /** Type of the numbers in frames that are bytes. Without it frames must be arrays of numbers. */
  format?: SampleFormat
}

/** Pushes frames, arrays of numbers or bytes, into the stream of a model with `input` values at each time step. */
export class FramePusher {
  readonly #op: string
  readonly #input: number
  readonly #reader: SampleReader | undefined
  readonly #push: (data: ArrayLike<number>, len: number) => Promise<Floats>
  readonly #most: number

  /** `most`: time steps of one push; longer frames are cut. */
  constructor(
    op: string,
    input: number,
    options: SampleTransformOptions,
    push: (data: ArrayLike<number>, len: number) => Promise<Floats>,
    most = Infinity,
  ) {
    const { format } = rejectUnknownOptions(op, options, ['format'])
    if (format !== undefined) oneOf(op, 'format', format, Object.keys(SAMPLE_FORMATS) as SampleFormat[])
    this.#op = op
    this.#input = input
    this.#reader = format === undefined ? undefined : new SampleReader(op, format, input)
    this.#push = push
    this.#most = most
  }

  /** The outputs for a frame; undefined where it completes no time step. */
  async push(frame: unknown): Promise<Floats | undefined> {
    const data = this.#reader === undefined ? checkFrame(this.#op, frame) : this.#reader.read(frame)
    if (data.length === 0) return undefined
    const len = data.length / this.#input
    if (len <= this.#most) return this.#push(data, len)
    const given = Float64Array.from(data)
    const parts: Floats[] = []
    const step = this.#most * this.#input
    for (let begin = 0; begin < given.length; begin += step) {
      const part = given.subarray(begin, begin + step)
      parts.push(await this.#push(part, part.length / this.#input))
    }
    const outputs = (parts[0] as Floats).constructor as Float32ArrayConstructor
    const all = new outputs(parts.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const part of parts) {
      all.set(part, at)
      at += part.length
    }
    return all
  }

  /** At the end of the frames: the error of a time step that is incomplete, or null. */
  endError(): Error | null {
    return this.#reader?.endError() ?? null
  }
}

/** A Transform that takes frames and gives outputs. */
export function nodeTransform(frames: FramePusher): Transform {
  return new Transform({
    objectMode: true,
    transform: (frame: unknown, _encoding, done) => {
      frames.push(frame).then(
        (y) => (y === undefined ? done() : done(null, y)),
        (error: Error) => done(error),
      )
    },
    flush: (done) => done(frames.endError()),
  })
}

/** A TransformStream that takes frames and gives outputs. */
export function webTransform(frames: FramePusher): TransformStream {
  return new TransformStream({
    async transform(frame: unknown, controller) {
      const y = await frames.push(frame)
      if (y !== undefined) controller.enqueue(y)
    },
    flush() {
      const error = frames.endError()
      if (error !== null) throw error
    },
  })
}
