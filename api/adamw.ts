import { NativeParameter } from '#binding'
import type { NamedArray } from '#binding'
import { types } from 'node:util'
import {
  booleanOf,
  filePath,
  numberIn32Bits,
  realNumbers,
  rejectUnknownOptions,
  textOf,
  wholeNumber,
  type FilePath,
} from './check.js'
import { callNative, describe, fail, readGiven } from './error.js'
import type { S4Block } from './block.js'
import { readSafetensorsAsync, writeSafetensorsAsync } from './files.js'
import { checkGroups, type ParameterGroup } from './groups.js'
import type { SsmHandle, S4Layer } from './layer.js'
import { checkTensor, floats, shapeText, type Floats } from './tensor.js'

/** Options of AdamW. The SSM's parameters Δ, Λ, B and P are a group with its own learning rate and without weight decay. */
export interface AdamWOptions {
  /** Learning rate of the main group. Default 4e-3. */
  lr?: number
  /** Learning rate of the SSM group. Default 1e-3. */
  ssmLr?: number
  /** Decoupled decay of the main group. Default 0.01. */
  weightDecay?: number
  /** Decay of the first moment, the running mean of the gradients. Default 0.9. */
  beta1?: number
  /** Decay of the second moment, the running mean of the squared gradients. Default 0.999. */
  beta2?: number
  /** Added to the root of the second moment. Default 1e-8. */
  eps?: number
  /** Norm over all gradients above which they are scaled down to it. Default none. */
  clip?: number
  /**
   * Whether norms, biases and embeddings do not decay; a group's own `weightDecay` goes before it. Of your own parameters those whose
   * name ends with `bias` or has `norm` or `embedding` in it. Default false: as in the official code all decay but Δ, Λ, B and P.
   */
  spareNormsAndBiases?: boolean
}

const ADAMW_NUMBERS = ['lr', 'ssmLr', 'weightDecay', 'beta1', 'beta2', 'eps', 'clip'] as const

/** The names of the options in {@link AdamWOptions}. */
export const ADAMW_OPTIONS = [...ADAMW_NUMBERS, 'spareNormsAndBiases'] as const

/** Those of the options that were given, checked. */
export function adamWConfig(op: string, options: AdamWOptions): Record<string, unknown> {
  const { spareNormsAndBiases } = options
  return {
    ...realNumbers(op, options, ADAMW_NUMBERS),
    ...(spareNormsAndBiases !== undefined && {
      spareNormsAndBiases: booleanOf(op, 'spareNormsAndBiases', spareNormsAndBiases),
    }),
  }
}

/** Options of {@link AdamW}. */
export interface LoopOptions extends AdamWOptions {
  /**
   * Parameters with rates of their own; the first group that names one has it. A layer's parameters go by the names of `parameters()`, with
   * or without the layer's place in the list before them: `'kernel.inv_dt'` is that of every layer, `'1.kernel.inv_dt'` that of the second.
   * A group that names nothing is `ERR_S4_VALUE`.
   */
  groups?: readonly ParameterGroup[]
}

/** A parameter of your own: numbers that an update changes in their place, and their gradient, an array of the same type and length. */
export interface OwnParameter {
  /** A name that no other has, for groups and for {@link AdamW.save}. */
  readonly name: string
  /** The values. */
  readonly data: Float32Array | Float64Array
  /** The gradient of the loss by each of them. */
  readonly grad: Float32Array | Float64Array
}

/** What an optimiser asks of the parameters that it updates together. */
interface Updated {
  /** What stands before the parameters' names in a file. */
  readonly prefix: string
  readonly usedGroups: readonly boolean[]
  /** Refuses what cannot be updated now. */
  check(op: string): void
  squaredNorm(): number
  update(scale: number, squaredNorm: number): void
  moments(): NamedArray[]
  steps(): number
  restore(step: number, moments: { m: Floats; v: Floats }[]): void
  close(): void
}

/** The parameters of a layer or block. */
function layerParameters(layer: SsmHandle, config: string, prefix: string): Updated {
  const { id, usedGroups } = layer.callAdam('AdamW', (handle) => handle.adamOpen(config, prefix))
  return {
    prefix,
    usedGroups,
    check: () => undefined,
    squaredNorm: () => layer.callAdam('AdamW.step', (handle) => handle.adamSquaredNorm(id)),
    update: (scale, norm) => layer.callAdam('AdamW.step', (handle) => handle.adamUpdate(id, scale, norm)),
    moments: () => layer.callAdam('AdamW.save', (handle) => handle.adamMoments(id)),
    steps: () => layer.callAdam('AdamW.save', (handle) => handle.adamSteps(id)),
    restore: (step, moments) =>
      layer.callAdam('AdamW.restore', (handle) => handle.adamRestore(id, step, moments)),
    close: () => layer.closeAdam(id),
  }
}

