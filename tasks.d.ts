/**
 * Tasks on top of s4-node: forecasts, classifications and generation, from data to figures, with good results by default.
 */
/** A path as Node's own functions take one: text, a `file:` URL, or its bytes. */
type FilePath = string | URL | Uint8Array;

/** Sizes, outermost first. */
type Shape = readonly number[];
/** Number format of a layer, block or model. `f64` is computed on the CPU only. */
type Dtype = 'f32' | 'f64';
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

/** What may be wrong with a layer. */
type AdviceKind = 'stepTooLarge' | 'stepTooSmall' | 'unstable' | 'idleLayer' | 'idleHeads';

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

/** F1 scores. */
interface F1Scores {
    /** 2·TP/(2·TP + FP + FN) of each class; 0 where it is neither there nor predicted. */
    perClass: number[];
    /** Mean over the classes. */
    macro: number;
    /** Mean by the number of examples of each class, or by their weights. */
    weighted: number;
}

/** Columns of equal length by name, one row a time step. NaN stands for a missing value. */
type Columns = Record<string, ArrayLike<number>>;
/** What has such columns, as a table of `s4-node/data`. */
interface ColumnHolder {
    /** The columns by name. */
    readonly columns: Readonly<Columns>;
    /** The time of each row, in milliseconds since 1970. Where times are uneven, a forecaster takes the intervals between them. */
    readonly time?: ArrayLike<number> | undefined;
}
/** One series, or several that were recorded apart, with the same columns. */
type SeriesData = Columns | ColumnHolder | readonly (Columns | ColumnHolder)[];

/** What a forecaster predicts: means, normal distributions, or quantiles. */
type Predicted = 'mean' | 'gaussian' | 'quantiles';

/** One forecast of the validation part beside what came: the same window after every epoch. Of the first four targets, in their units. */
interface EpochForecast {
    /** Number of the series. */
    series: number;
    /** First row that is forecast; where the model takes intervals its steps are usual intervals after the row before. */
    row: number;
    /** The rows before, twice as many as steps where there are so many, by column. */
    past: Record<string, number[]>;
    /** What came, by column. */
    actual: Record<string, number[]>;
    /** The forecast, or the middle of its quantiles, by column. */
    mean: Record<string, number[]>;
}
/** Which classes of the validation part are taken for which. */
interface EpochConfusion {
    /** The classes, in the order of the counts. */
    classes: readonly (string | number)[];
    /** Numbers of examples: row the actual class, column the predicted one; over all sampling rates that are validated. */
    counts: number[][];
}
/** Figures of a validation. */
interface EpochFigures {
    /** Mean squared error in deviations of the training part, of a forecaster. */
    mse?: number;
    /** Part of the validation examples with the right class, of a classifier. */
    accuracy?: number;
    /** F1 over the same examples, mean over the classes, of a classifier. */
    f1?: number;
    /** Mean loss over the validation part, of a classifier. */
    validationLoss?: number;
    /** One of its forecasts, of a forecaster. */
    forecast?: EpochForecast;
    /** Its confusions, of a classifier. */
    confusion?: EpochConfusion;
}
/** The sizes and rates that a task has chosen, before it trains. */
interface PlanEvent {
    /** The kind of the event. */
    type: 'plan';
    /** Each option that was chosen, or given, with its value. */
    options: Readonly<Record<string, number | string | boolean>>;
    /** The same in a sentence, with what it was chosen by. */
    text: string;
}
/** An update was made. */
interface StepEvent {
    /** The kind of the event. */
    type: 'step';
    /** Number of the epoch, from 1. */
    epoch: number;
    /** Number of updates so far. */
    step: number;
    /** Number of updates that are planned. */
    of: number;
    /** Loss before the update. */
    loss: number;
}
/** An epoch has ended and was validated. */
interface EpochEvent extends EpochFigures {
    /** The kind of the event. */
    type: 'epoch';
    /** Number of the epoch, from 1. */
    epoch: number;
    /** Number of epochs that are planned. */
    epochs: number;
    /** Mean loss of its updates. */
    loss: number;
    /** Whether validation was better than ever, so that these parameters are kept. */
    best: boolean;
    /** Seconds of training so far, those before a resume included. */
    seconds: number;
}
/** Training has ended; the best parameters are in place. */
interface EndEvent {
    /** The kind of the event. */
    type: 'end';
    /** Whether all epochs were made, validation got no better, the time was over, or `stop` fired. */
    reason: 'epochs' | 'patience' | 'time' | 'stop';
    /** Number of epochs that were made. */
    epoch: number;
    /** The epoch whose parameters were kept. */
    bestEpoch: number;
    /** Seconds of training. */
    seconds: number;
}
/** What a task tells while it trains. */
type TaskEvent = PlanEvent | StepEvent | EpochEvent | EndEvent;
/** Options of training that tasks have in common. What is left out is chosen by the data's length, width and number. */
interface TaskTrainOptions extends Pick<DeviceOptions, 'device' | 'threads' | 'precision'> {
    /** Features of the network. */
    features?: number;
    /** Number of its blocks. */
    layers?: number;
    /** N, the size of the state of each feature. */
    state?: number;
    /** Structure of A. Default `'s4d'`. */
    mode?: 's4' | 's4d';
    /** Probability of dropout. */
    dropout?: number;
    /** Most epochs. */
    epochs?: number;
    /** Epochs without a better validation after which training ends. */
    patience?: number;
    /** Most seconds of training; the learning rate comes to its end with them. Default no limit. */
    maxSeconds?: number;
    /** Sequences in a batch. */
    batchSize?: number;
    /** Learning rate. */
    lr?: number;
    /** Learning rate of Δ, A, B and P. */
    ssmLr?: number;
    /** Decoupled weight decay. */
    weightDecay?: number;
    /** Seed of initial values, order, variations and dropout. Default 0. */
    seed?: number;
    /** A folder in which every epoch writes `last.safetensors` and, where it is the best so far, `best.safetensors`. */
    folder?: FilePath;
    /** Whether to go on with the run in `folder`, if there is one, with the same data and options. Default false. */
    resume?: boolean;
    /** Ends training, within one update, when it fires: the call is refused with `ERR_S4_ABORTED`. */
    signal?: AbortSignal;
    /**
     * Ends training, within one update, when it fires, as if it had come to its end: the best parameters so far are kept. In the first
     * epoch these are the present ones.
     */
    stop?: AbortSignal;
    /**
     * The ranks that train together, of {@link joinGroup}: every rank gives the same data and options, of whose batches it takes every
     * worldSize-th; `batchSize` is that of a rank. Rank 0 alone reads and writes `folder`, and its clock and its `stop`, which is heard at
     * the end of an epoch, count. Each rank validates on all of its validation part.
     */
    distributed?: ProcessGroup;
    /** Is called with every event. */
    onEvent?: (event: TaskEvent) => void;
}

