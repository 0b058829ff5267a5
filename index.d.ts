/**
 * S4 and S4D (Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces, arXiv 2111.00396):
 * layers with gradients, deep models, training, checkpoints and streaming inference on long sequences.
 */
import { Transform } from 'node:stream';
import { TransformStream } from 'node:stream/web';

/** The codes of all errors. A code keeps its meaning in later versions. */
type S4ErrorCode = 'ERR_S4_SHAPE' | 'ERR_S4_DTYPE' | 'ERR_S4_VALUE' | 'ERR_S4_DEVICE' | 'ERR_S4_MEMORY' | 'ERR_S4_DISPOSED' | 'ERR_S4_CHECKPOINT' | 'ERR_S4_DATA' | 'ERR_S4_ABORTED' | 'ERR_S4_NONFINITE' | 'ERR_S4_BUSY' | 'ERR_S4_UNSUPPORTED' | 'ERR_S4_DISTRIBUTED' | 'ERR_S4_PEER' | 'ERR_S4_INTERNAL';
/** The parts of an {@link S4Error}, of which its message is made. */
interface S4ErrorDetail {
    /** The operation that failed, as the API names it: `S4Layer.forward`. */
    op: string;
    /** What was expected. */
    expected: string;
    /** What was found instead. */
    got: string;
    /** Number of the update that failed. */
    step?: number;
    /** Name of the parameter or tensor that was not finite. */
    tensor?: string;
}
/**
 * The class of all errors of this library. `code` keeps its meaning in later versions; the message says the operation, what
 * it expected and what it got.
 *
 * @example
 * try { layer.forward({ data, shape: [1, 5, 3] }) } catch (e) { if (e.code === 'ERR_S4_SHAPE') … }
 */
declare class S4Error extends Error {
    readonly name = "S4Error";
    /** Code of the error, which keeps its meaning in later versions. */
    readonly code: S4ErrorCode;
    /** The operation that failed, as the API names it: `S4Layer.forward`. */
    readonly op: string;
    /** What was expected. */
    readonly expected: string;
    /** What was found instead. */
    readonly got: string;
    /** Number of the update that failed, for `ERR_S4_NONFINITE`. */
    readonly step?: number;
    /** Name of the tensor that was not finite, for `ERR_S4_NONFINITE`. */
    readonly tensor?: string;
    constructor(code: S4ErrorCode, detail: S4ErrorDetail, options?: ErrorOptions);
}

/** A path as Node's own functions take one: text, a `file:` URL, or its bytes. */
type FilePath = string | URL | Uint8Array;

/** Sizes, outermost first. */
type Shape = readonly number[];
/** An array of real numbers, as the library gives them. */
type Floats = Float32Array | Float64Array;
/** Number format of a layer, block or model. `f64` is computed on the CPU only. */
type Dtype = 'f32' | 'f64';
/** An array of integers: tokens, labels or lengths. */
type Integers = Int32Array | Uint8Array | Uint16Array | Uint32Array | BigInt64Array | readonly number[];
/**
 * An array with sizes, of this library, of another, or an object literal. Elements lie densely, the last size running
 * fastest.
 */
interface TensorLike {
    /** The elements, the last size running fastest. */
    readonly data: ArrayLike<number> | BigInt64Array;
    /** Sizes, outermost first: each at least 1, their product the number of elements. */
    readonly shape: Shape;
}
/** A tensor that the library gives: an array with its sizes. */
interface Tensor {
    /** The elements, the last size running fastest. */
    readonly data: Floats;
    /** Sizes, outermost first. */
    readonly shape: Shape;
    /** Element type of `data`. */
    readonly dtype: Dtype;
}

