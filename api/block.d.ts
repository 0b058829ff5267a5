import { NativeLayer } from '#binding';
import { SsmHandle } from './layer.js';
import { type Algorithm, type DeviceOptions, type S4BlockOptions } from './options.js';
import { type TensorLike } from './tensor.js';
/**
 * What an official PyTorch S4 (V4) state dict does not say. Defaults are those of the official code; files of this
 * project's golden format carry it in their metadata.
 */
export interface OfficialConfig {
    mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d';
    disc?: 'bilinear' | 'zoh';
    dt_transform?: 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none';
    real_transform?: 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none';
    imag_transform?: 'exp' | 'softplus' | 'relu' | 'sigmoid' | 'none';
    bidirectional?: boolean;
    activation?: string;
    final_act?: string;
    [other: string]: unknown;
}
/**
 * Norm, S4, activation, dropout, GLU mixing, residual: what replaces a Transformer layer. u and y are (batch, len, features).
 */
export declare class S4Block extends SsmHandle {
    constructor(options: S4BlockOptions);
    /** @internal */
    constructor(handle: NativeLayer, algorithm: Algorithm);
    protected get label(): string;
    /**
     * An official PyTorch S4 (V4) block, from a safetensors file or from named tensors. C̃ (`l_kernel` > 0) becomes C by
     * an exact solve. Without `config` the file's metadata must hold one under `config`.
     */
    static fromStateDict(source: string | Record<string, TensorLike>, config?: OfficialConfig, options?: DeviceOptions & {
        algorithm?: Algorithm;
    }): S4Block;
}
