/** Generation and scores of tokens through the public API, against whole predictions. */
import test, { type ExecutionContext } from 'ava'
import { SequenceModel, type GenerateOptions, type ModelStream, type SequenceModelOptions } from '../index.js'
import { device, noise, rejects, refuses } from './helpers.js'

const KINDS = 11
const make = (more: Partial<SequenceModelOptions> = {}) =>
  SequenceModel.create({
    encoder: 'embedding',
    vocabulary: KINDS,
    output: KINDS,
    features: 8,
    layers: 2,
    state: 8,
    loss: 'crossEntropy',
    seed: 3,
    device: device(),
    ...more,
  })
/** Logits far enough apart that a sequence has a face of its own. */
async function sharp(more: Partial<SequenceModelOptions> = {}): Promise<SequenceModel> {
  const model = await make(more)
  const weight = model.parameters().find((p) => p.name === 'decoder.weight')!
  const { data, shape } = weight.value
  model.setParameter('decoder.weight', { data: data.map((x) => x * 20), shape })
  return model
}
const tokens = (n: number, seed: number) =>
  Int32Array.from(noise(n, seed), (x) => Math.floor(Math.abs(x) * 9999) % KINDS)

/** All that a generation gives: of each sequence its tokens and their log-probabilities. */
async function all(
  from: SequenceModel | ModelStream,
  prompt: ArrayLike<number> | readonly ArrayLike<number>[],
  options: GenerateOptions = {},
) {
  const out: { tokens: number[]; scores: number[] }[] = []
  for await (const step of from.generate(prompt, options))
    step.tokens.forEach((token, i) => {
      const own = (out[i] ??= { tokens: [], scores: [] })
      if (token < 0) return
      own.tokens.push(token)
      own.scores.push(step.logProbabilities[i]!)
    })
  return out
}
/** Log-softmax of the outputs of whole sequences, (len, KINDS). */
async function teacher(model: SequenceModel, whole: ArrayLike<number>): Promise<number[][]> {
  const { data } = await model.predict({ data: whole, shape: [1, whole.length] })
  return Array.from({ length: whole.length }, (_, t) => {
    const row = Array.from(data.subarray(t * KINDS, (t + 1) * KINDS))
    const most = Math.max(...row)
    const sum = Math.log(row.reduce((s, x) => s + Math.exp(x - most), 0)) + most
    return row.map((x) => x - sum)
  })
}
const close = (t: ExecutionContext, a: number, b: number, what: string) =>
  t.true(Math.abs(a - b) <= 1e-4, `${what}: ${a} for ${b}`)

test('predict, push, score and the steps of a generation agree, with every norm', async (t) => {
  for (const more of [
    {},
    { norm: 'batch' },
    { norm: 'batch', prenorm: false },
    { norm: 'none' },
    { mode: 's4d' },
  ] as const) {
    using model = await sharp(more)
    if ('norm' in more && more.norm === 'batch') {
      const data = tokens(200, 5)
      await model.fit([{ input: { data, shape: [2, 100] }, target: data }], { lr: 1e-3, epochs: 3 })
    }
    for (const len of [1, 9, 150]) {
      const prompt = tokens(len, len)
      const [greedy] = await all(model, prompt, { temperature: 0, maxTokens: 30 })
      const whole = [...prompt, ...greedy!.tokens]
      t.is(whole.length, len + 30)
      const rows = await teacher(model, whole)
      greedy!.tokens.forEach((token, i) => {
        const row = rows[len - 1 + i]!
        close(t, greedy!.scores[i]!, row[token]!, `${JSON.stringify(more)} ${len} ${i}`)
        t.true(Math.max(...row) - row[token]! <= 1e-4)
      })
      const [scores] = await model.score(whole)
      t.is(scores!.length, whole.length - 1)
      scores!.forEach((score, i) => close(t, score, rows[i]![whole[i + 1]!]!, `score ${len} ${i}`))
      using stream = model.stream()
      let logits: ArrayLike<number> = []
      for (const token of prompt) logits = stream.push({ data: [token], shape: [1, 1] }).data
      const { data } = await model.predict({ data: prompt, shape: [1, len] })
      for (let k = 0; k < KINDS; k++) close(t, logits[k]!, data[(len - 1) * KINDS + k]!, `push ${len}`)
    }
  }
})

test('prompts of unequal lengths are each as alone, and end each by itself', async (t) => {
  using model = await sharp()
  const prompts = [3, 120, 1, 40].map((n, i) => tokens(n, i + 1))
  const together = await all(model, prompts, { temperature: 0, maxTokens: 25 })
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await all(model, prompt, { temperature: 0, maxTokens: 25 })
    t.deepEqual(together[i]!.tokens, alone!.tokens)
  }
  const stop = together[1]!.tokens.slice(7, 9)
  const ended = await all(model, prompts, { temperature: 0, maxTokens: 25, stop: [stop] })
  for (const [i, { tokens: found }] of ended.entries()) {
    const free = together[i]!.tokens
    const at = free.findIndex((token, k) => k > 0 && free[k - 1] === stop[0] && token === stop[1])
    t.deepEqual(found, at < 0 ? free : free.slice(0, at + 1), `${i}`)
  }
})

