/** Results as text: numbers with six digits, cells of CSV. */

/** A number in a line of CSV; what is not finite is empty. */
export const number = (x: number): string => (Number.isFinite(x) ? String(Number(x.toPrecision(6))) : '')

/** A text as a cell of CSV, in quotes where it needs them. */
export const cell = (x: string | number): string => {
  const text = String(x)
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** A line of CSV. */
export const csv = (cells: readonly (string | number)[]): string => cells.map(cell).join(',')
