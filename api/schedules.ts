// The learning-rate schedules that training takes.
import { describe, membersOf, oneOf, numberIn32Bits, rejectUnknownOptions, wholeNumber } from './check.js'
import { fail, readGiven } from './error.js'

/**
 * A learning-rate schedule, which {@link schedules} makes: a factor for each update that both learning rates are multiplied
 * by.
 */
export type Schedule =
  | { kind: 'constant' }
  | { kind: 'warmup'; warmup: number }
  | { kind: 'warmupCosine'; warmup: number; total: number; floor?: number }
  | { kind: 'plateau'; factor: number; patience: number; floor?: number }
  | { kind: 'step'; every: number; factor: number }

/** What a number of a schedule is: how many updates or epochs, from 0 or from 1; a factor in (0, 1], or one that may be 0. */
type ScheduleNumber = 'from 0' | 'from 1' | 'factor' | 'floor'
const NUMBERS: Readonly<Record<Schedule['kind'], Readonly<Record<string, ScheduleNumber>>>> = {
  constant: {},
  warmup: { warmup: 'from 0' },
  warmupCosine: { warmup: 'from 0', total: 'from 1', floor: 'floor' },
  plateau: { factor: 'factor', patience: 'from 0', floor: 'floor' },
  step: { every: 'from 1', factor: 'factor' },
}

function scheduleNumber(op: string, what: string, x: unknown, form: ScheduleNumber): number | undefined {
  switch (form) {
    case 'from 0':
      return wholeNumber(op, what, x, 0, Number.MAX_SAFE_INTEGER)
    case 'from 1':
      return wholeNumber(op, what, x, 1, Number.MAX_SAFE_INTEGER)
    case 'floor':
      if (x === undefined) return undefined
  }
  const value = numberIn32Bits(op, what, x)
  if (value < 0 || value > 1 || (value === 0 && form === 'factor'))
    throw fail('ERR_S4_VALUE', op, `${what} from 0 to 1${form === 'factor' ? ', above 0' : ''}`, value)
  return value
}

/** A schedule of this kind, each of its numbers read once and checked; `prefix` stands before their names in errors. */
function checkedSchedule(op: string, kind: Schedule['kind'], options: object, prefix = ''): Schedule {
  const numbers = NUMBERS[kind]
  const given = rejectUnknownOptions<Record<string, unknown>>(op, options as never, Object.keys(numbers))
  const schedule: Record<string, unknown> = { kind }
  for (const [name, form] of Object.entries(numbers)) {
    const value = scheduleNumber(op, `${prefix}${name}`, given[name], form)
    if (value !== undefined) schedule[name] = value
  }
  const { warmup, total } = schedule as { warmup?: number; total?: number }
  if (warmup !== undefined && total !== undefined && warmup > total)
    throw fail('ERR_S4_VALUE', op, `${prefix}warmup of at most ${prefix}total (${total})`, warmup)
  return schedule as Schedule
}

/**
 * Makes learning-rate schedules: factors for each update that both learning rates are multiplied by.
 *
 * @example
 * model.train(batches, { schedule: schedules.warmupCosine({ warmup: 100, total: 5000 }) })
 */
export const schedules = {
  /** The factor is always 1. */
  constant(): Schedule {
    return { kind: 'constant' }
  },
  /** The factor rises linearly to 1 over the first `warmup` updates, and stays there. */
  warmup(options: { warmup: number }): Schedule {
    return checkedSchedule('schedules.warmup', 'warmup', options)
  },
  /**
   * The factor rises linearly to 1 over the first `warmup` updates, then falls along half a cosine to `floor` (default 0)
   * at update `total`.
   */
  warmupCosine(options: { warmup: number; total: number; floor?: number }): Schedule {
    return checkedSchedule('schedules.warmupCosine', 'warmupCosine', options)
  },
  /**
   * Multiplies by `factor`, down to `floor`, whenever the loss of an epoch (that of the validation, if there is one) has
   * not fallen for more than `patience` epochs.
   */
  plateau(options: { factor: number; patience: number; floor?: number }): Schedule {
    return checkedSchedule('schedules.plateau', 'plateau', options)
  },
  /** Multiplies by `factor` after every `every` updates. */
  stepDecay(options: { every: number; factor: number }): Schedule {
    return checkedSchedule('schedules.stepDecay', 'step', options)
  },
}

/** Refuses a value that is no schedule: its form, its kind and its numbers are checked. */
export function checkSchedule(op: string, schedule: unknown): Schedule {
  const kind = readGiven(
    op,
    'schedule',
    () => typeof schedule === 'object' && (schedule as Partial<Schedule> | null)?.kind,
  )
  if (typeof kind !== 'string') {
    const uncalledName = Object.entries(schedules).find(([, make]) => make === schedule)?.[0]
    if (uncalledName !== undefined)
      throw fail(
        'ERR_S4_VALUE',
        op,
        `schedules.${uncalledName}(…), called, for 'schedule'`,
        'the function itself',
      )
    const names = Object.keys(schedules).map((name) => `schedules.${name}()`)
    throw fail('ERR_S4_VALUE', op, `what ${names.join(', ')} give for 'schedule'`, describe(schedule))
  }
  const { kind: _, ...options } = membersOf(op, 'schedule', schedule)
  return checkedSchedule(
    op,
    oneOf(op, 'schedule.kind', kind, Object.keys(NUMBERS) as Schedule['kind'][]),
    options,
    'schedule.',
  )
}
