// Miniature data in the files that the readers read, and a recipe shrunk to it: `--smoke` runs every recipe in seconds, on a CPU.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generators } from 's4-node'
import { generator, normal } from './recipe-random.mjs'

const EXAMPLES = { train: 40, test: 16 }

function reviews(folder) {
  const random = generator(1)
  const words = [
    ['dull', 'bad', 'slow'],
    ['fine', 'good', 'bright'],
  ]
  for (const [part, count] of Object.entries(EXAMPLES))
    for (const [target, name] of ['neg', 'pos'].entries()) {
      const inside = join(folder, part, name)
      mkdirSync(inside, { recursive: true })
      for (let i = 0; i < count / 2; i++) {
        const text = Array.from({ length: 20 + i }, () => words[target][Math.floor(random() * 3)]).join(' ')
        writeFileSync(join(inside, `${i}_${1 + 9 * target}.txt`), `A ${text} film.`)
      }
    }
}

/** Tones whose pitch is the digit: two speakers, numbers 0 to 7, of which the first five test. */
function recordings(folder) {
  const random = generator(2)
  const count = 800
  for (let digit = 0; digit < 10; digit++)
    for (const speaker of ['theo', 'lucas'])
      for (let number = 0; number < 8; number++) {
        const file = Buffer.alloc(44 + 2 * count)
        file.write('RIFF', 0)
        file.writeUInt32LE(36 + 2 * count, 4)
        file.write('WAVEfmt ', 8)
        file.writeUInt32LE(16, 16)
        file.writeUInt16LE(1, 20)
        file.writeUInt16LE(1, 22)
        file.writeUInt32LE(8000, 24)
        file.writeUInt32LE(16000, 28)
        file.writeUInt16LE(2, 32)
        file.writeUInt16LE(16, 34)
        file.write('data', 36)
        file.writeUInt32LE(2 * count, 40)
        for (let t = 0; t < count; t++)
          file.writeInt16LE(
            Math.round(8000 * Math.sin(0.05 * (digit + 1) * t) + 300 * normal(random)),
            44 + 2 * t,
          )
        writeFileSync(join(folder, `${digit}_${speaker}_${number}.wav`), file)
      }
}

/** Twenty months of hours: a daily wave with noise in each of the seven columns. */
function series(folder, { file }) {
  const random = generator(3)
  const names = ['HUFL', 'HULL', 'MUFL', 'MULL', 'LUFL', 'LULL', 'OT']
  const lines = [`date,${names.join(',')}`]
  const begin = Date.UTC(2016, 6, 1)
  for (let hour = 0; hour < 20 * 30 * 24; hour++) {
    const date = new Date(begin + hour * 3_600_000).toISOString().slice(0, 19).replace('T', ' ')
    const values = names.map((_, k) => (k + Math.sin(hour / 3.82 + k) + 0.2 * normal(random)).toFixed(3))
    lines.push(`${date},${values.join(',')}`)
  }
  writeFileSync(join(folder, file), `${lines.join('\n')}\n`)
}

/** Random pictures with a bright row that is the label's. */
function digits(folder) {
  const random = generator(4)
  for (const [stem, count] of [
    ['train', EXAMPLES.train],
    ['t10k', EXAMPLES.test],
  ]) {
    const images = Buffer.alloc(16 + count * 784)
    ;[0x803, count, 28, 28].forEach((x, i) => images.writeUInt32BE(x, 4 * i))
    const labels = Buffer.alloc(8 + count)
    ;[0x801, count].forEach((x, i) => labels.writeUInt32BE(x, 4 * i))
    for (let i = 0; i < count; i++) {
      labels[8 + i] = i % 10
      for (let k = 0; k < 784; k++)
        images[16 + i * 784 + k] = Math.floor(k / 56) === i % 10 ? 220 : Math.floor(random() * 60)
    }
    writeFileSync(join(folder, `${stem}-images-idx3-ubyte`), images)
    writeFileSync(join(folder, `${stem}-labels-idx1-ubyte`), labels)
  }
}

