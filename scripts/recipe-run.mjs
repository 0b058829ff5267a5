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
import { score } from './recipe-score.mjs'

/** The share of the allowed time that is planned for training; the rest is for the last evaluation and for errors of the plan. */
const PLANNED_SHARE = 0.92

/**
 * Trains until the recipe's epochs are done or `minutes` are over. With `minutes`, the number of epochs is planned anew after every
 * epoch, so the learning rate reaches its end with the time; history.jsonl says how many were planned (`of`), and `plan`, those numbers
 * epoch by epoch, gives the same run again whatever the time. Writes history.jsonl, last.safetensors (with the optimiser, every
 * `every` seconds and at the end), final.safetensors, best.safetensors where a validation set chooses, and result.json.
 */
export async function runRecipe(recipe, dataset, options) {
  const {
    out,
    minutes = Infinity,
    plan,
    resume = false,
    device,
    seed,
    every = 60,
    evaluateEvery = 1,
    updates = Infinity,
    log,
  } = options
  mkdirSync(out, { recursive: true })
  const [last, history] = [join(out, 'last.safetensors'), join(out, 'history.jsonl')]
  const { batchSize, bucket = 0, pad = 1, testBatchSize = 64 } = recipe.train
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
  const begun = performance.now()
  const before = at.seconds
  const elapsed = () => (performance.now() - begun) / 1000
  const record = (entry) => {
    appendFileSync(history, `${JSON.stringify(entry)}\n`)
    log(entry)
  }
  if (!going) writeFileSync(history, '')
  record({
    event: 'start',
    recipe: recipe.name,
    seed,
    device: model.device,
    data: dataset.summary,
    perEpoch,
    ...(going ? { resumedAt: at } : {}),
  })

  const save = async () => model.save(last, { extra: JSON.stringify({ ...at, seconds: before + elapsed() }) })
  const chosen = join(out, 'best.safetensors')
  let best = going && existsSync(chosen) ? readFileSync(chosen) : undefined
  let [epochSeconds, stopped] = [undefined, false]
  let epochs = recipe.train.epochs
  let fresh = !going
  const over = () => elapsed() > minutes * 60 || at.step >= updates
  while (at.epoch < epochs && !stopped) {
    if (plan !== undefined) epochs = plan[at.epoch] ?? at.epoch
    else if (epochSeconds !== undefined && minutes !== Infinity) {
      const left = Math.floor((minutes * 60 * PLANNED_SHARE - elapsed()) / epochSeconds)
      epochs = Math.min(recipe.train.epochs, at.epoch + Math.max(left, 0))
    }
    if (at.epoch >= epochs) break
    const started = performance.now()
    let [loss, correct, count, saved] = [0, 0, 0, performance.now()]
    const source = trainingBatches(dataset, {
      batchSize,
      bucket,
      pad,
      seed,
      epoch: at.epoch,
      // The library leaves out what its checkpoint has seen; those of 0.1.0 do not say.
      skip: model.progress.samples > 0 ? 0 : at.batch,
      count: perEpoch,
    })
    const how = epochOptions(recipe, {
      warmup: Math.min(Math.round((recipe.train.warmupEpochs ?? 0) * perEpoch), epochs * perEpoch),
      total: epochs * perEpoch,
      seed,
      resume: !fresh,
    })
    for await (const event of model.train(source, { ...how, epochs: model.progress.epochs + 1 })) {
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
    stopped = over()
    if (at.batch >= perEpoch) [at.epoch, at.batch] = [at.epoch + 1, 0]
    const entry = {
      event: 'epoch',
      epoch: at.epoch,
      step: at.step,
      of: epochs,
      loss: loss / count,
      ...(dataset.kind === 'classes' ? { accuracy: correct / count } : {}),
    }
    const due = at.epoch % evaluateEvery === 0 || at.epoch === epochs
    if (dataset.validation !== undefined) {
      entry.validation = await score(model, dataset, dataset.validation, scoring)
      if (at.best === null || entry.validation.mse < at.best) {
        at.best = entry.validation.mse
        at.choices = 0
        best = await model.toBytes({ optimizer: false })
        writeFileSync(`${chosen}.tmp`, best)
        renameSync(`${chosen}.tmp`, chosen)
      } else if (++at.choices >= (recipe.train.patience ?? Infinity)) stopped = true
    } else if (due && !stopped) entry.test = await score(model, dataset, dataset.tests[0], scoring)
    epochSeconds = (performance.now() - started) / 1000
    record({ ...entry, epochSeconds: round(epochSeconds), seconds: round(before + elapsed()) })
  }
  await save()
  const final = join(out, 'final.safetensors')
  await model.save(final, { optimizer: false })

  const file = best === undefined ? final : chosen
  const judged =
    best === undefined ? model : await modelFromBytes(best, { device, precision: recipe.model.precision })
  const tests = {}
  for (const set of dataset.tests)
    tests[set.name] = await score(judged, dataset, set, { ...scoring, confusion: true })
  const result = {
    recipe: recipe.name,
    settings: options.settings,
    seed,
    device: model.device,
    precision: recipe.model.precision ?? 'highest',
    epochs: at.epoch,
    steps: at.step,
    planned: recipe.train.epochs,
    minutes: round((before + elapsed()) / 60),
    chosenBy: best === undefined ? 'the last epoch' : 'validation',
    checkpoint: { file: basename(file), sha256: await sha256(file) },
    tests,
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
