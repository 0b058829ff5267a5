// Learning-rate schedules.
import { describe } from './check.js'
import { fail } from './error.js'

/** Learning rate over time, as {@link schedules} makes it: a factor on both learning rates; steps are updates. */
export type Schedule =
  | { kind: 'constant' }
  | { kind: 'warmup'; warmup: number }
  | { kind: 'warmupCosine'; warmup: number; total: number; floor?: number }
  | { kind: 'plateau'; factor: number; patience: number; floor?: number }
  | { kind: 'step'; every: number; factor: number }

/**
 * Learning rate over time: a factor on both learning rates.
 *
 * @example
 * model.train(batches, { schedule: schedules.warmupCosine({ warmup: 100, total: 5000 }) })
 */
export const schedules = {
  /** Factor 1. */
  constant(): Schedule {
    return { kind: 'constant' }
  },
  /** Linear over the first `warmup` updates, then 1. */
  warmup(options: { warmup: number }): Schedule {
    return { kind: 'warmup', ...options }
  },
  /** Linear over the first `warmup` updates, then half a cosine down to `floor` (default 0) at update `total`. */
  warmupCosine(options: { warmup: number; total: number; floor?: number }): Schedule {
    return { kind: 'warmupCosine', ...options }
  },
  /** Times `factor` when the epoch's (validation) loss has not fallen for `patience` epochs, down to `floor`. */
  plateau(options: { factor: number; patience: number; floor?: number }): Schedule {
    return { kind: 'plateau', ...options }
  },
  /** Times `factor` every `every` updates. */
  stepDecay(options: { every: number; factor: number }): Schedule {
    return { kind: 'step', ...options }
  },
}

/** Refuses what is no schedule by its form; the addon checks its kind and its numbers. */
export function checkSchedule(op: string, schedule: unknown): Schedule {
  if (typeof schedule !== 'object' || typeof (schedule as Schedule | null)?.kind !== 'string') {
    const uncalled = Object.entries(schedules).find(([, make]) => make === schedule)?.[0]
    if (uncalled !== undefined)
      throw fail(
        'ERR_S4_VALUE',
        op,
        `schedules.${uncalled}(…), called, for 'schedule'`,
        'the function itself',
      )
    const names = Object.keys(schedules).map((name) => `schedules.${name}()`)
    throw fail('ERR_S4_VALUE', op, `what ${names.join(', ')} give for 'schedule'`, describe(schedule))
  }
  return schedule as Schedule
}
