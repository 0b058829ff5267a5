import { NativeLayer } from '#binding'
import { types } from 'node:util'
import { booleanOf, filePath, membersOf, oneOf, textOf, type FilePath } from './check.js'
import { describe, fail, callNative, readGiven } from './error.js'
import { SsmHandle } from './layer.js'
import { readLayer, withValues } from './saved.js'
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
 * Options of the official PyTorch S4 code, version 4, that its state dicts do not say. They have the official names and
 * defaults.
 */
export interface OfficialConfig {
  /** Structure of A: diagonal plus low rank, or diagonal. */
  mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d'
  /** How continuous time becomes steps. */
  disc?: (typeof choices.discretization)[number]
  /** How inv_dt becomes the step size. */
  dt_transform?: ParameterTransform
  /** How A_real becomes −Re Λ. */
  real_transform?: ParameterTransform
  /** How A_imag becomes −Im Λ. */
  imag_transform?: ParameterTransform
  /** Whether outputs depend on later inputs too. */
  bidirectional?: boolean
  /** Activation after the SSM. */
  activation?: string
  /** What follows the linear: `'glu'`, or an activation. */
  final_act?: string
  /** Other options of the official code, which are not read. */
  [other: string]: unknown
}

/**
 * One S4 block, which may stand in the place of a Transformer layer: norm, S4, activation, dropout, linear with GLU,
 * residual sum. Its input u and output y are (batch, len, features).
 */
export class S4Block extends SsmHandle {
  /** Every option with its value, defaults included. */
  declare readonly config: Readonly<BlockConfig>

  constructor(options: S4BlockOptions) {
    const made = handlesOfNewBlocks.get(options)
    if (made !== undefined) {
      super('S4Block', made.handle, made.algorithm)
    } else {
      const { config, host, algorithm } = nativeOptions('S4Block', options)
      const handle = callNative(() => new NativeLayer('block', config, host))
      super('S4Block', handle, algorithm)
    }
  }

  /** @internal */
  protected readonly kind = 'S4Block'

  /** Loads a block that {@link S4Block.save} wrote; `ERR_S4_CHECKPOINT` for another file. */
  static async load(path: FilePath, options: LoadOptions = {}): Promise<S4Block> {
    const op = 'S4Block.load'
    nativeLoadOptions(op, options)
    const { config, values } = await readLayer(op, 'S4Block', filePath(op, path), options)
    return withValues(op, new S4Block(config), values)
  }

  /** A block with a native handle that exists already. */
  static #around(handle: NativeLayer, algorithm: SsmAlgorithm): S4Block {
    const key = {} as S4BlockOptions
    handlesOfNewBlocks.set(key, { handle, algorithm })
    return new S4Block(key)
  }

  /**
   * Makes a block of a state dict of the official PyTorch S4 code, version 4, which is given as a safetensors file or as
   * named tensors. Where it holds C̃ (`l_kernel` > 0), C is solved from it in float64. Without `config` a file's metadata
   * must hold it under that name.
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
      const handle = callNative(() => NativeLayer.fromOfficialFile(path, json, host))
      return S4Block.#around(handle, algorithm)
    }
    const tensors = Object.entries(membersOf(op, 'source', source)).map(([name, x]) => {
      const { data, shape } = checkFileTensor(op, name, x)
      const values = types.isBigInt64Array(data)
        ? Float64Array.from(data, Number)
        : floats(op, name, data as ArrayLike<number>, 'f64')
      return { name, shape: [...shape], data: values }
    })
    const handle = callNative(() => NativeLayer.fromOfficial(tensors, json ?? '{}', host))
    return S4Block.#around(handle, algorithm)
  }
}

/** Handles that `#around` passes to the constructor, which is public and so cannot take one as an argument. */
const handlesOfNewBlocks = new WeakMap<object, { handle: NativeLayer; algorithm: SsmAlgorithm }>()

/** Whether `source` is the path of a file; otherwise it is an object of named tensors. */
function isPath(op: string, source: unknown): source is FilePath {
  return readGiven(op, 'source', () => {
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

/** A caller's configuration object as JSON. */
function configText(op: string, config: unknown): string {
  const members = membersOf(op, 'config', config)
  for (const [name, kind] of Object.entries(OFFICIAL)) {
    const value = members[name]
    if (value === undefined) continue
    if (kind === 'boolean') booleanOf(op, name, value)
    else if (kind === 'text') textOf(op, name, value)
    else oneOf(op, name, value, kind)
  }
  return readGiven(op, 'config', () => JSON.stringify(members))
}
