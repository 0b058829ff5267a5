import * as binding from '#binding'
import { types } from 'node:util'
import { inBackground, type AbortOptions } from '../background.js'
import { booleanOf, oneOf, rejectUnknownOptions, wholeNumber } from '../check.js'
import { callNative, callNativeAsync, describe, fail, readGiven } from '../error.js'
import { floats } from '../tensor.js'
import {
  byteBlocks,
  givenSource,
  isOnceSource,
  pathOrBytes,
  walkable,
  type DataSource,
  type GivenSource,
} from './source.js'

/** A recording, or a piece of one. */
export interface Recording {
  /** (frames, channels), in −1 … 1. */
  samples: Float32Array
  /** Frames a second. */
  sampleRate: number
  /** Samples of a frame. */
  channels: number
}

/** A piece of a recording. */
export interface RecordingPiece extends Recording {
  /** Where it begins, in seconds. */
  start: number
}

/** At which rate a recording is read, and with which channels. */
export interface AudioOptions {
  /** Frames a second that it is resampled to. Default its own. */
  sampleRate?: number
  /** Whether the channels are averaged to one. Default false. */
  mono?: boolean
}

/** Options of {@link audioChunks}. */
export interface ChunkOptions extends AudioOptions {
  /** Seconds of a piece. */
  length: number
  /** Seconds that a piece has in common with the one before it. Default 0. */
  overlap?: number
}

/** Options of {@link resample}. */
export interface ResampleOptions extends AbortOptions {
  /** Frames a second of the samples. */
  from: number
  /** Frames a second that they are to have. */
  to: number
  /** Samples of a frame. Default 1. */
  channels?: number
}

/** How samples are written in bytes: bits, kind and order, or A-law and μ-law of ITU-T G.711. */
export type PcmFormat = 'u8' | 's16le' | 's24le' | 's32le' | 'f32le' | 'f64le' | 'alaw' | 'mulaw'

const PCM_BYTES: Readonly<Record<PcmFormat, number>> = {
  u8: 1,
  s16le: 2,
  s24le: 3,
  s32le: 4,
  f32le: 4,
  f64le: 8,
  alaw: 1,
  mulaw: 1,
}
const pcmFormats = Object.keys(PCM_BYTES) as PcmFormat[]

/** Options of {@link pcmFrames}. */
export interface PcmOptions {
  /** How samples are written. */
  format: PcmFormat
  /** Samples of a frame. Default 1. */
  channels?: number
  /** Frames of each piece, but for the last. Default as many as come at a time. */
  frames?: number
}

/** Highest rate in frames a second. */
const MAX_RATE = 2 ** 20

/** Checks rate and channels that were asked for. */
export function checkAudio(op: string, { sampleRate, mono = false }: AudioOptions) {
  if (sampleRate !== undefined) wholeNumber(op, 'sampleRate', sampleRate, 1, MAX_RATE)
  return { sampleRate, mono: booleanOf(op, 'mono', mono) }
}

/**
 * Reads a recording: WAV of 8 to 32 bits, of floats, A-law or μ-law, FLAC, MP3, Ogg Vorbis. `ERR_S4_DATA` with its path where it is
 * damaged or of another kind, or holds a sample that is no finite number.
 *
 * @example
 * const { samples } = await readAudio('speech.mp3', { sampleRate: 16_000, mono: true })
 */
export async function readAudio(
  source: DataSource,
  options: AudioOptions & AbortOptions = {},
): Promise<Recording> {
  const op = 'readAudio'
  const { signal, ...audio } = rejectUnknownOptions(op, options, ['sampleRate', 'mono', 'signal'])
  const { sampleRate, mono } = checkAudio(op, audio)
  const given = await pathOrBytes(op, 'source', givenSource(op, 'source', source), signal)
  return inBackground(op, () => binding.readAudio(given, sampleRate, mono), signal)
}

/** The place of the first sample that is no finite number; −1 where all are. */
function firstWrong(samples: Float32Array): number {
  for (let i = 0; i < samples.length; i++) if (!Number.isFinite(samples[i])) return i
  return -1
}

/** Samples (frames, channels) at another rate; ⌈frames · to/from⌉ of them. */
export async function resample(samples: ArrayLike<number>, options: ResampleOptions): Promise<Float32Array> {
  const op = 'resample'
  const {
    from,
    to,
    channels = 1,
    signal,
  } = rejectUnknownOptions(op, options, ['from', 'to', 'channels', 'signal'])
  for (const [what, rate] of Object.entries({ from, to })) wholeNumber(op, what, rate, 1, MAX_RATE)
  wholeNumber(op, 'channels', channels, 1, 1024)
  const given = samplesOf(op, samples)
  if (given.length % channels !== 0)
    throw fail('ERR_S4_SHAPE', op, `samples in whole frames of ${channels} channels`, given.length)
  return inBackground(op, () => binding.resample(given, channels, from, to), signal)
}

/** The samples of a caller, finite. */
function samplesOf(op: string, x: unknown): Float32Array {
  const list = readGiven(op, 'samples', () => {
    const length: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<number>).length : undefined
    const isView = Object.prototype.toString.call(x) === '[object DataView]'
    const isLength = Number.isSafeInteger(length) && (length as number) >= 1 && (length as number) <= 2 ** 30
    if (isView || !isLength || !((length as number) - 1 in (x as object)))
      throw fail('ERR_S4_DTYPE', op, 'samples as an array of numbers', describe(x))
    return x as ArrayLike<number>
  })
  const samples = floats(op, 'samples', list, 'f32') as Float32Array
  const wrong = samples.findIndex((s) => !Number.isFinite(s))
  if (wrong >= 0)
    throw fail('ERR_S4_VALUE', op, 'finite numbers in samples', `${samples[wrong]} at index ${wrong}`)
  return samples
}

