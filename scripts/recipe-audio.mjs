// Recordings of spoken digits (github.com/Jakobovski/free-spoken-digit-dataset: DIGIT_SPEAKER_NUMBER.wav, 8 kHz, mono).
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { generator, normal } from './recipe-random.mjs'

/** Samples of a mono WAV file in [−1, 1]: 16-bit PCM, or 8-bit µ-law. */
export function readWav(path) {
  const bytes = readFileSync(path)
  let [format, channels, bits, rate] = [0, 0, 0, 0]
  for (let at = 12; at + 8 <= bytes.length;) {
    const id = bytes.toString('latin1', at, at + 4)
    const size = bytes.readUInt32LE(at + 4)
    const body = bytes.subarray(at + 8, at + 8 + size)
    if (id === 'fmt ')
      [format, channels, rate, bits] = [
        body.readUInt16LE(0),
        body.readUInt16LE(2),
        body.readUInt32LE(4),
        body.readUInt16LE(14),
      ]
    if (id === 'data') {
      if (channels !== 1) throw new Error(`${path}: one channel is read, this file has ${channels}`)
      if (format === 1 && bits === 16)
        return {
          rate,
          samples: Float32Array.from({ length: body.length >> 1 }, (_, t) => body.readInt16LE(2 * t) / 32768),
        }
      if (format === 7 && bits === 8) return { rate, samples: Float32Array.from(body, fromMuLaw) }
      throw new Error(
        `${path}: 16-bit PCM and 8-bit µ-law are read, this is format ${format} with ${bits} bits`,
      )
    }
    at += 8 + size + (size & 1)
  }
  throw new Error(`${path}: no samples`)
}

// ITU-T G.711.
function fromMuLaw(code) {
  const u = ~code & 0xff
  const magnitude = (((u & 0x0f) << 3) + 0x84) << ((u & 0x70) >> 4)
  return ((u & 0x80 ? -1 : 1) * (magnitude - 0x84)) / 32768
}

/** A recording scaled to root mean square 1, since the speakers recorded at very different levels. */
function levelled(samples) {
  let sum = 0
  for (const x of samples) sum += x * x
  const scale = 1 / Math.sqrt(sum / samples.length + 1e-8)
  return samples.map((x) => x * scale)
}

/** The samples after a low-pass filter (windowed sinc, Hann, 63 taps) with its cutoff frequency at `cutoff` of the sampling rate. */
export function lowPass(samples, cutoff) {
  const side = 31
  const taps = Float64Array.from({ length: 2 * side + 1 }, (_, i) => {
    const t = i - side
    const sinc = t === 0 ? 2 * cutoff : Math.sin(2 * Math.PI * cutoff * t) / (Math.PI * t)
    return sinc * (0.5 + 0.5 * Math.cos((Math.PI * t) / (side + 1)))
  })
  const out = new Float32Array(samples.length)
  for (let t = 0; t < samples.length; t++) {
    const [from, to] = [Math.max(0, t - side), Math.min(samples.length - 1, t + side)]
    let sum = 0
    for (let s = from; s <= to; s++) sum += samples[s] * taps[s - t + side]
    out[t] = sum
  }
  return out
}

/**
 * Resamples to `ratio` times fewer samples, by a windowed sinc with its cutoff below the new Nyquist frequency, which is tabulated at 64
 * positions between two samples.
 */
function resampled(samples, ratio) {
  const [side, phases, cutoff] = [24, 64, 0.46 / ratio]
  const taps = Array.from({ length: phases + 1 }, (_, phase) =>
    Float64Array.from({ length: 2 * side }, (__, i) => {
      const t = i - side + 1 - phase / phases
      const sinc = t === 0 ? 2 * cutoff : Math.sin(2 * Math.PI * cutoff * t) / (Math.PI * t)
      return sinc * (0.5 + 0.5 * Math.cos((Math.PI * t) / (side + 1)))
    }),
  )
  const out = new Float32Array(Math.floor((samples.length - 1) / ratio) + 1)
  for (let t = 0; t < out.length; t++) {
    const first = Math.floor(t * ratio) - side + 1
    const row = taps[Math.round((t * ratio - Math.floor(t * ratio)) * phases)]
    const [from, to] = [Math.max(0, -first), Math.min(2 * side, samples.length - first)]
    let sum = 0
    for (let i = from; i < to; i++) sum += row[i] * samples[first + i]
    out[t] = sum
  }
  return out
}

