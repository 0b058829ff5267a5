/** Trained tasks, by the run folder or the file that holds them. */
import { SequenceModel, type DeviceOptions } from 's4-node'
import { Classifier, Forecaster } from 's4-node/tasks'
import { UsageError } from '../usage.js'
import { taskFile } from './folder.js'

export type Loaded =
  | { readonly task: 'forecast'; readonly forecaster: Forecaster }
  | { readonly task: 'classify'; readonly classifier: Classifier }

export async function loadTask(path: string, device: DeviceOptions): Promise<Loaded> {
  const file = taskFile(path)
  const model = await SequenceModel.load(file, { device: 'cpu' })
  let task: unknown
  try {
    task = (JSON.parse(model.extra ?? '{}') as { task?: unknown }).task
  } catch {
    // Another program's text.
  } finally {
    model.dispose()
  }
  if (task === 'forecast') return { task, forecaster: await Forecaster.load(file, device) }
  if (task === 'classify') return { task, classifier: await Classifier.load(file, device) }
  throw new Error(`${file} is a model, but no task that \`s4 train\` wrote`)
}

export async function loadForecaster(path: string, device: DeviceOptions): Promise<Forecaster> {
  const loaded = await loadTask(path, device)
  if (loaded.task === 'forecast') return loaded.forecaster
  loaded.classifier.dispose()
  throw new UsageError(`${path} is a classifier: \`s4 predict\` tells the classes of files`)
}

export async function loadClassifier(path: string, device: DeviceOptions): Promise<Classifier> {
  const loaded = await loadTask(path, device)
  if (loaded.task === 'classify') return loaded.classifier
  loaded.forecaster.dispose()
  throw new UsageError(`${path} is a forecaster: \`s4 forecast\` tells what comes next`)
}
