// Options of layers, blocks and models: their types, their words, and how they reach the addon.
import type { HostOptions } from '#binding'
import {
  boolean,
  listOf,
  oneOf,
  optionsObject,
  real,
  rejectRenamedOption,
  rejectUnknownOptions,
  size,
} from './check.js'
import { fail } from './error.js'
import type { Dtype } from './tensor.js'

/** The words that each option takes. */
export const choices = {
  /** Where to compute. */
  device: ['auto', 'cpu', 'cuda'],
  /** How exactly a GPU multiplies. */
  precision: ['highest', 'high', 'bf16'],
  /** How the SSM is computed. */
  algorithm: ['auto', 'fft', 'chunk', 'cauchy'],
  /** Structure of A. */
  mode: ['s4', 's4d'],
  /** How Λ, P and B start. */
  init: ['legs', 'legt', 'fourier', 'hippo', 'lin', 'inv', 'real', 'random'],
  /** How continuous time becomes steps. */
  discretization: ['bilinear', 'zoh'],
  /** How a parameter becomes a positive number. */
  transform: ['exp', 'softplus', 'relu', 'sigmoid', 'none'],
  /** Pointwise nonlinearities. */
  activation: ['identity', 'gelu', 'relu', 'silu', 'tanh', 'sigmoid', 'softplus'],
  /** Normalisation of a block. */
  norm: ['layer', 'batch', 'none'],
  /** What maps inputs to features. */
  encoder: ['linear', 'embedding', 'none'],
  /** What a row of steps becomes before the decoder. */
  pooling: ['none', 'mean', 'last', 'first', 'max', 'sum', 'logMeanExp'],
  /** What training minimises. */
  loss: ['crossEntropy', 'mse', 'mae', 'huber', 'gaussian', 'logCosh', 'quantile'],
  /** HiPPO measures of {@link hippo} and {@link nplr}. */
  measure: ['legs', 'legt', 'fourier'],
  /** What a field without a value becomes in {@link readCsv}. */
  gaps: ['error', 'linear'],
  /** What a pixel becomes in {@link readPictures}. */
  colours: ['asStored', 'grey', 'rgb'],
} as const

/** Where and in which number format a handle computes. */
export interface DeviceOptions {
  /** `'auto'` takes an NVIDIA GPU when there is one, else the CPU. Default `'auto'`, or `S4_DEVICE` of the environment. */
  device?: (typeof choices.device)[number]
  /** Default `'f32'`; `'f64'` on the CPU only. */
  dtype?: Dtype
  /** CPU threads; default all cores. Results are the same bits whatever the number. */
  threads?: number
  /**
   * How exactly the GPU multiplies. `'highest'` (default): as good as f32, outputs within 1e-5 and gradients within 1e-4 of the
   * truth; `'high'`: TF32, 2e-3 and 5e-3; `'bf16'`: 1e-2 and 5e-2. Chips without such units, the
   * CPU, and layers whose state is above 64 compute as `'highest'`.
   */
  precision?: (typeof choices.precision)[number]
  /** Most bytes of GPU memory that the handle takes; beyond it `ERR_S4_MEMORY`. Default: all there are. */
  memoryLimit?: number
}

/** How a parameter becomes a positive number. */
export type ParameterTransform = (typeof choices.transform)[number]
/** Pointwise nonlinearity. */
export type Activation = (typeof choices.activation)[number]
/**
 * How the SSM is computed; all give the same outputs and gradients.
 *
 * - `'auto'` picks `'fft'` or `'chunk'` by the shape of the call, from measurements.
 * - `'fft'`, for short sequences and many rows: a kernel as long as the sequence, then a convolution by FFT.
 * - `'chunk'`, for long sequences: states pass between chunks of time; the cost of a sample does not grow with the length.
 * - `'cauchy'`, to check or to study: the paper's Algorithm 1, Cauchy sums, then the convolution of `'fft'`. Bilinear layers
 *   on the CPU; others answer `ERR_S4_UNSUPPORTED`.
 */
export type SsmAlgorithm = (typeof choices.algorithm)[number]