test('a seed gives the same tokens, another gives others, none gives any', async (t) => {
  using model = await sharp()
  const run = async (options: GenerateOptions) =>
    (await all(model, [1, 2, 3], { maxTokens: 40, ...options }))[0]!.tokens
  const first = await run({ seed: 5 })
  t.deepEqual(await run({ seed: 5 }), first)
  t.notDeepEqual(await run({ seed: 6, temperature: 1e3 }), await run({ seed: 5, temperature: 1e3 }))
  t.notDeepEqual(await run({ temperature: 1e3 }), await run({ temperature: 1e3 }))
  t.deepEqual(await run({ seed: 5, topK: 1 }), await run({ temperature: 0 }))
  t.is((await run({ maxTokens: 1 })).length, 1)
})

test('chances are those of the filters', async (t) => {
  using model = await make()
  const bias = [2, 1, 0.5, 0, -0.5, -1, -1.5, -2, -3, -4, -5]
  model.setParameter('decoder.weight', { data: new Float32Array(KINDS * 8), shape: [KINDS, 8] })
  model.setParameter('decoder.bias', { data: bias, shape: [KINDS] })
  const softmax = (x: number[]) => {
    const powers = x.map(Math.exp)
    const sum = powers.reduce((a, b) => a + b, 0)
    return powers.map((p) => p / sum)
  }
  const only = (kept: number[], x = bias) => softmax(x.map((v, i) => (kept.includes(i) ? v : -Infinity)))
  // softmax(bias): 0.522 0.192 0.116 0.071 …, whose sums are 0.522 0.714 0.830 0.901 …; over 2, of four: 0.409 0.248 0.193 0.150.
  for (const [options, expected] of [
    [{}, softmax(bias)],
    [{ temperature: 0.5 }, softmax(bias.map((x) => 2 * x))],
    [{ topK: 3 }, only([0, 1, 2])],
    [{ topP: 0.6 }, only([0, 1])],
    [{ topP: 0.7 }, only([0, 1])],
    [{ topP: 0.75 }, only([0, 1, 2])],
    [{ minP: 0.2 }, only([0, 1, 2])],
    [
      { temperature: 2, topK: 4, topP: 0.5 },
      only(
        [0, 1],
        bias.map((x) => x / 2),
      ),
    ],
  ] as const) {
    const rows = Array.from({ length: 100 }, () => [1])
    const counts = Array.from({ length: KINDS }, () => 0)
    for (const { tokens: own } of await all(model, rows, { ...options, seed: 9, maxTokens: 100 }))
      for (const token of own) counts[token]!++
    counts.forEach((count, i) => {
      const p = expected[i]!
      // Four standard deviations of a share of 10,000 draws.
      const allowed = 4 * Math.sqrt((p * (1 - p)) / 10_000)
      t.true(Math.abs(count / 10_000 - p) <= allowed, `${JSON.stringify(options)} ${i}: ${count} for ${p}`)
    })
  }
})

test('a prefix is continued by any number of prompts, and stays as it is', async (t) => {
  using model = await sharp()
  const prefix = tokens(80, 4)
  using stream = model.stream()
  stream.push({ data: prefix, shape: [1, 80] })
  const before = stream.save()
  const prompts = [[1], [2, 3, 4], [...tokens(50, 9)]]
  const found = await all(stream, prompts, { temperature: 0, maxTokens: 10 })
  t.deepEqual(stream.save(), before)
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await all(model, [...prefix, ...prompt], { temperature: 0, maxTokens: 10 })
    t.deepEqual(found[i]!.tokens, alone!.tokens)
  }
  using fork = stream.fork()
  t.deepEqual((await all(fork, [1], { temperature: 0, maxTokens: 10 }))[0]!.tokens, found[0]!.tokens)
  using two = model.stream({ batch: 2 })
  t.regex((await rejects(t, 'ERR_S4_SHAPE', () => all(two, [[1], [1], [1]]))).message, /2 sequences/)
})

