/** Recordings, arrays, pictures, texts: files of other programs, whose content formulas say; folders with labels. */
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import type { TensorLike } from 's4-node'
import {
  audioChunks,
  audioFolder,
  byteTokens,
  characterTokens,
  cifar10Examples,
  idxExamples,
  imageFolder,
  labelledFolder,
  pcmFrames,
  readAudio,
  readCifar10,
  readIdx,
  readNpy,
  readNpz,
  resample,
  textFolder,
} from 's4-node/data'
import { Classifier } from 's4-node/tasks'
import { device, refuses, rejects, root } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-data-files-'))
const fixture = (name: string) => join(root, 'crates/data/tests/files', name)
const left = (t: number, rate = 8000) => 0.5 * Math.sin((2 * Math.PI * 440 * t) / rate)
const right = (t: number, rate = 8000) => 0.25 * Math.cos((2 * Math.PI * 1000 * t) / rate)
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = []
  for await (const item of items) out.push(item)
  return out
}
const largest = (x: Iterable<number>) => [...x].reduce((a, b) => Math.max(a, Math.abs(b)), 0)

/** A WAV file of 16 bits. */
function wav(samples: ArrayLike<number>, rate: number, channels = 1): Uint8Array {
  const bytes = Buffer.alloc(44 + 2 * samples.length)
  bytes.write('RIFF', 0)
  bytes.writeUInt32LE(36 + 2 * samples.length, 4)
  bytes.write('WAVEfmt ', 8)
  bytes.writeUInt32LE(16, 16)
  bytes.writeUInt16LE(1, 20)
  bytes.writeUInt16LE(channels, 22)
  bytes.writeUInt32LE(rate, 24)
  bytes.writeUInt32LE(2 * rate * channels, 28)
  bytes.writeUInt16LE(2 * channels, 32)
  bytes.writeUInt16LE(16, 34)
  bytes.write('data', 36)
  bytes.writeUInt32LE(2 * samples.length, 40)
  for (let i = 0; i < samples.length; i++) bytes.writeInt16LE(Math.round(32767 * samples[i]!), 44 + 2 * i)
  return bytes
}

test('recordings of every kind hold the tones that they were made of', async (t) => {
  for (const [name, error, frames] of [
    ['u8', 0.008, 200],
    ['i16', 4e-5, 200],
    ['i24', 2e-7, 200],
    ['i32', 1e-7, 200],
    ['f32', 1e-7, 200],
    ['f64', 1e-7, 200],
    ['extensible', 4e-5, 200],
    ['alaw', 0.02, 200],
    ['mulaw', 0.02, 200],
    ['flac', 4e-5, 800],
    ['ogg', 0.05, 1600],
  ] as const) {
    const file = fixture(name === 'flac' || name === 'ogg' ? `tone.${name}` : `${name}.wav`)
    const audio = await readAudio(file)
    t.deepEqual([audio.sampleRate, audio.channels, audio.samples.length], [8000, 2, 2 * frames], name)
    const off = Array.from(audio.samples, (x, i) => x - (i % 2 === 0 ? left(i >> 1) : right(i >> 1)))
    // The edges of a lossy recording are its worst.
    const inner = name === 'ogg' ? off.slice(400, -400) : off
    t.true(largest(inner) <= error, `${name}: ${largest(inner)}`)
    const streamed = await readAudio(createReadStream(file, { highWaterMark: 99 }))
    t.deepEqual(streamed, audio)
  }
  const mp3 = await readAudio(fixture('tone.mp3'))
  // 4,800 frames went in: what the encoder put around them is cut.
  t.deepEqual([mp3.sampleRate, mp3.channels, mp3.samples.length], [16_000, 1, 4800])
  t.true(largest(mp3.samples.map((x, i) => x - left(i, 16_000)).slice(1200, -1200)) < 0.02)
})

