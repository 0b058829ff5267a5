/** `Generator` of `s4-node/tasks`: what it learns, what it gives, what its file holds. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { SequenceModel } from '../index.js'
import { Generator, type TaskEvent, type TextOptions, type Tokenizer } from 's4-node/tasks'
import { refuses, rejects } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-generator-'))
test.after.always(() => rmSync(folder, { recursive: true }))

const tiny = {
  device: 'cpu',
  threads: 2,
  features: 16,
  layers: 1,
  state: 16,
  window: 64,
  lr: 0.01,
  seed: 1,
} as const
const written = async (generator: Generator, prompt: string, options: TextOptions = {}) => {
  const pieces: string[] = []
  for await (const piece of generator.generate(prompt, { seed: 1, ...options })) pieces.push(piece)
  return pieces
}
/** Days in order, which a text says again and again; with characters of one to four bytes. */
const WEEK = 'Montag, Dienstag, Mittwoch, Donnerstag, Freitag, Samstag, Sonntag – schön! 🌱 '
const text = WEEK.repeat(60)

test('a text that says the same again and again is learned, and said', async (t) => {
  const events: TaskEvent[] = []
  for (const tokens of ['bytes', 'characters'] as const) {
    using generator = await Generator.fit(text, {
      ...tiny,
      tokens,
      epochs: 60,
      onEvent: (event) => events.push(event),
    })
    t.true(generator.validationLoss! < 0.2, `${generator.validationLoss}`)
    const pieces = await written(generator, 'Montag, Dienstag, ', { temperature: 0, maxTokens: 90 })
    t.true(
      pieces.join('').startsWith('Mittwoch, Donnerstag, Freitag, Samstag, Sonntag – schön! 🌱 Montag'),
      pieces.join(''),
    )
    // No piece has half a character: neither of UTF-8 nor of UTF-16.
    for (const piece of pieces) t.is(Buffer.from(piece).toString(), piece)
    t.false(pieces.join('').includes('\uFFFD'))
    const {
      perplexity,
      bitsPerByte,
      bytes,
      tokens: count,
      logProbability,
      logProbabilities,
    } = await generator.score(WEEK)
    t.is(bytes, Buffer.byteLength(WEEK))
    t.is(count, tokens === 'bytes' ? bytes : [...WEEK].length)
    t.true(Math.abs(logProbabilities.reduce((a, b) => a + b, 0) - logProbability) < 1e-9)
    t.true(Math.abs(perplexity - Math.exp(-logProbability / count)) < 1e-9)
    t.true(Math.abs(bitsPerByte + logProbability / Math.LN2 / bytes) < 1e-9)
    t.true((await generator.score(WEEK.toUpperCase().replace(/[^MD, ]/g, 'M'))).perplexity > 3 * perplexity)
  }
  t.is(events[0]!.type, 'plan')
  t.is(events.at(-1)!.type, 'end')
})

test('stop texts go over the borders of tokens, and are not given', async (t) => {
  using generator = await Generator.fit(text, { ...tiny, tokens: 'bytes', epochs: 12 })
  const free = (await written(generator, 'Montag, ', { temperature: 0, maxTokens: 120 })).join('')
  for (const stop of [
    ['Freitag'],
    ['🌱'],
    ['schö', 'Samstag, S'],
    ['nirgends'],
    ['Freitag, Sonntag', 'n! 🌱 M'],
  ]) {
    const found = (await written(generator, 'Montag, ', { temperature: 0, maxTokens: 120, stop })).join('')
    const places = stop.map((each) => free.indexOf(each)).filter((at) => at >= 0)
    t.is(found, places.length === 0 ? free : free.slice(0, Math.min(...places)), stop.join())
  }
  const cut = (await written(generator, 'Sonntag – sch', { temperature: 0, maxTokens: 1 })).join('')
  t.is(cut, '', 'the first byte of ö alone is none')
})

test('several texts have beginnings and ends of their own', async (t) => {
  const poems = Array.from({ length: 150 }, (_, i) => `${'abc'[i % 3]}${'xyz'[i % 3]}${i % 3}`)
  using generator = await Generator.fit(poems, { ...tiny, tokens: 'characters', window: 20, epochs: 30 })
  const found = new Set<string>()
  for (let seed = 0; seed < 12; seed++) {
    const poem = (await written(generator, '', { seed, temperature: 0.5, maxTokens: 50 })).join('')
    found.add(poem)
    t.true(['ax0', 'by1', 'cz2'].includes(poem), poem)
  }
  t.is((await written(generator, 'b', { temperature: 0 })).join(''), 'y1')
  t.true(found.size > 1)
})

test('a file holds all of it; a tokeniser of the caller is given again', async (t) => {
  const words: Tokenizer = {
    size: 8,
    encode: (given) =>
      given
        .split(' ')
        .filter(Boolean)
        .map((word) => Number(word.slice(1))),
    // Strips the space at the beginning, as tokenisers of pieces of words do.
    decode: (given) =>
      given
        .map((token) => ` w${token}`)
        .join('')
        .trimStart(),
  }
  const song = 'w1 w2 w3 w4 w5 w6 w7 '.repeat(80)
  const file = join(folder, 'song.txt')
  writeFileSync(file, song)
  for (const [name, tokens] of [
    ['bytes', 'bytes'],
    ['characters', 'characters'],
    ['words', words],
  ] as const) {
    using generator = await Generator.fit({ file }, { ...tiny, tokens, epochs: 60, patience: 60 })
    const path = join(folder, name)
    await generator.save(path)
    using same = await Generator.load(path, { device: 'cpu', ...(tokens === words && { tokens }) })
    const options = { temperature: 0, maxTokens: 12 }
    const first = await written(generator, 'w1 w2', options)
    t.deepEqual(await written(same, 'w1 w2', options), first)
    if (tokens === words)
      t.is(first.join(''), ' w3 w4 w5 w6 w7 w1 w2 w3 w4 w5 w6 w7', 'the space after the prompt too')
    t.is((await same.score('w1 w2 w3')).logProbability, (await generator.score('w1 w2 w3')).logProbability)
    t.is(same.validationLoss, undefined)
  }
  await rejects(t, 'ERR_S4_VALUE', () => Generator.load(join(folder, 'words')))
  await rejects(t, 'ERR_S4_VALUE', () => Generator.load(join(folder, 'bytes'), { tokens: words }))
  using other = await SequenceModel.create({ input: 1, output: 1, features: 2, layers: 1, device: 'cpu' })
  await other.save(join(folder, 'other'))
  await rejects(t, 'ERR_S4_CHECKPOINT', () => Generator.load(join(folder, 'other')))
})