/** A parameter, with copies of its value and its accumulated gradient. */
interface Parameter {
    /** Name as in the official code's state dicts: `layer.kernel.C`, `blocks.0.norm.weight`. */
    readonly name: string;
    /** Shape as in the official code; complex numbers as a last size of 2. */
    readonly shape: Shape;
    /**
     * Group of the optimiser: `'ssm'` for inv_dt, A_real, A_imag, B, P (a learning rate of their own, no weight decay),
     * `'main'` for all others.
     */
    readonly group: 'main' | 'ssm';
    /** A copy of the value, read from the device each time it is asked for. */
    readonly value: Tensor;
    /** A copy of the accumulated gradient, read from the device each time it is asked for. */
    readonly grad: Tensor;
}
/** Counts since a layer or model was made, and the memory that it holds now. */
interface Counters {
    /** How often memory was asked of the device. Once sizes repeat, it does not grow any more. */
    readonly allocations: number;
    /** How often the host waited for the device. */
    readonly hostWaits: number;
    /** Bytes of GPU memory that it holds, those kept for reuse included. */
    readonly deviceMemory: number;
}
/** The base class of layers, blocks and models: their parameters, counters and disposal. */
declare abstract class Handle {
    /** Number format of parameters and results. */
    abstract readonly dtype: Dtype;
    /** All parameters, in the order of the forward pass. */
    parameters(): Parameter[];
    /**
     * Replaces the value of a parameter. A value with another shape, or with NaN or infinity, is refused, and nothing
     * changes.
     */
    setParameter(name: string, value: TensorLike): void;
    /** Zeroes all gradients. */
    zeroGrad(): void;
    /** Counts of memory requests and of waits for the device so far, and the memory held now. */
    counters(): Counters;
    /** Frees the native memory. Work under way ends first, and its memory is freed then. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** For each option that takes one of several words: the words. */
declare const choices: {
    /** Where to compute. */
    readonly device: readonly ["auto", "cpu", "cuda"];
    /** One GPU of several. */
    readonly gpu: readonly ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7", "cuda:8", "cuda:9", "cuda:10", "cuda:11", "cuda:12", "cuda:13", "cuda:14", "cuda:15"];
    /** How exactly a GPU multiplies. */
    readonly precision: readonly ["highest", "high", "bf16"];
    /** How the SSM is computed. */
    readonly algorithm: readonly ["auto", "fft", "chunk", "cauchy"];
    /** Structure of A. */
    readonly mode: readonly ["s4", "s4d"];
    /** Initial values of Λ, P and B. */
    readonly init: readonly ["legs", "legt", "fourier", "hippo", "lin", "inv", "real", "random"];
    /** How continuous time becomes steps. */
    readonly discretization: readonly ["bilinear", "zoh"];
    /** Function that makes a positive number of a parameter, which may be any number. */
    readonly transform: readonly ["exp", "softplus", "relu", "sigmoid", "none"];
    /** Nonlinear function of each feature at each time step. */
    readonly activation: readonly ["identity", "gelu", "relu", "silu", "tanh", "sigmoid", "softplus"];
    /** Kind of the normalisation in a block. */
    readonly norm: readonly ["layer", "batch", "none"];
    /** How inputs are mapped to features. */
    readonly encoder: readonly ["linear", "embedding", "none"];
    /**
     * How the features of all time steps become one vector for the decoder; with `none` the decoder runs at every time step.
     */
    readonly pooling: readonly ["none", "mean", "last", "first", "max", "sum", "logMeanExp"];
    /** The loss that training minimises. */
    readonly loss: readonly ["crossEntropy", "mse", "mae", "huber", "gaussian", "logCosh", "quantile"];
    /** HiPPO measures of {@link hippo} and {@link nplr}. */
    readonly measure: readonly ["legs", "legt", "fourier"];
    /** How {@link readCsv} treats a field without a value. */
    readonly gaps: readonly ["error", "linear"];
    /** What a pixel becomes in {@link readPictures}. */
    readonly colours: readonly ["asStored", "grey", "rgb"];
};
/** Options of where and in which number format a layer, block or model computes. */
interface DeviceOptions {
    /**
     * `'auto'` takes an NVIDIA GPU when there is one, else the CPU; `'cuda'` is the first GPU, `'cuda:1'` the second. Default `'auto'`, or
     * `S4_DEVICE` of the environment.
     */
    device?: (typeof choices.device)[number] | (typeof choices.gpu)[number];
    /** Number format. Default `'f32'`; `'f64'` is computed on the CPU only. */
    dtype?: Dtype;
    /** Number of CPU threads. Default one for each core. Results are the same bits for any number. */
    threads?: number;
    /**
     * How exactly a GPU multiplies matrices. `'highest'` (default) is as good as f32, with outputs within 1e-5 and gradients
     * within 1e-4 of exact ones, relative; `'high'` takes TF32, within 2e-3 and 5e-3; `'bf16'` within 1e-2 and 5e-2. GPUs
     * without units for such numbers, the CPU, and layers whose state is above 64 compute as `'highest'`.
     * On Hopper `'highest'` holds each operand of a mixing layer with GLU relative to its largest number: numbers below
     * 2⁻⁹ of that have an absolute error of up to 2⁻³¹ of it.
     */
    precision?: (typeof choices.precision)[number];
    /** Most bytes of GPU memory that it may take; beyond them a call answers `ERR_S4_MEMORY`. Default all there are. */
    memoryLimit?: number;
}
/** Function that makes a positive number of a parameter, which may be any number. */
type ParameterTransform = (typeof choices.transform)[number];
/** Nonlinear function of each feature at each time step. */
type Activation = (typeof choices.activation)[number];
/**
 * How the SSM is computed. All algorithms give the same outputs and gradients, up to rounding.
 *
 * - `'auto'` takes the faster of `'fft'` and `'chunk'` for the sizes of the call, by measurements.
 * - `'fft'`, for short sequences and many of them: a kernel as long as the sequence, then a convolution by FFT. Its rounding is
 *   relative to the largest value of the sequence: beside an outlier of 10⁹ values of 1 are lost, also before it.
 * - `'chunk'`, for long sequences: states pass between chunks of time; a time step costs the same at any length.
 * - `'cauchy'`, to check or to study: the paper's Algorithm 1, Cauchy sums, then the convolution of `'fft'`. For bilinear
 *   layers with |Λ|Δ·length of at least 10⁻⁶ and |Λ|Δ of at most 10⁸; others answer `ERR_S4_UNSUPPORTED`. A GPU answers so only for
 *   what is not bilinear: beyond those limits its outputs are NaN, and training ends with `ERR_S4_NONFINITE`; it takes at most 2²⁴
 *   samples. A call that begins with a state runs by `'chunk'` on a GPU; on the CPU only what that state adds does.
 */
type SsmAlgorithm = (typeof choices.algorithm)[number];
/** Options of one SSM layer, in the terms of the paper (arXiv 2111.00396). */
interface LayerOptions {
    /** H, the number of input features. */
    features: number;
    /**
     * N, the number of reals in each feature's state; even. Default 64. A GPU takes at most 128: for more, `device: 'auto'`
     * chooses the CPU.
     */
    state?: number;
    /** Structure of A: diagonal plus low rank (`'s4'`, default) or diagonal (`'s4d'`). */
    mode?: (typeof choices.mode)[number];
    /**
     * Initial values of Λ, P and B. S4 takes `legs`, `legt`, `fourier` and `hippo` (LegS and Fourier together); S4D takes
     * `legs`, `lin`, `inv` and `real`; both take `random`, the control of the paper's ablation. Default `'legs'`.
     */
    init?: (typeof choices.init)[number];
    /** Rank of the low-rank part of A in S4. Default 1, or 2 for LegT. */
    rank?: number;
    /** Number of different (A, B), which the features share; it divides `features`. Default one for each feature. */
    nSsm?: number;
    /** Outputs for each feature: channel c of feature h is output c·H + h of the SSM. Default 1. */
    channels?: number;
    /** Whether outputs depend on later inputs too. Such a layer has no state. Default false. */
    bidirectional?: boolean;
    /** Smallest step size at initialisation. Default 1e-3. */
    dtMin?: number;
    /** Largest step size at initialisation. Default 0.1. */
    dtMax?: number;
    /** Whether each conjugate pair of a state has a step size of its own, instead of one for each feature. Default false. */
    dtPerState?: boolean;
    /** How continuous time becomes steps. S4 takes only bilinear; S4D takes zero-order hold by default. */
    discretization?: (typeof choices.discretization)[number];
    /** Function t that makes the step size of its parameter, Δ = t(inv_dt). Default `'softplus'`. */
    dtTransform?: ParameterTransform;
    /** Function f that makes the real part of Λ of its parameter, Re Λ = −f(A_real). Default `'exp'`. */
    realTransform?: ParameterTransform;
    /** Function g that makes the imaginary part of Λ of its parameter, Im Λ = −g(A_imag). Default `'none'`. */
    imagTransform?: ParameterTransform;
    /** Length that the kernel is cut to. Such a layer has no state. */
    truncate?: number;
    /** Seed of the initial values and of a block's dropout masks. Give each of several blocks another one. Default 0. */
    seed?: number;
}
/** Options of a block: norm, S4, activation, dropout, linear, GLU, dropout, residual. */
interface BlockOptions extends LayerOptions {
    /** Kind of the norm. Default `'layer'`. */
    norm?: (typeof choices.norm)[number];
    /** Whether the norm stands before the SSM (default) or after the residual sum. */
    prenorm?: boolean;
    /** Activation after the SSM. Default `'gelu'`, in its exact form. */
    activation?: Activation;
    /** Whether the linear gives twice the features, of which the block takes first half · σ(second half). Default true. */
    glu?: boolean;
    /** Activation after a linear without GLU. Default `'identity'`. */
    finalActivation?: Activation;
    /** Probability of each of the two dropouts in training. Default 0. */
    dropout?: number;
    /** Whether a dropout mask is the same at every time step of a sequence. Default false. */
    tiedDropout?: boolean;
    /** Whether the block's input is added to its output. Default true. */
    residual?: boolean;
    /**
     * Probability with which training leaves out, for a whole sequence, what the block adds to its input (stochastic depth, the official
     * code's `drop_path`); what is kept is scaled by 1/(1 − p). In a model for each block and each feed-forward layer. Default 0.
     */
    dropPath?: number;
}
/** Options of a model: encoder, blocks, final norm, pooling, decoder, loss. */
interface ModelOptions extends BlockOptions {
    /** Number of input values at each time step; not used with an embedding. Default 1. */
    input?: number;
    /** Number of values, or of classes, that are predicted. Default 1. */
    output?: number;
    /** How inputs are mapped to features; `'embedding'` takes tokens (batch, len). Default `'linear'`. */
    encoder?: (typeof choices.encoder)[number];
    /** Number of different tokens, for an embedding. */
    vocabulary?: number;
    /** Number of blocks. Default 4. */
    layers?: number;
    /**
     * A feed-forward layer after each block, as in the paper's language model (the official code's `ff`, of which this is `expand`): a
     * residual block of its own with the block's kind of norm, a linear to `feedForward`·`features` features, GELU, dropout, a linear
     * back, dropout. Default 0: no such layers.
     */
    feedForward?: number;
    /**
     * How the features of all time steps become one vector, for one prediction per sequence. `'none'` (default) predicts at
     * every time step.
     */
    pooling?: (typeof choices.pooling)[number];
    /** Whether a norm follows the last block. Default as `prenorm`. */
    finalNorm?: boolean;
    /**
     * The loss that training minimises. With `'gaussian'` a model gives 2·output values: means, then log σ. With `'quantile'`
     * it gives output values for each level, those of the first level first. Default `'crossEntropy'`.
     */
    loss?: (typeof choices.loss)[number];
    /** Error beyond which the Huber loss grows linearly. Default 1. */
    huberDelta?: number;
    /** Levels of the quantile loss: 1 to 9, ascending, each between 0 and 1. Default `[0.1, 0.5, 0.9]`. */
    quantiles?: number[];
    /**
     * ε of cross-entropy with smoothed labels, from 0 to 1: the target is 1 − ε at the label, and ε/classes is added at every class, as
     * PyTorch's `label_smoothing` has it. Default 0.
     */
    labelSmoothing?: number;
    /**
     * A weight for each class in cross-entropy, as PyTorch's `weight`: the loss is Σwℓ/Σw with w the weight of the label's class, times
     * that of the target where it has one; with `labelSmoothing` each class's term has the weight of its own class. Metrics do not count
     * them. Default 1 for each.
     */
    classWeights?: number[];
    /**
     * A label that counts nothing, neither in the loss and its gradient nor in the metrics, as PyTorch's `ignore_index`: that of padding,
     * say. Every negative label counts nothing too. Default -100.
     */
    ignoreLabel?: number;
}
/** The option `algorithm`, which layers, blocks and models have in common. */
interface AlgorithmOptions {
    /** How calls that do not name an algorithm compute the SSM. Default `'auto'`. */
    algorithm?: SsmAlgorithm;
}
/** Options of {@link S4Layer}. */
interface S4LayerOptions extends LayerOptions, DeviceOptions, AlgorithmOptions {
}
/** Options of {@link S4Block}. */
interface S4BlockOptions extends BlockOptions, DeviceOptions, AlgorithmOptions {
}
/** Options of {@link SequenceModel.create}. */
interface SequenceModelOptions extends ModelOptions, DeviceOptions, AlgorithmOptions {
}
/** Options of loading: where and by which algorithm what is loaded computes. */
interface LoadOptions extends DeviceOptions, AlgorithmOptions {
}
/** Every option of a layer with its value, defaults included. */
interface LayerConfig extends Required<Omit<LayerOptions, 'rank' | 'truncate'>>, Pick<LayerOptions, 'rank' | 'truncate'> {
}
/** Every option of a block with its value, defaults included. */
interface BlockConfig extends LayerConfig, Required<Omit<BlockOptions, keyof LayerOptions>> {
}
/** Every option of a model with its value, defaults included. */
interface ModelConfig extends BlockConfig, Required<Omit<ModelOptions, keyof BlockOptions | 'vocabulary' | 'classWeights'>>, Pick<ModelOptions, 'vocabulary' | 'classWeights'> {
}

/** Options of one forward. */
interface ForwardOptions {
    /** State before the first time step, (batch, features, state/2, 2). Default zero. */
    state?: TensorLike;
    /** Length of each sequence, 1 to len. Each gives what it would give alone, and zeros beyond its length. */
    lengths?: ArrayLike<number>;
    /** Time from the step before to each step, as in {@link Batch.intervals}. Default 1 for all. */
    intervals?: TensorLike | ArrayLike<number>;
    /** Multiplies every step size: 2 for data sampled half as often. Default 1. */
    rate?: number;
    /** How this call computes the SSM. Default as given to the constructor. */
    algorithm?: SsmAlgorithm;
    /** Whether to keep the values that {@link S4Layer.backward} needs. Default true; false takes less memory. */
    save?: boolean;
    /**
     * Whether a block uses dropout, and statistics of the batch in a batch norm. Each such forward draws other dropout masks,
     * from the block's seed and the number of training forwards so far: a new block of the same seed draws the same again.
     * Default false.
     */
    training?: boolean;
    /**
     * Whether to give the state after each sequence's last time step. Default true. With `fft` that takes about as long as
     * the convolution.
     */
    finalState?: boolean;
}
/** Result of a forward. */
interface ForwardResult {
    /** Output, (batch, len, channels·features). */
    y: Tensor;
    /**
     * State after each sequence's last time step, (batch, features, state/2, 2), if it was asked for. Only layers that are
     * causal and not truncated have one.
     */
    state?: Tensor;
}
/** Gradients that a backward gives. */
interface BackwardResult {
    /** Gradient of the input, (batch, len, features). */
    du: Tensor;
    /** Gradient of the state that the forward started from, if it was given one. */
    dstate?: Tensor;
}
/** Result of one time step. */
interface StepResult {
    /** Output, (batch, channels·features). */
    y: Tensor;
    /** State after this time step, (batch, features, state/2, 2). */
    state: Tensor;
}
/** The methods that {@link S4Layer} and {@link S4Block} have in common. */
declare abstract class SsmHandle extends Handle {
    #private;
    /** Number format of parameters and results. */
    readonly dtype: Dtype;
    /** Name of the device that it computes on: `'cpu'` or `'cuda:0'`. */
    readonly device: string;
    /** Every option with its value, defaults included. */
    readonly config: Readonly<LayerConfig>;
    /** Whether it has a recurrent state: it must be causal and not truncated. */
    readonly hasState: boolean;
    /** Computes the output for whole sequences: u (batch, len, features) → y (batch, len, channels·features). */
    forward(u: TensorLike, options?: ForwardOptions): ForwardResult;
    /** As {@link S4Layer.forward}, without holding up the event loop. */
    forwardAsync(u: TensorLike, options?: ForwardOptions & {
        signal?: AbortSignal;
    }): Promise<ForwardResult>;
    /**
     * Gradients of sum(y·dy) + sum(state·dstate) for the last forward that saved its values. Those of parameters are added up
     * until {@link S4Layer.zeroGrad}.
     */
    backward(dy: TensorLike, options?: {
        dstate?: TensorLike;
    }): BackwardResult;
    /** As {@link S4Layer.backward}, without holding up the event loop. */
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
    /** A zero state for so many sequences, (batch, features, state/2, 2). */
    initialState(batch?: number): Tensor;
    /**
     * The first `len` values of the convolution kernel K̄, (channels, features, len). Two-sided layers have 2·channels, the
     * causal ones first.
     */
    kernel(len: number, options?: {
        rate?: number;
    }): Tensor;
    /** As {@link S4Layer.kernel}, without holding up the event loop. */
    kernelAsync(len: number, options?: {
        rate?: number;
        signal?: AbortSignal;
    }): Promise<Tensor>;
    /** Writes its parameters and its options (safetensors), to a temporary file that is then renamed, as {@link SequenceModel.save} does. */
    save(path: FilePath): Promise<void>;
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
    /** Loads a layer that {@link S4Layer.save} wrote; `ERR_S4_CHECKPOINT` for another file. */
    static load(path: FilePath, options?: LoadOptions): Promise<S4Layer>;
}

/**
 * Options of a layer of the official PyTorch S4 code that its state dicts do not say. They have the official names and
 * defaults.
 */
interface OfficialConfig {
    /** Structure of A: diagonal plus low rank, or diagonal. */
    mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d';
    /** How continuous time becomes steps. */
    disc?: (typeof choices.discretization)[number];
    /** How inv_dt becomes the step size. */
    dt_transform?: ParameterTransform;
    /** How A_real becomes −Re Λ. */
    real_transform?: ParameterTransform;
    /** How A_imag becomes −Im Λ. */
    imag_transform?: ParameterTransform;
    /** Whether outputs depend on later inputs too. */
    bidirectional?: boolean;
    /** Activation after the SSM. */
    activation?: string;
    /** What follows the linear: `'glu'`, or an activation. */
    final_act?: string;
    /** Other options of the official code: one that this library does not have is refused, any other is not read. */
    [other: string]: unknown;
}
/**
 * What the file of an official model does not say: the whole configuration of `train.py` (`model`, `decoder`, `task`,
 * `dataset`, …; `.hydra/config.yaml` of a run, as an object), or the options of its layer with these.
 */
interface OfficialModelConfig extends OfficialConfig {
    /** What the decoder does with the time steps, where there is no configuration of the decoder. */
    pooling?: 'none' | 'mean' | 'last' | 'first' | 'sum';
    /** Whether the norm stands before the SSM: asked for with a model of `example.py`, where tensors do not tell. */
    prenorm?: boolean;
}
/** Options of {@link SequenceModel.fromOfficial}. */
interface FromOfficialOptions extends LoadOptions {
    /** The configuration. Default what a Lightning checkpoint holds under `hyper_parameters`. */
    config?: OfficialModelConfig;
}
/** Options of {@link SequenceModel.toOfficial}. */
interface ToOfficialOptions {
    /** The configuration with which {@link SequenceModel.fromOfficial} loaded the original. */
    config?: OfficialModelConfig;
}

/**
 * One S4 block, which may stand in the place of a Transformer layer: norm, S4, activation, dropout, linear with GLU,
 * residual sum. Its input u and output y are (batch, len, features).
 */
declare class S4Block extends SsmHandle {
    #private;
    /** Every option with its value, defaults included. */
    readonly config: Readonly<BlockConfig>;
    constructor(options: S4BlockOptions);
    /** Loads a block that {@link S4Block.save} wrote; `ERR_S4_CHECKPOINT` for another file. */
    static load(path: FilePath, options?: LoadOptions): Promise<S4Block>;
    /**
     * Makes a block of a state dict of the official PyTorch S4 code: an `S4Block` of version 4, an `S4` of version 3, or an
     * `S4D` of `s4d.py`. It is given as named tensors or as a file: `.pt` or `.ckpt` (of which no code is run), or
     * safetensors. Their names may have a prefix in common. Where C̃ stands in the place of C, C is solved from it in float64.
     * Without `config` a file must hold it. The option `truncate` in it cuts the kernel, `l_max` does not.
     */
    static fromStateDict(source: FilePath | Record<string, TensorLike>, config?: OfficialConfig, options?: LoadOptions): S4Block;
}

/** Parameters chosen by name, with rates of their own. */
interface ParameterGroup {
    /** A name of {@link SequenceModel.parameters}, in which `*` stands for any characters: `'blocks.*.layer.kernel.inv_dt'`, `'*.bias'`. */
    name: string;
    /** Learning rate. Default that of the parameter's group, `lr` or `ssmLr`. */
    lr?: number;
    /** Decoupled decay. Default `weightDecay`, and 0 for Δ, A, B and P. */
    weightDecay?: number;
    /** They stay as they are, and their gradients count in no norm. Default false. */
    freeze?: boolean;
}

/** Options of AdamW. The SSM's parameters Δ, Λ, B and P are a group with its own learning rate and without weight decay. */
interface AdamWOptions {
    /** Learning rate of the main group. Default 4e-3. */
    lr?: number;
    /** Learning rate of the SSM group. Default 1e-3. */
    ssmLr?: number;
    /** Decoupled decay of the main group. Default 0.01. */
    weightDecay?: number;
    /** Decay of the first moment, the running mean of the gradients. Default 0.9. */
    beta1?: number;
    /** Decay of the second moment, the running mean of the squared gradients. Default 0.999. */
    beta2?: number;
    /** Added to the root of the second moment. Default 1e-8. */
    eps?: number;
    /** Norm over all gradients above which they are scaled down to it. Default none. */
    clip?: number;
    /**
     * Whether norms, biases and embeddings do not decay; a group's own `weightDecay` goes before it. Of your own parameters those whose
     * name ends with `bias` or has `norm` or `embedding` in it. Default false: as in the official code all decay but Δ, Λ, B and P.
     */
    spareNormsAndBiases?: boolean;
}
/** Options of {@link AdamW}. */
interface LoopOptions extends AdamWOptions {
    /**
     * Parameters with rates of their own; the first group that names one has it. A layer's parameters go by the names of `parameters()`, with
     * or without the layer's place in the list before them: `'kernel.inv_dt'` is that of every layer, `'1.kernel.inv_dt'` that of the second.
     * A group that names nothing is `ERR_S4_VALUE`.
     */
    groups?: readonly ParameterGroup[];
}
/** A parameter of your own: numbers that an update changes in their place, and their gradient, an array of the same type and length. */
interface OwnParameter {
    /** A name that no other has, for groups and for {@link AdamW.save}. */
    readonly name: string;
    /** The values. */
    readonly data: Float32Array | Float64Array;
    /** The gradient of the loss by each of them. */
    readonly grad: Float32Array | Float64Array;
}
/**
 * The optimiser AdamW for the parameters of layers and blocks and for your own, in training loops of your own. Gradients are clipped by
 * their norm over all of them together.
 *
 * @example
 * const head = { name: 'head', data: new Float32Array(64), grad: new Float32Array(64) }
 * const optimizer = new AdamW([layer, head], { lr: 1e-3, groups: [{ name: 'head', lr: 1e-2 }] })
 * layer.zeroGrad(); layer.forward(u); layer.backward(dy); optimizer.step()
 */
declare class AdamW {
    #private;
    constructor(parameters: readonly (S4Layer | S4Block | OwnParameter)[], options?: LoopOptions);
    /**
     * Makes one update, with the learning rates multiplied by `scale` (the factor of a schedule). Gives the norm of the gradients of each
     * member of the list. Where a gradient is not finite nothing is updated (`ERR_S4_NONFINITE`).
     */
    step(scale?: number): number[];
    /**
     * Writes the moments and the number of updates (safetensors), as {@link SequenceModel.save} does. Options, learning rates among them, are
     * not written.
     */
    save(path: FilePath): Promise<void>;
    /**
     * Takes the moments and the number of updates of a file that {@link AdamW.save} wrote, for the same list. `ERR_S4_CHECKPOINT` for those
     * of another, and nothing changes.
     */
    restore(path: FilePath): Promise<void>;
    /** Frees the moments, after the calls under way. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** One batch: inputs, and the targets that the model should give for them. */
interface Batch {
    /** Values (batch, len, input), or tokens (batch, len). */
    input: TensorLike;
    /**
     * Values (batch, len, output) or labels (batch, len); with pooling (batch, output) or (batch). Labels may be a plain
     * array, and a negative one is left out of the loss.
     */
    target: TensorLike | ArrayLike<number>;
    /** Length of each sequence, 1 to len. What lies beyond may be anything, NaN too. */
    lengths?: ArrayLike<number>;
    /**
     * Time from the step before to each step, (batch, len) or as many numbers, as a multiple of the interval that the model is
     * trained at: finite and above 0, anything in the padding. A step's Δ is multiplied by it, as by `interval` of
     * {@link ModelStream.push}: a step's input is taken to have lasted that long. The first step's is the time since a state that is
     * carried. Two-sided layers go back over the same time; `truncate` is `ERR_S4_UNSUPPORTED`. The SSM is then a recurrence a
     * step, whatever the algorithm. Default 1 for all.
     */
    intervals?: TensorLike | ArrayLike<number>;
    /**
     * Weight of each target, 0 or more: one for each sequence with pooling, else one for each time step. Losses, metrics and
     * gradients are Σ weight·value/Σ weight. Target values of weight 0 may be anything.
     */
    weights?: TensorLike | ArrayLike<number>;
    /** Ratio of sampling rates, by which every step size is multiplied: 2 for data sampled half as often. Default 1. */
    rate?: number;
}
/** One example of a dataset. With the option `batchSize` examples are collected into batches, the shorter ones padded. */
interface Sample {
    /** Values (len, input), or tokens (len). */
    input: TensorLike;
    /**
     * With pooling a label or values (output); without it labels (len) or values (len, output), with the len of its input.
     */
    target: number | TensorLike;
    /** Time from the step before to each step, (len), as in {@link Batch.intervals}. Default 1 for all. */
    intervals?: TensorLike | ArrayLike<number>;
}
/**
 * Batches, or examples with `batchSize`, as anything that can be iterated: an array, a generator, an async iterable.
 * Iterated once per epoch.
 */
type Dataset = Iterable<Batch | Sample> | AsyncIterable<Batch | Sample>;
/** What a dataset that is a function is told of the epoch for which it is called. */
interface DatasetPass {
    /** Number of the epoch, from 0. */
    readonly epoch: number;
    /** The run's seed. */
    readonly seed: number;
    /** Number of this rank, from 0; without others 0. */
    readonly rank: number;
    /** Number of ranks; without others 1. */
    readonly worldSize: number;
    /** The signal of the training. */
    readonly signal: AbortSignal | undefined;
}
/**
 * A dataset of every epoch. Of several ranks each is to give its own part, such as `urls.filter((_, i) => i % worldSize === rank)`: all that it
 * gives is this rank's.
 */
type DatasetOfPass = (pass: DatasetPass) => Dataset;
/** Options of {@link windows}: how a long series is cut into examples. */
interface WindowOptions {
    /** Time steps of a window. */
    length: number;
    /** Time steps between the starts of two windows. Default `length`. */
    stride?: number;
    /** Number of the following values that each time step is to predict. Default 1. */
    horizon?: number;
}
/**
 * Cuts a series into examples { input (length, 1), target (length, horizon) }, in which every time step has the next
 * `horizon` values as target.
 */
declare function windows(series: ArrayLike<number>, options: WindowOptions): Generator<Sample>;

/** Options of what the tokens of a model stand for. */
interface TokenOptions {
    /**
     * The input values of each class, (classes, input), of a model whose encoder is no embedding: what it is given for a token,
     * such as `{ data: grey levels from 0 to 1, shape: [256, 1] }` for pixels.
     */
    inputs?: TensorLike;
    /** Ratio of sampling rates, by which every step size is multiplied. Default 1; a stream has its own. */
    rate?: number;
    /** Ends the work within some milliseconds when it fires, with `ERR_S4_ABORTED`. */
    signal?: AbortSignal;
}
/**
 * How tokens are chosen. The filters come in this order, as in Hugging Face's `transformers`: repetition penalty, temperature,
 * topK, topP, minP.
 */
interface SamplingOptions {
    /** Divides the logits. 0 takes the most probable token, the first of equals. Default 1. */
    temperature?: number;
    /** Keeps so many of the most probable tokens, and those as probable as the last of them. Default 0: all. */
    topK?: number;
    /**
     * Keeps the fewest of the most probable tokens whose probabilities sum to at least this; of two that are equally probable the
     * one with the smaller number comes first. Default 1: all.
     */
    topP?: number;
    /** Keeps tokens whose probability is at least this part of the largest. Default 0: all. */
    minP?: number;
    /** Divides the logits above 0 of tokens that the prompt or the text so far has, and multiplies those below 0. Default 1. */
    repetitionPenalty?: number;
    /** Seed of the random numbers: the same gives the same tokens. Default another one every time. */
    seed?: number;
}
/** Options of {@link SequenceModel.generate} and {@link ModelStream.generate}. */
interface GenerateOptions extends TokenOptions, SamplingOptions {
    /** Most tokens of each sequence. Default 256. */
    maxTokens?: number;
    /**
     * Tokens, or sequences of tokens, after which a sequence ends; its last tokens are then those. Only what was generated is
     * looked at, not the prompt.
     */
    stop?: readonly (number | ArrayLike<number>)[];
}
/** One step of a generation. */
interface GeneratedStep {
    /** The next token of each sequence; −1 of one that has ended before. */
    tokens: Int32Array;
    /**
     * The logarithm of the probability of each token by the model itself, before temperature and filters; NaN of a sequence that
     * has ended before.
     */
    logProbabilities: Float64Array;
}
/** One sequence of tokens, or several, of any lengths. */
type TokenSequences = ArrayLike<number> | readonly ArrayLike<number>[];

/** What may be wrong with a layer. */
type AdviceKind = 'stepTooLarge' | 'stepTooSmall' | 'unstable' | 'idleLayer' | 'idleHeads';

/** Options of {@link SequenceModel.inspect}. */
interface InspectionOptions {
    /** Data that the model is for: values (batch, len, input), or tokens (batch, len). */
    data?: TensorLike;
    /** Length of each sequence of `data`. Default all of them as long as the array. */
    lengths?: ArrayLike<number>;
    /** The intervals of the time steps of `data`, as in {@link Batch.intervals}. Default 1 for all. */
    intervals?: TensorLike | ArrayLike<number>;
    /**
     * How many time steps of the training are one of the data, as in {@link PredictOptions.rate}. `length` and `samplingInterval` are those
     * of the data; figures of layers are in time steps of the training all the same, as the layers have learned them. Default 1.
     */
    rate?: number;
    /** Time steps of the sequences that the model is for. Default those of `data`; without either there is no advice that needs it. */
    length?: number;
    /** Seconds from one time step to the next. With it times are in seconds too, and frequencies in hertz. */
    samplingInterval?: number;
    /** Rejects at once with `ERR_S4_ABORTED` when it fires. */
    signal?: AbortSignal;
}
/** Times of the heads of a layer. */
interface Durations {
    /** In time steps; Infinity where a kernel does not die away. */
    readonly steps: Float64Array;
    /** In seconds, where the sampling interval is known. */
    readonly seconds?: Float64Array;
}
/** One layer of an {@link Inspection}. */
interface InspectedLayer {
    /** Name of the block: `'blocks.0'`. */
    readonly name: string;
    /** Δ of each head (the geometric mean where each pair of a state has its own). */
    readonly stepSizes: Float64Array;
    /** 1/Δ of each head: the time over which it sums up. */
    readonly timescales: Durations;
    /** How far back 50 %, 90 % and 99 % of the energy Σ K̄² of each head's kernel lie. */
    readonly memory: {
        readonly half: Durations;
        readonly most: Durations;
        readonly nearlyAll: Durations;
    };
    /**
     * Λ, (SSMs, N/2, 2), real parts first: of each conjugate pair one. For S4D these are the eigenvalues of A; for S4 those of its
     * normal part, before the low-rank part. Times Δ they are for one time step.
     */
    readonly eigenvalues: {
        readonly data: Float64Array;
        readonly shape: readonly number[];
    };
    /** The frequency response |K̂| of each head, (heads, frequencies). */
    readonly gain: {
        readonly data: Float64Array;
        readonly shape: readonly number[];
    };
    /** Part of the modes that turn or decay by more than half a period in one time step (|Δλ| > π): finer than the data. */
    readonly unresolved: number;
    /** How much each head sends on: the root of its kernel's energy and D², times the norm of the weights that take it. */
    readonly strength: Float64Array;
    /** Heads of less than a thousandth of the largest strength: they do nothing. */
    readonly idleHeads: readonly number[];
    /** ‖change‖/‖input‖ of the block on `data`; undefined without data, or where blocks have no residual. */
    readonly change?: number;
}
/** Something about a layer that is likely to be wrong, in words. */
interface InspectionAdvice {
    /** What it is. */
    readonly kind: AdviceKind;
    /** Number of the layer. */
    readonly layer: number;
    /** What was found, and what to do. */
    readonly text: string;
}
/** What {@link SequenceModel.inspect} gives. */
interface Inspection {
    /** Seconds from one time step to the next, where it was given. */
    readonly samplingInterval?: number;
    /** Time steps of the sequences that the model is for, where it is known. */
    readonly length?: number;
    /** Time steps of the training that are one of the data, where they are not as many. */
    readonly rate?: number;
    /** The frequencies of {@link InspectedLayer.gain}, in cycles a time step, 0.0001 to 0.5. */
    readonly frequencies: Float64Array;
    /** The layers, from the input on. */
    readonly layers: readonly InspectedLayer[];
    /**
     * (batch, len): how much the output of the last time step depends on the input at each: the norm of its gradient. Of classes it is
     * the output that is largest, else the sum of the outputs. Undefined without data.
     */
    readonly influence?: {
        readonly data: Float64Array;
        readonly shape: readonly number[];
    };
    /** What is likely to be wrong; empty where nothing is. */
    readonly advice: readonly InspectionAdvice[];
    /** All of it in lines of text, as `s4 inspect` prints it. */
    readonly text: string;
    /** {@link Inspection.text}. */
    toString(): string;
}

/** Outputs of a push. */
interface StreamedTensor extends Tensor {
    /** The time of each time step, where the push had times. */
    readonly time?: Float64Array;
}
/** How the times of pushes are taken. */
interface StreamTimeOptions {
    /**
     * The time between two samples that counts as an interval of 1, in the unit of the pushes' times: the intervals between the times of
     * samples are then taken as {@link PushOptions.interval} is, and each sample must be later than the one before. Default none: times
     * are only given back with the outputs.
     */
    usualInterval?: number;
}

/**
 * Type of the numbers in bytes, little-endian: 32-bit floats, signed integers of 16 bits, unsigned ones of 8, or the 8 bits of
 * the telephone's μ-law (ITU-T G.711).
 */
type SampleFormat = 'f32' | 'i16' | 'u8' | 'mulaw';

/** Options of {@link ModelStream.toTransform} and of {@link LiveStream.toTransform}. */
interface SampleTransformOptions {
    /** Type of the numbers in frames that are bytes. Without it frames must be arrays of numbers. */
    format?: SampleFormat;
}
/** A frame whose samples have times. */
interface TimedFrame {
    /** Numbers, or bytes of whole time steps where there is a `format`. */
    data: ArrayLike<number>;
    /** The time of each time step, or of the first, as in {@link PushOptions.time}. */
    time: number | ArrayLike<number>;
}
/** What comes of a {@link TimedFrame}. */
interface TimedOutputs {
    /** Outputs, (len, output). */
    data: Float32Array | Float64Array;
    /** The time of each time step. */
    time: Float64Array;
}

/** Options of a push. */
interface PushOptions {
    /**
     * Ratio of time steps to those of training: one number, one for each sequence, or one for each sequence and time step.
     */
    interval?: number | ArrayLike<number>;
    /**
     * The time of each time step, in any unit: the outputs have them too. One number is that of the first, of a stream with
     * {@link StreamTimeOptions.usualInterval}, at which the others follow. With `usualInterval` they are the intervals as well, unless `interval` says them.
     */
    time?: number | ArrayLike<number>;
}
/**
 * A model as a recurrent network with a state of its own. It is pushed inputs of any length, and gives the outputs that the
 * model would give for the whole sequence, in memory that does not grow with it.
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
    push(x: TensorLike, options?: PushOptions): StreamedTensor;
    /**
     * As {@link ModelStream.push}, without holding up the event loop: for long inputs. An abort rejects at once. A push that
     * has not begun then leaves the state as it was; one under way goes on to its end, so that its outputs are lost and the
     * state is that after its time steps. `position` says which, when the model is free again.
     */
    pushAsync(x: TensorLike, options?: PushOptions & {
        signal?: AbortSignal;
    }): Promise<StreamedTensor>;
    /** Number of time steps so far. */
    get position(): number;
    /**
     * The whole state as bytes, for {@link ModelStream.restore} of a stream of the same model and batch, here or in another process,
     * at the same rate or another.
     */
    save(): Uint8Array;
    /**
     * Back to a saved state. A state of another batch, shape or pooling is refused (`ERR_S4_CHECKPOINT`) and nothing changes. It holds no
     * time: the interval before the next sample is 1, unless `interval` says it.
     */
    restore(state: Uint8Array): void;
    /** Makes an independent stream that starts from the present state of this one. */
    fork(): ModelStream;
    /**
     * As {@link SequenceModel.generate}, but the prompt continues what the stream has been pushed. The stream itself stays as it is. A
     * stream of one sequence is continued by every prompt, so that a long prefix is computed once; one of several needs a prompt for
     * each.
     */
    generate(prompt: TokenSequences, options?: Omit<GenerateOptions, 'rate'>): AsyncGenerator<GeneratedStep, void, void>;
    /** Goes back to zero states and position 0. */
    reset(): void;
    /**
     * The stream as a Node Transform in object mode, for a batch of 1: it takes frames (arrays of len·input numbers) and
     * gives arrays of outputs. With `format` frames are bytes, as files, sockets and microphones give them, and may be cut at
     * any byte: numbers of that type, little-endian, taken as they are (f32), divided by 32768 (i16), from 0 to 255 (u8), or
     * decoded to numbers from −1 to 1 (mulaw). A frame with times is a {@link TimedFrame}, and what comes of it {@link TimedOutputs}.
     */
    toTransform(options?: SampleTransformOptions): Transform;
    /** As {@link ModelStream.toTransform}, as a TransformStream of the web. */
    toTransformStream(options?: SampleTransformOptions): TransformStream;
    /** Frees the native state, after the calls under way. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/**
 * One of the live streams of a model, which {@link ModelStreams.open} gives: a sequence of its own, computed together with the
 * others in ticks. Its outputs are those of a {@link ModelStream} with a batch of 1.
 */
declare class LiveStream {
    #private;
    private constructor();
    /**
     * The next time steps (len, input), or tokens (len) → outputs (len, output), with the next tick. Rejected pushes leave the stream
     * as it was: `ERR_S4_NONFINITE` for NaN or an infinity in input, output or state, `ERR_S4_BUSY` where more time steps would wait than
     * `maxWaiting`, `ERR_S4_VALUE` for a push that is longer than that. `interval` and `time` as in {@link ModelStream.push}: a number, or one for each time step.
     */
    push(x: TensorLike, options?: PushOptions): Promise<StreamedTensor>;
    /** Time steps that have been computed. */
    get position(): number;
    /** Time steps that wait for a tick, or are in one. */
    get waiting(): number;
    /**
     * The state after all pushes so far, as bytes: for {@link LiveStream.restore} of any live stream of this model, and for
     * {@link ModelStream.restore} of a stream with a batch of 1.
     */
    save(): Promise<Uint8Array>;
    /**
     * Goes back to a saved state, after the pushes so far and before those to come. A state of another model is refused
     * (`ERR_S4_CHECKPOINT`) and nothing changes. It holds no time: the interval before the next sample is 1, unless `interval` says it.
     */
    restore(state: Uint8Array): Promise<void>;
    /** Goes back to zero states and position 0, after the pushes so far and before those to come. */
    reset(): Promise<void>;
    /**
     * The stream as a Node Transform in object mode: it takes frames (arrays of len·input numbers) and gives arrays of outputs.
     * With `format` frames are bytes, as in {@link ModelStream.toTransform}. A frame waits for its tick, and holds up those
     * behind it.
     */
    toTransform(options?: SampleTransformOptions): Transform;
    /** As {@link LiveStream.toTransform}, as a TransformStream of the web. */
    toTransformStream(options?: SampleTransformOptions): TransformStream;
    /** Ends the stream and frees its slot for another. Pushes that wait are rejected (`ERR_S4_DISPOSED`). A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** Options of {@link SequenceModel.streams}. */
interface StreamsOptions extends StreamTimeOptions {
    /** Number of streams that may be open at a time. The memory of their states is taken at once. */
    slots: number;
    /** Ratio of the sampling rate to that of training; multiplies every Δ. Default 1. */
    rate?: number;
    /**
     * Milliseconds from the first push that waits to the tick that computes it: larger batches, later answers. Default 0: with the
     * next turn of the event loop, or when the tick under way has ended.
     */
    tickMilliseconds?: number;
    /** Time steps, of all streams together, that start a tick at once. Default none. */
    tickSteps?: number;
    /** Time steps that one stream may have waiting; a push beyond is `ERR_S4_BUSY`. Default 65,536. */
    maxWaiting?: number;
}
/**
 * Many live streams of one model, which come and go at any time and are computed together: what they push is gathered, and
 * computed in ticks off the event loop. Each gives what it would give alone. Beside a tick, as beside any call that runs off the event loop,
 * a synchronous call of the model is refused (`ERR_S4_BUSY`): of many streams, some have their outputs before the tick has ended.
 *
 * @example
 * const streams = model.streams({ slots: 1000 })
 * for (const sensor of sensors) {
 *   const stream = streams.open()
 *   sensor.on('frame', async (data) => console.log(sensor.name, await stream.push({ data, shape: [data.length, 1] })))
 *   sensor.on('end', () => stream.dispose())
 * }
 */
declare class ModelStreams {
    #private;
    private constructor();
    /** Number of streams that may be open at a time. */
    get slots(): number;
    /** Number of open streams. */
    get size(): number;
    /** Opens a stream with zero states. `ERR_S4_BUSY` where all slots are taken. */
    open(): LiveStream;
    /** Computes what waits, after the tick under way; gives the number of time steps. */
    tick(): Promise<number>;
    /** Ends all streams and frees their native states, after the calls under way. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** The options of {@link joinGroup} that say which rank this is and where rank 0 is found. */
interface PlaceOptions {
    /** Number of this process among all, from 0. Default that of the launcher. */
    rank?: number;
    /** Number of processes. Default that of the launcher; 1 without one. */
    worldSize?: number;
    /** Number of this process among those of its machine: it takes the GPU of that number. Default that of the launcher, or 0. */
    localRank?: number;
    /** Name or address of rank 0's machine. Default `MASTER_ADDR`, or what the launcher says. */
    masterAddress?: string;
    /** Port at which rank 0 is found there. Default `MASTER_PORT`, or one of the launcher's job. */
    masterPort?: number;
    /** Tells the runs that share an address apart. Default that of the launcher. */
    runId?: string;
}

/** Options of {@link joinGroup}. */
interface JoinOptions extends PlaceOptions {
    /** Milliseconds that a rank waits for the others, to join and in training. Default 60,000. */
    timeout?: number;
    /** Ends the joining when it fires. */
    signal?: AbortSignal;
}
/** The group of ranks that a process has joined, see {@link joinGroup}. */
declare class ProcessGroup {
    /** Number of this process among all, from 0. */
    readonly rank: number;
    /** Number of processes. */
    readonly worldSize: number;
    /** Number of this process among those of its machine. */
    readonly localRank: number;
    /** Device for this process's models: `'cuda:1'` for local rank 1, `'cuda'` where one GPU alone can be seen, `'cpu'` without one. */
    readonly device: 'cpu' | 'cuda' | (typeof choices.gpu)[number];
    /** What has said which rank this is. */
    readonly source: 'options' | 'torch' | 'slurm' | 'openmpi' | 'pmi' | 'none';
    private constructor();
    /** Leaves the group, after the last training. */
    close(): Promise<void>;
    /** Called at the end of an `await using` declaration's scope: closes. */
    [Symbol.asyncDispose](): Promise<void>;
}
/**
 * Joins the group of processes that a launcher has started: `torchrun --no-python`, `srun`, `mpirun`, a PyTorchJob of Kubernetes, or
 * a loop that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Without one it is a group of one, and training is as
 * without a group. Resolves when all ranks have come. `ERR_S4_DISTRIBUTED` where the environment contradicts itself or the ranks do
 * not find each other within the time. The traffic is not encrypted: for networks that are trusted.
 *
 * @example
 * const group = await joinGroup()
 * const model = await SequenceModel.create({ ...options, device: group.device })
 * for await (const e of model.train(data, { batchSize: 32, distributed: group })) if (group.rank === 0) console.log(e.loss)
 * await group.close()
 */
declare function joinGroup(options?: JoinOptions): Promise<ProcessGroup>;

/**
 * A learning-rate schedule, which {@link schedules} makes: a factor for each update that both learning rates are multiplied
 * by.
 */
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
 * Makes learning-rate schedules: factors for each update that both learning rates are multiplied by.
 *
 * @example
 * model.train(batches, { schedule: schedules.warmupCosine({ warmup: 100, total: 5000 }) })
 */
declare const schedules: {
    /** The factor is always 1. */
    constant(): Schedule;
    /** The factor rises linearly to 1 over the first `warmup` updates, and stays there. */
    warmup(options: {
        warmup: number;
    }): Schedule;
    /**
     * The factor rises linearly to 1 over the first `warmup` updates, then falls along half a cosine to `floor` (default 0)
     * at update `total`.
     */
    warmupCosine(options: {
        warmup: number;
        total: number;
        floor?: number;
    }): Schedule;
    /**
     * Multiplies by `factor`, down to `floor`, whenever the loss of an epoch (that of the validation, if there is one) has
     * not fallen for more than `patience` epochs.
     */
    plateau(options: {
        factor: number;
        patience: number;
        floor?: number;
    }): Schedule;
    /** Multiplies by `factor` after every `every` updates. */
    stepDecay(options: {
        every: number;
        factor: number;
    }): Schedule;
};

/** F1 scores. */
interface F1Scores {
    /** 2·TP/(2·TP + FP + FN) of each class; 0 where it is neither there nor predicted. */
    perClass: number[];
    /** Mean over the classes. */
    macro: number;
    /** Mean by the number of examples of each class, or by their weights. */
    weighted: number;
}
/**
 * Metrics that a loss makes possible: means over the targets by their own weights. Weights of classes and smoothed labels are in the loss
 * alone; ignored labels are in neither. Those with cross-entropy are `accuracy` to `bitsPerDimension`, those with other losses `mse`
 * to `crps`.
 */
interface Scores {
    /** Part of the targets that was predicted right. */
    accuracy?: number;
    /** Part of the targets whose label is among the `topK` largest outputs, with the option `topK`; of equal outputs the lower class comes first. */
    topK?: number;
    /** exp of the mean of −log p, p being the probability of the label. */
    perplexity?: number;
    /** The mean of −log₂ p: bits a dimension, or a character, a sample, whatever a target is. */
    bitsPerDimension?: number;
    /** Mean squared error of the outputs: of the means with loss `'gaussian'`, of the level nearest to ½ with `'quantile'`. */
    mse?: number;
    /** Mean absolute error of the same outputs. */
    mae?: number;
    /**
     * Mean continuous ranked probability score, in the unit of the targets: with loss `'gaussian'` in its closed form, with `'quantile'`
     * twice the mean pinball loss of the levels.
     */
    crps?: number;
}

/** Options of a training run. */
interface TrainOptions extends AdamWOptions {
    /**
     * Number of epochs (passes over the dataset) of the whole run; a resumed run makes those that are left. Default 1, or
     * that of the resumed run.
     */
    epochs?: number;
    /** Number of examples that are collected into a batch. Without it the dataset must give batches. */
    batchSize?: number;
    /**
     * Parameters with rates of their own; the first group that names one has it, and clipping is over all together. The schedule is a
     * factor on their rates too. A group that names no parameter is `ERR_S4_VALUE`.
     */
    groups?: readonly ParameterGroup[];
    /** Schedule of the learning rates. Default constant. */
    schedule?: Schedule;
    /**
     * Dataset on which the model is evaluated after every epoch. A plateau schedule follows its loss. What can be walked only
     * once (a generator, a stream) serves a run of one epoch; with more it is `ERR_S4_DATA`, before training.
     */
    validation?: Dataset;
    /** Events and validation also give `topK`, the part of the labels among so many of the largest outputs. For cross-entropy. */
    topK?: number;
    /**
     * States run on from batch to batch (truncated back-propagation through time); reset at every epoch. Row i of a batch goes on where
     * row i of the batch before it ended, so all batches of an epoch have as many rows: others are `ERR_S4_SHAPE`.
     */
    carryState?: boolean;
    /**
     * Whether batch norms have mean and variance of the joint batch of all ranks, as PyTorch's SyncBatchNorm, in place of those of a
     * rank's own batch. For a model with norm 'batch' that several ranks train (`distributed`); else without effect. Default false.
     */
    syncBatchNorm?: boolean;
    /** Decay of a running average of the parameters, see {@link SequenceModel.swapAverage}. Default none. */
    ema?: number;
    /** Seed of the dropout masks and of shuffling. Default 0. */
    seed?: number;
    /** Whether the dataset, which must be an array, is shuffled every epoch. Default false. */
    shuffle?: boolean;
    /**
     * Path of a checkpoint that is written after every epoch, in the place of the one before: a device, a pipe or a folder is
     * `ERR_S4_CHECKPOINT`, before training. Of a symbolic link the file that it leads to is replaced.
     */
    checkpoint?: FilePath;
    /**
     * Whether to go on with the last run, or with that of the checkpoint that the model was loaded from, as if it had not
     * stopped, even in the middle of an epoch. Options that are not given are those of the run, but for the dataset,
     * `batchSize`, `validation` and `checkpoint`, which have to be given again. `ERR_S4_CHECKPOINT` where there is no run: for a
     * model that has not been trained, or from a file without the state of training. Default false.
     */
    resume?: boolean;
    /**
     * The ranks that train together, of {@link joinGroup}. Every rank gives the same options and the same dataset, of whose batches it
     * takes every worldSize-th: an update is that of the joint batch of all ranks. All begin with the parameters of rank 0, which alone
     * writes the checkpoint and needs one to resume. `ERR_S4_DISTRIBUTED` where the ranks differ, before training; `ERR_S4_PEER` where
     * a rank is lost, and then the model refuses further work. A group of one trains as without.
     */
    distributed?: ProcessGroup;
    /** Ends training, within one update, when it fires. */
    signal?: AbortSignal;
}
/**
 * What training yields after every update (`step`), and after every epoch (`epoch`), with means over the epoch. Loss and metrics of an
 * update are those with the parameters before it, and with dropout.
 */
interface TrainEvent extends Scores {
    /** Whether an update or an epoch has ended. */
    type: 'step' | 'epoch';
    /** Number of the epoch, from 0. */
    epoch: number;
    /** The rank that yields the event, in a group of several. Losses and metrics are those over all ranks. */
    rank?: number;
    /** Number of updates so far, those before a resume included. */
    step: number;
    /** Loss with the parameters before the update. */
    loss: number;
    /** Norm over all gradients, before clipping. */
    gradNorm: number;
    /** Learning rate of the main group. */
    lr: number;
    /** Means over the option `validation`, if it is given, at the end of an epoch. */
    validation?: Metrics;
    /** Time steps trained on per second; padding does not count. */
    samplesPerSecond: number;
}
/** How far the training of a model is, in its last run or in that of the checkpoint that it was loaded from. */
interface Progress {
    /** Number of updates. */
    readonly steps: number;
    /** Number of whole epochs. */
    readonly epochs: number;
    /** Time steps trained on; padding does not count. */
    readonly samples: number;
}
/** Means that an evaluation gives. */
interface Metrics extends Scores {
    /** Mean loss over the targets, by weight. */
    loss: number;
    /** Number of targets that count: one for each sequence with pooling, else one for each time step. */
    rows: number;
    /**
     * Sums of the targets' weights (their numbers, where they have none) by class: row the label, column the largest output. For
     * cross-entropy with at most 256 classes.
     */
    confusion?: number[][];
    /** F1 scores of `confusion`. */
    f1?: F1Scores;
}
/** Options of an evaluation. */
interface EvaluateOptions {
    /** Number of examples that are collected into a batch. Without it the dataset must give batches. */
    batchSize?: number;
    /** Also gives `topK`, the part of the labels among so many of the largest outputs. For cross-entropy. */
    topK?: number;
    /** Ends the evaluation, within one batch, when it fires. */
    signal?: AbortSignal;
}

/** Options of one prediction. */
interface PredictOptions {
    /** Length of each sequence, 1 to len. Outputs beyond it are 0. */
    lengths?: ArrayLike<number>;
    /** Time from the step before to each step, as in {@link Batch.intervals}. Default 1 for all. */
    intervals?: TensorLike | ArrayLike<number>;
    /** Ratio of sampling rates, by which every step size is multiplied: 2 for data sampled half as often. Default 1. */
    rate?: number;
    /** How this call computes the SSM. Default as given to the model. */
    algorithm?: SsmAlgorithm;
}
/** Options of what a checkpoint holds besides the parameters. */
interface SaveOptions {
    /**
     * Whether it holds the state of training (moments, number of updates, schedule, random state), so that a resumed run
     * gives the same bits. Default true.
     */
    optimizer?: boolean;
    /** A JSON text of your own, which `model.extra` is after loading. */
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
    /** Number format of parameters and results. */
    readonly dtype: Dtype;
    /** Name of the device that it computes on: `'cpu'` or `'cuda:0'`. */
    readonly device: string;
    /**
     * Every option with its value, defaults included: `SequenceModel.create(model.config)` makes a model of the same kind.
     */
    readonly config: Readonly<ModelConfig>;
    /** Whether it can be streamed: its layers must be causal and not truncated. */
    readonly hasState: boolean;
    /** The JSON text that was saved with the checkpoint, if any. */
    readonly extra: string | undefined;
    private constructor();
    /** How far training is, in the last run or in that of the checkpoint that the model was loaded from. */
    get progress(): Progress;
    /** Makes a new model. Its initial values are drawn from the option `seed`. */
    static create(options: SequenceModelOptions): Promise<SequenceModel>;
    /** Loads a model from a checkpoint file that {@link SequenceModel.save} wrote. */
    static load(path: FilePath, options?: LoadOptions): Promise<SequenceModel>;
    /** Loads a model from the bytes that {@link SequenceModel.toBytes} gave. */
    static fromBytes(bytes: Uint8Array, options?: LoadOptions): Promise<SequenceModel>;
    /**
     * Writes a checkpoint (safetensors). It goes to a temporary file, which is then renamed: a reader finds the old file or
     * the new one, never a part. A symbolic link stays, and the file that it leads to is replaced; a device or a pipe, such as
     * `/dev/stdout`, is written to. Two saves of one model are the same bytes.
     */
    save(path: FilePath, options?: SaveOptions): Promise<void>;
    /** The bytes of the checkpoint that {@link SequenceModel.save} would write. */
    toBytes(options?: SaveOptions): Promise<Uint8Array>;
    /**
     * Loads a model that the official PyTorch S4 code trained, by its `train.py` (with the names of version 4 or 3) or its
     * `example.py`: from a `.pt` or `.ckpt` file (a zip archive of `torch.save`, of which no code is run), or safetensors.
     * Layers, norms, encoder, decoder and pooling are mapped; C is solved in float64 where the file holds C̃; {@link notes}
     * says what had to be assumed. `ERR_S4_CHECKPOINT` names the key or the option that has no counterpart here, and why a
     * file cannot be read: pickles of before PyTorch 1.6, whole modules instead of state dicts, anything that would run code.
     * The default number format is `'f32'`; the state of an official optimiser is not loaded.
     *
     * @example
     * const model = await SequenceModel.fromOfficial('epoch=9.ckpt')
     * console.log(model.config, model.notes)
     */
    static fromOfficial(path: FilePath, options?: FromOfficialOptions): Promise<SequenceModel>;
    /** A sentence on each thing that {@link SequenceModel.fromOfficial} had to assume. Empty for any other model. */
    get notes(): readonly string[];
    /**
     * The parameters as an official state dict, in the bytes of a safetensors file: with the names, shapes and types of the
     * file `original` that {@link SequenceModel.fromOfficial} loaded. A tensor that has not changed since is the same bit for
     * bit; a C that has changed is written as C, with `l_kernel` 0, where the file held C̃.
     */
    toOfficial(original: FilePath, options?: ToOfficialOptions): Promise<Uint8Array>;
    /**
     * Computes the outputs for whole sequences, (batch, len, output), or (batch, output) with pooling, without holding up the
     * event loop.
     */
    predict(x: TensorLike, options?: PredictOptions & {
        signal?: AbortSignal;
    }): Promise<Tensor>;
    /** As {@link SequenceModel.predict}, but synchronous: for calls that take little time. */
    predictSync(x: TensorLike, options?: PredictOptions): Tensor;
    /**
     * What the model has learned, in figures and in words: of each layer its timescales in steps and seconds, how far back its kernels
     * reach, eigenvalues and frequency response, what does nothing, and whether its step sizes Δ fit the length of the data; with `data`
     * also which inputs an output depends on. Computed in float64; the parameters and gradients stay as they are.
     *
     * @example
     * const { advice, layers, text } = await model.inspect({ data: batch, samplingInterval: 1 / 360 })
     */
    inspect(options?: InspectionOptions): Promise<Inspection>;
    /**
     * Continues a prompt, or each of several of any lengths: yields a step with the next token of each, as they come off the event
     * loop. For models whose outputs are the logits of their own input: an embedding, as many outputs as tokens, `loss`
     * crossEntropy, no pooling; or with the option `inputs` other encoders. `ERR_S4_UNSUPPORTED` for others, and for two-sided
     * layers. The prompt is taken as a whole sequence is, and then each token by the recurrence, so that neither time nor memory of
     * a token depends on how many were before it.
     *
     * @example
     * for await (const { tokens: [token] } of model.generate([1, 2, 3], { maxTokens: 100, temperature: 0.8, topP: 0.95, seed: 1 })) …
     */
    generate(prompt: TokenSequences, options?: GenerateOptions): AsyncGenerator<GeneratedStep, void, void>;
    /**
     * The logarithm of the probability of each token but the first of a sequence, given those before it: an array for each sequence,
     * whose element i is that of token i + 1. For the models of {@link SequenceModel.generate}.
     */
    score(tokens: TokenSequences, options?: TokenOptions): Promise<Float64Array[]>;
    /**
     * The first `len` values of the convolution kernel K̄ of a block, (channels, features, len). Two-sided blocks have
     * 2·channels, the causal ones first.
     */
    kernel(block: number, len: number, options?: {
        rate?: number;
    }): Tensor;
    /**
     * Trains the model, and yields an event after every update and after every epoch. Leaving the loop over the events with
     * `break` ends training after the update under way; an AbortSignal ends it within one update, with `ERR_S4_ABORTED`.
     * Where a loss or a gradient is not finite, `ERR_S4_NONFINITE` names update and tensor, and the parameters stay as they
     * were before that update.
     */
    train(dataset: Dataset | DatasetOfPass, options?: TrainOptions): AsyncGenerator<TrainEvent, void, void>;
    /** Runs {@link SequenceModel.train} to its end; gives the events of the epochs. */
    fit(dataset: Dataset | DatasetOfPass, options?: TrainOptions & {
        onEvent?: (event: TrainEvent) => void;
    }): Promise<TrainEvent[]>;
    /**
     * Computes the gradients of a batch without an update, for loops of your own. Batches since the last update are joined:
     * loss and gradients are those of the mean by weight over the targets of all of them. Each batch has dropout masks and
     * batch statistics of its own. A signal that fires before the computation has begun leaves the batch out
     * (`ERR_S4_ABORTED`); one that fires later lets it end, and the batch is part of the update.
     */
    accumulate(batch: Batch, options?: {
        signal?: AbortSignal;
    }): Promise<void>;
    /**
     * Makes one update from all batches that {@link SequenceModel.accumulate} was given since the last. Options given here
     * hold for later updates too, unless this one fails: then the options are those before. Where no target counts there is no
     * update, and `loss` is NaN.
     */
    update(options?: AdamWOptions): Promise<{
        step: number;
        loss: number;
        gradNorm: number;
    }>;
    /** Exchanges the parameters with their running average (training with `ema`); a second call exchanges them back. */
    swapAverage(): void;
    /**
     * Mean loss and metrics over a dataset: with cross-entropy accuracy, perplexity, bits a dimension, confusion and F1, else mean squared and
     * absolute errors, of distributions also their CRPS. Changes nothing.
     */
    evaluate(dataset: Dataset, options?: EvaluateOptions): Promise<Metrics>;
    /** The model as a recurrent network, which is given inputs piece by piece. It starts from zero states. */
    stream(options?: {
        batch?: number;
        rate?: number;
    } & StreamTimeOptions): ModelStream;
    /**
     * Many live streams of the model, which come and go and are computed together. See {@link ModelStreams}.
     */
    streams(options: StreamsOptions): ModelStreams;
}

/** The option of everything that computes or reads off the event loop. */
interface AbortOptions {
    /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
    signal?: AbortSignal;
}

/** The measure of a HiPPO matrix: how the state weighs the past of its input. */
type HippoKind = (typeof choices.measure)[number];
/** The HiPPO matrices of a measure in float64: the state follows x′ = A x + B u, and A + P Pᵀ is normal. */
interface HippoMatrices {
    /** The matrix A, (N, N). */
    a: Tensor;
    /** The vector B, (N). */
    b: Tensor;
    /** The low-rank part P, (rank, N). */
    p: Tensor;
}
/**
 * The diagonalised form A = V (diag(Λ) − P P*) V* in float64. Of each conjugate pair one is given; complex numbers are a
 * last size of 2, (re, im).
 */
interface NplrForm {
    /** Diagonal Λ, (N/2, 2). */
    lambda: Tensor;
    /** P in the eigenvectors' coordinates, V* P, (rank, N/2, 2). */
    p: Tensor;
    /** B in the eigenvectors' coordinates, V* B, with its imaginary part clipped to ±2 as in the official code, (N/2, 2). */
    b: Tensor;
    /** V* B without clipping, (N/2, 2). */
    bUnclipped: Tensor;
}
/** Options of {@link fftConv}. */
interface FftConvOptions {
    /** Whether the kernel has taps for later inputs too, so that the convolution is not causal. Default false. */
    twoSided?: boolean;
}
/** HiPPO matrices of a measure (paper eq. 2, Theorem 1). */
declare function hippo(kind: HippoKind, n: number): HippoMatrices;
/** As {@link hippo}, without holding up the event loop. */
declare function hippoAsync(kind: HippoKind, n: number, options?: AbortOptions): Promise<HippoMatrices>;
/** The normal plus low-rank form of a measure's matrices, diagonalised (paper Theorem 1). */
declare function nplr(kind: HippoKind, n: number): NplrForm;
/** As {@link nplr}, without holding up the event loop. */
declare function nplrAsync(kind: HippoKind, n: number, options?: AbortOptions): Promise<NplrForm>;
/**
 * Linear convolution of each feature by FFT, y = K∗u + D·u: u (batch, len, heads), kernel (channels, heads, kernelLen), d
 * (channels, heads) → (batch, len, channels·heads). With `twoSided` the kernel is (2·channels, heads, kernelLen), the
 * causal half k first, and y_t = Σ_j k_j u_{t−j} + Σ_j k′_j u_{t+1+j} + d·u_t.
 */
declare function fftConv(u: TensorLike, kernel: TensorLike, d?: TensorLike, options?: FftConvOptions): Tensor;
/** As {@link fftConv}, without holding up the event loop. */
declare function fftConvAsync(u: TensorLike, kernel: TensorLike, d?: TensorLike, options?: FftConvOptions & AbortOptions): Promise<Tensor>;

/** A tensor that was read from a safetensors file. A scalar has the shape []. */
interface FileTensor {
    /**
     * The elements, the last size running fastest, in an array that holds each of them exactly: F16, BF16 and F32 in a
     * Float32Array; F64 in a Float64Array; BOOL and integers that fit 32 bits in an Int32Array; U32, and 64-bit integers up
     * to 2^53, in a Float64Array.
     */
    readonly data: Float32Array | Float64Array | Int32Array;
    /** Sizes, outermost first. */
    readonly shape: readonly number[];
}
/** What a safetensors file holds. */
interface SafetensorsFile {
    /**
     * The tensors by name. Some cannot be read: those of types such as `F8_E4M3` and `C64`, and integers beyond 2^53. They
     * are not listed, and to ask for one by its name throws `ERR_S4_DTYPE`.
     */
    tensors: Record<string, FileTensor>;
    /** The texts of the file's metadata, by name. */
    metadata: Record<string, string>;
}
/** Reads the tensors and the metadata of a safetensors file. `ERR_S4_CHECKPOINT` where it is damaged or of another kind. */
declare function readSafetensors(path: FilePath): SafetensorsFile;
/** As {@link readSafetensors}, without holding up the event loop. */
declare function readSafetensorsAsync(path: FilePath, options?: AbortOptions): Promise<SafetensorsFile>;
/**
 * Writes a safetensors file: to a temporary file, which is then renamed, so that a reader finds the old file or the new
 * one. The permissions of a file that it replaces are kept, and a symbolic link stays: the file that it leads to is
 * replaced. Typed arrays are written as their own type, other arrays of numbers as F32.
 */
declare function writeSafetensors(path: FilePath, tensors: Record<string, TensorLike | FileTensor>, metadata?: Record<string, string>): void;
/** As {@link writeSafetensors}, without holding up the event loop; what is written is as it was at the call. */
declare function writeSafetensorsAsync(path: FilePath, tensors: Record<string, TensorLike | FileTensor>, metadata?: Record<string, string>): Promise<void>;
/** Options of {@link readCsv}: which column, and what a field without a value becomes. */
interface CsvOptions {
    /** The column: a string is its name in the header, a number its place from 0. Default the last. */
    column?: string | number;
    /**
     * What a field without a value is: an error (`'error'`, default), or the value on the line between those before and after
     * (`'linear'`).
     */
    gaps?: (typeof choices.gaps)[number];
    /**
     * Whether the first line holds names. `'auto'` (default) finds it out: names above numbers are a header, and so is any first line
     * where `column` is a name; a first line with names and numbers of its own is `ERR_S4_DATA`, as it may be either.
     */
    header?: boolean | 'auto';
}
/**
 * Reads one column of a CSV file as numbers. `ERR_S4_DATA`, with the line, where a field is no number or a line has another
 * number of fields.
 */
declare function readCsv(path: FilePath, options?: CsvOptions): Float64Array;
/** As {@link readCsv}, without holding up the event loop. */
declare function readCsvAsync(path: FilePath, options?: CsvOptions & AbortOptions): Promise<Float64Array>;

/** How many examples, and from which seed. */
interface GeneratorOptions {
    /** How many. Of ListOps at most a million, of pictures as many as JavaScript has memory for in one array. */
    count: number;
    /** What is made depends on it and on nothing else: neither on the number of cores nor on `count`. Default 0. */
    seed?: number;
    /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
    signal?: AbortSignal;
}
/** {@link GeneratorOptions} of pictures. */
interface PictureOptions extends GeneratorOptions {
    /** Number of the first picture: a large set can be made in pieces. Default 0. */
    first?: number;
}
/** Expressions as tokens, one row after the other, with their values. */
interface ListOpsExamples {
    /** All rows joined: places in `words`. */
    tokens: Uint8Array;
    /** (count + 1): row i is `tokens.subarray(offsets[i], offsets[i + 1])`. */
    offsets: Int32Array;
    /** (count): the value of each expression, 0 to 9. */
    labels: Uint8Array;
    /** What the tokens say; place 0 is left to padding. */
    words: readonly string[];
}
/** Grey pictures with a label each. */
interface PathfinderExamples {
    /** (count, side, side): 0 is black, 255 the brightest pixel of its picture. */
    pixels: Uint8Array;
    /** (count): 1 where one path joins the two markers, else 0. */
    labels: Uint8Array;
    /** Pixels of a row. */
    side: number;
}
/**
 * Data of the Long Range Arena's tasks, made from a seed on all cores while JavaScript goes on; `ERR_S4_VALUE` for options that make
 * none.
 */
declare const generators: {
    /**
     * ListOps: nested operations on digits. A node is a digit with probability 3/4 and an operator (minimum, maximum, median, sum modulo
     * 10) of 2 to 10 arguments otherwise, ten levels at most; distinct trees of 501 to 1,999 tokens are kept.
     */
    readonly listops: (options: GeneratorOptions) => Promise<ListOpsExamples>;
    /** Pathfinder, 32 × 32: two paths among short ones and two markers. */
    readonly pathfinder: (options: PictureOptions) => Promise<PathfinderExamples>;
    /** Path-X, 128 × 128: the same in pictures of 16,384 pixels. */
    readonly pathx: (options: PictureOptions) => Promise<PathfinderExamples>;
};

/** Pictures of one size. */
interface Pictures {
    /** (count, height, width, channels). */
    pixels: Uint8Array;
    /** Number of pictures. */
    count: number;
    /** Rows of pixels. */
    height: number;
    /** Pixels of a row. */
    width: number;
    /** Bytes of a pixel. */
    channels: number;
}
/** What a pixel is to be. */
interface PictureFileOptions {
    /** One byte of luminance, three of colour, or as many as the first file has. Default `'asStored'`. */
    colours?: (typeof choices.colours)[number];
    /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
    signal?: AbortSignal;
}
/**
 * Pictures of PNG and JPEG files, in the order given, read on all cores while JavaScript goes on. A file that is no picture, or one of
 * another size than the first, is `ERR_S4_DATA` with its path.
 */
declare function readPictures(paths: readonly FilePath[], options?: PictureFileOptions): Promise<Pictures>;

/** A device that this process can compute on. */
interface Device {
    /** Name of the device: `'cpu'` or `'cuda:0'`. */
    id: string;
    /** Kind of the device. */
    kind: 'cpu' | 'cuda';
    /** Of a CPU: number of cores. */
    threads?: number;
    /** Of a CPU: the vector instructions that are used. */
    simd?: 'portable' | 'avx2' | 'avx512';
    /** Of a GPU: its name. */
    name?: string;
    /** Of a GPU: bytes of memory. */
    memory?: number;
    /** Of a GPU: compute capability, such as `'9.0'`. */
    capability?: string;
    /** Of a GPU: CUDA version of the driver. */
    driver?: string;
}
/** What this package can compute on, on this machine. */
interface Diagnosis {
    /** Version of this package. */
    version: string;
    /** Operating system. */
    platform: string;
    /** Architecture of the processor. */
    arch: string;
    /** Number formats that models may have. */
    dtypes: string[];
    /** The devices to compute on, the CPU first. */
    devices: Device[];
    /** A sentence on the state of CUDA: what was found, or why no GPU can be used. */
    cuda: string;
    /** GPU architectures that this build has kernels for. */
    kernels: string[];
}
/**
 * Describes what this package can compute on, on this machine, and why no GPU can be used where that is so. It does not
 * throw for want of a GPU.
 */
declare function diagnose(): Diagnosis;
/** The devices to compute on. */
declare function devices(): Device[];

export { AdamW, LiveStream, ModelStream, ModelStreams, ProcessGroup, S4Block, S4Error, S4Layer, SequenceModel, choices, devices, diagnose, fftConv, fftConvAsync, generators, hippo, hippoAsync, joinGroup, nplr, nplrAsync, readCsv, readCsvAsync, readPictures, readSafetensors, readSafetensorsAsync, schedules, windows, writeSafetensors, writeSafetensorsAsync };
export type { AbortOptions, Activation, AdamWOptions, AdviceKind, AlgorithmOptions, BackwardResult, Batch, BlockConfig, BlockOptions, Counters, CsvOptions, Dataset, DatasetOfPass, DatasetPass, Device, DeviceOptions, Diagnosis, Dtype, Durations, EvaluateOptions, F1Scores, FftConvOptions, FilePath, FileTensor, Floats, ForwardOptions, ForwardResult, FromOfficialOptions, GenerateOptions, GeneratedStep, GeneratorOptions, HippoKind, HippoMatrices, InspectedLayer, Inspection, InspectionAdvice, InspectionOptions, Integers, JoinOptions, LayerConfig, LayerOptions, ListOpsExamples, LoadOptions, LoopOptions, Metrics, ModelConfig, ModelOptions, NplrForm, OfficialConfig, OfficialModelConfig, OwnParameter, Parameter, ParameterGroup, ParameterTransform, PathfinderExamples, PictureFileOptions, PictureOptions, Pictures, PredictOptions, Progress, PushOptions, S4BlockOptions, S4ErrorCode, S4ErrorDetail, S4LayerOptions, SafetensorsFile, Sample, SampleFormat, SampleTransformOptions, SamplingOptions, SaveOptions, Schedule, Scores, SequenceModelOptions, Shape, SsmAlgorithm, StepResult, StreamTimeOptions, StreamedTensor, StreamsOptions, Tensor, TensorLike, TimedFrame, TimedOutputs, ToOfficialOptions, TokenOptions, TokenSequences, TrainEvent, TrainOptions, WindowOptions };
