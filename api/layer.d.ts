import { NativeLayer } from '#binding';
import type { Floats } from '#binding';
import { Handle } from './handle.js';
import { type Algorithm, type S4LayerOptions } from './options.js';
import type { Dtype, Shape, Tensor, TensorLike } from './tensor.js';
/** Options of one forward. */
export interface ForwardOptions {
    /** State before the first sample (batch, features, state/2, 2); zero by default. */
    state?: TensorLike;
    /** Length of each row, 1 to len; a row gives what it would give alone and zeros beyond. */
    lengths?: ArrayLike<number>;
    /** Multiplies every step size: 2 for data sampled half as often. Default 1. */
    rate?: number;
    /** Default that of the constructor. */
    algorithm?: Algorithm;
    /** Keep what {@link S4Layer.backward} needs. Default true; false saves memory. */
    save?: boolean;
    /**
     * Dropout and batch statistics on (blocks). Each such forward draws new dropout masks, from the block's seed and how many
     * it has done: a new block of the same seed draws the same ones again. Default false.
     */
    training?: boolean;
    /** Give the state after each row's last sample. Default true; with `fft` it costs about as much as the convolution. */
    finalState?: boolean;
}
/** What a forward gives. */
export interface ForwardResult {
    /** (batch, len, channels·features) */
    y: Tensor;
    /** State after each row's last sample (batch, features, state/2, 2), if asked for; layers that are causal and not truncated. */
    state?: Tensor;
}
/** What a backward gives. */
export interface BackwardResult {
    /** (batch, len, features) */
    du: Tensor;
    /** Gradient of the state that forward was given. */
    dstate?: Tensor;
}
/** What a step gives. */
export interface StepResult {
    /** (batch, channels·features) */
    y: Tensor;
    /** The state after this sample. */
    state: Tensor;
}
/** The verbs that {@link S4Layer} and {@link S4Block} share. */
export declare abstract class SsmHandle extends Handle<NativeLayer> {
    #private;
    /** Number format. */
    readonly dtype: Dtype;
    /** `'cpu'`, `'cuda:0'`. */
    readonly device: string;
    /** Every option with its value. */
    readonly config: Readonly<Record<string, unknown>>;
    /** Whether it can carry a state: causal and not truncated. */
    readonly hasState: boolean;
    /** @internal */
    protected constructor(handle: NativeLayer, algorithm: Algorithm);
    /** The whole sequence: u (batch, len, features) → y (batch, len, channels·features). */
    forward(u: TensorLike, options?: ForwardOptions): ForwardResult;
    /** {@link S4Layer.forward} off the event loop. */
    forwardAsync(u: TensorLike, options?: ForwardOptions & {
        signal?: AbortSignal;
    }): Promise<ForwardResult>;
    /**
     * Gradients of sum(y·dy) + sum(state·dstate) for the last forward. Those of parameters accumulate until
     * {@link S4Layer.zeroGrad}.
     */
    backward(dy: TensorLike, options?: {
        dstate?: TensorLike;
    }): BackwardResult;
    /** {@link S4Layer.backward} off the event loop. */
    backwardAsync(dy: TensorLike, options?: {
        dstate?: TensorLike;
        signal?: AbortSignal;
    }): Promise<BackwardResult>;
    /**
     * One sample as a recurrence in O(state): u (batch, features), state as {@link S4Layer.initialState} gives it.
     * `interval`: this step as a multiple of the training interval, one number or one a row.
     */
    step(u: TensorLike, state: TensorLike, options?: {
        interval?: number | ArrayLike<number>;
        rate?: number;
    }): StepResult;
    /** A zero state of so many rows: (batch, features, state/2, 2). */
    initialState(batch?: number): Tensor;
    /** The convolution kernel K̄ (channels, features, len); two-sided layers: 2·channels, the forward half first. */
    kernel(len: number, options?: {
        rate?: number;
    }): Tensor;
    /** @internal For {@link AdamW}. */
    adamOpen(config: string): number;
    /** @internal */
    adamUpdate(id: number, scale: number): number;
    /** @internal */
    adamClose(id: number): void;
}
/** A step's intervals as an array of the model's type. */
export declare function intervals(op: string, interval: number | ArrayLike<number> | undefined, shape: Shape, dtype: Dtype): Floats | undefined;
/**
 * One S4 or S4D layer: y = K̄∗u + D·u, the linear time-invariant map of the paper, with gradients.
 *
 * @example
 * const layer = new S4Layer({ features: 256, state: 64 })
 * const { y, state } = layer.forward({ data, shape: [batch, len, 256] })
 * const { du } = layer.backward(dy)
 */
export declare class S4Layer extends SsmHandle {
    constructor(options: S4LayerOptions);
    protected get label(): string;
}
