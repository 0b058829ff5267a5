// Training of a model: datasets by their descriptions, and a run that is looked at between its events.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { batch, batchOf, inputOf, sampleOf } from './batches.mjs'
import { attempt, parameterBits } from './invariants.mjs'
import { real, seldom, some } from './values.mjs'

/** A dataset in one of the forms that may be iterated. */
export function datasetOf(config, { batches, samples, form }) {
  const items =
    samples === undefined ? batches.map((b) => batchOf(config, b)) : samples.map((s) => sampleOf(config, s))
  if (form === 'generator') return items.values()
  if (form === 'async')
    return (async function* () {
      yield* items
    })()
  if (form === 'set') return new Set(items)
  return items
}
export const dataset = some({
  batches: fc.array(batch, { minLength: 1, maxLength: 3 }),
  samples: seldom(fc.array(batch, { minLength: 1, maxLength: 4 })),
  form: fc.constantFrom('array', 'array', 'generator', 'async', 'set'),
})

/** Trains, and looks at the model between two events. */
export async function train(
  world,
  { dataset: d, options, batchSize, validation, checkpoint, leaveAfter, abortAfter, during },
) {
  const { model, config } = world
  world.trained = true
  const abort = new AbortController()
  const o = { ...real(options), ...(batchSize !== undefined && { batchSize: real(batchSize) }) }
  if (validation !== undefined) o.validation = datasetOf(config, validation)
  if (checkpoint !== undefined) o.checkpoint = join(world.folder, checkpoint === 'folder' ? '.' : checkpoint)
  if (abortAfter !== undefined) o.signal = abort.signal
  if (abortAfter === 0) abort.abort()
  // Beside other calls a read may find the model busy.
  const parameters = () => (world.several ? undefined : parameterBits(model))
  let seen = parameters()
  let events = 0
  try {
    for await (const event of model.train(datasetOf(config, d), o)) {
      events++
      seen = parameters()
      assert.ok(event.type === 'step' || event.type === 'epoch')
      if (events === 1 && during !== undefined) {
        await attempt(`${during} during train`, () => DURING[during](world))
        if (during === 'dispose') world.disposed = true
      }
      if (leaveAfter !== undefined && events > leaveAfter) break
      if (abortAfter !== undefined && events >= abortAfter) abort.abort()
    }
  } catch (error) {
    world.version++
    for (const entry of world.streams) entry.history = undefined
    // What fails leaves the parameters of the last update that was made.
    if (!world.disposed && !world.several && !(error instanceof assert.AssertionError))
      assert.ok(parameterBits(model) === seen, `train that failed (${error.message}) changed parameters`)
    world.failedWithin = events > 0
    if (events === 0) throw error
    // Updates were made before: they stay.
    const checked = await attempt('train', () => Promise.reject(error))
    assert.ok(checked.error !== undefined)
  }
}
const DURING = {
  predict: (world) =>
    world.model.predict(inputOf(world.config, { x: { seed: 1, fill: 'noise', form: 'f32' } }, 1, 5)),
  save: (world) => world.model.save(join(world.folder, 'during')),
  stream: (world) => world.model.stream().dispose(),
  train: (world) => world.model.fit([]),
  update: (world) => world.model.update(),
  dispose: (world) => world.model.dispose(),
}
