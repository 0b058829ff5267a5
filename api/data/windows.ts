import { membersOf, oneOf, rejectUnknownOptions, textOf, wholeNumber, booleanOf } from '../check.js'
import type { Sample } from '../dataset.js'
import { fail } from '../error.js'
import { allocate } from '../tensor.js'
import { calendarColumns, calendarList, type CalendarField } from './calendar.js'
import { Scaler, scalings, type Scaling } from './scaler.js'
import { columnNames, givenTable, DataTable, type TableLike } from './table.js'

/** Options of {@link windows}. */
export interface TableWindowOptions {
  /** Rows of a window. */
  length: number
  /** Rows after it that are to be predicted. Default 1. */
  horizon?: number
  /** Rows between the starts of two windows. Default 1. */
  stride?: number
  /** Columns that a model sees. Default all numbers but those of `known`. */
  inputs?: readonly string[]
  /** Columns that are predicted. Default those of `inputs`. */
  targets?: readonly string[]
  /** Columns that are known ahead, such as a plan or a weather forecast. Default none. */
  known?: readonly string[]
  /** Parts of the time of each row, known ahead too. Default none. */
  calendar?: readonly CalendarField[]
  /** Time zone of the calendar. Default UTC. */
  zone?: string
  /**
   * `'block'` (default): the target is the rows after the window, (horizon · targets), for a model that pools. `'steps'`: at every
   * row of the window the rows after it, (length, horizon · targets).
   */
  target?: 'block' | 'steps'
  /** The rows that windows lie in. Default all. */
  rows?: {
    /** The first row. Default 0. */
    from?: number
    /** The row after the last. Default all. */
    to?: number
    /** Whether inputs may begin before `from`, as long as targets do not: for validation and test. Default false. */
    reachBack?: boolean
  }
  /**
   * What happens where a value is missing: windows with one are left out (`'skip'`, default), or inputs have the value before it
   * (`'fill'`). A missing target always leaves its window out.
   */
  gaps?: 'skip' | 'fill'
  /** Whether each input has a second feature: 1 where its value is there, 0 where it was missing. Needs `gaps: 'fill'`. Default false. */
  masks?: boolean
  /** Scales each window by its own inputs: instance normalisation. `scaler(i)` has the scales. Default not at all. */
  instance?: Scaling
}

const targetForms = ['block', 'steps'] as const
const gapRules = ['skip', 'fill'] as const
const OPTIONS = [
  'length',
  'horizon',
  'stride',
  'inputs',
  'targets',
  'known',
  'calendar',
  'zone',
  'target',
  'rows',
  'gaps',
  'masks',
  'instance',
] as const

/** What windows are cut from, row after row. */
interface Plan {
  readonly table: DataTable
  readonly length: number
  readonly horizon: number
  readonly form: 'block' | 'steps'
  readonly inputs: readonly string[]
  readonly targets: readonly string[]
  readonly features: readonly string[]
  /** (rows, features), gaps filled: those of the window's rows, masks, those known ahead. */
  readonly values: Float64Array
  /** Features that are not known ahead come first; so many there are. */
  readonly observed: number
  /** (rows, targets). */
  readonly wanted: Float64Array
  readonly instance: Scaling | undefined
  /** First row of each window. */
  readonly starts: Int32Array
}

/** What only this file may make windows from. */
const made = new WeakSet<object>()

/**
 * Windows over the rows of a table, made when they are asked for: parts of one array, not copies, wherever they can be. An iterable of
 * examples for training, which can be walked again; `[...windows]` is an array of them.
 */
export class TableWindows implements Iterable<Sample> {
  /** Number of windows. */
  readonly length: number
  /** Names of the features at each time step of an input. */
  readonly features: readonly string[]
  /** Names of the columns that are predicted. */
  readonly targets: readonly string[]
  readonly #plan: Plan

