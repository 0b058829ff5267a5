// Runs one training of a recipe: epochs, checkpoints, a history of losses, and the final scores.
import {
  appendFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { createModel, epochOptions, loadModel, modelFromBytes } from './recipe-api.mjs'
import { trainingBatches } from './recipe-batches.mjs'
import { plannedEpochs } from './recipe-plan.mjs'
import { judgement, score } from './recipe-score.mjs'

/**
 * Trains until the recipe's epochs are done, `minutes` are over, or `signal` fires. With `minutes`, the number of epochs is planned
 * anew after every epoch, so the learning rate reaches its end with the time; history.jsonl says how many were planned (`of`), and
 * `plan`, those numbers epoch by epoch, gives the same run again whatever the time. With `ahead`, the minutes of later calls that go on
 * with `resume`, the curve reaches over them too, and a run that stops before its end is left to them unjudged. Writes history.jsonl,
 * last.safetensors (with the optimiser, every `every` seconds and at the end) and, of a run that ends, final.safetensors,
 * best.safetensors where a validation set chooses, and result.json. Minutes count from `begun` (milliseconds of `performance.now()`).
 *
 * Of a `group` of ranks each takes its part of every batch and judges the same validation set, so that all go on alike; rank 0 alone
 * writes. What a clock decides would differ by rank: such a run pauses behind epoch `pauseAfter`, for a later call with `resume`.
 */
export async function runRecipe(recipe, dataset, options) {
  const {
    out,
    minutes = Infinity,
    ahead = 0,
    plan,
    resume = false,
    device,
    seed,
    every = 60,
    evaluateEvery = 1,
    updates = Infinity,
    pauseAfter = Infinity,
    group = { rank: 0, worldSize: 1 },
    signal,
    begun = performance.now(),
    log,
  } = options
  const [ranks, writes] = [group.worldSize, group.rank === 0]
  if (ranks > 1 && (minutes !== Infinity || updates !== Infinity))
    throw new Error('ranks end behind an epoch: pauseAfter, not minutes and updates')
  if (recipe.train.batchSize % ranks !== 0)
    throw new Error(`batches of ${recipe.train.batchSize} have no equal parts for ${ranks} ranks`)
  mkdirSync(out, { recursive: true })
  const [last, history] = [join(out, 'last.safetensors'), join(out, 'history.jsonl')]
  const { batchSize, bucket = 0, pad = 1, testBatchSize = 64, evaluateLast = 1 } = recipe.train
  const scoring = { batchSize: testBatchSize, pad }
  const going = resume && existsSync(last)
  const model = going
    ? await loadModel(last, { device, precision: recipe.model.precision })
    : await createModel(recipe, dataset, { seed, device })
  const at = going
    ? JSON.parse(model.extra)
    : { epoch: 0, batch: 0, step: 0, seconds: 0, best: null, choices: 0 }
  // A recipe may limit the batches of an epoch, so that a large training set is validated more often.
  const perEpoch = Math.min(
    Math.ceil(dataset.train.length / batchSize),
    recipe.train.batchesPerEpoch ?? Infinity,
  )
  const before = at.seconds
  const elapsed = () => (performance.now() - begun) / 1000
  const record = (entry) => {
    if (!writes) return
    appendFileSync(history, `${JSON.stringify(entry)}\n`)
    log(entry)
  }
  if (!going && writes) writeFileSync(history, '')
  record({
    event: 'start',
    recipe: recipe.name,
    settings: options.settings,
    seed,
    device: model.device,
    data: dataset.summary,
    perEpoch,
    ...(ranks > 1 ? { ranks } : {}),
    ...(going ? { resumedAt: at } : {}),
  })

  const save = async () => {
    if (writes) await model.save(last, { extra: JSON.stringify({ ...at, seconds: before + elapsed() }) })
  }
  const chosen = join(out, 'best.safetensors')
  let best = going && existsSync(chosen) ? readFileSync(chosen) : undefined
  // Stopped early: `chosen` when validation gets no better, `time` when the clock, the updates or the signal end it.
  let [epochs, stopped] = [recipe.train.epochs, undefined]
  let [fresh, paused] = [!going, false]
  const over = () => elapsed() > minutes * 60 || at.step >= updates || signal?.aborted
  while (stopped === undefined) {
    // Within an epoch the plan stays as it was, also when another process goes on with it.
    if (at.batch === 0 || at.of === undefined)
      at.of = plannedEpochs({
        plan,
        done: at.epoch,
        most: recipe.train.epochs,
        minutes,
        ahead,
        elapsed: elapsed(),
        secondsPerEpoch: at.secondsPerEpoch,
      })
    epochs = at.of
    if (at.epoch >= epochs) break
    paused = at.epoch >= pauseAfter
    if (paused) break
    const started = performance.now()
    let [loss, correct, count, saved] = [0, 0, 0, performance.now()]
    const source = trainingBatches(dataset, {
      batchSize: batchSize / ranks,
      bucket: bucket * ranks,
      pad,
      seed,
      epoch: at.epoch,
      // The library leaves out what its checkpoint has seen; those of 0.1.0 do not say.
      skip: model.progress.samples > 0 ? 0 : at.batch,
      count: perEpoch * ranks,
    })
    const how = epochOptions(recipe, {
      warmup: Math.min(Math.round((recipe.train.warmupEpochs ?? 0) * perEpoch), epochs * perEpoch),
      total: epochs * perEpoch,
      seed,
      resume: !fresh,
    })
    // A checkpoint may stand behind an epoch's last update: then this only ends the epoch.
    const distributed = ranks > 1 ? { distributed: group } : {}
    for await (const event of model.train(source, {
      ...how,
      ...distributed,
      epochs: model.progress.epochs + 1,
    })) {
      fresh = false
      if (event.type !== 'step') continue
      at.batch++
      at.step = event.step
      loss += event.loss
      correct += event.accuracy ?? 0
      count++
      if (performance.now() - saved > every * 1000) {
        await save()
        saved = performance.now()
      }
      // After an epoch's last batch the loop goes on to the end of the epoch.
      if (over() && at.batch < perEpoch) break
    }
    if (over()) stopped = 'time'
    const trained = (performance.now() - started) / 1000
    if (at.batch >= perEpoch) [at.epoch, at.batch] = [at.epoch + 1, 0]
    const entry = {
      event: 'epoch',
      epoch: at.epoch,
      ...(at.batch > 0 ? { batch: at.batch } : {}),
      step: at.step,
      of: epochs,
      ...(count > 0 ? { loss: loss / count } : {}),
      ...(count > 0 && dataset.kind === 'classes' ? { accuracy: correct / count } : {}),
    }
    const due = at.batch === 0 && (at.epoch % evaluateEvery === 0 || at.epoch > epochs - evaluateLast)
    const ends = stopped === 'time' && ahead === 0 && !signal?.aborted
    if (dataset.validation !== undefined && (due || ends)) {
      entry.validation = await score(model, dataset, dataset.validation, scoring)
      const figure = judgement(dataset, entry.validation)
      if (at.best === null || figure < at.best) {
        at.best = figure
        at.choices = 0
        best = await model.toBytes({ optimizer: false })
        if (writes) {
          writeFileSync(`${chosen}.tmp`, best)
          renameSync(`${chosen}.tmp`, chosen)
        }
      } else if (++at.choices >= (recipe.train.patience ?? Infinity)) stopped ??= 'chosen'
    } else if (due && dataset.validation === undefined && stopped === undefined)
      entry.test = await score(model, dataset, dataset.tests[0], scoring)
    const whole = (performance.now() - started) / 1000
    if (count > 0) at.secondsPerEpoch = (trained / count) * perEpoch + (whole - trained)
    record({ ...entry, epochSeconds: round(whole), seconds: round(before + elapsed()) })
  }
  await save()
  if (paused || (stopped === 'time' && (ahead > 0 || signal?.aborted))) {
    record({ event: 'paused', epoch: at.epoch, batch: at.batch, seconds: round(before + elapsed()) })
    model.dispose()
    return undefined
  }
  if (!writes) {
    model.dispose()
    return undefined
  }
  const final = join(out, 'final.safetensors')
  await model.save(final, { optimizer: false })

  const file = best === undefined ? final : chosen
  const judged =
    best === undefined ? model : await modelFromBytes(best, { device, precision: recipe.model.precision })
  const tests = {}
  for (const set of dataset.tests)
    tests[set.name] = await score(judged, dataset, set, { ...scoring, confusion: true })
  // What a data set makes of the model at the end: pictures that it draws, say.
  const more = await dataset.finish?.(judged, out, seed)
  const parameters = judged.parameters().reduce((sum, { value }) => sum + value.data.length, 0)
  const result = {
    recipe: recipe.name,
    settings: options.settings,
    seed,
    device: model.device,
    ...(ranks > 1 ? { ranks } : {}),
    precision: recipe.model.precision ?? 'highest',
    parameters,
    epochs: at.epoch,
    steps: at.step,
    timeSteps: model.progress.samples,
    planned: recipe.train.epochs,
    minutes: round((before + elapsed()) / 60),
    chosenBy: best === undefined ? 'the last epoch' : dataset.validation.name,
    checkpoint: { file: basename(file), sha256: await sha256(file) },
    tests,
    ...more,
  }
  writeFileSync(join(out, 'result.json'), JSON.stringify(result, undefined, 1))
  const { confusion: _, ...short } = tests[dataset.tests[0].name]
  record({ event: 'end', ...short, epochs: at.epoch, minutes: result.minutes })
  model.dispose()
  if (judged !== model) judged.dispose()
  return result
}

const round = (x) => Math.round(x * 100) / 100

async function sha256(path) {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece)
  return hash.digest('hex')
}
