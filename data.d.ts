/**
 * Data for s4-node: tables, recordings, pictures and text from files and streams, and what stands between them and a model.
 */
/** Numbers by the name of their column, one for each row, NaN where one is missing; or what has such columns, as a {@link DataTable} has. */
type TableLike = Readonly<Record<string, ArrayLike<number>>> | ColumnsWithTime;
/** Columns, and the time of each row. */
interface ColumnsWithTime {
    /** Numbers by the name of their column. */
    readonly columns: Readonly<Record<string, ArrayLike<number>>>;
    /** The time of each row, in milliseconds since 1970. */
    readonly time?: ArrayLike<number>;
}
/**
 * Columns of equal length by name: numbers, texts, and the time of each row. Parts of a table share its memory.
 *
 * @example
 * const table = await readTable('ETTh1.csv', { time: 'date' })
 * table.columns.OT, table.time[0], table.tail(336)
 */
declare class DataTable {
    #private;
    /** Number of rows. */
    readonly rows: number;
    /** Columns of numbers by name, NaN where one is missing. */
    readonly columns: Readonly<Record<string, Float64Array>>;
    /** Columns of text by name, empty where one is missing. */
    readonly texts: Readonly<Record<string, readonly string[]>>;
    /** For columns with gaps, by name: 1 in each row whose value is missing. */
    readonly missing: Readonly<Record<string, Uint8Array>>;
    /** The time of each row in milliseconds since 1970 (UTC), NaN where it is missing. */
    readonly time: Float64Array | undefined;
    /** Names of the columns of numbers and text, in the order of the file. */
    readonly names: readonly string[];
    private constructor();
    /** The numbers of a column. `ERR_S4_DATA` where there is no such column of numbers. */
    column(name: string): Float64Array;
    /** The first rows, 5 by default. */
    head(rows?: number): DataTable;
    /** The last rows, 5 by default. */
    tail(rows?: number): DataTable;
    /** The rows from `from` to before `to` (default all that follow). */
    slice(from: number, to?: number): DataTable;
    /** These columns alone, in this order, with the time. */
    select(names: readonly string[]): DataTable;
}

/** The option of everything that computes or reads off the event loop. */
interface AbortOptions {
    /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
    signal?: AbortSignal;
}

/**
 * A file by its path or `file:` URL, the bytes of one, or its bytes in pieces: a stream of Node or of the web, `process.stdin`,
 * any iterable of bytes or text.
 */
type DataSource = string | URL | Uint8Array | Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>;

/** What a column holds. */
type ColumnType = 'number' | 'time' | 'text';
/** How a text table is written. What is not said is found out from its first lines. */
interface TableFormat {
    /** The columns to read, in this order: names of the header, or places from 0. Default all. */
    columns?: readonly (string | number)[];
    /** The column of times: its name, or its place from 0. Default the first column of dates, if there is one. */
    time?: string | number;
    /** What columns hold, by name: `'number'`, `'time'` or `'text'`. */
    types?: Readonly<Record<string, ColumnType>>;
    /** Whether the first line holds names. Default `'auto'`; where columns are named it does. */
    header?: boolean | 'auto';
    /** The byte between fields. Default the one of tab, `;`, `|` and `,` that all lines have alike. */
    delimiter?: string;
    /** The sign before a fraction: `'.'` or `','`. */
    decimal?: '.' | ',';
    /** More words for a missing value, beside nothing, `NaN`, `NA`, `N/A`, `null` and `None`. */
    missing?: readonly string[];
    /** Time zone of times without an offset, as the IANA names it: `'Europe/Berlin'`. Default UTC. */
    zone?: string;
    /** Format of times in the letters of strptime: `'%m/%d/%Y'`. Default ISO 8601 and what else has one meaning. */
    timeFormat?: string;
}
/** Options of {@link tableRows}. */
interface TableRowsOptions extends TableFormat {
    /** Rows of each table, but for the last. Default 4096. */
    batch?: number;
}
/**
 * Reads a table of text, such as CSV: columns of numbers, texts and times. `ERR_S4_DATA` with file, row and column where a
 * field is not what its column holds, or a line has another number of fields.
 *
 * @example
 * const table = await readTable('ETTh1.csv', { time: 'date' })
 * const piped = await readTable(process.stdin, { delimiter: ';', decimal: ',' })
 */
