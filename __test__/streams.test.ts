/** Many live streams of one model: each gives what a stream alone gives, whatever the others do. */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { SequenceModel, type LiveStream, type ModelStream, type SequenceModelOptions } from '../index.js'
import { device, noise } from './helpers.js'

const small: SequenceModelOptions = {
  input: 2,
  output: 3,
  features: 8,
  layers: 2,
  state: 8,
  loss: 'mse',
  seed: 3,
  device: device(),
}
const create = (options: Partial<SequenceModelOptions> = {}) => SequenceModel.create({ ...small, ...options })

const frame = (len: number, seed: number) => ({ data: noise(2 * len, seed), shape: [len, 2] })
const sequence = ({ data, shape }: { data: Float32Array; shape: number[] }) => ({
  data,
  shape: [1, ...shape],
})

function near(t: ExecutionContext, a: ArrayLike<number>, b: ArrayLike<number>, what: string): void {
  t.is(a.length, b.length, what)
  const worst = Math.max(...Array.from(a, (x, i) => Math.abs(x - (b[i] as number))))
  t.true(worst <= 2e-5, `${what}: ${worst}`)
}

/** The outputs of one push of a live stream, and of a stream of its own. */
async function both(
  t: ExecutionContext,
  live: LiveStream,
  own: ModelStream,
  x: ReturnType<typeof frame>,
  what: string,
) {
  const [y, expected] = [await live.push(x), own.push(sequence(x))]
  t.deepEqual(y.shape, [x.shape[0] as number, 3])
  near(t, y.data, expected.data, what)
}

test('streams that come and go give what each gives alone', async (t) => {
  const model = await create()
  using streams = model.streams({ slots: 70 })
  const live = new Map<LiveStream, ModelStream>()
  let seed = 1
  const random = (n: number) => Math.floor(((noise(1, ++seed)[0] as number) + 1) * 0.499999 * n)
  for (let round = 0; round < 12; round++) {
    for (let n = random(20); n > 0 && streams.size < streams.slots; n--)
      live.set(streams.open(), model.stream())
    const pushes = [...live].flatMap(([stream, own], i) => {
      if (random(4) === 0) return []
      const x = frame(1 + random(round % 3 === 0 ? 40 : 4), seed + i)
      return [both(t, stream, own, x, `round ${round}, stream ${i}`)]
    })
    await Promise.all(pushes)
    for (const [stream, own] of live) {
      t.is(stream.position, own.position)
      t.is(stream.waiting, 0)
      if (random(6) > 0) continue
      stream.dispose()
      live.delete(stream)
    }
    t.is(streams.size, live.size)
  }
  model.dispose()
})

test('pushes of one stream that wait together come out one after the other', async (t) => {
  const model = await create({ pooling: 'mean', loss: 'mse' })
  using streams = model.streams({ slots: 3 })
  const [a, b] = [streams.open(), streams.open()]
  const own = model.stream()
  const frames = [1, 5, 2, 40].map((len, i) => frame(len, 90 + i))
  const other = b.push(frame(3, 7))
  const outputs = await Promise.all(frames.map((x) => a.push(x)))
  for (const [i, x] of frames.entries()) near(t, outputs[i]!.data, own.push(sequence(x)).data, `push ${i}`)
  near(t, (await other).data, model.stream().push(sequence(frame(3, 7))).data, 'the other')
  t.is(a.position, 48)
  // Intervals: one number for a push, one for each time step, and none.
  const timed = [
    a.push(frames[1]!, { interval: 2 }),
    a.push(frames[2]!, { interval: [0.5, 3] }),
    a.push(frames[0]!),
  ]
  const [first, second, third] = await Promise.all(timed)
  near(t, first!.data, own.push(sequence(frames[1]!), { interval: 2 }).data, 'one interval')
  near(t, second!.data, own.push(sequence(frames[2]!), { interval: [0.5, 3] }).data, 'two intervals')
  near(t, third!.data, own.push(sequence(frames[0]!)).data, 'no interval')
  model.dispose()
})

