// Files of layers and blocks: their parameters by name, and their options as JSON in the metadata.
import { fail } from './error.js'
import { readSafetensorsAsync, writeSafetensorsAsync, type FileTensor } from './files.js'
import type { Handle } from './handle.js'
import type { BlockConfig, LayerConfig, LoadOptions, S4BlockOptions } from './options.js'
import type { Tensor, TensorLike } from './tensor.js'

/** What a file holds. */
export type LayerKind = 'S4Layer' | 'S4Block'

/** A layer or block, of whatever kind. */
interface Saved extends Handle {
  readonly config: Readonly<LayerConfig | BlockConfig>
  runningStatistics(): Tensor | undefined
  setRunningStatistics(statistics: TensorLike): void
}

/** Name of a batch norm's running means and variances, (2, features). */
export const RUNNING = 'norm.running'

/** Writes a layer or block. */
export async function saveLayer(layer: Saved, kind: LayerKind, file: string): Promise<void> {
  const tensors: Record<string, Tensor> = Object.fromEntries(
    layer.parameters().map(({ name, value }) => [name, value]),
  )
  const statistics = layer.runningStatistics()
  if (statistics !== undefined) tensors[RUNNING] = statistics
  const metadata = {
    format: 's4-node',
    kind,
    config: JSON.stringify({ ...layer.config, dtype: layer.dtype }),
  }
  await writeSafetensorsAsync(file, tensors, metadata)
}

/** Options and values in a file of {@link saveLayer}; `options` stand for those of the file. */
export async function readLayer(
  op: string,
  kind: LayerKind,
  file: string,
  options: LoadOptions,
): Promise<{ config: S4BlockOptions; values: Record<string, FileTensor> }> {
  const { tensors, metadata } = await readSafetensorsAsync(file)
  const got =
    metadata['format'] === 's4-node' ? (metadata['kind'] ?? 'one of SequenceModel.save()') : 'another'
  if (got !== kind) throw fail('ERR_S4_CHECKPOINT', op, `a file of ${kind}.save()`, got)
  let config: unknown
  try {
    config = JSON.parse(metadata['config'] ?? '')
  } catch (cause) {
    throw fail('ERR_S4_CHECKPOINT', op, 'options in JSON in the metadata', (cause as Error).message)
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw fail('ERR_S4_CHECKPOINT', op, 'options in JSON in the metadata', metadata['config'])
  // What is null was not given: options leave it out.
  const given = [...Object.entries(config), ...Object.entries(options)].filter(([, value]) => value != null)
  return { config: Object.fromEntries(given) as unknown as S4BlockOptions, values: tensors }
}

/** Gives a new layer the values of a file, every one of which it must have. */
export function withValues<L extends Saved>(op: string, layer: L, values: Record<string, FileTensor>): L {
  try {
    const names = layer.parameters().map(({ name }) => name)
    const statistics = layer.runningStatistics()
    const all = statistics === undefined ? names : [...names, RUNNING]
    const missing = all.find((name) => !Object.hasOwn(values, name))
    if (missing !== undefined) throw fail('ERR_S4_CHECKPOINT', op, `the tensor '${missing}'`, 'none')
    const other = Object.keys(values).find((name) => !all.includes(name))
    if (other !== undefined) throw fail('ERR_S4_CHECKPOINT', op, 'its own tensors alone', `'${other}'`)
    for (const name of names) layer.setParameter(name, values[name] as FileTensor)
    if (statistics !== undefined) layer.setRunningStatistics(values[RUNNING] as FileTensor)
    return layer
  } catch (error) {
    layer.dispose()
    throw error
  }
}
