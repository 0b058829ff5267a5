import { NativeModel } from '#binding';
import { Handle } from './handle.js';
import { type Algorithm, type DeviceOptions, type SequenceModelOptions } from './options.js';
import { Stream } from './stream.js';
import { type Dtype, type Tensor, type TensorLike } from './tensor.js';
import { type Batch, type Dataset } from './dataset.js';
import { type EvaluateOptions, type Metrics, type TrainEvent, type TrainOptions } from './train.js';
/** How one prediction runs. */
export interface PredictOptions {
    /** Length of each row, 1 … len; outputs beyond are 0. */
    lengths?: ArrayLike<number>;
    /** Sampling-rate ratio: multiplies every Δ. Default 1. */
    rate?: number;
    /** Overrides the model's. */
    algorithm?: Algorithm;
}
/** Where and how a checkpoint is loaded. */
export interface LoadOptions extends DeviceOptions {
    /** Default of every call. */
    algorithm?: Algorithm;
}
/** What is written with the parameters. */
export interface SaveOptions {
    /** Moments, update counter, schedule and random state, so that training goes on bit for bit. Default true. */
    optimizer?: boolean;
    /** A JSON text of your own; `model.extra` after loading. */
    extra?: string;
}
/**
 * A deep sequence model: encoder, S4 blocks, norm, pooling, decoder.
 *
 * @example
 * const model = await SequenceModel.create({ input: 1, output: 10, features: 128, layers: 6, pooling: 'mean' })
 * for await (const e of model.train(batches, { epochs: 20 })) console.log(e.loss)
 */
export declare class SequenceModel extends Handle<NativeModel> {
    #private;
    /** Number format. */
    readonly dtype: Dtype;
    /** `'cpu'`, `'cuda:0'`. */
    readonly device: string;
    /** Every option with its value. */
    readonly config: Readonly<Record<string, unknown>>;
    /** Whether it can be streamed: causal and not truncated. */
    readonly hasState: boolean;
    /** The JSON text that was saved with the checkpoint, if any. */
    readonly extra: string | undefined;
    private constructor();
    protected get label(): string;
    /** A new model, initialised from `seed`. */
    static create(options: SequenceModelOptions): Promise<SequenceModel>;
    /** From a checkpoint file of {@link SequenceModel.save}. */
    static load(path: string, options?: LoadOptions): Promise<SequenceModel>;
    /** From the bytes of {@link SequenceModel.toBytes}. */
    static fromBytes(bytes: Uint8Array, options?: LoadOptions): Promise<SequenceModel>;
    /** Writes a checkpoint (safetensors): to a temporary file, then renamed, so that readers see the old file or the new one, whole. */
    save(path: string, options?: SaveOptions): Promise<void>;
    /** A checkpoint as bytes. */
    toBytes(options?: SaveOptions): Promise<Uint8Array>;
    /** @internal Checked input: values (batch, len, input), or tokens (batch, len). */
    protected input(op: string, x: TensorLike): {
        data: Float32Array | Float64Array | Int32Array;
        batch: number;
        len: number;
    };
    /** Outputs for whole sequences: (batch, len, output), or (batch, output) when pooled. Off the event loop. */
    predict(x: TensorLike, options?: PredictOptions & {
        signal?: AbortSignal;
    }): Promise<Tensor>;
    /** As {@link SequenceModel.predict}, at once. For short work. */
    predictSync(x: TensorLike, options?: PredictOptions): Tensor;
    /** K̄ of a block's SSM: (channels, features, len), two-sided 2·channels. */
    kernel(block: number, len: number, options?: {
        rate?: number;
    }): Tensor;
    /**
     * Trains; yields an event after every update and after every epoch. The loop is yours: `break` ends training after the update
     * under way, an AbortSignal ends it with `ERR_S4_ABORTED` within one update. A non-finite loss or gradient is `ERR_S4_NONFINITE`
     * with step and tensor, and the parameters stay as they were before that update.
     */
    train(dataset: Dataset, options?: TrainOptions): AsyncGenerator<TrainEvent, void, void>;
    /** {@link SequenceModel.train} to its end; gives the epochs' events. */
    fit(dataset: Dataset, options?: TrainOptions & {
        onEvent?: (event: TrainEvent) => void;
    }): Promise<TrainEvent[]>;
    /**
     * Forward and backward of a batch: parameter gradients accumulate, nothing is updated. For custom loops. Each batch of one
     * update has dropout masks of its own.
     */
    accumulate(batch: Batch, options?: {
        signal?: AbortSignal;
    }): Promise<void>;
    /** The update after {@link SequenceModel.accumulate}. */
    update(): Promise<{
        step: number;
        loss: number;
        gradNorm: number;
    }>;
    /** Swaps the parameters with their running average (training with `ema`); again swaps back. */
    swapAverage(): void;
    /** Loss (and accuracy) over a dataset, with nothing changed. */
    evaluate(dataset: Dataset, options?: EvaluateOptions): Promise<Metrics>;
    /** The same weights as a recurrent network, from zero states. */
    stream(options?: {
        batch?: number;
        rate?: number;
    }): Stream;
}