test('channels are averaged, and rates changed, whole or in pieces', async (t) => {
  const mono = await readAudio(fixture('f32.wav'), { mono: true })
  t.true(largest(mono.samples.map((x, i) => x - (left(i) + right(i)) / 2)) < 1e-7)
  const long = join(folder, 'long.wav')
  const tone = (n: number, rate: number) => Float32Array.from({ length: n }, (_, i) => left(i, rate))
  writeFileSync(long, wav(tone(32_000, 16_000), 16_000))
  const half = await readAudio(long, { sampleRate: 8000 })
  t.deepEqual([half.sampleRate, half.samples.length], [8000, 16_000])
  const expected = tone(16_000, 8000)
  const inner = (x: Float32Array) => x.map((v, i) => v - expected[i]!).slice(200, -200)
  t.true(largest(inner(half.samples)) < 2e-3, `${largest(inner(half.samples))}`)
  const again = await resample(tone(32_000, 16_000), { from: 16_000, to: 8000 })
  t.true(largest(again.map((x, i) => x - half.samples[i]!)) < 5e-5)
  const pieces = await all(audioChunks(long, { length: 0.25, sampleRate: 8000 }))
  t.deepEqual(Float32Array.from(pieces.flatMap((p) => [...p.samples])), half.samples)
})

test('pieces of a long recording overlap, begin where they say, and cover all of it', async (t) => {
  const count = 100_123
  const ramp = Float32Array.from({ length: count }, (_, i) => ((i * 7) % 2000) / 2000)
  const file = join(folder, 'ramp.wav')
  writeFileSync(file, wav(ramp, 8000))
  const whole = (await readAudio(file)).samples
  const chunks = audioChunks(file, { length: 2, overlap: 0.5 })
  for (let again = 0; again < 2; again++) {
    const pieces = await all(chunks)
    t.is(pieces.length, Math.ceil((count - 4000) / 12_000))
    let end = 0
    for (const [k, { samples, start }] of pieces.entries()) {
      t.is(start, 1.5 * k)
      const from = start * 8000
      t.deepEqual(samples, whole.slice(from, from + 16_000))
      end = from + samples.length
    }
    t.is(end, count)
  }
  const exact = await all(audioChunks(wav(ramp.slice(0, 16_000), 8000), { length: 1 }))
  t.deepEqual(
    exact.map((p) => p.samples.length),
    [8000, 8000],
    'no empty piece, none that is all overlap',
  )
})

test('samples in bytes: every format, cut at any byte', async (t) => {
  const view = new DataView(new ArrayBuffer(8))
  const bytes = (size: number, set: (value: number) => void, values: readonly number[]) =>
    Uint8Array.from(values.flatMap((v) => (set(v), [...new Uint8Array(view.buffer, 0, size)])))
  // A-law and μ-law: values of ITU-T G.711's tables, of 16 bits.
  const given: [Parameters<typeof pcmFrames>[1]['format'], Uint8Array, number[]][] = [
    ['u8', Uint8Array.of(0, 128, 255), [-1, 0, 127 / 128]],
    ['s16le', bytes(2, (v) => view.setInt16(0, v, true), [-32768, 0, 16384]), [-1, 0, 0.5]],
    ['s24le', Uint8Array.of(0, 0, 0x80, 0, 0, 0x40, 0, 0, 0), [-1, 0.5, 0]],
    ['s32le', bytes(4, (v) => view.setInt32(0, v, true), [-(2 ** 31), 2 ** 30]), [-1, 0.5]],
    ['f32le', bytes(4, (v) => view.setFloat32(0, v, true), [0.25, -1]), [0.25, -1]],
    ['f64le', bytes(8, (v) => view.setFloat64(0, v, true), [0.25, -1]), [0.25, -1]],
    ['alaw', Uint8Array.of(0xd5, 0x55, 0xaa, 0x2a), [8, -8, 32256, -32256].map((v) => v / 32768)],
    ['mulaw', Uint8Array.of(0xff, 0x7f, 0x80, 0x00), [0, 0, 32124, -32124].map((v) => v / 32768)],
  ]
  for (const [format, content, values] of given) {
    for (const size of [1, 2, 3, 5, 64]) {
      const cut = Array.from({ length: Math.ceil(content.length / size) }, (_, i) =>
        content.slice(i * size, (i + 1) * size),
      )
      const out = (await all(pcmFrames(cut, { format }))).flatMap((x) => [...x])
      t.deepEqual(
        out.map((x) => x + 0),
        values,
        `${format} in pieces of ${size}`,
      )
    }
  }
  const blocks = await all(pcmFrames([new Uint8Array(40)], { format: 's16le', channels: 2, frames: 4 }))
  t.deepEqual(
    blocks.map((x) => x.length),
    [8, 8, 4],
  )
})

