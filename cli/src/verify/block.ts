/** Computes the tensors of a golden case: y and gradients by an S4 block from an official state dict, the SSM's outputs by its layer alone. */
import { S4Block, S4Layer, type S4LayerOptions, type SsmAlgorithm } from 's4-node'
import { swapLast, tensor, type Computed, type GoldenFile, type RunOptions, type Tensor } from './cases.js'

/** The options of a layer from the configuration of a golden file. */
function layerOptions(config: GoldenFile['config'], run: RunOptions): S4LayerOptions {
  const { H, L, l_max: longest } = config as { H: number; L: number; l_max: number | null }
  return {
    features: H,
    state: config.d_state as number,
    mode: config.mode === 'diag' ? 's4d' : 's4',
    init: (config.init as string).replace('diag-', '') as S4LayerOptions['init'],
    ...(config.mode === 'diag' ? {} : { rank: config.rank as number }),
    nSsm: config.n_ssm as number,
    channels: config.channels as number,
    bidirectional: config.bidirectional as boolean,
    discretization: config.disc as S4LayerOptions['discretization'],
    dtPerState: !(config.dt_tie as boolean),
    dtTransform: config.dt_transform as S4LayerOptions['dtTransform'],
    realTransform: config.real_transform as S4LayerOptions['realTransform'],
    imagTransform: config.imag_transform as S4LayerOptions['imagTransform'],
    ...run,
    ...(longest !== null && longest < L ? { truncate: longest, algorithm: kernelAlgorithm(run) } : {}),
  }
}

/** The algorithm for a layer with a truncated kernel, which 'chunk' cannot compute. */
function kernelAlgorithm({ algorithm }: RunOptions): SsmAlgorithm {
  return algorithm === 'cauchy' ? 'cauchy' : 'fft'
}

export async function runBlock(
  golden: GoldenFile,
  checkpoint: string | undefined,
  run: RunOptions,
): Promise<Computed> {
  const { config } = golden
  const options = layerOptions(config, run)
  const out: Computed = new Map()
  const put = (name: string, { data, shape }: Tensor) => out.set(name, swapLast({ data, shape }).data)
  const u = swapLast(tensor(golden, 'u'))
  const g = swapLast(tensor(golden, 'g'))

  using block = S4Block.fromStateDict(
    checkpoint as string,
    { ...config, ...(options.truncate === undefined ? {} : { truncate: options.truncate }) },
    options.truncate === undefined ? run : { ...run, algorithm: kernelAlgorithm(run) },
  )
  put('y', block.forward(u, { training: true }).y)
  put('grad.u', block.backward(g).du)
  for (const { name, grad } of block.parameters()) out.set(`grad.${name}`, grad.data)
  const parameters = new Map(block.parameters().map(({ name, value }) => [name, value]))
  out.set('C', tensor({ tensors: parameters, config }, 'layer.kernel.C').data)

  using layer = new S4Layer(options)
  for (const { name } of layer.parameters())
    layer.setParameter(name, tensor({ tensors: parameters, config }, `layer.${name}`))
  const { L } = config as { L: number }
  out.set('kernel', layer.kernel(options.truncate ?? L).data)
  for (const rate of [0.5, 2])
    if (golden.tensors.has(`kernel.rate${rate}`))
      out.set(`kernel.rate${rate}`, layer.kernel(L, { rate }).data)
  const zero = layer.forward(u)
  put('ssm_out', zero.y)
  if (zero.state !== undefined) out.set('state.final', zero.state.data)

  if (golden.tensors.has('state.initial')) {
    layer.zeroGrad()
    const carried = layer.forward(u, { state: tensor(golden, 'state.initial'), training: true })
    put('ssm_out.from_initial', carried.y)
    if (carried.state !== undefined) out.set('state.final_from_initial', carried.state.data)
    if (golden.tensors.has('from_initial.g')) {
      const { du, dstate } = layer.backward(swapLast(tensor(golden, 'from_initial.g')), {
        dstate: tensor(golden, 'from_initial.gs'),
      })
      put('from_initial.grad.u', du)
      if (dstate !== undefined) out.set('from_initial.grad.state.initial', dstate.data)
      for (const { name, grad } of layer.parameters()) out.set(`from_initial.grad.layer.${name}`, grad.data)
    }
  }
  return out
}
