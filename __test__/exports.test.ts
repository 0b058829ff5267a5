/** What the package exports, by the declarations that users get: configurations that make the same again, schedules, words. */
import test from 'ava'
import { choices, S4Block, S4Layer, schedules, SequenceModel } from 's4-node'
import type { BlockConfig, LayerConfig, ModelConfig, SequenceModelOptions } from 's4-node'

test('a config is typed, holds every value, and makes the same again', async (t) => {
  const none = (config: object) => Object.entries(config).filter(([, value]) => value == null)
  using model = await SequenceModel.create({ features: 8, layers: 2, state: 8, seed: 3 })
  const config: Readonly<ModelConfig> = model.config
  const again: SequenceModelOptions = config
  using same = await SequenceModel.create(again)
  t.deepEqual(same.config, config)
  t.deepEqual(none(config), [])
  t.deepEqual(
    [config.rank, config.nSsm, config.discretization, config.finalNorm, config.loss],
    [1, 8, 'bilinear', true, 'crossEntropy'],
  )
  t.deepEqual([...same.parameters()[0]!.value.data], [...model.parameters()[0]!.value.data])
  using embedding = await SequenceModel.create({
    features: 8,
    state: 8,
    encoder: 'embedding',
    vocabulary: 5,
    prenorm: false,
    bidirectional: true,
    mode: 's4d',
    truncate: 9,
  })
  using alike = await SequenceModel.create(embedding.config)
  t.deepEqual(alike.config, embedding.config)
  t.deepEqual(
    [alike.config.vocabulary, alike.config.truncate, alike.config.finalNorm, alike.config.discretization],
    [5, 9, false, 'zoh'],
  )
  using block = new S4Block({ features: 4, state: 8, init: 'legt' })
  const ofBlock: Readonly<BlockConfig> = block.config
  using sameBlock = new S4Block(ofBlock)
  t.deepEqual([sameBlock.config, ofBlock.rank, ofBlock.norm], [ofBlock, 2, 'layer'])
  using layer = new S4Layer({ features: 4, state: 8, mode: 's4d', discretization: 'bilinear' })
  const ofLayer: Readonly<LayerConfig> = layer.config
  using sameLayer = new S4Layer(ofLayer)
  t.deepEqual(sameLayer.config, ofLayer)
  t.false('disc' in ofLayer)
})

test('schedules train, and the words of options are the ones that layers take', async (t) => {
  using model = await SequenceModel.create({ features: 4, layers: 1, state: 4, loss: 'mse', device: 'cpu' })
  const input = { data: new Float32Array(8).fill(0.5), shape: [1, 8, 1] }
  for (const schedule of [
    schedules.constant(),
    schedules.warmup({ warmup: 2 }),
    schedules.warmupCosine({ warmup: 1, total: 4 }),
    schedules.plateau({ factor: 0.5, patience: 1 }),
    schedules.stepDecay({ every: 1, factor: 0.5 }),
  ])
    t.is((await model.fit([{ input, target: input }], { epochs: 2, schedule })).length, 2)
  for (const activation of choices.activation)
    new S4Block({ features: 4, state: 4, device: 'cpu', activation }).dispose()
  for (const pooling of choices.pooling)
    (await SequenceModel.create({ features: 4, state: 4, layers: 1, device: 'cpu', pooling })).dispose()
  for (const loss of choices.loss)
    (await SequenceModel.create({ features: 4, state: 4, layers: 1, device: 'cpu', loss })).dispose()
  for (const norm of choices.norm) new S4Block({ features: 4, state: 4, device: 'cpu', norm }).dispose()
})
