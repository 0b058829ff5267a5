// CIFAR-10 as a sequence of 1,024 pixels: the binary version (data_batch_1.bin …), or class folders train/NAME/* and test/NAME/* of PNG or JPEG files.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readPictures } from 's4-node'
import { generator, shuffle } from './recipe-random.mjs'

const LENGTH = 32 * 32
const RECORD = 1 + 3 * LENGTH

/** Records of a label and planes of red, green and blue. */
function binary(folder, names) {
  return names.flatMap((name) => {
    const bytes = readFileSync(join(folder, name))
    if (bytes.length % RECORD !== 0) throw new Error(`${folder}/${name}: expected records of ${RECORD} bytes`)
    return Array.from({ length: bytes.length / RECORD }, (_, i) => {
      const record = bytes.subarray(i * RECORD, (i + 1) * RECORD)
      const pixels = new Uint8Array(3 * LENGTH)
      for (let k = 0; k < LENGTH; k++)
        for (let c = 0; c < 3; c++) pixels[3 * k + c] = record[1 + c * LENGTH + k]
      return { pixels, target: record[0], length: LENGTH }
    })
  })
}

/** Classes are the folders' names in alphabetical order, which is the order of the published labels. */
export async function pictureFolders(folder) {
  const files = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .toSorted()
    .flatMap((name, target) =>
      readdirSync(join(folder, name))
        .toSorted()
        .map((file) => ({ path: join(folder, name, file), target })),
    )
  const { pixels, width, height } = await readPictures(
    files.map((file) => file.path),
    { colours: 'rgb' },
  )
  if (width * height !== LENGTH) throw new Error(`${folder}: expected pictures of 32 × 32`)
  return files.map(({ target }, i) => ({
    pixels: pixels.subarray(i * 3 * LENGTH, (i + 1) * 3 * LENGTH),
    target,
    length: LENGTH,
  }))
}

/** Luminance with ITU-R BT.601's weights in 16 bits, as torchvision's Grayscale rounds it. */
export function grey(pixels) {
  const out = new Uint8Array(LENGTH)
  for (let k = 0; k < LENGTH; k++)
    out[k] = (19595 * pixels[3 * k] + 38470 * pixels[3 * k + 1] + 7471 * pixels[3 * k + 2] + 32768) >> 16
  return out
}

const GREY = { mean: [122.6 / 255], deviation: [61 / 255] }
const RGB = { mean: [0.4914, 0.4822, 0.4465], deviation: [0.247, 0.243, 0.261] }

/** A random tenth of the training pictures validates. With `grey` one value a pixel, else three. */
export async function cifar10(folder, { grey: wantsGrey = false, splitSeed = 42 } = {}) {
  const inside =
    ['cifar-10-batches-bin', 'cifar10'].map((name) => join(folder, name)).find(existsSync) ?? folder
  const binaries = existsSync(join(inside, 'test_batch.bin'))
  const all = binaries
    ? binary(
        inside,
        [1, 2, 3, 4, 5].map((n) => `data_batch_${n}.bin`),
      )
    : await pictureFolders(join(inside, 'train'))
  const test = binaries ? binary(inside, ['test_batch.bin']) : await pictureFolders(join(inside, 'test'))
  if (wantsGrey) for (const example of [...all, ...test]) example.pixels = grey(example.pixels)
  shuffle(all, generator(splitSeed))
  const held = Math.round(all.length / 10)
  const [validation, train] = [all.slice(0, held), all.slice(held)]
  const { mean, deviation } = wantsGrey ? GREY : RGB
  const channels = mean.length
  const scaled = mean.map((m, c) =>
    Float32Array.from({ length: 256 }, (_, value) => (value / 255 - m) / deviation[c]),
  )
  const values = ({ pixels }) => {
    const out = new Float32Array(pixels.length)
    for (let k = 0; k < out.length; k += channels)
      for (let c = 0; c < channels; c++) out[k + c] = scaled[c][pixels[k + c]]
    return out
  }
  return {
    kind: 'classes',
    classes: 10,
    model: { input: channels, output: 10 },
    train,
    values,
    validation: { name: 'validation', examples: validation, values },
    tests: [{ name: 'test', examples: test, values }],
    summary: { train: train.length, validation: validation.length, test: test.length, channels },
  }
}
