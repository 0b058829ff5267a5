import type { HostOptions } from '#binding'
import { fail } from './error.js'
import { known, type Dtype } from './tensor.js'

/** Where and in which number format a handle computes. */
export interface DeviceOptions {
  /** `'auto'` takes an NVIDIA GPU when there is one, else the CPU. Default `'auto'`, or `S4_DEVICE` of the environment. */
  device?: 'cpu' | 'cuda' | 'auto'
  /** Default `'f32'`; `'f64'` on the CPU only. */
  dtype?: Dtype
  /** CPU threads; default all cores. Results are the same bits whatever the number. */
  threads?: number
  /**
   * How exactly the GPU multiplies. `'highest'` (default): as good as f32, outputs within 1e-5 and gradients within 1e-4 of the
   * truth; `'high'`: TF32, 2e-3 and 5e-3; `'bf16'`: 1e-2 and 5e-2. Chips without such units, the
   * CPU, and layers whose state is above 64 compute as `'highest'`.
   */
  precision?: 'highest' | 'high' | 'bf16'
  /** Most bytes of GPU memory that the handle takes; beyond it `ERR_S4_MEMORY`. Default: all there are. */
  memoryLimit?: number
}

/** How a parameter becomes a positive number. */
export type Transform = 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none'
/** Pointwise nonlinearity. */
export type Activation = 'identity' | 'gelu' | 'relu' | 'silu' | 'tanh' | 'sigmoid'
/** `'fft'` is the paper's way (kernel, then FFT convolution), `'chunk'` passes states between chunks, `'auto'` picks by shape. */
export type Algorithm = 'auto' | 'fft' | 'chunk'

/** One SSM layer (arXiv 2111.00396). */
export interface LayerOptions {
  /** H: input features. */
  features: number
  /** N: real size of the state; even. Default 64. At most 128 on a GPU: for more `device: 'auto'` takes the CPU. */
  state?: number
  /** Diagonal plus low rank (S4) or diagonal (S4D). Default `'s4'`. */
  mode?: 's4' | 's4d'
  /** S4: `legs`, `legt`, `fourier`, `hippo` (LegS and Fourier in turn). S4D: `legs`, `lin`, `inv`, `real`. Default `'legs'`. */
  init?: 'legs' | 'legt' | 'fourier' | 'hippo' | 'lin' | 'inv' | 'real'
  /** Rank of the low-rank part; default 1, or 2 for LegT. */
  rank?: number
  /** Independent (A, B); divides `features`, which is the default. */
  nSsm?: number
  /** Outputs a feature; SSM output c·H + h. Default 1. */
  channels?: number
  /** Two-sided: not causal, has no state. */
  bidirectional?: boolean
  /** Smallest step size at initialisation. Default 1e-3. */
  dtMin?: number
  /** Largest step size at initialisation. Default 0.1. */
  dtMax?: number
  /** One step size a state instead of one a feature. */
  dtPerState?: boolean
  /** Discretisation; default bilinear for S4 (the only choice), zero-order hold for S4D. */
  disc?: 'bilinear' | 'zoh'
  /** Δ = t(inv_dt). Default `'softplus'`. */
  dtTransform?: Transform
  /** Re Λ = −f(A_real). Default `'exp'`. */
  realTransform?: Transform
  /** Im Λ = −g(A_imag). Default `'none'`. */
  imagTransform?: Transform
  /** Cut the kernel to this length; such a layer has no state. */
  truncate?: number
  /** Seed of the initial values and of a block's dropout masks; blocks that are stacked want a seed each. Default 0. */
  seed?: number
}

/** Norm, S4, activation, dropout, linear, GLU, dropout, residual. */
export interface BlockOptions extends LayerOptions {
  /** Default `'layer'`. */
  norm?: 'layer' | 'batch' | 'none'
  /** Norm before the SSM (default), else after the residual sum. */
  prenorm?: boolean
  /** After the SSM. Default `'gelu'` (exact). */
  activation?: Activation
  /** The linear gives twice the features, first half · σ(second half). Default true. */
  glu?: boolean
  /** After a linear without GLU. Default `'identity'`. */
  finalActivation?: Activation
  /** Dropout probability while training. Default 0. */
  dropout?: number
  /** One dropout mask for all of time. */
  tiedDropout?: boolean
  /** Add the block's input to its output. Default true. */
  residual?: boolean
}