/** One SSM layer (arXiv 2111.00396). */
export interface LayerOptions {
  /** H: input features. */
  features: number
  /** N: real size of the state; even. Default 64. At most 128 on a GPU: for more `device: 'auto'` takes the CPU. */
  state?: number
  /** Diagonal plus low rank (S4) or diagonal (S4D). Default `'s4'`. */
  mode?: (typeof choices.mode)[number]
  /** S4: `legs`, `legt`, `fourier`, `hippo` (LegS and Fourier alternate). S4D: `legs`, `lin`, `inv`, `real`. Both: `random`, without any measure, as the control of the paper's ablation. Default `'legs'`. */
  init?: (typeof choices.init)[number]
  /** Rank of the low-rank part of S4; default 1, or 2 for LegT. */
  rank?: number
  /** Independent (A, B); divides `features`, which is the default. */
  nSsm?: number
  /** Outputs a feature; SSM output c·H + h. Default 1. */
  channels?: number
  /** Two-sided: not causal, has no state. Default false. */
  bidirectional?: boolean
  /** Smallest step size at initialisation. Default 1e-3. */
  dtMin?: number
  /** Largest step size at initialisation. Default 0.1. */
  dtMax?: number
  /** One step size a state instead of one a feature. Default false. */
  dtPerState?: boolean
  /** How continuous time becomes steps; default bilinear for S4 (the only choice), zero-order hold for S4D. */
  discretization?: (typeof choices.discretization)[number]
  /** Δ = t(inv_dt). Default `'softplus'`. */
  dtTransform?: ParameterTransform
  /** Re Λ = −f(A_real). Default `'exp'`. */
  realTransform?: ParameterTransform
  /** Im Λ = −g(A_imag). Default `'none'`. */
  imagTransform?: ParameterTransform
  /** Cut the kernel to this length; such a layer has no state. */
  truncate?: number
  /** Seed of the initial values and of a block's dropout masks; blocks that are stacked want a seed each. Default 0. */
  seed?: number
}

/** Norm, S4, activation, dropout, linear, GLU, dropout, residual. */
export interface BlockOptions extends LayerOptions {
  /** Default `'layer'`. */
  norm?: (typeof choices.norm)[number]
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
  /** One dropout mask for all of time. Default false. */
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
  encoder?: (typeof choices.encoder)[number]
  /** Rows of an embedding. */
  vocabulary?: number
  /** Blocks. Default 4. */
  layers?: number
  /** `'none'` (default) predicts at every step, anything else once a row. */
  pooling?: (typeof choices.pooling)[number]
  /** A norm after the last block; by default when `prenorm`. */
  finalNorm?: boolean
  /** What training minimises. `'gaussian'` gives 2·output values: means, then log σ; `'quantile'` quantiles·output values, those of the first level first. Default `'crossEntropy'`. */
  loss?: (typeof choices.loss)[number]
  /** The error at which Huber becomes linear. Default 1. */
  huberDelta?: number
  /** Levels of the quantile loss: 1 to 9, ascending, each between 0 and 1. Default `[0.1, 0.5, 0.9]`. */
  quantiles?: number[]
}

/** The algorithm that every call of a handle takes unless it names one. */
export interface AlgorithmOption {
  /** Default `'auto'`. */
  algorithm?: SsmAlgorithm
}

/** Options of {@link S4Layer}. */
export interface S4LayerOptions extends LayerOptions, DeviceOptions, AlgorithmOption {}
/** Options of {@link S4Block}. */
export interface S4BlockOptions extends BlockOptions, DeviceOptions, AlgorithmOption {}
/** Options of {@link SequenceModel.create}. */
export interface SequenceModelOptions extends ModelOptions, DeviceOptions, AlgorithmOption {}
/** Where and how a checkpoint is loaded. */
export interface LoadOptions extends DeviceOptions, AlgorithmOption {}

/** Every option of a layer with its value. */
export interface LayerConfig
  extends Required<Omit<LayerOptions, 'rank' | 'truncate'>>, Pick<LayerOptions, 'rank' | 'truncate'> {}
/** Every option of a block with its value. */
export interface BlockConfig extends LayerConfig, Required<Omit<BlockOptions, keyof LayerOptions>> {}
/** Every option of a model with its value. */
export interface ModelConfig
  extends
    BlockConfig,
    Required<Omit<ModelOptions, keyof BlockOptions | 'vocabulary'>>,
    Pick<ModelOptions, 'vocabulary'> {}

const DEVICE_OPTIONS = ['device', 'dtype', 'threads', 'precision', 'memoryLimit', 'algorithm'] as const

/** Options as the addon takes them. */
export interface NativeOptions {
  /** JSON of what a layer, block or model is. */
  config: string
  host: HostOptions
  algorithm: SsmAlgorithm
}

