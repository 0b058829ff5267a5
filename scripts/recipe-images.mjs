// MNIST as a sequence of 784 pixels: IDX files as published, or a folder of PNG pictures named …-numLABEL.png.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { readGreyPng } from './recipe-png.mjs'
import { generator, shuffle } from './recipe-random.mjs'

export const SIDE = 28

function idx(folder, stem) {
  const file = [stem, `${stem}.gz`].map((name) => join(folder, name)).find(existsSync)
  if (file === undefined) return undefined
  const bytes = readFileSync(file)
  return file.endsWith('.gz') ? gunzipSync(bytes) : bytes
}

/** Pictures and labels of one IDX pair (magic numbers 0x803 and 0x801, big-endian sizes). */
function idxPair(folder, stem) {
  const [images, labels] = [
    idx(folder, `${stem}-images-idx3-ubyte`),
    idx(folder, `${stem}-labels-idx1-ubyte`),
  ]
  if (images === undefined || labels === undefined) return undefined
  if (images.readUInt32BE(0) !== 0x803 || labels.readUInt32BE(0) !== 0x801)
    throw new Error(`${folder}: ${stem} is not an IDX pair`)
  return Array.from({ length: images.readUInt32BE(4) }, (_, i) => ({
    pixels: images.subarray(16 + i * SIDE * SIDE, 16 + (i + 1) * SIDE * SIDE),
    target: labels[8 + i],
  }))
}

function pngFolder(folder) {
  return readdirSync(folder)
    .filter((name) => /num\d\.png$/.test(name))
    .toSorted()
    .map((name) => ({
      pixels: readGreyPng(readFileSync(join(folder, name))).pixels,
      target: Number(/num(\d)\.png$/.exec(name)[1]),
    }))
}

/**
 * Training and test pictures: with IDX files the published 60,000 and 10,000, with a folder of pictures the first `trainCount` by name and the
 * others.
 */
export function mnistPictures(folder, trainCount) {
  const [train, test] = [idxPair(folder, 'train'), idxPair(folder, 't10k')]
  if (train !== undefined && test !== undefined) return { train, test }
  const all = pngFolder(folder)
  if (all.length <= trainCount)
    throw new Error(`${folder}: ${all.length} pictures, more than ${trainCount} are needed`)
  return { train: all.slice(0, trainCount), test: all.slice(trainCount) }
}

/** A picture moved by dx and dy pixels; pixels that come in at the edge are black. */
export function moved(pixels, dx, dy) {
  const out = new Uint8Array(SIDE * SIDE)
  for (let y = Math.max(0, dy); y < Math.min(SIDE, SIDE + dy); y++)
    for (let x = Math.max(0, dx); x < Math.min(SIDE, SIDE + dx); x++)
      out[y * SIDE + x] = pixels[(y - dy) * SIDE + x - dx]
  return out
}

/**
 * The MNIST data set: with IDX files the published 60,000 training and 10,000 test pictures, with a folder of pictures the first
 * `trainCount` by name as training set and the others as test set. `shift` moves each training picture by up to so many pixels;
 * `permute` then takes the pixels in one fixed random order.
 */
export function mnist(
  folder,
  { permute = false, permutationSeed = 92916, shift = 0, trainCount = 8000 } = {},
) {
  const { train, test } = mnistPictures(folder, trainCount)
  const order = Array.from({ length: SIDE * SIDE }, (_, i) => i)
  if (permute) shuffle(order, generator(permutationSeed))
  const scaled = Float32Array.from({ length: 256 }, (_, value) => (value / 255 - 0.1307) / 0.3081)
  const values = (pixels) => {
    const out = new Float32Array(SIDE * SIDE)
    for (let i = 0; i < out.length; i++) out[i] = scaled[pixels[order[i]]]
    return out
  }
  const plain = (example) => values(example.pixels)
  const step = (random) => Math.floor(random() * (2 * shift + 1)) - shift
  for (const example of [...train, ...test]) example.length = SIDE * SIDE
  return {
    kind: 'classes',
    classes: 10,
    model: { input: 1, output: 10 },
    train,
    values:
      shift > 0 ? (example, random) => values(moved(example.pixels, step(random), step(random))) : plain,
    tests: [{ name: 'test', examples: test, values: plain }],
    summary: { train: train.length, test: test.length },
  }
}
