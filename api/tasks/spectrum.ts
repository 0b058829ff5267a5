/**
 * Audio as a spectrum over time: the power in bands that are evenly spaced on the mel scale, 100 times a second. Bands are in hertz,
 * so a recording at half the sampling rate gives the same numbers in the bands that it has.
 */

/** Seconds between two spectra, and of sound in each. */
export const HOP = 0.01
const SPAN = 0.025
const LOWEST = 60
const FLOOR = 1e-6

const mel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700)
const hertz = (m: number): number => 700 * (10 ** (m / 2595) - 1)

/** Number of bands for a sampling rate. */
export const bandsFor = (sampleRate: number): number => (sampleRate > 10_000 ? 40 : 32)

/** The edges of bands from 60 Hz to the Nyquist frequency of `sampleRate`: band b rises from edge b to b + 1 and falls to b + 2. */
function bandEdges(sampleRate: number, bands: number): number[] {
  const [low, high] = [mel(Math.min(LOWEST, sampleRate / 20)), mel(sampleRate / 2)]
  return Array.from({ length: bands + 2 }, (_, i) => hertz(low + ((high - low) * i) / (bands + 1)))
}

/** Number of bands that sound sampled `rate` times less often than `sampleRate` has in full. */
export function bandsAt(sampleRate: number, bands: number, rate: number): number {
  const edges = bandEdges(sampleRate, bands)
  // A little room, for filters before resampling are not steep.
  const nyquist = (sampleRate / rate / 2) * (rate > 1 ? 0.95 : 1) * (1 + 1e-9)
  let count = 0
  while (count < bands && (edges[count + 2] as number) <= nyquist) count++
  return count
}

/** Computes spectra of recordings at one sampling rate. */
export class Spectrum {
  /** Bands that this sampling rate has; those above hold 0. */
  readonly present: number
  readonly #bands: number
  readonly #hop: number
  readonly #window: Float64Array
  readonly #size: number
  readonly #filters: readonly { from: number; weights: Float64Array }[]

  /** For sound of `sampleRate`/`rate` samples a second, with the bands of `sampleRate`. */
  constructor(sampleRate: number, bands: number, rate = 1) {
    const own = sampleRate / rate
    this.#bands = bands
    this.present = bandsAt(sampleRate, bands, rate)
    this.#hop = own * HOP
    const span = Math.max(2, Math.round(own * SPAN))
    this.#window = Float64Array.from(
      { length: span },
      (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / span),
    )
    this.#size = 2 ** Math.ceil(Math.log2(span))
    const energy = this.#window.reduce((sum, w) => sum + w * w, 0)
    const edges = bandEdges(sampleRate, bands)
    const spacing = own / this.#size
    this.#filters = Array.from({ length: this.present }, (_, b) => {
      const [low, middle, high] = edges.slice(b, b + 3) as [number, number, number]
      const from = Math.max(0, Math.floor(low / spacing))
      const to = Math.min(this.#size / 2, Math.ceil(high / spacing))
      const weights = Float64Array.from({ length: to - from + 1 }, (__, i) => {
        const f = (from + i) * spacing
        return Math.max(0, Math.min((f - low) / (middle - low), (high - f) / (high - middle)))
      })
      // Narrow bands between two lines of the transform take the nearest one.
      if (!weights.some((w) => w > 0))
        weights[Math.max(0, Math.min(weights.length - 1, Math.round(middle / spacing) - from))] = 1
      const sum = weights.reduce((a, w) => a + w, 0)
      // Density of power: what does not depend on the number of lines in a band.
      return { from, weights: weights.map((w) => w / sum / energy / own) }
    })
  }

  /** Number of spectra of a recording. */
  frames(samples: number): number {
    return Math.max(1, Math.floor((samples - this.#window.length) / this.#hop) + 1)
  }

  /** Logarithms of the power, (frames, bands), of a recording that is first scaled to a root mean square of 1. */
  of(samples: ArrayLike<number>): Float32Array {
    const count = this.frames(samples.length)
    const out = new Float32Array(count * this.#bands)
    let squares = 0
    for (let t = 0; t < samples.length; t++) squares += (samples[t] as number) ** 2
    const scale = 1 / Math.sqrt(squares / samples.length + 1e-12)
    const [re, im] = [new Float64Array(this.#size), new Float64Array(this.#size)]
    for (let frame = 0; frame < count; frame++) {
      const start = Math.round(frame * this.#hop)
      re.fill(0)
      im.fill(0)
      this.#window.forEach((w, i) => {
        const t = start + i
        if (t < samples.length) re[i] = w * scale * (samples[t] as number)
      })
      fft(re, im)
      this.#filters.forEach(({ from, weights }, b) => {
        let power = 0
        weights.forEach((w, i) => {
          power += w * ((re[from + i] as number) ** 2 + (im[from + i] as number) ** 2)
        })
        out[frame * this.#bands + b] = Math.log(power + FLOOR * HOP)
      })
    }
    return out
  }
}

/** The discrete Fourier transform of a power of two of complex numbers, in place (Cooley and Tukey). */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1
    for (; j & bit; bit >>= 1) j ^= bit
    j ^= bit
    if (i < j) {
      ;[re[i], re[j]] = [re[j] as number, re[i] as number]
      ;[im[i], im[j]] = [im[j] as number, im[i] as number]
    }
  }
  for (let size = 2; size <= n; size <<= 1) {
    const angle = (-2 * Math.PI) / size
    for (let k = 0; k < size / 2; k++) {
      const [c, s] = [Math.cos(angle * k), Math.sin(angle * k)]
      for (let at = k; at < n; at += size) {
        const other = at + size / 2
        const [x, y] = [re[other] as number, im[other] as number]
        const [tr, ti] = [c * x - s * y, c * y + s * x]
        re[other] = (re[at] as number) - tr
        im[other] = (im[at] as number) - ti
        re[at]! += tr
        im[at]! += ti
      }
    }
  }
}
