import { describe, membersOf, rejectUnknownOptions } from '../check.js'
import { fail } from '../error.js'
import type { SequenceModel } from '../model.js'
import type { ModelStream } from '../stream.js'
import { clipped, RunningWindow, VALUES_PER_TARGET, writeInputs } from './causal.js'
import { stampText, valueAt, valuesBefore } from './clock.js'
import { oneStep, surpriseOf } from './forecast-calibration.js'
import type { ForecastAbout } from './forecast-file.js'
import { combined, type ScaledForecast } from './forecast-network.js'
import { stepAhead } from './forecast-times.js'
import { linearRows, predictWindow } from './linear-forecast.js'
import { Detector } from './marks.js'
import { inputWidth } from './prepared.js'
import type { Scale } from './series.js'

/** What a stream says of a row. */
export interface StreamRow {
  /** Number of the row, from 0. */
  row: number
  /** Its time, of a forecaster that takes intervals. */
  time?: number
  /** What was expected of each target, by the forecast made one row before; NaN until there is one. */
  expected: Record<string, number>
  /** The standard deviation of that forecast. */
  sigma: Record<string, number>
  /** How far the last rows are beyond what counts as normal: above 1 is a mark. */
  strength: number
  /** Whether it is marked: as a surprise, or as flat, a series that is quieter than it ever was. */
  mark?: 'surprise' | 'flat'
}

/** A target in a stream. */
interface StreamTarget {
  readonly name: string
  readonly scale: Scale
  readonly window: RunningWindow
}

/** A covariate in a stream: its values from the look-back to the horizon ahead. */
interface StreamCovariate {
  readonly name: string
  readonly scale: Scale
  readonly window: RunningWindow
  /** Scaled values; the first is that of the present row. */
  readonly ahead: number[]
  /** Times of these values in usual intervals, where the network takes intervals; the present row is then between the first ones. */
  readonly times: number[]
}

/** What a push is told beside the values. */
export interface StreamRowOptions {
  /**
   * The time of the row in milliseconds since 1970, later than that of the row before: of a forecaster that takes intervals, which needs
   * it, alone.
   */
  time?: number
}

const opened = new WeakSet<object>()

/** A forecaster that follows a series row by row, see {@link Forecaster.stream}. */
export class ForecastStream {
  readonly #about: ForecastAbout
  readonly #network: ModelStream
  readonly #targets: readonly StreamTarget[]
  readonly #covariates: readonly StreamCovariate[]
  readonly #detector: Detector | undefined
  #row = 0
  #next: ScaledForecast | undefined
  /** Times in usual intervals since the first row, of the last look-back of rows; where the network takes intervals. */
  readonly #times: number[] = []
  readonly #past: readonly number[][]
  #first = 0
  #disposed = false

