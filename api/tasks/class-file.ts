// What a classifier's file holds beside its network: the metadata `extra` of the checkpoint, as JSON.
import { fail } from '../error.js'
import type { ClassAbout } from './class-fit.js'
import { inputKinds } from './class-inputs.js'

const FORMAT = 1

export function classText(about: ClassAbout): string {
  const { means, deviations, ...input } = about.input
  return JSON.stringify({
    task: 'classify',
    format: FORMAT,
    ...about,
    input: { ...input, means: Array.from(means), deviations: Array.from(deviations) },
  })
}

/** Reads what {@link classText} gave. `ERR_S4_CHECKPOINT` for anything else, before the network is used. */
export function classAbout(op: string, text: string | undefined, outputs: number): ClassAbout {
  const wrong = (got: string) => fail('ERR_S4_CHECKPOINT', op, 'a file that Classifier.save wrote', got)
  let given: { task?: unknown; format?: unknown } & Partial<ClassAbout>
  try {
    given = JSON.parse(text ?? '') as typeof given
  } catch {
    throw wrong('a model that does not say its classes')
  }
  if (given?.task !== 'classify')
    throw wrong(
      typeof given?.task === 'string' ? `a file of the task '${given.task}'` : 'a model of another program',
    )
  if (given.format !== FORMAT) throw wrong(`one of the format ${String(given.format)}`)
  const { input, classes, window, rates } = given
  const isNumbers = (x: unknown, count: number) =>
    Array.isArray(x) && x.length === count && x.every((v) => Number.isFinite(v))
  const right =
    Array.isArray(classes) &&
    classes.length === outputs &&
    classes.every((name) => typeof name === 'string' || Number.isFinite(name)) &&
    Number.isSafeInteger(window) &&
    (window as number) > 0 &&
    Array.isArray(rates) &&
    isNumbers(rates, rates.length) &&
    input !== undefined &&
    inputKinds.includes(input.kind) &&
    Array.isArray(input.sizes) &&
    isNumbers(input.sizes, input.kind === 'image' ? 3 : 1) &&
    Number.isSafeInteger(input.width) &&
    Number.isFinite(input.sampleRate) &&
    isNumbers(input.means, input.width) &&
    isNumbers(input.deviations, input.width) &&
    Array.from(input.deviations).every((d) => d > 0)
  if (!right) throw wrong('a damaged one')
  return { input, classes, window: window as number, rates: rates as number[] }
}
