/** Ten models that have learned their tasks well: `inspect` finds nothing wrong with them. */
import test from 'ava'
import { SequenceModel, type Batch, type SequenceModelOptions, type Tensor } from '../index.js'
import { device, noise } from './helpers.js'

/** A task: the rows of a batch, (rows, len), and what is asked of each time step, or of a whole row. */
interface Task {
  readonly name: string
  readonly len: number
  readonly options: Partial<SequenceModelOptions>
  /** The input of a row and its target: a value each step, or the classes. */
  readonly row: (random: () => number, len: number) => { x: number[]; y: number[] }
  /** The most that the loss may be: of mse the part of the targets' variance, of classes the part of the logarithm of their number. */
  readonly most: number
}

const uniform = (seed: number) => {
  const numbers = noise(1 << 16, seed)
  let at = 0
  return () => (numbers[at++ & 0xffff]! + 1) / 2
}
const white = (random: () => number, len: number) => Array.from({ length: len }, () => 2 * random() - 1)
const series = (len: number, f: (t: number) => number) => Array.from({ length: len }, (_, t) => f(t))
/** A regression of what a function makes of white noise. */
const filter =
  (f: (x: number[], t: number) => number): Task['row'] =>
  (random, len) => {
    const x = white(random, len)
    return { x, y: series(len, (t) => f(x, t)) }
  }
/** The next value of a series. */
const next =
  (f: (random: () => number) => (t: number) => number): Task['row'] =>
  (random, len) => {
    const value = f(random)
    const all = series(len + 1, value)
    return { x: all.slice(0, len), y: all.slice(1) }
  }
const classes = { loss: 'crossEntropy', pooling: 'mean' } as const
const mean = (x: number[]) => x.reduce((a, b) => a + b, 0) / x.length

const tasks: readonly Task[] = [
  { name: 'a delay of 8 steps', len: 128, options: {}, row: filter((x, t) => x[t - 8] ?? 0), most: 0.2 },
  {
    name: 'a delay of 3 steps, S4D',
    len: 100,
    options: { mode: 's4d' },
    row: filter((x, t) => x[t - 3] ?? 0),
    most: 0.2,
  },
  {
    name: 'a moving average of 20',
    len: 200,
    options: {},
    row: filter((x, t) => 4 * mean(x.slice(Math.max(0, t - 19), t + 1))),
    most: 0.15,
  },
  {
    name: 'an exponential average, S4D',
    len: 250,
    options: { mode: 's4d' },
    row: filter((x, t) => x.slice(0, t + 1).reduce((sum, v) => 0.95 * sum + 0.3 * v, 0)),
    most: 0.1,
  },
  {
    name: 'a difference',
    len: 100,
    options: { mode: 's4d', init: 'lin' },
    row: filter((x, t) => x[t]! - (x[t - 1] ?? 0)),
    most: 0.1,
  },
  {
    name: 'the next value of two waves',
    len: 160,
    options: {},
    row: next((random) => {
      const [a, b] = [6 * random(), 6 * random()]
      return (t) => Math.sin(t / 3 + a) + 0.5 * Math.sin(t / 11 + b)
    }),
    most: 0.05,
  },
  {
    name: 'the next value of a wave of any frequency, S4D',
    len: 160,
    options: { mode: 's4d' },
    row: next((random) => {
      const [f, a] = [0.1 + 0.4 * random(), 6 * random()]
      return (t) => Math.sin(f * t + a)
    }),
    most: 0.2,
  },
  {
    name: 'which of three frequencies',
    len: 150,
    options: { ...classes, output: 3 },
    row: (random, len) => {
      const kind = Math.floor(3 * random())
      const a = 6 * random()
      return { x: series(len, (t) => Math.sin(t / (2 + 3 * kind) + a) + random() - 0.5), y: [kind] }
    },
    most: 0.2,
  },
  {
    name: 'whether the level goes up or down, S4D',
    len: 200,
    options: { ...classes, output: 2, mode: 's4d' },
    row: (random, len) => {
      const kind = random() < 0.5 ? 0 : 1
      return { x: series(len, (t) => (kind === 0 ? t : len - t) / len + random() - 0.5), y: [kind] }
    },
    most: 0.2,
  },
  {
    name: 'the sign of the last impulse',
    len: 120,
    options: { loss: 'crossEntropy', output: 2 },
    row: (random, len) => {
      const x = series(len, () => (random() < 0.05 ? Math.sign(random() - 0.5) : 0))
      let sign = 0
      return { x, y: x.map((v) => (sign = v === 0 ? sign : v > 0 ? 1 : 0)) }
    },
    most: 0.3,
  },
]

function batchOf({ row, len, options }: Task, rows: number, random: () => number): Batch {
  const all = Array.from({ length: rows }, () => row(random, len))
  const input = { data: all.flatMap(({ x }) => x), shape: [rows, len, 1] }
  const target = all.flatMap(({ y }) => y)
  return { input, target: options.loss === 'crossEntropy' ? target : { data: target, shape: [rows, len, 1] } }
}

for (const [i, task] of tasks.entries())
  test(`${task.name}: learned, and nothing looks wrong`, async (t) => {
    const random = uniform(i + 1)
    const batches = Array.from({ length: 16 }, () => batchOf(task, 16, random))
    using model = await SequenceModel.create({
      input: 1,
      output: 1,
      features: 24,
      layers: 2,
      state: 16,
      loss: 'mse',
      seed: i,
      device: device(),
      threads: 2,
      ...task.options,
    })
    await model.fit(batches, { epochs: 10, lr: 0.01, ssmLr: 0.002, clip: 1, seed: 1 })
    const held = batchOf(task, 32, random)
    const { loss } = await model.evaluate([held])
    const whole =
      task.options.loss === 'crossEntropy'
        ? Math.log(task.options.output!)
        : mean(Array.from((held.target as Tensor).data, (y) => y * y))
    t.true(loss < task.most * whole, `loss ${loss} of ${whole}`)
    const { advice, text, influence } = await model.inspect({ data: held.input, samplingInterval: 0.01 })
    t.deepEqual(advice, [], text)
    t.true(influence!.data.every((x) => Number.isFinite(x)))
  })