/** Values and gradient of a parameter, read once. */
function ownArrays(op: string, parameter: OwnParameter, like?: Floats): { data: Floats; grad: Floats } {
  const { data, grad } = readGiven(op, 'a parameter', () => ({ data: parameter.data, grad: parameter.grad }))
  const isFloats = (x: unknown): x is Floats => types.isFloat32Array(x) || types.isFloat64Array(x)
  if (!isFloats(data) || data.length === 0)
    throw fail('ERR_S4_DTYPE', op, 'data in a Float32Array or Float64Array, not an empty one', data)
  if (!isFloats(grad) || types.isFloat64Array(grad) !== types.isFloat64Array(data))
    throw fail('ERR_S4_DTYPE', op, 'grad in an array of the type of data', grad)
  if (grad.length !== data.length)
    throw fail('ERR_S4_SHAPE', op, `grad with ${data.length} elements, as data`, grad.length)
  if (
    like !== undefined &&
    (data.length !== like.length || types.isFloat64Array(data) !== types.isFloat64Array(like))
  )
    throw fail('ERR_S4_SHAPE', op, `data with ${like.length} elements of the type at first`, data.length)
  return { data, grad }
}

/** A parameter of a caller's own. */
function ownParameter(parameter: OwnParameter, name: string, config: string): Updated {
  const first = ownArrays('AdamW', parameter).data
  const dtype = types.isFloat64Array(first) ? 'f64' : 'f32'
  const native = callNative(() => new NativeParameter(name, first.length, dtype, config))
  let arrays = ownArrays('AdamW', parameter)
  return {
    prefix: '',
    usedGroups: native.usedGroups(),
    check: (op) => {
      arrays = ownArrays(op, parameter, first)
    },
    squaredNorm: () => callNative(() => native.adamSquaredNorm(arrays.grad)),
    update: (scale, norm) => {
      arrays.data.set(callNative(() => native.adamUpdate(arrays.data, scale, norm)))
    },
    moments: () => callNative(() => native.adamMoments()),
    steps: () => callNative(() => native.adamSteps()),
    restore: (step, moments) => callNative(() => native.adamRestore(step, moments)),
    close: () => undefined,
  }
}

/** The members of the list, each a layer, a block, or a parameter with a name of its own. */
function checkParameters(op: string, parameters: unknown): (SsmHandle | (OwnParameter & { name: string }))[] {
  return readGiven(op, 'parameters', () => {
    if (!Array.isArray(parameters) || parameters.length === 0)
      throw fail(
        'ERR_S4_VALUE',
        op,
        'parameters in an array',
        Array.isArray(parameters) ? 'none' : describe(parameters),
      )
    const copy = [...parameters] as readonly (Partial<SsmHandle & OwnParameter> | null | undefined)[]
    const names = new Set<string>()
    for (const member of copy) {
      if (typeof member?.callAdam === 'function') continue
      if (typeof member !== 'object' || member === null || member.data === undefined)
        throw fail(
          'ERR_S4_VALUE',
          op,
          'parameters that are S4Layers, S4Blocks or { name, data, grad } (a SequenceModel has train())',
          describe(member),
        )
      const name = textOf(op, 'name of a parameter', member.name)
      if (name === '' || names.has(name) || /^\d+\./.test(name))
        throw fail(
          'ERR_S4_VALUE',
          op,
          'a name of its own for each of parameters, not a number with a dot',
          `'${name}'`,
        )
      names.add(name)
    }
    if (new Set(copy).size < copy.length)
      throw fail('ERR_S4_VALUE', op, 'parameters of which each is there once', 'one that is there twice')
    return copy as (SsmHandle | OwnParameter)[]
  })
}

