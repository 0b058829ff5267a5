// Options of layers, blocks and models: their types, the words that they take, their checks, and their form for the addon.
import type { HostOptions } from '#binding'
import {
  booleanOf,
  listOf,
  oneOf,
  optionsObject,
  numberIn32Bits,
  rejectRenamedOption,
  rejectUnknownOptions,
  wholeNumber,
} from './check.js'
import { fail } from './error.js'
import type { Dtype } from './tensor.js'

/** For each option that takes one of several words: the words. */
export const choices = {
  /** Where to compute. */
  device: ['auto', 'cpu', 'cuda'],
  /** One GPU of several. */
  gpu: [
    'cuda:0',
    'cuda:1',
    'cuda:2',
    'cuda:3',
    'cuda:4',
    'cuda:5',
    'cuda:6',
    'cuda:7',
    'cuda:8',
    'cuda:9',
    'cuda:10',
    'cuda:11',
    'cuda:12',
    'cuda:13',
    'cuda:14',
    'cuda:15',
  ],
  /** How exactly a GPU multiplies. */
  precision: ['highest', 'high', 'bf16'],
  /** How the SSM is computed. */
  algorithm: ['auto', 'fft', 'chunk', 'cauchy'],
  /** Structure of A. */
  mode: ['s4', 's4d'],
  /** Initial values of Λ, P and B. */
  init: ['legs', 'legt', 'fourier', 'hippo', 'lin', 'inv', 'real', 'random'],
  /** How continuous time becomes steps. */
  discretization: ['bilinear', 'zoh'],
  /** Function that makes a positive number of a parameter, which may be any number. */
  transform: ['exp', 'softplus', 'relu', 'sigmoid', 'none'],
  /** Nonlinear function of each feature at each time step. */
  activation: ['identity', 'gelu', 'relu', 'silu', 'tanh', 'sigmoid', 'softplus'],
  /** Kind of the normalisation in a block. */
  norm: ['layer', 'batch', 'none'],
  /** How inputs are mapped to features. */
  encoder: ['linear', 'embedding', 'none'],
  /**
   * How the features of all time steps become one vector for the decoder; with `none` the decoder runs at every time step.
   */
  pooling: ['none', 'mean', 'last', 'first', 'max', 'sum', 'logMeanExp'],
  /** The loss that training minimises. */
  loss: ['crossEntropy', 'mse', 'mae', 'huber', 'gaussian', 'logCosh', 'quantile'],
  /** HiPPO measures of {@link hippo} and {@link nplr}. */
  measure: ['legs', 'legt', 'fourier'],
  /** How {@link readCsv} treats a field without a value. */
  gaps: ['error', 'linear'],
  /** What a pixel becomes in {@link readPictures}. */
  colours: ['asStored', 'grey', 'rgb'],
} as const

/** Options of where and in which number format a layer, block or model computes. */
export interface DeviceOptions {
  /**
   * `'auto'` takes an NVIDIA GPU when there is one, else the CPU; `'cuda'` is the first GPU, `'cuda:1'` the second. Default `'auto'`, or
   * `S4_DEVICE` of the environment.
   */
  device?: (typeof choices.device)[number] | (typeof choices.gpu)[number]
  /** Number format. Default `'f32'`; `'f64'` is computed on the CPU only. */
  dtype?: Dtype
  /** Number of CPU threads. Default one for each core. Results are the same bits for any number. */
  threads?: number
  /**
   * How exactly a GPU multiplies matrices. `'highest'` (default) is as good as f32, with outputs within 1e-5 and gradients
   * within 1e-4 of exact ones, relative; `'high'` takes TF32, within 2e-3 and 5e-3; `'bf16'` within 1e-2 and 5e-2. GPUs
   * without units for such numbers, the CPU, and layers whose state is above 64 compute as `'highest'`.
   * On Hopper `'highest'` holds each operand of a mixing layer with GLU relative to its largest number: numbers below
   * 2⁻⁹ of that have an absolute error of up to 2⁻³¹ of it.
   */
  precision?: (typeof choices.precision)[number]
  /** Most bytes of GPU memory that it may take; beyond them a call answers `ERR_S4_MEMORY`. Default all there are. */
  memoryLimit?: number
}

