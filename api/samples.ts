// Samples in bytes, as files, sockets and microphones give them.
import { types } from 'node:util'
import { fail, reading } from './error.js'

/** Types of samples that bytes may hold, little-endian. */
export type SampleFormat = 'f32' | 'i16' | 'u8'

/** Bytes of a sample, and its number. */
export const SAMPLES: Readonly<
  Record<SampleFormat, { bytes: number; at: (view: DataView, i: number) => number }>
> = {
  f32: { bytes: 4, at: (view, i) => view.getFloat32(i, true) },
  i16: { bytes: 2, at: (view, i) => view.getInt16(i, true) / 32768 },
  u8: { bytes: 1, at: (view, i) => view.getUint8(i) },
}

/** Whether the memory of an array was handed to another thread. */
function isDetached({ buffer }: ArrayBufferView): boolean {
  try {
    return new Uint8Array(buffer).length < 0
  } catch {
    return true
  }
}

/** A frame of numbers. Bytes are refused: that each of them were a sample is hardly ever meant. */
export function frameOf(op: string, frame: unknown): ArrayLike<number> {
  return reading(op, 'frame', () => arrayOf(op, frame))
}

function arrayOf(op: string, frame: unknown): ArrayLike<number> {
  if (ArrayBuffer.isView(frame) && isDetached(frame))
    throw fail('ERR_S4_DTYPE', op, 'a frame with its memory', 'one that was handed to another thread')
  if (types.isUint8Array(frame) || typeof frame === 'string')
    throw fail(
      'ERR_S4_DTYPE',
      op,
      "frames that are arrays of numbers, or toTransform({ format: 'f32' | 'i16' | 'u8' }) for samples in bytes",
      typeof frame === 'string' ? 'a string' : 'bytes',
    )
  if (
    typeof frame !== 'object' ||
    frame === null ||
    typeof (frame as { length?: unknown }).length !== 'number'
  )
    throw fail('ERR_S4_DTYPE', op, 'frames that are arrays of numbers', frame)
  return frame as ArrayLike<number>
}

/** Numbers from bytes that are cut anywhere. */
export class SampleReader {
  readonly #op: string
  readonly #format: SampleFormat
  /** Bytes of one step: the samples of all inputs. */
  readonly #step: number
  #left = new Uint8Array(0)

  constructor(op: string, format: SampleFormat, input: number) {
    this.#op = op
    this.#format = format
    this.#step = SAMPLES[format].bytes * input
  }

  /** The samples of the whole steps so far; what is left of a step waits for the next bytes. */
  read(chunk: unknown): Float32Array {
    if (!types.isUint8Array(chunk))
      throw fail('ERR_S4_DTYPE', this.#op, `bytes with format '${this.#format}'`, chunk)
    const bytes = new Uint8Array(this.#left.length + chunk.length)
    bytes.set(this.#left)
    bytes.set(chunk, this.#left.length)
    const whole = bytes.length - (bytes.length % this.#step)
    this.#left = bytes.slice(whole)
    const { bytes: size, at } = SAMPLES[this.#format]
    const view = new DataView(bytes.buffer)
    return Float32Array.from({ length: whole / size }, (_, i) => at(view, i * size))
  }

  /** The error of a stream that ends within a step. */
  rest(): Error | null {
    const left = this.#left.length
    return left === 0
      ? null
      : fail('ERR_S4_DATA', this.#op, `whole steps of ${this.#step} bytes`, `${left} bytes at the end`)
  }
}
