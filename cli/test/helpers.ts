/** What the tests of the command have in common: calls of it, small data. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'

export const command = fileURLToPath(new URL('../../bin/s4.mjs', import.meta.url))
export const fixtures = fileURLToPath(new URL('../../test/fixtures/', import.meta.url))

/** A folder that is removed after the tests of a file. */
export function scratch(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `s4-${name}-`))
  after(() => rmSync(folder, { recursive: true, maxRetries: 3 }))
  return folder
}

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs the command to its end. */
export const s4 = (args: readonly string[], input: string | Buffer = '', cwd?: string): Ended =>
  spawnSync(process.execPath, [command, ...args], {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 26,
    ...(cwd !== undefined && { cwd }),
  })

/** The cells of CSV without its header. */
export const rows = (csv: string): string[][] =>
  csv
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','))

export const json = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>

/** The lines of a run's history. */
export const history = (run: string): Record<string, unknown>[] =>
  readFileSync(join(run, 'history.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

/** Two waves, a calendar that one of them follows, and a time: hourly rows. */
export function waves(count: number): string {
  const lines = Array.from({ length: count }, (_, t) => {
    const calendar = Math.sin((2 * Math.PI * t) / 24)
    const noise = 0.05 * Math.sin(t * t)
    const a = 3 * Math.sin(t / 5) + noise
    const b = 10 + calendar + 0.5 * Math.sin(t / 2.3) + noise
    const time = new Date(Date.UTC(2024, 0, 1) + t * 3_600_000).toISOString().slice(0, 16).replace('T', ' ')
    return [time, a.toFixed(5), b.toFixed(5), calendar.toFixed(5)].join(',')
  })
  return `when,a,b,calendar\n${lines.join('\n')}\n`
}

/** Options of a network that learns in a second. */
export const small = ['--features', '8', '--layers', '1', '--state', '8', '--device', 'cpu']

/** A mono WAV file of 16 bits. */
export function wav(samples: Float32Array, sampleRate: number): Buffer {
  const body = Buffer.alloc(2 * samples.length)
  samples.forEach((x, t) => body.writeInt16LE(Math.round(32_000 * x), 2 * t))
  const head = Buffer.alloc(44)
  head.write('RIFF', 0)
  head.writeUInt32LE(36 + body.length, 4)
  head.write('WAVEfmt ', 8)
  head.writeUInt32LE(16, 16)
  head.writeUInt16LE(1, 20)
  head.writeUInt16LE(1, 22)
  head.writeUInt32LE(sampleRate, 24)
  head.writeUInt32LE(2 * sampleRate, 28)
  head.writeUInt16LE(2, 32)
  head.writeUInt16LE(16, 34)
  head.write('data', 36)
  head.writeUInt32LE(body.length, 40)
  return Buffer.concat([head, body])
}

/** A tone of one of three classes. */
export const tone = (which: number, phase: number, sampleRate: number, seconds = 0.25): Float32Array =>
  Float32Array.from(
    { length: Math.round(seconds * sampleRate) },
    (_, t) =>
      0.5 * Math.sin((2 * Math.PI * [300, 700, 1400][which]! * t) / sampleRate + phase) +
      0.05 * Math.sin(t * t * (phase + 1)),
  )

/** Recordings of three tones, `count` of each: by name (`low_0.wav`), or in a folder for each class. */
export function recordings(folder: string, count: number, sampleRate: number, foldered = false): string {
  for (const [which, name] of ['low', 'middle', 'high'].entries()) {
    const place = foldered ? join(folder, name) : folder
    mkdirSync(place, { recursive: true })
    for (let i = 0; i < count; i++)
      writeFileSync(join(place, `${name}_${i}.wav`), wav(tone(which, i, sampleRate), sampleRate))
  }
  return folder
}
