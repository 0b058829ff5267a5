// The batches that a classifier's network learns from, and its answers.
import type { Batch } from '../dataset.js'
import type { SequenceModel } from '../model.js'
import { fewerSteps, type InputPlan, type Steps } from './class-inputs.js'
import type { ClassPlan } from './class-options.js'
import { checkOutputs } from './outputs.js'
import { ofEpoch, shuffled } from './random.js'
import { bandsAt } from './spectrum.js'

/** Steps of an example and the number of its class. */
export interface LabelledSteps {
  readonly steps: Steps
  readonly label: number
}

/** Batches that are sorted by length together, so that rows of a batch have similar lengths. */
const POOL = 8

/** Groups of examples for an epoch, in random order. */
function* groups(
  all: readonly LabelledSteps[],
  batchSize: number,
  random: () => number,
): Generator<LabelledSteps[]> {
  const order = shuffled([...all], random)
  const cut: LabelledSteps[][] = []
  for (let at = 0; at < order.length; at += POOL * batchSize) {
    const part = order.slice(at, at + POOL * batchSize).toSorted((a, b) => a.steps.length - b.steps.length)
    for (let k = 0; k < part.length; k += batchSize) cut.push(part.slice(k, k + batchSize))
  }
  yield* shuffled(cut, random)
}

/** Rows of one batch, the shorter ones padded; those of texts as tokens. */
export function padded(
  rows: readonly Steps[],
  { kind, width }: Pick<InputPlan, 'kind' | 'width'>,
): Pick<Batch, 'input' | 'lengths'> {
  const longest = Math.max(...rows.map((row) => row.length))
  const isText = kind === 'text'
  const data = new (isText ? Int32Array : Float32Array)(rows.length * longest * width)
  rows.forEach((row, i) => data.set(row.data, i * longest * width))
  return {
    input: { data, shape: isText ? [rows.length, longest] : [rows.length, longest, width] },
    ...(rows.some((row) => row.length < longest) && { lengths: Int32Array.from(rows, (row) => row.length) }),
  }
}

/** Batches of an epoch, the same for the same seed and epoch. */
export function* classBatches(
  all: readonly LabelledSteps[],
  input: InputPlan,
  { batchSize, rates, vary }: ClassPlan,
  seed: number,
  epoch: number,
): Generator<Batch> {
  const random = ofEpoch(seed, epoch)
  const present = rates.map((rate) =>
    input.kind === 'audio' ? bandsAt(input.sampleRate, input.width, rate) : input.width,
  )
  for (const group of groups(all, batchSize, random)) {
    // A batch has one rate, by which the model's step sizes go; bands of audio are left out example by example.
    const rate = rates[Math.floor(random() * rates.length)] as number
    const speed = vary ? 0.9 + 0.2 * random() : 1
    const rows = group.map(({ steps }) => {
      if (input.kind !== 'audio') {
        const fewer = input.kind === 'series' ? fewerSteps(steps, input.width, rate) : steps
        return vary ? louder(fewer, 0.8 + 0.4 * random()) : fewer
      }
      const bands = present[Math.floor(random() * rates.length)] as number
      return withBands(steps, input, bands, vary ? 0.7 * (random() - 0.5) : 0)
    })
    yield {
      ...padded(rows, input),
      target: group.map(({ label }) => label),
      rate: speed * (input.kind === 'series' ? rate : 1),
    }
  }
}

const louder = ({ data, length }: Steps, gain: number): Steps => ({ data: data.map((x) => x * gain), length })

/** A spectrum with the first `bands` bands, `gain` added to their logarithms. */
function withBands(
  { data, length }: Steps,
  { width, deviations }: InputPlan,
  bands: number,
  gain: number,
): Steps {
  const out = new Float32Array(data.length)
  for (let t = 0; t < length; t++)
    for (let b = 0; b < bands; b++)
      out[t * width + b] = (data[t * width + b] as number) + gain / (deviations[b] as number)
  return { data: out, length }
}

/** Most values of the inputs of one prediction. */
const MOST_VALUES = 2 ** 22

/** Probabilities of the classes, (examples, classes), of inputs with a model's `rate`. */
export async function probabilities(
  model: SequenceModel,
  all: readonly Steps[],
  {
    plan,
    classes,
    rate,
    signal,
  }: { plan: InputPlan; classes: number; rate: number; signal: AbortSignal | undefined },
): Promise<Float64Array> {
  const order = all.map((_, i) => i).toSorted((a, b) => (all[a] as Steps).length - (all[b] as Steps).length)
  const out = new Float64Array(all.length * classes)
  for (let at = 0; at < order.length;) {
    const group: number[] = []
    while (at < order.length && group.length < 64) {
      const next = order[at] as number
      if (group.length > 0 && (group.length + 1) * (all[next] as Steps).length * plan.width > MOST_VALUES)
        break
      group.push(next)
      at++
    }
    const { input, lengths } = padded(
      group.map((i) => all[i] as Steps),
      plan,
    )
    const { data } = await model.predict(input, { ...(lengths !== undefined && { lengths }), rate, signal })
    checkOutputs('Classifier', data)
    group.forEach((i, row) =>
      out.set(softmax(data.subarray(row * classes, (row + 1) * classes)), i * classes),
    )
  }
  return out
}

/** Probabilities of logits. */
export function softmax(logits: ArrayLike<number>): Float64Array {
  let most = -Infinity
  for (let i = 0; i < logits.length; i++) most = Math.max(most, logits[i] as number)
  const powers = Float64Array.from(logits as ArrayLike<number>, (x) => Math.exp(x - most))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((p) => p / sum)
}

/** Place of the largest of `count` numbers from `at` on. */
export function largest(values: ArrayLike<number>, at: number, count: number): number {
  let best = 0
  for (let i = 1; i < count; i++) if ((values[at + i] as number) > (values[at + best] as number)) best = i
  return best
}
