// What a model has learned: figures of its layers, what they say about step sizes, and all of it as text.
import type { DataFigures, LayerFigures, NativeModel } from '#binding'
import type { NativeAccess } from './access.js'
import { nativeInput, type ModelShape } from './batch.js'
import { rejectUnknownOptions, stepRatio, wholeNumber } from './check.js'
import { throwIfAborted } from './error.js'
import { inspectionText } from './inspection-text.js'
import { adviceOn, type AdviceKind } from './step-advice.js'
import { rateOf, rowLengths, stepsIntervals, type TensorLike } from './tensor.js'

/** Options of {@link SequenceModel.inspect}. */
export interface InspectionOptions {
  /** Data that the model is for: values (batch, len, input), or tokens (batch, len). */
  data?: TensorLike
  /** Length of each sequence of `data`. Default all of them as long as the array. */
  lengths?: ArrayLike<number>
  /** The intervals of the time steps of `data`, as in {@link Batch.intervals}. Default 1 for all. */
  intervals?: TensorLike | ArrayLike<number>
  /**
   * How many time steps of the training are one of the data, as in {@link PredictOptions.rate}. `length` and `samplingInterval` are those
   * of the data; figures of layers are in time steps of the training all the same, as the layers have learned them. Default 1.
   */
  rate?: number
  /** Time steps of the sequences that the model is for. Default those of `data`; without either there is no advice that needs it. */
  length?: number
  /** Seconds from one time step to the next. With it times are in seconds too, and frequencies in hertz. */
  samplingInterval?: number
  /** Rejects at once with `ERR_S4_ABORTED` when it fires. */
  signal?: AbortSignal
}

/** Times of the heads of a layer. */
export interface Durations {
  /** In time steps; Infinity where a kernel does not die away. */
  readonly steps: Float64Array
  /** In seconds, where the sampling interval is known. */
  readonly seconds?: Float64Array
}

/** One layer of an {@link Inspection}. */
export interface InspectedLayer {
  /** Name of the block: `'blocks.0'`. */
  readonly name: string
  /** Δ of each head (the geometric mean where each pair of a state has its own). */
  readonly stepSizes: Float64Array
  /** 1/Δ of each head: the time over which it sums up. */
  readonly timescales: Durations
  /** How far back 50 %, 90 % and 99 % of the energy Σ K̄² of each head's kernel lie. */
  readonly memory: { readonly half: Durations; readonly most: Durations; readonly nearlyAll: Durations }
  /**
   * Λ, (SSMs, N/2, 2), real parts first: of each conjugate pair one. For S4D these are the eigenvalues of A; for S4 those of its
   * normal part, before the low-rank part. Times Δ they are for one time step.
   */
  readonly eigenvalues: { readonly data: Float64Array; readonly shape: readonly number[] }
  /** The frequency response |K̂| of each head, (heads, frequencies). */
  readonly gain: { readonly data: Float64Array; readonly shape: readonly number[] }
  /** Part of the modes that turn or decay by more than half a period in one time step (|Δλ| > π): finer than the data. */
  readonly unresolved: number
  /** How much each head sends on: the root of its kernel's energy and D², times the norm of the weights that take it. */
  readonly strength: Float64Array
  /** Heads of less than a thousandth of the largest strength: they do nothing. */
  readonly idleHeads: readonly number[]
  /** ‖change‖/‖input‖ of the block on `data`; undefined without data, or where blocks have no residual. */
  readonly change?: number
}

/** Something about a layer that is likely to be wrong, in words. */
export interface InspectionAdvice {
  /** What it is. */
  readonly kind: AdviceKind
  /** Number of the layer. */
  readonly layer: number
  /** What was found, and what to do. */
  readonly text: string
}

/** What {@link SequenceModel.inspect} gives. */
export interface Inspection {
  /** Seconds from one time step to the next, where it was given. */
  readonly samplingInterval?: number
  /** Time steps of the sequences that the model is for, where it is known. */
  readonly length?: number
  /** Time steps of the training that are one of the data, where they are not as many. */
  readonly rate?: number
  /** The frequencies of {@link InspectedLayer.gain}, in cycles a time step, 0.0001 to 0.5. */
  readonly frequencies: Float64Array
  /** The layers, from the input on. */
  readonly layers: readonly InspectedLayer[]
  /**
   * (batch, len): how much the output of the last time step depends on the input at each: the norm of its gradient. Of classes it is
   * the output that is largest, else the sum of the outputs. Undefined without data.
   */
  readonly influence?: { readonly data: Float64Array; readonly shape: readonly number[] }
  /** What is likely to be wrong; empty where nothing is. */
  readonly advice: readonly InspectionAdvice[]
  /** All of it in lines of text, as `s4 inspect` prints it. */
  readonly text: string
  /** {@link Inspection.text}. */
  toString(): string
}

