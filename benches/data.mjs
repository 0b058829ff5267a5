// The speed of the readers of s4-node/data, from files in the page cache: best of three. Run by `npm run bench -- data`.
import { mkdtempSync, rmSync, statSync, writeFileSync, mkdirSync, copyFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readPictures, SequenceModel } from 's4-node'
import {
  audioChunks,
  audioFolder,
  imageFolder,
  mapped,
  prefetch,
  readAudio,
  readTable,
  tableFrom,
  tableRows,
  windows,
} from 's4-node/data'

const folder = mkdtempSync(join(tmpdir(), 's4-bench-data-'))
let state = 1
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}
/** Speeds by the clock, and by the CPU time of this process, which other programs on the machine disturb less. */
async function best(amount, run) {
  let [clock, cpu] = [Infinity, Infinity]
  for (let i = 0; i < 3; i++) {
    const [begin, before] = [performance.now(), process.cpuUsage()]
    await run()
    clock = Math.min(clock, (performance.now() - begin) / 1e3)
    const { user, system } = process.cpuUsage(before)
    cpu = Math.min(cpu, (user + system) / 1e6)
  }
  return [amount / clock, amount / cpu]
}
const say = (what, [clock, cpu], unit) =>
  console.log(`${what.padEnd(50)}${clock.toFixed(0).padStart(9)} ${unit}, ${cpu.toFixed(0).padStart(9)} of CPU time`)
async function walk(items) {
  for await (const _ of items);
}

function table(dates, digits, rows = 400_000) {
  const file = join(folder, 'table.csv')
  const parts = [`${dates ? 'date,' : ''}HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n`]
  for (let i = 0; i < rows; i++) {
    const numbers = Array.from({ length: 7 }, () => (200 * random() - 100).toFixed(digits)).join(',')
    const date = dates ? `${new Date(9e11 + 36e5 * i).toISOString().slice(0, 19).replace('T', ' ')},` : ''
    parts.push(`${date}${numbers}\n`)
  }
  writeFileSync(file, parts.join(''))
  return { file, megabytes: statSync(file).size / 1e6 }
}

try {
  for (const [what, dates, digits] of [
    ['date and 7 numbers of 3 digits', true, 3],
    ['7 numbers of 3 digits', false, 3],
    ['7 numbers of 12 digits', false, 12],
  ]) {
    const { file, megabytes } = table(dates, digits)
    say(`CSV, ${what}: readTable`, await best(megabytes, () => readTable(file)), 'MB/s')
    say(`CSV, ${what}: tableRows`, await best(megabytes, () => walk(tableRows(file))), 'MB/s')
  }
  const frames = 40_000_000
  for (const bits of [16, 24]) {
    const bytes = Buffer.alloc(44 + (frames * bits) / 8)
    for (let i = 44; i < bytes.length; i += 4) bytes.writeUInt32LE((random() * 2 ** 32) >>> 0, Math.min(i, bytes.length - 4))
    bytes.write('RIFF\xff\xff\xff\xffWAVEfmt ', 0, 'latin1')
    bytes.writeUInt32LE(16, 16)
    bytes.writeUInt32LE(0x10001, 20)
    bytes.writeUInt32LE(16_000, 24)
    bytes.writeUInt32LE((16_000 * bits) / 8, 28)
    bytes.writeUInt32LE((bits << 16) | (bits / 8), 32)
    bytes.write('data', 36)
    bytes.writeUInt32LE((frames * bits) / 8, 40)
    const file = join(folder, 'sound.wav')
    writeFileSync(file, bytes)
    say(`WAV of ${bits} bits: readAudio`, await best(bytes.length / 1e6, () => readAudio(file)), 'MB/s')
    say(`WAV of ${bits} bits: audioChunks`, await best(bytes.length / 1e6, () => walk(audioChunks(file, { length: 10 }))), 'MB/s')
  }
  const picture = fileURLToPath(new URL('../crates/data/tests/files/rgb.jpg', import.meta.url))
  mkdirSync(join(folder, 'jpegs', 'a'), { recursive: true })
  const paths = Array.from({ length: 5000 }, (_, i) => join(folder, 'jpegs', 'a', `${i}.jpg`))
  for (const path of paths) copyFileSync(picture, path)
  say('JPEG of 32 × 32: readPictures', await best(paths.length, () => readPictures(paths)), 'pictures/s')
  say('JPEG of 32 × 32: imageFolder', await best(paths.length, () => walk(imageFolder(join(folder, 'jpegs')))), 'pictures/s')
  const columns = Object.fromEntries(Array.from({ length: 7 }, (_, c) => [`x${c}`, Float64Array.from({ length: 17_420 }, random)]))
  const cut = windows(await tableFrom(columns), { length: 336, horizon: 96 })
  say('windows of 336 × 7, 96 × 7 ahead', await best(cut.length, () => [...cut]), 'windows/s')

  // A training fed from files beside one fed from memory, in turns.
  const sounds = join(folder, 'sounds')
  mkdirSync(join(sounds, 'a'), { recursive: true })
  const wav = Buffer.alloc(44 + 2 * 4000)
  wav.write('RIFF\xff\xff\xff\xffWAVEfmt ', 0, 'latin1')
  wav.writeUInt32LE(16, 16)
  wav.writeUInt32LE(0x10001, 20)
  wav.writeUInt32LE(16_000, 24)
  wav.writeUInt32LE(32_000, 28)
  wav.writeUInt32LE(0x100002, 32)
  wav.write('data', 36)
  wav.writeUInt32LE(2 * 4000, 40)
  for (let i = 0; i < 512; i++) {
    for (let k = 0; k < 4000; k++) wav.writeInt16LE(Math.floor(65_535 * random()) - 32_768, 44 + 2 * k)
    writeFileSync(join(sounds, 'a', `${i}.wav`), wav)
  }
  const files = prefetch(mapped(audioFolder(sounds), ({ input }, i) => ({ input, target: i % 2 })), 64)
  const memory = []
  for await (const example of files) memory.push(example)
  const model = await SequenceModel.create({ input: 1, output: 2, features: 32, layers: 2, state: 32, pooling: 'mean', device: 'cpu' })
  const taken = { memory: [Infinity, Infinity], files: [Infinity, Infinity] }
  for (let i = 0; i < 4; i++)
    for (const [name, dataset] of Object.entries({ memory, files })) {
      const [begin, before] = [performance.now(), process.cpuUsage()]
      await model.fit(dataset, { batchSize: 32 })
      const { user, system } = process.cpuUsage(before)
      taken[name] = [(performance.now() - begin) / 1e3, (user + system) / 1e6].map((x, k) => Math.min(x, taken[name][k]))
    }
  model.dispose()
  const ratio = (k) => (100 * (taken.files[k] / taken.memory[k] - 1)).toFixed(1)
  console.log(
    `training on 512 recordings of 4,000 samples: ${taken.memory[0].toFixed(2)} s from memory, ${taken.files[0].toFixed(2)} s from files, ` +
      `${ratio(0)} % more (CPU time ${ratio(1)} % more)`,
  )
} finally {
  rmSync(folder, { recursive: true })
}
