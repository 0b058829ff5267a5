/** Streams whose samples have times: outputs say them, and between them are the intervals. */
import { once } from 'node:events'
import test from 'ava'
import { SequenceModel, type StreamedTensor, type TimedFrame, type TimedOutputs } from '../index.js'
import { close, device, noise, rejects, refuses } from './helpers.js'

const made = () =>
  SequenceModel.create({
    input: 1,
    output: 2,
    features: 4,
    layers: 2,
    state: 8,
    mode: 's4d',
    loss: 'mse',
    seed: 3,
    device: device(),
  })
const len = 24
const x = noise(len, 5)
/** Seconds that a usual interval has, and the times of the samples in seconds. */
const usual = 2.5
const times = Float64Array.from(noise(len, 6), (r, i) => 1000 + 3 * i + r)
/** The differences of the times, by hand. */
const intervals = times.map((t, i) => (i === 0 ? 1 : (t - times[i - 1]!) / usual))
const piece = (from: number, to: number) => ({ data: x.slice(from, to), shape: [1, to - from, 1] })
const live = (from: number, to: number) => ({ data: x.slice(from, to), shape: [to - from, 1] })
const CUTS = [
  [0, 1],
  [1, 6],
  [6, 7],
  [7, 20],
  [20, len],
] as const

const together = (outputs: readonly StreamedTensor[]) =>
  Float64Array.from(outputs.flatMap(({ data }) => Array.from(data)))

test('times are intervals by the usual one, in any pieces, as in the whole sequence', async (t) => {
  using model = await made()
  const whole = await model.predict(piece(0, len), { intervals })
  const plain = await model.predict(piece(0, len))
  t.true(Math.max(...whole.data.map((y, i) => Math.abs(y - plain.data[i]!))) > 1e-3)
  using stream = model.stream({ usualInterval: usual })
  const outputs: StreamedTensor[] = []
  for (const [i, [from, to]] of CUTS.entries()) {
    const call = { time: times.slice(from, to) }
    outputs.push(i % 2 ? stream.push(piece(from, to), call) : await stream.pushAsync(piece(from, to), call))
    t.deepEqual(outputs[i]!.time, times.slice(from, to))
  }
  close(t, 'pieces', whole, together(outputs), 1e-5)
  const streams = model.streams({ slots: 2, usualInterval: usual })
  const [one, other] = [streams.open(), streams.open()]
  const answers = CUTS.map(([from, to]) =>
    one.push(live(from, to), { time: Array.from(times.slice(from, to)) }),
  )
  const untimed = other.push(live(0, len))
  const told = await Promise.all(answers)
  close(t, 'live', whole, together(told), 1e-5)
  t.deepEqual(
    told.flatMap(({ time }) => Array.from(time!)),
    Array.from(times),
  )
  t.is((await untimed).time, undefined)
  close(t, 'without times', plain, (await untimed).data, 1e-5)
  streams.dispose()
})

test('several sequences have the times of a push in common; one number is the first of usual steps', async (t) => {
  using model = await made()
  const [a, b] = [noise(5, 8), noise(5, 9)]
  const rows = { data: Float32Array.of(...a, ...b), shape: [2, 5, 1] }
  using two = model.stream({ batch: 2, usualInterval: usual })
  using held = model.stream({ batch: 2 })
  const own = Array.from(intervals.slice(0, 5))
  const time = times.slice(0, 5)
  t.deepEqual(two.push(rows, { time }).data, held.push(rows, { interval: [...own, ...own] }).data)
  // Five seconds after the last sample, then every two and a half.
  const first = time[4]! + 5
  const [from, by] = [
    two.push(rows, { time: first }),
    held.push(rows, { interval: [2, 1, 1, 1, 1, 2, 1, 1, 1, 1] }),
  ]
  t.deepEqual(from.data, by.data)
  t.deepEqual(
    Array.from(from.time!),
    [0, 1, 2, 3, 4].map((k) => first + k * usual),
  )
  // Without times they come at usual intervals, and what follows them is counted from there.
  t.deepEqual(two.push(rows).data, held.push(rows).data)
  const late = { time: first + 9 * usual + 7.5 }
  t.deepEqual(two.push(rows, late).data, held.push(rows, { interval: [3, 1, 1, 1, 1, 3, 1, 1, 1, 1] }).data)
  // Said intervals hold, whatever the times are.
  const said = { interval: 0.5, time: late.time + 100 }
  t.deepEqual(two.push(rows, said).data, held.push(rows, { interval: 0.5 }).data)
})

test('without a usual interval times are only given back', async (t) => {
  using model = await made()
  using stream = model.stream()
  using same = model.stream()
  const time = [7, 7, 3]
  const y = stream.push(piece(0, 3), { time })
  t.deepEqual(Array.from(y.time!), time)
  t.deepEqual(y.data, same.push(piece(0, 3)).data)
  t.deepEqual(Array.from(stream.push(piece(3, 4), { time: 9 }).time!), [9])
  refuses(t, 'ERR_S4_VALUE', () => stream.push(piece(4, 6), { time: 9 }))
})