test('a push that fails is that push alone', async (t) => {
  const model = await create()
  using streams = model.streams({ slots: 4, maxWaiting: 8 })
  const [a, b] = [streams.open(), streams.open()]
  const [ownA, ownB] = [model.stream(), model.stream()]
  await both(t, a, ownA, frame(2, 1), 'before')
  const spoiled = frame(2, 2)
  spoiled.data[3] = NaN
  const good = both(t, a, ownA, frame(3, 3), 'joined with one that fails')
  const bad = t.throwsAsync(a.push(spoiled), { code: 'ERR_S4_NONFINITE' })
  const after = both(t, a, ownA, frame(1, 4), 'after one that fails')
  const other = both(t, b, ownB, frame(2, 5), 'beside one that fails')
  await Promise.all([good, bad, after, other])
  t.is(a.position, 6)
  t.is(a.waiting, 0)
  const long = a.push(frame(8, 1))
  await t.throwsAsync(a.push(frame(1, 1)), { code: 'ERR_S4_BUSY' })
  await long
  await t.throwsAsync(a.push(frame(9, 1)), { code: 'ERR_S4_VALUE' })
  await t.throwsAsync(a.push({ data: [1, 2, 3], shape: [1, 3] }), { code: 'ERR_S4_SHAPE' })
  await t.throwsAsync(a.push({ data: [1, 2], shape: [1, 1, 2] }), { code: 'ERR_S4_SHAPE' })
  await t.throwsAsync(a.push(frame(1, 1), { interval: 0 }), { code: 'ERR_S4_VALUE' })
  model.dispose()
})

test('slots: all taken, freed, begun anew', async (t) => {
  const model = await create()
  const streams = model.streams({ slots: 2 })
  const [a, b] = [streams.open(), streams.open()]
  t.throws(() => streams.open(), { code: 'ERR_S4_BUSY' })
  await Promise.all([a.push(frame(5, 1)), b.push(frame(5, 2))])
  const waiting = t.throwsAsync(a.push(frame(1, 1)), { code: 'ERR_S4_DISPOSED' })
  a.dispose()
  a.dispose()
  await waiting
  await t.throwsAsync(a.push(frame(1, 1)), { code: 'ERR_S4_DISPOSED' })
  await t.throwsAsync(a.save(), { code: 'ERR_S4_DISPOSED' })
  t.throws(() => a.position, { code: 'ERR_S4_DISPOSED' })
  const c = streams.open()
  await both(t, c, model.stream(), frame(4, 9), 'a slot that another had')
  // One that is closed while its tick runs still has its answer, and leaves no state behind.
  const pushed = c.push(frame(2, 10))
  await sleep(0)
  c.dispose()
  await pushed.catch((error: { code?: string }) => t.is(error.code, 'ERR_S4_DISPOSED'))
  await both(t, streams.open(), model.stream(), frame(4, 11), 'the same slot again')
  const last = t.throwsAsync(b.push(frame(1, 1)), { code: 'ERR_S4_DISPOSED' })
  streams.dispose()
  streams.dispose()
  await last
  t.throws(() => streams.open(), { code: 'ERR_S4_DISPOSED' })
  await t.throwsAsync(b.push(frame(1, 1)), { code: 'ERR_S4_DISPOSED' })
  const others = model.streams({ slots: 1 })
  const d = others.open()
  const lost = t.throwsAsync(d.push(frame(1, 1)), { code: 'ERR_S4_DISPOSED' })
  model.dispose()
  await lost
  others.dispose()
})

test('states are saved, restored and reset, and are those of a stream alone', async (t) => {
  const model = await create()
  using streams = model.streams({ slots: 2 })
  const [a, b] = [streams.open(), streams.open()]
  const own = model.stream()
  const pushed = both(t, a, own, frame(6, 1), 'first')
  // After the push that waits.
  const saved = await a.save()
  await pushed
  const alone = model.stream()
  alone.restore(saved)
  near(t, (await a.push(frame(2, 2))).data, alone.push(sequence(frame(2, 2))).data, 'a stream from a slot')
  await b.restore(alone.save())
  t.is(b.position, 8)
  near(t, (await b.push(frame(2, 3))).data, alone.push(sequence(frame(2, 3))).data, 'a slot from a stream')
  const before = await b.save()
  await t.throwsAsync(b.restore(new Uint8Array(20)), { code: 'ERR_S4_CHECKPOINT' })
  const other = await create({ features: 4 })
  await t.throwsAsync(b.restore(other.stream().save()), { code: 'ERR_S4_CHECKPOINT' })
  t.deepEqual(await b.save(), before)
  await b.reset()
  t.is(b.position, 0)
  await both(t, b, model.stream(), frame(3, 4), 'after a reset')
  // What a later version has written is refused by its number.
  const text = Buffer.from(saved).toString('latin1').replace('"version":"1"', '"version":"9"')
  const error = await t.throwsAsync(b.restore(Buffer.from(text, 'latin1')), { code: 'ERR_S4_CHECKPOINT' })
  t.regex(error.message, /version 9/)
  model.dispose()
})

