import { diagnose as diagnosis } from 's4-node'
import { jsonSpec } from '../options/common.js'
import type { Command } from './command.js'

export const diagnose: Command = {
  name: 'diagnose',
  summary: 'what this machine offers, and why not more',
  operands: [],
  options: [jsonSpec],
  async run({ values }) {
    const found = await diagnosis()
    console.log(
      values['json']
        ? JSON.stringify(found, null, 2)
        : lines(found as unknown as Record<string, unknown>).join('\n'),
    )
    return 0
  },
}

/** Nested plain values as `name: value` lines. */
function lines(value: Record<string, unknown>, indent = ''): string[] {
  return Object.entries(value).flatMap(([key, entry]): string[] => {
    if (Array.isArray(entry)) {
      if (entry.every((item) => typeof item !== 'object'))
        return [`${indent}${key}: ${entry.length > 0 ? entry.join(', ') : 'none'}`]
      return entry.flatMap((item, i) => [
        `${indent}${key} ${i}:`,
        ...lines(item as Record<string, unknown>, `${indent}  `),
      ])
    }
    if (typeof entry === 'object' && entry !== null)
      return [`${indent}${key}:`, ...lines(entry as Record<string, unknown>, `${indent}  `)]
    // Texts of several lines, and texts that begin with their own name, stand as they are.
    const text = String(entry).replace(new RegExp(`^${key}: `), '')
    return [`${indent}${key}: ${text.replaceAll('\n', `\n${indent}  `)}`]
  })
}
