// The making of a generator: texts as tokens, training and validation parts, training.
import { readFileSync } from 'node:fs'
import { types } from 'node:util'
import { filePath, membersOf, type FilePath } from '../check.js'
import { describe, fail, readGiven } from '../error.js'
import type { Batch } from '../dataset.js'
import { SequenceModel } from '../model.js'
import {
  generatorPlan,
  generatorPlanText,
  type CheckedGeneratorOptions,
  type GeneratorPlan,
} from './generate-options.js'
import { dataDigest } from './data-digest.js'
import { deviceOf } from './options.js'
import { ofEpoch, shuffled } from './random.js'
import { bytesCodec, charactersOf, ownCodec, ownTokens, textOfBytes, type Codec } from './tokenizer.js'
import { courseOf, resumed, runTraining } from './training.js'

/** A file that has a text. */
export interface TextFile {
  /** Its path. */
  file: FilePath
}

/** A text: itself, its bytes, or the file that has it. */
export type TextSource = string | Uint8Array | TextFile

/** Everything of a generator but its network. */
export interface GeneratorAbout {
  readonly codec: Codec
}

/** The token before the first of a text and after its last: one more than the tokens have. */
export const boundaryOf = (codec: Codec): number => codec.size

/** Checks one text, and reads it where it is in a file. */
function oneText(op: string, x: unknown): string | Uint8Array {
  if (typeof x === 'string') return x
  if (types.isUint8Array(x)) return Uint8Array.from(x)
  if (typeof x !== 'object' || x === null || Array.isArray(x))
    throw fail('ERR_S4_VALUE', op, 'each text as a string, bytes or { file }', describe(x))
  const path = filePath(op, membersOf(op, 'each text', x, 'ERR_S4_VALUE', ['file'])['file'], 'file')
  try {
    return readFileSync(path)
  } catch (error) {
    throw fail('ERR_S4_DATA', op, 'a file that can be read', (error as Error).message)
  }
}

/** Checks texts. */
export function givenTexts(op: string, text: unknown): (string | Uint8Array)[] {
  const list = readGiven(op, 'text', () => (Array.isArray(text) ? Array.from(text as unknown[]) : [text]))
  const texts = list.map((each) => readGiven(op, 'text', () => oneText(op, each)))
  if (texts.every((each) => each.length === 0)) throw fail('ERR_S4_DATA', op, 'text', 'none')
  return texts.filter((each) => each.length > 0)
}

/** The codec of texts, and their tokens. */
function encoded(
  op: string,
  texts: readonly (string | Uint8Array)[],
  kind: CheckedGeneratorOptions['tokens'],
) {
  const strings = () => texts.map((text) => (typeof text === 'string' ? text : textOfBytes(op, 'text', text)))
  if (typeof kind === 'object') {
    const parts = strings().map((text) => ownTokens(op, 'text', kind, text))
    let most = 0
    for (const part of parts) for (const token of part) most = Math.max(most, token)
    return { codec: ownCodec(kind, kind.size ?? most + 1), parts }
  }
  const codec = kind === 'bytes' ? bytesCodec() : charactersOf(strings())
  return { codec, parts: texts.map((text) => codec.encode(op, 'text', text)) }
}

/** The texts as one row of tokens, each between two boundaries. */
function rowOf(parts: readonly Int32Array[], boundary: number): Int32Array {
  const row = new Int32Array(parts.reduce((sum, part) => sum + part.length + 1, 1)).fill(boundary)
  let at = 1
  for (const part of parts) {
    row.set(part, at)
    at += part.length + 1
  }
  return row
}

/** A batch of windows that begin at these places: each token is the target of the one before it. */
function windowBatch(row: Int32Array, places: readonly number[], window: number): Batch {
  const [data, target] = [new Int32Array(places.length * window), new Int32Array(places.length * window)]
  places.forEach((at, i) => {
    data.set(row.subarray(at, at + window), i * window)
    target.set(row.subarray(at + 1, at + window + 1), i * window)
  })
  const shape = [places.length, window]
  return { input: { data, shape }, target: { data: target, shape } }
}

