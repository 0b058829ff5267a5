/** Computes the kernels of golden cases with 16,384 and 65,536 samples. */
import { S4Layer } from 's4-node'
import { swapLast, tensor, type Computed, type GoldenFile, type RunOptions } from './cases.js'

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
  return new Map([
    ['kernel', run.algorithm === undefined ? layer.kernel(L).data : impulseResponse(layer, H, L)],
  ])
}

/** The kernel (H, L) as the layer's output for an impulse (1, 0, 0, …), with D = 0: by the algorithm that the layer uses. */
function impulseResponse(layer: S4Layer, features: number, len: number): Float64Array {
  layer.setParameter('D', { data: new Float64Array(features), shape: [1, features] })
  const u = { data: new Float64Array(len * features).fill(1, 0, features), shape: [1, len, features] }
  return swapLast(layer.forward(u, { save: false, finalState: false }).y).data
}