/** Function that makes a positive number of a parameter, which may be any number. */
export type ParameterTransform = (typeof choices.transform)[number]
/** Nonlinear function of each feature at each time step. */
export type Activation = (typeof choices.activation)[number]
/**
 * How the SSM is computed. All algorithms give the same outputs and gradients, up to rounding.
 *
 * - `'auto'` takes the faster of `'fft'` and `'chunk'` for the sizes of the call, by measurements.
 * - `'fft'`, for short sequences and many of them: a kernel as long as the sequence, then a convolution by FFT. Its rounding is
 *   relative to the largest value of the sequence: beside an outlier of 10⁹ values of 1 are lost, also before it.
 * - `'chunk'`, for long sequences: states pass between chunks of time; a time step costs the same at any length.
 * - `'cauchy'`, to check or to study: the paper's Algorithm 1, Cauchy sums, then the convolution of `'fft'`. For bilinear
 *   layers with |Λ|Δ·length of at least 10⁻⁶ and |Λ|Δ of at most 10⁸; others answer `ERR_S4_UNSUPPORTED`. A GPU answers so only for
 *   what is not bilinear: beyond those limits its outputs are NaN, and training ends with `ERR_S4_NONFINITE`; it takes at most 2²⁴
 *   samples. A call that begins with a state runs by `'chunk'` on a GPU; on the CPU only what that state adds does.
 */
export type SsmAlgorithm = (typeof choices.algorithm)[number]

/** Options of one SSM layer, in the terms of the paper (arXiv 2111.00396). */
export interface LayerOptions {
  /** H, the number of input features. */
  features: number
  /**
   * N, the number of reals in each feature's state; even. Default 64. A GPU takes at most 128: for more, `device: 'auto'`
   * chooses the CPU.
   */
  state?: number
  /** Structure of A: diagonal plus low rank (`'s4'`, default) or diagonal (`'s4d'`). */
  mode?: (typeof choices.mode)[number]
  /**
   * Initial values of Λ, P and B. S4 takes `legs`, `legt`, `fourier` and `hippo` (LegS and Fourier together); S4D takes
   * `legs`, `lin`, `inv` and `real`; both take `random`, the control of the paper's ablation. Default `'legs'`.
   */
  init?: (typeof choices.init)[number]
  /** Rank of the low-rank part of A in S4. Default 1, or 2 for LegT. */
  rank?: number
  /** Number of different (A, B), which the features share; it divides `features`. Default one for each feature. */
  nSsm?: number
  /** Outputs for each feature: channel c of feature h is output c·H + h of the SSM. Default 1. */
  channels?: number
  /** Whether outputs depend on later inputs too. Such a layer has no state. Default false. */
  bidirectional?: boolean
  /** Smallest step size at initialisation. Default 1e-3. */
  dtMin?: number
  /** Largest step size at initialisation. Default 0.1. */
  dtMax?: number
  /** Whether each conjugate pair of a state has a step size of its own, instead of one for each feature. Default false. */
  dtPerState?: boolean
  /** How continuous time becomes steps. S4 takes only bilinear; S4D takes zero-order hold by default. */
  discretization?: (typeof choices.discretization)[number]
  /** Function t that makes the step size of its parameter, Δ = t(inv_dt). Default `'softplus'`. */
  dtTransform?: ParameterTransform
  /** Function f that makes the real part of Λ of its parameter, Re Λ = −f(A_real). Default `'exp'`. */
  realTransform?: ParameterTransform
  /** Function g that makes the imaginary part of Λ of its parameter, Im Λ = −g(A_imag). Default `'none'`. */
  imagTransform?: ParameterTransform
  /** Length that the kernel is cut to. Such a layer has no state. */
  truncate?: number
  /** Seed of the initial values and of a block's dropout masks. Give each of several blocks another one. Default 0. */
  seed?: number
}

/** Options of a block: norm, S4, activation, dropout, linear, GLU, dropout, residual. */
export interface BlockOptions extends LayerOptions {
  /** Kind of the norm. Default `'layer'`. */
  norm?: (typeof choices.norm)[number]
  /** Whether the norm stands before the SSM (default) or after the residual sum. */
  prenorm?: boolean
  /** Activation after the SSM. Default `'gelu'`, in its exact form. */
  activation?: Activation
  /** Whether the linear gives twice the features, of which the block takes first half · σ(second half). Default true. */
  glu?: boolean
  /** Activation after a linear without GLU. Default `'identity'`. */
  finalActivation?: Activation
  /** Probability of each of the two dropouts in training. Default 0. */
  dropout?: number
  /** Whether a dropout mask is the same at every time step of a sequence. Default false. */
  tiedDropout?: boolean
  /** Whether the block's input is added to its output. Default true. */
  residual?: boolean
  /**
   * Probability with which training leaves out, for a whole sequence, what the block adds to its input (stochastic depth, the official
   * code's `drop_path`); what is kept is scaled by 1/(1 − p). In a model for each block and each feed-forward layer. Default 0.
   */
  dropPath?: number
}

