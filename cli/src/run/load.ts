/** Trained tasks, by the run folder or the file that holds them. */
import { SequenceModel, type DeviceOptions } from 's4-node'
import { Classifier, Forecaster, Generator } from 's4-node/tasks'
import { UsageError } from '../usage.js'
import { taskFile } from './folder.js'

export type Loaded =
  | { readonly task: 'forecast'; readonly forecaster: Forecaster }
  | { readonly task: 'classify'; readonly classifier: Classifier }
  | { readonly task: 'generate'; readonly generator: Generator }

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
  if (task === 'generate') return { task, generator: await Generator.load(file, device) }
  throw new Error(`${file} is a model, but no task that \`s4 train\` wrote`)
}

/** Frees a task. */
export function disposeTask(loaded: Loaded): void {
  if (loaded.task === 'forecast') loaded.forecaster.dispose()
  else if (loaded.task === 'classify') loaded.classifier.dispose()
  else loaded.generator.dispose()
}

/** The command that a task of another kind is for. */
const COMMANDS = {
  forecast: 'a forecaster: `s4 forecast` tells what comes next',
  classify: 'a classifier: `s4 predict` tells the classes of files',
  generate: 'a generator: `s4 generate` continues a text',
}

/** Says what a task is that another was expected for, and frees it. */
function refuse(path: string, loaded: Loaded): never {
  disposeTask(loaded)
  throw new UsageError(`${path} is ${COMMANDS[loaded.task]}`)
}

export async function loadForecaster(path: string, device: DeviceOptions): Promise<Forecaster> {
  const loaded = await loadTask(path, device)
  return loaded.task === 'forecast' ? loaded.forecaster : refuse(path, loaded)
}

export async function loadClassifier(path: string, device: DeviceOptions): Promise<Classifier> {
  const loaded = await loadTask(path, device)
  return loaded.task === 'classify' ? loaded.classifier : refuse(path, loaded)
}

export async function loadGenerator(path: string, device: DeviceOptions): Promise<Generator> {
  const loaded = await loadTask(path, device)
  return loaded.task === 'generate' ? loaded.generator : refuse(path, loaded)
}
