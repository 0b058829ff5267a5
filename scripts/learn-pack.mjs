// Makes compact copies of the data for a machine without a network: recordings as 8-bit µ-law WAV, MNIST's pictures as IDX, IMDB's
// reviews as words in the files of the recipes' reader `words`, CIFAR-10's pictures in colour or grey (learn-pictures.mjs) and back.
//   node scripts/learn-pack.mjs digits|mnist|words|cifar|greycifar|uncifar FROM TO
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readWav } from './recipe-audio.mjs'
import { readGreyPng } from './recipe-png.mjs'
import { generator, shuffle } from './recipe-random.mjs'

/** The 8-bit µ-law code (ITU-T G.711) of a sample in −1 … 1: the nearest of 255 values on a logarithmic scale. */
function toMuLaw(sample) {
  const value = Math.round(sample * 32768)
  const magnitude = Math.min(Math.abs(value), 32635) + 0x84
  const exponent = Math.floor(Math.log2(magnitude)) - 7
  const mantissa = (magnitude >> (exponent + 3)) & 0x0f
  return ~((value < 0 ? 0x80 : 0) | (exponent << 4) | mantissa) & 0xff
}

function packDigits(from, to) {
  for (const name of readdirSync(from).filter((n) => n.endsWith('.wav'))) {
    const { rate, samples } = readWav(join(from, name))
    const head = Buffer.alloc(44)
    head.write('RIFF', 0)
    head.writeUInt32LE(36 + samples.length, 4)
    head.write('WAVEfmt ', 8)
    head.writeUInt32LE(16, 16)
    head.writeUInt16LE(7, 20)
    head.writeUInt16LE(1, 22)
    head.writeUInt32LE(rate, 24)
    head.writeUInt32LE(rate, 28)
    head.writeUInt16LE(1, 32)
    head.writeUInt16LE(8, 34)
    head.write('data', 36)
    head.writeUInt32LE(samples.length, 40)
    writeFileSync(join(to, name), Buffer.concat([head, Buffer.from(Uint8Array.from(samples, toMuLaw))]))
  }
}

function packMnist(from, to, trainCount = 8000) {
  const names = readdirSync(from)
    .filter((name) => /num\d\.png$/.test(name))
    .toSorted()
  for (const [stem, part] of [
    ['train', names.slice(0, trainCount)],
    ['t10k', names.slice(trainCount)],
  ]) {
    const images = Buffer.alloc(16)
    ;[0x803, part.length, 28, 28].forEach((x, i) => images.writeUInt32BE(x, 4 * i))
    const labels = Buffer.alloc(8)
    ;[0x801, part.length].forEach((x, i) => labels.writeUInt32BE(x, 4 * i))
    const pixels = part.map((name) => readGreyPng(readFileSync(join(from, name))).pixels)
    writeFileSync(join(to, `${stem}-images-idx3-ubyte`), Buffer.concat([images, ...pixels]))
    const answers = part.map((name) => Number(/num(\d)\.png$/.exec(name)[1]))
    writeFileSync(join(to, `${stem}-labels-idx1-ubyte`), Buffer.concat([labels, Buffer.from(answers)]))
  }
}

/** The words of a review: lower case, numbers and words with their apostrophes, each other character by itself; no line breaks. */
const wordsOf = (text) =>
  text
    // Control and format characters too: what counts as white space among them differs between languages.
    .replaceAll(/<br ?\/?>|[\p{Cc}\p{Cf}]/gu, ' ')
    .toLowerCase()
    .match(/[\p{L}\p{N}]+(?:'\p{L}+)*|[^\s\p{L}\p{N}]/gu) ?? []

/**
 * IMDB's reviews, one a line, in an order drawn once: of the training reviews every twentieth validates, of the test reviews every tenth
 * tests.
 * Of the words of train.txt the 9,998 most frequent stay, all others are `<unk>`; with that and `<eos>` they are 10,000.
 */
function packWords(from, to, kept = 9998) {
  const read = (part) =>
    ['neg', 'pos'].flatMap((name) =>
      readdirSync(join(from, part, name))
        .filter((file) => file.endsWith('.txt'))
        .toSorted()
        .map((file) => wordsOf(readFileSync(join(from, part, name, file), 'utf8'))),
    )
  const drawn = (part, seed) => shuffle(read(part), generator(seed))
  const [all, tests] = [drawn('train', 1), drawn('test', 2)]
  const parts = {
    train: all.filter((_, i) => i % 20 !== 0),
    valid: all.filter((_, i) => i % 20 === 0),
    test: tests.filter((_, i) => i % 10 === 0),
  }
  const counts = new Map()
  for (const review of parts.train) for (const word of review) counts.set(word, (counts.get(word) ?? 0) + 1)
  const frequent = [...counts].toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, kept)
  const known = new Set(frequent.map(([word]) => word))
  for (const [part, reviews] of Object.entries(parts)) {
    const lines = reviews.map((review) => review.map((word) => (known.has(word) ? word : '<unk>')).join(' '))
    writeFileSync(join(to, `${part}.txt`), `${lines.join('\n')}\n`)
  }
}

const [what, from, to] = process.argv.slice(2)
/** Reads pictures with the built addon, which the other packs do not need. */
const pictures = () => import('./learn-pictures.mjs')
const packs = {
  digits: packDigits,
  mnist: packMnist,
  words: packWords,
  cifar: async (a, b) => (await pictures()).packPictures(a, b),
  greycifar: async (a, b) => (await pictures()).packPictures(a, b, { asGrey: true }),
  uncifar: async (a, b) => (await pictures()).unpackPictures(a, b),
}
if (!(what in packs) || to === undefined) {
  console.error(`node scripts/learn-pack.mjs ${Object.keys(packs).join('|')} FROM TO`)
  process.exit(2)
}
mkdirSync(to, { recursive: true })
await packs[what](from, to)