declare function readTable(source: DataSource, options?: TableFormat & AbortOptions): Promise<DataTable>;
/**
 * The rows of a table of text as they are read, in tables of `batch` rows: a file may be larger than memory, a stream may go on
 * for ever. Each walk over a path reads it from the beginning.
 *
 * @example
 * for await (const rows of tableRows('huge.csv', { batch: 10_000 })) console.log(rows.columns.load)
 */
declare function tableRows(source: DataSource, options?: TableRowsOptions): AsyncIterable<DataTable>;

/** Columns by name, or rows as objects: what DuckDB, SQLite, Arrow and polars give. */
type TableValues = Readonly<Record<string, ArrayLike<unknown>>> | Iterable<Readonly<Record<string, unknown>>> | AsyncIterable<Readonly<Record<string, unknown>>>;
/** Options of {@link tableFrom} and {@link readJsonl}. */
interface TableFromOptions extends AbortOptions {
    /** The column of times: dates, milliseconds since 1970, or text in ISO 8601. Default the first column of dates. */
    time?: string;
}
/**
 * A table of columns in memory, or of rows as objects, which may come asynchronously: the rows of DuckDB, SQLite, Arrow,
 * polars. Numbers, booleans, bigints up to 2^53, dates and texts; null, undefined and NaN are missing values. A Float64Array is
 * kept as it is.
 *
 * @example
 * const table = await tableFrom({ load: Float32Array.of(1, 2), day: [new Date(0), new Date(864e5)] })
 * const rows = await tableFrom(database.prepare('SELECT * FROM load').iterate())
 */
declare function tableFrom(data: TableValues, options?: TableFromOptions): Promise<DataTable>;
/**
 * The objects of a JSONL file, one a line, as they are read. `ERR_S4_DATA` with file and row where a line is no object. Each walk
 * over a path reads it from the beginning.
 */
declare function jsonlRows(source: DataSource): AsyncIterable<Record<string, unknown>>;
/**
 * Reads a JSONL file as a table: a column for each name, as {@link tableFrom} takes values. `ERR_S4_DATA` with file, row and
 * column.
 */
declare function readJsonl(source: DataSource, options?: TableFromOptions): Promise<DataTable>;

/** A part of a date or of a time of day. */
type CalendarField = 'minute' | 'hour' | 'weekday' | 'day' | 'dayOfYear' | 'month';
/** Options of {@link calendar}. */
interface CalendarOptions {
    /** The parts that are given. Default all. */
    fields?: readonly CalendarField[];
    /** Time zone whose clock and calendar count, as the IANA names it. Default UTC. */
    zone?: string;
}
/**
 * Parts of dates and times of day as numbers from −½ to ½, by name: features that are known ahead. A part v of n values is
 * v/(n − 1) − ½; Monday is the first day of a week. `times` are in milliseconds since 1970, as {@link DataTable} has them.
 */
declare function calendar(times: ArrayLike<number>, options?: CalendarOptions): Record<string, Float64Array>;