test('arrays of NumPy, MNIST and CIFAR-10', async (t) => {
  const f4 = await readNpy(fixture('f4.npy'))
  t.deepEqual([f4.shape, [...f4.data]], [[2, 3, 4], Array.from({ length: 24 }, (_, i) => i)])
  const fortran = await readNpy(createReadStream(fixture('fortran.npy')))
  t.deepEqual(
    [fortran.shape, Array.from(fortran.data, Number)],
    [[2, 3, 4], Array.from({ length: 24 }, (_, i) => i)],
  )
  const two = await readNpz(fixture('two.npz'))
  t.true(Object.keys(two).length === 2)
  const bytes = Uint8Array.of(0, 0, 0x0b, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 1, 0)
  t.deepEqual(await readIdx(bytes), { data: Int16Array.of(-2, 256), shape: [1, 2] })
  const record = new Uint8Array(3073)
  record.set([7, 1], 0)
  record[1 + 1024] = 2
  record[1 + 2048] = 3
  const file = join(folder, 'cifar.bin')
  writeFileSync(file, record)
  const { pixels, labels } = await readCifar10([file, file])
  t.deepEqual(
    [[...labels], pixels.length, Array.from(pixels.subarray(0, 4))],
    [[7, 7], 2 * 3072, [1, 2, 3, 0]],
  )
})

test('text as bytes, as characters', (t) => {
  const text = 'zażółć 🦀'
  t.is(byteTokens.decode(byteTokens.encode(text)), text)
  t.deepEqual([...byteTokens.encode('ć')], [0xc4, 0x87])
  const characters = characterTokens(text)
  t.is(characters.size, new Set(text).size)
  t.is(characters.decode(characters.encode(text)), text)
  t.deepEqual([...characterTokens('ba').encode('abba')], [0, 1, 1, 0])
  refuses(t, 'ERR_S4_DATA', () => characters.encode('x'))
})

function folderOf(name: string, content: Record<string, Uint8Array | string>): string {
  const path = join(folder, name)
  for (const [file, bytes] of Object.entries(content)) {
    mkdirSync(join(path, file, '..'), { recursive: true })
    writeFileSync(join(path, file), bytes)
  }
  return path
}

test('labels by folder, by pattern, by function; files in the order of their paths', async (t) => {
  const path = folderOf('labels', {
    'b/2_x.TXT': '',
    'b/deep/1_y.txt': '',
    'a/9_z.txt': '',
    'a/.hidden.txt': '',
    'a/note.md': '',
  })
  const of = (files: { file: string; label: string | number }[]) =>
    files.map(({ file, label }) => [file.slice(path.length + 1), label])
  const txt = ['.txt']
  t.deepEqual(of(await labelledFolder(path, { endings: txt })), [
    ['a/9_z.txt', 'a'],
    ['b/2_x.TXT', 'b'],
    ['b/deep/1_y.txt', 'b'],
  ])
  t.deepEqual(
    of(await labelledFolder(path, { endings: txt, label: /^(\d)_/g })).map(([, label]) => label),
    ['9', '2', '1'],
  )
  t.deepEqual(
    of(await labelledFolder(path, { endings: txt, label: /[xyz]/ })).map(([, label]) => label),
    ['z', 'x', 'y'],
  )
  const byPath = (file: string) => (file.startsWith('a/') ? undefined : file.length)
  t.deepEqual(of(await labelledFolder(path, { label: byPath })), [
    ['b/2_x.TXT', 9],
    ['b/deep/1_y.txt', 14],
  ])
  const texts = textFolder(path, { endings: txt, label: /\d/ })
  t.deepEqual(await texts.labels(), ['1', '2', '9'])
})

