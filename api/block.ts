import { NativeLayer } from '#binding'
import { fail, native } from './error.js'
import { SsmHandle } from './layer.js'
import { loading, split, type Algorithm, type DeviceOptions, type S4BlockOptions } from './options.js'
import { checkTensor, floats, type TensorLike } from './tensor.js'

/**
 * What an official PyTorch S4 (V4) state dict does not say. Defaults are those of the official code; files of this
 * project's golden format carry it in their metadata.
 */
export interface OfficialConfig {
  mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d'
  disc?: 'bilinear' | 'zoh'
  dt_transform?: 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none'
  real_transform?: 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none'
  imag_transform?: 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none'
  bidirectional?: boolean
  activation?: string
  final_act?: string
  [other: string]: unknown
}

/**
 * Norm, S4, activation, dropout, GLU mixing, residual: what replaces a Transformer layer. u and y are (batch, len, features).
 */
export class S4Block extends SsmHandle {
  constructor(options: S4BlockOptions)
  /** @internal */
  constructor(handle: NativeLayer, algorithm: Algorithm)
  constructor(first: S4BlockOptions | NativeLayer, given?: Algorithm) {
    if (first instanceof NativeLayer) {
      super(first, given ?? 'auto')
    } else {
      const { config, host, algorithm } = split('S4Block', first)
      super(
        native(() => new NativeLayer('block', config, host)),
        algorithm,
      )
    }
  }

  protected override get label(): string {
    return 'S4Block'
  }

  /**
   * An official PyTorch S4 (V4) block, from a safetensors file or from named tensors. C̃ (`l_kernel` > 0) becomes C by
   * an exact solve. Without `config` the file's metadata must hold one under `config`.
   */
  static fromStateDict(
    source: string | Record<string, TensorLike>,
    config?: OfficialConfig,
    options: DeviceOptions & { algorithm?: Algorithm } = {},
  ): S4Block {
    const op = 'S4Block.fromStateDict'
    const { algorithm, host } = loading(op, options)
    if (typeof source === 'string') {
      const text = config && JSON.stringify(config)
      return new S4Block(
        native(() => NativeLayer.fromOfficialFile(source, text, host)),
        algorithm,
      )
    }
    if (typeof source !== 'object' || source === null) {
      throw fail('ERR_S4_VALUE', op, 'a path or named tensors', String(source))
    }
    const tensors = Object.entries(source).map(([name, x]) => {
      // A scalar has no sizes.
      const { data } = checkTensor(op, name, x?.shape?.length === 0 ? { data: x.data, shape: [1] } : x)
      const values =
        data instanceof BigInt64Array ? Float64Array.from(data, Number) : floats(op, name, data, 'f64')
      return { name, shape: [...x.shape], data: values }
    })
    return new S4Block(
      native(() => NativeLayer.fromOfficial(tensors, JSON.stringify(config ?? {}), host)),
      algorithm,
    )
  }
}