/** Options of {@link split}: one of `parts` and `at`. */
interface SplitOptions {
    /** Share of each part, by name; together 1. Default `{ train: 0.7, validation: 0.1, test: 0.2 }`. */
    parts?: Readonly<Record<string, number>>;
    /**
     * Instead of shares: where each part after the first begins, by name, in time: a date, its text in ISO 8601 or milliseconds.
     * The rows before the first of them are the part `train`.
     */
    at?: Readonly<Record<string, number | string | Date>>;
    /**
     * Rows in their `'order'` (default: nothing of the past is in a later part), at `'random'`, by `'label'` (every part has the same
     * share of each label), or by `'group'` (all rows of a group, such as a speaker, are in one part).
     */
    by?: 'order' | 'random' | 'label' | 'group';
    /** The label or group of each row: the name of a column of the table, or an array. */
    keys?: string | ArrayLike<string | number>;
    /** Seed of what is random. Default 0. */
    seed?: number;
}
/** Rows of each part. */
type SplitParts = Record<string, Int32Array>;
/**
 * Divides rows into parts for training, validation and test, without a row in two of them. `data` is a table, or the number of
 * rows. Gives the rows of each part by name, ascending but where they are random.
 *
 * @example
 * const { train, test } = split(table, { at: { test: '2018-01-01' } })
 * const parts = split(labels.length, { by: 'label', keys: labels, seed: 1 })
 */
declare function split(data: TableLike | number, options?: SplitOptions): SplitParts;

/** How columns are scaled. */
declare const scalings: readonly ["zScore", "minMax", "robust"];
/**
 * How columns are scaled: to mean 0 and (population) deviation 1, to the range from 0 to 1, or to median 0 and an interquartile
 * range of 1, which outliers do not change.
 */
type Scaling = (typeof scalings)[number];
/** What a {@link Scaler} is made of, as JSON holds it. */
interface ScalerValues {
    /** Names of the columns. */
    readonly columns: readonly string[];
    /** What is subtracted from each column. */
    readonly offset: readonly number[];
    /** What each column is then divided by, above 0. */
    readonly scale: readonly number[];
}
/**
 * Scales columns to a common range, x ↦ (x − offset)/scale, and back. Fitted to the training part alone, so that nothing of the
 * others leaks into it.
 *
 * @example
 * const scaler = Scaler.fit(table.slice(0, 8640))
 * const scaled = scaler.transform(table), again = scaler.inverse(scaled)
 */
declare class Scaler {
    #private;
    /** Names of the columns. */
    readonly columns: readonly string[];
    /** What is subtracted from each column. */
    readonly offset: Float64Array;
    /** What each column is then divided by; 1 for a column that never changes. */
    readonly scale: Float64Array;
    private constructor();
    /**
     * Fits a scale to each column of numbers (or to those of `columns`), by `kind`, default `'zScore'`. Missing values are left out;
     * a column without any value is `ERR_S4_DATA`.
     */
    static fit(data: TableLike, options?: {
        kind?: Scaling;
        columns?: readonly string[];
    }): Scaler;
    /** The columns in the common range. Columns that the scaler does not have stay as they are. */
    transform(data: TableLike): DataTable;
    /** The inverse of {@link Scaler.transform}, also of some of the columns alone, such as those of a forecast. */
    inverse(data: TableLike): DataTable;
    /** What `JSON.stringify` writes, for {@link Scaler.fromJSON}. */
    toJSON(): ScalerValues;
    /** The scaler of what {@link Scaler.toJSON} gave. */
    static fromJSON(values: ScalerValues): Scaler;
}

/** Sizes, outermost first. */
type Shape = readonly number[];
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

