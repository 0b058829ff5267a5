/** Recipes of the table: live streams. */
import { SequenceModel, type ModelStream } from '../index.js'
import { device, noisy } from './helpers.js'
import { RATIO, REAL } from './wrong-layers.js'
import { hashOf, type Receiver, type Recipe } from './wrong-table.js'

const create = (options: object = {}) =>
  SequenceModel.create({
    input: 1,
    output: 1,
    features: 2,
    layers: 1,
    state: 4,
    loss: 'mse',
    seed: 1,
    device: device(),
    ...options,
  })
const onModel = async (): Promise<Receiver> => {
  const model = await create()
  return { self: model, observe: () => 'the same', close: () => model.dispose() }
}
const onStreams = async (): Promise<Receiver> => {
  const model = await create()
  const streams = model.streams({ slots: 2 })
  return { self: streams, observe: () => `${streams.size}`, close: () => model.dispose() }
}
const onLive = async (options: object = {}): Promise<Receiver> => {
  const model = await create(options)
  const live = model.streams({ slots: 2, rate: 1.5 }).open()
  return {
    self: live,
    observe: async () => `${live.position} ${hashOf(await live.save())}`,
    close: () => model.dispose(),
  }
}
const oneRow = async (): Promise<Receiver> => {
  const model = await create()
  const stream = model.stream()
  return {
    self: stream,
    observe: () => `${stream.position} ${hashOf(stream.save())}`,
    close: () => model.dispose(),
  }
}
const savedState = await (async () => {
  const { self } = await oneRow()
  return (self as ModelStream).save()
})()
const bare = (receiver: () => Promise<Receiver>): Recipe => ({ right: [{ receiver, args: () => [] }] })
const pushWords = { 'x*': ['input', 'tokens'] }

export const liveRecipes: Readonly<Record<string, Recipe>> = {
  'SequenceModel#streams': {
    right: [
      {
        receiver: onModel,
        args: () => [
          { slots: 2, rate: 1.5, tickMilliseconds: 1, tickSteps: 3, maxWaiting: 10, usualInterval: 3 },
        ],
      },
    ],
    legal: {
      'options.rate': RATIO,
      'options.tickMilliseconds': ['0'],
      'options.tickSteps': ['2**31'],
      'options.maxWaiting': ['2**31'],
      'options.usualInterval': ['0.5', '2**31'],
    },
  },
  ...Object.fromEntries(
    ['open', 'tick', 'dispose', '[Symbol.dispose]'].map((name) => [`ModelStreams#${name}`, bare(onStreams)]),
  ),
  'LiveStream#push': {
    right: [
      {
        receiver: () => onLive(),
        args: () => [noisy([3, 1]), { interval: [1, 2, 1], time: [1, 2, 4] }],
      },
      { under: 'x', receiver: () => onLive(), args: () => [noisy([3, 1])] },
      {
        under: 'x',
        receiver: () => onLive({ encoder: 'embedding', vocabulary: 4 }),
        args: () => [{ data: Int32Array.of(1, 2, 3), shape: [3] }],
        legal: { 'x.data': ['a BigUint64Array'], 'x.data[]': ['0'] },
      },
    ],
    legal: {
      'x.data[]': REAL,
      'options.interval': RATIO,
      'options.interval[]': RATIO,
      'options.time[]': [...REAL, '1e300'],
    },
    words: pushWords,
  },
  'LiveStream#restore': { right: [{ receiver: () => onLive(), args: () => [savedState] }] },
  ...Object.fromEntries(
    ['save', 'reset', 'dispose', '[Symbol.dispose]'].map((name) => [
      `LiveStream#${name}`,
      bare(() => onLive()),
    ]),
  ),
  ...Object.fromEntries(
    ['LiveStream#toTransform', 'LiveStream#toTransformStream'].map((name) => [
      name,
      { right: [{ receiver: () => onLive(), args: () => [{ format: 'mulaw' }] }] },
    ]),
  ),
  'ModelStream#toTransformStream': { right: [{ receiver: oneRow, args: () => [{ format: 'f32' }] }] },
}