/**
 * The optimiser AdamW for the parameters of layers and blocks and for your own, in training loops of your own. Gradients are clipped by
 * their norm over all of them together.
 *
 * @example
 * const head = { name: 'head', data: new Float32Array(64), grad: new Float32Array(64) }
 * const optimizer = new AdamW([layer, head], { lr: 1e-3, groups: [{ name: 'head', lr: 1e-2 }] })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
export class AdamW {
  readonly #updated: Updated[] = []

  constructor(parameters: readonly (S4Layer | S4Block | OwnParameter)[], options: LoopOptions = {}) {
    const op = 'AdamW'
    const given = rejectUnknownOptions(op, options, [...ADAMW_OPTIONS, 'groups'])
    const list = checkParameters(op, parameters)
    const groups = given.groups === undefined ? [] : checkGroups(op, given.groups)
    const config = JSON.stringify({ ...adamWConfig(op, given), groups })
    try {
      for (const [place, member] of list.entries())
        this.#updated.push(
          'callAdam' in member
            ? layerParameters(member, config, `${place}.`)
            : ownParameter(member, textOf(op, 'name of a parameter', member.name), config),
        )
      const unused = groups.findIndex((_, i) => !this.#updated.some(({ usedGroups }) => usedGroups[i]))
      if (unused >= 0)
        throw fail('ERR_S4_VALUE', op, 'groups that name parameters', `'${groups[unused]?.name}'`)
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** Refuses the operation of a disposed optimiser; gives the operation's name for errors. */
  #checkLive(operation: string): string {
    const op = `AdamW.${operation}`
    if (this.#updated.length === 0) throw fail('ERR_S4_DISPOSED', op, 'a live optimiser', 'a disposed one')
    return op
  }

  /**
   * Makes one update, with the learning rates multiplied by `scale` (the factor of a schedule). Gives the norm of the gradients of each
   * member of the list. Where a gradient is not finite nothing is updated (`ERR_S4_NONFINITE`).
   */
  step(scale = 1): number[] {
    const op = this.#checkLive('step')
    if (numberIn32Bits(op, 'scale', scale) < 0) throw fail('ERR_S4_VALUE', op, 'scale of 0 or more', scale)
    for (const updated of this.#updated) updated.check(op)
    const squared = this.#updated.map((updated) => updated.squaredNorm())
    const total = squared.reduce((sum, x) => sum + x, 0)
    for (const updated of this.#updated) updated.update(scale, total)
    return squared.map(Math.sqrt)
  }

  /**
   * Writes the moments and the number of updates (safetensors), as {@link SequenceModel.save} does. Options, learning rates among them, are
   * not written.
   */
  async save(path: FilePath): Promise<void> {
    const op = this.#checkLive('save')
    const file = filePath(op, path)
    const tensors = Object.fromEntries(
      this.#updated.flatMap(({ prefix, moments }) =>
        moments().map(({ name, shape, data }) => [`${prefix}${name}`, { data: data as Floats, shape }]),
      ),
    )
    const [first] = this.#updated as [Updated]
    const metadata = { format: 's4-node', kind: 'AdamW', step: String(first.steps()) }
    await writeSafetensorsAsync(file, tensors, metadata)
  }

  /**
   * Takes the moments and the number of updates of a file that {@link AdamW.save} wrote, for the same list. `ERR_S4_CHECKPOINT` for those
   * of another, and nothing changes.
   */
  async restore(path: FilePath): Promise<void> {
    const op = this.#checkLive('restore')
    const { tensors, metadata } = await readSafetensorsAsync(filePath(op, path))
    this.#checkLive('restore')
    const { format, kind, step: text } = metadata
    if (format !== 's4-node' || kind !== 'AdamW')
      throw fail('ERR_S4_CHECKPOINT', op, 'a file of AdamW.save()', kind ?? format ?? 'another')
    const step = /^\d+$/.test(text ?? '')
      ? wholeNumber(op, 'the number of updates', Number(text), 0)
      : undefined
    if (step === undefined) throw fail('ERR_S4_CHECKPOINT', op, 'a number of updates', text)
    const names = new Set(Object.keys(tensors))
    const moment = (name: string, { shape, data }: NamedArray): Floats => {
      if (!names.delete(name)) throw fail('ERR_S4_CHECKPOINT', op, `moments '${name}'`, 'none')
      const stored = checkTensor(op, name, tensors[name])
      if (shapeText(stored.shape) !== shapeText(shape))
        throw fail('ERR_S4_CHECKPOINT', op, `${name} ${shapeText(shape)}`, shapeText(stored.shape))
      return floats(op, name, stored.data, types.isFloat64Array(data) ? 'f64' : 'f32')
    }
    const before = this.#updated.map((updated) => ({
      step: updated.steps(),
      moments: pairs(updated.moments()),
    }))
    const given = this.#updated.map(({ prefix, moments }) =>
      pairs(moments().map((present) => ({ ...present, data: moment(`${prefix}${present.name}`, present) }))),
    )
    const [other] = names
    if (other !== undefined) throw fail('ERR_S4_CHECKPOINT', op, 'moments of this list alone', `'${other}'`)
    try {
      this.#updated.forEach((updated, i) => updated.restore(step, given[i] ?? []))
    } catch (error) {
      this.#updated.forEach((updated, i) => updated.restore(before[i]?.step ?? 0, before[i]?.moments ?? []))
      throw error
    }
  }

  /** Frees the moments, after the calls under way. A second call does nothing. */
  dispose(): void {
    for (const updated of this.#updated.splice(0)) updated.close()
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** First and second moments, which come by turns, as pairs. */
function pairs(moments: readonly { data: NamedArray['data'] }[]): { m: Floats; v: Floats }[] {
  return Array.from({ length: moments.length / 2 }, (_, i) => ({
    m: moments[2 * i]?.data as Floats,
    v: moments[2 * i + 1]?.data as Floats,
  }))
}
