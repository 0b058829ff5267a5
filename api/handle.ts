import type { NativeAccess, NativeHandle } from './access.js'
import { describe, fail, native } from './error.js'
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

/** A named parameter with copies of its value and accumulated gradient. */
export interface Parameter {
  /** Official name: `layer.kernel.C`, `blocks.0.norm.weight`. */
  readonly name: string
  /** Official shape; complex numbers as a trailing 2. */
  readonly shape: Shape
  /** `'ssm'`: inv_dt, A_real, A_imag, B, P (own learning rate, no decay); `'main'`: the rest. */
  readonly group: 'main' | 'ssm'
  /** Copy of the value, read from the device when asked for. */
  readonly value: Tensor
  /** Copy of the accumulated gradient, read when asked for. */
  readonly grad: Tensor
}

/** Counts since a handle was made. */
export interface Counters {
  /** How often memory was asked of the device; stands still in steady steps. */
  readonly allocations: number
  /** How often the host waited for the device. */
  readonly hostWaits: number
  /** Bytes of the GPU that the handle holds, in use or for reuse. */
  readonly deviceMemory: number
}

/** A shape without its sizes of 1: official checkpoints write (H) and (H, 1) alike. */
const withoutOnes = (s: Shape) => s.filter((n) => n !== 1).join()

/** Parameters, counters and disposal: what layers, blocks and models have in common. */
export abstract class Handle {
  /** @internal */
  protected readonly access: NativeAccess<NativeHandle>
  /** Number format. */
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

  /** Replaces a parameter; NaN and Inf are refused and nothing changes. */
  setParameter(name: string, value: TensorLike): void {
    const op = this.access.checkLive('setParameter')
    const all = this.access.sync('setParameter', (handle) => handle.parameters())
    const info = all.find((p) => p.name === name)
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

  /** Requests of memory, waits of the host, and memory held, so far. */
  counters(): Counters {
    this.access.checkLive('counters')
    return native(() => this.access.handle.counters())
  }

  /** Frees native memory now; idempotent. Work under way ends first and its memory is freed then. */
  dispose(): void {
    this.access.dispose()
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
