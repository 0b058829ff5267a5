/** Stable codes of every failure. */
export type S4ErrorCode = 'ERR_S4_SHAPE' | 'ERR_S4_DTYPE' | 'ERR_S4_VALUE' | 'ERR_S4_DEVICE' | 'ERR_S4_MEMORY' | 'ERR_S4_DISPOSED' | 'ERR_S4_CHECKPOINT' | 'ERR_S4_DATA' | 'ERR_S4_ABORTED' | 'ERR_S4_NONFINITE' | 'ERR_S4_BUSY' | 'ERR_S4_UNSUPPORTED' | 'ERR_S4_INTERNAL';
/** What an {@link S4Error} says beside its message. */
export interface S4ErrorDetail {
    /** The operation, in the words of the API. */
    op: string;
    /** What would have been right. */
    expected: string;
    /** What was given. */
    got: string;
    /** The optimiser step that failed. */
    step?: number;
    /** The parameter or tensor that failed. */
    tensor?: string;
}
/**
 * Every error of this library. `code` is stable; the message says the operation, what it expected and what it got.
 *
 * @example
 * try { layer.forward({ data, shape: [1, 5, 3] }) } catch (e) { if (e.code === 'ERR_S4_SHAPE') … }
 */
export declare class S4Error extends Error {
    readonly name = "S4Error";
    /** Stable code. */
    readonly code: S4ErrorCode;
    /** The operation, in the words of the API. */
    readonly op: string;
    /** What would have been right. */
    readonly expected: string;
    /** What was given. */
    readonly got: string;
    /** The optimiser step that failed, for `ERR_S4_NONFINITE`. */
    readonly step?: number;
    /** The tensor that failed, for `ERR_S4_NONFINITE`. */
    readonly tensor?: string;
    constructor(code: S4ErrorCode, detail: S4ErrorDetail, options?: ErrorOptions);
}
/** A new error, for the API's own checks. */
export declare function fail(code: S4ErrorCode, op: string, expected: string, got: unknown): S4Error;
/** The addon sends an error as JSON in its message; anything else passes as `ERR_S4_INTERNAL`, or as it is when it is ours. */
export declare function fromNative(error: unknown): Error;
/** Runs a synchronous native call. */
export declare function native<R>(call: () => R): R;
/** Runs an asynchronous native call, failures of its start included. */
export declare function nativeAsync<R>(call: () => Promise<R>): Promise<R>;
/** Throws `ERR_S4_ABORTED` when the signal has fired. */
export declare function throwIfAborted(op: string, signal?: AbortSignal): void;
/** The error of aborted work; `cause` is the signal's reason. */
export declare function aborted(op: string, signal: AbortSignal): S4Error;
