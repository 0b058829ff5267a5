import { NativeLayer } from '#binding'
import { fail, native } from './error.js'
import { SsmHandle } from './layer.js'
import {
  type choices,
  nativeLoadOptions,
  nativeOptions,
  type BlockConfig,
  type LoadOptions,
  type ParameterTransform,
  type S4BlockOptions,
  type SsmAlgorithm,
} from './options.js'
import { checkFileTensor, floats, type TensorLike } from './tensor.js'

/**
 * What an official PyTorch S4 (V4) state dict does not say, in the words of the official code, whose defaults hold; files of
 * this project's golden format carry it in their metadata.
 */
export interface OfficialConfig {
  /** Structure of A: diagonal plus low rank, or diagonal. */
  mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d'
  /** Discretisation. */
  disc?: (typeof choices.discretization)[number]
  /** Of inv_dt. */
  dt_transform?: ParameterTransform
  /** Of A_real. */
  real_transform?: ParameterTransform
  /** Of A_imag. */
  imag_transform?: ParameterTransform
  /** Two-sided. */
  bidirectional?: boolean
  /** After the SSM. */
  activation?: string
  /** After the linear: `'glu'`, or an activation. */
  final_act?: string
  /** Other options of the official code. */
  [other: string]: unknown
}

/**
 * Norm, S4, activation, dropout, GLU mixing, residual: what replaces a Transformer layer. u and y are (batch, len, features).
 */
export class S4Block extends SsmHandle {
  /** Every option with its value. */
  declare readonly config: Readonly<BlockConfig>

  constructor(options: S4BlockOptions)
  /** @internal */
  constructor(handle: NativeLayer, algorithm: SsmAlgorithm)
  constructor(first: S4BlockOptions | NativeLayer, given: SsmAlgorithm = 'auto') {
    if (first instanceof NativeLayer) {
      super('S4Block', first, given)
    } else {
      const { config, host, algorithm } = nativeOptions('S4Block', first)
      const handle = native(() => new NativeLayer('block', config, host))
      super('S4Block', handle, algorithm)
    }
  }

  /**
   * An official PyTorch S4 (V4) block, from a safetensors file or from named tensors. C̃ (`l_kernel` > 0) becomes C by
   * an exact solve. Without `config` the file's metadata must hold one under `config`.
   */
  static fromStateDict(
    source: string | Record<string, TensorLike>,
    config?: OfficialConfig,
    options: LoadOptions = {},
  ): S4Block {
    const op = 'S4Block.fromStateDict'
    const { algorithm, host } = nativeLoadOptions(op, options)
    if (typeof source === 'string') {
      const text = config && JSON.stringify(config)
      const handle = native(() => NativeLayer.fromOfficialFile(source, text, host))
      return new S4Block(handle, algorithm)
    }
    if (typeof source !== 'object' || source === null) {
      throw fail('ERR_S4_VALUE', op, 'a path or named tensors', String(source))
    }
    const tensors = Object.entries(source).map(([name, x]) => {
      const data = checkFileTensor(op, name, x)
      const values =
        data instanceof BigInt64Array ? Float64Array.from(data, Number) : floats(op, name, data, 'f64')
      return { name, shape: [...x.shape], data: values }
    })
    const handle = native(() => NativeLayer.fromOfficial(tensors, JSON.stringify(config ?? {}), host))
    return new S4Block(handle, algorithm)
  }
}