/** Options of {@link windows}. */
interface TableWindowOptions {
    /** Rows of a window. */
    length: number;
    /** Rows after it that are to be predicted. Default 1. */
    horizon?: number;
    /** Rows between the starts of two windows. Default 1. */
    stride?: number;
    /** Columns that a model sees. Default all numbers but those of `known`. */
    inputs?: readonly string[];
    /** Columns that are predicted. Default those of `inputs`. */
    targets?: readonly string[];
    /** Columns that are known ahead, such as a plan or a weather forecast. Default none. */
    known?: readonly string[];
    /** Parts of the time of each row, known ahead too. Default none. */
    calendar?: readonly CalendarField[];
    /** Time zone of the calendar. Default UTC. */
    zone?: string;
    /**
     * `'block'` (default): the target is the rows after the window, (horizon · targets), for a model that pools. `'steps'`: at every
     * row of the window the rows after it, (length, horizon · targets).
     */
    target?: 'block' | 'steps';
    /** The rows that windows lie in. Default all. */
    rows?: {
        /** The first row. Default 0. */
        from?: number;
        /** The row after the last. Default all. */
        to?: number;
        /** Whether inputs may begin before `from`, as long as targets do not: for validation and test. Default false. */
        reachBack?: boolean;
    };
    /**
     * What happens where a value is missing: windows with one are left out (`'skip'`, default), or inputs have the value before it
     * (`'fill'`). A missing target always leaves its window out.
     */
    gaps?: 'skip' | 'fill';
    /** Whether each input has a second feature: 1 where its value is there, 0 where it was missing. Needs `gaps: 'fill'`. Default false. */
    masks?: boolean;
    /** Scales each window by its own inputs: instance normalisation. `scaler(i)` has the scales. Default not at all. */
    instance?: Scaling;
}
/**
 * Windows over the rows of a table, made when they are asked for: parts of one array, not copies, wherever they can be. An iterable of
 * examples for training, which can be walked again; `[...windows]` is an array of them.
 */
declare class TableWindows implements Iterable<Sample> {
    #private;
    /** Number of windows. */
    readonly length: number;
    /** Names of the features at each time step of an input. */
    readonly features: readonly string[];
    /** Names of the columns that are predicted. */
    readonly targets: readonly string[];
    private constructor();
    /** The first row that window `index` predicts. */
    row(index: number): number;
    /** Window `index`: { input (length, features), target }. Where columns are known ahead, a block's input goes on over the horizon. */
    at(index: number): Sample;
    /** The scales of window `index`, where windows are scaled by their own inputs. */
    scaler(index: number): Scaler;
    /** Gives every window in order. */
    [Symbol.iterator](): Generator<Sample>;
}
/**
 * Windows over the rows of a table, to train a model on: what it sees of the past, what is known ahead, and what it is to predict.
 * `ERR_S4_DATA` where the rows have no room for one window.
 *
 * @example
 * const examples = windows(scaler.transform(table), { length: 336, horizon: 96, rows: { from: 0, to: 8640 } })
 * await model.fit(examples, { batchSize: 32, epochs: 10 })
 */
declare function windows(data: TableLike, options: TableWindowOptions): TableWindows;

/** Something to iterate, at once or asynchronously. */
type Items<T> = Iterable<T> | AsyncIterable<T>;
/** Options of what differs from walk to walk. */
interface WalkOptions {
    /** Number of the first walk: where a training is resumed, the epochs that it has had. Default 0. */
    epoch?: number;
}
/** Options of {@link shuffled}. */
interface ShuffleOptions extends WalkOptions {
    /** Number of items among which the next is chosen. All of an array, and of windows. Default 1024. */
    buffer?: number;
    /** Seed of the order. Default 0. */
    seed?: number;
}
/**
 * The items of a dataset in an order that seed and number of the walk determine: of an array, or of {@link TableWindows}, any order; of
 * other iterables each is chosen among `buffer` items, so that a dataset larger than memory can be shuffled.
 */
declare function shuffled<T>(dataset: Items<T>, options?: ShuffleOptions): AsyncIterable<T>;
/**
 * What `change` makes of each item, such as a variation of an example; it may be asynchronous. It is given the item, its number in the
 * walk and the number of the walk, so that each epoch varies in its own way; `epoch` is the number of the first.
 *
 * @example
 * const louder = mapped(audioFolder('recordings/'), ({ input, label }) => ({ input: gain(input), label }))
 */
