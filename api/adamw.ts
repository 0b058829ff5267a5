import type { SsmHandle } from './layer.js'
import { fail } from './error.js'
import { known } from './tensor.js'
import type { AdamWOptions } from './train.js'

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
      throw fail('ERR_S4_VALUE', 'AdamW', 'an array of layers', String(layers))
    const config = JSON.stringify(options)
    for (const layer of layers) this.#open.push({ layer, id: layer.adamOpen(config) })
  }

  /** One update of every layer; `scale` multiplies the learning rates (a schedule's factor). Gives each layer's gradient norm. */
  step(scale = 1): number[] {
    return this.#open.map(({ layer, id }) => layer.adamUpdate(id, scale))
  }

  /** Frees the moments. */
  dispose(): void {
    for (const { layer, id } of this.#open.splice(0)) layer.adamClose(id)
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
