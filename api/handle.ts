import type { NativeAccess, NativeHandle } from './access.js'
import { describe, fail, callNative } from './error.js'
import {
  checkTensor,
  floats,
  shapeText,
  tensor,
  type Dtype,
  type Shape,
  type Tensor,
  type TensorLike,
} from './tensor.js'

/** A parameter, with copies of its value and its accumulated gradient. */
export interface Parameter {
  /** Name as in the official code's state dicts: `layer.kernel.C`, `blocks.0.norm.weight`. */
  readonly name: string
  /** Shape as in the official code; complex numbers as a last size of 2. */
  readonly shape: Shape
  /**
   * Group of the optimiser: `'ssm'` for inv_dt, A_real, A_imag, B, P (a learning rate of their own, no weight decay),
   * `'main'` for all others.
   */
  readonly group: 'main' | 'ssm'
  /** A copy of the value, read from the device each time it is asked for. */
  readonly value: Tensor
  /** A copy of the accumulated gradient, read from the device each time it is asked for. */
  readonly grad: Tensor
}

/** Counts since a layer or model was made, and the memory that it holds now. */
export interface Counters {
  /** How often memory was asked of the device. Once sizes repeat, it does not grow any more. */
  readonly allocations: number
  /** How often the host waited for the device. */
  readonly hostWaits: number
  /** Bytes of GPU memory that it holds, those kept for reuse included. */
  readonly deviceMemory: number
}

/** A shape as text, without its sizes of 1: (H) and (H, 1) are the same here, because official checkpoints have either. */
const withoutOnes = (s: Shape) => s.filter((n) => n !== 1).join()

/** The base class of layers, blocks and models: their parameters, counters and disposal. */
export abstract class Handle {
  /** @internal */
  protected readonly access: NativeAccess<NativeHandle>
  /** Number format of parameters and results. */
  abstract readonly dtype: Dtype

  /** @internal */
  protected constructor(access: NativeAccess<NativeHandle>) {
    this.access = access
  }

  /** All parameters, in the order of the forward pass. */
  parameters(): Parameter[] {
    return this.access
      .sync('parameters', (handle) => handle.parameters())
      .map(({ name, shape, group }) => {
        const read = (what: 'parameter' | 'gradient') =>
          tensor(
            this.access.sync(what, (handle) => handle[what](name)),
            shape,
          )
        return {
          name,
          shape,
          group: group as 'main' | 'ssm',
          get value() {
            return read('parameter')
          },
          get grad() {
            return read('gradient')
          },
        }
      })
  }

  /**
   * Replaces the value of a parameter. A value with another shape, or with NaN or infinity, is refused, and nothing
   * changes.
   */
  setParameter(name: string, value: TensorLike): void {
    const op = this.access.checkLive('setParameter')
    const infos = this.access.sync('setParameter', (handle) => handle.parameters())
    const info = infos.find((p) => p.name === name)
    if (info === undefined)
      throw fail(
        'ERR_S4_VALUE',
        op,
        'the name of a parameter',
        typeof name === 'string' ? `'${name}'` : describe(name),
      )
    const { data, shape } = checkTensor(op, name, value)
    if (withoutOnes(shape) !== withoutOnes(info.shape))
      throw fail('ERR_S4_SHAPE', op, `${name} ${shapeText(info.shape)}`, shapeText(shape))
    const values = floats(op, name, data, this.dtype)
    this.access.syncWrite('setParameter', (handle) => handle.setParameter(name, values))
  }

  /** Zeroes all gradients. */
  zeroGrad(): void {
    this.access.syncWrite('zeroGrad', (handle) => handle.zeroGrad())
  }

  /** Counts of memory requests and of waits for the device so far, and the memory held now. */
  counters(): Counters {
    this.access.checkLive('counters')
    return callNative(() => this.access.handle.counters())
  }

  /** Frees the native memory. Work under way ends first, and its memory is freed then. A second call does nothing. */
  dispose(): void {
    this.access.dispose()
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