declare function mapped<T, R>(dataset: Items<T>, change: (item: T, index: number, walk: number) => R | Promise<R>, options?: WalkOptions): AsyncIterable<R>;
/** Reads up to `count` items (default 4) ahead of their use, so that reading and training overlap. */
declare function prefetch<T>(dataset: Items<T>, count?: number): AsyncIterable<T>;
/** One batch of examples of any lengths: the shorter ones are padded, and `lengths` says where each ends. */
declare function collate(examples: readonly Sample[]): Batch;
/** Options of {@link batched}. */
interface BatchOptions extends WalkOptions {
    /** Examples of a batch. */
    size: number;
    /** Number of examples that are sorted by length before they are divided into batches. Default 32 batches. */
    buffer?: number;
    /** Seed of the order of batches. Default 0. */
    seed?: number;
    /** Whether an incomplete last batch is left out. Default false. */
    dropLast?: boolean;
}
/**
 * Batches of examples of like lengths, so that little is padding: `buffer` examples are sorted by their lengths and divided, and
 * the batches come in random order. For `model.fit`, without its option `batchSize`.
 */
declare function batched(dataset: Items<Sample>, options: BatchOptions): AsyncIterable<Batch>;

/** A recording, or a piece of one. */
interface Recording {
    /** (frames, channels), in −1 … 1. */
    samples: Float32Array;
    /** Frames a second. */
    sampleRate: number;
    /** Samples of a frame. */
    channels: number;
}
/** A piece of a recording. */
interface RecordingPiece extends Recording {
    /** Where it begins, in seconds. */
    start: number;
}
/** At which rate a recording is read, and with which channels. */
interface AudioOptions {
    /** Frames a second that it is resampled to. Default its own. */
    sampleRate?: number;
    /** Whether the channels are averaged to one. Default false. */
    mono?: boolean;
}
/** Options of {@link audioChunks}. */
interface ChunkOptions extends AudioOptions {
    /** Seconds of a piece. */
    length: number;
    /** Seconds that a piece has in common with the one before it. Default 0. */
    overlap?: number;
}
/** Options of {@link resample}. */
interface ResampleOptions extends AbortOptions {
    /** Frames a second of the samples. */
    from: number;
    /** Frames a second that they are to have. */
    to: number;
    /** Samples of a frame. Default 1. */
    channels?: number;
}
/** How samples are written in bytes: bits, kind and order, or A-law and μ-law of ITU-T G.711. */
type PcmFormat = 'u8' | 's16le' | 's24le' | 's32le' | 'f32le' | 'f64le' | 'alaw' | 'mulaw';
/** Options of {@link pcmFrames}. */
interface PcmOptions {
    /** How samples are written. */
    format: PcmFormat;
    /** Samples of a frame. Default 1. */
    channels?: number;
    /** Frames of each piece, but for the last. Default as many as come at a time. */
    frames?: number;
}
/**
 * Reads a recording: WAV of 8 to 32 bits, of floats, A-law or μ-law, FLAC, MP3, Ogg Vorbis. `ERR_S4_DATA` with its path where it is
 * damaged or of another kind.
 *
 * @example
 * const { samples } = await readAudio('speech.mp3', { sampleRate: 16_000, mono: true })
 */
declare function readAudio(source: DataSource, options?: AudioOptions & AbortOptions): Promise<Recording>;
/** Samples (frames, channels) at another rate; ⌈frames · to/from⌉ of them. */
declare function resample(samples: ArrayLike<number>, options: ResampleOptions): Promise<Float32Array>;
/**
 * Cuts a recording of any length into pieces of `length` seconds, which overlap by `overlap` seconds; the last may be shorter. Of a
 * file no more than a piece is in memory. Each walk over a path reads it from the beginning.
 */
declare function audioChunks(source: DataSource, options: ChunkOptions): AsyncIterable<RecordingPiece>;
/**
 * The samples in a stream of bytes, such as a microphone, a socket or ffmpeg gives: pieces (frames, channels) in −1 … 1, however the
 * bytes are cut. `ERR_S4_DATA` where they end within a frame.
 *
 * @example
 * for await (const frames of pcmFrames(process.stdin, { format: 's16le', frames: 1600 })) stream.push(frames)
 */
