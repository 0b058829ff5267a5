// Pictures without loss for a machine without a network: each number less what its neighbours say of it, which xz makes half as large.
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { grey, pictureFolders } from './recipe-cifar.mjs'

const SIDE = 32
const LENGTH = SIDE * SIDE
/** Pictures of one of the files of CIFAR-10's binary version. */
const OF_FILE = 10_000

/** What the pixel k of a plane is expected to be: the median of left, above, and left + above − above left (LOCO-I). */
function expected(plane, k) {
  const [left, above] = [k % SIDE === 0 ? 0 : plane[k - 1], k < SIDE ? 0 : plane[k - SIDE]]
  if (k < SIDE) return left
  if (k % SIDE === 0) return above
  const corner = plane[k - SIDE - 1]
  if (corner >= Math.max(left, above)) return Math.min(left, above)
  if (corner <= Math.min(left, above)) return Math.max(left, above)
  return left + above - corner
}

/** Differences modulo 256, in place of the plane's numbers; and back. */
function toDifferences(plane) {
  for (let k = LENGTH - 1; k >= 0; k--) plane[k] -= expected(plane, k)
}
function fromDifferences(plane) {
  for (let k = 0; k < LENGTH; k++) plane[k] += expected(plane, k)
}

/**
 * Class folders of pictures of 32 × 32 as the files that `unpackPictures` reads: labels, then planes. Grey ones have one plane, which a recipe of
 * grey pictures makes of theirs; coloured ones green, and red and blue less green.
 */
export async function packPictures(from, to, { asGrey = false } = {}) {
  for (const part of ['train', 'test']) {
    const pictures = await pictureFolders(join(from, part))
    writeFileSync(
      join(to, `${part}.labels`),
      Uint8Array.from(pictures, ({ target }) => target),
    )
    const planesOf = ({ pixels }) => {
      const of = (c) => Uint8Array.from({ length: LENGTH }, (_, k) => pixels[3 * k + c])
      if (asGrey) return [grey(pixels)]
      const [red, green, blue] = [of(0), of(1), of(2)]
      return [green, red.map((x, k) => x - green[k]), blue.map((x, k) => x - green[k])]
    }
    const files = (asGrey ? ['grey'] : ['green', 'red', 'blue']).map((name) =>
      openSync(join(to, `${part}.${name}`), 'w'),
    )
    for (const picture of pictures)
      for (const [i, plane] of planesOf(picture).entries()) {
        toDifferences(plane)
        writeSync(files[i], plane)
      }
    for (const file of files) closeSync(file)
  }
}

/** What `packPictures` has written, as CIFAR-10's binary version in the order of the folders; grey pictures with three equal planes. */
export function unpackPictures(from, to) {
  mkdirSync(to, { recursive: true })
  for (const part of ['train', 'test']) {
    const labels = readFileSync(join(from, `${part}.labels`))
    const isGrey = readdirSync(from).includes(`${part}.grey`)
    const files = (isGrey ? ['grey'] : ['red', 'green', 'blue']).map((name) =>
      openSync(join(from, `${part}.${name}`), 'r'),
    )
    const records = Buffer.alloc(Math.min(OF_FILE, labels.length) * (1 + 3 * LENGTH))
    const plane = () => new Uint8Array(LENGTH)
    for (const [i, label] of labels.entries()) {
      const planes = files.map((file) => {
        const one = plane()
        if (readSync(file, one) !== LENGTH) throw new Error(`${from}: ${part} ends within a picture`)
        fromDifferences(one)
        return one
      })
      const [red, green = red, blue = red] = planes
      const at = (i % OF_FILE) * (1 + 3 * LENGTH)
      records[at] = label
      records.set(isGrey ? red : red.map((x, k) => x + green[k]), at + 1)
      records.set(green, at + 1 + LENGTH)
      records.set(isGrey ? blue : blue.map((x, k) => x + green[k]), at + 1 + 2 * LENGTH)
      if (i % OF_FILE === OF_FILE - 1 || i === labels.length - 1) {
        const name = part === 'test' ? 'test_batch.bin' : `data_batch_${Math.floor(i / OF_FILE) + 1}.bin`
        writeFileSync(join(to, name), records.subarray(0, at + 1 + 3 * LENGTH))
      }
    }
    for (const file of files) closeSync(file)
  }
}
