/** What a GPU that runs out of memory, or dies, leaves behind: an error with its code, and everything else as it was. */
import { execFile } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { SequenceModel, S4Layer } from '../index.js'
import { batch, drain, gpuTest, model, noisy, refuses, rejects, root } from './helpers.js'

gpuTest(
  'a batch beyond the memory limit: asked and free are named, nothing is lost, a smaller one works',
  async (t) => {
    using m = await model({ device: 'cuda', features: 32, state: 16, memoryLimit: 64 << 20 })
    await drain(m.train([batch(2, 200)], { epochs: 1 }))
    const before = m.parameters().map((p) => [...p.value.data])
    for (let i = 0; i < 3; i++) {
      const train = drain(m.train([batch(64, 20_000)], { epochs: 2, resume: true }))
      const error = await rejects(t, 'ERR_S4_MEMORY', train)
      t.regex(error.expected, /^\d+ bytes of GPU memory$/)
      t.regex(error.got, /^\d+ of 67108864 bytes of memoryLimit free, \d+ of \d+ on cuda:0$/)
      await rejects(t, 'ERR_S4_MEMORY', m.predict(noisy([64, 20_000, 1])))
    }
    t.deepEqual(
      m.parameters().map((p) => [...p.value.data]),
      before,
      'the parameters stand as they were',
    )
    t.is(await drain(m.train([batch(2, 400)], { epochs: 2, resume: true })), 2)
    t.is((await m.predict(noisy([2, 400, 1]))).data.length, 800)
  },
)

gpuTest('a model beyond the GPU’s memory', async (t) => {
  await rejects(t, 'ERR_S4_MEMORY', model({ device: 'cuda', features: 256, memoryLimit: 1 << 20 }))
  const layer = new S4Layer({ features: 256, device: 'cuda' })
  const error = refuses(t, 'ERR_S4_MEMORY', () => layer.kernel(2 ** 30))
  t.regex(error.got, /^\d+ of \d+ bytes free on cuda:0$/)
  t.is(layer.kernel(64).data.length, 256 * 64)
  layer.dispose()
})

gpuTest('a kernel fault: the device is lost for the process, and only that', async (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 's4-')), 'last.safetensors')
  const source = `
    import { SequenceModel, S4Layer, diagnose } from ${JSON.stringify(pathToFileURL(join(root, 'build', 'index.js')).href)}
    const small = { input: 1, output: 1, features: 8, layers: 2, state: 8, loss: 'mse' }
    const x = { data: Float32Array.from({ length: 100 }, (_, i) => Math.sin(i)), shape: [2, 50, 1] }
    const cpu = await SequenceModel.create({ ...small, device: 'cpu' })
    const gpu = await SequenceModel.create({ ...small, device: 'cuda' })
    const other = await SequenceModel.create({ ...small, device: 'cuda' })
    const layer = new S4Layer({ features: 4, device: 'cuda' })
    const stream = other.stream()
    stream.push({ data: [1], shape: [1, 1, 1] })
    await gpu.save(${JSON.stringify(path)})
    const code = async (call) => { try { await call(); return 'none' } catch (e) { return e.code } }
    const codes = []
    const forever = { *[Symbol.iterator]() { for (;;) yield { input: x, target: x } } }
    codes.push(await code(async () => { for await (const _ of gpu.train(forever, { epochs: 1 })); }))
    const began = performance.now()
    codes.push(await code(() => gpu.predict(x)))
    codes.push(await code(() => other.predict(x)))
    codes.push(await code(() => stream.push({ data: [1], shape: [1, 1, 1] })))
    codes.push(await code(() => layer.forward({ data: new Float32Array(8), shape: [1, 2, 4] })))
    codes.push(await code(() => new S4Layer({ features: 4, device: 'cuda' })))
    codes.push(await code(() => gpu.save(${JSON.stringify(path)})))
    const milliseconds = performance.now() - began
    const y = await cpu.predict(x)
    const loaded = await SequenceModel.load(${JSON.stringify(path)}, { device: 'cpu' })
    const auto = await SequenceModel.create(small)
    for await (const _ of auto.train([{ input: x, target: x }], { epochs: 1 }));
    for (const h of [gpu, other, layer]) h.dispose()
    console.log(JSON.stringify({ codes, milliseconds, cpu: y.data.every(Number.isFinite), auto: auto.device,
      loaded: [...(await loaded.predict(x)).data], text: diagnose().cuda }))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], {
    timeout: 120_000,
    env: { ...process.env, S4_CUDA_FAULT: '300', S4_DEVICE: 'auto' },
  })
  const seen = JSON.parse(stdout) as {
    codes: string[]
    milliseconds: number
    cpu: boolean
    auto: string
    loaded: number[]
    text: string
  }
  t.deepEqual(seen.codes, Array<string>(7).fill('ERR_S4_DEVICE'))
  t.true(seen.milliseconds < 1000, `answers at once: ${seen.milliseconds} ms`)
  t.true(seen.cpu)
  t.is(seen.auto, 'cpu', 'auto goes on without the GPU')
  t.regex(seen.text, /lost/)
  // This process, another one, still has the GPU; the last checkpoint is whole.
  using again = await SequenceModel.load(path, { device: 'cuda' })
  const x = { data: Float32Array.from({ length: 100 }, (_, i) => Math.sin(i)), shape: [2, 50, 1] }
  const y = await again.predict(x)
  const error = Math.hypot(...y.data.map((v, i) => v - seen.loaded[i]!)) / Math.hypot(...seen.loaded)
  t.true(error <= 1e-5, `${error}`)
})
