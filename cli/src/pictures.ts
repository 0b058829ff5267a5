/** What a report shows of each layer: kernels and timescales, read through the public API. */
import { S4Layer, type SequenceModel, type Tensor } from 's4-node'
import type { LayerPicture } from './report/data.js'

const transforms: Record<string, (x: number) => number> = {
  exp: Math.exp,
  softplus: (x) => (x > 30 ? x : Math.log1p(Math.exp(x))),
  relu: (x) => Math.max(x, 0) + 1e-4,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  none: (x) => x,
}

/** A copy of every parameter by name. */
export function snapshot(model: SequenceModel): ReadonlyMap<string, Tensor> {
  return new Map(model.parameters().map(({ name, value }) => [name, value]))
}

/** One picture a layer; `before` is a snapshot from before training, `length` the samples of kernel to draw. */
export function layerPictures(
  model: SequenceModel,
  before: ReadonlyMap<string, Tensor>,
  rate: number,
  length: number,
): LayerPicture[] {
  const config = model.config as unknown as Record<string, unknown> & {
    features: number
    layers: number
    state: number
  }
  const {
    features,
    layers,
    state,
    mode,
    rank,
    nSsm,
    disc,
    dtPerState,
    dtTransform,
    realTransform,
    imagTransform,
    init,
  } = config
  const after = snapshot(model)
  const [dtOf, reOf, imOf] = [dtTransform, realTransform, imagTransform].map(
    (name) => transforms[name as string],
  )
  return Array.from({ length: layers }, (_layer, i) => {
    const of = (from: ReadonlyMap<string, Tensor>, name: string) =>
      from.get(`blocks.${i}.layer.${name}`) as Tensor
    using layer = new S4Layer({
      features,
      state,
      mode,
      rank,
      nSsm,
      disc,
      dtPerState,
      dtTransform,
      realTransform,
      imagTransform,
      init,
      device: 'cpu',
    } as ConstructorParameters<typeof S4Layer>[0])
    for (const { name } of layer.parameters()) layer.setParameter(name, of(after, name))
    const steps = (from: ReadonlyMap<string, Tensor>) => {
      const { data, shape } = of(from, 'kernel.inv_dt')
      return Float64Array.from({ length: features }, (_, h) => dtOf(data[h * shape[1]]))
    }
    const dt = steps(after)
    const [re, im] = [of(after, 'kernel.A_real'), of(after, 'kernel.A_imag')]
    const [ssms, half] = re.shape
    const modes = Array.from({ length: features * half }, (_mode, at) => {
      const [h, n] = [Math.floor(at / half), at % half]
      const lambda = (h % ssms) * half + n
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
