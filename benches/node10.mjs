// The costs of whole layers and models through the public API. Run by `npm run bench`.
import { readFileSync } from 'node:fs'
import { S4Block, SequenceModel } from 's4-node'

const median = (times) => times.sort((a, b) => a - b)[times.length >> 1]
const time = (repeats, f) => {
  // The first calls pay for memory that later ones find again.
  for (let i = 0; i < 5; i++) f()
  return median(
    Array.from({ length: repeats }, () => {
      const start = performance.now()
      f()
      return performance.now() - start
    }),
  )
}
/** Peak resident memory of this process, MiB (Linux). */
const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? NaN) / 1024
const random = (n) => Float32Array.from({ length: n }, () => Math.random() * 2 - 1)

const cases = {
  // S4Block (DPLR, N 64), 128 features: forward, and forward + backward; y alone, as other implementations give it.
  block() {
    for (const algorithm of ['auto', 'fft', 'chunk']) {
      for (const [batch, len] of [
        [32, 1024],
        [8, 4096],
        [2, 16384],
      ]) {
        const block = new S4Block({ features: 128, state: 64, algorithm })
        const u = { data: random(batch * len * 128), shape: [batch, len, 128] }
        const dy = { data: random(batch * len * 128), shape: [batch, len, 128] }
        const forward = time(7, () => block.forward(u, { finalState: false }))
        const both = time(5, () => {
          block.forward(u, { training: true, finalState: false })
          block.backward(dy)
        })
        console.log(`S4Block 128, ${algorithm.padEnd(5)} ${batch} × ${len}: forward ${forward.toFixed(1)} ms, forward + backward ${both.toFixed(1)} ms`)
        block.dispose()
      }
    }
  },
  // One training step of 4 × 64, length 16,000, batch 2; peak memory above what stood before the model.
  async train(algorithm) {
    const batch = { input: { data: random(32000), shape: [2, 16000, 1] }, target: { data: random(32000), shape: [2, 16000, 1] } }
    const before = peak()
    const model = await SequenceModel.create({ input: 1, output: 1, features: 64, layers: 4, state: 64, loss: 'mse', algorithm })
    const times = []
    let last = performance.now()
    for await (const event of model.train(Array(8).fill(batch), { epochs: 1, lr: 1e-3 })) {
      if (event.type !== 'step') continue
      times.push(performance.now() - last)
      last = performance.now()
    }
    console.log(`training step 4 × 64, 2 × 16,000, ${algorithm}: ${median(times.slice(2)).toFixed(0)} ms, peak ${(peak() - before).toFixed(0)} MiB over the start`)
    model.dispose()
  },
  // As `train`, of S4D, with intervals of its own for each step beside the regular step.
  async intervals() {
    const regular = { input: { data: random(32000), shape: [2, 16000, 1] }, target: { data: random(32000), shape: [2, 16000, 1] } }
    const intervals = random(32000).map((x) => 0.5 + Math.abs(x))
    const taken = {}
    for (const [name, batch] of Object.entries({ regular, uneven: { ...regular, intervals } })) {
      const model = await SequenceModel.create({ input: 1, output: 1, features: 64, layers: 4, state: 64, loss: 'mse', mode: 's4d' })
      const times = []
      let last = performance.now()
      for await (const event of model.train(Array(8).fill(batch), { epochs: 1, lr: 1e-3 })) {
        if (event.type !== 'step') continue
        times.push(performance.now() - last)
        last = performance.now()
      }
      taken[name] = median(times.slice(2))
      model.dispose()
    }
    const { regular: one, uneven: other } = taken
    console.log(`training step 4 × 64 S4D, 2 × 16,000, with intervals: ${other.toFixed(0)} ms, ${(other / one).toFixed(1)} times the regular ${one.toFixed(0)} ms`)
  },
  // The 6 × 128 network as an RNN, one sample a call, one thread; and a long signal in chunks.
  async stream() {
    const model = await SequenceModel.create({ input: 1, output: 1, features: 128, layers: 6, state: 64, loss: 'mse', threads: 1 })
    const stream = model.stream({ batch: 1 })
    const x = { data: new Float32Array(1), shape: [1, 1, 1] }
    const n = 4000
    const ms = time(5, () => {
      for (let i = 0; i < n; i++) {
        x.data[0] = Math.sin(i)
        stream.push(x)
      }
    })
    console.log(`stream 6 × 128, one sample a call, one thread: ${((n / ms) * 1000).toFixed(0)} samples/s`)
    model.dispose()
    const audio = await SequenceModel.create({ input: 1, output: 1, features: 64, layers: 4, state: 64, loss: 'mse' })
    const ears = audio.stream({ batch: 1 })
    const second = { data: random(16000), shape: [1, 16000, 1] }
    const perSecond = time(9, () => ears.push(second))
    console.log(`one hour of 16 kHz audio through 4 × 64 in pushes of one second: ${((perSecond * 3600) / 1000).toFixed(0)} s (from ${perSecond.toFixed(1)} ms a push), peak ${peak().toFixed(0)} MiB in all`)
    audio.dispose()
  },
  // 1,000 live streams of 6 × 128 that give 100 samples/s each, in ticks of 100 ms; at another rate with SAMPLES_PER_SECOND. The time from a
  // push to its output, and the processor time. `frames`: each stream pushes its samples of a tick together, else one by one.
  async fleet() {
    const [slots, perSecond, tickMilliseconds, seconds] = [1000, Number(process.env.SAMPLES_PER_SECOND ?? 100), 100, Number(process.env.SECONDS ?? 10)]
    for (const frame of [10]) {
      const model = await SequenceModel.create({ input: 1, output: 1, features: 128, layers: 6, state: 64, loss: 'mse', threads: 2 })
      const streams = model.streams({ slots, tickMilliseconds })
      const fleet = Array.from({ length: slots }, () => streams.open())
      const period = (1000 * frame) / perSecond
      const delays = []
      const pushes = new Set()
      let [late, refused] = [0, 0]
      // Each stream has a phase of its own: its next push is due at `due[i]`.
      const start = performance.now() + 100
      const due = fleet.map((_, i) => start + (((i * 617) % slots) / slots) * period)
      const order = fleet.map((_, i) => i).sort((a, b) => due[a] - due[b])
      const warm = start + Number(process.env.WARM ?? 2) * 1000
      const end = warm + 1000 * seconds
      let [at, cpu, since] = [0, process.cpuUsage(), start]
      let warmed = false
      for (;;) {
        const now = performance.now()
        if (!warmed && now >= warm) [warmed, cpu, since] = [true, process.cpuUsage(), now]
        if (now >= end) break
        for (; due[order[at]] <= now; at = (at + 1) % slots) {
          const i = order[at]
          const begin = due[i]
          due[i] += period
          late = Math.max(late, now - begin)
          const x = { data: random(frame), shape: [frame, 1] }
          const push = fleet[i].push(x).then(
            () => begin >= warm && delays.push(performance.now() - begin),
            () => refused++,
          )
          pushes.add(push)
          void push.then(() => pushes.delete(push))
        }
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      // The loop may come late to its end.
      const [used, measured] = [process.cpuUsage(cpu), performance.now() - since]
      await Promise.all(pushes)
      delays.sort((a, b) => a - b)
      const at99 = delays[Math.floor(0.99 * delays.length)]
      const processor = (used.user + used.system) / 1e3 / measured
      console.log(`fleet of ${slots} × ${perSecond} samples/s, 6 × 128, pushes of ${frame}: delay median ${median(delays).toFixed(0)} ms, p99 ${at99.toFixed(0)} ms, worst ${delays.at(-1).toFixed(0)} ms, processor time ${processor.toFixed(2)} s/s, ${refused} refused`)
      model.dispose()
    }
  },
  // Tokens a second of a 4 × 128 model of bytes, in the library's own loop, and by pushes and a choice in JavaScript; a long prompt.
  async generate() {
    const model = await SequenceModel.create({ encoder: 'embedding', vocabulary: 256, output: 256, features: 128, layers: 4, state: 64, loss: 'crossEntropy', threads: Number(process.env.THREADS ?? 0) || undefined })
    const drawn = async (batch, count, options) => {
      const prompts = Array.from({ length: batch }, (_, i) => [i])
      let [steps, start] = [0, 0]
      for await (const { tokens } of model.generate(prompts, { maxTokens: count + 50, seed: 1, ...options })) {
        if (++steps === 50) start = performance.now()
        if (tokens.length !== batch) throw new Error('tokens')
      }
      return (batch * count * 1000) / (performance.now() - start)
    }
    const pushed = (batch, count) => {
      const stream = model.stream({ batch })
      const x = { data: new Int32Array(batch), shape: [batch, 1] }
      for (let i = 0; i < 50; i++) stream.push(x)
      const start = performance.now()
      for (let i = 0; i < count; i++) stream.push(x)
      const ms = performance.now() - start
      stream.dispose()
      return (batch * count * 1000) / ms
    }
    for (const [batch, count] of [[1, 4000], [64, 200]]) {
      const runs = { push: [], greedy: [], drawn: [], 'top-p': [] }
      for (let i = 0; i < 5; i++) {
        runs.push.push(pushed(batch, count))
        runs.greedy.push(await drawn(batch, count, { temperature: 0 }))
        runs.drawn.push(await drawn(batch, count, {}))
        runs['top-p'].push(await drawn(batch, count, { topP: 0.9, topK: 50 }))
      }
      const text = Object.entries(runs).map(([name, rates]) => `${name} ${median(rates).toFixed(0)}`)
      console.log(`generate 4 × 128, batch ${batch}, tokens/s: ${text.join(', ')}`)
    }
    const prompt = Int32Array.from({ length: 20_000 }, (_, i) => i % 256)
    const times = []
    for (let i = 0; i < 5; i++) {
      const start = performance.now()
      for await (const _ of model.generate(prompt, { maxTokens: 1 })) times.push(performance.now() - start)
    }
    console.log(`first token after a prompt of 20,000: ${median(times).toFixed(0)} ms`)
    model.dispose()
  },
}

const name = process.argv[2]
if (!cases[name]) throw new Error(`one of ${Object.keys(cases).join(', ')}`)
await cases[name](process.argv[3] ?? 'auto')
