import { real, realNumbers, rejectUnknownOptions } from './check.js'
import { describe, fail, reading } from './error.js'
import type { S4Block } from './block.js'
import type { S4Layer } from './layer.js'

/** AdamW with a group of its own for the SSM's parameters (Δ, Λ, B, P), which do not decay. */
export interface AdamWOptions {
  /** Learning rate of the main group. Default 4e-3. */
  lr?: number
  /** Learning rate of the SSM group. Default 1e-3. */
  ssmLr?: number
  /** Decoupled decay of the main group. Default 0.01. */
  weightDecay?: number
  /** Default 0.9. */
  beta1?: number
  /** Default 0.999. */
  beta2?: number
  /** Default 1e-8. */
  eps?: number
  /** Largest global gradient norm. Default none. */
  clip?: number
}

/** Names of {@link AdamWOptions}. */
export const ADAMW_OPTIONS = ['lr', 'ssmLr', 'weightDecay', 'beta1', 'beta2', 'eps', 'clip'] as const

/**
 * AdamW over the parameters of layers and blocks, for loops of your own.
 *
 * @example
 * const optimizer = new AdamW([layer], { lr: 1e-3 })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
export class AdamW {
  readonly #open: { layer: S4Layer | S4Block; id: number }[] = []

  constructor(layers: readonly (S4Layer | S4Block)[], options: AdamWOptions = {}) {
    const op = 'AdamW'
    const given = rejectUnknownOptions(op, options, ADAMW_OPTIONS)
    const list = reading(op, 'layers', () => {
      if (!Array.isArray(layers) || layers.length === 0)
        throw fail(
          'ERR_S4_VALUE',
          op,
          'layers in an array',
          Array.isArray(layers) ? 'none' : describe(layers),
        )
      const all = [...layers] as readonly (S4Layer | S4Block)[]
      for (const layer of all as readonly (Partial<S4Layer> | null | undefined)[]) {
        if (typeof layer?.openAdam !== 'function')
          throw fail(
            'ERR_S4_VALUE',
            op,
            'layers that are S4Layers and S4Blocks (a SequenceModel has train())',
            describe(layer),
          )
      }
      if (new Set(all).size < all.length)
        throw fail('ERR_S4_VALUE', op, 'layers of which each is there once', 'one that is there twice')
      return all
    })
    const config = JSON.stringify(realNumbers(op, given, ADAMW_OPTIONS))
    try {
      for (const layer of list) this.#open.push({ layer, id: layer.openAdam(config) })
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** One update of every layer; `scale` multiplies the learning rates (a schedule's factor). Gives each layer's gradient norm. */
  step(scale = 1): number[] {
    if (this.#open.length === 0)
      throw fail('ERR_S4_DISPOSED', 'AdamW.step', 'a live optimiser', 'a disposed one')
    if (real('AdamW.step', 'scale', scale) < 0)
      throw fail('ERR_S4_VALUE', 'AdamW.step', 'scale of 0 or more', scale)
    return this.#open.map(({ layer, id }) => layer.updateAdam(id, scale))
  }

  /** Frees the moments; idempotent. While a layer is busy, the calls under way end first. */
  dispose(): void {
    for (const { layer, id } of this.#open.splice(0)) layer.closeAdam(id)
  }

  /** `using` disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