  private constructor(about: ForecastAbout, network: ModelStream, covariates: readonly StreamCovariate[]) {
    // JavaScript lets a caller get here with anything.
    if (!opened.has(network)) throw fail('ERR_S4_VALUE', 'ForecastStream', 'Forecaster.stream()', 'new')
    this.#about = about
    this.#network = network
    this.#covariates = covariates
    this.#targets = about.targets.map((name) => ({
      name,
      scale: about.scales[name] as Scale,
      window: new RunningWindow(about.parts.lookBack),
    }))
    this.#past = about.targets.map(() => [])
    this.#detector = about.thresholds && new Detector(about.thresholds)
  }

  /** @internal */
  static open(
    op: string,
    model: SequenceModel,
    about: ForecastAbout,
    known: Record<string, Float64Array>,
  ): ForecastStream {
    const { horizon, lookBack } = about.parts
    const covariates = about.known.map((name): StreamCovariate => {
      const values = Object.hasOwn(known, name) ? (known[name] as Float64Array) : undefined
      if (values === undefined || values.length !== horizon || values.some(Number.isNaN))
        throw fail(
          'ERR_S4_DATA',
          op,
          `known with ${horizon} values of '${name}', those of the first rows`,
          values?.length ?? 'none',
        )
      const scale = about.scales[name] as Scale
      const ahead = Array.from(values, (x) => (x - scale.mean) / scale.deviation)
      return { name, scale, window: new RunningWindow(lookBack), ahead, times: ahead.map((_, i) => i) }
    })
    const network = model.stream({ batch: 1 })
    opened.add(network)
    return new ForecastStream(about, network, covariates)
  }

  #checkLive(op: string): string {
    const name = `ForecastStream.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'a live stream', 'a disposed one')
    return name
  }

  /** Number of rows so far. */
  get position(): number {
    return this.#row
  }

  /**
   * The next row: the value of each target, NaN where it is missing, and of each covariate that is known ahead the value
   * `horizon` rows (or usual intervals) later. Of a forecaster that takes intervals each row has a `time`, for which it is expected. A row
   * that is refused leaves the stream as it was.
   */
  push(row: Record<string, number>, options: StreamRowOptions = {}): StreamRow {
    const op = this.#checkLive('push')
    const { time } = rejectUnknownOptions(op, options, ['time'])
    const now = this.#timeOf(op, time)
    const values = membersOf(op, 'row', row, 'ERR_S4_DATA')
    const read = (name: string, { mean, deviation }: Scale) => {
      const x = Object.hasOwn(values, name) ? values[name] : undefined
      if (typeof x !== 'number' || Math.abs(x) > 1e30)
        throw fail('ERR_S4_DATA', op, `row with a number for '${name}', up to 1e30`, describe(x))
      return (x - mean) / deviation
    }
    const actual = this.#targets.map(({ name, scale }) => read(name, scale))
    const later = this.#covariates.map(({ name, scale }) => read(name, scale))
    const missing = actual.some(Number.isNaN)
    const { parts } = this.#about
    const next = this.#next && (now === undefined ? this.#next : this.#expectedAt(this.#next, now))
    const expected = next && oneStep(parts, next)
    const z = next && !missing ? surpriseOf(parts, next, actual) : NaN
    const said = this.#detector?.push(z) ?? { strength: 0, kind: 'surprise' as const }
    // In the place of a missing value what was expected goes on.
    const taken = actual.map((x, c) => (Number.isNaN(x) ? (expected?.mean[c] ?? 0) : x))
    this.#advance(taken, later, now)
    const byName = (of: (c: number, scale: Scale) => number) =>
      Object.fromEntries(this.#targets.map(({ name, scale }, c) => [name, of(c, scale)]))
    return {
      row: this.#row++,
      ...(time !== undefined && { time }),
      expected: byName((c, { mean, deviation }) =>
        expected === undefined ? NaN : (expected.mean[c] as number) * deviation + mean,
      ),
      sigma: byName((c, { deviation }) =>
        expected === undefined ? NaN : (expected.sigma[c] as number) * deviation,
      ),
      strength: said.strength,
      ...(said.strength > 1 && { mark: said.kind }),
    }
  }

  /** The time of a row in usual intervals since the first; undefined where the network takes none. */
  #timeOf(op: string, time: unknown): number | undefined {
    const { interval } = this.#about
    if (interval === undefined) {
      if (time === undefined) return undefined
      throw fail(
        'ERR_S4_UNSUPPORTED',
        op,
        "no 'time' for a forecaster that takes no intervals",
        describe(time),
      )
    }
    if (typeof time !== 'number' || !(Math.abs(time) <= 1e30))
      throw fail('ERR_S4_DATA', op, 'time of the row in milliseconds', describe(time))
    if (this.#row === 0) this.#first = time
    const now = (time - this.#first) / interval
    const last = this.#times.at(-1)
    if (last !== undefined && !(now > last))
      throw fail(
        'ERR_S4_DATA',
        op,
        'a time that is later than that of the row before',
        `${stampText(time)} after ${stampText(this.#first + last * interval)}`,
      )
    return now
  }

  /** What was forecast for the time of a row, in the place of the first step. */
  #expectedAt(next: ScaledForecast, now: number): ScaledForecast {
    const last = this.#targets.map(({ window }) => window.at(0))
    return stepAhead(this.#about.parts, next, last, now - (this.#times.at(-1) as number))
  }

  /** The last values of a target, at this row and 1, 2, … steps before. */
  #before(c: number, out: number[] | Float64Array): void {
    const { window } = this.#targets[c] as StreamTarget
    const times = this.#times
    if (times.length > 0) valuesBefore(times, this.#past[c] as number[], times.length - 1, 0, out)
    else for (let j = 0; j < out.length; j++) out[j] = window.at(j)
  }

  /** Takes a row in, and forecasts from it. `now`: its time, where the network takes intervals. */
  #advance(values: readonly number[], later: readonly number[], now: number | undefined): void {
    const { parts } = this.#about
    const { horizon, lookBack, linear, moves } = parts
    const interval = now === undefined || this.#row === 0 ? 1 : now - (this.#times.at(-1) as number)
    if (now !== undefined) {
      for (const [list, x] of [
        [this.#times, now] as const,
        ...this.#past.map((p, c) => [p, values[c]!] as const),
      ]) {
        list.push(x)
        if (list.length > lookBack) list.shift()
      }
    }
    const targets = this.#targets.length
    const input = new Float32Array(inputWidth(targets, this.#covariates.length))
    this.#targets.forEach(({ window }, c) => {
      window.push(values[c] as number)
      const last: [number, number, number] = [0, 0, 0]
      this.#before(c, last)
      writeInputs(input, c * VALUES_PER_TARGET, last, window, moves[c] as number)
    })
    this.#covariates.forEach(({ window, ahead, times }, q) => {
      const value = later[q] as number
      ahead.push(Number.isNaN(value) ? (ahead.at(-1) as number) : value)
      let present: number
      if (now === undefined) present = ahead.shift() as number
      else {
        times.push(now + horizon)
        // The value before this row's time is needed for what is between them.
        for (; (times[1] as number) <= now; times.shift()) ahead.shift()
        present = valueAt(times, ahead, now)
      }
      window.push(present)
      input[targets * VALUES_PER_TARGET + 2 * q] = clipped(present)
      input[targets * VALUES_PER_TARGET + 2 * q + 1] = clipped(ahead.at(-1) as number)
    })
    const outputs = this.#network.push(
      { data: input, shape: [1, 1, input.length] },
      now === undefined ? {} : { interval },
    ).data
    const base = new Float64Array(horizon * targets)
    const row = new Float64Array(linearRows(linear))
    const out = new Float64Array(horizon)
    this.#targets.forEach(({ window }, c) => {
      const level = window.at(0)
      row[0] = 1
      const past = row.subarray(1, 1 + lookBack)
      this.#before(c, past)
      for (let j = 0; j < lookBack; j++) past[j] = ((past[j] as number) - level) / window.deviation
      this.#covariates.forEach((covariate, q) => {
        for (let i = 0; i < horizon; i++) {
          const value =
            now === undefined ? covariate.ahead[i] : valueAt(covariate.times, covariate.ahead, now + 1 + i)
          row[1 + lookBack + q * horizon + i] =
            ((value as number) - covariate.window.level) / window.deviation
        }
      })
      predictWindow(linear, row, c, level, window.deviation, out)
      out.forEach((x, k) => (base[k * targets + c] = x))
    })
    this.#next = combined(
      parts,
      base,
      outputs,
      this.#targets.map(({ window }) => window.deviation),
    )
  }

  /** Frees the network's state. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#network.dispose()
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}
