import { numberIn32Bits, realNumbers, rejectUnknownOptions } from './check.js'
import { describe, fail, readGiven } from './error.js'
import type { S4Block } from './block.js'
import type { S4Layer } from './layer.js'

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
}

/** The names of the options in {@link AdamWOptions}. */
export const ADAMW_OPTIONS = ['lr', 'ssmLr', 'weightDecay', 'beta1', 'beta2', 'eps', 'clip'] as const

/**
 * The optimiser AdamW for the parameters of layers and blocks, in training loops of your own.
 *
 * @example
 * const optimizer = new AdamW([layer], { lr: 1e-3 })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
export class AdamW {
  readonly #optimizers: { layer: S4Layer | S4Block; id: number }[] = []

  constructor(layers: readonly (S4Layer | S4Block)[], options: AdamWOptions = {}) {
    const op = 'AdamW'
    const given = rejectUnknownOptions(op, options, ADAMW_OPTIONS)
    const layerList = readGiven(op, 'layers', () => {
      if (!Array.isArray(layers) || layers.length === 0)
        throw fail(
          'ERR_S4_VALUE',
          op,
          'layers in an array',
          Array.isArray(layers) ? 'none' : describe(layers),
        )
      const copy = [...layers] as readonly (S4Layer | S4Block)[]
      for (const layer of copy as readonly (Partial<S4Layer> | null | undefined)[]) {
        if (typeof layer?.openAdam !== 'function')
          throw fail(
            'ERR_S4_VALUE',
            op,
            'layers that are S4Layers and S4Blocks (a SequenceModel has train())',
            describe(layer),
          )
      }
      if (new Set(copy).size < copy.length)
        throw fail('ERR_S4_VALUE', op, 'layers of which each is there once', 'one that is there twice')
      return copy
    })
    const config = JSON.stringify(realNumbers(op, given, ADAMW_OPTIONS))
    try {
      for (const layer of layerList) this.#optimizers.push({ layer, id: layer.openAdam(config) })
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /**
   * Makes one update of every layer, with the learning rates multiplied by `scale` (the factor of a schedule). Gives the
   * norm of each layer's gradients.
   */
  step(scale = 1): number[] {
    if (this.#optimizers.length === 0)
      throw fail('ERR_S4_DISPOSED', 'AdamW.step', 'a live optimiser', 'a disposed one')
    if (numberIn32Bits('AdamW.step', 'scale', scale) < 0)
      throw fail('ERR_S4_VALUE', 'AdamW.step', 'scale of 0 or more', scale)
    return this.#optimizers.map(({ layer, id }) => layer.updateAdam(id, scale))
  }

  /** Frees the moments, after the calls under way. A second call does nothing. */
  dispose(): void {
    for (const { layer, id } of this.#optimizers.splice(0)) layer.closeAdam(id)
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