/** A recording's pieces of so many frames. What streams give is collected before. */
async function* pieces(
  op: string,
  source: GivenSource,
  { sampleRate, mono }: ReturnType<typeof checkAudio>,
  wanted: number,
): AsyncGenerator<Recording> {
  const given = await pathOrBytes(op, 'source', source, undefined)
  const reader = callNative(() => new binding.NativeAudioPieces(given, sampleRate, mono))
  for (;;) {
    const piece = await callNativeAsync(() => reader.next(wanted))
    if (piece.samples.length === 0) return
    yield piece
  }
}

/**
 * Cuts a recording of any length into pieces of `length` seconds, which overlap by `overlap` seconds; the last may be shorter. Of a
 * file no more than a piece is in memory. Each walk over a path reads it from the beginning.
 */
export function audioChunks(source: DataSource, options: ChunkOptions): AsyncIterable<RecordingPiece> {
  const op = 'audioChunks'
  const given = rejectUnknownOptions(op, options, ['length', 'overlap', 'sampleRate', 'mono'])
  const { length, overlap = 0 } = given
  if (typeof length !== 'number' || !(length >= 1e-6 && length <= 1e6))
    throw fail('ERR_S4_VALUE', op, 'length in seconds, from 1e-6 to 1e6', describe(length))
  if (typeof overlap !== 'number' || !(overlap >= 0 && overlap < length))
    throw fail('ERR_S4_VALUE', op, 'overlap in seconds, from 0 to below length', describe(overlap))
  const audio = checkAudio(op, given)
  const from = givenSource(op, 'source', source)
  return walkable(isOnceSource(op, 'source', from), async function* () {
    let held: Float32Array = new Float32Array(0)
    let start = 0
    let size: { piece: number; step: number; rate: number; channels: number } | undefined
    let isNew = false
    for await (const { samples, sampleRate: rate, channels } of pieces(op, from, audio, 1 << 16)) {
      if (size === undefined) {
        const piece = Math.max(1, Math.round(length * rate)) * channels
        const step = Math.max(1, Math.round((length - overlap) * rate)) * channels
        size = { piece, step: Math.min(step, piece), rate, channels }
      }
      held = joined(held, samples)
      isNew = true
      for (; held.length >= size.piece; held = held.slice(size.step)) {
        yield { samples: held.slice(0, size.piece), sampleRate: rate, channels, start: start / rate }
        start += size.step / channels
        isNew = held.length > size.piece
      }
    }
    // What is left is a piece of its own unless the last one held all of it.
    if (size !== undefined && isNew && held.length > 0)
      yield { samples: held, sampleRate: size.rate, channels: size.channels, start: start / size.rate }
  })
}

function joined<A extends Float32Array | Uint8Array>(a: A, b: A): A {
  if (a.length === 0) return b
  const all = new (a.constructor as new (length: number) => A)(a.length + b.length)
  all.set(a)
  all.set(b, a.length)
  return all
}

/**
 * The samples in a stream of bytes, such as a microphone, a socket or ffmpeg gives: pieces (frames, channels) in −1 … 1, however the
 * bytes are cut. `ERR_S4_DATA` where they end within a frame, or hold a float that is no finite number.
 *
 * @example
 * for await (const frames of pcmFrames(process.stdin, { format: 's16le', frames: 1600 })) stream.push(frames)
 */
export function pcmFrames(source: DataSource, options: PcmOptions): AsyncIterable<Float32Array> {
  const op = 'pcmFrames'
  const given = rejectUnknownOptions(op, options, ['format', 'channels', 'frames'])
  const format = oneOf(op, 'format', given.format, pcmFormats)
  const { channels = 1, frames } = given
  const frameBytes = PCM_BYTES[format] * wholeNumber(op, 'channels', channels, 1, 1024)
  if (frames !== undefined) wholeNumber(op, 'frames', frames, 1, 2 ** 28)
  const from = givenSource(op, 'source', source)
  return walkable(isOnceSource(op, 'source', from), async function* () {
    let before = 0
    const frameOf = (bytes: Uint8Array): Float32Array => {
      const samples = decoded(format, bytes)
      const wrong = firstWrong(samples)
      if (wrong >= 0)
        throw fail(
          'ERR_S4_DATA',
          op,
          'source of finite samples',
          `${samples[wrong]} in sample ${Math.floor((before + wrong) / channels)}`,
        )
      before += samples.length
      return samples
    }
    let held: Uint8Array = new Uint8Array(0)
    for await (const block of byteBlocks(op, 'source', from)) {
      // The block's memory may be used again.
      held = joined(held, held.length === 0 ? block.slice() : block)
      const whole = held.length - (held.length % frameBytes)
      const size = frames === undefined ? whole : frames * frameBytes
      let at = 0
      if (size > 0) while (at + size <= whole) yield frameOf(held.subarray(at, (at += size)))
      held = held.slice(at)
    }
    if (held.length % frameBytes !== 0)
      throw fail(
        'ERR_S4_DATA',
        op,
        `source in whole frames of ${frameBytes} bytes`,
        `${held.length % frameBytes} bytes at the end`,
      )
    if (held.length > 0) yield frameOf(held)
  })
}

const decoded = (format: PcmFormat, bytes: Uint8Array): Float32Array =>
  callNative(() => binding.decodePcm(types.isSharedArrayBuffer(bytes.buffer) ? bytes.slice() : bytes, format))
