import { NativeLayer } from '#binding'
import { types } from 'node:util'
import { boolean, filePath, membersOf, oneOf, text, type FilePath } from './check.js'
import { describe, fail, native, reading } from './error.js'
import { SsmHandle } from './layer.js'
import {
  choices,
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

  constructor(options: S4BlockOptions) {
    const made = adopted.get(options)
    if (made !== undefined) {
      super('S4Block', made.handle, made.algorithm)
    } else {
      const { config, host, algorithm } = nativeOptions('S4Block', options)
      const handle = native(() => new NativeLayer('block', config, host))
      super('S4Block', handle, algorithm)
    }
  }

  /** A block around a native handle. */
  static #around(handle: NativeLayer, algorithm: SsmAlgorithm): S4Block {
    const key = {} as S4BlockOptions
    adopted.set(key, { handle, algorithm })
    return new S4Block(key)
  }

  /**
   * An official PyTorch S4 (V4) block, from a safetensors file or from named tensors. C̃ (`l_kernel` > 0) becomes C by
   * an exact solve. Without `config` the file's metadata must hold one under `config`.
   */
  static fromStateDict(
    source: FilePath | Record<string, TensorLike>,
    config?: OfficialConfig,
    options: LoadOptions = {},
  ): S4Block {
    const op = 'S4Block.fromStateDict'
    const { algorithm, host } = nativeLoadOptions(op, options)
    const json = config === undefined ? undefined : configText(op, config)
    if (isPath(op, source)) {
      const path = filePath(op, source)
      const handle = native(() => NativeLayer.fromOfficialFile(path, json, host))
      return S4Block.#around(handle, algorithm)
    }
    const tensors = Object.entries(membersOf(op, 'source', source)).map(([name, x]) => {
      const { data, shape } = checkFileTensor(op, name, x)
      const values = types.isBigInt64Array(data)
        ? Float64Array.from(data, Number)
        : floats(op, name, data as ArrayLike<number>, 'f64')
      return { name, shape: [...shape], data: values }
    })
    const handle = native(() => NativeLayer.fromOfficial(tensors, json ?? '{}', host))
    return S4Block.#around(handle, algorithm)
  }
}

/** Native handles on their way into a constructor. */
const adopted = new WeakMap<object, { handle: NativeLayer; algorithm: SsmAlgorithm }>()

/** Whether a source is the path of a file rather than named tensors. */
function isPath(op: string, source: unknown): source is FilePath {
  return reading(op, 'source', () => {
    if (typeof source === 'string' || types.isUint8Array(source)) return true
    if (typeof source !== 'object' || source === null || Array.isArray(source) || ArrayBuffer.isView(source))
      throw fail('ERR_S4_VALUE', op, 'a path or named tensors for source', describe(source))
    return typeof (source as Partial<URL>).href === 'string'
  })
}

/** What the options of the official code may be, where they are given; its other options are taken no notice of. */
const OFFICIAL: Readonly<Record<string, 'boolean' | 'text' | readonly string[]>> = {
  mode: ['dplr', 'nplr', 's4', 'diag', 's4d'],
  disc: choices.discretization,
  dt_transform: choices.transform,
  real_transform: choices.transform,
  imag_transform: choices.transform,
  bidirectional: 'boolean',
  activation: 'text',
  final_act: 'text',
}

/** The configuration as JSON. */
function configText(op: string, config: unknown): string {
  const members = membersOf(op, 'config', config)
  for (const [name, kind] of Object.entries(OFFICIAL)) {
    const value = members[name]
    if (value === undefined) continue
    if (kind === 'boolean') boolean(op, name, value)
    else if (kind === 'text') text(op, name, value)
    else oneOf(op, name, value, kind)
  }
  return reading(op, 'config', () => JSON.stringify(members))
}