test('classes of a model with real input are fed back as the values that stand for them', async (t) => {
  using model = await SequenceModel.create({
    input: 1,
    output: 4,
    features: 8,
    layers: 1,
    state: 8,
    device: device(),
  })
  const inputs = { data: [0, 0.25, 0.5, 1], shape: [4, 1] }
  const [greedy] = await all(model, [3, 1, 2], { inputs, temperature: 0, maxTokens: 12 })
  const whole = [3, 1, 2, ...greedy!.tokens]
  const { data } = await model.predict({
    data: whole.map((k) => inputs.data[k]!),
    shape: [1, whole.length, 1],
  })
  greedy!.tokens.forEach((token, i) => {
    const row = Array.from(data.subarray((2 + i) * 4, (3 + i) * 4))
    t.true(Math.max(...row) - row[token]! <= 1e-4)
  })
  t.regex((await rejects(t, 'ERR_S4_VALUE', () => all(model, [1]))).message, /inputs/)
  t.regex(
    refuses(t, 'ERR_S4_SHAPE', () => model.generate([1], { inputs: { data: [0, 1, 2], shape: [3, 1] } }))
      .message,
    /inputs/,
  )
})

test.serial('a signal, a break and a disposal end a generation; the model goes on', async (t) => {
  // On a GPU wide enough that computing, and not handing over the tokens, takes the time.
  using model = await sharp(device() === 'cuda' ? { features: 512, layers: 8 } : {})
  const control = new AbortController()
  let count = 0
  const start = performance.now()
  const error = await t.throwsAsync(async () => {
    for await (const step of model.generate([1], { maxTokens: 1e9, signal: control.signal })) {
      if (step.tokens[0]! < 0) break
      if (++count === 50) setTimeout(() => control.abort(new Error('enough')), 1)
    }
  })
  t.like(error, { code: 'ERR_S4_ABORTED' })
  t.true(performance.now() - start < 10_000)
  const first = async (prompt: Int32Array, options: GenerateOptions = {}) => {
    const began = performance.now()
    await all(model, prompt, { ...options, maxTokens: 1 }).catch((given: { code?: string }) =>
      t.is(given.code, 'ERR_S4_ABORTED'),
    )
    return performance.now() - began
  }
  const [short, long] = [tokens(100_000, 2), tokens(3_000_000, 2)]
  await first(short)
  // The long prompt would take thirty times as long: it is taken chunk by chunk, and left.
  const whole = 30 * (await first(short))
  const aborted = await first(long, { signal: AbortSignal.timeout(20) })
  t.true(aborted < whole / 3, `${aborted} of ${whole} ms`)
  t.regex(
    (await rejects(t, 'ERR_S4_ABORTED', () => model.score(long, { signal: AbortSignal.timeout(30) })))
      .message,
    /abort/,
  )
  for await (const step of model.generate([1], { maxTokens: 1e9 })) {
    t.is(step.tokens.length, 1)
    break
  }
  for await (const step of model.generate([1], { maxTokens: 3 }))
    t.is(model.predictSync({ data: [step.tokens[0]!], shape: [1, 1] }).shape.length, 3)
  t.regex(
    refuses(t, 'ERR_S4_ABORTED', () => model.generate([1], { signal: control.signal })).message,
    /abort/,
  )
  const doomed = await sharp()
  const iterator = doomed.generate([1], { maxTokens: 1e9 })
  await iterator.next()
  doomed.dispose()
  await t.throwsAsync(
    async () => {
      for await (const step of iterator) if (step.tokens[0]! < -1) break
    },
    { code: 'ERR_S4_DISPOSED' },
  )
})

test('models that cannot generate are refused, and wrong prompts', async (t) => {
  for (const more of [
    { bidirectional: true },
    { truncate: 16 },
    { pooling: 'mean' },
    { output: 12 },
    { loss: 'mse', output: 11 },
  ] as const) {
    using model = await make(more)
    t.regex((await rejects(t, 'ERR_S4_UNSUPPORTED', () => all(model, [1]))).message, /./)
    t.regex((await rejects(t, 'ERR_S4_UNSUPPORTED', () => model.score([1, 2]))).message, /./)
  }
  using model = await make()
  t.regex((await rejects(t, 'ERR_S4_VALUE', () => all(model, [11]))).message, /from 0 to 10/)
  t.regex((await rejects(t, 'ERR_S4_VALUE', () => all(model, [[1], [-1]]))).message, /from 0 to 10/)
  t.regex(refuses(t, 'ERR_S4_SHAPE', () => model.generate([])).message, /at least one token/)
  t.regex(refuses(t, 'ERR_S4_SHAPE', () => model.generate([[1], []])).message, /at least one token/)
  t.regex(refuses(t, 'ERR_S4_DTYPE', () => model.generate('abc' as never)).message, /tokens/)
  t.regex(refuses(t, 'ERR_S4_VALUE', () => model.generate([1], { topP: 0 })).message, /topP/)
  t.regex(refuses(t, 'ERR_S4_VALUE', () => model.generate([1], { temperature: -1 })).message, /temperature/)
  t.regex(refuses(t, 'ERR_S4_SHAPE', () => model.generate([1], { stop: [[]] })).message, /stop/)
})
