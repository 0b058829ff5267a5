/** Smoothed labels, weights of classes, ignored labels, metrics, feed-forward layers, drop path, decay: against formulas of PyTorch's. */
import test, { type ExecutionContext } from 'ava'
import { SequenceModel, type SequenceModelOptions, type TrainEvent } from '../index.js'
import { metrics } from 's4-node/tasks'
import { device, drain, model, noise, noisy, refuses, rejects } from './helpers.js'

const [ROWS, LEN, CLASSES] = [3, 6, 4]
const classWeights = [0.5, 2, 1.25, 0]
const near = (t: ExecutionContext, what: string, got: number | undefined, want: number, tolerance = 2e-5) =>
  t.true(Math.abs(got! - want) <= tolerance * Math.max(1, Math.abs(want)), `${what}: ${got} for ${want}`)

const options: Partial<SequenceModelOptions> = { input: 2, output: CLASSES, loss: 'crossEntropy', dropout: 0 }
const input = noisy([ROWS, LEN, 2], 3)
/** Labels of which -1 and -100 count nothing; 1 is ignored where the option says so. */
const target = Int32Array.from(
  { length: ROWS * LEN },
  (_, i) => [0, 2, 3, 1, 0, -1, 2, -100][(i * 5 + (i >> 2)) % 8]!,
)
const weights = Float32Array.from(target, (_, i) => [1, 0.5, 2][i % 3]!)
const batch = { input, target, weights }

const nll = (row: ArrayLike<number>) => {
  const norm = Math.log(Array.from(row).reduce((sum, x) => sum + Math.exp(x), 0))
  return Array.from(row, (x) => norm - x)
}

/**
 * torch.nn.functional.cross_entropy(x, labels, weight=v, ignore_index=ignored, label_smoothing=ε), each row times its own weight too:
 * Σ w_i·[(1 − ε)·v_y·ℓ_y + ε/C·Σ_c v_c·ℓ_c] / Σ w_i·v_y; and its gradient by the sum of the outputs of each class.
 */
function crossEntropy(y: ArrayLike<number>, smoothing: number, v: readonly number[], ignored: number) {
  let [sum, weight] = [0, 0]
  const bias = v.map(() => 0)
  target.forEach((label, i) => {
    if (label < 0 || label === ignored) return
    const losses = nll(Array.from(y).slice(i * CLASSES, (i + 1) * CLASSES))
    const w = weights[i]!
    const smooth = v.map((x, c) => x * ((1 - smoothing) * (c === label ? 1 : 0) + smoothing / CLASSES))
    sum += w * smooth.reduce((total, part, c) => total + part * losses[c]!, 0)
    weight += w * v[label]!
    // ∂ℓ_c/∂x_j = p_j − [j = c].
    const all = smooth.reduce((a, b) => a + b, 0)
    losses.forEach((loss, j) => (bias[j]! += w * (Math.exp(-loss) * all - smooth[j]!)))
  })
  return { loss: sum / weight, bias: bias.map((x) => x / weight) }
}

