/** Kernels that run beside others on the GPU (`S4_CUDA_SIDE`): whole models are trained to the same bits with them and without. */
import { spawnSync } from 'node:child_process'
import { gpuTest, root } from './helpers.js'

/** Trains each model for two short epochs, and prints a hash of parameters, moments and losses. */
const child = `
  import { createHash } from 'node:crypto'
  import { SequenceModel } from 's4-node'
  const noise = (n, seed) => Float32Array.from({ length: n }, () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 31) - 1)
  for (const { batch, len, ...options } of JSON.parse(process.argv.at(-1))) {
    const model = await SequenceModel.create({ input: 2, output: 3, pooling: 'mean', loss: 'crossEntropy', dropout: 0.1, seed: 4, device: 'cuda', ...options })
    const hash = createHash('sha256')
    const losses = []
    const data = [1, 2, 3].map((seed) => ({
      input: { data: noise(batch * len * 2, seed), shape: [batch, len, 2] },
      target: Int32Array.from({ length: batch }, (_, i) => (i * seed) % 3),
    }))
    for (const resume of [false, true])
      for await (const event of model.train(data, { lr: 4e-3, clip: 1, resume, epochs: model.progress.epochs + 1 })) if (event.type === 'step') losses.push(event.loss)
    hash.update(Float64Array.from(losses)).update(await model.toBytes({ optimizer: true }))
    console.log(JSON.stringify([hash.digest('hex'), losses.every(Number.isFinite), new Set(losses).size]))
    model.dispose()
  }
`

const small = { features: 64, layers: 3, state: 64, batch: 8, len: 512 }
const models = [
  { ...small, bidirectional: true },
  { ...small, bidirectional: true, norm: 'batch', batch: 2, len: 8000 },
  { ...small, features: 32, state: 16, feedForward: 2 },
  { ...small, mode: 's4d', norm: 'batch', prenorm: false },
  // Kernels run beside others of themselves.
  { ...small, features: 512, layers: 4, bidirectional: true, batch: 20, len: 1024 },
  { ...small, features: 128, layers: 4, bidirectional: true, norm: 'batch', batch: 4, len: 16_000 },
]

gpuTest('training gives the same bits with kernels beside others and without', (t) => {
  const train = (precision: string, side: string) => {
    const asked = JSON.stringify(models.map((options) => ({ ...options, precision })))
    const args = ['--input-type=module', '-e', child, asked]
    const env = { ...process.env, S4_CUDA_SIDE: side }
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' })
    const lines = stdout.trim().split('\n')
    t.is(lines.length, models.length, stderr)
    return lines
  }
  for (const precision of ['highest', 'high', 'bf16']) {
    const alone = train(precision, '0')
    for (const line of alone) {
      const [, finite, different] = JSON.parse(line) as [string, boolean, number]
      t.true(finite && different === 6, line)
    }
    for (const side of ['always', 'always', '1'])
      t.deepEqual(train(precision, side), alone, `${precision}, ${side}`)
  }
})
