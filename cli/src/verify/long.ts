/** Kernels of 16,384 and 65,536 samples. */
import { S4Layer } from 's4-node'
import { tensor, type Computed, type GoldenFile, type RunOptions } from './cases.js'

export async function runLong(
  golden: GoldenFile,
  _checkpoint: string | undefined,
  run: RunOptions,
): Promise<Computed> {
  const { H, L, d_state: state } = golden.config as { H: number; L: number; d_state: number }
  using layer = new S4Layer({ features: H, state, mode: 's4', dtTransform: 'exp', ...run })
  for (const { name } of layer.parameters()) {
    if (name !== 'D') layer.setParameter(name, tensor(golden, name.replace('kernel.', 'param.')))
  }
  return new Map([['kernel', layer.kernel(L).data]])
}
