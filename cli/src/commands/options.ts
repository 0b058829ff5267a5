/** Options that several commands share, and how a series is read. */
import { readCsv } from 's4-node'
import type { Args } from '../args.js'
import type { RunOptions } from '../verify/cases.js'

export const deviceOptions = {
  device: { type: 'string' },
  threads: { type: 'string' },
  precision: { type: 'string' },
} as const

export function deviceOf(args: Args): Omit<RunOptions, 'dtype' | 'algorithm'> {
  const device = args.oneOf('device', ['cpu', 'cuda'])
  const precision = args.oneOf('precision', ['highest', 'high', 'bf16'])
  const threads = args.text('threads') === undefined ? undefined : args.count('threads', 1)
  return { ...(device && { device }), ...(precision && { precision }), ...(threads && { threads }) }
}

export const seriesOptions = {
  column: { type: 'string' },
  gaps: { type: 'string' },
} as const

/** One column of a CSV file as numbers. */
export async function readSeries(path: string, args: Args): Promise<Float64Array> {
  const gaps = args.oneOf('gaps', ['error', 'linear'])
  const column = args.text('column')
  const series = await readCsv(path, { ...(column !== undefined && { column }), ...(gaps && { gaps }) })
  return Float64Array.from(series as ArrayLike<number>)
}