test('folders of pictures and of texts, walked twice', async (t) => {
  const png = readFileSync(fixture('rgb.png'))
  const names = Array.from(
    { length: 70 },
    (_, i) => `${i % 2 === 0 ? 'even' : 'odd'}/${String(i).padStart(3, '0')}.png`,
  )
  const path = folderOf('pictures', Object.fromEntries(names.map((name) => [name, png])))
  const pictures = imageFolder(path)
  for (let again = 0; again < 2; again++) {
    const read = await all(pictures)
    t.deepEqual(
      read.map(({ file }) => file),
      names.toSorted().map((name) => join(path, name)),
    )
    const { input, label } = read[69]!
    t.deepEqual([label, input.shape], ['odd', [32, 32, 3]])
    // Red is 8y, green 8x, blue 4(x + y): at y = 2, x = 5.
    t.deepEqual(
      Array.from((input.data as Float32Array).slice(3 * 69, 3 * 70), (v) => Math.round(255 * v)),
      [16, 40, 28],
    )
  }
  const texts = folderOf('texts', { 'pos/1.txt': 'ab', 'neg/2.txt': 'ć' })
  t.deepEqual(
    (await all(textFolder(texts))).map(({ input }) => input),
    ['ć', 'ab'],
  )
  const tokens = await all(textFolder(texts, { tokens: byteTokens }))
  t.deepEqual(
    tokens.map(({ input }) => Array.from((input as TensorLike).data as Int32Array)),
    [
      [0xc4, 0x87],
      [97, 98],
    ],
  )
  const own = { encode: (text: string) => ({ ids: [text.length] }) }
  t.deepEqual(
    (await all(textFolder(texts, { tokens: own }))).map(({ input }) => (input as TensorLike).shape),
    [[1], [1]],
  )
})

test('a classifier learns from a folder of recordings and hears a file', async (t) => {
  const tone = (i: number) =>
    Float32Array.from({ length: 1200 }, (_, k) => 0.6 * Math.sin(0.3 * 2 ** (i % 2) * k + i))
  const recordings = Array.from({ length: 24 }, (_, i) => [
    `${i % 2 === 0 ? 'low' : 'high'}_${i}.wav`,
    wav(tone(i), 8000),
  ])
  const path = folderOf('tones', Object.fromEntries(recordings) as Record<string, Uint8Array>)
  using c = await Classifier.fit(audioFolder(path, { label: /^[a-z]+/ }), {
    epochs: 6,
    seed: 1,
    device: device(),
  })
  t.deepEqual(c.classes, ['high', 'low'])
  t.true((await c.evaluate(audioFolder(path, { label: /^[a-z]+/ }))).accuracy >= 0.9)
  const [heard] = await c.predict(join(path, 'low_0.wav'))
  t.is(heard?.label, 'low')
  await rejects(t, 'ERR_S4_DATA', () => c.predict([join(folder, 'nowhere.wav')]))
  // The file's own error comes later, and has a handler too: else it would end the process.
  await rejects(t, 'ERR_S4_DATA', () => c.predict([join(folder, 'nowhere.wav'), 5 as never]))
  await setTimeout(100)
  const mixed = [
    { input: tone(0), label: 'a', sampleRate: 8000 },
    { input: tone(1), label: 'b', sampleRate: 16_000, file: 'b.wav' },
  ]
  t.regex((await rejects(t, 'ERR_S4_DATA', () => Classifier.fit(mixed))).message, /b\.wav: 16000/)
})

test('pictures with classes: IDX pairs and CIFAR-10 as examples, and files that do not belong together', async (t) => {
  const pictures = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 51, 255, 102)
  const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 7, 3)
  const pair = [join(folder, 'i.idx'), join(folder, 'l.idx')] as const
  writeFileSync(pair[0], pictures)
  writeFileSync(pair[1], labels)
  for (const examples of [await idxExamples(...pair), await idxExamples(pictures, labels)])
    t.deepEqual(examples, [
      { input: { data: Float32Array.of(0, 0.2), shape: [1, 2, 1] }, label: 7 },
      { input: { data: Float32Array.of(1, 0.4), shape: [1, 2, 1] }, label: 3 },
    ])
  for (const [first, second, words] of [
    [pair[1], pair[0], [pair[1], /pictures \(count, height, width\)/]],
    [pair[0], Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 1, 7), [/labels \(2\)/]],
    [pair[0], pair[0], [pair[0], /labels \(2\)/]],
  ] as const)
    for (const word of words)
      t.regex((await rejects(t, 'ERR_S4_DATA', idxExamples(first, second))).message, new RegExp(word))
  const record = new Uint8Array(3073)
  record.set([2, 255], 0)
  const file = join(folder, 'labelled.bin')
  writeFileSync(file, record)
  const names = Array.from('abcdefghij')
  const [[numbered], [named]] = [await cifar10Examples([file]), await cifar10Examples([file], { names })]
  t.deepEqual([numbered!.label, named!.label, named!.input.shape], [2, 'c', [32, 32, 3]])
  t.deepEqual(Array.from((named!.input.data as Float32Array).subarray(0, 4)), [1, 0, 0, 0])
  await rejects(t, 'ERR_S4_VALUE', cifar10Examples([file], { names: names.slice(1) }))
})
