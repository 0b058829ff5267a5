// Tokens a second after a context, of S4 by `model.generate` and of a Transformer of as many parameters (benches/peers/generation.py):
//   node benches/generation.mjs [--peer python3] [--contexts 1024,4096,16384] [--batches 1,64] [--feed-forward 4] [--out FILE.json] [--smoke]
// 8 × 512, state 64, feed-forward layers (0: none), vocabulary 256, drawn from the softmax. A token of ours is timed from the host to the host, its draw
// included; the prompt is taken before, and its time is told apart.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { fileURLToPath } from 'node:url'
import { SequenceModel } from 's4-node'

const { values } = parseArgs({
  options: {
    peer: { type: 'string' },
    contexts: { type: 'string', default: '1024,4096,16384' },
    batches: { type: 'string', default: '1,64' },
    'feed-forward': { type: 'string', default: '4' },
    precision: { type: 'string', default: 'high' },
    device: { type: 'string' },
    seconds: { type: 'string', default: '1' },
    out: { type: 'string' },
    smoke: { type: 'boolean', default: false },
  },
})
if (values.smoke) Object.assign(values, { contexts: '16,40', batches: '1,3', seconds: '0.05', device: 'cpu' })
const lists = { contexts: values.contexts.split(',').map(Number), batches: values.batches.split(',').map(Number) }
const sizes = values.smoke ? { features: 32, layers: 2, state: 8 } : { features: 512, layers: 8, state: 64 }

/** The rate of a generation after prompts of `context` tokens: its first steps are left out, then it runs for so many seconds. */
async function rate(model, batch, context) {
  const vocabulary = model.config.output
  const prompts = Array.from({ length: batch }, (_, row) =>
    Int32Array.from({ length: context }, (_, i) => (i * 31 + row * 7) % vocabulary),
  )
  const warm = values.smoke ? 2 : 32
  const began = performance.now()
  let [steps, start, first] = [0, 0, 0]
  for await (const { tokens } of model.generate(prompts, { maxTokens: 1 << 20, seed: 1 })) {
    if (tokens.length !== batch) throw new Error(`${tokens.length} tokens of ${batch}`)
    steps++
    if (steps === 1) first = performance.now() - began
    if (steps === warm) start = performance.now()
    // Steps come in calls of 8 ms, and the clock stands between two of them.
    if (steps > warm && performance.now() - start > 1000 * Number(values.seconds)) break
  }
  const secondsPerStep = (performance.now() - start) / 1000 / (steps - warm)
  return { secondsPerStep, tokensPerSecond: batch / secondsPerStep, promptSeconds: first / 1000 }
}

const model = await SequenceModel.create({
  ...sizes,
  ...(Number(values['feed-forward']) > 0 ? { feedForward: Number(values['feed-forward']) } : {}),
  encoder: 'embedding',
  vocabulary: 256,
  output: 256,
  precision: values.precision,
  device: values.device,
})
const parameters = model.parameters().reduce((sum, { value }) => sum + value.data.length, 0)
const rows = []
for (const batch of lists.batches)
  for (const context of lists.contexts)
    rows.push({
      how: 's4',
      device: model.device,
      precision: values.precision,
      parameters,
      batch,
      context,
      ...(await rate(model, batch, context)),
    })
model.dispose()
if (values.peer !== undefined) {
  const script = fileURLToPath(new URL('peers/generation.py', import.meta.url))
  const args = [script, '--contexts', values.contexts, '--batches', values.batches, ...(values.smoke ? ['--smoke'] : [])]
  const { status, stdout, error } = spawnSync(values.peer, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  if (error) throw error
  rows.push(...stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line)))
  if (status !== 0) console.error(`${values.peer} ended with ${status}`)
}
if (values.out !== undefined) writeFileSync(values.out, JSON.stringify(rows, undefined, 1))

const of = (how, batch, context) => rows.find((row) => row.how === how && row.batch === batch && row.context === context)
const figure = (row) => (row === undefined ? '–' : Number(row.tokensPerSecond.toPrecision(4)).toLocaleString('en'))
const times = (ours, other) => (other === undefined ? '–' : `${Number((ours.tokensPerSecond / other.tokensPerSecond).toPrecision(3)).toLocaleString('en')} ×`)
const count = (how) => rows.find((row) => row.how === how)?.parameters?.toLocaleString('en') ?? 'none'
console.log(`tokens/s on ${rows[0].device}; S4 ${sizes.layers} × ${sizes.features}, ${count('s4')} parameters, ${values.precision}; Transformer ${count('cache')} parameters, bf16`)
console.log('| batch | context | S4 | prompt, ms | Transformer, cache | S4 over it | Transformer, recomputed | S4 over it |')
console.log('|---:|---:|---:|---:|---:|---:|---:|---:|')
for (const batch of lists.batches)
  for (const context of lists.contexts) {
    const [ours, cache, recompute] = ['s4', 'cache', 'recompute'].map((how) => of(how, batch, context))
    const cells = [batch, context, figure(ours), (1000 * ours.promptSeconds).toFixed(1), figure(cache), times(ours, cache), figure(recompute), times(ours, recompute)]
    console.log(`| ${cells.join(' | ')} |`)
  }