/** Options of a model: encoder, blocks, final norm, pooling, decoder, loss. */
export interface ModelOptions extends BlockOptions {
  /** Number of input values at each time step; not used with an embedding. Default 1. */
  input?: number
  /** Number of values, or of classes, that are predicted. Default 1. */
  output?: number
  /** How inputs are mapped to features; `'embedding'` takes tokens (batch, len). Default `'linear'`. */
  encoder?: (typeof choices.encoder)[number]
  /** Number of different tokens, for an embedding. */
  vocabulary?: number
  /** Number of blocks. Default 4. */
  layers?: number
  /**
   * A feed-forward layer after each block, as in the paper's language model (the official code's `ff`, of which this is `expand`): a
   * residual block of its own with the block's kind of norm, a linear to `feedForward`·`features` features, GELU, dropout, a linear
   * back, dropout. Default 0: no such layers.
   */
  feedForward?: number
  /**
   * How the features of all time steps become one vector, for one prediction per sequence. `'none'` (default) predicts at
   * every time step.
   */
  pooling?: (typeof choices.pooling)[number]
  /** Whether a norm follows the last block. Default as `prenorm`. */
  finalNorm?: boolean
  /**
   * The loss that training minimises. With `'gaussian'` a model gives 2·output values: means, then log σ. With `'quantile'`
   * it gives output values for each level, those of the first level first. Default `'crossEntropy'`.
   */
  loss?: (typeof choices.loss)[number]
  /** Error beyond which the Huber loss grows linearly. Default 1. */
  huberDelta?: number
  /** Levels of the quantile loss: 1 to 9, ascending, each between 0 and 1. Default `[0.1, 0.5, 0.9]`. */
  quantiles?: number[]
  /**
   * ε of cross-entropy with smoothed labels, from 0 to 1: the target is 1 − ε at the label, and ε/classes is added at every class, as
   * PyTorch's `label_smoothing` has it. Default 0.
   */
  labelSmoothing?: number
  /**
   * A weight for each class in cross-entropy, as PyTorch's `weight`: the loss is Σwℓ/Σw with w the weight of the label's class, times
   * that of the target where it has one; with `labelSmoothing` each class's term has the weight of its own class. Metrics do not count
   * them. Default 1 for each.
   */
  classWeights?: number[]
  /**
   * A label that counts nothing, neither in the loss and its gradient nor in the metrics, as PyTorch's `ignore_index`: that of padding,
   * say. Every negative label counts nothing too. Default -100.
   */
  ignoreLabel?: number
}

/** The option `algorithm`, which layers, blocks and models have in common. */
export interface AlgorithmOptions {
  /** How calls that do not name an algorithm compute the SSM. Default `'auto'`. */
  algorithm?: SsmAlgorithm
}

/** Options of {@link S4Layer}. */
export interface S4LayerOptions extends LayerOptions, DeviceOptions, AlgorithmOptions {}
/** Options of {@link S4Block}. */
export interface S4BlockOptions extends BlockOptions, DeviceOptions, AlgorithmOptions {}
/** Options of {@link SequenceModel.create}. */
export interface SequenceModelOptions extends ModelOptions, DeviceOptions, AlgorithmOptions {}
/** Options of loading: where and by which algorithm what is loaded computes. */
export interface LoadOptions extends DeviceOptions, AlgorithmOptions {}

/** Every option of a layer with its value, defaults included. */
export interface LayerConfig
  extends Required<Omit<LayerOptions, 'rank' | 'truncate'>>, Pick<LayerOptions, 'rank' | 'truncate'> {}
/** Every option of a block with its value, defaults included. */
export interface BlockConfig extends LayerConfig, Required<Omit<BlockOptions, keyof LayerOptions>> {}
/** Every option of a model with its value, defaults included. */
export interface ModelConfig
  extends
    BlockConfig,
    Required<Omit<ModelOptions, keyof BlockOptions | 'vocabulary' | 'classWeights'>>,
    Pick<ModelOptions, 'vocabulary' | 'classWeights'> {}

/** Names of the options of loading. */
export const DEVICE_OPTIONS = ['device', 'dtype', 'threads', 'precision', 'memoryLimit', 'algorithm'] as const

