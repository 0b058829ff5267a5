// Data larger than memory: tar shards over HTTP, read by every rank in parts, shuffled in a buffer of bounded size. Alone or by a launcher:
// node shards.mjs [URL …], torchrun --no-python --nproc-per-node=2 node shards.mjs. Without URLs it serves shards that it makes itself.
import { createServer } from 'node:http'
import { joinGroup, SequenceModel } from 's4-node'
import { shuffled } from 's4-node/data'

/** The files of a tar archive (ustar), as it arrives. */
export async function* tarFiles(stream) {
  let bytes = Buffer.alloc(0)
  let ended = false
  const pieces = stream[Symbol.asyncIterator]()
  const take = async (count) => {
    const parts = [bytes]
    let length = bytes.length
    while (length < count && !ended) {
      const { done, value } = await pieces.next()
      ended = done === true
      if (!ended) length += parts[parts.push(value) - 1].length
    }
    const all = Buffer.concat(parts)
    if (all.length < count)
      throw new Error(`a tar archive that ends within a file, after ${all.length} of ${count} bytes`)
    bytes = all.subarray(count)
    return all.subarray(0, count)
  }
  for (;;) {
    const header = await take(512)
    // Two blocks of zeros are the end.
    if (header.every((byte) => byte === 0)) return
    const text = (from, to) => header.toString('utf8', from, to).replace(/\0.*$/s, '')
    const size = parseInt(text(124, 136), 8)
    if (text(257, 262) !== 'ustar' || !(size >= 0)) throw new Error('no tar archive in the format ustar')
    const data = (await take(Math.ceil(size / 512) * 512)).subarray(0, size)
    // Type 0 is a file; directories and notes on the next file are not.
    if (header[156] === 0 || header[156] === 48) yield { name: `${text(345, 500)}${text(0, 100)}`, data }
  }
}

/** The examples of shards, one shard after the other: a file `CLASS.f32` holds numbers in 32 bits. */
export async function* examplesOf(urls, signal) {
  for (const url of urls) {
    const response = await fetch(url, { signal })
    if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`)
    for await (const { name, data } of tarFiles(response.body)) {
      const target = Number(/(\d+)\.f32$/.exec(name)?.[1] ?? NaN)
      const values = new Float32Array(new Uint8Array(data).buffer)
      yield { input: { data: values, shape: [values.length, 1] }, target }
    }
  }
}

/** The dataset of every epoch: each rank reads shards of its own, in another order in every epoch. */
export const datasetOf =
  (urls, buffer = 1000) =>
  ({ epoch, seed, rank, worldSize, signal }) => {
    // By another start in each epoch a rank does not have the same shards always.
    const own = urls.filter((_, i) => (i + epoch) % worldSize === rank)
    return shuffled(
      { [Symbol.asyncIterator]: () => examplesOf(own, signal) },
      { buffer, seed: seed + rank, epoch },
    )
  }

/** A tar archive of these files. */
export function tarOf(files) {
  const blocks = files.flatMap(({ name, data }) => {
    const header = Buffer.alloc(512)
    header.write(name, 0)
    header.write(data.length.toString(8).padStart(11, '0'), 124)
    header.write('0', 156)
    header.write('ustar', 257)
    return [header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}

/** A server of shards with sines of three frequencies; gives their URLs. */
export async function serve(shards = 4, examples = 32) {
  const server = createServer((request, response) => {
    const shard = Number(/^\/shard-(\d+)\.tar$/.exec(request.url)?.[1] ?? NaN)
    if (!(shard < shards)) return response.writeHead(404).end()
    const files = Array.from({ length: examples }, (_, i) => {
      const number = shard * examples + i
      const values = Float32Array.from({ length: 64 }, (__, t) =>
        Math.sin(0.1 * (1 + (number % 3)) * t + number),
      )
      return { name: `${number}/${number % 3}.f32`, data: Buffer.from(values.buffer) }
    })
    response.end(tarOf(files))
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${server.address().port}`
  return { server, urls: Array.from({ length: shards }, (_, i) => `${address}/shard-${i}.tar`) }
}

if (process.argv[1] === import.meta.filename) {
  const own = process.argv.length > 2 ? undefined : await serve()
  const urls = own?.urls ?? process.argv.slice(2)
  const group = await joinGroup()
  const options = {
    input: 1,
    output: 3,
    features: 32,
    layers: 2,
    state: 16,
    pooling: 'mean',
    device: group.device,
  }
  const model = await SequenceModel.create(options)
  const run = { epochs: 4, batchSize: 8, lr: 4e-3, checkpoint: 'shards.safetensors', distributed: group }
  for await (const e of model.train(datasetOf(urls), run))
    if (e.type === 'epoch' && group.rank === 0)
      console.log(`epoch ${e.epoch}: loss ${e.loss}, accuracy ${e.accuracy}`)
  await group.close()
  own?.server.close()
}
