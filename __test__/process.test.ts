/** Workers, exits, CommonJS: nothing of ours outlives its environment or takes the host down. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { join } from 'node:path'
import test from 'ava'
import { root } from './helpers.js'

const api = pathToFileURL(join(root, 'build', 'index.js')).href
const run = promisify(execFile)
const training = `
  const { SequenceModel } = await import(${JSON.stringify(api)})
  const model = await SequenceModel.create({ input: 1, output: 1, features: 32, layers: 3, state: 32, loss: 'mse' })
  const x = { data: Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i)), shape: [2, 2000, 1] }
  const forever = { *[Symbol.iterator]() { for (;;) yield { input: x, target: x } } }
`

test('a process that exits during training ends cleanly', async (t) => {
  const source = `${training}
    for await (const e of model.train(forever, { epochs: 1 })) if (e.step === 3) process.exit(7)`
  const error = await t.throwsAsync(
    run(process.execPath, ['--input-type=module', '-e', source], { timeout: 60_000 }),
  )
  t.is((error as unknown as { code: number; signal: unknown }).code, 7)
  t.is((error as unknown as { signal: unknown }).signal ?? null, null)
})

test('a worker terminated during training ends cleanly', async (t) => {
  const source = `
    import('node:worker_threads').then(async ({ parentPort }) => { ${training}
      for await (const e of model.train(forever, { epochs: 1 })) parentPort.postMessage(e.step) })`
  const worker = new Worker(source, { eval: true })
  await new Promise<void>((resolve, reject) => {
    worker.on('message', (step) => step >= 3 && resolve())
    worker.on('error', reject)
  })
  t.is(await worker.terminate(), 1)
})

test('several workers at once', async (t) => {
  const source = `
    import('node:worker_threads').then(async ({ parentPort }) => { ${training}
      let last
      for await (const e of model.train([{ input: x, target: x }, { input: x, target: x }], { epochs: 1 })) last = e.loss
      model.dispose()
      parentPort.postMessage(last) })`
  const losses = await Promise.all(
    [0, 1, 2].map(
      () =>
        new Promise((resolve, reject) => {
          const worker = new Worker(source, { eval: true })
          worker.on('message', resolve)
          worker.on('error', reject)
        }),
    ),
  )
  t.is(new Set(losses).size, 1)
})

test('CommonJS', async (t) => {
  const source = `const s4 = require(${JSON.stringify(join(root, 'build', 'index.js'))}); console.log(typeof s4.S4Layer, s4.hippo('legs', 2).a.data.join())`
  const { stdout } = await run(process.execPath, ['-e', source])
  t.regex(stdout, /^function -1,0,/)
})

test('a forgotten handle does not keep the process alive', async (t) => {
  const source = `${training}
    await model.predict(x); console.log('done')`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source], { timeout: 60_000 })
  t.is(stdout.trim(), 'done')
})
