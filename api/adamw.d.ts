import type { SsmHandle } from './layer.js';
import { type AdamWOptions } from './train.js';
/**
 * AdamW over the parameters of layers and blocks, for loops of your own.
 *
 * @example
 * const optimizer = new AdamW([layer], { lr: 1e-3 })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
export declare class AdamW {
    #private;
    constructor(layers: readonly SsmHandle[], options?: AdamWOptions);
    /** One update of every layer; `scale` multiplies the learning rates (a schedule's factor). Gives each layer's gradient norm. */
    step(scale?: number): number[];
    /** Frees the moments; idempotent. While a layer is busy, the calls under way end first. */
    dispose(): void;
    /** `using` disposes. */
    [Symbol.dispose](): void;
}