test('a slot that is freed while the model is busy begins from zero, and is not zeroed later', async (t) => {
  const model = await create({ features: 16, layers: 4 })
  using streams = model.streams({ slots: 3 })
  const [a, c] = [streams.open(), streams.open()]
  await Promise.all([a.push(frame(6, 1)), c.push(frame(2, 2))])
  // Streams of their own are not pushed to while the model computes something else.
  const [own, other] = [model.stream(), model.stream()]
  const busy = model.predict({ data: noise(40_000, 3), shape: [10, 2000, 2] })
  a.dispose()
  const saved = c.save()
  const b = streams.open()
  const first = b.push(frame(3, 4))
  await Promise.all([busy, saved])
  near(
    t,
    (await first).data,
    own.push(sequence(frame(3, 4))).data,
    'the first push in a slot that another had',
  )
  await both(t, b, own, frame(3, 5), 'the second')
  // One that ends while the tick that it is in computes leaves no state behind either.
  const again = model.predict({ data: noise(40_000, 3), shape: [10, 2000, 2] })
  const lost = b.push(frame(4, 6))
  await sleep(1)
  b.dispose()
  await Promise.all([again, lost])
  await both(t, streams.open(), other, frame(3, 7), 'after one that ended in its tick')
  model.dispose()
})

test('calls stand where they were made among the pushes', async (t) => {
  const model = await create()
  using streams = model.streams({ slots: 2 })
  const live = streams.open()
  const [own, alone, fresh] = [model.stream(), model.stream(), model.stream()]
  const [before, saved, , after] = await Promise.all([
    live.push(frame(5, 1)),
    live.save(),
    live.reset(),
    live.push(frame(3, 2)),
  ])
  near(t, before.data, own.push(sequence(frame(5, 1))).data, 'before')
  alone.restore(saved)
  t.is(alone.position, 5)
  near(t, alone.push(sequence(frame(2, 3))).data, own.push(sequence(frame(2, 3))).data, 'the state saved')
  near(t, after.data, fresh.push(sequence(frame(3, 2))).data, 'after a reset')
  t.is(live.position, 3)
  // A client that never stops pushing holds up no call.
  const client = { pushes: true }
  const endless = (async () => {
    for (let i = 0; client.pushes; i++) {
      void live.push(frame(1, i))
      await sleep(1)
    }
  })()
  await live.save()
  client.pushes = false
  await endless
  await live.save()
  model.dispose()
})

test('ticks: by time, by number, by hand', async (t) => {
  const model = await create()
  const slow = model.streams({ slots: 2, tickMilliseconds: 60_000, tickSteps: 5 })
  const [a, b] = [slow.open(), slow.open()]
  const first = a.push(frame(2, 1))
  await sleep(20)
  t.is(a.waiting, 2)
  t.is(await slow.tick(), 2)
  await first
  t.is(await slow.tick(), 0)
  // The fifth time step that waits starts a tick.
  await Promise.all([a.push(frame(3, 2)), b.push(frame(2, 3))])
  slow.dispose()
  using timed = model.streams({ slots: 1, tickMilliseconds: 30 })
  const start = performance.now()
  await timed.open().push(frame(1, 1))
  t.true(performance.now() - start >= 25)
  model.dispose()
})

test('a push during a tick waits from when it came, not from when the tick has ended', async (t) => {
  const model = await create()
  const tickMilliseconds = 400
  using streams = model.streams({ slots: 1, tickMilliseconds })
  const live = streams.open()
  const first = live.push(frame(1, 1))
  const tick = streams.tick()
  const second = live.push(frame(1, 2))
  // The event loop stands still for longer than the second push may wait, so that the tick ends after that.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1.5 * tickMilliseconds)
  await Promise.all([first, tick])
  const end = performance.now()
  await second
  t.true(performance.now() - end < tickMilliseconds / 2, `${performance.now() - end} ms`)
  model.dispose()
})

/** 400 live streams on one thread of a CPU, where a part of a tick has 64 slots. */
async function inParts(threads: number, options: { tickMilliseconds?: number } = {}) {
  const model = await create({ device: 'cpu', threads })
  const streams = model.streams({ slots: 400, ...options })
  return { model, streams, live: Array.from({ length: 400 }, () => streams.open()) }
}

