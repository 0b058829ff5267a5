import type { Data, Floats as NativeFloats } from '#binding';
/** Sizes, outermost first. */
export type Shape = readonly number[];
/** Real numbers as the library gives them. */
export type Floats = NativeFloats;
/** Element type of a model: `f64` runs on the CPU only. */
export type Dtype = 'f32' | 'f64';
/** Integers: tokens, labels, lengths. */
export type Integers = Int32Array | Uint8Array | Uint16Array | Uint32Array | BigInt64Array | readonly number[];
/** Any array with sizes: of this library, of another, or a literal. Row-major, densely packed. */
export interface TensorLike {
    readonly data: ArrayLike<number> | BigInt64Array;
    readonly shape: Shape;
}
/** What the library gives: a row-major array with its sizes. */
export interface Tensor {
    readonly data: Floats;
    readonly shape: Shape;
    readonly dtype: Dtype;
}
/** Product of sizes. */
export declare function elements(shape: Shape): number;
/** A tensor around an array that the addon gave. */
export declare function tensor(data: Floats, shape: Shape): Tensor;
/** An array for a result of so many numbers. */
export declare function room(op: string, shape: Shape, dtype: Dtype): Floats;
/** Checks `{ data, shape }` by form, never by class: sizes are whole, at least 1, and their product is the data's length. */
export declare function checkTensor(op: string, what: string, x: unknown, rank?: number | readonly number[]): TensorLike;
/**
 * The data in the model's own type. The same array comes back when it is of that type already and no other thread can
 * write to it: the addon copies it, or reads it before it returns.
 */
export declare function floats(op: string, what: string, data: TensorLike['data'], dtype: Dtype): Floats;
/** Whole numbers as 32-bit integers; anything that is not one is `ERR_S4_DTYPE`. */
export declare function integers(op: string, what: string, data: ArrayLike<number> | BigInt64Array): Int32Array;
/** `{ data, shape }` of exactly this shape, in the model's type. */
export declare function shaped(op: string, what: string, x: unknown, shape: Shape, dtype: Dtype): Floats;
/** Lengths of the rows of a batch. */
export declare function rowLengths(op: string, lengths: ArrayLike<number> | undefined, batch: number): Int32Array | undefined;
/** A whole number in a range. */
export declare function size(op: string, what: string, x: unknown, min?: number, max?: number): number;
/** A finite positive number. */
export declare function positive(op: string, what: string, x: unknown): number;
/** True or false. */
export declare function boolean(op: string, what: string, x: unknown): boolean;
/** Refuses options that do not exist, by name, and what is no object of options. */
export declare function known(op: string, options: object, names: readonly string[]): void;
export type { Data };
