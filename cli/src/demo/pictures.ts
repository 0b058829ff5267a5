/** The data that a report shows of each layer, its kernels and timescales, from the public API. */
import {
  S4Layer,
  type ModelConfig,
  type ParameterTransform,
  type S4LayerOptions,
  type SequenceModel,
  type Tensor,
} from 's4-node'
import type { LayerPicture } from './data.js'

const transforms: Record<ParameterTransform, (x: number) => number> = {
  exp: Math.exp,
  softplus: (x) => (x > 30 ? x : Math.log1p(Math.exp(x))),
  relu: (x) => Math.max(x, 0) + 1e-4,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  none: (x) => x,
}

/** The options of a layer on the CPU with the same parameters as the layer in each block of a model. */
function layerOptions(config: ModelConfig): S4LayerOptions {
  const { features, state, mode, rank, nSsm, init, discretization, dtPerState } = config
  const { dtTransform, realTransform, imagTransform } = config
  return {
    features,
    state,
    mode,
    rank,
    nSsm,
    init,
    discretization,
    dtPerState,
    dtTransform,
    realTransform,
    imagTransform,
    device: 'cpu',
  }
}

/** Copies of all parameters of a model, by name. */
export function snapshot(model: SequenceModel): ReadonlyMap<string, Tensor> {
  return new Map(model.parameters().map(({ name, value }) => [name, value]))
}

/** The data of each layer for the report; `before` is a snapshot from before training, `length` the number of kernel samples. */
export function layerPictures(
  model: SequenceModel,
  before: ReadonlyMap<string, Tensor>,
  rate: number,
  length: number,
): LayerPicture[] {
  const { config } = model
  const { features, layers } = config
  const after = snapshot(model)
  const [dtOf, reOf, imOf] = [config.dtTransform, config.realTransform, config.imagTransform].map(
    (name) => transforms[name],
  )
  return Array.from({ length: layers }, (_layer, i) => {
    const of = (from: ReadonlyMap<string, Tensor>, name: string) =>
      from.get(`blocks.${i}.layer.${name}`) as Tensor
    using layer = new S4Layer(layerOptions(config))
    for (const { name } of layer.parameters()) layer.setParameter(name, of(after, name))
    const steps = (from: ReadonlyMap<string, Tensor>) => {
      const { data, shape } = of(from, 'kernel.inv_dt')
      return Float64Array.from({ length: features }, (_, h) => dtOf(data[h * shape[1]]))
    }
    const dt = steps(after)
    const [re, im] = [of(after, 'kernel.A_real'), of(after, 'kernel.A_imag')]
    const [ssms, pairs] = re.shape
    const modes = Array.from({ length: features * pairs }, (_mode, at) => {
      const [h, n] = [Math.floor(at / pairs), at % pairs]
      const lambda = (h % ssms) * pairs + n
      return {
        decay: 1 / (dt[h] * reOf(re.data[lambda]) * rate),
        frequency: (dt[h] * Math.abs(imOf(im.data[lambda])) * rate) / (2 * Math.PI),
      }
    })
    return {
      name: `layer ${i + 1}`,
      heads: features,
      length,
      kernel: layer.kernel(length).data,
      dtBefore: steps(before),
      dtAfter: dt,
      modes,
    }
  })
}
