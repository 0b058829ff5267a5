/** Computes the tensors of a golden training run, twenty AdamW updates of a classifier with two blocks: losses, first gradients, final parameters. */
import { SequenceModel } from 's4-node'
import { tensor, type Computed, type GoldenFile, type RunOptions } from './cases.js'

export async function runTrain(
  golden: GoldenFile,
  _checkpoint: string | undefined,
  run: RunOptions,
): Promise<Computed> {
  const {
    H,
    mode,
    d_state: state,
    depth,
    classes,
    d_input: input,
    steps,
  } = golden.config as Record<'H' | 'd_state' | 'depth' | 'classes' | 'd_input' | 'steps', number> & {
    mode: string
  }
  using model = await SequenceModel.create({
    input,
    output: classes,
    features: H,
    layers: depth,
    state,
    mode: mode === 'diag' ? 's4d' : 's4',
    dtTransform: 'exp',
    pooling: 'mean',
    finalNorm: false,
    loss: 'crossEntropy',
    ...run,
  })
  for (const { name } of model.parameters()) model.setParameter(name, tensor(golden, `init.${name}`))

  const out: Computed = new Map()
  const batch = { input: tensor(golden, 'u'), target: Int32Array.from(tensor(golden, 'labels').data, Number) }
  await model.accumulate(batch)
  for (const { name, grad } of model.parameters()) out.set(`grad0.${name}`, grad.data)
  model.zeroGrad()

  const losses: number[] = []
  for await (const event of model.train(
    Array.from({ length: steps }, () => batch),
    { epochs: 1, lr: 4e-3, ssmLr: 1e-3, weightDecay: 0.01 },
  )) {
    if (event.type === 'step') losses.push(event.loss)
  }
  out.set('losses', losses)
  for (const { name, value } of model.parameters()) out.set(`final.${name}`, value.data)
  return out
}