test('what is refused changes nothing, nor the time that the next sample is counted from', async (t) => {
  using model = await made()
  using stream = model.stream({ usualInterval: usual })
  stream.push(piece(0, 6), { time: times.slice(0, 6) })
  const last = times[5]!
  for (const time of [last, last - 1, NaN, Infinity])
    refuses(t, 'ERR_S4_VALUE', () => stream.push(piece(6, 7), { time }))
  refuses(t, 'ERR_S4_VALUE', () => stream.push(piece(6, 8), { time: [last + 2, last + 1] }))
  refuses(t, 'ERR_S4_SHAPE', () => stream.push(piece(6, 8), { time: [last + 1] }))
  refuses(t, 'ERR_S4_NONFINITE', () => stream.push({ data: [NaN], shape: [1, 1, 1] }, { time: last + 1 }))
  await rejects(
    t,
    'ERR_S4_NONFINITE',
    stream.pushAsync({ data: [Infinity], shape: [1, 1, 1] }, { time: last + 1 }),
  )
  const fork = stream.fork()
  const state = stream.save()
  const rest = { time: times.slice(6, 9) }
  const whole = await model.predict(piece(0, 9), { intervals: intervals.slice(0, 9) })
  const right = Float64Array.from(whole.data.slice(12))
  for (const one of [stream, fork]) close(t, 'after refusals', right, one.push(piece(6, 9), rest).data, 1e-5)
  // A saved state holds no time, but the interval may be said.
  stream.restore(state)
  const said = { ...rest, interval: Array.from(intervals.slice(6, 9)) }
  close(t, 'restored', right, stream.push(piece(6, 9), said).data, 1e-5)
  stream.reset()
  const again = stream.push(piece(0, 6), { time: times.slice(0, 6) })
  close(t, 'reset', whole.data.slice(0, 12), again.data, 1e-5)
  fork.dispose()
  refuses(t, 'ERR_S4_VALUE', () => model.stream({ usualInterval: 0 }))
})

test('a live push that fails among others leaves no hole in the time', async (t) => {
  using model = await made()
  using streams = model.streams({ slots: 1, usualInterval: usual })
  const one = streams.open()
  const bad = { data: [NaN], shape: [1, 1] }
  const pushes = [
    one.push(live(0, 4), { time: times.slice(0, 4) }),
    one.push(bad, { time: times[3]! + 0.1 }).then(
      () => t.fail('it has no number'),
      ({ code }: { code: string }) => t.is(code, 'ERR_S4_NONFINITE'),
    ),
    one.push(live(4, 9), { time: times.slice(4, 9) }),
  ]
  const [before, , after] = (await Promise.all(pushes)) as StreamedTensor[]
  const whole = await model.predict(piece(0, 9), { intervals: intervals.slice(0, 9) })
  close(t, 'as if it had not been', whole, together([before!, after!]), 1e-5)
  await rejects(t, 'ERR_S4_VALUE', one.push(live(9, 10), { time: times[8] }))
  await one.reset()
  const again = await one.push(live(0, 4), { time: times.slice(0, 4) })
  t.deepEqual(again.data, before!.data)
})

test('frames with times go through transforms, and come out with them', async (t) => {
  using model = await made()
  const whole = await model.predict(piece(0, len), { intervals })
  const frames = CUTS.map(([from, to]): TimedFrame => ({
    data: x.slice(from, to),
    time: times.slice(from, to),
  }))
  const check = (name: string, out: readonly TimedOutputs[]) => {
    close(t, name, whole, Float64Array.from(out.flatMap(({ data }) => Array.from(data))), 1e-5)
    t.deepEqual(
      out.flatMap(({ time }) => Array.from(time)),
      Array.from(times),
    )
  }
  const through = async (transform: NodeJS.ReadWriteStream, given: readonly unknown[]) => {
    const out: TimedOutputs[] = []
    transform.on('data', (y: TimedOutputs) => out.push(y))
    for (const frame of given) transform.write(frame as never)
    transform.end()
    await once(transform, 'end')
    return out
  }
  using first = model.stream({ usualInterval: usual })
  check('numbers', await through(first.toTransform(), frames))
  using second = model.stream({ usualInterval: usual })
  const bytes = frames.map(({ data, time }) => ({
    data: new Uint8Array((data as Float32Array).buffer),
    time,
  }))
  check('bytes', await through(second.toTransform({ format: 'f32' }), bytes))
  // Live streams cut what is longer than may wait.
  using streams = model.streams({ slots: 1, usualInterval: usual, maxWaiting: 5 })
  const web = streams.open().toTransformStream()
  const out: TimedOutputs[] = []
  const read = (async () => {
    for await (const y of web.readable) out.push(y as TimedOutputs)
  })()
  const writer = web.writable.getWriter()
  for (const frame of frames) await writer.write(frame)
  await writer.close()
  await read
  check('live', out)
  using third = model.stream({ usualInterval: usual })
  const halved = third.toTransform({ format: 'f32' })
  halved.write({ data: new Uint8Array(6), time: 1 })
  const [error] = (await once(halved, 'error')) as [{ code: string }]
  t.is(error.code, 'ERR_S4_DATA')
})