for (const [labelSmoothing, v, ignoreLabel] of [
  [0, undefined, undefined],
  [0.1, undefined, undefined],
  [0, classWeights, 1],
  [0.2, classWeights, 1],
  [1, classWeights, -100],
] as const)
  test(`cross-entropy is PyTorch's: smoothing ${labelSmoothing}, weights ${v}, ignored ${ignoreLabel}`, async (t) => {
    const more = {
      labelSmoothing,
      ...(v && { classWeights: [...v] }),
      ...(ignoreLabel !== undefined && { ignoreLabel }),
    }
    using m = await model({ ...options, ...more })
    t.deepEqual(m.config.classWeights, v && [...v])
    t.deepEqual([m.config.labelSmoothing, m.config.ignoreLabel], [labelSmoothing, ignoreLabel ?? -100])
    const ignored = ignoreLabel ?? -100
    const { data: y } = await m.predict(input)
    const want = crossEntropy(y, labelSmoothing, v ?? [1, 1, 1, 1], ignored)
    const counted = [...target.keys()].filter((i) => target[i]! >= 0 && target[i] !== ignored)
    const found = await m.evaluate([batch], { topK: 2 })
    near(t, 'loss', found.loss, want.loss)
    t.is(found.rows, counted.length)
    // Metrics by the targets' own weights alone.
    const weight = counted.reduce((sum, i) => sum + weights[i]!, 0)
    const mean = (f: (row: number[], label: number) => number) =>
      counted.reduce(
        (sum, i) => sum + weights[i]! * f(Array.from(y).slice(i * CLASSES, (i + 1) * CLASSES), target[i]!),
        0,
      ) / weight
    const above = (row: number[], label: number) => row.filter((x) => x > row[label]!).length
    near(
      t,
      'accuracy',
      found.accuracy,
      mean((row, label) => (above(row, label) < 1 ? 1 : 0)),
    )
    near(
      t,
      'topK',
      found.topK,
      mean((row, label) => (above(row, label) < 2 ? 1 : 0)),
    )
    const plain = mean((row, label) => nll(row)[label]!)
    near(t, 'perplexity', found.perplexity, Math.exp(plain))
    near(t, 'bits', found.bitsPerDimension, plain / Math.LN2)
    const confusion = v
      ? undefined
      : metrics.confusion(
          counted.map((i) => target[i]!),
          counted.map((i) => largest(y, i)),
          CLASSES,
        )
    const sums = found.confusion!.map((row) => row.reduce((a, b) => a + b, 0))
    near(
      t,
      'confusion',
      sums.reduce((a, b) => a + b, 0),
      weight,
    )
    if (confusion)
      t.deepEqual(
        found.confusion!.map((row) => row.map((n) => n > 0)),
        confusion.map((row) => row.map((n) => n > 0)),
      )
    t.deepEqual(found.f1, metrics.f1(found.confusion!))
    // The gradient, and the same figures from training, whose events are of the parameters before the update.
    await m.accumulate(batch)
    const bias = m.parameters().find(({ name }) => name === 'decoder.bias')!.grad.data
    want.bias.forEach((x, c) => near(t, `gradient of bias ${c}`, bias[c], x))
    m.zeroGrad()
    const events = await m.fit([batch], { topK: 2, validation: [batch] })
    const [epoch] = events as [TrainEvent]
    for (const name of ['loss', 'accuracy', 'topK', 'perplexity', 'bitsPerDimension'] as const)
      near(t, `training's ${name}`, epoch[name], found[name]!)
    t.deepEqual(Object.keys(epoch.validation!).toSorted(), Object.keys(found).toSorted())
  })

const largest = (y: ArrayLike<number>, row: number) => {
  const own = Array.from(y).slice(row * CLASSES, (row + 1) * CLASSES)
  return own.indexOf(Math.max(...own))
}

test('an evaluation over several batches is that of the joint batch, and padding counts nothing', async (t) => {
  const more = { ...options, labelSmoothing: 0.1, classWeights }
  using m = await model(more)
  const part = (from: number, to: number) => ({
    input: { data: input.data.slice(from * LEN * 2, to * LEN * 2), shape: [to - from, LEN, 2] },
    target: target.slice(from * LEN, to * LEN),
    weights: weights.slice(from * LEN, to * LEN),
  })
  const [whole, parts] = [await m.evaluate([batch]), await m.evaluate([part(0, 1), part(1, 3)])]
  for (const name of ['loss', 'accuracy', 'perplexity'] as const)
    near(t, name, parts[name], whole[name]!, 1e-6)
  t.deepEqual(parts.confusion, whole.confusion)
  const short = await m.evaluate([{ ...part(0, 1), lengths: [3] }])
  const cut = { ...part(0, 1), target: target.slice(0, LEN).map((label, i) => (i < 3 ? label : -1)) }
  near(t, 'padding', short.loss, (await m.evaluate([cut])).loss, 1e-6)
})

test('losses of real targets come with their errors, distributions with their CRPS', async (t) => {
  const values = noisy([ROWS, LEN, 2], 9)
  for (const loss of ['mse', 'mae', 'huber', 'logCosh', 'gaussian', 'quantile'] as const) {
    const quantiles = loss === 'quantile' ? { quantiles: [0.1, 0.6, 0.8] } : {}
    using m = await model({ input: 2, output: 2, loss, ...quantiles })
    const { data, shape } = await m.predict(input)
    const outputs = shape[2]!
    const column = (k: number) =>
      Float64Array.from({ length: ROWS * LEN * 2 }, (_, i) => data[(i >> 1) * outputs + 2 * k + (i % 2)]!)
    const found = await m.evaluate([{ input, target: values }])
    const point = column(loss === 'quantile' ? 1 : 0)
    near(t, `mse with ${loss}`, found.mse, metrics.mse(values.data, point))
    near(t, `mae with ${loss}`, found.mae, metrics.mae(values.data, point))
    t.is(found.accuracy, undefined)
    if (loss === 'gaussian')
      near(t, 'crps', found.crps, metrics.crps(values.data, point, column(1).map(Math.exp)))
    else if (loss === 'quantile')
      near(t, 'crps', found.crps, metrics.quantileLoss(values.data, [0, 1, 2].map(column), [0.1, 0.6, 0.8]))
    else t.is(found.crps, undefined)
    if (loss === 'mse') near(t, 'loss', found.mse, found.loss)
    const [epoch] = (await m.fit([{ input, target: values }])) as [TrainEvent]
    near(t, `training's mse with ${loss}`, epoch.mse, found.mse!)
  }
})