/** What each option of a layer, block or model is: a whole number, a number, true or false, or one of several words. */
const KINDS: Readonly<Record<string, 'whole' | 'number' | 'numbers' | 'boolean' | readonly string[]>> = {
  ...Object.fromEntries(
    [
      'features',
      'state',
      'rank',
      'nSsm',
      'channels',
      'truncate',
      'seed',
      'input',
      'output',
      'vocabulary',
      'layers',
    ].map((name) => [name, 'whole' as const]),
  ),
  ...Object.fromEntries(['dtMin', 'dtMax', 'dropout', 'huberDelta'].map((name) => [name, 'number' as const])),
  ...Object.fromEntries(
    ['bidirectional', 'dtPerState', 'prenorm', 'glu', 'tiedDropout', 'residual', 'finalNorm'].map((name) => [
      name,
      'boolean' as const,
    ]),
  ),
  quantiles: 'numbers',
  mode: choices.mode,
  init: choices.init,
  discretization: choices.discretization,
  dtTransform: choices.transform,
  realTransform: choices.transform,
  imagTransform: choices.transform,
  norm: choices.norm,
  activation: choices.activation,
  finalActivation: choices.activation,
  encoder: choices.encoder,
  pooling: choices.pooling,
  loss: choices.loss,
}

/** An option's value; one of another kind is refused by the option's name, an unknown option by the addon, whatever it is. */
function checkedOption(op: string, name: string, value: unknown): unknown {
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined
  switch (kind) {
    case 'whole':
      return size(op, name, value, 0, Number.MAX_SAFE_INTEGER)
    case 'number':
      return real(op, name, value)
    case 'boolean':
      return boolean(op, name, value)
    case 'numbers':
      return listOf(op, name, value).map((x) => real(op, name, x))
    case undefined:
      return null
    default:
      return oneOf(op, name, value, kind)
  }
}

/** Separates what the device needs from the configuration, whose names and values the addon checks. */
export function nativeOptions(op: string, options: unknown): NativeOptions {
  const config: Record<string, unknown> = {}
  const host: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(optionsObject(op, options))) {
    rejectRenamedOption(op, key)
    if (value === undefined) continue
    if ((DEVICE_OPTIONS as readonly string[]).includes(key)) host[key] = value
    else config[key] = checkedOption(op, key, value)
  }
  return { config: JSON.stringify(config), ...deviceOptions(op, host) }
}

/** Options of what is read from a file or from bytes. */
export function nativeLoadOptions(op: string, options: LoadOptions): Omit<NativeOptions, 'config'> {
  return deviceOptions(op, rejectUnknownOptions(op, options, DEVICE_OPTIONS))
}

function deviceOptions(op: string, options: LoadOptions): Omit<NativeOptions, 'config'> {
  const { algorithm = 'auto', ...host } = options
  const { device = process.env['S4_DEVICE'] ?? 'auto', dtype, precision, threads, memoryLimit } = host
  oneOf(op, 'device', device, choices.device)
  if (dtype !== undefined && dtype !== 'f32' && dtype !== 'f64')
    throw fail('ERR_S4_DTYPE', op, `dtype 'f32' or 'f64'`, dtype)
  if (precision !== undefined) oneOf(op, 'precision', precision, choices.precision)
  if (threads !== undefined) size(op, 'threads', threads, 1, 1024)
  if (memoryLimit !== undefined) size(op, 'memoryLimit in bytes', memoryLimit, 1, Number.MAX_SAFE_INTEGER)
  return { host: { ...host, device }, algorithm: checkAlgorithm(op, algorithm) }
}

/** One of the algorithms. */
export function checkAlgorithm(op: string, x: unknown): SsmAlgorithm {
  return oneOf(op, 'algorithm', x, choices.algorithm)
}

/** The addon's configuration as the API gives it: every value, nothing for an option without one. */
export function publicConfig<C extends LayerConfig>(native: Readonly<Record<string, unknown>>): Readonly<C> {
  const given = Object.entries(native).filter(([, value]) => value !== null)
  const config = Object.fromEntries(given)
  const s4 = config['mode'] === 's4'
  return Object.freeze({
    ...(s4 && { rank: config['init'] === 'legt' ? 2 : 1 }),
    nSsm: config['features'],
    discretization: s4 ? 'bilinear' : 'zoh',
    ...('prenorm' in config && 'layers' in config && { finalNorm: config['prenorm'] }),
    ...config,
  }) as unknown as Readonly<C>
}
