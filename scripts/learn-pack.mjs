// Makes compact copies of the data for a machine without a network: recordings as 8-bit µ-law WAV, MNIST's pictures as IDX.
//   node scripts/learn-pack.mjs digits|mnist FROM TO
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readWav } from './recipe-audio.mjs'
import { readGreyPng } from './recipe-png.mjs'

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

const [what, from, to] = process.argv.slice(2)
const packs = { digits: packDigits, mnist: packMnist }
if (!(what in packs) || to === undefined) {
  console.error('node scripts/learn-pack.mjs digits|mnist FROM TO')
  process.exit(2)
}
mkdirSync(to, { recursive: true })
packs[what](from, to)