/** Encoder, blocks, norm, pooling, decoder, loss. */
export interface ModelOptions extends BlockOptions {
  /** Values a sample has (unused with an embedding). Default 1. */
  input?: number
  /** Values or classes predicted. Default 1. */
  output?: number
  /** `'embedding'` takes tokens (batch, len). Default `'linear'`. */
  encoder?: 'linear' | 'embedding' | 'none'
  /** Rows of an embedding. */
  vocabulary?: number
  /** Blocks. Default 4. */
  layers?: number
  /** `'none'` (default) predicts at every step, anything else once a row. */
  pooling?: 'none' | 'mean' | 'last' | 'first' | 'max' | 'sum'
  /** A norm after the last block; by default when `prenorm`. */
  finalNorm?: boolean
  /** What training minimises. `'gaussian'` gives 2·output values: means, then log σ. Default `'crossEntropy'`. */
  loss?: 'crossEntropy' | 'mse' | 'mae' | 'huber' | 'gaussian'
  /** Where Huber turns linear. Default 1. */
  huberDelta?: number
}

/** Options of {@link S4Layer}. */
export interface S4LayerOptions extends LayerOptions, DeviceOptions {
  /** Default of every call. */
  algorithm?: Algorithm
}
/** Options of {@link S4Block}. */
export interface S4BlockOptions extends BlockOptions, DeviceOptions {
  /** Default of every call. */
  algorithm?: Algorithm
}
/** Options of {@link SequenceModel.create}. */
export interface SequenceModelOptions extends ModelOptions, DeviceOptions {
  /** Default of every call. */
  algorithm?: Algorithm
}

const DEVICE = ['device', 'dtype', 'threads', 'precision', 'memoryLimit', 'algorithm'] as const

/** Splits what the device needs from the configuration, which the addon checks option by option. */
export function split(
  op: string,
  options: unknown,
): { config: string; host: HostOptions; algorithm: Algorithm } {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw fail('ERR_S4_VALUE', op, 'an object of options', String(options))
  }
  const config: Record<string, unknown> = {}
  const host: HostOptions & { algorithm?: unknown } = {}
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue
    if (typeof value === 'number' && !Number.isFinite(value)) {
      throw fail('ERR_S4_VALUE', op, `a finite number for '${key}'`, value)
    }
    if (typeof value === 'bigint' || typeof value === 'function' || typeof value === 'symbol') {
      throw fail('ERR_S4_VALUE', op, `a number, string or boolean for '${key}'`, typeof value)
    }
    if ((DEVICE as readonly string[]).includes(key)) (host as Record<string, unknown>)[key] = value
    else config[key] = value
  }
  const { algorithm = 'auto', ...rest } = host
  return {
    config: JSON.stringify(config),
    host: checkHost(op, rest),
    algorithm: checkAlgorithm(op, algorithm),
  }
}

/** Checks the options of what is read from a file or from bytes. */
export function loading(
  op: string,
  options: DeviceOptions & { algorithm?: Algorithm },
): { host: HostOptions; algorithm: Algorithm } {
  known(op, options, DEVICE)
  const { algorithm = 'auto', ...host } = options
  return { algorithm: checkAlgorithm(op, algorithm), host: checkHost(op, host) }
}

/** Checks device options. */
export function checkHost(op: string, host: HostOptions): HostOptions {
  const out = { ...host, device: host.device ?? process.env['S4_DEVICE'] ?? 'auto' }
  oneOf(op, 'device', out.device, ['cpu', 'cuda', 'auto'])
  if (out.dtype !== undefined && out.dtype !== 'f32' && out.dtype !== 'f64') {
    throw fail('ERR_S4_DTYPE', op, `dtype 'f32' or 'f64'`, String(out.dtype))
  }
  if (out.precision !== undefined) oneOf(op, 'precision', out.precision, ['highest', 'high', 'bf16'])
  if (
    out.threads !== undefined &&
    !(Number.isInteger(out.threads) && out.threads >= 1 && out.threads <= 1024)
  ) {
    throw fail('ERR_S4_VALUE', op, 'threads from 1 to 1024', out.threads)
  }
  if (out.memoryLimit !== undefined && !(Number.isInteger(out.memoryLimit) && out.memoryLimit > 0)) {
    throw fail('ERR_S4_VALUE', op, 'memoryLimit in whole bytes, 1 or more', out.memoryLimit)
  }
  return out
}

/** One of several words. */
export function oneOf<T extends string>(op: string, what: string, x: unknown, words: readonly T[]): T {
  if (!words.includes(x as T)) throw fail('ERR_S4_VALUE', op, `${what} one of ${words.join(', ')}`, x)
  return x as T
}

/** `'auto' | 'fft' | 'chunk'`. */
export function checkAlgorithm(op: string, x: unknown): Algorithm {
  return oneOf(op, 'algorithm', x, ['auto', 'fft', 'chunk'])
}
