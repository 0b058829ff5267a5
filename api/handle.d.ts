import { Cancel } from '#binding';
import type { Counters, Data, Floats, ParameterInfo } from '#binding';
import { elements, shaped, type Dtype, type Shape, type Tensor, type TensorLike } from './tensor.js';
/** A named parameter with copies of its value and accumulated gradient. */
export interface Parameter {
    /** Official name: `layer.kernel.C`, `blocks.0.norm.weight`. */
    readonly name: string;
    /** Official shape; complex numbers as a trailing 2. */
    readonly shape: Shape;
    /** `'ssm'`: inv_dt, A_real, A_imag, B, P (own learning rate, no decay); `'main'`: the rest. */
    readonly group: 'main' | 'ssm';
    /** Copy of the value, read from the device when asked for. */
    readonly value: Tensor;
    /** Copy of the accumulated gradient, read when asked for. */
    readonly grad: Tensor;
}
/** What every native handle has. */
export interface NativeHandle {
    parameters(): ParameterInfo[];
    parameter(name: string): Floats;
    gradient(name: string): Floats;
    setParameter(name: string, value: Data): void;
    zeroGrad(): void;
    counters(): Counters;
    dispose(): void;
}
/** Parameters, counters, disposal and exclusion of a layer, block or model. */
export declare abstract class Handle<N extends NativeHandle> {
    #private;
    /** @internal */
    protected readonly handle: N;
    /** Number format. */
    abstract readonly dtype: Dtype;
    /** @internal */
    protected constructor(handle: N);
    /** @internal Name in error messages. */
    protected get label(): string;
    /** @internal For a call that must have the handle to itself and returns at once. */
    protected sync<R>(op: string, call: (handle: N) => R): R;
    /** @internal For a call off the event loop that leaves parameters as they are; such calls queue. */
    protected read<R>(op: string, call: (handle: N, cancel: Cancel) => Promise<R>, signal?: AbortSignal): Promise<R>;
    /** @internal A short call of the writer: it waits for the reads under way without holding up the event loop. */
    protected ready<R>(op: string, call: (handle: N) => R): Promise<R>;
    /** @internal Frees something within the handle, behind the calls under way; of a disposed handle it is free already. */
    protected free(call: (handle: N) => void): void;
    /** @internal Takes the right to change the handle; a second taker gets `ERR_S4_BUSY`. */
    protected acquire(op: string): void;
    /** @internal */
    protected release(): void;
    /** @internal Refuses a disposed handle; gives the operation's full name. */
    protected alive(op: string): string;
    /** All parameters, in the order of the forward pass. */
    parameters(): Parameter[];
    /** Replaces a parameter; NaN and Inf are refused and nothing changes. */
    setParameter(name: string, value: TensorLike): void;
    /** Zeroes all gradients. */
    zeroGrad(): void;
    /**
     * How often memory was asked of the device, and how often the host waited for it: both stand still in steady steps;
     * and the bytes of the GPU that the handle holds, in use or for reuse.
     */
    counters(): Counters;
    /** Frees native memory now; idempotent. Work under way ends first and its memory is freed then. */
    dispose(): void;
    /** `using` disposes. */
    [Symbol.dispose](): void;
}
export { elements, shaped };
