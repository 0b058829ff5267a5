/** What a reader refuses as soon as it has read it: samples that are no numbers, tables that are all gaps. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { audioChunks, audioFolder, jsonlRows, pcmFrames, readAudio, readJsonl, tableFrom } from 's4-node/data'
import { rejects } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-refused-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** A WAV file of 32-bit floats, two channels, 8 kHz. */
function floatWav(samples: Float32Array): Buffer {
  const bytes = Buffer.alloc(44 + 4 * samples.length)
  bytes.write('RIFF', 0, 'latin1')
  bytes.writeUInt32LE(36 + 4 * samples.length, 4)
  bytes.write('WAVEfmt ', 8, 'latin1')
  bytes.writeUInt32LE(16, 16)
  bytes.writeUInt16LE(3, 20)
  bytes.writeUInt16LE(2, 22)
  bytes.writeUInt32LE(8000, 24)
  bytes.writeUInt32LE(64_000, 28)
  bytes.writeUInt16LE(8, 32)
  bytes.writeUInt16LE(32, 34)
  bytes.write('data', 36, 'latin1')
  bytes.writeUInt32LE(4 * samples.length, 40)
  samples.forEach((x, i) => bytes.writeFloatLE(x, 44 + 4 * i))
  return bytes
}

test('a float WAV file with a sample that is no number is refused, by file, sample and channel', async (t) => {
  const samples = Float32Array.from({ length: 200_000 }, (_, i) => Math.sin(i / 9))
  mkdirSync(join(folder, 'sounds', 'a'), { recursive: true })
  const whole = join(folder, 'whole.wav')
  writeFileSync(whole, floatWav(samples))
  t.is((await readAudio(whole, { sampleRate: 16_000, mono: true })).samples.length, 200_000)
  for (const value of [NaN, Infinity, -Infinity]) {
    const path = join(folder, 'sounds', 'a', 'broken.wav')
    writeFileSync(path, floatWav(samples.with(2 * 70_001 + 1, value)))
    const place = `${value} in sample 70001 of channel 1`
    for (const options of [{}, { mono: true }, { sampleRate: 16_000 }, { sampleRate: 5000, mono: true }]) {
      const { message } = await rejects(t, 'ERR_S4_DATA', readAudio(path, options))
      t.true(message.includes(path) && message.endsWith(`got ${place}`), message)
    }
    const walk = async (pieces: AsyncIterable<unknown>) => {
      let count = 0
      for await (const _ of pieces) count++
      return count
    }
    const chunks = walk(audioChunks(path, { length: 1, sampleRate: 4000, mono: true }))
    t.true((await rejects(t, 'ERR_S4_DATA', chunks)).message.endsWith(place))
    const found = await rejects(t, 'ERR_S4_DATA', walk(audioFolder(join(folder, 'sounds'))))
    t.true(found.message.includes(path) && found.message.endsWith(place), found.message)
    const raw = new Uint8Array(samples.with(2 * 70_001 + 1, value).buffer)
    const frames = walk(pcmFrames([raw], { format: 'f32le', channels: 2, frames: 1000 }))
    t.true((await rejects(t, 'ERR_S4_DATA', frames)).message.endsWith(`${value} in sample 70001`))
  }
})

test('rows of thousands of names that do not come again are refused before they fill the memory', async (t) => {
  const lines = (rows: number, name: (row: number) => string) =>
    Buffer.from(Array.from({ length: rows }, (_, row) => `{"${name(row)}":${row}}\n`).join(''))
  const before = process.memoryUsage().rss
  const path = join(folder, 'sparse.jsonl')
  writeFileSync(
    path,
    lines(50_000, (row) => `key${row}`),
  )
  // A place for each name in each row would be 2.5e9 of them, 20 GB.
  const { message } = await rejects(t, 'ERR_S4_DATA', readJsonl(path))
  // 4,097 rows of as many names are more than 2^24 places.
  t.regex(message, /sparse\.jsonl: row 4097: 4097 names so far, of 4097 values in 4097 rows$/)
  await rejects(t, 'ERR_S4_DATA', tableFrom(jsonlRows(path)))
  t.true(process.memoryUsage().rss - before < 2 ** 30, `${process.memoryUsage().rss - before} bytes more`)
  // A hundred names, each in every hundredth row, and a few thousand names in few rows are tables.
  const some = await readJsonl(lines(20_000, (row) => `key${row % 100}`))
  t.deepEqual([some.rows, some.names.length, some.columns['key7']![107]], [20_000, 100, 107])
  t.is((await readJsonl(lines(3000, (row) => `key${row}`))).names.length, 3000)
})
