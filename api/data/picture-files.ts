// Pictures with their classes that are many in a file: IDX pairs, as MNIST has them, and CIFAR-10's binary files.
import { types } from 'node:util'
import { listOf, rejectUnknownOptions, textOf, type FilePath } from '../check.js'
import type { AbortOptions } from '../background.js'
import { fail } from '../error.js'
import type { TensorLike } from '../tensor.js'
import { readCifar10, readIdx, type FileArray } from './arrays.js'
import { shares } from './folders.js'
import { givenSource, nameOf, type DataSource } from './source.js'

/** A picture with its class. */
export interface PictureExample {
  /** (height, width, channels), from 0 to 1. All pictures of a call share their memory. */
  input: TensorLike
  /** Its class. */
  label: string | number
}

/** Options of {@link cifar10Examples}. */
export interface CifarExampleOptions extends AbortOptions {
  /** Names of the ten classes, in the order of their numbers (`batches.meta.txt`). Default the numbers. */
  names?: readonly string[]
}

/** Pictures of one size, one after the other, as examples. */
function examplesOf(
  pixels: Float32Array,
  shape: readonly number[],
  labels: ArrayLike<string | number>,
): PictureExample[] {
  const size = shape.reduce((a, b) => a * b, 1)
  return Array.from(labels, (label, i) => ({
    input: { data: pixels.subarray(i * size, (i + 1) * size), shape: [...shape] },
    label,
  }))
}

/**
 * The pictures of an IDX file (count, height, width), with the classes of another (count), as MNIST and its kin have them: what
 * `Classifier.fit` takes. Bytes become numbers from 0 to 1. `ERR_S4_DATA` where a file is damaged, or the two do not belong together.
 *
 * @example
 * const c = await Classifier.fit(await idxExamples('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'))
 */
export async function idxExamples(
  pictures: DataSource,
  labels: DataSource,
  options: AbortOptions = {},
): Promise<PictureExample[]> {
  const op = 'idxExamples'
  const given = rejectUnknownOptions(op, options, ['signal'])
  // Both are looked at before either is read.
  const [first, second] = [givenSource(op, 'pictures', pictures), givenSource(op, 'labels', labels)]
  const named = (source: typeof first, { shape }: FileArray) =>
    `${nameOf(source) === undefined ? '' : `${nameOf(source)}: `}sizes ${shape.join(' × ') || 'none'}`
  const values = await readIdx(pictures, given)
  const classes = await readIdx(labels, given)
  const { data, shape } = values
  const [count = 0, height = 0, width = 0] = shape
  if (shape.length !== 3 || count * height * width === 0)
    throw fail('ERR_S4_DATA', op, 'pictures (count, height, width)', named(first, values))
  if (classes.shape.length !== 1 || classes.shape[0] !== count)
    throw fail('ERR_S4_DATA', op, `labels (${count}), one for each of pictures`, named(second, classes))
  const pixels = types.isUint8Array(data) ? shares(data) : Float32Array.from(data as ArrayLike<number>)
  return examplesOf(pixels, [height, width, 1], Array.from(classes.data as ArrayLike<number>))
}

/** The pictures of CIFAR-10's binary files with their classes: what `Classifier.fit` takes. `ERR_S4_DATA` with path and byte where one is damaged. */
export async function cifar10Examples(
  paths: readonly FilePath[],
  options: CifarExampleOptions = {},
): Promise<PictureExample[]> {
  const op = 'cifar10Examples'
  const { names, ...given } = rejectUnknownOptions(op, options, ['names', 'signal'])
  const list = names === undefined ? undefined : listOf(op, 'names', names)
  const words = list?.map((name) => textOf(op, 'each of names', name))
  if (words !== undefined && (words.length !== 10 || new Set(words).size !== 10))
    throw fail('ERR_S4_VALUE', op, 'names of ten different classes', words.join())
  const { pixels, labels } = await readCifar10(paths, given)
  const classes = Array.from(labels, (label) => words?.[label] ?? label)
  return examplesOf(shares(pixels), [32, 32, 3], classes)
}
