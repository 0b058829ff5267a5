// node --test scripts/recipes.test.mjs: every recipe runs from its data to its figures, and what was interrupted goes on bit for bit.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { readSafetensors, SequenceModel } from 's4-node'
import { TRAIN } from './recipe.mjs'
import { pixelBatch } from './recipe-density.mjs'
import { plannedEpochs } from './recipe-plan.mjs'
import { cifar10 } from './recipe-cifar.mjs'
import { packPictures, unpackPictures } from './learn-pictures.mjs'
import { pngOf, readGreyPng } from './recipe-png.mjs'
import { generator } from './recipe-random.mjs'
import { testWindows, words } from './recipe-words.mjs'

const script = fileURLToPath(new URL('recipe.mjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 's4-recipes-'))
after(() => rmSync(folder, { recursive: true }))
const recipes = readdirSync(fileURLToPath(new URL('../recipes', import.meta.url)))
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -5))
// S4_DEVICE: where to run, else where a smoke run does, on the CPU.
const place = process.env.S4_DEVICE === undefined ? [] : ['--device', process.env.S4_DEVICE]
const run = (...args) => spawnSync(process.execPath, [script, ...args, ...place], { encoding: 'utf8' })
const command = fileURLToPath(new URL('../cli/bin/s4.mjs', import.meta.url))
const trainByName = (...args) =>
  spawnSync(process.execPath, [command, 'train', '--recipe', ...args, ...place], { encoding: 'utf8' })
// A line may be half written.
const history = (out) =>
  readFileSync(join(out, 'history.jsonl'), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))

for (const name of recipes)
  test(`s4 train --recipe ${name} --smoke`, () => {
    const out = join(folder, name)
    const began = performance.now()
    const { status, stderr } = trainByName(name, '--smoke', '--out', out)
    assert.equal(status, 0, stderr)
    const seconds = (performance.now() - began) / 1000
    assert.ok(seconds < 20, `${seconds} s`)
    const events = history(out)
    const epochs = events.filter(({ event }) => event === 'epoch')
    assert.deepEqual([events[0].event, events.at(-1).event, epochs.length], ['start', 'end', 2])
    assert.ok(epochs.every(({ loss }) => Number.isFinite(loss)))
    const result = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'))
    assert.equal(result.recipe, name)
    assert.ok(existsSync(join(out, result.checkpoint.file)))
    const report = readFileSync(join(out, 'report.html'), 'utf8')
    assert.ok(/<circle/.test(report) && report.includes(result.checkpoint.sha256) && !report.includes('NaN'))
    if (result.samples !== undefined) {
      const { width, height } = readGreyPng(readFileSync(join(out, result.samples.file)))
      assert.deepEqual([result.samples.count, width, height], [4, 56, 56])
    }
    const figures = Object.values(result.tests)
    assert.ok(figures.length > 0)
    for (const { accuracy, correct, of, confusion, mse, loss, bitsPerDimension, perplexity } of figures)
      if (perplexity !== undefined) {
        // Sums in float32, of the loss and of −log p apart.
        assert.ok(Math.abs(Math.log(perplexity) / loss - 1) < 1e-5)
        assert.ok(Math.abs(loss / Math.LN2 / bitsPerDimension - 1) < 1e-5)
      } else if (mse === undefined) {
        assert.equal(correct / of, accuracy)
        const all = confusion.flat().reduce((a, b) => a + b, 0)
        const right = confusion.reduce((sum, row, i) => sum + row[i], 0)
        assert.deepEqual([all, right], [of, correct])
      } else assert.ok(mse > 0 && Number.isFinite(mse))
  })

test('every recipe says what is known', () => {
  for (const name of recipes) {
    const { train } = JSON.parse(
      readFileSync(join(fileURLToPath(new URL('../recipes', import.meta.url)), `${name}.json`), 'utf8'),
    )
    for (const key of Object.keys(train)) assert.ok(TRAIN.has(key), `${name}: ${key}`)
  }
})

