import { type TensorLike } from './tensor.js';
/** One batch: input (batch, len, input) or tokens (batch, len), and what should come out. */
export interface Batch {
    /** Values or tokens. */
    input: TensorLike;
    /** Values (batch, [len,] output), or labels (batch, [len]) as a tensor or a plain array; a negative label is left out. */
    target: TensorLike | ArrayLike<number>;
    /** Length of each row, 1 … len. */
    lengths?: ArrayLike<number>;
    /** Weight of each output row. */
    weights?: TensorLike | ArrayLike<number>;
    /** Sampling-rate ratio. */
    rate?: number;
}
/** One example without a batch: input (len, input) or tokens (len); with `batchSize` examples become batches, shorter ones padded. */
export interface Sample {
    /** (len, input), or tokens (len). */
    input: TensorLike;
    /** A label, values (output), or per step: values (len, output), labels (len); len is that of its own input. */
    target: number | TensorLike;
}
/** Anything that can be walked: an array, a generator, an async iterable. Walked once an epoch. */
export type Dataset = Iterable<Batch | Sample> | AsyncIterable<Batch | Sample>;
/** Batches of a dataset; with `batchSize`, examples are collected; with a seed, an array is shuffled. */
export declare function batches(op: string, dataset: Dataset, batchSize?: number, seed?: number): AsyncGenerator<Batch>;
/**
 * The same batches, each made while the one before it is in use: the next is asked for once the consumer has started its native
 * call, so a slow source and the computation overlap. One batch more than was used may have been read when the consumer stops.
 */
export declare function ahead<T>(source: AsyncGenerator<T>): AsyncGenerator<T>;
/** Examples of any lengths as one padded batch with `lengths`. */
export declare function collate(op: string, samples: readonly Sample[]): Batch;
/** Windows over a long series, (len, features), for next-values prediction. */
export interface WindowOptions {
    /** Samples of a window. */
    length: number;
    /** Samples between the starts of two windows. Default `length`. */
    stride?: number;
    /** Samples ahead that a step is to predict. Default 1. */
    horizon?: number;
}
/** Examples { input (length, 1), target (length, horizon) }: at every step the next `horizon` values. */
export declare function windows(series: ArrayLike<number>, options: WindowOptions): Generator<Sample>;
