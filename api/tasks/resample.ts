// Fewer samples of the same signal, without aliasing.

const SIDE = 16
const PHASES = 32

/**
 * A signal (len, channels) with `ratio` ≥ 1 times fewer samples, by a windowed sinc whose cutoff lies below the new Nyquist
 * frequency and which is tabulated at 32 positions between two samples.
 */
export function resampled(samples: Float32Array, channels: number, ratio: number): Float32Array {
  if (ratio === 1) return samples
  const side = Math.ceil(SIDE * ratio)
  const cutoff = 0.46 / ratio
  const taps = Array.from({ length: PHASES + 1 }, (_, phase) => {
    const row = Float64Array.from({ length: 2 * side }, (__, i) => {
      const t = i - side + 1 - phase / PHASES
      const sinc = t === 0 ? 2 * cutoff : Math.sin(2 * Math.PI * cutoff * t) / (Math.PI * t)
      return sinc * (0.5 + 0.5 * Math.cos((Math.PI * t) / (side + 1)))
    })
    const sum = row.reduce((a, b) => a + b, 0)
    return row.map((w) => w / sum)
  })
  const len = samples.length / channels
  const count = Math.floor((len - 1) / ratio) + 1
  const out = new Float32Array(count * channels)
  for (let t = 0; t < count; t++) {
    const at = t * ratio
    const first = Math.floor(at) - side + 1
    const row = taps[Math.round((at - Math.floor(at)) * PHASES)] as Float64Array
    for (let c = 0; c < channels; c++) {
      let sum = 0
      for (let i = 0; i < 2 * side; i++) {
        // Beyond its ends a signal goes on as it was there.
        const s = Math.max(0, Math.min(len - 1, first + i))
        sum += (row[i] as number) * (samples[s * channels + c] as number)
      }
      out[t * channels + c] = sum
    }
  }
  return out
}