/** Batches of an epoch: windows in random order, from a random first place, the same for the same seed and epoch. */
function* trainBatches(row: Int32Array, plan: GeneratorPlan, seed: number, epoch: number): Generator<Batch> {
  const { window, batchSize, updates } = plan
  const random = ofEpoch(seed, epoch)
  const spare = (row.length - 1) % window
  const first = Math.floor(random() * (spare + 1))
  const places = Array.from(
    { length: Math.floor((row.length - 1 - first) / window) },
    (_, i) => first + i * window,
  )
  const order = shuffled(places, random)
  for (let i = 0; i < updates; i++)
    yield windowBatch(row, order.slice(i * batchSize, (i + 1) * batchSize), window)
}

/** The windows of the validation part, one after the other, and what is left. */
function* validationBatches(row: Int32Array, window: number, kinds: number): Generator<Batch> {
  // The logits of a batch: as many numbers for each token as there are kinds.
  const rows = Math.max(1, Math.floor(Math.min(2 ** 14, 2 ** 24 / kinds) / window))
  const whole = Math.floor((row.length - 1) / window)
  for (let i = 0; i < whole; i += rows) {
    const places = Array.from({ length: Math.min(rows, whole - i) }, (_, k) => (i + k) * window)
    yield windowBatch(row, places, window)
  }
  const left = row.length - 1 - whole * window
  if (left > 0) yield windowBatch(row, [whole * window], left)
}

/** Fewest tokens to learn from, and to validate by. */
const FEWEST = 8

export async function fitGenerator(
  op: string,
  texts: readonly (string | Uint8Array)[],
  options: CheckedGeneratorOptions,
): Promise<{ model: SequenceModel; about: GeneratorAbout; validationLoss: number }> {
  const { seed, signal, onEvent, folder } = options
  const { codec, parts } = encoded(op, texts, options.tokens)
  const row = rowOf(parts, boundaryOf(codec))
  const held = Math.max(FEWEST, Math.round(row.length * options.validation))
  const [learned, heldOut] = [row.subarray(0, row.length - held), row.subarray(row.length - held)]
  if (learned.length < FEWEST)
    throw fail('ERR_S4_DATA', op, `text of at least ${2 * FEWEST} tokens`, row.length - 1 - parts.length)
  const plan = generatorPlan(learned.length, options)
  const kinds = codec.size + 1
  onEvent({ type: 'plan', options: { ...plan }, text: generatorPlanText(plan, learned.length, kinds) })
  const device = deviceOf(options)
  const given = [codec.kind, codec.characters ?? '', row]
  const data = folder === undefined ? undefined : await dataDigest(op, given, signal)
  const begun = await resumed(op, options, device, data)
  const { vocabulary } = begun?.model.config ?? {}
  if (begun !== undefined && vocabulary !== kinds) {
    begun.model.dispose()
    throw fail(
      'ERR_S4_CHECKPOINT',
      op,
      `a run of ${kinds} kinds of tokens in 'folder'`,
      `one of ${vocabulary}`,
    )
  }
  const made =
    begun?.model ??
    (await SequenceModel.create({
      ...device,
      encoder: 'embedding',
      vocabulary: kinds,
      output: kinds,
      features: plan.features,
      layers: plan.layers,
      state: plan.state,
      mode: plan.mode,
      dropout: plan.dropout,
      loss: 'crossEntropy',
      seed,
    }))
  const lossOf = async (model: SequenceModel) =>
    (
      await model.evaluate(validationBatches(heldOut, plan.window, kinds), {
        ...(signal !== undefined && { signal }),
      })
    ).loss
  const { model } = await runTraining(
    made,
    {
      ...courseOf(op, plan, options),
      data,
      batches: (epoch) => trainBatches(learned, plan, seed, epoch),
      validate: async (trained) => {
        const loss = await lossOf(trained)
        return { figure: loss, figures: { validationLoss: loss } }
      },
    },
    begun?.state,
  )
  return { model, about: { codec }, validationLoss: await lossOf(model) }
}
