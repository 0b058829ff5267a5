import { Transform } from 'node:stream';
import type { Cancel, NativeModel } from '#binding';
import { type Dtype, type Tensor, type TensorLike } from './tensor.js';
/** @internal What a stream needs of its model. */
export interface StreamOwner {
    sync<R>(op: string, call: (handle: NativeModel) => R): R;
    read<R>(op: string, call: (handle: NativeModel, cancel: Cancel) => Promise<R>, signal?: AbortSignal): Promise<R>;
    free(call: (handle: NativeModel) => void): void;
    dtype: Dtype;
}
/** How a push runs. */
export interface PushOptions {
    /** Ratio of each step to the training interval: one number, one a row, or one a row and sample. */
    interval?: number | ArrayLike<number>;
}
/**
 * A trained model as a recurrent network with its own state: pushes of any size, constant memory, outputs equal to the convolution.
 *
 * @example
 * using stream = model.stream()
 * for await (const frame of microphone) console.log(stream.push({ data: frame, shape: [1, frame.length, 1] }).data)
 */
export declare class Stream {
    #private;
    /** @internal */
    constructor(owner: StreamOwner, id: number, shape: {
        batch: number;
        input: number | undefined;
        output: number;
    });
    /** The next samples (batch, len, input), or tokens (batch, len) → outputs (batch, len, output). At once. */
    push(x: TensorLike, options?: PushOptions): Tensor;
    /**
     * As {@link Stream.push}, off the event loop: for long chunks and prompts. An abort rejects at once. A push that had not
     * begun leaves the state as it was; one under way goes on to its end, its outputs are lost and the state has moved past its
     * samples. `position` tells which, when the model is free again.
     */
    pushAsync(x: TensorLike, options?: PushOptions & {
        signal?: AbortSignal;
    }): Promise<Tensor>;
    /** Samples seen so far. */
    get position(): number;
    /** The whole state as bytes, for {@link Stream.restore} of a stream of the same model and batch, here or in another process. */
    save(): Uint8Array;
    /** Back to a saved state. A state of another shape is refused and nothing changes. */
    restore(state: Uint8Array): void;
    /** An independent copy that goes on from here. */
    fork(): Stream;
    /** Zero states. */
    reset(): void;
    /** A Node Transform in object mode: frames (arrays of len·input numbers, batch 1) in, arrays of outputs out. */
    toTransform(): Transform;
    /** Frees its state; idempotent. While the model is busy, the calls under way end first. */
    dispose(): void;
    /** `using` disposes. */
    [Symbol.dispose](): void;
}
