export const sampleFormats = ['i16', 'f32', 'u8'] as const
export type SampleFormat = (typeof sampleFormats)[number]

const SIZES = { i16: 2, f32: 4, u8: 1 } as const

/** Raw little-endian samples in −1 … 1, of bytes that come in pieces of any size. */
export class SampleBytes {
  readonly #format: SampleFormat
  #rest = Buffer.alloc(0)

  constructor(format: SampleFormat) {
    this.#format = format
  }

  push(piece: Buffer): Float32Array {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece])
    const size = SIZES[this.#format]
    const count = Math.floor(bytes.length / size)
    this.#rest = Buffer.from(bytes.subarray(count * size))
    const read = {
      i16: (at: number) => bytes.readInt16LE(at) / 32768,
      f32: (at: number) => bytes.readFloatLE(at),
      u8: (at: number) => (bytes.readUInt8(at) - 128) / 128,
    }[this.#format]
    return Float32Array.from({ length: count }, (_, t) => read(t * size))
  }
}