for (const threads of [1, 2])
  test(`many streams are computed part by part, each as it would be alone, with what comes meanwhile, threads: ${threads}`, async (t) => {
    const { model, live } = await inParts(threads)
    const inputs = live.map((_, i) => [frame(1 + (i % 3), i), frame(2, 1000 + i)] as const)
    const order: string[] = []
    let late: Promise<unknown> | undefined
    const pushed = live.map(async (stream, i) => {
      const first = await stream.push(inputs[i]![0])
      // The last part has not been taken yet when the first part's outputs are there.
      if (i === 0) late = live[399]!.push(frame(1, 7)).then(() => order.push('399, late'))
      const second = await stream.push(inputs[i]![1])
      if (i === 0) order.push('0, second')
      return [first, second] as const
    })
    const wrong = live[200]!.push({ data: new Float32Array([NaN, 1]), shape: [1, 2] })
    await t.throwsAsync(wrong, { code: 'ERR_S4_NONFINITE' })
    const outputs = await Promise.all(pushed)
    await late
    t.deepEqual(order, ['399, late', '0, second'])
    for (const [i, [first, second]] of outputs.entries()) {
      const own = model.stream()
      near(t, first.data, own.push(sequence(inputs[i]![0])).data, `stream ${i}, first`)
      if (i === 399) own.push(sequence(frame(1, 7)))
      near(t, second.data, own.push(sequence(inputs[i]![1])).data, `stream ${i}, second`)
      t.is(live[i]!.position, own.position)
      t.is(live[i]!.waiting, 0)
      own.dispose()
    }
    model.dispose()
  })

test('short pushes that wait go some at a time, so that none waits for all of another stream', async (t) => {
  const model = await create({ device: 'cpu', threads: 1 })
  const streams = model.streams({ slots: 5, tickMilliseconds: 600_000 })
  const live = Array.from({ length: 5 }, () => streams.open())
  // Of the last stream the first push is long, and takes those behind it along.
  const lens = (i: number) => (i === 4 ? [100, ...Array<number>(10).fill(10)] : Array<number>(20).fill(10))
  const order: string[] = []
  const pushed = live.map((stream, i) =>
    lens(i).map(async (len, k) => {
      const { data } = await stream.push(frame(len, 100 * i + k))
      order.push(`${i}: ${k}`)
      return data
    }),
  )
  t.is(await streams.tick(), 5 * 200)
  const place = (i: number, k: number) => order.indexOf(`${i}: ${k}`)
  for (const i of [0, 1, 2]) {
    t.true(place(i, 5) < place(3, 0), 'six of ten time steps go together')
    t.true(place(3, 0) < place(i, 6), 'and the seventh waits for the other streams')
  }
  t.true(place(4, 10) < place(0, 6))
  for (const [i, outputs] of pushed.entries()) {
    const own = model.stream()
    for (const [k, len] of lens(i).entries())
      near(t, await outputs[k]!, own.push(sequence(frame(len, 100 * i + k))).data, `stream ${i}, ${k}`)
    t.is(live[i]!.position, 200)
    own.dispose()
  }
  model.dispose()
})

for (const threads of [1, 2])
  test(`a stream that ends while another part is computed frees its slot for another, threads: ${threads}`, async (t) => {
    const { model, streams, live } = await inParts(threads)
    const x = frame(3, 5)
    const pushed = live.map((stream, i) =>
      stream.push(x).then(
        (y) => {
          // When the first part gives its outputs the second has been taken, with slot 100, and the last, with slot 390, has not.
          if (i === 0) for (const ended of [100, 390]) live[ended]!.dispose()
          return y.data
        },
        (error: { code: string }) => error.code,
      ),
    )
    const results = await Promise.all(pushed)
    t.is(results[390], 'ERR_S4_DISPOSED')
    const own = model.stream().push(sequence(x)).data
    for (const i of [0, 100, 389, 399]) near(t, results[i] as Float32Array, own, `stream ${i}`)
    for (let i = 0; i < 2; i++)
      near(t, (await streams.open().push(x)).data, own, 'a new stream in a freed slot')
    t.is(streams.size, 400)
    model.dispose()
  })

// By itself: the others keep the event loop busy.
test.serial('a push that waits for one under way lets the event loop rest', async (t) => {
  const model = await create({ device: 'cpu', threads: 1 })
  const streams = model.streams({ slots: 128 })
  const live = Array.from({ length: 128 }, () => streams.open())
  const inputs = live.map((_, i) => frame(i < 64 ? 1 : 20_000, i))
  const later = frame(1, 7)
  const round = () =>
    Promise.all(
      live.map(async (stream, i) => {
        const first = stream.push(inputs[i]!)
        // It comes while the call with the stream's first push is under way, and the tick has sent all there is.
        if (i === 100) await sleep(5).then(() => stream.push(later))
        await first
      }),
    )
  await round()
  const before = performance.eventLoopUtilization()
  await round()
  const { active, idle } = performance.eventLoopUtilization(before)
  t.true(idle > active, `${active} ms active, ${idle} ms idle`)
  t.is(live[100]!.position, 2 * 20_001)
  model.dispose()
})

