// What a forecaster's file holds beside its network: the metadata `extra` of the checkpoint, as JSON.
import { fail } from '../error.js'
import type { ForecastParts, Predicted } from './forecast-network.js'
import type { Thresholds } from './marks.js'
import type { ColumnPlan, Scale } from './series.js'

/** Everything of a forecaster but its network. */
export interface ForecastAbout extends ColumnPlan {
  readonly parts: ForecastParts
  /** Rows of a season, 1 for none. */
  readonly season: number
  /** Mean absolute difference to a season before in the training part, by target, in scaled units. */
  readonly naiveScales: readonly number[]
  readonly thresholds: Thresholds | undefined
  /** The usual interval in milliseconds, where the network takes the intervals between rows. */
  readonly interval: number | undefined
}

/** Those that take intervals have a format of their own, which versions that know none refuse. */
const [FORMAT, TIMED] = [1, 2]

const packed = (x: ArrayLike<number>): string =>
  Buffer.from(Float32Array.from(x as ArrayLike<number>).buffer).toString('base64')

/** The text of a forecaster's `extra`. */
export function forecastText({ parts, ...about }: ForecastAbout): string {
  const { linear, residuals, calibration, ...others } = parts
  return JSON.stringify({
    task: 'forecast',
    format: about.interval === undefined ? FORMAT : TIMED,
    ...about,
    parts: {
      ...others,
      residuals: packed(residuals),
      calibration: packed(calibration),
      linear: { ...linear, weights: linear.weights.map(packed) },
    },
  })
}

/** Reads what {@link forecastText} gave. `ERR_S4_CHECKPOINT` for anything else, before the network is used. */
export function forecastAbout(op: string, text: string | undefined): ForecastAbout {
  const wrong = (got: string) => fail('ERR_S4_CHECKPOINT', op, 'a file that Forecaster.save wrote', got)
  let given: Record<string, unknown>
  try {
    given = JSON.parse(text ?? '') as Record<string, unknown>
  } catch {
    throw wrong('a model that does not say how its series are scaled')
  }
  if (given?.['task'] !== 'forecast')
    throw wrong(
      typeof given?.['task'] === 'string'
        ? `a file of the task '${given['task']}'`
        : 'a model of another program',
    )
  if (given['format'] !== FORMAT && given['format'] !== TIMED)
    throw wrong(`one of the format ${String(given['format'])}`)
  try {
    return checked(given)
  } catch (error) {
    throw wrong(`a damaged one (${(error as Error).message})`)
  }
}

function checked(given: Record<string, unknown>): ForecastAbout {
  const names = (x: unknown) => {
    if (!Array.isArray(x) || !x.every((name) => typeof name === 'string')) throw new Error('names of columns')
    return x as string[]
  }
  const targets = names(given['targets'])
  const known = names(given['known'])
  const scales = given['scales'] as Record<string, Scale>
  for (const name of [...targets, ...known])
    if (!Number.isFinite(scales[name]?.mean) || !((scales[name] as Scale).deviation > 0))
      throw new Error(`the scale of '${name}'`)
  const parts = given['parts'] as Record<string, unknown>
  const whole = (x: unknown, what: string) => {
    if (!Number.isSafeInteger(x) || (x as number) < 1 || (x as number) > 2 ** 24) throw new Error(what)
    return x as number
  }
  const [lookBack, horizon] = [whole(parts['lookBack'], 'lookBack'), whole(parts['horizon'], 'horizon')]
  const width = horizon * targets.length
  const predicted = parts['predicted'] as Predicted
  if (!['mean', 'gaussian', 'quantiles'].includes(predicted)) throw new Error('predicted')
  const levels = Array.from(parts['levels'] as number[], Number)
  const linear = parts['linear'] as { weights: string[] }
  const rows = 1 + lookBack + known.length * horizon
  const weights = linear.weights.map((w) => Float64Array.from(unpacked(w, rows * horizon)))
  if (weights.length !== 1 && weights.length !== targets.length) throw new Error('linear')
  const moves = Array.from(parts['moves'] as number[], Number)
  if (moves.length !== targets.length || !moves.every((m) => m > 0)) throw new Error('moves')
  const share = Number(parts['share'])
  if (!(share >= 0 && share <= 1)) throw new Error('share')
  const interval = given['format'] === TIMED ? Number(given['interval']) : undefined
  if (interval !== undefined && !(interval > 0 && interval < Infinity)) throw new Error('interval')
  return {
    targets,
    known,
    scales,
    season: whole(given['season'], 'season'),
    naiveScales: Array.from(given['naiveScales'] as number[], Number),
    thresholds: given['thresholds'] as Thresholds | undefined,
    interval,
    parts: {
      lookBack,
      horizon,
      predicted,
      levels,
      moves,
      share,
      targets: targets.length,
      residuals: unpacked(parts['residuals'], width),
      calibration: unpacked(parts['calibration'], predicted === 'quantiles' ? width * levels.length : width),
      linear: { lookBack, horizon, known: known.length, weights },
    },
  }
}

function unpacked(text: unknown, count: number): Float32Array {
  const bytes = Buffer.from(text as string, 'base64')
  if (bytes.length !== 4 * count) throw new Error(`${bytes.length / 4} numbers in the place of ${count}`)
  return new Float32Array(new Uint8Array(bytes).buffer)
}
