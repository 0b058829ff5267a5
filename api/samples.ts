// Converts bytes, as files, sockets and microphones give them, to numbers.
import { types } from 'node:util'
import { fail, readGiven } from './error.js'

/**
 * Type of the numbers in bytes, little-endian: 32-bit floats, signed integers of 16 bits, unsigned ones of 8, or the 8 bits of
 * the telephone's μ-law (ITU-T G.711).
 */
export type SampleFormat = 'f32' | 'i16' | 'u8' | 'mulaw'

/** For each format: how many bytes a number has, and how to read it at byte `i`. */
export const SAMPLE_FORMATS: Readonly<
  Record<SampleFormat, { bytes: number; at: (view: DataView, i: number) => number }>
> = {
  f32: { bytes: 4, at: (view, i) => view.getFloat32(i, true) },
  i16: { bytes: 2, at: (view, i) => view.getInt16(i, true) / 32768 },
  u8: { bytes: 1, at: (view, i) => view.getUint8(i) },
  mulaw: { bytes: 1, at: (view, i) => fromMulaw(view.getUint8(i)) },
}

/** G.711: all bits inverted; a sign, an exponent of 3 bits, a mantissa of 4, of 16-bit numbers with an offset of 132. */
function fromMulaw(byte: number): number {
  const bits = ~byte & 0xff
  const magnitude = (((bits & 0x0f) << 3) + 132) << ((bits & 0x70) >> 4)
  return (bits & 0x80 ? 132 - magnitude : magnitude - 132) / 32768
}

/** Whether the memory of an array was handed to another thread. */
function isDetached({ buffer }: ArrayBufferView): boolean {
  try {
    return new Uint8Array(buffer).length < 0
  } catch {
    return true
  }
}

/**
 * Checks a frame, which must be an array of numbers. Bytes are refused, because a caller hardly ever means each of them as
 * a number.
 */
export function checkFrame(op: string, frame: unknown): ArrayLike<number> {
  return readGiven(op, 'frame', () => arrayOf(op, frame))
}

function arrayOf(op: string, frame: unknown): ArrayLike<number> {
  if (ArrayBuffer.isView(frame) && isDetached(frame))
    throw fail('ERR_S4_DTYPE', op, 'a frame with its memory', 'one that was handed to another thread')
  if (types.isUint8Array(frame) || typeof frame === 'string')
    throw fail(
      'ERR_S4_DTYPE',
      op,
      "frames that are arrays of numbers, or toTransform({ format: 'f32' | 'i16' | 'u8' | 'mulaw' }) for samples in bytes",
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

/** Reads numbers from chunks of bytes that may be cut at any byte. */
export class SampleReader {
  readonly #op: string
  readonly #format: SampleFormat
  /** Bytes of one time step: one number for each input. */
  readonly #stepBytes: number
  #incomplete = new Uint8Array(0)

  constructor(op: string, format: SampleFormat, input: number) {
    this.#op = op
    this.#format = format
    this.#stepBytes = SAMPLE_FORMATS[format].bytes * input
  }

  /**
   * The numbers of all time steps that are complete with this chunk. The bytes of an incomplete one are kept for the next
   * chunk.
   */
  read(chunk: unknown): Float32Array {
    if (!types.isUint8Array(chunk))
      throw fail('ERR_S4_DTYPE', this.#op, `bytes with format '${this.#format}'`, chunk)
    const bytes = new Uint8Array(this.#incomplete.length + chunk.length)
    bytes.set(this.#incomplete)
    bytes.set(chunk, this.#incomplete.length)
    const completeBytes = bytes.length - (bytes.length % this.#stepBytes)
    this.#incomplete = bytes.slice(completeBytes)
    const { bytes: size, at } = SAMPLE_FORMATS[this.#format]
    const view = new DataView(bytes.buffer)
    return Float32Array.from({ length: completeBytes / size }, (_, i) => at(view, i * size))
  }

  /** Whether bytes of an incomplete time step wait for others. */
  get isBetween(): boolean {
    return this.#incomplete.length > 0
  }

  /** At the end of the bytes: the error of a time step that is incomplete, or null. */
  endError(): Error | null {
    const left = this.#incomplete.length
    return left === 0
      ? null
      : fail('ERR_S4_DATA', this.#op, `whole steps of ${this.#stepBytes} bytes`, `${left} bytes at the end`)
  }
}
