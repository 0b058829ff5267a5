// The times of a stream's samples: checked, turned into intervals, and given back with the outputs that belong to them.
import { describe, fail, readGiven } from './error.js'
import type { Tensor } from './tensor.js'

/** Outputs of a push. */
export interface StreamedTensor extends Tensor {
  /** The time of each time step, where the push had times. */
  readonly time?: Float64Array
}

/** How the times of pushes are taken. */
export interface StreamTimeOptions {
  /**
   * The time between two samples that counts as an interval of 1, in the unit of the pushes' times: the intervals between the times of
   * samples are then taken as {@link PushOptions.interval} is, and each sample must be later than the one before. Default none: times
   * are only given back with the outputs.
   */
  usualInterval?: number
}

/** Checks an option `usualInterval`. */
export function usualIntervalOf(op: string, x: unknown): number | undefined {
  if (x === undefined) return undefined
  if (typeof x !== 'number' || !(x >= 1e-12 && x <= 1e15))
    throw fail('ERR_S4_VALUE', op, 'usualInterval as a number from 1e-12 to 1e15', describe(x))
  return x
}

/** The times of the `len` time steps of a push, each of which may be given, or the first alone. `last`: that of the step before. */
export function stepTimes(
  op: string,
  time: unknown,
  len: number,
  usual: number | undefined,
  last: number | undefined,
): Float64Array | undefined {
  if (time === undefined) return undefined
  const times = new Float64Array(len)
  const wrong = (got: string) =>
    fail('ERR_S4_VALUE', op, `time as a finite number, or ${len} of them, one for each time step`, got)
  if (typeof time === 'number') {
    if (len > 1 && usual === undefined)
      throw fail(
        'ERR_S4_VALUE',
        op,
        `time of each of ${len} time steps, or a stream with usualInterval`,
        'one',
      )
    for (let i = 0; i < len; i++) times[i] = time + i * (usual ?? 0)
  } else
    readGiven(op, 'time', () => {
      const list = time as ArrayLike<unknown> | null
      const count: unknown = typeof list === 'object' ? list?.length : undefined
      if (typeof count !== 'number' || Object.prototype.toString.call(list) === '[object DataView]')
        throw wrong(describe(time))
      if (count !== len) throw fail('ERR_S4_SHAPE', op, `time of ${len} time steps`, count)
      for (let i = 0; i < len; i++) {
        const x = (list as ArrayLike<unknown>)[i]
        if (typeof x !== 'number') throw wrong(`${describe(x)} at index ${i}`)
        times[i] = x
      }
    })
  let before = last
  times.forEach((x, i) => {
    if (!Number.isFinite(x)) throw wrong(`${x} at index ${i}`)
    if (usual !== undefined && before !== undefined && !((x - before) / usual >= 1e-30))
      throw fail(
        'ERR_S4_VALUE',
        op,
        'time that is later at every time step',
        `${x} at index ${i} after ${before}`,
      )
    if (usual !== undefined && before !== undefined && !((x - before) / usual <= 1e30))
      throw wrong(`${x} at index ${i} after ${before}`)
    before = x
  })
  return times
}

/** The intervals before time steps at these times, the first of all being 1; for each of `rows` sequences. */
export function timedIntervals(
  times: Float64Array,
  usual: number,
  last: number | undefined,
  rows = 1,
): Float64Array {
  const { length } = times
  return Float64Array.from({ length: rows * length }, (_, i) => {
    const t = i % length
    const before = t === 0 ? last : times[t - 1]
    return before === undefined ? 1 : ((times[t] as number) - before) / usual
  })
}

/** The time of the last step after a push, where that of the one before is known. Steps without times come at usual intervals, or as they say. */
export function lastTime(
  times: Float64Array | undefined,
  len: number,
  usual: number | undefined,
  last: number | undefined,
): number | undefined {
  if (times !== undefined) return times.at(-1) as number
  return last === undefined || usual === undefined ? undefined : last + len * usual
}
