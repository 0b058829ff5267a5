// Train on every GPU of a machine: torchrun --no-python --nproc-per-node=2 node distributed.mjs (or srun, mpirun: docs/distributed.md)
import { joinGroup, SequenceModel } from 's4-node'
const group = await joinGroup()
const examples = Array.from({ length: 512 }, (_, i) => {
  const data = Float32Array.from({ length: 256 }, (__, t) => Math.sin(0.05 * (1 + (i % 4)) * t + i))
  return { input: { data, shape: [256, 1] }, target: i % 4 }
})
const options = {
  input: 1,
  output: 4,
  features: 64,
  layers: 2,
  state: 64,
  pooling: 'mean',
  device: group.device,
}
const model = await SequenceModel.create(options)
const run = {
  epochs: 5,
  batchSize: 16,
  shuffle: true,
  checkpoint: 'distributed.safetensors',
  distributed: group,
}
for await (const e of model.train(examples, run))
  if (e.type === 'epoch' && group.rank === 0)
    console.log(`epoch ${e.epoch}: loss ${e.loss}, accuracy ${e.accuracy}`)
await group.close()
