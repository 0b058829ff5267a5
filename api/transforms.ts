// Streams of frames: Node's Transform and the web's TransformStream around a stream of a model.
import { Transform } from 'node:stream'
import { TransformStream } from 'node:stream/web'
import { membersOf, oneOf, rejectUnknownOptions } from './check.js'
import { fail, readGiven } from './error.js'
import { checkFrame, SampleReader, SAMPLE_FORMATS, type SampleFormat } from './samples.js'
import type { StreamedTensor } from './stream-times.js'
import { floats, type Floats } from './tensor.js'

/** Options of {@link ModelStream.toTransform} and of {@link LiveStream.toTransform}. */
export interface SampleTransformOptions {
  /** Type of the numbers in frames that are bytes. Without it frames must be arrays of numbers. */
  format?: SampleFormat
}

/** A frame whose samples have times. */
export interface TimedFrame {
  /** Numbers, or bytes of whole time steps where there is a `format`. */
  data: ArrayLike<number>
  /** The time of each time step, or of the first, as in {@link PushOptions.time}. */
  time: number | ArrayLike<number>
}

/** What comes of a {@link TimedFrame}. */
export interface TimedOutputs {
  /** Outputs, (len, output). */
  data: Float32Array | Float64Array
  /** The time of each time step. */
  time: Float64Array
}

/** The members of a frame with times; undefined of others. */
function timedFrame(op: string, frame: unknown): { data: unknown; time: unknown } | undefined {
  const isTimed = readGiven(op, 'frame', () => {
    if (typeof frame !== 'object' || frame === null || ArrayBuffer.isView(frame) || Array.isArray(frame))
      return false
    return !('length' in frame) && 'data' in frame && 'time' in frame
  })
  if (!isTimed) return undefined
  const { data, time, ...others } = membersOf(op, 'frame', frame)
  const [unknown] = Object.keys(others)
  if (unknown !== undefined)
    throw fail('ERR_S4_VALUE', op, 'a frame of data and time', `unknown member '${unknown}'`)
  return { data, time }
}

type Push = (
  data: ArrayLike<number>,
  len: number,
  time: number | ArrayLike<number> | undefined,
) => Promise<StreamedTensor>

/** Pushes frames, arrays of numbers or bytes, into the stream of a model with `input` values at each time step. */
export class FramePusher {
  readonly #op: string
  readonly #input: number
  readonly #reader: SampleReader | undefined
  readonly #push: Push
  readonly #most: number

  /** `most`: time steps of one push; longer frames are cut. */
  constructor(op: string, input: number, options: SampleTransformOptions, push: Push, most = Infinity) {
    const { format } = rejectUnknownOptions(op, options, ['format'])
    if (format !== undefined) oneOf(op, 'format', format, Object.keys(SAMPLE_FORMATS) as SampleFormat[])
    this.#op = op
    this.#input = input
    this.#reader = format === undefined ? undefined : new SampleReader(op, format, input)
    this.#push = push
    this.#most = most
  }

  /** The outputs for a frame; undefined where it completes no time step. */
  async push(frame: unknown): Promise<Floats | TimedOutputs | undefined> {
    const timed = timedFrame(this.#op, frame)
    if (timed === undefined) return this.#outputs(this.#read(frame))
    if (this.#reader?.isBetween) throw this.#reader.endError()
    const data = this.#read(timed.data)
    if (this.#reader?.isBetween) throw this.#reader.endError()
    const len = data.length / this.#input
    if (!(len > this.#most)) {
      const { data: outputs, time } = await this.#push(data, len, timed.time as ArrayLike<number>)
      return { data: outputs, time: time as Float64Array }
    }
    if (typeof timed.time === 'number')
      throw fail('ERR_S4_VALUE', this.#op, `time of each of more than ${this.#most} time steps`, 'one')
    const time = floats(this.#op, 'time', timed.time as ArrayLike<number>, 'f64').slice() as Float64Array
    if (time.length !== len) throw fail('ERR_S4_SHAPE', this.#op, `time of ${len} time steps`, time.length)
    return { data: (await this.#outputs(data, time)) as Floats, time }
  }

  #read(frame: unknown): ArrayLike<number> {
    return this.#reader === undefined ? checkFrame(this.#op, frame) : this.#reader.read(frame)
  }

  async #outputs(data: ArrayLike<number>, time?: Float64Array): Promise<Floats | undefined> {
    if (data.length === 0) return undefined
    const len = data.length / this.#input
    // What is no length is refused by the push.
    if (!(len > this.#most)) return (await this.#push(data, len, undefined)).data
    const given = floats(this.#op, 'frame', data, 'f64').slice()
    const parts: Floats[] = []
    const step = this.#most * this.#input
    for (let begin = 0; begin < given.length; begin += step) {
      const part = given.subarray(begin, begin + step)
      const own = time?.subarray(begin / this.#input, (begin + step) / this.#input)
      parts.push((await this.#push(part, part.length / this.#input, own)).data)
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
