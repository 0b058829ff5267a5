import type { SsmHandle } from './layer.js'
import { fail } from './error.js'
import { known } from './tensor.js'
import { numbers, type AdamWOptions } from './train.js'

const NAMES = ['lr', 'ssmLr', 'weightDecay', 'beta1', 'beta2', 'eps', 'clip'] as const

/**
 * AdamW over the parameters of layers and blocks, for loops of your own.
 *
 * @example
 * const optimizer = new AdamW([layer], { lr: 1e-3 })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
export class AdamW {
  readonly #open: { layer: SsmHandle; id: number }[] = []

  constructor(layers: readonly SsmHandle[], options: AdamWOptions = {}) {
    known('AdamW', options, NAMES)
    if (!Array.isArray(layers) || layers.length === 0)
      throw fail(
        'ERR_S4_VALUE',
        'AdamW',
        'an array of layers',
        Array.isArray(layers) ? 'none' : typeof layers,
      )
    for (const layer of layers as readonly (Partial<SsmHandle> | null | undefined)[]) {
      if (typeof layer?.adamOpen !== 'function')
        throw fail(
          'ERR_S4_VALUE',
          'AdamW',
          'S4Layers and S4Blocks (a SequenceModel has train())',
          typeof layer,
        )
    }
    const config = JSON.stringify(numbers('AdamW', options, NAMES))
    try {
      for (const layer of layers) this.#open.push({ layer, id: layer.adamOpen(config) })
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** One update of every layer; `scale` multiplies the learning rates (a schedule's factor). Gives each layer's gradient norm. */
  step(scale = 1): number[] {
    if (this.#open.length === 0)
      throw fail('ERR_S4_DISPOSED', 'AdamW.step', 'a live optimiser', 'a disposed one')
    return this.#open.map(({ layer, id }) => layer.adamUpdate(id, scale))
  }

  /** Frees the moments; idempotent. While a layer is busy, the calls under way end first. */
  dispose(): void {
    for (const { layer, id } of this.#open.splice(0)) layer.adamClose(id)
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