/** Frequencies of the responses: 1e-4 to ½ in equal ratios. */
const frequencies = () => Float64Array.from({ length: 38 }, (_, i) => 1e-4 * 5000 ** (i / 37))

/** Part of the largest strength below which a head does nothing. */
const IDLE = 1e-3

function layerOf(
  block: number,
  { dt, lambda, memory, gain, unresolved, strength }: LayerFigures,
  state: number,
  change: number | undefined,
  samplingInterval: number | undefined,
): InspectedLayer {
  const durations = (steps: Float64Array): Durations =>
    samplingInterval === undefined ? { steps } : { steps, seconds: steps.map((n) => n * samplingInterval) }
  const part = (k: number) => durations(dt.map((_, h) => memory[3 * h + k] as number))
  // A kernel that does not die away has endless energy, and tells nothing of the others.
  const most = strength.reduce((a, b) => (Number.isFinite(b) ? Math.max(a, b) : a), 0)
  const idleHeads = Array.from(strength.keys()).filter((h) => (strength[h] as number) < IDLE * most)
  return {
    name: `blocks.${block}`,
    stepSizes: dt,
    timescales: durations(dt.map((x) => 1 / x)),
    memory: { half: part(0), most: part(1), nearlyAll: part(2) },
    eigenvalues: { data: lambda, shape: [lambda.length / state, state / 2, 2] },
    gain: { data: gain, shape: [dt.length, gain.length / dt.length] },
    unresolved,
    strength,
    idleHeads,
    ...(change !== undefined && !Number.isNaN(change) && { change }),
  }
}

/** Inspects a model. */
export async function inspectModel(
  access: NativeAccess<NativeModel>,
  op: string,
  model: ModelShape,
  options: InspectionOptions,
): Promise<Inspection> {
  const names = ['data', 'lengths', 'intervals', 'rate', 'length', 'samplingInterval', 'signal']
  const given = rejectUnknownOptions(op, options, names)
  const { signal } = given
  throwIfAborted(op, signal)
  const input = given.data === undefined ? undefined : nativeInput(op, model, given.data)
  const lengths = rowLengths(op, given.lengths, input?.batch ?? 0)
  const sizes = [input?.batch ?? 0, input?.len ?? 0]
  const intervals = stepsIntervals(op, given.intervals, sizes, model.dtype)
  const rate = rateOf(op, given.rate)
  const length =
    given.length === undefined
      ? (lengths?.reduce((a, b) => Math.max(a, b), 1) ?? input?.len)
      : wholeNumber(op, 'length', given.length, 1)
  const samplingInterval =
    given.samplingInterval === undefined
      ? undefined
      : stepRatio(op, 'samplingInterval', given.samplingInterval)
  const at = frequencies()
  let figures: DataFigures | undefined
  if (input !== undefined) {
    const { data, batch, len } = input
    const call = { lengths, intervals, rate, algorithm: model.algorithm }
    figures = await access.read(
      'inspect',
      (handle, cancel) => handle.inspectData(data, batch, len, call, cancel),
      signal,
    )
  }
  const found = await access.read('inspect', (handle, cancel) => handle.inspectLayers(at, cancel), signal)
  // The layers' own time steps are those of the training.
  const step = samplingInterval === undefined ? undefined : samplingInterval / rate
  const layers = found.map((layer, i) => layerOf(i, layer, model.config.state, figures?.change[i], step))
  const plain = {
    ...(samplingInterval !== undefined && { samplingInterval }),
    ...(length !== undefined && { length }),
    ...(rate !== 1 && { rate }),
    frequencies: at,
    layers,
    ...(figures !== undefined && {
      influence: { data: figures.influence, shape: [input?.batch as number, input?.len as number] },
    }),
    advice: layers.flatMap((layer, i) => adviceOn(layer, i, length && length * rate, step)),
  }
  const text = inspectionText(plain)
  return { ...plain, text, toString: () => text }
}
