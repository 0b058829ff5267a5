import { describe, membersOf } from '../check.js'
import { fail } from '../error.js'
import type { SequenceModel } from '../model.js'
import type { ModelStream } from '../stream.js'
import { clipped, RunningWindow, VALUES_PER_TARGET, writeInputs } from './causal.js'
import { oneStep, surpriseOf } from './forecast-calibration.js'
import type { ForecastAbout } from './forecast-file.js'
import { combined, type ScaledForecast } from './forecast-network.js'
import { linearRows, predictWindow } from './linear-forecast.js'
import { Detector } from './marks.js'
import { inputWidth } from './prepared.js'
import type { Scale } from './series.js'

/** What a stream says of a row. */
export interface StreamRow {
  /** Number of the row, from 0. */
  row: number
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
      return { name, scale, window: new RunningWindow(lookBack), ahead }
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
   * `horizon` rows later. A row that is refused leaves the stream as it was.
   */
  push(row: Record<string, number>): StreamRow {
    const op = this.#checkLive('push')
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
    const expected = this.#next && oneStep(this.#about.parts, this.#next)
    const z = this.#next && !missing ? surpriseOf(this.#about.parts, this.#next, actual) : NaN
    const said = this.#detector?.push(z) ?? { strength: 0, kind: 'surprise' as const }
    // In the place of a missing value what was expected goes on.
    const taken = actual.map((x, c) => (Number.isNaN(x) ? (expected?.mean[c] ?? 0) : x))
    this.#advance(taken, later)
    const byName = (of: (c: number, scale: Scale) => number) =>
      Object.fromEntries(this.#targets.map(({ name, scale }, c) => [name, of(c, scale)]))
    return {
      row: this.#row++,
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

  /** Takes a row in, and forecasts from it. */
  #advance(values: readonly number[], later: readonly number[]): void {
    const { parts } = this.#about
    const { horizon, lookBack, linear, moves } = parts
    const targets = this.#targets.length
    const input = new Float32Array(inputWidth(targets, this.#covariates.length))
    this.#targets.forEach(({ window }, c) => {
      window.push(values[c] as number)
      const last = [window.at(0), window.at(1), window.at(2)] as const
      writeInputs(input, c * VALUES_PER_TARGET, last, window, moves[c] as number)
    })
    this.#covariates.forEach(({ window, ahead }, q) => {
      const value = later[q] as number
      ahead.push(Number.isNaN(value) ? (ahead.at(-1) as number) : value)
      const now = ahead.shift() as number
      window.push(now)
      input[targets * VALUES_PER_TARGET + 2 * q] = clipped(now)
      input[targets * VALUES_PER_TARGET + 2 * q + 1] = clipped(ahead.at(-1) as number)
    })
    const outputs = this.#network.push({ data: input, shape: [1, 1, input.length] }).data
    const base = new Float64Array(horizon * targets)
    const row = new Float64Array(linearRows(linear))
    const out = new Float64Array(horizon)
    this.#targets.forEach(({ window }, c) => {
      const now = window.at(0)
      row[0] = 1
      for (let j = 0; j < lookBack; j++) row[1 + j] = (window.at(j) - now) / window.deviation
      this.#covariates.forEach((covariate, q) => {
        for (let i = 0; i < horizon; i++)
          row[1 + lookBack + q * horizon + i] =
            ((covariate.ahead[i] as number) - covariate.window.level) / window.deviation
      })
      predictWindow(linear, row, c, now, window.deviation, out)
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
