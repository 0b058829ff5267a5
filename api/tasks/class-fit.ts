// The making of a classifier: classes, scales, validation part, training.
import { fail } from '../error.js'
import { SequenceModel } from '../model.js'
import {
  classesOf,
  inputPlan,
  scaledSteps,
  StepMaker,
  stepScales,
  fewerSteps,
  type GivenExamples,
  type InputPlan,
  type Steps,
} from './class-inputs.js'
import { classBatches, largest, probabilities, type LabelledSteps } from './class-network.js'
import {
  checkKindOptions,
  classPlan,
  classPlanText,
  classWeightsOf,
  type CheckedClassifyOptions,
} from './class-options.js'
import { dataDigest } from './data-digest.js'
import { accuracy as accuracyOf, confusion, f1 } from './metrics.js'
import { deviceOf } from './options.js'
import { shuffled, uniform } from './random.js'
import { bandsAt } from './spectrum.js'
import { courseOf, resumed, runTraining, type Validation } from './training.js'

/** Everything of a classifier but its network. */
export interface ClassAbout {
  readonly input: InputPlan
  readonly classes: readonly (string | number)[]
  /** Samples of the median example, and the rates that were learned. */
  readonly window: number
  readonly rates: readonly number[]
}

/** Divides examples: of each class the share `validation`, at least one where it has two. */
function divided(all: readonly LabelledSteps[], classes: number, share: number, seed: number) {
  const random = uniform(seed + 1)
  const [learned, validation]: [LabelledSteps[], LabelledSteps[]] = [[], []]
  for (let label = 0; label < classes; label++) {
    const own = shuffled(
      all.filter((example) => example.label === label),
      random,
    )
    const held = own.length < 2 ? 0 : Math.max(1, Math.round(own.length * share))
    validation.push(...own.slice(0, held))
    learned.push(...own.slice(held))
  }
  return { learned, validation }
}

