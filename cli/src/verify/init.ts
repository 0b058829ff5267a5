/** Computes the HiPPO matrices of a golden file and their NPLR forms, in f64. */
import { hippo, nplr, type HippoKind } from 's4-node'
import type { Computed, GoldenFile } from './cases.js'

export async function runInit(golden: GoldenFile): Promise<Computed> {
  const out: Computed = new Map()
  for (const name of golden.tensors.keys()) {
    const [kind, size] = name.split('.')
    if (!/^(legs|legt|fourier)\.\d+\.A$/.test(name)) continue
    const dense = hippo(kind as HippoKind, Number(size))
    const form = nplr(kind as HippoKind, Number(size))
    const put = (part: string, { data }: { data: ArrayLike<number> }) =>
      out.set(`${kind}.${size}.${part}`, data)
    put('A', dense.a)
    put('B', dense.b)
    put('P', dense.p)
    put('lambda', form.lambda)
    put('b_unclipped', form.bUnclipped)
    put('b', form.b)
    put('p', form.p)
  }
  return out
}
