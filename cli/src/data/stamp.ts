import { UsageError } from '../usage.js'

/** Milliseconds since 1970 of a time that was typed: as a number of them, or in ISO 8601, UTC where it names no zone. */
export function stampOf(text: string, called: string): number {
  const whole = text.trim().replace(' ', 'T')
  const isZoned = !whole.includes('T') || /(?:Z|[+-]\d{2}:?\d{2})$/.test(whole)
  const ms =
    whole !== '' && Number.isFinite(Number(whole))
      ? Number(whole)
      : /^\d{4}-\d{2}/.test(whole)
        ? Date.parse(isZoned ? whole : `${whole}Z`)
        : NaN
  if (Number.isNaN(ms))
    throw new UsageError(`${called}: '${text.slice(0, 40)}' is no time (milliseconds, or ISO 8601)`)
  return ms
}
