// npm run test:exit: a process that ends in the middle of asynchronous work, in every way that a process ends, ends at once with the
// code that it asked for: it does not hang, and no native fault ends it.
//   node scripts/faults/exit.mjs [--repeats 10] [--seed 1] [--short]
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generator } from '../recipe-random.mjs'
import { numbers, runText, since } from './options.mjs'

const { repeats, seed } = numbers({ repeats: [10, 1], seed: [1, 1] })
const random = generator(seed)
const folder = mkdtempSync(join(tmpdir(), 's4-exit-'))
const began = performance.now()
/** Most seconds that the end of a process may take, the start of Node included. */
const limit = 30

/** Work that is under way when the process ends; each runs for ever. */
const works = {
  train: `for await (const e of model.train(forever, { epochs: 1 })) if (e.step === 2) busy()`,
  predict: `for (;;) { const later = model.predict(x); busy(); await later }`,
  evaluate: `busy(); await model.evaluate(forever)`,
  save: `for (;;) { const later = model.save(file); busy(); await later }`,
  load: `await model.save(file); for (;;) { const later = SequenceModel.load(file, where); busy(); (await later).dispose() }`,
  create: `for (;;) { const later = SequenceModel.create(options); busy(); (await later).dispose() }`,
  push: `const stream = model.stream({ batch: 2 }); for (;;) { const later = stream.pushAsync(x); busy(); await later }`,
  layer: `const layer = new S4Layer({ features: 1, ...where }); for (;;) { const later = layer.forwardAsync(x); busy(); await later }`,
  // Several handles, each with a thread of its own.
  all: `await Promise.all([
      (async () => { for await (const e of model.train(forever, { epochs: 1 })); })(),
      (async () => { const other = await SequenceModel.create(options); for (;;) { busy(); await other.predict(x); await other.save(file) } })(),
      (async () => { const other = await SequenceModel.create(options); const s = other.stream({ batch: 2 }); for (;;) await s.pushAsync(x) })(),
    ])`,
}

/** How the process ends, a random moment after the work has begun: what is run then, and the exit code or signal. */
const ends = {
  'process.exit': ['process.exit(7)', 7],
  'an uncaught exception': ['throw new Error("thrown on purpose")', 1],
  'an unhandled rejection': ['Promise.reject(new Error("rejected on purpose"))', 1],
  SIGTERM: ['process.kill(process.pid, "SIGTERM")', 'SIGTERM'],
  SIGINT: ['process.kill(process.pid, "SIGINT")', 'SIGINT'],
  'SIGTERM with a handler': [
    'process.once("SIGTERM", () => process.exit(3)); process.kill(process.pid, "SIGTERM")',
    3,
  ],
  'the handle disposed, then process.exit': ['model.dispose(); process.exit(4)', 4],
}

const program = (work, end, delay) => `
  import { S4Layer, SequenceModel } from 's4-node'
  const where = { device: 'cpu', threads: 2 }
  const options = { input: 1, output: 1, features: 16, layers: 2, state: 16, loss: 'mse', ...where }
  const file = ${JSON.stringify(join(folder, 'm.safetensors'))}
  const model = await SequenceModel.create(options)
  const x = { data: Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i)), shape: [2, 2000, 1] }
  const forever = { *[Symbol.iterator]() { for (;;) yield { input: x, target: x } } }
  let ending
  const busy = () => { ending ??= setTimeout(() => { ${end} }, ${delay}) }
  ${work}`

let runs = 0
let slowest = 0
for (let i = 0; i < repeats; i++)
  for (const [work, text] of Object.entries(works)) {
    // With few repeats each way of ending is tried with some of the work, and with all work at once.
    const ways = Object.entries(ends).filter((_, k) => repeats > 1 || work === 'all' || k === runs % 7)
    for (const [way, [end, want]] of ways) {
      const start = performance.now()
      const { code, signal, err } = await runText(program(text, end, random() * 30), { seconds: limit })
      slowest = Math.max(slowest, performance.now() - start)
      assert.equal(signal ?? code, want, `${work}, ${way}: ${signal ?? code}\n${err}`)
      // Node prints the exception; nothing of ours says anything.
      assert.ok(!/panicked|fatal error|FATAL/i.test(err), `${work}, ${way}: ${err}`)
      runs++
    }
  }
rmSync(folder, { recursive: true })
console.log(
  `${runs} processes ended in the middle of work (${Object.keys(works).length} kinds, ${Object.keys(ends).length} ways), seed ${seed}: ` +
    `each with its own code or signal, the slowest after ${(slowest / 1000).toFixed(1)} s; ${since(began)}`,
)
