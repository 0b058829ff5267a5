// The density of MNIST's pictures, pixel by pixel: 784 grey levels of 256, of which each is predicted from those before it.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SIDE, mnistPictures, moved } from './recipe-images.mjs'
import { pngOf } from './recipe-png.mjs'

const LENGTH = SIDE * SIDE
/** What stands before the first pixel: black, as the first pixel of nearly every picture is. */
const START = 0

/** Inputs and labels of pictures: pixel t is the label of step t, whose input is pixel t − 1. */
export function pixelBatch(pictures) {
  const shape = [pictures.length, LENGTH]
  const [data, target] = [new Int32Array(pictures.length * LENGTH), new Int32Array(pictures.length * LENGTH)]
  pictures.forEach((pixels, row) => {
    data[row * LENGTH] = START
    data.set(pixels.subarray(0, LENGTH - 1), row * LENGTH + 1)
    target.set(pixels, row * LENGTH)
  })
  return { input: { data, shape }, target: { data: target, shape } }
}

/** Pictures that the model draws, pixel by pixel, as one PNG with `columns` of them in a row; gives the PNG and the time of it. */
async function drawn(model, { count, columns, seed }) {
  const pixels = new Uint8Array(Math.ceil(count / columns) * SIDE * columns * SIDE)
  const width = columns * SIDE
  const began = performance.now()
  let at = 0
  const prompts = Array.from({ length: count }, () => [START])
  for await (const { tokens } of model.generate(prompts, { maxTokens: LENGTH, seed })) {
    const [y, x] = [Math.floor(at / SIDE), at % SIDE]
    tokens.forEach((grey, i) => {
      pixels[(Math.floor(i / columns) * SIDE + y) * width + (i % columns) * SIDE + x] = grey
    })
    at++
  }
  const seconds = (performance.now() - began) / 1000
  return { png: pngOf({ width, height: pixels.length / width, pixels }), seconds }
}

/**
 * The data set of pixels. Pictures are those of {@link mnistPictures}; the last `validationCount` of the training pictures validate.
 * `shift` moves each training picture by up to so many pixels, which costs a model that learns all places alike log₂(2·shift + 1)²
 * bits a picture. At the end of a run `samples` pictures are drawn into samples.png.
 */
export function mnistDensity(
  folder,
  { trainCount = 8000, validationCount = 500, shift = 0, samples = 100 } = {},
) {
  const { train: all, test } = mnistPictures(folder, trainCount)
  for (const example of [...all, ...test]) example.length = LENGTH
  const train = all.slice(0, all.length - validationCount)
  const validation = all.slice(all.length - validationCount)
  const step = (random) => Math.floor(random() * (2 * shift + 1)) - shift
  const picture = ({ pixels }, random) =>
    random === undefined || shift === 0 ? pixels : moved(pixels, step(random), step(random))
  return {
    kind: 'tokens',
    model: { encoder: 'embedding', vocabulary: 256, output: 256 },
    train,
    batch: (group, random) => pixelBatch(group.map((example) => picture(example, random))),
    validation: { name: 'validation', examples: validation },
    tests: [{ name: 'test', examples: test }],
    async finish(model, out, seed) {
      const columns = Math.ceil(Math.sqrt(samples))
      const { png, seconds } = await drawn(model, { count: samples, columns, seed })
      writeFileSync(join(out, 'samples.png'), png)
      return { samples: { file: 'samples.png', count: samples, seconds } }
    },
    summary: { train: train.length, validation: validation.length, test: test.length, length: LENGTH },
  }
}
