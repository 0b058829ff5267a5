import { NativeLayer } from '#binding'
import { types } from 'node:util'
import { filePath, membersOf, type FilePath } from './check.js'
import { describe, fail, callNative, readGiven } from './error.js'
import { SsmHandle } from './layer.js'
import { officialConfigText, type OfficialConfig } from './official.js'
import { readLayer, withValues } from './saved.js'
import {
  nativeLoadOptions,
  nativeOptions,
  type BlockConfig,
  type LoadOptions,
  type S4BlockOptions,
  type SsmAlgorithm,
} from './options.js'
import { checkFileTensor, floats, type TensorLike } from './tensor.js'

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
   * Makes a block of a state dict of the official PyTorch S4 code: an `S4Block` of version 4, an `S4` of version 3, or an
   * `S4D` of `s4d.py`. It is given as named tensors or as a file: `.pt` or `.ckpt` (of which no code is run), or
   * safetensors. Their names may have a prefix in common. Where C̃ stands in the place of C, C is solved from it in float64.
   * Without `config` a file must hold it. The option `truncate` in it cuts the kernel, `l_max` does not.
   */
  static fromStateDict(
    source: FilePath | Record<string, TensorLike>,
    config?: OfficialConfig,
    options: LoadOptions = {},
  ): S4Block {
    const op = 'S4Block.fromStateDict'
    const { algorithm, host } = nativeLoadOptions(op, options)
    const json = officialConfigText(op, config)
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
