import * as binding from '#binding'
import { fail, native } from './error.js'
import { oneOf } from './options.js'
import { boolean, checkTensor, floats, known, size, tensor, type Tensor, type TensorLike } from './tensor.js'

/** Which measure the state remembers its input by. */
export type HippoKind = 'legs' | 'legt' | 'fourier'

const KINDS = ['legs', 'legt', 'fourier'] as const

function named(arrays: binding.NamedArray[]): Record<string, Tensor> {
  return Object.fromEntries(
    arrays.map(({ name, shape, data }) => [name, tensor(data as Float64Array, shape)]),
  )
}

/** HiPPO matrices in float64: A (N, N), B (N), P (rank, N) (paper eq. 2, Theorem 1). */
export function hippo(kind: HippoKind, n: number): { a: Tensor; b: Tensor; p: Tensor } {
  oneOf('hippo', 'kind', kind, KINDS)
  size('hippo', 'n', n, 1, 4096)
  const { A, B, P } = named(native(() => binding.hippo(kind, n))) as { A: Tensor; B: Tensor; P: Tensor }
  return { a: A, b: B, p: P }
}

/** The diagonalised normal plus low-rank form in float64, half of the conjugate pairs, complex as trailing (re, im). */
export function nplr(
  kind: HippoKind,
  n: number,
): { lambda: Tensor; p: Tensor; b: Tensor; bUnclipped: Tensor } {
  oneOf('nplr', 'kind', kind, KINDS)
  size('nplr', 'n', n, 2, 4096)
  const f = named(native(() => binding.nplr(kind, n))) as Record<'lambda' | 'p' | 'b' | 'b_unclipped', Tensor>
  return { lambda: f.lambda, p: f.p, b: f.b, bUnclipped: f.b_unclipped }
}

/**
 * Linear convolution by FFT: u (batch, len, heads), kernel (channels, heads, kernelLen), d (channels, heads) →
 * (batch, len, channels·heads). Two-sided: the kernel has 2·channels rows, forward half first, y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}.
 */
export function fftConv(
  u: TensorLike,
  kernel: TensorLike,
  d?: TensorLike,
  options: { twoSided?: boolean } = {},
): Tensor {
  const op = 'fftConv'
  known(op, options, ['twoSided'])
  const twoSided = boolean(op, 'twoSided', options.twoSided ?? false)
  const [batch, len, heads] = checkTensor(op, 'u', u, 3).shape as [number, number, number]
  const [rows, kernelHeads, kernelLen] = checkTensor(op, 'kernel', kernel, 3).shape as [
    number,
    number,
    number,
  ]
  if (kernelHeads !== heads) throw fail('ERR_S4_SHAPE', op, `kernel of ${heads} heads`, kernelHeads)
  if (kernelLen > len) throw fail('ERR_S4_SHAPE', op, `kernel no longer than u (${len})`, kernelLen)
  if (twoSided && rows % 2 !== 0)
    throw fail('ERR_S4_SHAPE', op, 'a two-sided kernel of 2·channels rows', rows)
  const channels = twoSided ? rows / 2 : rows
  if (d !== undefined) {
    const shape = checkTensor(op, 'd', d, 2).shape
    if (shape[0] !== channels || shape[1] !== heads)
      throw fail('ERR_S4_SHAPE', op, `d [${channels}, ${heads}]`, `[${shape.join(', ')}]`)
  }
  const dtype = u.data instanceof Float64Array ? 'f64' : 'f32'
  const all = [u, kernel, ...(d === undefined ? [] : [d])].map((x, i) =>
    floats(op, ['u', 'kernel', 'd'][i] as string, x.data, dtype),
  )
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
