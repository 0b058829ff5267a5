import * as binding from '#binding'
import { types } from 'node:util'
import { boolean, oneOf, rejectUnknownOptions, size } from './check.js'
import { fail, native } from './error.js'
import { choices } from './options.js'
import { checkTensor, finite, floats, shapeText, tensor, type Tensor, type TensorLike } from './tensor.js'

/** Which measure the state remembers its input by. */
export type HippoKind = (typeof choices.measure)[number]

function tensorsByName(arrays: binding.NamedArray[]): Record<string, Tensor> {
  return Object.fromEntries(
    arrays.map(({ name, shape, data }) => [name, tensor(data as Float64Array, shape)]),
  )
}

/** HiPPO matrices in float64: x′ = A x + B u, with A + P Pᵀ normal. */
export interface HippoMatrices {
  /** A: (N, N). */
  a: Tensor
  /** B: (N). */
  b: Tensor
  /** P: (rank, N). */
  p: Tensor
}

/** A = V (diag(Λ) − P P*) V* in float64, one of each conjugate pair, complex as trailing (re, im). */
export interface NplrForm {
  /** Λ: (N/2, 2). */
  lambda: Tensor
  /** V* P: (rank, N/2, 2). */
  p: Tensor
  /** V* B, its imaginary part clipped to ±2: (N/2, 2). */
  b: Tensor
  /** V* B: (N/2, 2). */
  bUnclipped: Tensor
}

/** How {@link fftConv} convolves. */
export interface FftConvOptions {
  /** The kernel has a direction against time as well. Default false. */
  twoSided?: boolean
}

/** HiPPO matrices of a measure (paper eq. 2, Theorem 1). */
export function hippo(kind: HippoKind, n: number): HippoMatrices {
  oneOf('hippo', 'kind', kind, choices.measure)
  size('hippo', 'n', n, 1, 4096)
  const { A, B, P } = tensorsByName(native(() => binding.hippo(kind, n))) as {
    A: Tensor
    B: Tensor
    P: Tensor
  }
  return { a: A, b: B, p: P }
}

/** The normal plus low-rank form of a measure's matrices, diagonalised (paper Theorem 1). */
export function nplr(kind: HippoKind, n: number): NplrForm {
  oneOf('nplr', 'kind', kind, choices.measure)
  size('nplr', 'n', n, 2, 4096)
  const f = tensorsByName(native(() => binding.nplr(kind, n))) as Record<
    'lambda' | 'p' | 'b' | 'b_unclipped',
    Tensor
  >
  return { lambda: f.lambda, p: f.p, b: f.b, bUnclipped: f.b_unclipped }
}

/**
 * Linear convolution by FFT: u (batch, len, heads), kernel (channels, heads, kernelLen), d (channels, heads) →
 * (batch, len, channels·heads). Two-sided: the kernel has 2·channels rows, forward direction first, y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}.
 */
export function fftConv(
  u: TensorLike,
  kernel: TensorLike,
  d?: TensorLike,
  options: FftConvOptions = {},
): Tensor {
  const op = 'fftConv'
  const { twoSided = false } = rejectUnknownOptions(op, options, ['twoSided'])
  boolean(op, 'twoSided', twoSided)
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
  const all = [input, k, ...(skip === undefined ? [] : [skip])].map((x, i) => {
    const what = ['u', 'kernel', 'd'][i] as string
    return finite(op, what, floats(op, what, x.data, dtype))
  })
  const y = native(() =>
    binding.fftConv(all[0] as Float32Array, all[1] as Float32Array, all[2], {
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
