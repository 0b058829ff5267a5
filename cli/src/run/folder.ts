/** The folder of a run: its settings, its history, its checkpoints, its result and its report. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { diagnose } from 's4-node'
import { settingsOf } from '../recipe.js'
import { recipeOf, type Settings } from '../task/settings.js'
import type { HistoryEntry, KeptEvent } from '../task/task.js'
import { UsageError } from '../usage.js'

/** Whether a folder holds a run that has ended, or that could be gone on with. */
export const holdsRun = (path: string): boolean =>
  ['result.json', 'last.safetensors'].some((name) => existsSync(join(path, name)))

/** The values in a file that has one a line. A line that a killed process left half written is left out. */
export const linesOf = <T>(path: string): T[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as T]
      } catch {
        return []
      }
    })

export class RunFolder {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /** Makes the folder of a new run, with its config.json: a recipe that makes the same run again. */
  static create(path: string, settings: Settings): RunFolder {
    const folder = new RunFolder(path)
    if (holdsRun(path))
      throw new UsageError(
        `${path} holds a run: \`s4 train --resume ${path}\` goes on with it, --out names another folder`,
      )
    const there = existsSync(path) ? readdirSync(path) : []
    if (there.length > 0 && !there.includes('config.json'))
      throw new UsageError(`${path} is not empty and holds no run: --out names another folder`)
    // Another program's config.json is refused by what it says.
    if (there.length > 0) settingsOf(readFileSync(folder.config, 'utf8'), folder.config)
    mkdirSync(path, { recursive: true })
    // What a run left that ended before its first epoch did.
    for (const name of readdirSync(path))
      if (['data.json', 'history.jsonl'].includes(name) || name.startsWith('events.out.tfevents.'))
        rmSync(join(path, name))
    const absolute = { ...settings, data: settings.data.map((file) => resolve(file)) }
    folder.#write(folder.config, recipeOf(absolute))
    return folder
  }

  /** The folder of a run that was begun, and its settings. */
  static open(path: string): { folder: RunFolder; settings: Settings } {
    const folder = new RunFolder(path)
    if (!existsSync(folder.config)) throw new UsageError(`${path} is not the folder of a run: no config.json`)
    const settings = settingsOf(readFileSync(folder.config, 'utf8'), folder.config)
    folder.#endLastLine()
    return { folder, settings }
  }

  get config(): string {
    return join(this.path, 'config.json')
  }
  /** The file of the trained task. */
  get best(): string {
    return join(this.path, 'best.safetensors')
  }
  get report(): string {
    return join(this.path, 'report.html')
  }
  get result(): string {
    return join(this.path, 'result.json')
  }
  get #history(): string {
    return join(this.path, 'history.jsonl')
  }

  /** Whether the run has come to its end. */
  get ended(): boolean {
    return existsSync(this.result)
  }

  /**
   * Notes what the data are when a run begins, and refuses other data when it goes on.
   */
  checkData(summary: Readonly<Record<string, unknown>>): void {
    const path = join(this.path, 'data.json')
    if (!existsSync(path)) return this.#write(path, summary)
    const before = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
    for (const [name, value] of Object.entries(summary))
      if (JSON.stringify(before[name]) !== JSON.stringify(value))
        throw new Error(
          `${this.path} cannot be gone on with: its data had ${name} ${JSON.stringify(before[name])}, now ${JSON.stringify(value)}`,
        )
  }

  /** Appends an event to history.jsonl. */
  record(event: KeptEvent): void {
    appendFileSync(this.#history, `${JSON.stringify({ ...event, time: new Date().toISOString() })}\n`)
  }

  /** Ends a line that a killed process left half written, so that the next stands on its own. */
  #endLastLine(): void {
    if (!existsSync(this.#history)) return
    const text = readFileSync(this.#history, 'utf8')
    if (text !== '' && !text.endsWith('\n')) appendFileSync(this.#history, '\n')
  }

  /** All events so far. */
  history(): HistoryEntry[] {
    if (!existsSync(this.#history)) return []
    return linesOf<HistoryEntry>(this.#history)
  }

  writeResult(result: object): void {
    this.#write(this.result, { ...result, version: diagnose().version })
  }

  writeReport(html: string): void {
    writeFileSync(this.report, html)
  }

  #write(path: string, value: unknown): void {
    writeFileSync(`${path}.part`, `${JSON.stringify(value, undefined, 2)}\n`)
    renameSync(`${path}.part`, path)
  }
}

/** The file of a trained task that a run folder, or a path itself, names. */
export function taskFile(path: string): string {
  const inside = join(path, 'best.safetensors')
  if (!existsSync(join(path, 'config.json'))) return path
  if (!existsSync(join(path, 'result.json')))
    throw new Error(`${path} is a run that has not ended: \`s4 train --resume ${path}\` goes on with it`)
  return inside
}
