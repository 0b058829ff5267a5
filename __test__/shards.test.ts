/** Data in shards over HTTP (examples/shards.mjs): read by several ranks without overlap, shuffled, gone on with within an epoch. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  SequenceModel,
  type Batch,
  type DatasetPass,
  type Sample,
  type SequenceModelOptions,
} from '../index.js'
import { model, ranks } from './distributed-ranks.js'
import { difference } from './distributed-worker.js'

const { datasetOf, serve, tarFiles } = (await import(
  new URL('../../examples/shards.mjs', import.meta.url).href
)) as typeof import('./shards-example.js')

const folder = mkdtempSync(join(tmpdir(), 's4-shards-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** A stream in pieces of a size that fits nothing. */
async function* inPieces(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

test('files are read from what tar writes, and a cut archive is refused', async (t) => {
  const files = { 'a.txt': 'one', 'empty.txt': '', 'large.txt': 'x'.repeat(3000) }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  const archive = join(folder, 'some.tar')
  execFileSync('tar', ['--format=ustar', '-C', folder, '-cf', archive, ...Object.keys(files)])
  const bytes = readFileSync(archive)
  for (const size of [1, 511, 700, bytes.length]) {
    const read: Record<string, string> = {}
    for await (const { name, data } of tarFiles(inPieces(bytes, size)))
      read[name] = Buffer.from(data).toString()
    t.deepEqual(read, files)
  }
  const cut = async () => {
    for await (const { name } of tarFiles(inPieces(bytes.subarray(0, 2500), 100))) t.truthy(name)
  }
  await t.throwsAsync(cut(), { message: /ends within a file/ })
})

const pass = (epoch: number, rank: number, worldSize: number): DatasetPass => ({
  epoch,
  seed: 4,
  rank,
  worldSize,
  signal: undefined,
})
const options = { lr: 0.01, seed: 4, epochs: 2, batchSize: 4 }
const host = { device: 'cpu', dtype: 'f64', threads: 1 } as const

/** All examples of an epoch that a rank takes. */
async function examplesOf(urls: string[], at: DatasetPass): Promise<Sample[]> {
  const samples: Sample[] = []
  for await (const sample of datasetOf(urls, 10)(at)) samples.push(sample)
  return samples
}

test('two ranks with shards of their own are one rank with the joint batches', async (t) => {
  // Three shards of six: one rank has two of them, and its last batch is not whole.
  const { server, urls } = await serve(3, 6)
  const seen = new Set<string>()
  for (const rank of [0, 1])
    for (const { input } of await examplesOf(urls, pass(0, rank, 2))) seen.add(String(input.data))
  t.is(seen.size, 18)
  const all = await ranks(2, { examples: 1, shards: urls, train: options })
  const one = await SequenceModel.create({ ...(model as SequenceModelOptions), ...host })
  const joint = await Promise.all(
    [0, 1].map(async (epoch) => {
      const parts = await Promise.all([0, 1].map((rank) => examplesOf(urls, pass(epoch, rank, 2))))
      return [0, 1, 2].map((i) => batchOf(parts.flatMap((part) => part.slice(4 * i, 4 * i + 4))))
    }),
  )
  await one.fit(({ epoch }) => joint[epoch] as Batch[], { lr: 0.01, seed: 4, epochs: 2 })
  const parameters = one.parameters().flatMap(({ value }) => Array.from(value.data))
  for (const result of all) {
    t.is(result?.error, undefined)
    t.is(result?.steps, 6)
    t.true(difference(result?.parameters ?? [], parameters) < 1e-9)
    t.deepEqual(result?.parameters, all[0]?.parameters)
  }
  one.dispose()
  server.close()
})

/** Examples of one length as a batch. */
function batchOf(samples: Sample[]): Batch {
  const len = samples[0]?.input.shape[0] as number
  const data = Float64Array.from(samples.flatMap(({ input }) => Array.from(input.data as Float32Array)))
  return {
    input: { data, shape: [samples.length, len, 1] },
    target: samples.map(({ target }) => target as number),
  }
}

test('a run goes on within an epoch at the position where it ended', async (t) => {
  const { server, urls } = await serve(2, 8)
  const create = () => SequenceModel.create({ ...(model as SequenceModelOptions), ...host })
  const whole = await create()
  await whole.fit(datasetOf(urls, 5), options)
  const part = await create()
  for await (const event of part.train(datasetOf(urls, 5), options)) if (event.step === 6) break
  const path = join(folder, 'part.safetensors')
  await part.save(path, { optimizer: true })
  const rest = await SequenceModel.load(path, host)
  await rest.fit(datasetOf(urls, 5), { batchSize: 4, resume: true })
  t.is(rest.progress.steps, 8)
  t.deepEqual(
    rest.parameters().map(({ value }) => value.data),
    whole.parameters().map(({ value }) => value.data),
  )
  for (const one of [whole, part, rest]) one.dispose()
  server.close()
})

test('a function as dataset is told the epoch, and what it gives is checked', async (t) => {
  const one = await SequenceModel.create({ ...(model as SequenceModelOptions), ...host })
  const told: DatasetPass[] = []
  const batch = batchOf([{ input: { data: new Float32Array(9).fill(0.5), shape: [9, 1] }, target: 1 }])
  await one.fit(
    (at) => {
      told.push(at)
      return [batch]
    },
    { epochs: 2, seed: 7 },
  )
  const { signal: _, ...first } = told[0] as DatasetPass
  t.deepEqual(first, { epoch: 0, seed: 7, rank: 0, worldSize: 1 })
  t.deepEqual(
    told.map(({ epoch }) => epoch),
    [0, 1],
  )
  await t.throwsAsync(one.fit((() => 5) as never), { code: 'ERR_S4_DATA' })
  await t.throwsAsync(
    one.fit(() => {
      throw new RangeError('mine')
    }),
    { instanceOf: RangeError },
  )
  // The run before it is there still.
  t.is(one.progress.steps, 2)
  await one.fit(() => [batch], { resume: true, epochs: 3 })
  t.is(one.progress.steps, 3)
  one.dispose()
})
