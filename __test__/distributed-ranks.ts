/** Ranks as worker threads, for the tests of training by several ranks. */
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { Worker } from 'node:worker_threads'
import type { RankResult, RankTask } from './distributed-worker.js'

/** A small model, and options of a training. */
export const model = { input: 1, output: 3, features: 6, layers: 1, state: 8, pooling: 'mean', seed: 3 }
export const train = { lr: 0.01, clip: 0.1, ema: 0.9, epochs: 2, weightDecay: 0.1, seed: 4 }

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** What all ranks are to do. */
export type SharedTask = Omit<RankTask, 'rank' | 'worldSize' | 'port' | 'model'> & { model?: object }

/** Runs every rank as a worker thread; undefined for one that has ended without a word. */
export async function ranks(
  worldSize: number,
  task: SharedTask,
  own: Record<number, Partial<RankTask>> = {},
): Promise<(RankResult | undefined)[]> {
  const port = await freePort()
  return Promise.all(
    Array.from({ length: worldSize }, async (_, rank) => {
      const workerData = { rank, worldSize, port, model, ...task, ...own[rank] }
      const worker = new Worker(new URL('distributed-worker.js', import.meta.url), { workerData })
      let result: RankResult | undefined
      worker.on('message', (message) => (result = message as RankResult))
      await once(worker, 'exit')
      return result
    }),
  )
}