  private constructor(plan: Plan) {
    // JavaScript lets a caller get here with anything.
    if (typeof plan !== 'object' || plan === null || !made.has(plan))
      throw fail('ERR_S4_VALUE', 'TableWindows', 'windows()', 'new')
    this.#plan = plan
    this.length = plan.starts.length
    this.features = plan.features
    this.targets = plan.targets
  }

  /** @internal */
  static of(plan: Plan): TableWindows {
    made.add(plan)
    return new TableWindows(plan)
  }

  #start(op: string, index: number): number {
    wholeNumber(op, 'index', index, 0, this.length - 1)
    return this.#plan.starts[index] as number
  }

  /** The first row that window `index` predicts. */
  row(index: number): number {
    return this.#start('TableWindows.row', index) + this.#plan.length
  }

  /** Window `index`: { input (length, features), target }. Where columns are known ahead, a block's input goes on over the horizon. */
  at(index: number): Sample {
    const start = this.#start('TableWindows.at', index)
    const { instance } = this.#plan
    const scaler = instance === undefined ? undefined : this.#scalerOf(start, instance)
    return { input: this.#input(start, scaler), target: this.#target(start, scaler) }
  }

  /** The scales of window `index`, where windows are scaled by their own inputs. */
  scaler(index: number): Scaler {
    const op = 'TableWindows.scaler'
    const start = this.#start(op, index)
    const { instance } = this.#plan
    if (instance === undefined) throw fail('ERR_S4_VALUE', op, "windows with the option 'instance'", 'others')
    return this.#scalerOf(start, instance)
  }

  /** Gives every window in order. */
  *[Symbol.iterator](): Generator<Sample> {
    for (let i = 0; i < this.length; i++) yield this.at(i)
  }

  #scalerOf(start: number, kind: Scaling): Scaler {
    const { table, length, inputs, targets } = this.#plan
    const columns = [...new Set([...inputs, ...targets])]
    return Scaler.fit(table.slice(start, start + length), { kind, columns })
  }

  #input(start: number, scaler: Scaler | undefined): Sample['input'] {
    const { values, features, length, horizon, form, observed, inputs } = this.#plan
    const width = features.length
    const isLonger = form === 'block' && observed < width
    const rows = isLonger ? length + horizon : length
    let data = values.subarray(start * width, (start + rows) * width)
    if (isLonger || scaler !== undefined) data = data.slice()
    if (scaler !== undefined)
      inputs.forEach((name, c) => {
        const [offset, scale] = scalesOf(scaler, name)
        for (let t = 0; t < length; t++)
          data[t * width + c] = ((data[t * width + c] as number) - offset) / scale
      })
    // What is not known ahead is not there yet.
    if (isLonger) for (let t = length; t < rows; t++) data.fill(0, t * width, t * width + observed)
    return { data, shape: [rows, width] }
  }

  #target(start: number, scaler: Scaler | undefined): Sample['target'] {
    const { wanted, targets, length, horizon, form } = this.#plan
    const width = targets.length
    const first = start + (form === 'block' ? length : 1)
    const rows = form === 'block' ? horizon : length - 1 + horizon
    let data = wanted.subarray(first * width, (first + rows) * width)
    if (scaler !== undefined) {
      data = data.slice()
      targets.forEach((name, c) => {
        const [offset, scale] = scalesOf(scaler, name)
        for (let i = c; i < data.length; i += width) data[i] = ((data[i] as number) - offset) / scale
      })
    }
    if (form === 'block') return { data, shape: [horizon * width] }
    if (horizon === 1) return { data, shape: [length, width] }
    const steps = allocate('TableWindows.at', [length, horizon * width], 'f64')
    for (let t = 0; t < length; t++)
      steps.set(data.subarray(t * width, (t + horizon) * width), t * horizon * width)
    return { data: steps, shape: [length, horizon * width] }
  }
}

function scalesOf(scaler: Scaler, name: string): [offset: number, scale: number] {
  const place = scaler.columns.indexOf(name)
  return [scaler.offset[place] as number, scaler.scale[place] as number]
}