/** How the rows of each series are divided in time: shares of 1, or numbers of rows, of which what is beyond is not used. */
interface SeriesSplit {
    /** The part that is learned from, at the start. */
    train: number;
    /** The part after it, that chooses the best epoch and calibrates. */
    validation: number;
    /** The last part, for the scores. 0 for none. */
    test: number;
}
/** Options of {@link Forecaster.fit}. */
interface ForecastOptions extends TaskTrainOptions {
    /** Number of time steps to forecast. */
    horizon: number;
    /** Names of the columns to forecast. Default all but those of `known`. */
    targets?: readonly string[];
    /** Names of covariates that are known ahead: a calendar, a plan, a weather forecast. Default none. */
    known?: readonly string[];
    /** Number of last values that a forecast is normalised by, and that its linear part sees. */
    lookBack?: number;
    /** Rows of a season, for the seasonal naive forecast and MASE. Default the one that the training part shows; 1 is none. */
    season?: number;
    /**
     * What is predicted: the mean with one deviation for each step (`'mean'`, default), a normal distribution
     * (`'gaussian'`), or `'quantiles'`.
     */
    predict?: Predicted;
    /** Levels of the quantiles: up to 9 from 1e-6 to 1 − 1e-6, ascending. Default 0.1, 0.5, 0.9. */
    levels?: readonly number[];
    /** How the rows are divided. Default 0.7, 0.1 and 0.2. */
    split?: SeriesSplit;
    /**
     * Whether the model takes the time between rows, from the `time` of each table: the usual interval of the training part, its median,
     * counts as 1, and steps ahead are usual intervals. `'auto'` (default): where tables have times of which one interval is further than
     * a tenth from the usual one. `true` needs times; `false` takes rows as evenly spaced, whatever their times.
     */
    intervals?: boolean | 'auto';
}

