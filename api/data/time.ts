// Times as text.

/** Milliseconds of a time in ISO 8601; one without an offset is UTC, as in every reader here. NaN of other text. */
export function timeOfText(text: string): number {
  if (!/^\d{4}-\d{2}/.test(text)) return NaN
  const whole = text.trim().replace(' ', 'T')
  return Date.parse(!whole.includes('T') || /(?:Z|[+-]\d{2}:?\d{2})$/.test(whole) ? whole : `${whole}Z`)
}