test('a run that goes on in the middle of an epoch has the metrics of the whole one', async (t) => {
  const batches = [0, 1, 2].map((k) => ({
    ...batch,
    target: target.map((label) => (label < 0 ? label : (label + k) % CLASSES)),
  }))
  const run = { topK: 3, lr: 1e-2 }
  using whole = await model(options)
  const [want] = (await whole.fit(batches, run)) as [TrainEvent]
  using begun = await model(options)
  for await (const event of begun.train(batches, run)) if (event.step === 2) break
  using loaded = await SequenceModel.fromBytes(await begun.toBytes(), { device: device() })
  const [got] = (await loaded.fit(batches, { resume: true })) as [TrainEvent]
  for (const name of ['loss', 'accuracy', 'topK', 'perplexity', 'bitsPerDimension'] as const)
    t.is(got[name], want[name])
})

test('options of labels are refused where they cannot be', async (t) => {
  const refused = async (
    more: Partial<SequenceModelOptions>,
    named: RegExp,
    code: 'ERR_S4_VALUE' | 'ERR_S4_SHAPE' = 'ERR_S4_VALUE',
  ) => t.regex((await rejects(t, code, () => model({ ...options, ...more }))).message, named)
  await refused({ labelSmoothing: 1.5 }, /labelSmoothing/)
  await refused({ labelSmoothing: -0.1 }, /labelSmoothing/)
  await refused({ classWeights: [1, 2] }, /classWeights/, 'ERR_S4_SHAPE')
  await refused({ classWeights: [1, -2, 1, 1] }, /classWeights/)
  await refused({ classWeights: [0, 0, 0, 0] }, /classWeights/)
  await refused({ loss: 'mse', labelSmoothing: 0.1 }, /labelSmoothing/)
  await refused({ loss: 'mse', classWeights: [1, 1, 1, 1] }, /classWeights/)
  await refused({ loss: 'mse', ignoreLabel: 3 }, /ignoreLabel/)
  await refused({ ignoreLabel: 0.5 }, /ignoreLabel/)
  await refused({ dropPath: 1 }, /dropPath/)
  await refused({ dropPath: 0.5, residual: false }, /dropPath/)
  await refused({ feedForward: -1 }, /feedForward/)
  await refused({ feedForward: 1e-3 }, /feedForward/)
  using m = await model(options)
  await rejects(t, 'ERR_S4_VALUE', () => m.evaluate([batch], { topK: 5 }))
  await rejects(t, 'ERR_S4_VALUE', () => drain(m.train([batch], { topK: 0 })))
  using real = await model({ loss: 'mse' })
  await rejects(t, 'ERR_S4_VALUE', () => real.evaluate([], { topK: 1 }))
  refuses(t, 'ERR_S4_VALUE', () =>
    metrics.f1([
      [1, -1],
      [0, 1],
    ]),
  )
  // A label that the option does not name is still out of range.
  await rejects(t, 'ERR_S4_VALUE', () => m.evaluate([{ ...batch, target: target.map(() => CLASSES) }]))
})

test('a model with feed-forward layers streams, generates and is saved as it predicts', async (t) => {
  for (const norm of ['layer', 'batch'] as const) {
    using m = await model({ features: 8, layers: 2, feedForward: 2, norm, loss: 'mse' })
    await m.fit([{ input: noisy([2, 40, 1], 1), target: noisy([2, 40, 1], 2) }], { epochs: 3, lr: 1e-2 })
    t.is(m.config.feedForward, 2)
    t.true(m.parameters().some(({ name }) => name === 'blocks.1.feed_forward.linear2.weight'))
    const x = noisy([1, 30, 1], 5)
    const { data } = await m.predict(x)
    using stream = m.stream()
    const pushed = [...x.data].map((value) => stream.push({ data: [value], shape: [1, 1, 1] }).data[0]!)
    pushed.forEach((y, i) => near(t, `${norm} at ${i}`, y, data[i]!, 1e-5))
    using loaded = await SequenceModel.fromBytes(await m.toBytes(), { device: device() })
    t.deepEqual((await loaded.predict(x)).data, data)
    const found = await m.inspect({ data: x })
    t.is(found.layers.length, 2)
  }
  using text = await model({
    encoder: 'embedding',
    vocabulary: 5,
    output: 5,
    loss: 'crossEntropy',
    feedForward: 4,
  })
  const tokens: number[] = []
  for await (const step of text.generate([1, 2, 3], { maxTokens: 4, temperature: 0 }))
    tokens.push(...Array.from(step.tokens as ArrayLike<number>))
  const logits = await text.predict({ data: Int32Array.of(1, 2, 3, ...tokens.slice(0, 3)), shape: [1, 6] })
  const best = [2, 3, 4, 5].map((row) => {
    const own = Array.from(logits.data.subarray(row * 5, (row + 1) * 5))
    return own.indexOf(Math.max(...own))
  })
  t.deepEqual(tokens, best)
})