test('a tokeniser whose tokens end within characters gives whole ones', async (t) => {
  const bytes: Tokenizer = {
    encode: (given) => new TextEncoder().encode(given),
    decode: (given) => new TextDecoder().decode(Uint8Array.from(given)),
    size: 256,
  }
  using own = await Generator.fit(text, { ...tiny, tokens: bytes, epochs: 8 })
  using known = await Generator.fit(text, { ...tiny, tokens: 'bytes', epochs: 8 })
  const options = { temperature: 0, maxTokens: 200 }
  const pieces = await written(own, 'Montag', options)
  t.is(pieces.join(''), (await written(known, 'Montag', options)).join(''))
  for (const piece of pieces) t.false(piece.includes('\uFFFD'))
})

test('bytes that are no text, in rows that have an end', async (t) => {
  // Two pictures of 6 × 6, row by row: an edge down, and an edge across.
  const down = Uint8Array.from({ length: 36 }, (_, i) => (i % 6 < 3 ? 0 : 255))
  const across = Uint8Array.from({ length: 36 }, (_, i) => (i < 18 ? 129 : 200))
  const pictures = Array.from({ length: 120 }, (_, i) => (i % 2 === 0 ? down : across))
  using generator = await Generator.fit(pictures, {
    ...tiny,
    tokens: 'bytes',
    window: 37,
    epochs: 40,
    patience: 40,
  })
  const all = async (prompt: Uint8Array) => {
    const out: number[] = []
    for await (const byte of generator.generateBytes(prompt, { temperature: 0 })) out.push(byte)
    return out
  }
  t.deepEqual(await all(down.subarray(0, 5)), [...down.subarray(5)])
  t.deepEqual(await all(across.subarray(0, 1)), [...across.subarray(1)])
  const { bytes, bitsPerByte } = await generator.score(down)
  t.is(bytes, 36)
  const shuffled = Uint8Array.from({ length: 36 }, (_, i) => down[(i * 5) % 36]!)
  t.true((await generator.score(shuffled)).bitsPerByte > 10 * bitsPerByte)
  using characters = await Generator.fit(text, { ...tiny, tokens: 'characters', epochs: 1 })
  refuses(t, 'ERR_S4_UNSUPPORTED', () => characters.generateBytes(down))
  refuses(t, 'ERR_S4_VALUE', () => generator.generateBytes('text' as never))
  await rejects(t, 'ERR_S4_VALUE', () => characters.score(down))
})

test('a run goes on where it stood, and a signal ends it', async (t) => {
  const options = { ...tiny, epochs: 4, patience: 10, folder }
  const control = new AbortController()
  const stopped = Generator.fit(text, {
    ...options,
    signal: control.signal,
    onEvent: (event) => event.type === 'epoch' && event.epoch === 2 && control.abort(),
  })
  await rejects(t, 'ERR_S4_ABORTED', stopped)
  using resumed = await Generator.fit(text, { ...options, resume: true })
  using whole = await Generator.fit(text, { ...tiny, epochs: 4, patience: 10 })
  t.is(resumed.validationLoss, whole.validationLoss)
  // As many characters, but others.
  const other = text.replaceAll('M', 'Q')
  const wrong = await rejects(t, 'ERR_S4_CHECKPOINT', () =>
    Generator.fit(other, { ...options, resume: true }),
  )
  t.regex(wrong.message, /same data/)
})

test('wrong texts are refused by name', async (t) => {
  const says = async (code: Parameters<typeof rejects>[1], call: () => Promise<unknown>, words: RegExp) =>
    t.regex((await rejects(t, code, call)).message, words)
  await says('ERR_S4_DATA', () => Generator.fit(''), /text/)
  await says('ERR_S4_DATA', () => Generator.fit('short'), /at least 16 tokens/)
  await says('ERR_S4_DATA', () => Generator.fit({ file: join(folder, 'nowhere') }), /nowhere/)
  await says(
    'ERR_S4_DATA',
    () => Generator.fit(Uint8Array.of(255, 254, 255), { tokens: 'characters' }),
    /UTF-8/,
  )
  await says('ERR_S4_VALUE', () => Generator.fit(5 as never), /each text/)
  using generator = await Generator.fit(text, { ...tiny, tokens: 'characters', epochs: 1 })
  await says('ERR_S4_DATA', () => generator.score('Ж'), /"Ж"/)
  await says('ERR_S4_DATA', () => generator.score(''), /at least one token/)
  t.regex(refuses(t, 'ERR_S4_DATA', () => generator.generate('Ж')).message, /learned/)
  refuses(t, 'ERR_S4_VALUE', () => generator.generate('M', { stop: [''] }))
  refuses(t, 'ERR_S4_VALUE', () => generator.generate('M', { maxTokens: 0 }))
  generator.dispose()
  refuses(t, 'ERR_S4_DISPOSED', () => generator.generate('M'))
})