/** A caller's options in the form that the addon takes. */
export interface NativeOptions {
  /** The options of the layer, block or model itself, as JSON. */
  config: string
  host: HostOptions
  algorithm: SsmAlgorithm
}

/** The kind of value that each option of a layer, block or model takes; an array holds the words that it takes. */
const OPTION_KINDS: Readonly<
  Record<string, 'whole' | 'label' | 'number' | 'numbers' | 'boolean' | readonly string[]>
> = {
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
  ...Object.fromEntries(
    ['dtMin', 'dtMax', 'dropout', 'dropPath', 'feedForward', 'huberDelta', 'labelSmoothing'].map((name) => [
      name,
      'number' as const,
    ]),
  ),
  ...Object.fromEntries(
    ['bidirectional', 'dtPerState', 'prenorm', 'glu', 'tiedDropout', 'residual', 'finalNorm'].map((name) => [
      name,
      'boolean' as const,
    ]),
  ),
  quantiles: 'numbers',
  classWeights: 'numbers',
  ignoreLabel: 'label',
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
  const kind = Object.hasOwn(OPTION_KINDS, name) ? OPTION_KINDS[name] : undefined
  switch (kind) {
    case 'whole':
      return wholeNumber(op, name, value, 0, Number.MAX_SAFE_INTEGER)
    case 'label':
      return wholeNumber(op, name, value, -(2 ** 31), 2 ** 31 - 1)
    case 'number':
      return numberIn32Bits(op, name, value)
    case 'boolean':
      return booleanOf(op, name, value)
    case 'numbers':
      return listOf(op, name, value).map((x) => numberIn32Bits(op, name, x))
    case undefined:
      return null
    default:
      return oneOf(op, name, value, kind)
  }
}

/**
 * Separates a caller's options into those of the device and those of the layer, block or model. The addon checks the latter
 * in full.
 */
export function nativeOptions(op: string, options: unknown): NativeOptions {
  const config: Record<string, unknown> = {}
  const host: Record<string, unknown> = {}
  const names = [...Object.keys(OPTION_KINDS), ...DEVICE_OPTIONS]
  for (const [key, value] of Object.entries(optionsObject(op, options, names))) {
    rejectRenamedOption(op, key)
    if (value === undefined) continue
    if ((DEVICE_OPTIONS as readonly string[]).includes(key)) host[key] = value
    else config[key] = checkedOption(op, key, value)
  }
  return { config: JSON.stringify(config), ...deviceOptions(op, host) }
}

/** Checks the options of loading and gives them in the form that the addon takes. */
export function nativeLoadOptions(op: string, options: LoadOptions): Omit<NativeOptions, 'config'> {
  return deviceOptions(op, rejectUnknownOptions(op, options, DEVICE_OPTIONS))
}

/** Checks the options of the device and of the algorithm, and fills in the environment's `S4_DEVICE`. */
function deviceOptions(op: string, options: LoadOptions): Omit<NativeOptions, 'config'> {
  const { algorithm = 'auto', ...host } = options
  const { device = process.env['S4_DEVICE'] ?? 'auto', dtype, precision, threads, memoryLimit } = host
  if (!(choices.gpu as readonly unknown[]).includes(device)) oneOf(op, 'device', device, choices.device)
  if (dtype !== undefined && dtype !== 'f32' && dtype !== 'f64')
    throw fail('ERR_S4_DTYPE', op, `dtype 'f32' or 'f64'`, dtype)
  if (precision !== undefined) oneOf(op, 'precision', precision, choices.precision)
  if (threads !== undefined) wholeNumber(op, 'threads', threads, 1, 1024)
  if (memoryLimit !== undefined)
    wholeNumber(op, 'memoryLimit in bytes', memoryLimit, 1, Number.MAX_SAFE_INTEGER)
  return { host: { ...host, device }, algorithm: checkAlgorithm(op, algorithm) }
}

/** Checks the name of an algorithm, and gives it. */
export function checkAlgorithm(op: string, x: unknown): SsmAlgorithm {
  return oneOf(op, 'algorithm', x, choices.algorithm)
}

/**
 * The addon's configuration as the API gives it: defaults that depend on other options filled in, options without a value
 * left out.
 */
export function publicConfig<C extends LayerConfig>(
  nativeConfig: Readonly<Record<string, unknown>>,
): Readonly<C> {
  const given = Object.entries(nativeConfig).filter(([, value]) => value !== null)
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