/** Figures of one way to forecast. */
interface ForecastFigures {
    /** Mean squared error, in deviations of the training part. */
    mse: number;
    /** Mean absolute error, in deviations of the training part. */
    mae: number;
    /** Mean over the targets of their absolute error over that of the forecast "as a season before" in the training part. */
    mase: number;
    /** Symmetric mean absolute percentage error in the unit of the data, 0 to 2: the mean of 2|a − p|/(|a| + |p|). */
    smape: number;
    /** Continuous ranked probability score, in deviations of the training part; of quantiles twice their mean pinball loss. */
    crps?: number;
    /** Mean squared error of each step ahead. */
    byStep: number[];
}
/** The figures of a forecaster and of what it is to be compared with, over the same windows. */
interface ForecastScores {
    /** Number of windows: a forecast of all targets and steps each. */
    windows: number;
    /** The forecaster. */
    model: ForecastFigures;
    /** The last value, for all steps. */
    persistence: ForecastFigures;
    /** The value a season before. */
    seasonalNaive: ForecastFigures;
    /** A linear model of the last values, fitted to the training part by least squares with a penalty. */
    linear: ForecastFigures;
}

/** What a stream says of a row. */
interface StreamRow {
    /** Number of the row, from 0. */
    row: number;
    /** Its time, of a forecaster that takes intervals. */
    time?: number;
    /** What was expected of each target, by the forecast made one row before; NaN until there is one. */
    expected: Record<string, number>;
    /** The standard deviation of that forecast. */
    sigma: Record<string, number>;
    /** How far the last rows are beyond what counts as normal: above 1 is a mark. */
    strength: number;
    /** Whether it is marked: as a surprise, or as flat, a series that is quieter than it ever was. */
    mark?: 'surprise' | 'flat';
}
/** What a push is told beside the values. */
interface StreamRowOptions {
    /**
     * The time of the row in milliseconds since 1970, later than that of the row before: of a forecaster that takes intervals, which needs
     * it, alone.
     */
    time?: number;
}
/** A forecaster that follows a series row by row, see {@link Forecaster.stream}. */
declare class ForecastStream {
    #private;
    private constructor();
    /** Number of rows so far. */
    get position(): number;
    /**
     * The next row: the value of each target, NaN where it is missing, and of each covariate that is known ahead the value
     * `horizon` rows (or usual intervals) later. Of a forecaster that takes intervals each row has a `time`, for which it is expected. A row
     * that is refused leaves the stream as it was.
     */
    push(row: Record<string, number>, options?: StreamRowOptions): StreamRow;
    /** Frees the network's state. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** The forecast of one column, in its unit, one number for each step ahead. */
interface ColumnForecast {
    /** Means; of quantiles the values of the level nearest to 0.5. */
    mean: Float64Array;
    /** Standard deviations; not of quantiles. */
    sigma?: Float64Array;
    /** The values of each level, by the level as text: `'0.1'`. */
    quantiles?: Record<string, Float64Array>;
}
/** A forecast of all targets, by column. */
type Forecast = Record<string, ColumnForecast>;
/** Which rows an evaluation forecasts. */
interface ForecastRange {
    /** First row that is forecast. Default 0; the look-back must come before it. */
    from?: number;
    /** End of the rows that are forecast. Default all. */
    to?: number;
    /** Rows between two forecasts. Default 1, or what keeps the number of windows in bounds. */
    stride?: number;
    /** Ends it when it fires. */
    signal?: AbortSignal;
}
/** One forecast of a backtest beside what came. */
interface BacktestForecast {
    /** Number of the series. */
    series: number;
    /** First row that is forecast. */
    row: number;
    /** The forecast. */
    forecast: Forecast;
    /** What came, by column; where the model takes intervals, on the line between the rows, and NaN where that is unknown. */
    actual: Record<string, Float64Array>;
    /** Where the model takes intervals: the time of each step, in milliseconds since 1970. */
    time?: Float64Array;
}
/** Options of {@link Forecaster.forecast}. */
interface ForecastCall {
    /** The covariates that have to be known ahead, for the steps ahead. */
    known?: Columns;
    /**
     * Times to forecast, in milliseconds since 1970, ascending, from after the last row to `horizon` usual intervals after it, in the
     * place of the steps: of a forecaster that takes intervals alone. Default 1, 2, … usual intervals after the last row.
     */
    at?: ArrayLike<number>;
    /** Ends it when it fires. */
    signal?: AbortSignal;
}
/** A {@link Forecaster.backtest}. */
interface Backtest {
    /** Figures over all its windows, beside persistence, seasonal naive and a linear model. */
    scores: ForecastScores;
    /** Its forecasts, in the order of time. */
    forecasts: BacktestForecast[];
}
/**
 * Forecasts of one or several series. At each time step the last `lookBack` values are taken relative to their own deviation; a
 * linear forecast, fitted in closed form, and an S4 network, which learned what the linear one leaves, make the forecast
 * together.
 *
 * @example
 * const f = await Forecaster.fit({ load, temperature }, { horizon: 24, targets: ['load'] })
 * console.log(f.scores.model.mase, f.forecast({ load: lastWeek, temperature: measured }))
 */
declare class Forecaster {
    #private;
    /** Figures over the test part, as {@link Forecaster.fit} found them; undefined of a loaded one, or without a test part. */
    readonly scores: ForecastScores | undefined;
    private constructor();
    /**
     * Learns from columns of numbers, NaN where a value is missing: a table, one record, or several of the same columns that were
     * recorded apart. The first rows of each are learned from, those after them choose the best epoch, the last are for the scores.
     * Sizes and rates that are not given are chosen by the data, and told in an event `plan`. `ERR_S4_DATA` where the rows are
     * too few, before any work.
     */
    static fit(data: SeriesData, options: ForecastOptions): Promise<Forecaster>;
    /** Loads what {@link Forecaster.save} wrote. */
    static load(path: FilePath, options?: Pick<DeviceOptions, 'device' | 'threads' | 'precision'>): Promise<Forecaster>;
    /** Number of time steps that are forecast. */
    get horizon(): number;
    /** Number of rows that a forecast needs before it. */
    get lookBack(): number;
    /** Rows of a season, as given or found; 1 is none. */
    get season(): number;
    /** Names of the columns that are forecast. */
    get targets(): readonly string[];
    /** Names of the covariates that have to be known ahead. */
    get known(): readonly string[];
    /**
     * The usual interval in milliseconds, which counts as 1, of a forecaster that takes the intervals between rows: its data need
     * times. Undefined of one that takes rows as evenly spaced.
     */
    get interval(): number | undefined;
    /** Writes network, scales, column names and everything else to one file (safetensors). */
    save(path: FilePath): Promise<void>;
    /** The figures of forecasts of every row, beside persistence, seasonal naive and the linear model. */
    evaluate(data: SeriesData, options?: ForecastRange): Promise<ForecastScores>;
    /**
     * Forecasts made at one row after another, `stride` rows apart (default the horizon), each from what came before it alone,
     * with figures beside persistence, seasonal naive and the linear model.
     */
    backtest(data: SeriesData, options?: ForecastRange): Promise<Backtest>;
    /**
     * What comes after the last row of `data`, which needs {@link Forecaster.lookBack} rows. Covariates that have to be known ahead
     * are given in `known` for the steps ahead, beside their past in `data`. Of a forecaster that takes intervals a step is a usual
     * interval, unless `at` names times.
     */
    forecast(data: Columns | ColumnHolder, options?: ForecastCall): Promise<Forecast>;
    /**
     * What the network has learned, as {@link SequenceModel.inspect} says it, and on which of the last rows of `data` (at most three
     * look-backs, as many as it learned from at a time) its outputs of the last row depend. The seconds of a step are those between
     * rows where `data` have times, unless `samplingInterval` says them.
     */
    inspect(data: Columns | ColumnHolder, options?: {
        samplingInterval?: number;
        signal?: AbortSignal;
    }): Promise<Inspection>;
    /**
     * Follows a series row by row, in memory that does not grow: what was expected of each row, and whether it is improbable.
     * Where covariates have to be known ahead, `known` holds those of the first `horizon` rows.
     */
    stream(options?: {
        known?: Columns;
    }): ForecastStream;
    /** Frees the network. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** Mean squared error. */
declare function mse(actual: ArrayLike<number>, predicted: ArrayLike<number>): number;
/** Mean absolute error. */
declare function mae(actual: ArrayLike<number>, predicted: ArrayLike<number>): number;
/**
 * Mean absolute error over that which the forecast "as a season before" makes, one step ahead, in `history` (Hyndman and
 * Koehler 2006). Below 1 it is the better one.
 */
declare function mase(actual: ArrayLike<number>, predicted: ArrayLike<number>, history: ArrayLike<number>, season?: number): number;
/**
 * Symmetric mean absolute percentage error in its form from 0 to 2 (times 100: that of the M4 competition, 0 to 200 %): the
 * mean of 2|a − p|/(|a| + |p|), in which a pair of zeros counts 0.
 */
declare function smape(actual: ArrayLike<number>, predicted: ArrayLike<number>): number;
/** Mean pinball loss of predicted quantiles of one level: level·(a − p) where a lies above, (1 − level)·(p − a) where below. */
declare function pinball(actual: ArrayLike<number>, predicted: ArrayLike<number>, level: number): number;
/** Mean continuous ranked probability score of normal distributions, in its closed form (Gneiting and Raftery 2007). */
declare function crps(actual: ArrayLike<number>, mean: ArrayLike<number>, sigma: ArrayLike<number>): number;
/**
 * Mean quantile loss over several levels, twice the mean of their pinball losses: an approximation of the CRPS that is close
 * where the levels are evenly spread. `predicted` holds an array for each level.
 */
declare function quantileLoss(actual: ArrayLike<number>, predicted: readonly ArrayLike<number>[], levels: readonly number[]): number;
/** Part of the labels that were predicted right. */
declare function accuracy(actual: ArrayLike<number>, predicted: ArrayLike<number>): number;
/**
 * Part of the labels that are among the `k` classes with the highest scores. `scores` holds as many numbers an example as
 * there are classes; of equal scores the lower class comes first.
 */
declare function topK(actual: ArrayLike<number>, scores: ArrayLike<number>, k: number): number;
/** Numbers of examples by class, row the actual one, column the predicted one. */
declare function confusion(actual: ArrayLike<number>, predicted: ArrayLike<number>, classes: number): number[][];
/** F1 scores of a {@link confusion} matrix, of counts or of weights. */
declare function f1(counts: readonly (readonly number[])[]): F1Scores;
/** Figures of forecasts and classifications, as pure functions of arrays. */
declare const metrics: {
    /** Mean squared error. */
    mse: typeof mse;
    /** Mean absolute error. */
    mae: typeof mae;
    /** Mean absolute scaled error. */
    mase: typeof mase;
    /** Symmetric mean absolute percentage error, 0 to 2. */
    smape: typeof smape;
    /** Mean pinball loss of one level. */
    pinball: typeof pinball;
    /** Mean CRPS of normal distributions. */
    crps: typeof crps;
    /** Twice the mean pinball loss over levels. */
    quantileLoss: typeof quantileLoss;
    /** Part of the labels that were predicted right. */
    accuracy: typeof accuracy;
    /** Part of the labels among the k highest scores. */
    topK: typeof topK;
    /** Numbers of examples by actual and predicted class. */
    confusion: typeof confusion;
    /** F1 scores of a confusion matrix. */
    f1: typeof f1;
};

/** Makes tokens of text, and text of tokens. Both must say the same every time. */
interface Tokenizer {
    /** The tokens of a text: whole numbers from 0. */
    encode: (text: string) => ArrayLike<number>;
    /** The text of tokens. Where they end within a character it may end in U+FFFD. */
    decode: (tokens: number[]) => string;
    /** Number of different tokens. Default one more than the largest of the text that is learned. */
    size?: number;
}
/** Tokens that a generator knows by itself, or a tokeniser. */
type TokenKind = 'bytes' | 'characters' | Tokenizer;

/** What is classified: samples one after the other, values (len, channels), a picture (height, width, colours), or a text. */
type ClassInput = ArrayLike<number> | TensorLike | string;
/** An example with its class. */
interface ClassExample {
    /** Samples, values (len, channels), a picture (height, width, colours), or a text. Lengths may differ. */
    input: ClassInput;
    /** Its class, as text or a number. */
    label: string | number;
    /** Samples a second, of sound. */
    sampleRate?: number;
    /** The file that it is of, for errors. */
    file?: string;
}
/** Examples: in an array or another iterable, or as they are read, such as `audioFolder`, `imageFolder` and `textFolder` of `s4-node/data` give them. */
type ClassExamples = readonly ClassExample[] | Iterable<ClassExample> | AsyncIterable<ClassExample>;
/** What inputs are: series of values, sound, pictures, or texts. */
type InputKind = 'series' | 'audio' | 'image' | 'text';
/** What a step of a picture is: a row of pixels, or a pixel. */
type PictureScan = 'rows' | 'pixels';

/** A file that has an input: a recording, a picture, or a text in UTF-8. */
interface InputFile {
    /** Its path. */
    file: FilePath;
}

/** Options of {@link Classifier.fit}. */
interface ClassifyOptions extends TaskTrainOptions {
    /**
     * What the inputs are: `'series'` of values (len, channels); `'audio'`, whose spectrum the network sees; `'image'`, which
     * it sees row by row, or pixel by pixel; `'text'`, token by token. Default text where inputs are, audio where `sampleRate` is given,
     * pictures where inputs have three sizes, else series.
     */
    kind?: InputKind;
    /** Samples a second of audio. Default what its examples say. */
    sampleRate?: number;
    /**
     * Ratios of sampling rates that are learned, from data with so many times fewer samples. Default 1, 1.5 and 2 for audio
     * (which cost it nothing), else 1.
     */
    rates?: readonly number[];
    /** Whether training varies speed and level of its examples, which are no text. Default for audio alone. */
    vary?: boolean;
    /**
     * What a step of a picture is: a row of it (default), which is quick, or a pixel, for which the network has to remember as far
     * back as there are pixels, and takes as many times longer.
     */
    scan?: PictureScan;
    /**
     * What a text is made of: bytes of UTF-8, the characters that more than one of the texts has (all others are one token), or a
     * tokeniser of your own, which is given again when the classifier is loaded. Default `'bytes'`.
     */
    tokens?: TokenKind;
    /** Most tokens of a text; those beyond them are left out. Default 4096. */
    maxLength?: number;
    /** Whether outputs at a step depend on later steps too. Default true. */
    bidirectional?: boolean;
    /** Part of the examples of each class that chooses the best epoch. Default 0.15. */
    validation?: number;
    /** ε of smoothed labels, from 0 to 1, see {@link ModelOptions.labelSmoothing}. Default 0. */
    labelSmoothing?: number;
    /**
     * What each class counts in the loss: `'balanced'` examples/(classes·examples of the class) in the part that is learned, as
     * scikit-learn has it, or a number for each class by its name. The best epoch is then that of the best F1 over all classes, in the
     * place of the accuracy. Default 1 for each.
     */
    classWeights?: 'balanced' | Readonly<Record<string, number>>;
}

/** Options of {@link Classifier.stream}. */
interface ClassStreamOptions {
    /** Samples (or time steps, or tokens of texts) that are classified at a time. Default as many as the examples of the training had. */
    window?: number;
    /** Samples between two classifications. Default a quarter of the window. */
    hop?: number;
    /** Windows in a row that a class has to win to be reported. Default 2. */
    debounce?: number;
    /** Least probability with which it has to win. Default 0.5. */
    threshold?: number;
    /** Ratio of sampling rates: 2 for half as many samples a second as the training had. Default 1. */
    rate?: number;
}
/** The class of a window of a stream. */
interface WindowClass {
    /** Number of samples (of texts tokens) so far, at the end of the window. */
    position: number;
    /** The most probable class. */
    label: string | number;
    /** Its probability. */
    probability: number;
    /** Whether it is reported with this window: it has won often enough, and is another class than the last report. */
    report: boolean;
}
/** A classifier that listens, see {@link Classifier.stream}. */
declare class ClassStream {
    #private;
    private constructor();
    /** Number of samples so far. */
    get position(): number;
    /**
     * The next samples, values (len, channels) or piece of text, any number of them; gives the class of each window that ended in them.
     * What is refused leaves the stream as it was.
     */
    push(samples: ClassInput): WindowClass[];
    /** Forgets everything. */
    reset(): void;
    /** Ends it. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** The class of an input. */
interface Classification {
    /** The most probable class. */
    label: string | number;
    /** Its probability. */
    probability: number;
    /** The probability of each class, in the order of {@link Classifier.classes}. */
    probabilities: Float64Array;
}
/** Figures of a classifier over examples. */
interface ClassScores {
    /** Number of examples. */
    examples: number;
    /** Part of the examples with the right class. */
    accuracy: number;
    /** Part of the examples whose class is among the three most probable (fewer where there are fewer classes). */
    top3: number;
    /** Part of the examples whose class is among the `topK` most probable, with the option `topK`. */
    topK?: number;
    /** exp of the mean cross-entropy. */
    perplexity: number;
    /** Mean cross-entropy, in nats. */
    loss: number;
    /** F1 scores. */
    f1: F1Scores;
    /** Numbers of examples by class: row the actual one, column the predicted one, in the order of {@link Classifier.classes}. */
    confusion: number[][];
}
/**
 * Tells classes of series, sounds, pictures or texts, of any length, apart.
 *
 * @example
 * const c = await Classifier.fit(recordings.map(({ samples, digit }) => ({ input: samples, label: digit })), { sampleRate: 8000 })
 * const [{ label }] = await c.predict([samples])
 */
declare class Classifier {
    #private;
    /** Accuracy over the validation part of {@link Classifier.fit}; undefined of a loaded one. */
    readonly validationAccuracy: number | undefined;
    private constructor();
    /**
     * Learns from examples. A part of each class chooses the best epoch. Sizes and rates that are not given are chosen by the
     * data, and told in an event `plan`.
     */
    static fit(examples: ClassExamples, options?: ClassifyOptions): Promise<Classifier>;
    /** Loads what {@link Classifier.save} wrote. A tokeniser is not in the file: it is given again as `tokens`. */
    static load(path: FilePath, options?: Pick<DeviceOptions, 'device' | 'threads' | 'precision'> & {
        tokens?: Tokenizer;
    }): Promise<Classifier>;
    /** The classes: numbers in ascending order, then texts. */
    get classes(): readonly (string | number)[];
    /** What its inputs are: series of values, sound, pictures, or texts. */
    get kind(): InputKind;
    /** Samples a second of the sound that it learned from; undefined of other inputs. */
    get sampleRate(): number | undefined;
    /** Sizes of the pictures that it learned from, (height, width, colours) or (height, width); undefined of other inputs. */
    get pictureSizes(): readonly number[] | undefined;
    /** Writes network, scales, tokens and class names to one file (safetensors). */
    save(path: FilePath): Promise<void>;
    /**
     * The classes of inputs. A string is the path of a recording or a picture, of a classifier of texts it is the text itself; `{ file }` is
     * a file of any of them. `rate` 2 says that they have half as many samples a second as those of the training: nothing is
     * learned again. Pictures and texts have no rate.
     */
    predict(inputs: readonly (ClassInput | InputFile)[] | string, options?: {
        rate?: number;
        signal?: AbortSignal;
    }): Promise<Classification[]>;
    /**
     * What the network has learned, as {@link SequenceModel.inspect} says it, and on which steps of inputs (as
     * {@link Classifier.predict} takes them) its answers depend. Steps are those that the network sees: of sound spectra, of pictures rows or
     * pixels, of texts tokens. With `rate` 2 those of series
     * have half as many samples a second, as in {@link Classifier.predict}: see {@link InspectionOptions.rate}.
     */
    inspect(inputs: readonly (ClassInput | InputFile)[] | string, options?: {
        rate?: number;
        samplingInterval?: number;
        signal?: AbortSignal;
    }): Promise<Inspection>;
    /** Figures over examples. A label that is no class of this classifier is `ERR_S4_DATA`. */
    evaluate(examples: ClassExamples, options?: {
        rate?: number;
        topK?: number;
        signal?: AbortSignal;
    }): Promise<ClassScores>;
    /**
     * Classifies what comes in piece by piece: every `hop` samples (of texts tokens) the last `window` of them. A class is reported when it has won
     * `debounce` times in a row with at least the probability `threshold`, and then not again before another one has.
     */
    stream(options?: ClassStreamOptions): ClassStream;
    /** Frees the network. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

/** Options of {@link Generator.fit}. */
interface GeneratorOptions extends TaskTrainOptions {
    /** What a text is made of: bytes of UTF-8, the characters that it has, or a tokeniser of your own. Default `'bytes'`. */
    tokens?: TokenKind;
    /** Tokens of one example of training. Default 256, or as many as the text allows. */
    window?: number;
    /** Part of the text, its end, that chooses the best epoch. Default 0.1. */
    validation?: number;
}

/** A file that has a text. */
interface TextFile {
    /** Its path. */
    file: FilePath;
}
/** A text: itself, its bytes, or the file that has it. */
type TextSource = string | Uint8Array | TextFile;

/** Options of {@link Generator.generate}. */
interface TextOptions extends SamplingOptions {
    /** Most tokens. Default 256. */
    maxTokens?: number;
    /** Texts at which the generation ends; they are not given. They may go over the borders of tokens. */
    stop?: readonly string[];
    /** Ends the generation within some milliseconds when it fires, with `ERR_S4_ABORTED`. */
    signal?: AbortSignal;
}
/** How probable a text is. */
interface TextScore {
    /** Number of its tokens. */
    tokens: number;
    /** Number of its bytes in UTF-8. */
    bytes: number;
    /** The natural logarithm of its probability. */
    logProbability: number;
    /** e to the mean of −log p over its tokens: as if so many tokens were equally probable each time. */
    perplexity: number;
    /** Mean of −log₂ p over its bytes: what an ideal compression by this model would need. */
    bitsPerByte: number;
    /** The logarithm of the probability of each token, given those before it. */
    logProbabilities: Float64Array;
}
/**
 * Learns to write like a text, token by token (bytes, characters or those of a tokeniser), and says how probable a text is.
 *
 * @example
 * const generator = await Generator.fit({ file: 'book.txt' }, { maxSeconds: 600 })
 * for await (const piece of generator.generate('Once ', { temperature: 0.8, maxTokens: 400, seed: 1 })) process.stdout.write(piece)
 */
declare class Generator {
    #private;
    /** Mean −log p of a token of the validation part of {@link Generator.fit}, in nats; undefined of a loaded one. */
    readonly validationLoss: number | undefined;
    private constructor();
    /**
     * Learns from a text, or from several that have nothing to do with each other, such as poems: their beginnings and ends are then
     * learned too. The end of the whole, or the last of them, chooses the best epoch. Sizes and rates that are not given are chosen
     * by the text's length, and told in an event `plan`.
     */
    static fit(text: TextSource | readonly TextSource[], options?: GeneratorOptions): Promise<Generator>;
    /** Loads what {@link Generator.save} wrote. A tokeniser is not in the file: it is given again as `tokens`. */
    static load(path: FilePath, options?: Pick<DeviceOptions, 'device' | 'threads' | 'precision'> & {
        tokens?: Tokenizer;
    }): Promise<Generator>;
    /** Writes network and tokens to one file (safetensors). */
    save(path: FilePath): Promise<void>;
    /**
     * Continues a text, or begins one where the prompt is empty: yields pieces of text as they come off the event loop, never a part
     * of a character. Ends after `maxTokens` tokens, at a text of `stop`, or where the model ends the text.
     */
    generate(prompt: string, options?: TextOptions): AsyncGenerator<string, void, void>;
    /**
     * As {@link Generator.generate}, for bytes that are no text, such as grey levels row by row, or sound in 8 bits (μ-law): yields them
     * one by one. For a generator of `tokens: 'bytes'`; `ERR_S4_UNSUPPORTED` for others.
     */
    generateBytes(prompt: Uint8Array, options?: Omit<TextOptions, 'stop'>): AsyncGenerator<number, void, void>;
    /** How probable a text is: perplexity, and bits a byte. For a generator of `tokens: 'bytes'` bytes may be given too. */
    score(text: string | Uint8Array, options?: {
        signal?: AbortSignal;
    }): Promise<TextScore>;
    /**
     * What the network has learned, as {@link SequenceModel.inspect} says it, and on which tokens of a text (after the boundary that it
     * begins with) its answer at the end depends. For a generator of `tokens: 'bytes'` bytes may be given too.
     */
    inspect(text: string | Uint8Array, options?: {
        signal?: AbortSignal;
    }): Promise<Inspection>;
    /** Frees the network. A second call does nothing. */
    dispose(): void;
    /** Called at the end of a `using` declaration's scope: disposes. */
    [Symbol.dispose](): void;
}

export { ClassStream, Classifier, ForecastStream, Forecaster, Generator, metrics };
export type { Backtest, BacktestForecast, ClassExample, ClassExamples, ClassInput, ClassScores, ClassStreamOptions, Classification, ClassifyOptions, ColumnForecast, ColumnHolder, Columns, EndEvent, EpochConfusion, EpochEvent, EpochFigures, EpochForecast, F1Scores, Forecast, ForecastCall, ForecastFigures, ForecastOptions, ForecastRange, ForecastScores, GeneratorOptions, InputFile, InputKind, PictureScan, PlanEvent, SeriesData, SeriesSplit, StepEvent, StreamRow, StreamRowOptions, TaskEvent, TaskTrainOptions, TextFile, TextOptions, TextScore, TextSource, TokenKind, Tokenizer, WindowClass };
