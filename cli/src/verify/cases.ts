/** Finds and reads golden cases (see the README of the golden files): `<case>.golden.safetensors`, some with `<case>.ckpt.safetensors`. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readSafetensors, type Dtype, type LoadOptions } from 's4-node'

export interface Tensor {
  readonly data: ArrayLike<number>
  readonly shape: readonly number[]
}

export interface GoldenFile {
  readonly tensors: ReadonlyMap<string, Tensor>
  readonly config: Readonly<Record<string, unknown>>
}

export interface GoldenCase {
  readonly name: string
  readonly golden: string
  readonly checkpoint?: string
}

export interface RunOptions extends Readonly<Omit<LoadOptions, 'dtype'>> {
  readonly dtype: Dtype
}

/** The computed values of each tensor of a golden file, by its name and in its layout. */
export type Computed = Map<string, ArrayLike<number>>

/** The golden cases of a folder. A `.safetensors` file that is part of none becomes a case of its own, which cannot be run. */
export function findCases(folder: string): GoldenCase[] {
  const files = readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .toSorted()
  const goldens = files.filter((file) => file.endsWith('.golden.safetensors'))
  const cases = goldens.map((file): GoldenCase => {
    const name = file.slice(0, -'.golden.safetensors'.length)
    const checkpoint = `${name}.ckpt.safetensors`
    return {
      name,
      golden: join(folder, file),
      ...(files.includes(checkpoint) ? { checkpoint: join(folder, checkpoint) } : {}),
    }
  })
  const listed = new Set(cases.flatMap((c) => [c.golden, c.checkpoint]))
  for (const file of files)
    if (!listed.has(join(folder, file)))
      cases.push({ name: file.replace(/(\.ckpt)?\.safetensors$/, ''), golden: join(folder, file) })
  return cases
}

export function readGolden(path: string): GoldenFile {
  const { tensors, metadata } = readSafetensors(path)
  const config =
    metadata?.config === undefined ? {} : (JSON.parse(metadata.config) as Record<string, unknown>)
  return { tensors: new Map(Object.entries(tensors) as [string, Tensor][]), config }
}

export function tensor(file: GoldenFile, name: string): Tensor {
  const found = file.tensors.get(name)
  if (found === undefined) throw new Error(`tensor ${name} is missing`)
  return found
}

/** Swaps the last two axes: golden files have (batch, features, len), the public API has (batch, len, features). */
export function swapLast({ data, shape }: Tensor): { data: Float64Array; shape: number[] } {
  const [batch, rows, columns] = shape
  const out = new Float64Array(batch * rows * columns)
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++)
        out[(b * columns + j) * rows + i] = Number(data[(b * rows + i) * columns + j])
    }
  }
  return { data: out, shape: [batch, columns, rows] }
}
