import { type TensorLike } from './tensor.js';
/** A tensor of a file: real as it is stored, integers as 32-bit. A scalar has the shape []. */
export interface FileTensor {
    readonly data: Float32Array | Float64Array | Int32Array;
    readonly shape: readonly number[];
}
/** Tensors and metadata of a safetensors file; a damaged one is `ERR_S4_CHECKPOINT`. */
export declare function readSafetensors(path: string): {
    tensors: Record<string, FileTensor>;
    metadata: Record<string, string>;
};
/** Writes a safetensors file: a temporary file, then a rename. */
export declare function writeSafetensors(path: string, tensors: Record<string, TensorLike | FileTensor>, metadata?: Record<string, string>): void;
/** Which column, and what a field without a value becomes. */
export interface CsvOptions {
    /** A string is a name in the header, a number a place from 0. Default the last. */
    column?: string | number;
    /** `'error'` (default) names the row; `'linear'` draws the line between the values before and after. */
    gaps?: 'error' | 'linear';
}
/** One column of numbers; text, a gap or a ragged line is `ERR_S4_DATA` with its row. */
export declare function readCsv(path: string, options?: CsvOptions): Float64Array;