export async function fitClassifier(
  op: string,
  { inputs, labels }: GivenExamples,
  options: CheckedClassifyOptions,
): Promise<{ model: SequenceModel; about: ClassAbout; validationAccuracy: number }> {
  const { seed, signal, onEvent, folder } = options
  const classes = classesOf(labels)
  if (classes.length < 2)
    throw fail('ERR_S4_DATA', op, 'examples of at least two classes', classes.join() || 'none')
  const form = inputPlan(op, inputs, options)
  checkKindOptions(op, form.kind, options)
  const { width } = form
  const maker = new StepMaker(form)
  const numberOf = new Map(classes.map((name, i) => [name, i]))
  const raw = inputs.map((input, i) => ({
    steps: maker.raw(op, 'input of each of examples', input),
    label: numberOf.get(labels[i] as string | number) as number,
  }))
  const parts = divided(raw, classes.length, options.validation, seed)
  if (parts.validation.length === 0)
    throw fail('ERR_S4_DATA', op, 'examples with at least two of some class, to validate by', 'one of each')
  const scales = stepScales(
    parts.learned.map(({ steps }) => steps),
    form,
  )
  const input: InputPlan = { ...form, ...scales }
  const inScale = ({ steps, label }: LabelledSteps) => ({ steps: scaledSteps(steps, width, scales), label })
  const learned = parts.learned.map(inScale)
  const validation = parts.validation.map(inScale)
  const { labelSmoothing } = options
  const classWeights = classWeightsOf(
    op,
    options.classWeights,
    classes,
    learned.map(({ label }) => label),
  )
  const lengths = learned.map(({ steps }) => steps.length).toSorted((a, b) => a - b)
  const size = {
    kind: form.kind,
    examples: learned.length,
    classes: classes.length,
    steps: lengths.reduce((a, b) => a + b, 0),
    median: lengths[lengths.length >> 1] as number,
  }
  const plan = classPlan(size, options)
  onEvent({
    type: 'plan',
    options: {
      ...plan,
      rates: plan.rates.join(' '),
      labelSmoothing,
      ...(classWeights && { classWeights: classWeights.join(' ') }),
    },
    text: classPlanText(plan, size),
  })
  const device = deviceOf(options)
  // With the options that decide which examples validate, and what is minimised: a run does not go on with others.
  const decided = [seed, options.validation, labelSmoothing, classWeights ?? null]
  const named = JSON.stringify([form.kind, classes, raw.map(({ label }) => label), decided])
  const given = [named, ...raw.map(({ steps }) => steps.data)]
  const data = folder === undefined ? undefined : await dataDigest(op, given, signal)
  const begun = await resumed(op, options, device, data)
  const made =
    begun?.model ??
    (await SequenceModel.create({
      ...device,
      ...(form.codec === undefined
        ? { input: width }
        : { encoder: 'embedding', vocabulary: form.codec.size }),
      output: classes.length,
      features: plan.features,
      layers: plan.layers,
      state: plan.state,
      mode: plan.mode,
      dropout: plan.dropout,
      bidirectional: options.bidirectional,
      pooling: 'mean',
      loss: 'crossEntropy',
      labelSmoothing,
      ...(classWeights && { classWeights }),
      seed,
    }))
  const heard = [...new Set([Math.min(...plan.rates), Math.max(...plan.rates)])]
  const validate = async (model: SequenceModel): Promise<Validation> => {
    let [accuracy, loss, macro] = [0, 0, 0]
    const counts = classes.map(() => classes.map(() => 0))
    for (const rate of heard) {
      const figures = await figuresAt(model, validation, input, classes.length, rate, signal)
      accuracy += figures.accuracy / heard.length
      loss += figures.loss / heard.length
      macro += figures.f1 / heard.length
      figures.counts.forEach((row, i) => row.forEach((n, j) => (counts[i]![j]! += n)))
    }
    // Accuracy first, or where classes have weights F1 over all of them; among equals the loss.
    const chosenBy = classWeights === undefined ? accuracy : macro
    const figures = { accuracy, f1: macro, validationLoss: loss, confusion: { classes, counts } }
    return { figure: 1 - chosenBy + 1e-3 * loss, figures }
  }
  const { model } = await runTraining(
    made,
    {
      ...courseOf(op, plan, options),
      data,
      batches: (epoch) => classBatches(learned, input, plan, seed, epoch),
      validate,
    },
    begun?.state,
  )
  const samples = inputs
    .map((one, i) => ('text' in one ? raw[i]!.steps.length : (one.sizes[0] as number)))
    .toSorted((a, b) => a - b)
  const about = { input, classes, window: samples[samples.length >> 1] as number, rates: plan.rates }
  return { model, about, validationAccuracy: (await validate(model)).figures.accuracy as number }
}

/** Accuracy, F1 (mean over the classes) and mean loss over examples as they would be at a sampling rate. */
async function figuresAt(
  model: SequenceModel,
  examples: readonly LabelledSteps[],
  plan: InputPlan,
  classes: number,
  rate: number,
  signal: AbortSignal | undefined,
): Promise<{ accuracy: number; f1: number; loss: number; counts: number[][] }> {
  const { kind, width, sampleRate } = plan
  const bands = kind === 'audio' ? bandsAt(sampleRate, width, rate) : width
  const at = ({ data, length }: Steps): Steps => {
    if (kind === 'series') return fewerSteps({ data, length }, width, rate)
    return bands === width
      ? { data, length }
      : { data: data.map((x, i) => (i % width < bands ? x : 0)), length }
  }
  const steps = examples.map((example) => at(example.steps))
  const modelRate = kind === 'series' ? rate : 1
  const chances = await probabilities(model, steps, { plan, classes, rate: modelRate, signal })
  const actual = examples.map(({ label }) => label)
  const predicted = examples.map((_, i) => largest(chances, i * classes, classes))
  const losses = actual.map((label, i) => -Math.log(Math.max(chances[i * classes + label] as number, 1e-12)))
  const counts = confusion(actual, predicted, classes)
  return {
    accuracy: accuracyOf(actual, predicted),
    f1: f1(counts).macro,
    counts,
    loss: losses.reduce((a, b) => a + b, 0) / losses.length,
  }
}