test('a push waits its time, also after one that came during a tick and was computed with it', async (t) => {
  const tickMilliseconds = 300
  const { model, live } = await inParts(1, { tickMilliseconds })
  const pushed = live.map((stream) => stream.push(frame(1, 1)))
  const late = pushed[0]!.then(() => live[299]!.push(frame(1, 2)))
  await Promise.all([...pushed, late])
  await sleep(1.5 * tickMilliseconds)
  const start = performance.now()
  await live[5]!.push(frame(1, 3))
  t.true(performance.now() - start >= tickMilliseconds - 10, `${performance.now() - start} ms`)
  model.dispose()
})

test('streams go on between predictions and within a training', async (t) => {
  const model = await create()
  using streams = model.streams({ slots: 2 })
  const live = streams.open()
  const x = { data: noise(40, 1), shape: [2, 10, 2] }
  const [y] = await Promise.all([
    live.push(frame(3, 1)),
    model.predict(x),
    live.push(frame(3, 2)),
    model.predict(x),
  ])
  near(t, y.data, model.stream().push(sequence(frame(3, 1))).data, 'beside predictions')
  const batches = [{ input: x, target: { data: noise(60, 2), shape: [2, 10, 3] } }]
  for await (const event of model.train(batches, { epochs: 2, lr: 0.01 })) {
    if (event.type === 'step') await live.push(frame(1, 4))
  }
  await live.reset()
  await both(t, live, model.stream(), frame(3, 5), 'the parameters after the training')
  model.dispose()
})

test('transforms take frames and bytes, of Node and of the web', async (t) => {
  const model = await create({ input: 1 })
  using streams = model.streams({ slots: 3 })
  const own = model.stream()
  const samples = noise(12, 8)
  const expected = own.push({ data: samples, shape: [1, 12, 1] }).data
  const node = streams.open().toTransform()
  node.write(samples.subarray(0, 5))
  node.end(samples.subarray(5))
  const outputs: number[] = []
  for await (const y of node) outputs.push(...(y as Float32Array))
  near(t, outputs, expected, 'Node')
  const web = streams.open().toTransformStream({ format: 'f32' })
  const bytes = new Uint8Array(samples.buffer)
  const writer = web.writable.getWriter()
  const written = writer
    .write(bytes.slice(0, 7))
    .then(() => writer.write(bytes.slice(7)))
    .then(() => writer.close())
  const streamed: number[] = []
  for await (const y of web.readable) streamed.push(...(y as Float32Array))
  await written
  near(t, streamed, expected, 'the web')
  // A stream alone has both as well. μ-law by G.711: 0x00 is −32124/32768, 0x80 32124/32768, 0xff 0, 0xf7 8·… ± of the table.
  const mulaw = model.stream().toTransformStream({ format: 'mulaw' })
  const codes = [0x00, 0x80, 0xff, 0x7f, 0xf0, 0x8f]
  const decoded = [-32124, 32124, 0, 0, 120, 16764].map((n) => n / 32768)
  const wanted = model.stream().push({ data: decoded, shape: [1, 6, 1] }).data
  const telephone = mulaw.writable.getWriter()
  const sent = telephone.write(Uint8Array.from(codes)).then(() => telephone.close())
  const heard: number[] = []
  for await (const y of mulaw.readable) heard.push(...(y as Float32Array))
  await sent
  near(t, heard, wanted, 'mu-law')
  // A frame that is longer than what may wait is cut.
  using narrow = model.streams({ slots: 1, maxWaiting: 5 })
  const piped = narrow.open().toTransform()
  piped.end(samples)
  const whole: number[] = []
  for await (const y of piped) whole.push(...(y as Float32Array))
  near(t, whole, expected, 'cut')
  const cut = streams.open().toTransformStream({ format: 'i16' })
  const odd = cut.writable.getWriter()
  const end = odd.write(Uint8Array.of(1, 2, 3)).then(() => odd.close())
  const reading = (async () => {
    for await (const y of cut.readable) t.is((y as Float32Array).length, 3)
  })()
  await t.throwsAsync(Promise.all([end, reading]), { code: 'ERR_S4_DATA' })
  model.dispose()
})

test('a two-sided model has no live streams', async (t) => {
  const model = await create({ bidirectional: true })
  t.throws(() => model.streams({ slots: 2 }), { code: 'ERR_S4_UNSUPPORTED' })
  model.dispose()
})
