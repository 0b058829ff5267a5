/** Data for a network as it sees them: an array (.npy), the columns of a table, or the bytes of a text. */
import { readFileSync } from 'node:fs'
import { extname } from 'node:path'
import type { SequenceModel, TensorLike } from 's4-node'
import { readNpy } from 's4-node/data'
import { UsageError } from '../usage.js'
import { readOneTable } from './tables.js'

/** What a file says of its task, if it is of one. */
export interface SaidOfTask {
  readonly task?: string
  readonly tokens?: { readonly kind?: string; readonly characters?: string }
}

/** The text that a checkpoint carries; of another program nothing is known. */
export function saidOf(extra: string | undefined): SaidOfTask {
  try {
    return (JSON.parse(extra ?? '{}') ?? {}) as SaidOfTask
  } catch {
    return {}
  }
}

/** The input of a model that a file holds. */
export async function readModelInput(file: string, { config, extra }: SequenceModel): Promise<TensorLike> {
  const ofTokens = config.encoder === 'embedding'
  const wanted = ofTokens
    ? 'tokens (len) or (batch, len)'
    : `values (len, ${config.input}) or (batch, len, ${config.input})`
  if (extname(file).toLowerCase() === '.npy') {
    const { data, shape } = await readNpy(file)
    const sizes = shape.length === 1 && !ofTokens && config.input === 1 ? [...shape, 1] : shape
    const whole = sizes.length === (ofTokens ? 1 : 2) ? [1, ...sizes] : sizes
    if (whole.length !== (ofTokens ? 2 : 3) || (!ofTokens && whole[2] !== config.input))
      throw new Error(`${file} has sizes ${shape.join(' × ')}: the model takes ${wanted}`)
    const numbers = Array.from(data as ArrayLike<number | bigint>, Number)
    return { data: ofTokens ? Int32Array.from(numbers) : Float32Array.from(numbers), shape: whole }
  }
  if (ofTokens) {
    const { tokens } = saidOf(extra)
    if (tokens === undefined ? config.vocabulary !== 256 : tokens.kind === 'own')
      throw new UsageError(`${file}: the model's tokens are no bytes, write ${wanted} to a file .npy`)
    const characters = tokens?.characters === undefined ? undefined : Array.from(tokens.characters)
    const text = characters && Array.from(readFileSync(file, 'utf8'), (one) => characters.indexOf(one))
    if (text?.includes(-1)) throw new Error(`${file} has characters that were not learned`)
    // A generator's text begins with the border that it was learned with.
    const border = tokens === undefined ? [] : [(config.vocabulary as number) - 1]
    const all = Int32Array.from([...border, ...(text ?? readFileSync(file))])
    return { data: all, shape: [1, all.length] }
  }
  const { rows, columns } = await readOneTable(file, {})
  const values = Object.values(columns)
  if (values.length !== config.input)
    throw new Error(
      `${file} has ${values.length} columns of numbers: the model takes ${config.input}, or a file .npy`,
    )
  const data = new Float32Array(rows * values.length)
  values.forEach((column, c) => column.forEach((x, t) => (data[t * values.length + c] = x)))
  return { data, shape: [1, rows, values.length] }
}
