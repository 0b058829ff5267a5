/** What the command needs of a task: its options, the reading of its data, its training, and what is told of the result. */
import type { Inspection, ProcessGroup } from 's4-node'
import type { TaskEvent } from 's4-node/tasks'
import type { OptionSpec } from '../options/spec.js'
import type { Settings, TaskName } from './settings.js'

/** Events that are kept, without the forecasts and confusions of an epoch, which are for those who watch. */
export type KeptEvent =
  | Exclude<TaskEvent, { type: 'step' | 'epoch' }>
  | Omit<Extract<TaskEvent, { type: 'epoch' }>, 'forecast' | 'confusion'>

/** An event of a training as history.jsonl holds it. */
export type HistoryEntry = KeptEvent & { time: string }

/** What the command sets of a training, beside the options that were given. */
export interface Course {
  /** None on ranks other than 0. */
  readonly folder?: string
  readonly resume?: boolean
  /** The ranks that train together. */
  readonly distributed?: ProcessGroup
  readonly signal: AbortSignal
  /** Ends the training as if it had come to its end. */
  readonly stop: AbortSignal
  readonly onEvent: (event: TaskEvent) => void
}

/** What a finished run tells. */
export interface Judgement {
  /** For result.json and --json. */
  readonly result: object
  /** For the terminal. */
  readonly text: string
  /** The report. */
  readonly page: string
}

/** A trained task. */
export interface Trained {
  save(path: string): Promise<void>
  /** What its network has learned, and on which steps of its data an output depends. */
  inspect(): Promise<Inspection>
  /** `inside`: sections of the report on the network, which tasks have in common. */
  judge(history: readonly HistoryEntry[], settings: Settings, inside: readonly string[]): Promise<Judgement>
  dispose(): void
}

/** Data that were read for a training. */
export interface TrainingData {
  /** What a run that goes on must find again. */
  readonly summary: Readonly<Record<string, unknown>>
  fit(course: Course): Promise<Trained>
}

export interface Task {
  readonly name: TaskName
  /** The options of its training. */
  readonly specs: readonly OptionSpec[]
  read(settings: Settings): Promise<TrainingData>
}
