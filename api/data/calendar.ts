import { calendarFields } from '#binding'
import { listOf, oneOf, rejectUnknownOptions, textOf } from '../check.js'
import { callNative, describe, fail, readGiven } from '../error.js'

/** A part of a date or of a time of day. */
export type CalendarField = 'minute' | 'hour' | 'weekday' | 'day' | 'dayOfYear' | 'month'

/** How many values each part has. */
const COUNTS: Readonly<Record<CalendarField, number>> = {
  minute: 60,
  hour: 24,
  weekday: 7,
  day: 31,
  dayOfYear: 366,
  month: 12,
}
const FIELDS = Object.keys(COUNTS) as CalendarField[]

/** Checks a list of parts. */
export function calendarList(op: string, what: string, x: unknown): CalendarField[] {
  const list = listOf(op, what, x).map((field) => oneOf(op, `each of ${what}`, field, FIELDS))
  if (list.length === 0 || new Set(list).size !== list.length)
    throw fail('ERR_S4_VALUE', op, `${what}, each once, at least one`, list.join(', ') || 'none')
  return list
}

/** Options of {@link calendar}. */
export interface CalendarOptions {
  /** The parts that are given. Default all. */
  fields?: readonly CalendarField[]
  /** Time zone whose clock and calendar count, as the IANA names it. Default UTC. */
  zone?: string
}

/** Whether it is a number of milliseconds since 1970 in the years −9998 to 9998, in whatever zone. */
const isMoment = (t: unknown) => typeof t === 'number' && t >= -3.776e14 && t <= 2.533e14

/** {@link calendar} of times and parts that were checked. */
export function calendarColumns(
  op: string,
  times: Float64Array,
  fields: readonly CalendarField[],
  zone: string | undefined,
): Record<CalendarField, Float64Array> {
  const wrong = times.findIndex((t) => !isMoment(t))
  if (wrong >= 0)
    throw fail(
      'ERR_S4_DATA',
      op,
      'a time in each row, of the years −9999 to 9999',
      `${times[wrong]} in row ${wrong + 1}`,
    )
  const parts = callNative(() => calendarFields(times, [...fields], zone))
  return Object.fromEntries(
    fields.map((field, k) => [
      field,
      Float64Array.from(
        times,
        (_, t) => (parts[t * fields.length + k] as number) / (COUNTS[field] - 1) - 0.5,
      ),
    ]),
  ) as Record<CalendarField, Float64Array>
}

/** The times of a caller, as numbers. */
function timesOf(op: string, x: unknown): Float64Array {
  return readGiven(op, 'times', () => {
    const length: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<number>).length : undefined
    const isView = Object.prototype.toString.call(x) === '[object DataView]'
    if (isView || !Number.isSafeInteger(length) || (length as number) < 1 || (length as number) > 2 ** 30)
      throw fail('ERR_S4_DATA', op, 'times as an array of milliseconds', describe(x))
    const given = x as ArrayLike<unknown>
    const number = (i: number) => {
      const value = given[i]
      if (!isMoment(value))
        throw fail(
          'ERR_S4_DATA',
          op,
          'times in milliseconds since 1970',
          `${describe(value)} in row ${i + 1}`,
        )
      return value as number
    }
    number((length as number) - 1)
    return Float64Array.from({ length: length as number }, (_, i) => number(i))
  })
}

/**
 * Parts of dates and times of day as numbers from −½ to ½, by name: features that are known ahead. A part v of n values is
 * v/(n − 1) − ½; Monday is the first day of a week. `times` are in milliseconds since 1970, as {@link DataTable} has them.
 */
export function calendar(
  times: ArrayLike<number>,
  options: CalendarOptions = {},
): Record<string, Float64Array> {
  const op = 'calendar'
  const { fields, zone } = rejectUnknown(op, options)
  return calendarColumns(op, timesOf(op, times), fields, zone)
}

function rejectUnknown(op: string, options: CalendarOptions) {
  const { fields = FIELDS, zone } = rejectUnknownOptions(op, options, ['fields', 'zone'])
  if (zone !== undefined) textOf(op, 'zone', zone)
  return { fields: calendarList(op, 'fields', fields), zone }
}
