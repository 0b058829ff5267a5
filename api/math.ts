import * as binding from '#binding'
import { types } from 'node:util'
import { booleanOf, oneOf, rejectUnknownOptions, wholeNumber } from './check.js'
import { fail, callNative } from './error.js'
import { choices } from './options.js'
import { checkTensor, finite, floats, shapeText, tensor, type Tensor, type TensorLike } from './tensor.js'

/** The measure of a HiPPO matrix: how the state weighs the past of its input. */
export type HippoKind = (typeof choices.measure)[number]

/** The addon's named arrays as tensors by name. */
function tensorsByName(arrays: binding.NamedArray[]): Record<string, Tensor> {
  return Object.fromEntries(
    arrays.map(({ name, shape, data }) => [name, tensor(data as Float64Array, shape)]),
  )
}

/** The HiPPO matrices of a measure in float64: the state follows x′ = A x + B u, and A + P Pᵀ is normal. */
export interface HippoMatrices {
  /** The matrix A, (N, N). */
  a: Tensor
  /** The vector B, (N). */
  b: Tensor
  /** The low-rank part P, (rank, N). */
  p: Tensor
}

/**
 * The diagonalised form A = V (diag(Λ) − P P*) V* in float64. Of each conjugate pair one is given; complex numbers are a
 * last size of 2, (re, im).
 */
export interface NplrForm {
  /** Diagonal Λ, (N/2, 2). */
  lambda: Tensor
  /** P in the eigenvectors' coordinates, V* P, (rank, N/2, 2). */
  p: Tensor
  /** B in the eigenvectors' coordinates, V* B, with its imaginary part clipped to ±2 as in the official code, (N/2, 2). */
  b: Tensor
  /** V* B without clipping, (N/2, 2). */
  bUnclipped: Tensor
}

/** Options of {@link fftConv}. */
export interface FftConvOptions {
  /** Whether the kernel has taps for later inputs too, so that the convolution is not causal. Default false. */
  twoSided?: boolean
}

/** HiPPO matrices of a measure (paper eq. 2, Theorem 1). */
export function hippo(kind: HippoKind, n: number): HippoMatrices {
  oneOf('hippo', 'kind', kind, choices.measure)
  wholeNumber('hippo', 'n', n, 1, 4096)
  const { A, B, P } = tensorsByName(callNative(() => binding.hippo(kind, n))) as {
    A: Tensor
    B: Tensor
    P: Tensor
  }
  return { a: A, b: B, p: P }
}

/** The normal plus low-rank form of a measure's matrices, diagonalised (paper Theorem 1). */
export function nplr(kind: HippoKind, n: number): NplrForm {
  oneOf('nplr', 'kind', kind, choices.measure)
  wholeNumber('nplr', 'n', n, 2, 4096)
  const f = tensorsByName(callNative(() => binding.nplr(kind, n))) as Record<
    'lambda' | 'p' | 'b' | 'b_unclipped',
    Tensor
  >
  return { lambda: f.lambda, p: f.p, b: f.b, bUnclipped: f.b_unclipped }
}

/**
 * Linear convolution of each feature by FFT, y = K∗u + D·u: u (batch, len, heads), kernel (channels, heads, kernelLen), d
 * (channels, heads) → (batch, len, channels·heads). With `twoSided` the kernel is (2·channels, heads, kernelLen), the
 * causal half k first, and y_t = Σ_j k_j u_{t−j} + Σ_j k′_j u_{t+1+j} + d·u_t.
 */
export function fftConv(
  u: TensorLike,
  kernel: TensorLike,
  d?: TensorLike,
  options: FftConvOptions = {},
): Tensor {
  const op = 'fftConv'
  const { twoSided = false } = rejectUnknownOptions(op, options, ['twoSided'])
  booleanOf(op, 'twoSided', twoSided)
  const input = checkTensor(op, 'u', u, 3)
  const k = checkTensor(op, 'kernel', kernel, 3)
  const skip = d === undefined ? undefined : checkTensor(op, 'd', d, 2)
  const [batch, len, heads] = input.shape as [number, number, number]
  const [rows, kernelHeads, kernelLen] = k.shape as [number, number, number]
  if (kernelHeads !== heads) throw fail('ERR_S4_SHAPE', op, `kernel of ${heads} heads`, kernelHeads)
  if (kernelLen > len) throw fail('ERR_S4_SHAPE', op, `kernel no longer than u (${len})`, kernelLen)
  if (twoSided && rows % 2 !== 0)
    throw fail('ERR_S4_SHAPE', op, 'a two-sided kernel of 2·channels rows', rows)
  const channels = twoSided ? rows / 2 : rows
  if (skip !== undefined && (skip.shape[0] !== channels || skip.shape[1] !== heads))
    throw fail('ERR_S4_SHAPE', op, `d [${channels}, ${heads}]`, shapeText(skip.shape))
  const dtype = types.isFloat64Array(input.data) ? 'f64' : 'f32'
  const arrays = [input, k, ...(skip === undefined ? [] : [skip])].map((x, i) => {
    const what = ['u', 'kernel', 'd'][i] as string
    return finite(op, what, floats(op, what, x.data, dtype))
  })
  const y = callNative(() =>
    binding.fftConv(arrays[0] as Float32Array, arrays[1] as Float32Array, arrays[2], {
      batch,
      heads,
      channels,
      len,
      kernelLen,
      twoSided,
    }),
  )
  return tensor(y, [batch, len, channels * heads])
}
