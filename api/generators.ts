import * as binding from '#binding'
import { inBackground } from './background.js'
import { rejectUnknownOptions, wholeNumber } from './check.js'

/** How many examples, and from which seed. */
export interface GeneratorOptions {
  /** How many. Of ListOps at most a million, of pictures as many as JavaScript has memory for in one array. */
  count: number
  /** What is made depends on it and on nothing else: neither on the number of cores nor on `count`. Default 0. */
  seed?: number
  /** Rejects at once with `ERR_S4_ABORTED` when it fires; what the work would have given is lost. */
  signal?: AbortSignal
}

/** {@link GeneratorOptions} of pictures. */
export interface PictureOptions extends GeneratorOptions {
  /** Number of the first picture: a large set can be made in pieces. Default 0. */
  first?: number
}

/** Expressions as tokens, one row after the other, with their values. */
export interface ListOpsExamples {
  /** All rows joined: places in `words`. */
  tokens: Uint8Array
  /** (count + 1): row i is `tokens.subarray(offsets[i], offsets[i + 1])`. */
  offsets: Int32Array
  /** (count): the value of each expression, 0 to 9. */
  labels: Uint8Array
  /** What the tokens say; place 0 is left to padding. */
  words: readonly string[]
}

/** Grey pictures with a label each. */
export interface PathfinderExamples {
  /** (count, side, side): 0 is black, 255 the brightest pixel of its picture. */
  pixels: Uint8Array
  /** (count): 1 where one path joins the two markers, else 0. */
  labels: Uint8Array
  /** Pixels of a row. */
  side: number
}

const WORDS: readonly string[] = '<pad> 0 1 2 3 4 5 6 7 8 9 [MIN [MAX [MED [SM ]'.split(' ')

const MOST_TREES = 1_000_000
/** Bytes that one array of JavaScript's may have everywhere. */
const MOST_BYTES = 2 ** 32 - 2 ** 16

/** The options, checked before any work. */
function checked<T extends PictureOptions>(op: string, options: T, most: number, names: readonly string[]) {
  const given = rejectUnknownOptions(op, options, ['count', 'seed', 'signal', ...names])
  const { count, seed = 0, first = 0, signal } = given
  return {
    count: wholeNumber(op, 'count', count, 1, most),
    seed: wholeNumber(op, 'seed', seed, 0, Number.MAX_SAFE_INTEGER),
    first: wholeNumber(op, 'first', first, 0, 2 ** 52),
    signal,
  }
}

async function expressions(op: string, options: GeneratorOptions): Promise<ListOpsExamples> {
  const { count, seed, signal } = checked(op, options, MOST_TREES, [])
  return { ...(await inBackground(op, () => binding.listops(count, seed), signal)), words: WORDS }
}

async function pictures(op: string, long: boolean, side: number, options: PictureOptions) {
  const { count, seed, first, signal } = checked(op, options, Math.floor(MOST_BYTES / side ** 2), ['first'])
  return inBackground<PathfinderExamples>(op, () => binding.pathfinder(long, first, count, seed), signal)
}

/**
 * Data of the Long Range Arena's tasks, made from a seed on all cores while JavaScript goes on; `ERR_S4_VALUE` for options that make
 * none.
 */
export const generators = {
  /**
   * ListOps: nested operations on digits. A node is a digit with probability 3/4 and an operator (minimum, maximum, median, sum modulo
   * 10) of 2 to 10 arguments otherwise, ten levels at most; distinct trees of 501 to 1,999 tokens are kept.
   */
  listops: (options: GeneratorOptions): Promise<ListOpsExamples> =>
    expressions('generators.listops', options),
  /** Pathfinder, 32 × 32: two paths among short ones and two markers. */
  pathfinder: (options: PictureOptions): Promise<PathfinderExamples> =>
    pictures('generators.pathfinder', false, 32, options),
  /** Path-X, 128 × 128: the same in pictures of 16,384 pixels. */
  pathx: (options: PictureOptions): Promise<PathfinderExamples> =>
    pictures('generators.pathx', true, 128, options),
} as const
