// Inputs and targets of a model by their descriptions.
import * as fc from 'fast-check'
import {
  hostile,
  indicesOf,
  noise,
  numbersOf,
  ratio,
  real,
  seldom,
  some,
  tensor,
  tensorOf,
} from './values.mjs'

const sizes = { rows: fc.constantFrom(1, 1, 2, 3), len: fc.constantFrom(1, 2, 3, 7, 31, 33, 64, 65, 130) }

/** Lengths of the rows of a batch, by a word. */
const LENGTHS = {
  random: (rows, len, seed) => Array.from(noise(rows, seed), (x) => 1 + Math.floor(((x + 1) / 2) * len)),
  full: (rows, len) => Array.from({ length: rows }, () => len),
  ones: (rows) => new Int32Array(rows).fill(1),
  zero: (rows) => new Int32Array(rows),
  beyond: (rows, len) => new Int32Array(rows).fill(len + 1),
  short: (rows, len) => Array.from({ length: rows - 1 }, () => len),
  fraction: (rows, len) => Array.from({ length: rows }, () => len / 2),
  negative: (rows) => Array.from({ length: rows }, () => -1),
  huge: (rows) => Array.from({ length: rows }, () => 2 ** 40),
}
const WEIGHTS = {
  random: (n, seed) => noise(n, seed).map(Math.abs),
  zeros: (n) => new Float32Array(n),
  negative: (n) => new Float32Array(n).fill(-1),
  NaN: (n) => new Float32Array(n).fill(NaN),
  huge: (n) => new Float64Array(n).fill(1e300),
  tiny: (n) => new Float32Array(n).fill(1e-40),
  short: (n) => new Float32Array(n - 1),
}
const lengths = seldom(
  fc.oneof(
    { arbitrary: fc.constantFrom('random', 'full', 'ones'), weight: 4 },
    { arbitrary: fc.constantFrom(...Object.keys(LENGTHS)), weight: 1 },
    { arbitrary: hostile, weight: 1 },
  ),
)
const weights = seldom(
  fc.oneof(
    { arbitrary: fc.constant('random'), weight: 4 },
    { arbitrary: fc.constantFrom(...Object.keys(WEIGHTS)), weight: 2 },
    { arbitrary: hostile, weight: 1 },
  ),
)

/** The input of a call. */
export const input = some({ ...sizes, x: tensor })
export const pushed = some({ len: sizes.len, x: tensor })
/** Options of a call that have to do with its input. */
export const callOptions = { lengths, rate: seldom(ratio) }
export const batch = some({ ...sizes, x: tensor, target: tensor, lengths, weights, rate: seldom(ratio) })
export const interval = seldom(fc.oneof(ratio, fc.constantFrom('rows', 'steps', 'short', 'NaN')))

export function lengthsOf(given, rows, len) {
  if (given === undefined || typeof given === 'object') return real(given)
  return LENGTHS[given](rows, len, 7)
}

export function intervalOf(given, rows, len) {
  const ratios = (n) => noise(n, 3).map((x) => 1.5 + x)
  switch (given) {
    case 'rows':
      return ratios(rows)
    case 'steps':
      return ratios(rows * len)
    case 'short':
      return ratios(rows * len - 1)
    case 'NaN':
      return new Float32Array(rows).fill(NaN)
    default:
      return real(given)
  }
}

/** The described input of a model: tokens for an embedding, else values. */
export function inputOf(config, { x }, rows, len) {
  if (config.encoder === 'embedding')
    return indicesOf(x, [rows, len], config.vocabulary + (x.fill === 'large' ? 1 : 0))
  return tensorOf(x, [rows, len, config.input])
}

/** The described batch of a model. */
export function batchOf(config, given) {
  const { rows, len, target, weights: w, rate } = given
  const pooled = config.pooling !== 'none'
  const count = pooled ? [rows] : [rows, len]
  const out = { input: inputOf(config, given, rows, len) }
  if (config.loss === 'crossEntropy') {
    out.target = indicesOf(target, count, config.output)
    // Labels may be a plain list, and one below 0 is left out.
    if (target.form === 'list' && target.flaw === undefined) out.target = Array.from(out.target.data)
    if (target.fill === 'tiny' && target.flaw === undefined && out.target.shape) out.target.data[0] = -1
  } else out.target = tensorOf(target, [...count, config.output])
  if (given.lengths !== undefined) out.lengths = lengthsOf(given.lengths, rows, len)
  if (w !== undefined) {
    const n = count.reduce((a, b) => a * b, 1)
    out.weights = typeof w === 'string' ? WEIGHTS[w](n, 5) : real(w)
  }
  if (rate !== undefined) out.rate = real(rate)
  return out
}

/** Examples for datasets with `batchSize`. */
export function sampleOf(config, { len, x, target }) {
  const value =
    config.encoder === 'embedding' ? indicesOf(x, [len], config.vocabulary) : tensorOf(x, [len, config.input])
  const pooled = config.pooling !== 'none'
  if (config.loss !== 'crossEntropy')
    return { input: value, target: tensorOf(target, pooled ? [config.output] : [len, config.output]) }
  const label = Math.abs(Math.trunc(numbersOf({ ...target, fill: 'noise' }, 1)[0] * config.output))
  return { input: value, target: pooled ? label : indicesOf(target, [len], config.output) }
}