declare function pcmFrames(source: DataSource, options: PcmOptions): AsyncIterable<Float32Array>;

/** A path as Node's own functions take one: text, a `file:` URL, or its bytes. */
type FilePath = string | URL | Uint8Array;

/** A picture with its class. */
interface PictureExample {
    /** (height, width, channels), from 0 to 1. All pictures of a call share their memory. */
    input: TensorLike;
    /** Its class. */
    label: string | number;
}
/** Options of {@link cifar10Examples}. */
interface CifarExampleOptions extends AbortOptions {
    /** Names of the ten classes, in the order of their numbers (`batches.meta.txt`). Default the numbers. */
    names?: readonly string[];
}
/**
 * The pictures of an IDX file (count, height, width), with the classes of another (count), as MNIST and its kin have them: what
 * `Classifier.fit` takes. Bytes become numbers from 0 to 1. `ERR_S4_DATA` where a file is damaged, or the two do not belong together.
 *
 * @example
 * const c = await Classifier.fit(await idxExamples('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'))
 */
declare function idxExamples(pictures: DataSource, labels: DataSource, options?: AbortOptions): Promise<PictureExample[]>;
/** The pictures of CIFAR-10's binary files with their classes: what `Classifier.fit` takes. `ERR_S4_DATA` with path and byte where one is damaged. */
declare function cifar10Examples(paths: readonly FilePath[], options?: CifarExampleOptions): Promise<PictureExample[]>;

/** An array of numbers of a file, in the type that the file has; numbers of 16 bits with a fraction in 32 bits. */
interface FileArray {
    /** The numbers, the last size running fastest. Booleans are 0 and 1. */
    data: Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | BigUint64Array | BigInt64Array | Float32Array | Float64Array;
    /** Sizes, outermost first; none of a single number. */
    shape: number[];
}
/** Pictures with a class each, as CIFAR-10's binary files hold them. */
interface Cifar10 {
    /** (count, 32, 32, 3): red, green and blue of each pixel. */
    pixels: Uint8Array;
    /** (count): classes from 0 to 9. */
    labels: Uint8Array;
}
/** Reads a NumPy array (`.npy`). `ERR_S4_DATA` where the file is damaged, or holds no plain numbers. */
declare function readNpy(source: DataSource, options?: AbortOptions): Promise<FileArray>;
/** Reads the NumPy arrays of an archive (`.npz`), by name. `ERR_S4_DATA` where the file is damaged. */
declare function readNpz(source: DataSource, options?: AbortOptions): Promise<Record<string, FileArray>>;
/** Reads an IDX file, as MNIST has them: pictures (count, height, width) or labels (count). `ERR_S4_DATA` where it is damaged. */
declare function readIdx(source: DataSource, options?: AbortOptions): Promise<FileArray>;
/** Reads binary files of CIFAR-10, one after the other. `ERR_S4_DATA` with path and byte where one is damaged. */
declare function readCifar10(paths: readonly FilePath[], options?: AbortOptions): Promise<Cifar10>;

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

/**
 * The label of a file: the name of its folder (`'folder'`), what a pattern finds in its own name (its first group, or all of it), or
 * what a function makes of its path below the folder, with `/` between names; undefined leaves the file out.
 */