test('a recipe by its name is paused and gone on with, and mistakes in its call are told before any work', () => {
  const out = join(folder, 'by-name')
  const lines = (ran) => ran.stdout.trim().split('\n')
  const paused = trainByName('smnist', '--smoke', '--pause-after', '1', '--out', out)
  assert.equal(paused.status, 0, paused.stderr)
  assert.match(
    paused.stderr,
    /^epoch 1 of 2: accuracy .* %, loss .*; test: accuracy .* s\npaused after epoch 1; .*--resume/m,
  )
  assert.ok(!existsSync(join(out, 'report.html')))
  const rest = trainByName('smnist', '--smoke', '--resume', out, '--json')
  assert.equal(rest.status, 0, rest.stderr)
  const events = lines(rest).map((line) => JSON.parse(line))
  assert.deepEqual(
    events.map(({ event, epoch }) => [event, epoch]),
    [
      ['start', undefined],
      ['epoch', 2],
      ['end', undefined],
    ],
  )
  // Two points of training and two of the test in each of two curves, the figure of the end, and the confusion matrix.
  const report = readFileSync(join(out, 'report.html'), 'utf8')
  assert.equal(report.match(/<circle/g).length, 8)
  assert.ok(report.includes(`<b>${(100 * events.at(-1).accuracy).toFixed(2)} %</b>`))
  assert.ok(report.includes('<th>said 9</th>') && report.includes('A miniature'))
  for (const [args, message] of [
    [['lra-text'], /needs --data FOLDER, or --smoke/],
    [['lra-text', '--smoke', '--what', '3'], /'--what'/],
    [['lra-text', '--smoke', '--live'], /--live/],
    [['lra-text', '--smoke', 'more'], /more: what is that/],
    [['lra-text', '--smoke', '--set', 'train.epochs'], /--set takes/],
    [['lra-text', '--smoke', '--set', 'train.epoch=1'], /no such place/],
    [['lra-text', '--smoke', '--set', 'seed=1'], /no such place/],
    [['lra-text', '--smoke', '--set', 'model.feature=1'], /'feature'/],
    [['lra-text', '--smoke', '--minutes', 'abc'], /--minutes takes a number/],
    [['smnist', '--smoke', '--out', out], /holds a run: --resume/],
    [['pmnist', '--smoke', '--resume', out], /a run of smnist, not of pmnist/],
    [['smnist', '--smoke', '--resume', out, '--set', 'train.epochs=3'], /begun with no --set/],
    [['smnist', '--smoke', '--resume', join(folder, 'nothing')], /no run that could be gone on with/],
    [['lra-text', '--smoke', '--out', out, '--resume', out], /leave out --out/],
    [['lra-texts', '--data', folder], /lra-text-short/],
  ]) {
    const { status, stderr, stdout } = trainByName(...args)
    const isUsage = !args.includes('model.feature=1') && args[0] !== 'lra-texts'
    assert.equal(status, isUsage ? 2 : 1)
    assert.ok(stdout === '' && message.test(stderr), `${args.join(' ')}: ${stderr}`)
  }
})

test('a run that ended before it was first saved is begun anew', () => {
  const out = join(folder, 'never-saved')
  mkdirSync(out)
  writeFileSync(join(out, 'history.jsonl'), '{"event":"start","recipe":"smnist"}\n{"event":"ep')
  const { status, stderr } = trainByName('smnist', '--smoke', '--out', out)
  assert.equal(status, 0, stderr)
  assert.deepEqual(
    history(out).map(({ event }) => event),
    ['start', 'epoch', 'epoch', 'end'],
  )
})

/** Parameters of two checkpoints, bit for bit. */
function sameParameters(a, b) {
  const [x, y] = [a, b].map((path) => readSafetensors(path).tensors)
  assert.deepEqual(Object.keys(x).toSorted(), Object.keys(y).toSorted())
  for (const [name, { data }] of Object.entries(x))
    assert.deepEqual(Buffer.from(data.buffer), Buffer.from(y[name].data.buffer), name)
}