const everySecond = (samples) => samples.filter((_, t) => t % 2 === 0)

function digit(path) {
  const [label, speaker, number] = basename(path, '.wav').split('_')
  return { path, target: Number(label), speaker, number: Number(number) }
}

/**
 * The data set of spoken digits. The test set has the recordings 0 to 4 of each speaker and digit (the data set's own split), or all
 * recordings of the speaker `leaveOut`; all other recordings are the training set. Tests at half the sampling rate come twice, with and
 * without a low-pass filter before every second sample is dropped.
 */
export function spokenDigits(folder, { leaveOut, augment = true, ratios = [1] } = {}) {
  const inside = existsSync(join(folder, 'recordings')) ? join(folder, 'recordings') : folder
  const all = readdirSync(inside)
    .filter((name) => name.endsWith('.wav'))
    .toSorted()
    .map((name) => digit(join(inside, name)))
  if (all.length === 0) throw new Error(`${folder}: no recordings (DIGIT_SPEAKER_NUMBER.wav)`)
  const held = leaveOut === undefined ? (d) => d.number < 5 : (d) => d.speaker === leaveOut
  const [train, test, half, halfPlain] = [[], [], [], []]
  for (const d of all) {
    const samples = levelled(readWav(d.path).samples)
    if (!held(d)) {
      // Copies with only the lower half of the frequencies teach the model to recognise digits without the upper half.
      const copies = augment ? [samples, lowPass(samples, 0.25), lowPass(samples, 0.35)] : [samples]
      const byRatio = ratios.map((ratio) => (ratio === 1 ? copies : [resampled(samples, ratio)]))
      train.push({ byRatio, target: d.target, length: samples.length })
      continue
    }
    test.push({ samples, target: d.target, length: samples.length })
    for (const [list, x] of [
      [half, everySecond(lowPass(samples, 0.24))],
      [halfPlain, everySecond(samples)],
    ])
      list.push({ samples: x, target: d.target, length: x.length })
  }
  const plain = (example) => example.samples
  return {
    kind: 'classes',
    classes: 10,
    model: { input: 1, output: 10 },
    train,
    values: augment ? varied : (example) => example.byRatio[0][0],
    // A training batch has one sampling rate, and its voices are played somewhat slower or faster than recorded.
    draw: augment
      ? (random) => {
          const at = ratios.length === 1 ? 0 : Math.floor(random() * ratios.length)
          return { at, rate: ratios[at] * (0.88 + 0.24 * random()) }
        }
      : undefined,
    tests: [
      { name: 'test', examples: test, values: plain },
      { name: 'half rate', examples: half, values: plain, rate: 2 },
      { name: 'half rate, no low-pass', examples: halfPlain, values: plain, rate: 2 },
    ],
    summary: { train: train.length, test: test.length },
  }
}

const NOISE = (() => {
  const random = generator(1)
  return Float32Array.from({ length: 1 << 16 }, () => normal(random))
})()

/** A random variation of a training example: another level, sometimes a low-pass, a little noise. */
function varied(example, random, { at }) {
  const copies = example.byRatio[at]
  const source = copies[Math.min(copies.length - 1, Math.max(0, Math.floor(random() * 4) - 1))]
  const gain = 10 ** ((random() - 0.5) * 0.6)
  const noise = random() < 0.5 ? 0.03 * random() : 0
  const from = Math.floor(random() * NOISE.length)
  const out = new Float32Array(source.length)
  for (let t = 0; t < out.length; t++) out[t] = gain * (source[t] + noise * NOISE[(from + t) & 0xffff])
  return out
}
