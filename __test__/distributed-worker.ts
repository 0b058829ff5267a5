/** A rank as a worker thread, for distributed.test.ts: joins the group that it is told, trains, and says what came of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import {
  joinGroup,
  SequenceModel,
  type Sample,
  type SequenceModelOptions,
  type TrainEvent,
  type TrainOptions,
} from '../index.js'

/** What a rank is to do. */
export interface RankTask {
  rank: number
  worldSize: number
  port: number
  model: object
  /** Number of examples of the dataset. */
  examples: number
  train: Omit<TrainOptions, 'distributed' | 'validation' | 'signal'>
  /** Number of examples of a validation. */
  validation?: number
  /** Whether the dataset is a generator and no array. */
  generator?: boolean
  /** Addresses of shards that are the dataset, as examples/shards.mjs reads them. */
  shards?: string[]
  /** File to load the model from. */
  load?: string
  timeout?: number
  /** What happens after so many updates: the dataset throws, the loop ends, the thread ends, the group is left within the loop. */
  after?: { updates: number; what: 'throw' | 'break' | 'exit' | 'hang' | 'close' }
  /** Milliseconds after which the signal of the training fires. */
  abortAfter?: number
  /** Milliseconds that the rank waits in place of training. */
  idle?: number
  /** Options of a second training, after the first. */
  second?: RankTask['train']
}

/** What a rank says at its end. */
export interface RankResult {
  events: TrainEvent[]
  parameters: number[]
  steps: number
  error?: { code?: string; message: string }
  /** The code of the error of a prediction afterwards, where there is one. */
  refused?: string
  /** Updates of the run that a checkpoint written after the first training holds. */
  savedSteps?: number
  /** Seconds of the first training. */
  seconds: number
  /** What the model gives for the first example. */
  outputs: number[]
}

/** The dataset: examples of three classes, of several lengths. */
export function examplesOf(count: number): Sample[] {
  return Array.from({ length: count }, (_, i) => {
    const len = 12 + ((5 * i) % 7)
    const data = Float64Array.from({ length: len }, (__, step) => Math.sin((1 + (i % 3)) * step * 0.4 + i))
    return { input: { data, shape: [len, 1] }, target: i % 3 }
  })
}

/** The largest difference of two lists of numbers. */
export function difference(a: number[], b: number[]): number {
  if (a.length !== b.length || a.length === 0) return NaN
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0)
}

/** Trains as `task` says. */
export async function runRank(task: RankTask): Promise<RankResult> {
  const { rank, worldSize, port, model: shape, examples, train, load, after } = task
  const host = { device: 'cpu', dtype: 'f64', threads: 1 } as const
  const model = load
    ? await SequenceModel.load(load, host)
    : await SequenceModel.create({ ...(shape as SequenceModelOptions), ...host })
  const result: RankResult = { events: [], parameters: [], steps: 0, seconds: 0, outputs: [] }
  const place = { rank, worldSize, masterAddress: '127.0.0.1', masterPort: port }
  const group = worldSize > 1 ? await joinGroup({ ...place, timeout: task.timeout ?? 60_000 }) : undefined
  const all = examplesOf(examples)
  let taken = 0
  function* walk() {
    for (const sample of all) {
      const limit = (after?.updates ?? Infinity) * worldSize * (train.batchSize ?? 1)
      if (after?.what === 'throw' && taken++ >= limit) throw new RangeError('no more data')
      yield sample
    }
  }
  const began = performance.now()
  const runs = [train, ...(task.second ? [task.second] : [])]
  for (const [i, options] of runs.entries()) {
    delete result.error
    await runOnce(options)
    if (i > 0) continue
    result.seconds = (performance.now() - began) / 1000
    const { error } = result as RankResult
    if (task.second === undefined || error?.code === undefined) continue
    const saved = await SequenceModel.fromBytes(await model.toBytes({ optimizer: true }), host)
    result.savedSteps = saved.progress.steps
    saved.dispose()
  }
  async function runOnce(options: RankTask['train']) {
    try {
      if (task.idle !== undefined) return await sleep(task.idle)
      const { shards } = task
      const shardsOf =
        shards && (await import(new URL('../../examples/shards.mjs', import.meta.url).href)).datasetOf
      const dataset = shardsOf
        ? shardsOf(shards, 10)
        : task.generator || after?.what === 'throw'
          ? { [Symbol.iterator]: walk }
          : all
      const validation = task.validation ? examplesOf(task.validation) : undefined
      const loop = model.train(dataset, {
        ...options,
        ...(task.abortAfter !== undefined && { signal: AbortSignal.timeout(task.abortAfter) }),
        ...(validation && { validation }),
        ...(group && { distributed: group }),
      })
      for await (const event of loop) {
        result.events.push(event)
        if (after === undefined || event.step < after.updates) continue
        if (after.what === 'break') break
        if (after.what === 'exit') process.exit(0)
        if (after.what === 'close') await group?.close()
        if (after.what === 'hang') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 8000)
      }
    } catch (error) {
      const { code, message } = error as { code?: string; message: string }
      result.error = { message, ...(code !== undefined && { code }) }
    }
  }
  try {
    result.parameters = model.parameters().flatMap(({ value }) => Array.from(value.data))
    result.steps = model.progress.steps
    const [{ input }] = all as [Sample]
    const { data } = await model.predict({ data: input.data, shape: [1, ...input.shape] })
    result.outputs = Array.from(data as Float64Array)
  } catch (error) {
    result.refused = (error as { code: string }).code
  }
  model.dispose()
  await group?.close()
  return result
}

if (parentPort !== null && workerData !== null && 'worldSize' in (workerData as object))
  parentPort.postMessage(await runRank(workerData as RankTask), [])
