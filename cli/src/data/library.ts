// Stands in for s4-node/data until that branch is merged.
import { readFileSync } from 'node:fs'

export interface Table {
  readonly rows: number
  readonly columns: Readonly<Record<string, Float64Array>>
  readonly texts: Readonly<Record<string, readonly string[]>>
  readonly time: Float64Array | undefined
  readonly names: readonly string[]
}
export async function readTable(path: string, options: { time?: string } = {}): Promise<Table> {
  const [head, ...lines] = readFileSync(path, 'utf8').trim().split(/\r?\n/)
  const names = head.split(',')
  const cells = lines.map((line) => line.split(','))
  const columns: Record<string, Float64Array> = {}
  const texts: Record<string, string[]> = {}
  let time: Float64Array | undefined
  names.forEach((name, i) => {
    if (name === options.time) time = Float64Array.from(cells, (row) => Date.parse(`${row[i]}Z`))
    else if (Number.isNaN(Number(cells[0][i]))) texts[name] = cells.map((row) => row[i])
    else columns[name] = Float64Array.from(cells, (row) => (row[i] === '' ? NaN : Number(row[i])))
  })
  return { rows: lines.length, columns, texts, time, names: names.filter((n) => n !== options.time) }
}
export async function readAudio(
  path: string,
): Promise<{ samples: Float32Array; sampleRate: number; channels: number }> {
  const bytes = readFileSync(path)
  const at = bytes.indexOf('data')
  const body = bytes.subarray(at + 8)
  return {
    samples: Float32Array.from({ length: body.length >> 1 }, (_, t) => body.readInt16LE(2 * t) / 32768),
    sampleRate: bytes.readUInt32LE(24),
    channels: bytes.readUInt16LE(22),
  }
}
