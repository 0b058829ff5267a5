/** Disposal, exclusion, aborts, counters, threads. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { AdamW, S4Layer, SequenceModel } from '../index.js'
import { batch, close, drain, model, noisy, refuses, rejects } from './helpers.js'

test('a disposed handle answers with its own code', async (t) => {
  const l = new S4Layer({ features: 4, state: 8 })
  l.dispose()
  l.dispose()
  refuses(t, 'ERR_S4_DISPOSED', () => l.forward(noisy([1, 5, 4])))
  refuses(t, 'ERR_S4_DISPOSED', () => l.parameters())
  const m = await model()
  const stream = m.stream()
  stream.dispose()
  refuses(t, 'ERR_S4_DISPOSED', () => stream.push(noisy([1, 1, 1])))
  const other = m.stream()
  m.dispose()
  refuses(t, 'ERR_S4_DISPOSED', () => other.push(noisy([1, 1, 1])))
  other.dispose()
  await rejects(t, 'ERR_S4_DISPOSED', m.predict(noisy([1, 5, 1])))
  await rejects(t, 'ERR_S4_DISPOSED', drain(m.train([batch()], {})))
})

/** What the addon still holds is asked of the addon: numbers are given in order, from 1. */
interface Held {
  streamPosition(id: number): number
  adamUpdate(id: number, scale: number, squaredNorm: number): void
}
const held = (x: object) => (x as { access: { handle: Held } }).access.handle

test('a stream that is disposed while its model is busy is freed behind the calls under way', async (t) => {
  using m = await model()
  const [idle, pushed, other] = [m.stream(), m.stream(), m.stream()]
  idle.dispose()
  const busy = m.predict(noisy([4, 3000, 1]))
  const y = pushed.pushAsync(noisy([1, 200, 1]))
  pushed.dispose()
  other.dispose()
  t.is((await y).data.length, 200)
  await busy
  await m.predict(noisy([1, 5, 1]))
  for (const id of [1, 2, 3])
    t.throws(() => held(m).streamPosition(id), { message: /ERR_S4_DISPOSED/ }, `${id}`)
})

test('a stream that is forgotten is freed when it is collected', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  using m = await model()
  const kept = m.stream()
  const position = () => {
    try {
      return held(m).streamPosition(2)
    } catch {
      return undefined
    }
  }
  m.stream()
  t.is(position(), 0)
  for (let i = 0; i < 100 && position() !== undefined; i++) {
    collect()
    await sleep(10)
  }
  t.is(position(), undefined)
  t.is(kept.position, 0)
})

test('an optimiser frees its moments whatever becomes of its layers', async (t) => {
  using a = new S4Layer({ features: 4, state: 8 })
  const b = new S4Layer({ features: 4, state: 8 })
  const gone = (id: number) =>
    t.throws(() => held(a).adamUpdate(id, 1, 1), { message: /an open optimiser/ }, `optimiser ${id}`)
  const adam = new AdamW([b, a])
  b.dispose()
  adam.dispose()
  adam.dispose()
  gone(1)
  refuses(t, 'ERR_S4_DISPOSED', () => adam.step())
  refuses(t, 'ERR_S4_DISPOSED', () => new AdamW([a, b]))
  gone(2)
  const late = new AdamW([a])
  const busy = a.forwardAsync(noisy([4, 3000, 4]))
  late.dispose()
  await busy
  await a.forwardAsync(noisy([1, 5, 4]))
  gone(3)
})

test('one handle used by two calls at once', async (t) => {
  using m = await model()
  const training = m.train(Array(20).fill(batch()), { epochs: 1 })
  await training.next()
  await rejects(t, 'ERR_S4_BUSY', drain(m.train([batch()], {})))
  await rejects(t, 'ERR_S4_BUSY', m.accumulate(batch()))
  await rejects(t, 'ERR_S4_BUSY', m.update())
  refuses(t, 'ERR_S4_BUSY', () => m.setParameter('decoder.bias', noisy([1])))
  refuses(t, 'ERR_S4_BUSY', () => m.zeroGrad())
  refuses(t, 'ERR_S4_BUSY', () => m.swapAverage())
  const reading = m.predict(noisy([1, 5, 1]))
  refuses(t, 'ERR_S4_BUSY', () => m.predictSync(noisy([1, 5, 1])))
  t.is((await reading).data.length, 5, 'reads queue')
  t.is(m.predictSync(noisy([1, 5, 1])).data.length, 5, 'between two events no call is under way')
  await training.return()
  t.notThrows(() => m.setParameter('decoder.bias', noisy([1])), 'free again')
})