/** The values of a column with the last one that was there in each gap; windows before the first are left out. */
function filled(values: Float64Array): Float64Array {
  if (!values.some((x) => Number.isNaN(x))) return values
  const first = values.findIndex((x) => !Number.isNaN(x))
  let last = first < 0 ? 0 : (values[first] as number)
  return values.map((x) => (Number.isNaN(x) ? last : (last = x)))
}

/** A gap in each row before the first value: what comes later must not fill it. */
function beforeFirst(values: Float64Array): Float64Array {
  const first = values.findIndex((x) => !Number.isNaN(x))
  return values.map((_, t) => (first < 0 || t < first ? NaN : 0))
}

/** How many of the rows before each row have a gap in one of the columns. */
function gapsBefore(columns: readonly Float64Array[], rows: number): Int32Array {
  const before = new Int32Array(rows + 1)
  for (let t = 0; t < rows; t++)
    before[t + 1] = (before[t] as number) + Number(columns.some((x) => Number.isNaN(x[t])))
  return before
}

interface GivenRows {
  readonly from: number
  readonly to: number
  readonly reachBack: boolean
}

function givenRows(op: string, x: unknown, rows: number): GivenRows {
  const {
    from = 0,
    to = rows,
    reachBack = false,
    ...others
  } = x === undefined ? {} : membersOf(op, 'rows', x)
  const [unknown] = Object.keys(others)
  if (unknown !== undefined)
    throw fail('ERR_S4_VALUE', op, 'rows of from, to, reachBack', `unknown option '${unknown}'`)
  return {
    from: wholeNumber(op, 'from of rows', from, 0, rows),
    to: wholeNumber(op, 'to of rows', to, 0, rows),
    reachBack: booleanOf(op, 'reachBack of rows', reachBack),
  }
}

/**
 * Windows over the rows of a table, to train a model on: what it sees of the past, what is known ahead, and what it is to predict.
 * `ERR_S4_DATA` where the rows have no room for one window.
 *
 * @example
 * const examples = windows(scaler.transform(table), { length: 336, horizon: 96, rows: { from: 0, to: 8640 } })
 * await model.fit(examples, { batchSize: 32, epochs: 10 })
 */