type LabelRule = 'folder' | RegExp | ((file: string) => string | number | undefined);
/** Which files of a folder are taken, and their labels. */
interface FolderOptions {
    /** The label of each file. Default the name of the folder below `path` that it is in. */
    label?: LabelRule;
    /** Endings of the files that are taken, in capitals or not. Default those of its kind. */
    endings?: readonly string[];
}
/** A file with its label. */
interface LabelledFile {
    /** Path of the file. */
    file: string;
    /** Its label. */
    label: string | number;
}
/** An example that was read from a file. */
interface FileExample<I> extends LabelledFile {
    /** What a model sees. */
    input: I;
    /** Samples a second, of recordings. */
    sampleRate?: number;
}
/** Options of {@link audioFolder}. */
type AudioFolderOptions = FolderOptions & AudioOptions;
/** Options of {@link imageFolder}. */
interface ImageFolderOptions extends FolderOptions {
    /** One number of luminance a pixel, three of colour, or as many as the first file has. Default `'asStored'`. */
    colours?: (typeof choices.colours)[number];
}
/** Options of {@link textFolder}. */
interface TextFolderOptions extends FolderOptions {
    /** Makes tokens of the text: {@link byteTokens}, {@link characterTokens}, or any that has `encode`. Default none: inputs are text. */
    tokens?: {
        encode(text: string): ArrayLike<number> | {
            ids: ArrayLike<number>;
        };
    };
}
/** Examples of files, read as they are walked over: in the order of their paths, each time from the beginning. */
interface FileExamples<I> extends AsyncIterable<FileExample<I>> {
    /** The files with their labels, which are not read. */
    files(): Promise<LabelledFile[]>;
    /** The different labels: numbers in ascending order, then texts. */
    labels(): Promise<(string | number)[]>;
}
/**
 * The files below a folder with their labels, in the order of their paths. `ERR_S4_DATA` where there are none, or where one has no
 * label.
 *
 * @example
 * await labelledFolder('recordings/', { label: /^(\d)_/, endings: ['.wav'] })
 */
declare function labelledFolder(path: FilePath, options?: FolderOptions): Promise<LabelledFile[]>;
/**
 * The recordings below a folder, each with its label: what `Classifier.fit` takes. Inputs are (frames, channels), by default of one
 * channel.
 *
 * @example
 * const c = await Classifier.fit(audioFolder('recordings/', { label: /^(\d)_/ }))
 */
declare function audioFolder(path: FilePath, options?: AudioFolderOptions): FileExamples<TensorLike>;
/** The pictures below a folder, PNG and JPEG of one size, each with its label. Inputs are (height, width, channels), from 0 to 1. */
declare function imageFolder(path: FilePath, options?: ImageFolderOptions): FileExamples<TensorLike>;
/** The texts below a folder in UTF-8, each with its label. Inputs are text, or tokens (len) where `tokens` makes them. */
declare function textFolder(path: FilePath, options?: TextFolderOptions): FileExamples<string | TensorLike>;

/** Makes tokens of text, and text of tokens. */
interface TextTokens {
    /** Number of different tokens. */
    readonly size: number;
    /** The tokens of a text: whole numbers from 0. */
    encode(text: string): Int32Array;
    /** The text of tokens. */
    decode(tokens: ArrayLike<number>): string;
}
/** The 256 bytes of UTF-8 as tokens. */
declare const byteTokens: TextTokens;
/**
 * The characters (code points) of a text as tokens, in the order of their code points. A text with another character is
 * `ERR_S4_DATA`.
 */
declare function characterTokens(text: string): TextTokens;

export { DataTable, Scaler, TableWindows, audioChunks, audioFolder, batched, byteTokens, calendar, characterTokens, cifar10Examples, collate, idxExamples, imageFolder, jsonlRows, labelledFolder, mapped, pcmFrames, prefetch, readAudio, readCifar10, readIdx, readJsonl, readNpy, readNpz, readTable, resample, shuffled, split, tableFrom, tableRows, textFolder, windows };
export type { AudioFolderOptions, AudioOptions, BatchOptions, CalendarField, CalendarOptions, ChunkOptions, Cifar10, CifarExampleOptions, ColumnType, ColumnsWithTime, DataSource, FileArray, FileExample, FileExamples, FolderOptions, ImageFolderOptions, Items, LabelRule, LabelledFile, PcmFormat, PcmOptions, PictureExample, Recording, RecordingPiece, ResampleOptions, ScalerValues, Scaling, ShuffleOptions, SplitOptions, SplitParts, TableFormat, TableFromOptions, TableLike, TableRowsOptions, TableValues, TableWindowOptions, TextFolderOptions, TextTokens, WalkOptions };