/** A recipe with dropout and augmentation, long enough to be interrupted; a checkpoint after every update. */
const long = (out, ...more) =>
  'digits --smoke --set train.epochs=12 --checkpoint-every 0'.split(' ').concat('--out', out, more)

test('a run that is killed or told to end goes on to the same bits', async () => {
  const whole = join(folder, 'whole')
  assert.equal(run(...long(whole)).status, 0)
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT']) {
    const out = join(folder, signal)
    const child = spawn(process.execPath, [script, ...long(out), ...place], { stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', (code, by) => resolve(by ?? code)))
    while (!existsSync(join(out, 'history.jsonl')) || history(out).length < 3) await wait(5)
    child.kill(signal)
    // A run that is told to end does so by itself, and says by what.
    assert.equal(await ended, { SIGKILL: 'SIGKILL', SIGTERM: 143, SIGINT: 130 }[signal])
    assert.ok(!existsSync(join(out, 'result.json')), 'interrupted before its end')
    const resumed = run(...long(out, '--resume'))
    assert.equal(resumed.status, 0, resumed.stderr)
    sameParameters(join(whole, 'final.safetensors'), join(out, 'final.safetensors'))
  }
})

test('a curve over two calls: the first leaves the run unjudged, the second ends it', () => {
  const out = join(folder, 'two')
  const args = ['lra-text', '--smoke', '--out', out, '--set', 'train.epochs=100000']
  assert.equal(run(...args, '--minutes', '0.03', '--ahead', '0.03').status, 0)
  assert.ok(!existsSync(join(out, 'result.json')))
  const first = history(out)
  assert.equal(first.at(-1).event, 'paused')
  assert.equal(run(...args, '--minutes', '0.05', '--resume').status, 0)
  const second = history(out).slice(first.length)
  assert.equal(second[0].resumedAt.epoch, first.at(-1).epoch)
  // An epoch that was begun keeps the curve that it was begun with.
  if (first.at(-1).batch > 0) assert.equal(second[1].of, first.at(-2).of)
  assert.equal(second.at(-1).event, 'end')
  assert.ok(existsSync(join(out, 'result.json')))
})

test('two ranks learn what one learns, in one call or two, and rank 0 alone writes', async () => {
  const smoke = (out, ...more) => ['lra-image', '--smoke', '--set', 'model.dropout=0', '--out', out, ...more]
  const alone = join(folder, 'one-rank')
  assert.equal(run(...smoke(alone)).status, 0)
  // On a CPU ranks are threads of one process.
  const ranks = async (...args) => {
    const server = createServer().listen(0)
    await once(server, 'listening')
    const group = { WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(server.address().port) }
    server.close()
    await once(server, 'close')
    const ended = [0, 1].map(async (rank) => {
      const env = { ...process.env, ...group, RANK: String(rank), LOCAL_RANK: String(rank) }
      const worker = new Worker(script, { argv: args, env, stdout: true })
      let text = ''
      worker.stdout.on('data', (piece) => (text += piece))
      const [code] = await once(worker, 'exit')
      assert.equal(code, 0, text)
      return text
    })
    assert.equal((await Promise.all(ended))[1], '', 'a rank other than 0 says nothing')
  }
  const two = join(folder, 'two-ranks')
  await ranks(...smoke(two))
  const parts = join(folder, 'two-ranks-in-parts')
  await ranks(...smoke(parts, '--pause-after', '1'))
  assert.equal(history(parts).at(-1).event, 'paused')
  await ranks(...smoke(parts, '--resume'))
  sameParameters(join(two, 'final.safetensors'), join(parts, 'final.safetensors'))
  const [one, other] = [alone, two].map((out) => readSafetensors(join(out, 'final.safetensors')).tensors)
  for (const [name, { data }] of Object.entries(one)) {
    const apart = data.map((x, i) => Math.abs(x - other[name].data[i]))
    assert.ok(
      Math.max(...apart) < 1e-4 * Math.max(...data.map(Math.abs), 1e-3),
      `${name}: ${Math.max(...apart)}`,
    )
  }
  const epochs = [alone, two].map((out) => history(out).filter(({ event }) => event === 'epoch'))
  for (const [i, { loss, step }] of epochs[0].entries()) {
    assert.equal(epochs[1][i].step, step)
    assert.ok(Math.abs(epochs[1][i].loss / loss - 1) < 1e-5)
  }
  assert.equal(JSON.parse(readFileSync(join(two, 'result.json'), 'utf8')).ranks, 2)
})

test('epochs are planned by the time that is left', () => {
  const base = { done: 4, most: 30, minutes: 10, ahead: 0, elapsed: 300 }
  assert.equal(plannedEpochs(base), 30, 'nothing is known yet')
  // .92 of 600 s are 552 s, of which 300 are over: 252 s are 8 epochs of 30 s.
  assert.equal(plannedEpochs({ ...base, secondsPerEpoch: 30 }), 12)
  assert.equal(plannedEpochs({ ...base, secondsPerEpoch: 1 }), 30, "no more than the recipe's")
  assert.equal(plannedEpochs({ ...base, secondsPerEpoch: 30, elapsed: 590 }), 4, 'no time left')
  // 600 − 300 + .92 · 300 = 576 s.
  assert.equal(plannedEpochs({ ...base, ahead: 5, secondsPerEpoch: 30 }), 23)
  assert.equal(plannedEpochs({ ...base, plan: [9, 9, 9, 9, 7] }), 7)
  assert.equal(plannedEpochs({ ...base, plan: [9] }), 4, 'a plan that ends')
})

test('a PNG of drawn pictures reads back', () => {
  const pixels = Uint8Array.from({ length: 12 * 5 }, (_, i) => (i * 37) % 256)
  assert.deepEqual(readGreyPng(pngOf({ width: 12, height: 5, pixels })), { width: 12, height: 5, pixels })
})

test('a pixel is predicted from those before it', () => {
  const pictures = [0, 1].map((k) => Uint8Array.from({ length: 784 }, (_, i) => (i * 3 + k * 5 + 1) % 256))
  const { input, target } = pixelBatch(pictures)
  assert.deepEqual(
    [input.shape, target.shape],
    [
      [2, 784],
      [2, 784],
    ],
  )
  for (const [row, pixels] of pictures.entries()) {
    const [x, y] = [input, target].map(({ data }) => Array.from(data.subarray(row * 784, (row + 1) * 784)))
    assert.deepEqual(y, Array.from(pixels))
    assert.deepEqual(x, [0, ...pixels.subarray(0, 783)])
  }
})

test('overlapping windows score every word but the first once, with half a window before it', () => {
  for (const count of [2, 9, 16, 17, 18, 24, 25, 100, 101]) {
    const scored = Array(count).fill(0)
    for (const { start, length, from } of testWindows(count, 16, 8)) {
      assert.ok(length <= 16 && start + length < count)
      assert.ok(start === 0 ? from === 0 : from === 8, 'what is scored has the stride before it')
      for (let t = from; t < length; t++) scored[start + t + 1]++
    }
    assert.deepEqual(scored, [0, ...Array(count - 1).fill(1)], `${count} words`)
  }
})

test('words are numbered as PyTorch numbers them, and each is the label of the one before', () => {
  const texts = {
    train: ' the cat \n\n the <unk> sat on the cat\n',
    valid: 'on the mat\n',
    test: 'the cat sat sat sat sat\n',
  }
  for (const [part, text] of Object.entries(texts)) writeFileSync(join(folder, `${part}.txt`), text)
  const data = words(folder, { window: 4, stride: 2 })
  // the 0, cat 1, <eos> 2, <unk> 3, sat 4, on 5, mat 6; an empty line is an <eos> of its own.
  assert.equal(data.model.vocabulary, 7)
  const [train] = data.train
  assert.deepEqual(Array.from(train.text), [0, 1, 2, 2, 0, 3, 4, 5, 0, 1, 2])
  assert.equal(data.train.length, 2)
  const [first, second] = data.tests[0].examples
  const { input, target } = data.batch([first, second])
  assert.deepEqual(Array.from(input.data), [0, 1, 4, 4, 4, 4, 4, 4])
  assert.deepEqual(Array.from(target.data), [1, 4, 4, 4, -1, -1, 4, 2])
  // The last place that a window may begin at leaves a label for each of its words.
  const drawn = data.batch([data.train[1]], () => 0.999)
  assert.deepEqual(
    [drawn.input, drawn.target].map(({ data: x }) => Array.from(x)),
    [
      [4, 5, 0, 1],
      [5, 0, 1, 2],
    ],
  )
})

test('a peer has as many parameters as the recipe, within two in a hundred', async () => {
  const vocabularies = { 'mnist-density': 256, words: 10_000 }
  const withPeer = recipes
    .map((name) => JSON.parse(readFileSync(new URL(`../recipes/${name}.json`, import.meta.url), 'utf8')))
    .filter(({ peer }) => peer !== undefined)
  assert.ok(withPeer.length > 0)
  for (const { title, model, data, peer } of withPeer) {
    const v = title.startsWith('WikiText-2') ? 33_278 : vocabularies[data.reader]
    const ours = await SequenceModel.create({
      ...model,
      encoder: 'embedding',
      vocabulary: v,
      output: v,
      device: 'cpu',
    })
    const count = ours.parameters().reduce((sum, { value }) => sum + value.data.length, 0)
    ours.dispose()
    // A Transformer: embedding and output layer, positions where they are learned; of each block query, key, value, output and the two
    // linears with their biases, two norms; a norm at the end.
    const [d, i] = [model.features, peer.inner]
    const block = 4 * (d * d + d) + 2 * d * i + i + d + 4 * d
    const positions = peer.positions === 'learned' ? 784 * d : 0
    const theirs = 2 * v * d + v + positions + peer.layers * block + 2 * d
    assert.ok(Math.abs(theirs / count - 1) < 0.02, `${title}: ${theirs} of ${count}`)
  }
})

test('pictures that are carried without loss are those of the folders, in colour and in grey', async () => {
  const [from, packed, unpacked] = ['pictures', 'packed', 'unpacked'].map((name) =>
    join(folder, 'carried', name),
  )
  const random = generator(3)
  for (const [part, count] of [
    ['train', 12],
    ['test', 5],
  ])
    for (const name of ['a', 'b']) {
      mkdirSync(join(from, part, name), { recursive: true })
      for (let i = 0; i < count; i++) {
        const pixels = Uint8Array.from({ length: 3 * 1024 }, (_, k) =>
          i % 2 ? 256 * random() : k / 13 + 9 * random(),
        )
        writeFileSync(
          join(from, part, name, `${i}.png`),
          pngOf({ width: 32, height: 32, channels: 3, pixels }),
        )
      }
    }
  for (const grey of [false, true]) {
    rmSync(unpacked, { recursive: true, force: true })
    mkdirSync(packed, { recursive: true })
    await packPictures(from, packed, { asGrey: grey })
    unpackPictures(packed, unpacked)
    rmSync(packed, { recursive: true })
    // All files of the binary version; those after the first are empty here.
    for (let n = 2; n <= 5; n++) writeFileSync(join(unpacked, `data_batch_${n}.bin`), '')
    const [a, b] = [await cifar10(from, { grey }), await cifar10(unpacked, { grey })]
    for (const of of [
      (data) => data.train,
      (data) => data.validation.examples,
      (data) => data.tests[0].examples,
    ])
      assert.deepEqual(...[a, b].map((data) => of(data).map(({ target, pixels }) => [target, ...pixels])))
    assert.equal(a.train.length + a.validation.examples.length, 24)
  }
})