export function windows(data: TableLike, options: TableWindowOptions): TableWindows {
  const op = 'windows'
  const given = rejectUnknownOptions(op, options, OPTIONS)
  const { horizon = 1, stride = 1, target = 'block', gaps = 'skip', masks = false, instance } = given
  const length = wholeNumber(op, 'length', given.length, 1, 2 ** 31)
  wholeNumber(op, 'horizon', horizon, 1, 2 ** 31)
  wholeNumber(op, 'stride', stride, 1, 2 ** 31)
  oneOf(op, 'target', target, targetForms)
  oneOf(op, 'gaps', gaps, gapRules)
  if (instance !== undefined) oneOf(op, 'instance', instance, scalings)
  if (instance !== undefined && target === 'steps')
    throw fail(
      'ERR_S4_VALUE',
      op,
      "no instance with target 'steps': the scales of a window tell of what its steps predict",
      `'${instance}'`,
    )
  if (given.zone !== undefined) textOf(op, 'zone', given.zone)
  if (booleanOf(op, 'masks', masks) && gaps !== 'fill')
    throw fail('ERR_S4_VALUE', op, "masks with gaps 'fill'", `gaps '${gaps}'`)
  const table = givenTable(op, 'data', data)
  const known = columnNames(op, 'known', given.known, table, [])
  const usual = Object.keys(table.columns).filter((name) => !known.includes(name))
  const inputs = columnNames(op, 'inputs', given.inputs, table, usual)
  const targets = columnNames(op, 'targets', given.targets, table, inputs)
  for (const [what, list] of Object.entries({ inputs, targets }))
    if (list.length === 0) throw fail('ERR_S4_VALUE', op, `${what}, at least one column`, 'none')
  const { from, to, reachBack } = givenRows(op, given.rows, table.rows)
  // The first target of a block stands `length` rows after the window's first, that of a step one.
  const begin = reachBack ? Math.max(0, from - (target === 'block' ? length : 1)) : from
  if (to - begin < length + horizon)
    throw fail(
      'ERR_S4_DATA',
      op,
      `data with ${length + horizon} rows (length + horizon) between from and to`,
      to - begin,
    )

  const fields = given.calendar === undefined ? [] : calendarList(op, 'calendar', given.calendar)
  if (fields.length > 0 && table.time === undefined)
    throw fail('ERR_S4_DATA', op, 'data with a time in each row, for calendar', 'none')
  const clock = fields.length === 0 ? {} : calendarColumns(op, table.time as Float64Array, fields, given.zone)
  const seen = inputs.map((name) => table.column(name))
  const ahead = [...known.map((name) => table.column(name)), ...Object.values<Float64Array>(clock)]
  const aheadNames = [...known, ...fields]
  const presence = masks ? seen.map((x) => x.map((v) => (Number.isNaN(v) ? 0 : 1))) : []
  // Steps see what is known of the rows that they predict; a block's input goes on over these rows instead.
  const leads = target === 'block' ? [0] : Array.from({ length: horizon }, (_, k) => k + 1)
  const columns = [
    ...seen.map(filled),
    ...presence,
    ...ahead.flatMap((x) => leads.map((lead) => later(filled(x), lead))),
  ]
  const features = [
    ...inputs,
    ...(masks ? inputs.map((name) => `${name} is there`) : []),
    ...aheadNames.flatMap((name) => leads.map((lead) => (lead === 0 ? name : `${name} +${lead}`))),
  ]
  const wanted = targets.map((name) => table.column(name))
  const strict = [...wanted, ...(gaps === 'skip' ? [...seen, ...ahead] : [])]
  const inputGaps = gapsBefore(gaps === 'skip' ? strict : seen.map(beforeFirst), table.rows)
  // A window has no scales of an input that has no value in it.
  const scaled = instance === undefined ? [] : seen.map((x) => gapsBefore([x], table.rows))
  const targetGaps = gapsBefore(gaps === 'skip' ? strict : wanted, table.rows)
  const starts: number[] = []
  for (let start = begin; start + length + horizon <= to; start += stride) {
    const first = start + (target === 'block' ? length : 1)
    const end = start + length + horizon
    const isWhole = inputGaps[start] === inputGaps[start + length] && targetGaps[first] === targetGaps[end]
    const isScaled = scaled.every(
      (gone) => (gone[start + length] as number) - (gone[start] as number) < length,
    )
    if (isWhole && isScaled) starts.push(start)
  }
  if (starts.length === 0) throw fail('ERR_S4_DATA', op, 'data with a window without missing values', 'none')
  return TableWindows.of({
    table,
    length,
    horizon,
    form: target,
    inputs,
    targets,
    features,
    values: rowMajor(op, columns, table.rows),
    observed: seen.length + presence.length,
    wanted: rowMajor(op, wanted, table.rows),
    instance,
    starts: Int32Array.from(starts),
  })
}

/** The values `lead` rows later; at the end the last. */
function later(values: Float64Array, lead: number): Float64Array {
  return lead === 0 ? values : values.map((_, t) => values[Math.min(t + lead, values.length - 1)] as number)
}

/** Columns as rows, one after the other. */
function rowMajor(op: string, columns: readonly Float64Array[], rows: number): Float64Array {
  const [only] = columns
  if (columns.length === 1) return only as Float64Array
  const values = allocate(op, [rows, columns.length], 'f64') as Float64Array
  columns.forEach((x, c) => {
    for (let t = 0; t < rows; t++) values[t * columns.length + c] = x[t] as number
  })
  return values
}