test('between two events a loop reads, predicts, streams, evaluates and saves; training goes on as if it had not', async (t) => {
  const network = { norm: 'batch', dropout: 0.1 } as const
  const data = [1, 2, 3].map((seed) => batch(2, 50, seed))
  const options = { epochs: 2, seed: 5, ema: 0.9, clip: 1 }
  const x = noisy([1, 20, 1], 9)
  const bits = (one: SequenceModel) => one.parameters().map((p) => [...p.value.data])
  using alone = await model(network)
  const want: unknown[] = []
  for await (const e of alone.train(data, options)) want.push({ ...e, samplesPerSecond: 0 })
  using m = await model(network)
  const stream = m.stream()
  const seen: unknown[] = []
  for await (const e of m.train(data, options)) {
    seen.push({ ...e, samplesPerSecond: 0 })
    const values = bits(m)
    const y = m.predictSync(x).data
    stream.reset()
    close(t, 'stream', stream.push(x).data, y, 1e-4)
    const kernel = m.kernel(0, 7).data
    const { loss } = await m.evaluate(data)
    using same = await SequenceModel.fromBytes(await m.toBytes())
    t.deepEqual(values, bits(same), 'the model as of this event')
    t.deepEqual(y, same.predictSync(x).data)
    t.deepEqual(kernel, same.kernel(0, 7).data)
    t.is((await same.evaluate(data)).loss, loss)
  }
  t.deepEqual(seen, want)
  t.deepEqual(bits(m), bits(alone))
})

test('abort ends training within one update, and the model stays usable', async (t) => {
  using m = await model({ features: 32, layers: 4, state: 64 })
  const controller = new AbortController()
  const data = batch(4, 2000)
  let updates = 0
  let aborted = 0
  const run = (async () => {
    for await (const e of m.train(Array(1000).fill(data), { epochs: 1, signal: controller.signal })) {
      updates = e.step
      if (updates === 2) {
        setTimeout(() => {
          aborted = updates
          controller.abort(new Error('enough'))
        }, 5)
      }
    }
  })()
  const error = await rejects(t, 'ERR_S4_ABORTED', run)
  t.regex(error.got, /enough/)
  t.true(updates - aborted <= 1, `${updates - aborted} updates after the abort`)
  await rejects(t, 'ERR_S4_ABORTED', drain(m.train([data], { signal: AbortSignal.abort() })))
  t.is(await drain(m.train([batch()], { epochs: 1 })), 2)
})

test.serial('the event loop keeps running while a model trains', async (t) => {
  using m = await model({ features: 64, layers: 4, state: 64, threads: 1 })
  const data = batch(2, 4000)
  // The histogram holds the time between samples, so the interval itself counts: keep it short.
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  await drain(m.train(Array(6).fill(data), { epochs: 1 }))
  delay.disable()
  const p99 = delay.percentile(99) / 1e6
  t.log(`p99 ${p99.toFixed(1)} ms`)
  t.true(p99 < 20, `${p99} ms`)
})

test('a steady step allocates nothing', async (t) => {
  using m = await model()
  const data = batch()
  await drain(m.train(Array(3).fill(data), { epochs: 1 }))
  const warm = m.counters()
  await drain(m.train(Array(10).fill(data), { epochs: 2, resume: true }))
  t.is(m.counters().allocations, warm.allocations, 'training')
  const stream = m.stream()
  for (let i = 0; i < 3; i++) stream.push(noisy([1, 1, 1]))
  const ready = m.counters()
  for (let i = 0; i < 50; i++) stream.push(noisy([1, 1, 1], i))
  t.is(m.counters().allocations, ready.allocations, 'streaming')
})

test('the same bits at one thread and at two', async (t) => {
  const run = async (threads: number) => {
    using m = await model({ features: 16, layers: 2, state: 16, dropout: 0.1, threads })
    const losses: number[] = []
    for await (const e of m.train(Array(5).fill(batch(3, 300)), { epochs: 1, seed: 7 })) losses.push(e.loss)
    return {
      losses,
      parameters: m.parameters().map((p) => [...p.value.data]),
      y: [...(await m.predict(noisy([2, 300, 1]))).data],
    }
  }
  t.deepEqual(await run(1), await run(2))
})

