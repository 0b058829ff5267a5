/**
 * S4 and S4D (Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces, arXiv 2111.00396):
 * layers with gradients, deep models, training, checkpoints and streaming inference on long sequences.
 */
import { Transform } from 'node:stream';

/** Sizes, outermost first. */
type Shape = readonly number[];
/** Real numbers as the library gives them. */
type Floats = Float32Array | Float64Array;
/** Element type of a model: `f64` runs on the CPU only. */
type Dtype = 'f32' | 'f64';
/** Integers: tokens, labels, lengths. */
type Integers = Int32Array | Uint8Array | Uint16Array | Uint32Array | BigInt64Array | readonly number[];
/** Any array with sizes: of this library, of another, or a literal. Row-major, densely packed. */
interface TensorLike {
    /** The elements, the last size running fastest. */
    readonly data: ArrayLike<number> | BigInt64Array;
    /** Sizes of 1 or more whose product is the number of elements. */
    readonly shape: Shape;
}
/** What the library gives: a row-major array with its sizes. */
interface Tensor {
    /** The elements, the last size running fastest. */
    readonly data: Floats;
    /** Sizes, outermost first. */
    readonly shape: Shape;
    /** Element type of `data`. */
    readonly dtype: Dtype;
}

/** A named parameter with copies of its value and accumulated gradient. */
interface Parameter {
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
/** Counts since a handle was made. */
interface Counters {
    /** How often memory was asked of the device; stands still in steady steps. */
    readonly allocations: number;
    /** How often the host waited for the device. */
    readonly hostWaits: number;
    /** Bytes of the GPU that the handle holds, in use or for reuse. */
    readonly deviceMemory: number;
}
/** Parameters, counters and disposal: what layers, blocks and models have in common. */
declare abstract class Handle {
    /** Number format. */
    abstract readonly dtype: Dtype;
    /** All parameters, in the order of the forward pass. */
    parameters(): Parameter[];
    /** Replaces a parameter; NaN and Inf are refused and nothing changes. */
    setParameter(name: string, value: TensorLike): void;
    /** Zeroes all gradients. */
    zeroGrad(): void;
    /** Requests of memory, waits of the host, and memory held, so far. */
    counters(): Counters;
    /** Frees native memory now; idempotent. Work under way ends first and its memory is freed then. */
    dispose(): void;
    /** `using` disposes. */
    [Symbol.dispose](): void;
}

/** The words that each option takes. */
declare const choices: {
    /** Where to compute. */
    readonly device: readonly ["auto", "cpu", "cuda"];
    /** How exactly a GPU multiplies. */
    readonly precision: readonly ["highest", "high", "bf16"];
    /** How the SSM is computed. */
    readonly algorithm: readonly ["auto", "fft", "chunk", "cauchy"];
    /** Structure of A. */
    readonly mode: readonly ["s4", "s4d"];
    /** How Λ, P and B start. */
    readonly init: readonly ["legs", "legt", "fourier", "hippo", "lin", "inv", "real", "random"];
    /** How continuous time becomes steps. */
    readonly discretization: readonly ["bilinear", "zoh"];
    /** How a parameter becomes a positive number. */
    readonly transform: readonly ["exp", "softplus", "relu", "sigmoid", "none"];
    /** Pointwise nonlinearities. */
    readonly activation: readonly ["identity", "gelu", "relu", "silu", "tanh", "sigmoid", "softplus"];
    /** Normalisation of a block. */
    readonly norm: readonly ["layer", "batch", "none"];
    /** What maps inputs to features. */
    readonly encoder: readonly ["linear", "embedding", "none"];
    /** What a row of steps becomes before the decoder. */
    readonly pooling: readonly ["none", "mean", "last", "first", "max", "sum", "logMeanExp"];
    /** What training minimises. */
    readonly loss: readonly ["crossEntropy", "mse", "mae", "huber", "gaussian", "logCosh", "quantile"];
    /** HiPPO measures of {@link hippo} and {@link nplr}. */
    readonly measure: readonly ["legs", "legt", "fourier"];
    /** What a field without a value becomes in {@link readCsv}. */
    readonly gaps: readonly ["error", "linear"];
};
/** Where and in which number format a handle computes. */
interface DeviceOptions {
    /** `'auto'` takes an NVIDIA GPU when there is one, else the CPU. Default `'auto'`, or `S4_DEVICE` of the environment. */
    device?: (typeof choices.device)[number];
    /** Default `'f32'`; `'f64'` on the CPU only. */
    dtype?: Dtype;
    /** CPU threads; default all cores. Results are the same bits whatever the number. */
    threads?: number;
    /**
     * How exactly the GPU multiplies. `'highest'` (default): as good as f32, outputs within 1e-5 and gradients within 1e-4 of the
     * truth; `'high'`: TF32, 2e-3 and 5e-3; `'bf16'`: 1e-2 and 5e-2. Chips without such units, the
     * CPU, and layers whose state is above 64 compute as `'highest'`.
     */
    precision?: (typeof choices.precision)[number];
    /** Most bytes of GPU memory that the handle takes; beyond it `ERR_S4_MEMORY`. Default: all there are. */
    memoryLimit?: number;
}
/** How a parameter becomes a positive number. */
type ParameterTransform = (typeof choices.transform)[number];
/** Pointwise nonlinearity. */
type Activation = (typeof choices.activation)[number];
/**
 * How the SSM is computed; all give the same outputs and gradients.
 *
 * - `'auto'` picks `'fft'` or `'chunk'` by the shape of the call, from measurements.
 * - `'fft'`, for short sequences and many rows: a kernel as long as the sequence, then a convolution by FFT.
 * - `'chunk'`, for long sequences: states pass between chunks of time; the cost of a sample does not grow with the length.
 * - `'cauchy'`, to check or to study: the paper's Algorithm 1, Cauchy sums, then the convolution of `'fft'`. Bilinear layers
 *   on the CPU; others answer `ERR_S4_UNSUPPORTED`.
 */
type SsmAlgorithm = (typeof choices.algorithm)[number];
/** One SSM layer (arXiv 2111.00396). */
interface LayerOptions {
    /** H: input features. */
    features: number;
    /** N: real size of the state; even. Default 64. At most 128 on a GPU: for more `device: 'auto'` takes the CPU. */
    state?: number;
    /** Diagonal plus low rank (S4) or diagonal (S4D). Default `'s4'`. */
    mode?: (typeof choices.mode)[number];
    /** S4: `legs`, `legt`, `fourier`, `hippo` (LegS and Fourier alternate). S4D: `legs`, `lin`, `inv`, `real`. Both: `random`, without any measure, as the control of the paper's ablation. Default `'legs'`. */
    init?: (typeof choices.init)[number];
    /** Rank of the low-rank part of S4; default 1, or 2 for LegT. */
    rank?: number;
    /** Independent (A, B); divides `features`, which is the default. */
    nSsm?: number;
    /** Outputs a feature; SSM output c·H + h. Default 1. */
    channels?: number;
    /** Two-sided: not causal, has no state. Default false. */
    bidirectional?: boolean;
    /** Smallest step size at initialisation. Default 1e-3. */
    dtMin?: number;
    /** Largest step size at initialisation. Default 0.1. */
    dtMax?: number;
    /** One step size a state instead of one a feature. Default false. */
    dtPerState?: boolean;
    /** How continuous time becomes steps; default bilinear for S4 (the only choice), zero-order hold for S4D. */
    discretization?: (typeof choices.discretization)[number];
    /** Δ = t(inv_dt). Default `'softplus'`. */
    dtTransform?: ParameterTransform;
    /** Re Λ = −f(A_real). Default `'exp'`. */
    realTransform?: ParameterTransform;
    /** Im Λ = −g(A_imag). Default `'none'`. */
    imagTransform?: ParameterTransform;
    /** Cut the kernel to this length; such a layer has no state. */
    truncate?: number;
    /** Seed of the initial values and of a block's dropout masks; blocks that are stacked want a seed each. Default 0. */
    seed?: number;
}
/** Norm, S4, activation, dropout, linear, GLU, dropout, residual. */
interface BlockOptions extends LayerOptions {
    /** Default `'layer'`. */
    norm?: (typeof choices.norm)[number];
    /** Norm before the SSM (default), else after the residual sum. */
    prenorm?: boolean;
    /** After the SSM. Default `'gelu'` (exact). */
    activation?: Activation;
    /** The linear gives twice the features, first half · σ(second half). Default true. */
    glu?: boolean;
    /** After a linear without GLU. Default `'identity'`. */
    finalActivation?: Activation;
    /** Dropout probability while training. Default 0. */
    dropout?: number;
    /** One dropout mask for all of time. Default false. */
    tiedDropout?: boolean;
    /** Add the block's input to its output. Default true. */
    residual?: boolean;
}
/** Encoder, blocks, norm, pooling, decoder, loss. */
interface ModelOptions extends BlockOptions {
    /** Values a sample has (unused with an embedding). Default 1. */
    input?: number;
    /** Values or classes predicted. Default 1. */
    output?: number;
    /** `'embedding'` takes tokens (batch, len). Default `'linear'`. */
    encoder?: (typeof choices.encoder)[number];
    /** Rows of an embedding. */
    vocabulary?: number;
    /** Blocks. Default 4. */
    layers?: number;
    /** `'none'` (default) predicts at every step, anything else once a row. */
    pooling?: (typeof choices.pooling)[number];
    /** A norm after the last block; by default when `prenorm`. */
    finalNorm?: boolean;
    /** What training minimises. `'gaussian'` gives 2·output values: means, then log σ; `'quantile'` quantiles·output values, those of the first level first. Default `'crossEntropy'`. */
    loss?: (typeof choices.loss)[number];
    /** The error at which Huber becomes linear. Default 1. */
    huberDelta?: number;
    /** Levels of the quantile loss: 1 to 9, ascending, each between 0 and 1. Default `[0.1, 0.5, 0.9]`. */
    quantiles?: number[];
}
/** The algorithm that every call of a handle takes unless it names one. */
interface AlgorithmOption {
    /** Default `'auto'`. */
    algorithm?: SsmAlgorithm;
}
/** Options of {@link S4Layer}. */
interface S4LayerOptions extends LayerOptions, DeviceOptions, AlgorithmOption {
}
/** Options of {@link S4Block}. */
interface S4BlockOptions extends BlockOptions, DeviceOptions, AlgorithmOption {
}
/** Options of {@link SequenceModel.create}. */
interface SequenceModelOptions extends ModelOptions, DeviceOptions, AlgorithmOption {
}
/** Where and how a checkpoint is loaded. */
interface LoadOptions extends DeviceOptions, AlgorithmOption {
}
/** Every option of a layer with its value. */
interface LayerConfig extends Required<Omit<LayerOptions, 'rank' | 'truncate'>>, Pick<LayerOptions, 'rank' | 'truncate'> {
}
/** Every option of a block with its value. */
interface BlockConfig extends LayerConfig, Required<Omit<BlockOptions, keyof LayerOptions>> {
}
/** Every option of a model with its value. */
interface ModelConfig extends BlockConfig, Required<Omit<ModelOptions, keyof BlockOptions | 'vocabulary'>>, Pick<ModelOptions, 'vocabulary'> {
}

/** Options of one forward. */
interface ForwardOptions {
    /** State before the first sample (batch, features, state/2, 2); zero by default. */
    state?: TensorLike;
    /** Length of each row, 1 to len; a row gives what it would give alone and zeros beyond. */
    lengths?: ArrayLike<number>;
    /** Multiplies every step size: 2 for data sampled half as often. Default 1. */
    rate?: number;
    /** Default that of the constructor. */
    algorithm?: SsmAlgorithm;
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
interface ForwardResult {
    /** (batch, len, channels·features) */
    y: Tensor;
    /** State after each row's last sample (batch, features, state/2, 2), if asked for; layers that are causal and not truncated. */
    state?: Tensor;
}
/** What a backward gives. */
interface BackwardResult {
    /** (batch, len, features) */
    du: Tensor;
    /** Gradient of the state that forward was given. */
    dstate?: Tensor;
}
/** What a step gives. */
interface StepResult {
    /** (batch, channels·features) */
    y: Tensor;
    /** The state after this sample. */
    state: Tensor;
}
/** The methods that {@link S4Layer} and {@link S4Block} share. */
declare abstract class SsmHandle extends Handle {
    #private;
    /** Number format. */
    readonly dtype: Dtype;
    /** `'cpu'`, `'cuda:0'`. */
    readonly device: string;
    /** Every option with its value. */
    readonly config: Readonly<LayerConfig>;
    /** Whether it can carry a state: causal and not truncated. */
    readonly hasState: boolean;
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
     * `interval`: this step as a multiple of the training interval, one number or one a row. `ERR_S4_NONFINITE` for an output or a
     * next state that is not finite.
     */
    step(u: TensorLike, state: TensorLike, options?: {
        interval?: number | ArrayLike<number>;
        rate?: number;
    }): StepResult;
    /** A zero state of so many rows: (batch, features, state/2, 2). */
    initialState(batch?: number): Tensor;
    /** The convolution kernel K̄ (channels, features, len); two-sided layers: 2·channels, the forward direction first. */
    kernel(len: number, options?: {
        rate?: number;
    }): Tensor;
}
/**
 * One S4 or S4D layer: y = K̄∗u + D·u, the linear time-invariant map of the paper, with gradients.
 *
 * @example
 * const layer = new S4Layer({ features: 256, state: 64 })
 * const { y, state } = layer.forward({ data, shape: [batch, len, 256] })
 * const { du } = layer.backward(dy)
 */
declare class S4Layer extends SsmHandle {
    constructor(options: S4LayerOptions);
}

/** Stable codes of every failure. */
type S4ErrorCode = 'ERR_S4_SHAPE' | 'ERR_S4_DTYPE' | 'ERR_S4_VALUE' | 'ERR_S4_DEVICE' | 'ERR_S4_MEMORY' | 'ERR_S4_DISPOSED' | 'ERR_S4_CHECKPOINT' | 'ERR_S4_DATA' | 'ERR_S4_ABORTED' | 'ERR_S4_NONFINITE' | 'ERR_S4_BUSY' | 'ERR_S4_UNSUPPORTED' | 'ERR_S4_INTERNAL';
/** What an {@link S4Error} says beside its message. */
interface S4ErrorDetail {
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
declare class S4Error extends Error {
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

/** A path as Node's own functions take one: text, a `file:` URL, or its bytes. */
type FilePath = string | URL | Uint8Array;

/**
 * What an official PyTorch S4 (V4) state dict does not say, in the words of the official code, whose defaults hold; files of
 * this project's golden format carry it in their metadata.
 */
interface OfficialConfig {
    /** Structure of A: diagonal plus low rank, or diagonal. */
    mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d';
    /** Discretisation. */
    disc?: (typeof choices.discretization)[number];
    /** Of inv_dt. */
    dt_transform?: ParameterTransform;
    /** Of A_real. */
    real_transform?: ParameterTransform;
    /** Of A_imag. */
    imag_transform?: ParameterTransform;
    /** Two-sided. */
    bidirectional?: boolean;
    /** After the SSM. */
    activation?: string;
    /** After the linear: `'glu'`, or an activation. */
    final_act?: string;
    /** Other options of the official code. */
    [other: string]: unknown;
}
/**
 * Norm, S4, activation, dropout, GLU mixing, residual: what replaces a Transformer layer. u and y are (batch, len, features).
 */
declare class S4Block extends SsmHandle {
    #private;
    /** Every option with its value. */
    readonly config: Readonly<BlockConfig>;
    constructor(options: S4BlockOptions);
    /**
     * An official PyTorch S4 (V4) block, from a safetensors file or from named tensors. C̃ (`l_kernel` > 0) becomes C by
     * an exact solve. Without `config` the file's metadata must hold one under `config`.
     */
    static fromStateDict(source: FilePath | Record<string, TensorLike>, config?: OfficialConfig, options?: LoadOptions): S4Block;
}

/** One batch: input (batch, len, input) or tokens (batch, len), and what should come out. */
interface Batch {
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
interface Sample {
    /** (len, input), or tokens (len). */
    input: TensorLike;
    /** A label, values (output), or per step: values (len, output), labels (len); len is that of its own input. */
    target: number | TensorLike;
}
/** Anything that can be iterated: an array, a generator, an async iterable. Iterated once an epoch. */
type Dataset = Iterable<Batch | Sample> | AsyncIterable<Batch | Sample>;
/** Windows over a long series, (len, features), for next-values prediction. */
interface WindowOptions {
    /** Samples of a window. */
    length: number;
    /** Samples between the starts of two windows. Default `length`. */
    stride?: number;
    /** Samples ahead that a step is to predict. Default 1. */
    horizon?: number;
}
/** Examples { input (length, 1), target (length, horizon) }: at every step the next `horizon` values. */
declare function windows(series: ArrayLike<number>, options: WindowOptions): Generator<Sample>;

/** Types of samples that bytes may hold, little-endian. */
type SampleFormat = 'f32' | 'i16' | 'u8';

/** What {@link ModelStream.toTransform} takes. */
interface SampleTransformOptions {
    /** The type of the samples that bytes hold; without it frames are arrays of numbers and bytes are refused. */
    format?: SampleFormat;
}
/** How a push runs. */
interface PushOptions {
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
declare class ModelStream {
    #private;
    private constructor();
    /**
     * The next samples (batch, len, input), or tokens (batch, len) → outputs (batch, len, output). At once. `ERR_S4_NONFINITE` for an
     * input, an output or a resulting state with NaN or an infinity. A push that fails leaves the stream as it was before it.
     */
    push(x: TensorLike, options?: PushOptions): Tensor;
    /**
     * As {@link ModelStream.push}, off the event loop: for long chunks and prompts. An abort rejects at once. A push that had not
     * begun leaves the state as it was; one under way goes on to its end, its outputs are lost and the state has moved past its
     * samples. `position` tells which, when the model is free again.
     */
    pushAsync(x: TensorLike, options?: PushOptions & {
        signal?: AbortSignal;
    }): Promise<Tensor>;
    /** Samples seen so far. */
    get position(): number;
    /**
     * The whole state as bytes, for {@link ModelStream.restore} of a stream of the same model and batch, here or in another process,
     * at the same rate or another.
     */
    save(): Uint8Array;
    /** Back to a saved state. A state of another batch, shape or pooling is refused (`ERR_S4_CHECKPOINT`) and nothing changes. */
    restore(state: Uint8Array): void;
    /** An independent copy that goes on from here. */
    fork(): ModelStream;
    /** Zero states. */
    reset(): void;
    /**
     * A Node Transform in object mode: frames (arrays of len·input numbers, batch 1) in, arrays of outputs out. With `format`
     * frames are bytes instead, as files, sockets and microphones give them, cut anywhere: samples of that type, little-endian,
     * as numbers: f32 as it is, i16 / 32768 from -1 to below 1, u8 from 0 to 255.
     */
    toTransform(options?: SampleTransformOptions): Transform;
    /** Frees its state; idempotent. While the model is busy, the calls under way end first. */
    dispose(): void;
    /** `using` disposes. */
    [Symbol.dispose](): void;
}

/** AdamW with a group of its own for the SSM's parameters (Δ, Λ, B, P), which do not decay. */
interface AdamWOptions {
    /** Learning rate of the main group. Default 4e-3. */
    lr?: number;
    /** Learning rate of the SSM group. Default 1e-3. */
    ssmLr?: number;
    /** Decoupled decay of the main group. Default 0.01. */
    weightDecay?: number;
    /** Default 0.9. */
    beta1?: number;
    /** Default 0.999. */
    beta2?: number;
    /** Default 1e-8. */
    eps?: number;
    /** Largest global gradient norm. Default none. */
    clip?: number;
}
/**
 * AdamW over the parameters of layers and blocks, for loops of your own.
 *
 * @example
 * const optimizer = new AdamW([layer], { lr: 1e-3 })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
declare class AdamW {
    #private;
    constructor(layers: readonly (S4Layer | S4Block)[], options?: AdamWOptions);
    /** One update of every layer; `scale` multiplies the learning rates (a schedule's factor). Gives each layer's gradient norm. */
    step(scale?: number): number[];
    /** Frees the moments; idempotent. While a layer is busy, the calls under way end first. */
    dispose(): void;
    /** `using` disposes. */
    [Symbol.dispose](): void;
}

/** Learning rate over time, as {@link schedules} makes it: a factor on both learning rates; steps are updates. */
type Schedule = {
    kind: 'constant';
} | {
    kind: 'warmup';
    warmup: number;
} | {
    kind: 'warmupCosine';
    warmup: number;
    total: number;
    floor?: number;
} | {
    kind: 'plateau';
    factor: number;
    patience: number;
    floor?: number;
} | {
    kind: 'step';
    every: number;
    factor: number;
};
/**
 * Learning rate over time: a factor on both learning rates.
 *
 * @example
 * model.train(batches, { schedule: schedules.warmupCosine({ warmup: 100, total: 5000 }) })
 */
declare const schedules: {
    /** Factor 1. */
    constant(): Schedule;
    /** Linear over the first `warmup` updates, then 1. */
    warmup(options: {
        warmup: number;
    }): Schedule;
    /** Linear over the first `warmup` updates, then half a cosine down to `floor` (default 0) at update `total`. */
    warmupCosine(options: {
        warmup: number;
        total: number;
        floor?: number;
    }): Schedule;
    /** Times `factor` when the epoch's (validation) loss has not fallen for `patience` epochs, down to `floor`. */
    plateau(options: {
        factor: number;
        patience: number;
        floor?: number;
    }): Schedule;
    /** Times `factor` every `every` updates. */
    stepDecay(options: {
        every: number;
        factor: number;
    }): Schedule;
};

/** Options of a training run. */
interface TrainOptions extends AdamWOptions {
    /** Passes over the dataset. Default 1. */
    epochs?: number;
    /** Collects examples into batches of this size; without it the dataset gives batches. */
    batchSize?: number;
    /** Default constant. */
    schedule?: Schedule;
    /** Evaluated after every epoch; a plateau schedule follows it. */
    validation?: Dataset;
    /** States run on from batch to batch (truncated back-propagation through time); reset at every epoch. */
    carryState?: boolean;
    /** Decay of a running average of the parameters. Default none. */
    ema?: number;
    /** Seed of dropout and of shuffling. Default 0. */
    seed?: number;
    /** A new order of an array of examples every epoch. Default false. */
    shuffle?: boolean;
    /** A file that is written, whole, after every epoch. */
    checkpoint?: string;
    /** Go on with the optimiser's state, and where none is given its options, of the last run or of the checkpoint. Default false. */
    resume?: boolean;
    /** Ends training within one update. */
    signal?: AbortSignal;
}
/** After every update (`step`) and every epoch (`epoch`: means over it). */
interface TrainEvent {
    /** What has ended. */
    type: 'step' | 'epoch';
    /** From 0. */
    epoch: number;
    /** Updates so far: from 1, or with `resume` on from the run or checkpoint before. */
    step: number;
    /** Before the update. */
    loss: number;
    /** Global norm before clipping. */
    gradNorm: number;
    /** Of the main group. */
    lr: number;
    /** With cross-entropy. */
    accuracy?: number;
    /** With `validation`, at the end of an epoch. */
    validation?: Metrics;
    /** Rows × length a second. */
    samplesPerSecond: number;
}
/** What an evaluation gives. */
interface Metrics {
    /** Mean over rows. */
    loss: number;
    /** With cross-entropy. */
    accuracy?: number;
    /** Rows counted. */
    rows: number;
}
/** How an evaluation runs. */
interface EvaluateOptions {
    /** Collects examples into batches. */
    batchSize?: number;
    /** Ends it within one batch. */
    signal?: AbortSignal;
}

/** How one prediction runs. */
interface PredictOptions {
    /** Length of each row, 1 … len; outputs beyond are 0. */
    lengths?: ArrayLike<number>;
    /** Sampling-rate ratio: multiplies every Δ. Default 1. */
    rate?: number;
    /** Overrides the model's. */
    algorithm?: SsmAlgorithm;
}
/** What is written with the parameters. */
interface SaveOptions {
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
declare class SequenceModel extends Handle {
    #private;
    /** Number format. */
    readonly dtype: Dtype;
    /** `'cpu'`, `'cuda:0'`. */
    readonly device: string;
    /** Every option with its value: `SequenceModel.create(model.config)` makes a model of the same kind. */
    readonly config: Readonly<ModelConfig>;
    /** Whether it can be streamed: causal and not truncated. */
    readonly hasState: boolean;
    /** The JSON text that was saved with the checkpoint, if any. */
    readonly extra: string | undefined;
    private constructor();
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
    /** Swaps the parameters with their running average (training with `ema`); a second call swaps back. */
    swapAverage(): void;
    /** Loss (and accuracy) over a dataset, with nothing changed. */
    evaluate(dataset: Dataset, options?: EvaluateOptions): Promise<Metrics>;
    /** The same weights as a recurrent network, from zero states. */
    stream(options?: {
        batch?: number;
        rate?: number;
    }): ModelStream;
}

/** Which measure the state remembers its input by. */
type HippoKind = (typeof choices.measure)[number];
/** HiPPO matrices in float64: x′ = A x + B u, with A + P Pᵀ normal. */
interface HippoMatrices {
    /** A: (N, N). */
    a: Tensor;
    /** B: (N). */
    b: Tensor;
    /** P: (rank, N). */
    p: Tensor;
}
/** A = V (diag(Λ) − P P*) V* in float64, one of each conjugate pair, complex as trailing (re, im). */
interface NplrForm {
    /** Λ: (N/2, 2). */
    lambda: Tensor;
    /** V* P: (rank, N/2, 2). */
    p: Tensor;
    /** V* B, its imaginary part clipped to ±2: (N/2, 2). */
    b: Tensor;
    /** V* B: (N/2, 2). */
    bUnclipped: Tensor;
}
/** How {@link fftConv} convolves. */
interface FftConvOptions {
    /** The kernel has a direction against time as well. Default false. */
    twoSided?: boolean;
}
/** HiPPO matrices of a measure (paper eq. 2, Theorem 1). */
declare function hippo(kind: HippoKind, n: number): HippoMatrices;
/** The normal plus low-rank form of a measure's matrices, diagonalised (paper Theorem 1). */
declare function nplr(kind: HippoKind, n: number): NplrForm;
/**
 * Linear convolution by FFT: u (batch, len, heads), kernel (channels, heads, kernelLen), d (channels, heads) →
 * (batch, len, channels·heads). Two-sided: the kernel has 2·channels rows, forward direction first, y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}.
 */
declare function fftConv(u: TensorLike, kernel: TensorLike, d?: TensorLike, options?: FftConvOptions): Tensor;

/** A tensor of a file. A scalar has the shape []. */
interface FileTensor {
    /**
     * The elements, the last size running fastest, each exactly: F16, BF16 and F32 in a Float32Array; F64 in a Float64Array; BOOL and
     * integers that fit 32 bits in an Int32Array; U32, and 64-bit integers up to 2^53, in a Float64Array.
     */
    readonly data: Float32Array | Float64Array | Int32Array;
    /** Sizes, outermost first. */
    readonly shape: readonly number[];
}
/** What a safetensors file holds. */
interface SafetensorsFile {
    /** By name. One of a type that is not read here (`F8_E4M3`, `C64`, integers beyond 2^53) is not listed; to ask for it by name is `ERR_S4_DTYPE`. */
    tensors: Record<string, FileTensor>;
    /** Texts by name. */
    metadata: Record<string, string>;
}
/** Tensors and metadata of a safetensors file; a damaged one is `ERR_S4_CHECKPOINT`. */
declare function readSafetensors(path: FilePath): SafetensorsFile;
/**
 * Writes a safetensors file: a temporary file, then a rename; an existing file keeps its permissions, a symbolic link leads to
 * what is replaced. Typed arrays are written as their own type, other arrays of numbers as F32.
 */
declare function writeSafetensors(path: FilePath, tensors: Record<string, TensorLike | FileTensor>, metadata?: Record<string, string>): void;
/** Which column, and what a field without a value becomes. */
interface CsvOptions {
    /** A string is a name in the header, a number a place from 0. Default the last. */
    column?: string | number;
    /** `'error'` (default) names the row; `'linear'` draws the line between the values before and after. */
    gaps?: (typeof choices.gaps)[number];
    /**
     * Whether the first line holds names. `'auto'` (default) finds it out: names above numbers are a header, and so is any first line
     * where `column` is a name; a first line with names and numbers of its own is `ERR_S4_DATA`, as it may be either.
     */
    header?: boolean | 'auto';
}
/** One column of numbers; text, a gap or a ragged line is `ERR_S4_DATA` with its row. */
declare function readCsv(path: FilePath, options?: CsvOptions): Float64Array;

/** A device that this process can compute on. */
interface Device {
    /** `'cpu'`, `'cuda:0'`. */
    id: string;
    /** What it is. */
    kind: 'cpu' | 'cuda';
    /** CPU: cores. */
    threads?: number;
    /** CPU: instruction set of the hot loops. */
    simd?: 'portable' | 'avx2' | 'avx512';
    /** GPU: its name. */
    name?: string;
    /** GPU: bytes of memory. */
    memory?: number;
    /** GPU: compute capability, `'9.0'`. */
    capability?: string;
    /** GPU: CUDA version of the driver. */
    driver?: string;
}
/** What this machine offers, and in words why not more. */
interface Diagnosis {
    /** Of this package. */
    version: string;
    /** As `process.platform` says it. */
    platform: string;
    /** As `process.arch` says it. */
    arch: string;
    /** Number formats. */
    dtypes: string[];
    /** The devices to compute on, the CPU first. */
    devices: Device[];
    /** The state of CUDA, in words. */
    cuda: string;
    /** GPU architectures that this build has kernels for. */
    kernels: string[];
}
/** What this machine offers, and in words why not more. Never throws for want of a GPU. */
declare function diagnose(): Diagnosis;
/** The devices to compute on. */
declare function devices(): Device[];

export { AdamW, ModelStream, S4Block, S4Error, S4Layer, SequenceModel, choices, devices, diagnose, fftConv, hippo, nplr, readCsv, readSafetensors, schedules, windows, writeSafetensors };
export type { Activation, AdamWOptions, AlgorithmOption, BackwardResult, Batch, BlockConfig, BlockOptions, Counters, CsvOptions, Dataset, Device, DeviceOptions, Diagnosis, Dtype, EvaluateOptions, FftConvOptions, FilePath, FileTensor, Floats, ForwardOptions, ForwardResult, HippoKind, HippoMatrices, Integers, LayerConfig, LayerOptions, LoadOptions, Metrics, ModelConfig, ModelOptions, NplrForm, OfficialConfig, Parameter, ParameterTransform, PredictOptions, PushOptions, S4BlockOptions, S4ErrorCode, S4ErrorDetail, S4LayerOptions, SafetensorsFile, Sample, SampleFormat, SampleTransformOptions, SaveOptions, Schedule, SequenceModelOptions, Shape, SsmAlgorithm, StepResult, Tensor, TensorLike, TrainEvent, TrainOptions, WindowOptions };