test('drop path is of training alone, and the same for the same seed', async (t) => {
  const data = [{ input: noisy([6, 20, 1], 1), target: noisy([6, 20, 1], 2) }]
  const trained = async (dropPath: number, seed: number) => {
    using m = await model({ features: 8, layers: 3, feedForward: 1, dropPath, dropout: 0, loss: 'mse' })
    const losses: number[] = []
    for await (const e of m.train(data, { epochs: 4, seed })) if (e.type === 'step') losses.push(e.loss)
    return losses
  }
  const [a, again, other, without] = [
    await trained(0.3, 1),
    await trained(0.3, 1),
    await trained(0.3, 2),
    await trained(0, 1),
  ]
  t.deepEqual(a, again)
  t.notDeepEqual(a, other)
  t.notDeepEqual(a, without)
  using dropped = await model({ features: 8, dropPath: 0.5, loss: 'mse' })
  using plain = await model({ features: 8, loss: 'mse' })
  t.deepEqual((await dropped.predict(data[0]!.input)).data, (await plain.predict(data[0]!.input)).data)
})

test('one option spares norms, biases and embeddings of decay', async (t) => {
  const network = {
    encoder: 'embedding',
    vocabulary: 6,
    output: 6,
    loss: 'crossEntropy',
    feedForward: 1,
  } as const
  const tokens = { input: { data: Int32Array.of(1, 2, 3, 4), shape: [1, 4] }, target: [2, 3, 4, 5] }
  const after = async (spareNormsAndBiases: boolean) => {
    using m = await model(network)
    // A norm's scale is 1 and its offset 0 at first: of the second no decay would be seen.
    for (const { name, value } of m.parameters())
      if (name.endsWith('bias'))
        m.setParameter(name, { data: noise(value.data.length, 3), shape: value.shape })
    const before = m.parameters().map(({ value }) => Float64Array.from(value.data))
    await m.fit([tokens], {
      lr: 1e-2,
      weightDecay: 0.5,
      spareNormsAndBiases,
      groups: [{ name: 'blocks.1.norm.bias', weightDecay: 0.5 }],
    })
    const parameters = m.parameters().map(({ name, group, value }) => ({ name, group, value: value.data }))
    return { before, parameters }
  }
  const [all, spared] = [await after(false), await after(true)]
  const seen = new Set<boolean>()
  all.parameters.forEach(({ name, value, group }, i) => {
    const isSpared =
      group === 'main' &&
      (/norm|bias$/.test(name) || name === 'encoder.weight') &&
      name !== 'blocks.1.norm.bias'
    seen.add(isSpared)
    spared.parameters[i]!.value.forEach((x, k) => {
      const decay = isSpared ? 1e-2 * 0.5 * all.before[i]![k]! : 0
      near(t, `${name} ${k}`, x - value[k]!, decay, 1e-6)
    })
  })
  t.is(seen.size, 2)
})

test('metrics that have overflowed are infinite, in an evaluation and after a resumed epoch', async (t) => {
  // |r| is 3e30 where r² is beyond float32.
  const constant = (value: number) => ({ data: new Float32Array(8).fill(value), shape: [1, 8, 1] })
  const far = { input: constant(0), target: constant(3e30) }
  const zero = { input: constant(0), target: constant(0) }
  using m = await model({ output: 1, loss: 'mae' })
  const found = await m.evaluate([zero, far])
  t.is(found.mse, Infinity)
  t.true(Math.abs(found.mae! / 1.5e30 - 1) < 1e-6)
  let bytes: Uint8Array | undefined
  for await (const event of m.train([far, zero], { lr: 0, ssmLr: 0 })) {
    t.is(event.type, 'step')
    t.is(event.mse, Infinity)
    bytes = await m.toBytes()
    break
  }
  using again = await SequenceModel.fromBytes(bytes!)
  const events: TrainEvent[] = []
  for await (const event of again.train([far, zero], { lr: 0, ssmLr: 0, resume: true })) events.push(event)
  t.deepEqual([events.length, events.at(-1)!.type, events.at(-1)!.mse], [2, 'epoch', Infinity])
})