/** Random pictures whose colour is the label's. */
function colours(folder) {
  const random = generator(5)
  const batch = (count) => {
    const bytes = Buffer.alloc(count * 3073)
    for (let i = 0; i < count; i++) {
      bytes[i * 3073] = i % 10
      for (let k = 0; k < 3072; k++)
        bytes[i * 3073 + 1 + k] = 20 * (i % 10) + Math.floor(random() * 50) + (k < 1024 ? 20 : 0)
    }
    return bytes
  }
  for (let n = 1; n <= 5; n++) writeFileSync(join(folder, `data_batch_${n}.bin`), batch(EXAMPLES.train / 4))
  writeFileSync(join(folder, 'test_batch.bin'), batch(EXAMPLES.test))
}

async function expressions(folder) {
  const { tokens, offsets, labels, words } = await generators.listops({ count: 72, seed: 6 })
  const line = (row) =>
    `${Array.from(tokens.subarray(offsets[row], offsets[row + 1]), (token) => words[token]).join(' ')}\t${labels[row]}`
  const rows = Array.from(labels, (_, row) => line(row))
  for (const [part, from, to] of [
    ['train', 0, 40],
    ['val', 40, 56],
    ['test', 56, 72],
  ])
    writeFileSync(join(folder, `basic_${part}.tsv`), `Source\tTarget\n${rows.slice(from, to).join('\n')}\n`)
}

async function paths(folder, { name = 'pathfinder' }) {
  const count = 60
  const { pixels, labels, side } = await generators[name]({ count, seed: 7 })
  for (const [file, shape, bytes] of [
    ['pictures', `${count}, ${side}, ${side}`, pixels],
    ['labels', `${count},`, labels],
  ]) {
    const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape}), }`.padEnd(117)
    const head = Buffer.from(`\x93NUMPY\x01\x00\x76\x00${text}\n`, 'latin1')
    writeFileSync(join(folder, `${file}.npy`), Buffer.concat([head, bytes]))
  }
}

/** Texts in which a word tells the next one. */
function sentences(folder) {
  const random = generator(8)
  for (const [part, count] of [
    ['train', 60],
    ['valid', 20],
    ['test', 20],
  ]) {
    const lines = Array.from({ length: count }, () => {
      const first = Math.floor(random() * 12)
      return ` ${Array.from({ length: 9 }, (_, i) => `w${(first * (i + 1)) % 13}`).join(' ')} <unk> `
    })
    writeFileSync(join(folder, `${part}.txt`), `${lines.join('\n')}\n`)
  }
}

const MAKERS = {
  'acl-imdb': reviews,
  cifar10: colours,
  digits: recordings,
  ett: series,
  listops: expressions,
  mnist: digits,
  'mnist-density': digits,
  pathfinder: paths,
  words: sentences,
}

/** Settings of a reader that fit the miniature data. */
const SMALL_DATA = {
  digits: ({ leaveOut }) => (leaveOut === undefined ? {} : { leaveOut: 'theo' }),
  'mnist-density': () => ({ validationCount: 8, samples: 4 }),
  words: () => ({ window: 16, stride: 8 }),
}

/** Fills a folder with data for the recipe's reader. */
export async function makeMiniature(recipe, folder) {
  mkdirSync(folder, { recursive: true })
  await MAKERS[recipe.data.reader](folder, recipe.data)
}

/** The recipe with a model of two narrow layers, two epochs of a few batches, and all its other settings. */
export function shrunk(recipe) {
  const { model, train, data } = recipe
  const small = { features: 8, layers: 2, state: Math.min(model.state, 8), threads: 1 }
  return {
    ...recipe,
    data: { ...data, ...SMALL_DATA[data.reader]?.(data) },
    model: { ...model, ...small, ...(model.nSsm === undefined ? {} : { nSsm: Math.min(model.nSsm, 8) }) },
    train: { ...train, epochs: 2, batchSize: 8, testBatchSize: 8, batchesPerEpoch: 4 },
  }
}
