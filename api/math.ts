import * as binding from '#binding'
import { types } from 'node:util'
import { inBackground, type AbortOptions } from './background.js'
import { booleanOf, oneOf, rejectUnknownOptions, wholeNumber } from './check.js'
import { fail, callNative } from './error.js'
import { choices } from './options.js'
import {
  checkTensor,
  finite,
  floats,
  shapeText,
  tensor,
  type Floats,
  type Tensor,
  type TensorLike,
} from './tensor.js'

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

/** HiPPO matrices as the API gives them. */
function hippoMatrices(arrays: binding.NamedArray[]): HippoMatrices {
  const { A, B, P } = tensorsByName(arrays) as { A: Tensor; B: Tensor; P: Tensor }
  return { a: A, b: B, p: P }
}

/** A diagonalised form as the API gives it. */
function nplrForm(arrays: binding.NamedArray[]): NplrForm {
  const form = tensorsByName(arrays) as Record<'lambda' | 'p' | 'b' | 'b_unclipped', Tensor>
  return { lambda: form.lambda, p: form.p, b: form.b, bUnclipped: form.b_unclipped }
}

/** Checks the measure and the size of {@link hippo} or {@link nplr}. */
function checkMeasure(op: string, kind: HippoKind, n: number, least: number): void {
  oneOf(op, 'kind', kind, choices.measure)
  wholeNumber(op, 'n', n, least, 4096)
}

/** HiPPO matrices of a measure (paper eq. 2, Theorem 1). */
export function hippo(kind: HippoKind, n: number): HippoMatrices {
  checkMeasure('hippo', kind, n, 1)
  return hippoMatrices(callNative(() => binding.hippo(kind, n)))
}

/** As {@link hippo}, without holding up the event loop. */
export async function hippoAsync(
  kind: HippoKind,
  n: number,
  options: AbortOptions = {},
): Promise<HippoMatrices> {
  const op = 'hippoAsync'
  const { signal } = rejectUnknownOptions(op, options, ['signal'])
  checkMeasure(op, kind, n, 1)
  return hippoMatrices(await inBackground(op, () => binding.hippoAsync(kind, n), signal))
}

/** The normal plus low-rank form of a measure's matrices, diagonalised (paper Theorem 1). */
export function nplr(kind: HippoKind, n: number): NplrForm {
  checkMeasure('nplr', kind, n, 2)
  return nplrForm(callNative(() => binding.nplr(kind, n)))
}

/** As {@link nplr}, without holding up the event loop. */
export async function nplrAsync(kind: HippoKind, n: number, options: AbortOptions = {}): Promise<NplrForm> {
  const op = 'nplrAsync'
  const { signal } = rejectUnknownOptions(op, options, ['signal'])
  checkMeasure(op, kind, n, 2)
  return nplrForm(await inBackground(op, () => binding.nplrAsync(kind, n), signal))
}

/** Checks what {@link fftConv} is given, and converts it to the addon's types; `shape`: that of the result. */
function convolutionCall(
  op: string,
  u: TensorLike,
  kernel: TensorLike,
  d: TensorLike | undefined,
  { twoSided = false }: FftConvOptions,
) {
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
  const numbers = (what: string, x: TensorLike) => finite(op, what, floats(op, what, x.data, dtype))
  const args: [Floats, Floats, Floats | undefined, binding.ConvSizes] = [
    numbers('u', input),
    numbers('kernel', k),
    skip === undefined ? undefined : numbers('d', skip),
    { batch, heads, channels, len, kernelLen, twoSided },
  ]
  return { args, shape: [batch, len, channels * heads] as const }
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
  const given = rejectUnknownOptions(op, options, ['twoSided'])
  const { args, shape } = convolutionCall(op, u, kernel, d, given)
  return tensor(
    callNative(() => binding.fftConv(...args)),
    shape,
  )
}

/** As {@link fftConv}, without holding up the event loop. */
export async function fftConvAsync(
  u: TensorLike,
  kernel: TensorLike,
  d?: TensorLike,
  options: FftConvOptions & AbortOptions = {},
): Promise<Tensor> {
  const op = 'fftConvAsync'
  const given = rejectUnknownOptions(op, options, ['twoSided', 'signal'])
  const { args, shape } = convolutionCall(op, u, kernel, d, given)
  return tensor(await inBackground(op, () => binding.fftConvAsync(...args), given.signal), shape)
}