test('divergence names step and tensor, and the last good state stays', async (t) => {
  using m = await model({ norm: 'none', glu: false })
  const data = batch()
  await drain(m.train([data], { epochs: 1 }))
  const huge = { input: data.input, target: { data: new Float32Array(100).fill(3e38), shape: [2, 50, 1] } }
  const before = m.parameters().map((p) => [...p.value.data])
  const error = await rejects(t, 'ERR_S4_NONFINITE', drain(m.train([huge], { epochs: 2, resume: true })))
  t.true((error.step ?? 0) >= 1 && typeof error.tensor === 'string', JSON.stringify(error))
  t.deepEqual(
    m.parameters().map((p) => [...p.value.data]),
    before,
  )
  t.is(await drain(m.train([data], { epochs: 1 })), 2)
})

test('a loop sees the model as each update left it, whatever is begun behind it', async (t) => {
  const options = { norm: 'batch', layers: 2, dropout: 0.1 } as const
  const data = [1, 2, 3, 4, 5].map((seed) => batch(2, 50, seed))
  const x = noisy([1, 50, 1], 9)
  const bits = async (m: Awaited<ReturnType<typeof model>>) => [...(await m.predict(x)).data]
  using alone = await model(options)
  const want: [number, number[]][] = []
  for (const [i, one] of data.entries())
    for await (const e of alone.train([one], { resume: i > 0, epochs: i + 1 }))
      if (e.type === 'step') want.push([e.loss, await bits(alone)])
  using m = await model(options)
  const seen: [number, number[]][] = []
  for await (const e of m.train(data, {})) {
    seen.push([e.loss, await bits(m)])
    if (e.step === 2) break
  }
  t.deepEqual(await bits(m), want[1]?.[1])
  for await (const e of m.train(data, { resume: true }))
    if (e.type === 'step') seen.push([e.loss, await bits(m)])
  t.deepEqual(seen, want)
})

test('what fails in its turn: a bad batch after the event before it, a divergence by its own tensor', async (t) => {
  using m = await model({ norm: 'none', glu: false })
  const good = batch()
  const huge = { input: good.input, target: { data: new Float32Array(100).fill(3e38), shape: [2, 50, 1] } }
  const events = m.train([good, { ...good, target: noisy([2, 49, 1]) }, good], {})
  const first = await events.next()
  t.is(first.value?.step, 1)
  await rejects(t, 'ERR_S4_SHAPE', events.next())
  const alone = await rejects(t, 'ERR_S4_NONFINITE', drain(m.train([good, huge], { resume: true })))
  const followed = await rejects(t, 'ERR_S4_NONFINITE', drain(m.train([good, huge, good], { resume: true })))
  // An update that failed does not count.
  t.deepEqual([followed.tensor, followed.step], [alone.tensor, alone.step])
})

test('training resumes with the optimiser it had, and with new options where given', async (t) => {
  using m = await model()
  const seen: [number, number][] = []
  const run = async (options: object) => {
    for await (const e of m.train([batch()], options)) if (e.type === 'step') seen.push([e.step, e.lr])
  }
  await run({ lr: 1e-3, clip: 1 })
  await run({ resume: true, epochs: 2 })
  await run({ resume: true, epochs: 3, lr: 1e-4 })
  await run({ lr: 1e-3 })
  t.deepEqual(seen, [
    [1, 1e-3],
    [2, 1e-3],
    [3, 1e-4],
    [1, 1e-3],
  ])
  await rejects(t, 'ERR_S4_UNSUPPORTED', run({ resume: true, ema: 0.9 }))
  await rejects(t, 'ERR_S4_VALUE', run({ resume: true, lr: -1 }))
})

test('the next batch is made while one is computed; disposal during training ends it', async (t) => {
  const m = await model()
  let made = 0
  const source = {
    *[Symbol.iterator]() {
      for (;;) {
        made++
        yield batch()
      }
    },
  }
  const events = m.train(source, { epochs: 1 })
  await events.next()
  t.is(made, 2)
  m.dispose()
  await rejects(t, 'ERR_S4_DISPOSED', drain(events))
})
