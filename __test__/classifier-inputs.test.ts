/** `Classifier` on texts and pictures: from made data to figures, files, streams, and what it refuses. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { textFolder } from 's4-node/data'
import { Classifier, Generator, type TaskEvent } from 's4-node/tasks'
import { SequenceModel, type S4ErrorCode } from '../index.js'
import { refuses, rejects } from './helpers.js'

const where = { device: 'cpu', threads: 2 } as const
const small = { ...where, features: 16, layers: 2, state: 8, epochs: 25, batchSize: 8 } as const
const folder = mkdtempSync(join(tmpdir(), 's4-class-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** The call must fail with this code and these words. */
async function says(
  t: ExecutionContext,
  code: S4ErrorCode,
  call: Promise<unknown>,
  words: RegExp,
): Promise<void> {
  t.regex((await rejects(t, code, call)).message, words)
}

/** Numbers in [0, 1), the same for the same seed. */
function uniform(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

const ORDERS = { forth: 'aéb', back: 'béa' } as const
type Order = keyof typeof ORDERS

/** Texts of the same letters, as often, in two orders: only a model that sees what follows on what tells them apart. */
function texts(count: number, seed: number): { input: string; label: Order }[] {
  const random = uniform(seed)
  return Array.from({ length: count }, (_, i) => {
    const label: Order = i % 2 === 0 ? 'forth' : 'back'
    const words = Array.from({ length: 4 + Math.floor(8 * random()) }, () => {
      const turn = Math.floor(3 * random())
      const letters = Array.from(ORDERS[label].repeat(3))
      return letters.slice(turn, turn + 3).join('')
    })
    return { input: words.join('.'), label }
  })
}

test('texts by bytes: learned, kept in a file, read from files, streamed', async (t) => {
  const c = await Classifier.fit(texts(80, 1), small)
  t.is(c.kind, 'text')
  t.deepEqual(c.classes, ['back', 'forth'])
  const held = texts(40, 2)
  const { accuracy } = await c.evaluate(held)
  t.true(accuracy >= 0.85, `${accuracy}`)
  const path = join(folder, 'bytes.safetensors')
  await c.save(path)
  using loaded = await Classifier.load(path, where)
  const inputs = held.map(({ input }) => input)
  const answers = await loaded.predict(inputs)
  t.deepEqual(answers, await c.predict(inputs))
  const file = join(folder, 'one.txt')
  writeFileSync(file, inputs[0] as string)
  const [alone] = await loaded.predict(inputs[0] as string)
  t.deepEqual(await loaded.predict([{ file }]), [alone])
  t.is(alone!.label, answers[0]!.label)
  t.true(Math.abs(alone!.probability - answers[0]!.probability) < 1e-5, 'as among others')
  // What tells the orders apart is anywhere; what is no longer there cannot.
  const { influence, layers } = await loaded.inspect(['aébaébaéb', { file }], { samplingInterval: 0.5 })
  t.deepEqual([influence!.shape[0], layers.length], [2, 2])
  const [first0, rest] = [influence!.data.subarray(0, 12), influence!.data.subarray(12, influence!.shape[1])]
  t.true(first0.every((x) => x > 0) && rest.every((x) => x === 0))
  // A window of the stream is the text of the last tokens.
  const said = Array.from('aébaébaébaéb'.repeat(2) + 'béabéabéabéa'.repeat(2))
  using stream = loaded.stream({ window: 16, hop: 4, threshold: 0.6 })
  const windows = said.flatMap((letter) => stream.push(letter))
  t.is(windows.length, 13)
  t.is(stream.position, new TextEncoder().encode(said.join('')).length)
  const [first] = await loaded.predict(['aébaébaébaéb'])
  t.is(windows[0]!.label, first!.label)
  t.true(Math.abs(windows[0]!.probability - first!.probability) < 1e-5)
  t.deepEqual(
    windows.filter(({ report }) => report).map(({ label }) => label),
    ['forth', 'back'],
  )
  c.dispose()
})

test('texts by characters, of folders: one that no text had, and a longer one than maxLength', async (t) => {
  for (const [i, { input, label }] of texts(80, 3).entries()) {
    mkdirSync(join(folder, 'reviews', label), { recursive: true })
    writeFileSync(join(folder, 'reviews', label, `${i}.txt`), i === 7 ? `${input}Ω` : input)
  }
  const options = { ...small, tokens: 'characters', maxLength: 24 } as const
  const c = await Classifier.fit(textFolder(join(folder, 'reviews')), options)
  const path = join(folder, 'characters.safetensors')
  await c.save(path)
  using loaded = await Classifier.load(path, where)
  const { accuracy } = await loaded.evaluate(texts(40, 4))
  t.true(accuracy >= 0.85, `${accuracy}`)
  const long = 'aébaéb.béabéa.aébaébaéb'
  const [whole, seen, other] = await loaded.predict([`${long}aébéa`, `${long}a`, `${long}béabéa`])
  t.deepEqual(whole, seen, 'what is beyond 24 characters is left out')
  t.notDeepEqual(whole, other)
  const [greek, chinese] = await loaded.predict(['aébΩaéb', 'aéb語aéb'])
  t.deepEqual(greek, chinese, 'a character of one text alone is as one that no text had')
  c.dispose()
})

test('texts by a tokeniser, which the file is to be given again', async (t) => {
  const words = ['a', 'é', 'b', '.']
  const tokens = {
    encode: (text: string) => Array.from(text, (letter) => words.indexOf(letter)),
    decode: (ids: number[]) => ids.map((id) => words[id]).join(''),
  }
  const c = await Classifier.fit(texts(60, 5), { ...small, tokens })
  const { accuracy } = await c.evaluate(texts(40, 6))
  t.true(accuracy >= 0.85, `${accuracy}`)
  const path = join(folder, 'own.safetensors')
  await c.save(path)
  using loaded = await Classifier.load(path, { ...where, tokens })
  t.deepEqual(await loaded.predict(['aébaéb']), await c.predict(['aébaéb']))
  await says(t, 'ERR_S4_VALUE', Classifier.load(path, where), /tokeniser that the classifier was made with/)
  await says(t, 'ERR_S4_VALUE', c.predict(['x']), /tokens/)
  c.dispose()
})

/** Pictures of 6 × 5 pixels: a bright diagonal that falls or rises, anywhere. */
const pictures = (count: number, seed: number, colours: number) => {
  const random = uniform(seed)
  return Array.from({ length: count }, (_, i) => {
    const [shift, rises] = [Math.floor(5 * random()), i % 2 === 1]
    const data = Float32Array.from({ length: 30 * colours }, (__, k) => {
      const [row, column] = [Math.floor(k / colours / 5), Math.floor(k / colours) % 5]
      const at = rises ? 25 + shift - row : shift + row
      return (at % 5 === column ? 0.7 : 0) + 0.3 * random()
    })
    return {
      input: { data, shape: [6, 5, ...(colours === 1 ? [] : [colours])] },
      label: rises ? 'up' : 'down',
    }
  })
}

test('pictures by rows and by pixels, with and without a size of colours', async (t) => {
  for (const [colours, scan] of [
    [1, 'rows'],
    [3, 'pixels'],
  ] as const) {
    const options = { ...small, kind: 'image', scan, epochs: scan === 'rows' ? 15 : 30 } as const
    const c = await Classifier.fit(pictures(100, 1, colours), options)
    const held = pictures(40, 2, colours)
    const { accuracy } = await c.evaluate(held)
    t.true(accuracy >= 0.85, `${scan} ${accuracy}`)
    t.deepEqual(c.pictureSizes, colours === 1 ? [6, 5] : [6, 5, 3])
    const path = join(folder, `${scan}.safetensors`)
    await c.save(path)
    using loaded = await Classifier.load(path, where)
    t.deepEqual(await loaded.predict([held[0]!.input]), await c.predict([held[0]!.input]))
    c.dispose()
  }
})

test('what is no input of its kind, and options of other kinds, are refused by name', async (t) => {
  const some = texts(8, 7)
  const numbers = [1, 2, 3, 4].map((x) => ({ input: [x, x], label: x % 2 }))
  const fit = (examples: object[], options: object, code: S4ErrorCode, words: RegExp) =>
    says(t, code, Classifier.fit(examples as never, { ...small, ...options } as never), words)
  await fit([...some, ...numbers], {}, 'ERR_S4_DATA', /as a text/)
  await fit([...numbers, ...some], {}, 'ERR_S4_DATA', /as numbers.*a text/)
  await fit(numbers, { kind: 'text' }, 'ERR_S4_DATA', /as a text/)
  await fit(some, { kind: 'series' }, 'ERR_S4_DATA', /as numbers/)
  await fit([...some, { input: '', label: 'back' }], {}, 'ERR_S4_DATA', /text with tokens.*empty/)
  await fit(some, { rates: [1, 2] }, 'ERR_S4_VALUE', /no 'rates' for inputs of the kind 'text'/)
  await fit(some, { vary: true }, 'ERR_S4_VALUE', /'vary'/)
  await fit(some, { scan: 'rows' }, 'ERR_S4_VALUE', /'scan'/)
  await fit(numbers, { maxLength: 4 }, 'ERR_S4_VALUE', /'maxLength'/)
  await fit(numbers, { tokens: 'bytes' }, 'ERR_S4_VALUE', /'tokens'/)
  await fit(some, { tokens: 'words' }, 'ERR_S4_VALUE', /tokens/)
  await fit(some, { maxLength: 0 }, 'ERR_S4_VALUE', /maxLength/)
  const c = await Classifier.fit(some, { ...small, epochs: 1 })
  await says(t, 'ERR_S4_DATA', c.predict([[1, 2]]), /as a text/)
  await says(t, 'ERR_S4_UNSUPPORTED', c.predict(['ab'], { rate: 2 }), /no rate for texts/)
  await says(t, 'ERR_S4_DATA', c.predict([{ file: join(folder, 'none.txt') }]), /none\.txt/)
  const latin = join(folder, 'latin.txt')
  writeFileSync(latin, Uint8Array.of(97, 233, 98))
  await says(t, 'ERR_S4_DATA', c.predict([{ file: latin }]), /latin\.txt.*UTF-8/)
  using stream = c.stream({ window: 4 })
  t.regex(refuses(t, 'ERR_S4_DATA', () => stream.push([1, 2])).message, /as a text/)
  t.is(stream.position, 0)
  const path = join(folder, 'refused.safetensors')
  await c.save(path)
  const tokens = { encode: () => [0], decode: () => '' }
  await says(t, 'ERR_S4_VALUE', Classifier.load(path, { ...where, tokens }), /no 'tokens'/)
  await says(t, 'ERR_S4_CHECKPOINT', Generator.load(path, where), /task 'classify'/)
  c.dispose()
})

test('series are inspected at the rate that is said; each epoch tells the confusions of its validation', async (t) => {
  const made = Array.from({ length: 24 }, (_, i) => ({
    input: Float32Array.from({ length: 48 }, (__, s) => Math.sin((s * (1 + (i % 2))) / 3 + i)),
    label: i % 2,
  }))
  const told: TaskEvent[] = []
  const small8 = { epochs: 1, features: 8, layers: 1, state: 8, onEvent: (e: TaskEvent) => told.push(e) }
  using c = await Classifier.fit(made, { ...where, kind: 'series', ...small8 })
  const { confusion, accuracy } = told.find((e) => e.type === 'epoch')!
  t.deepEqual(confusion!.classes, [0, 1])
  const sums = confusion!.counts.map((row) => row.reduce((a, b) => a + b, 0))
  // 15 % of each class of 12.
  t.deepEqual(sums, [2, 2])
  t.is(accuracy, (confusion!.counts[0]![0]! + confusion!.counts[1]![1]!) / 4)
  const path = join(folder, 'series.safetensors')
  await c.save(path)
  using network = await SequenceModel.load(path, { device: 'cpu', threads: 1 })
  // What the network sees: values in deviations of the training.
  const { input } = JSON.parse(network.extra!) as { input: { means: number[]; deviations: number[] } }
  const half = made[3]!.input.filter((_, s) => s % 2 === 0)
  const scaled = half.map((x) => (x - input.means[0]!) / input.deviations[0]!)
  const data = { data: scaled, shape: [1, 24, 1] }
  const found = await c.inspect([half], { rate: 2, samplingInterval: 0.02 })
  const [right, wrong] = [await network.inspect({ data, rate: 2 }), await network.inspect({ data })]
  const differs = (a: Float64Array, b: Float64Array) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)))
  const size = Math.max(...right.influence!.data)
  t.true(differs(found.influence!.data, right.influence!.data) < 1e-5 * size)
  t.true(differs(found.influence!.data, wrong.influence!.data) > 1e-2 * size, 'a rate changes what is seen')
  t.deepEqual([found.rate, found.length, found.samplingInterval], [2, 24, 0.02])
})
