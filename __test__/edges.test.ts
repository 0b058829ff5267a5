/** What callers give at the edges: arrays and paths of other realms, types of files, bytes as samples, sizes too large. */
import {
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  chmodSync,
  lstatSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import {
  AdamW,
  fftConv,
  readCsv,
  readSafetensors,
  S4Block,
  S4Layer,
  SequenceModel,
  writeSafetensors,
  type CsvOptions,
  type FileTensor,
} from '../index.js'
import { noise, noisy, refuses, rejects, small } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-edges-'))
test.after.always(() => rmSync(folder, { recursive: true }))

/** A value of another realm, where no class is the class of here. */
const foreign = <T>(code: string): T => runInNewContext(code, { URL }) as T

test('arrays of another realm are what they are', (t) => {
  const layer = new S4Layer({ features: 1, state: 4, dtype: 'f64', device: 'cpu' })
  const ours = layer.forward({ data: Float64Array.of(1, 2, 1e-9), shape: [1, 3, 1] })
  const theirs = layer.forward(
    foreign('({ data: Float64Array.of(1, 2, 1e-9), shape: [1, 3, 1] })'),
    foreign('({ lengths: Int32Array.of(3) })'),
  )
  t.is(ours.y.dtype, 'f64')
  t.deepEqual(theirs.y.data, ours.y.data)
  const u = foreign<{ data: Float64Array; shape: number[] }>(
    '({ data: Float64Array.of(1, 1e-9), shape: [1, 2, 1] })',
  )
  const k = foreign<{ data: Float64Array; shape: number[] }>(
    '({ data: Float64Array.of(1), shape: [1, 1, 1] })',
  )
  t.deepEqual(
    [...fftConv(u, k).data].map((x) => Math.round(x * 1e9)),
    [1e9, 1],
  )
  t.is(fftConv(u, k).dtype, 'f64')
  const path = join(folder, 'foreign')
  const tensors = foreign<Record<string, FileTensor>>(
    '({ f: { data: Float64Array.of(0.1), shape: [] }, i: { data: Int32Array.of(16777217), shape: [1] } })',
  )
  writeSafetensors(path, tensors, foreign('({ note: "n" })'))
  const read = readSafetensors(path)
  t.deepEqual(read.tensors['f']?.data, Float64Array.of(0.1))
  t.deepEqual(read.tensors['i']?.data, Int32Array.of(16777217))
  t.deepEqual(read.metadata, { note: 'n' })
  layer.dispose()
})

test('typed arrays are written as their own types', (t) => {
  const path = join(folder, 'types')
  const big = 2n ** 53n - 1n
  writeSafetensors(path, {
    u32: { data: Uint32Array.of(16777217, 2 ** 32 - 1) as never, shape: [2] },
    i64: { data: BigInt64Array.of(-big), shape: [1] },
    u64: { data: BigUint64Array.of(2n ** 64n - 1n) as never, shape: [1] },
    i8: { data: Int8Array.of(-128) as never, shape: [1] },
    u8: { data: Uint8Array.of(255) as never, shape: [1] },
    u16: { data: Uint16Array.of(65535) as never, shape: [1] },
    list: { data: [0.5, 1], shape: [2] },
  })
  const { tensors } = readSafetensors(path)
  const of = (name: string) => tensors[name]?.data
  t.deepEqual(of('u32'), Float64Array.of(16777217, 2 ** 32 - 1))
  t.deepEqual(of('i64'), Float64Array.of(-Number(big)))
  refuses(t, 'ERR_S4_DTYPE', () => of('u64'))
  t.deepEqual(
    [of('i8'), of('u8'), of('u16')],
    [-128, 255, 65535].map((x) => Int32Array.of(x)),
  )
  t.deepEqual(of('list'), Float32Array.of(0.5, 1))
  const header = readFileSync(path).toString('latin1')
  for (const word of ['U32', 'I64', 'U64', 'I8', 'U8', 'U16', 'F32'])
    t.true(header.includes(`"dtype":"${word}"`), word)
  refuses(t, 'ERR_S4_VALUE', () => writeSafetensors(path, { __metadata__: { data: [1], shape: [1] } }))
  const words = refuses(t, 'ERR_S4_VALUE', () => writeSafetensors(path, {}, { a: 5 as never }))
  t.regex(words.message, /metadata 'a'/)
})

test('every type of a file is read exactly, and one that is not is named when it is asked for', (t) => {
  const path = join(folder, 'read')
  // Bits by IEEE 754: 1, −2, the smallest f16 subnormal, infinity; 1 and −2 in bf16.
  const parts: [string, string, number[]][] = [
    ['half', 'F16', [0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c]],
    ['brain', 'BF16', [0x80, 0x3f, 0x00, 0xc0]],
    ['flag', 'BOOL', [0, 1]],
    ['eight', 'F8_E4M3', [1, 2]],
    ['long', 'I64', [7, 0, 0, 0, 0, 0, 0, 0]],
  ]
  const sizes: Record<string, number> = { F16: 2, BF16: 2, BOOL: 1, F8_E4M3: 1, I64: 8 }
  let at = 0
  const header: Record<string, unknown> = {}
  for (const [name, dtype, bytes] of parts) {
    header[name] = {
      dtype,
      shape: [bytes.length / (sizes[dtype] as number)],
      data_offsets: [at, (at += bytes.length)],
    }
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(path, Buffer.concat([length, text, Buffer.from(parts.flatMap(([, , bytes]) => bytes))]))
  const { tensors } = readSafetensors(path)
  t.deepEqual(tensors['half']?.data, Float32Array.of(1, -2, 2 ** -24, Infinity))
  t.deepEqual(tensors['brain']?.data, Float32Array.of(1, -2))
  t.deepEqual(tensors['flag']?.data, Int32Array.of(0, 1))
  t.deepEqual(tensors['long']?.data, Int32Array.of(7))
  t.false(Object.keys(tensors).includes('eight'))
  t.regex(refuses(t, 'ERR_S4_DTYPE', () => tensors['eight']).message, /'eight'.*F8_E4M3/)
})

test('paths are taken as Node takes them', async (t) => {
  const path = join(folder, 'paths é.csv')
  writeFileSync(path, 'a\n1\n2\n')
  for (const given of [
    path,
    pathToFileURL(path),
    Buffer.from(path),
    foreign<URL>(`new URL(${JSON.stringify(pathToFileURL(path).href)})`),
  ])
    t.deepEqual(readCsv(given), Float64Array.of(1, 2))
  for (const wrong of [5, null, '', {}, new URL('https://example.org/x'), Buffer.of(0xff), 'a\0b'])
    t.regex(refuses(t, 'ERR_S4_VALUE', () => readCsv(wrong as never)).message, /path/)
  const model = await SequenceModel.create({ ...small, device: 'cpu' })
  await model.save(pathToFileURL(join(folder, 'm')))
  const again = await SequenceModel.load(Buffer.from(join(folder, 'm')), { device: 'cpu' })
  t.deepEqual(again.predictSync(noisy([1, 4, 1])).data, model.predictSync(noisy([1, 4, 1])).data)
})

test('whether a first line is a header is found out, or said', (t) => {
  const path = join(folder, 'header.csv')
  const read = (text: string, options: CsvOptions = {}) => {
    writeFileSync(path, text)
    return [...readCsv(path, options)]
  }
  t.deepEqual(read('a\n1\n2\n'), [1, 2])
  t.deepEqual(read('1\n2\n'), [1, 2])
  t.deepEqual(read('1\n2\n', { header: 'auto' }), [1, 2])
  t.deepEqual(read('2020\n1\n2\n', { header: true }), [1, 2])
  t.deepEqual(read('2020\n1\n2\n', { header: true, column: '2020' }), [1, 2])
  t.deepEqual(read('2020\n1\n2\n', { header: false }), [2020, 1, 2])
  // The first value is not swallowed as a name.
  t.regex(refuses(t, 'ERR_S4_DATA', () => read('x\n1\n2\n', { header: false })).message, /row 1, .*"x"/)
  // Names and numbers in one line may be either.
  const mixed = 't,2020\n1,2\n3,4\n'
  t.regex(refuses(t, 'ERR_S4_DATA', () => read(mixed)).message, /row 1.*header: true or false/)
  t.deepEqual(read(mixed, { header: true }), [2, 4])
  t.deepEqual(read(mixed, { header: true, column: 0 }), [1, 3])
  t.deepEqual(read(mixed, { header: false }), [2020, 2, 4])
  t.regex(
    refuses(t, 'ERR_S4_DATA', () => read(mixed, { header: false, column: 0 })).message,
    /row 1, column 0/,
  )
  t.regex(refuses(t, 'ERR_S4_DATA', () => read(mixed, { header: false, column: 't' })).message, /header/)
  for (const header of [null, 1, 'yes', {}])
    t.regex(refuses(t, 'ERR_S4_VALUE', () => read(mixed, { header: header as never })).message, /header/)
})

test('files keep their mode, links lead on', async (t) => {
  if (process.platform === 'win32') return t.pass()
  const model = await SequenceModel.create({ ...small, device: 'cpu' })
  const [file, link] = [join(folder, 'mode'), join(folder, 'link')]
  await model.save(file)
  t.is(statSync(file).mode & 0o777, 0o666 & ~process.umask())
  chmodSync(file, 0o640)
  symlinkSync('mode', link)
  const before = statSync(file).ino
  await model.save(link)
  // A new file in the old one's place, not the old one written over.
  t.not(statSync(file).ino, before)
  t.is(statSync(file).mode & 0o777, 0o640)
  writeSafetensors(link, { a: { data: [1], shape: [1] } })
  t.true(lstatSync(link).isSymbolicLink())
  t.is(statSync(file).mode & 0o777, 0o640)
  t.deepEqual(readSafetensors(file).tensors['a']?.data, Float32Array.of(1))
  const error = await rejects(t, 'ERR_S4_CHECKPOINT', model.save(join(folder, 'none', 'x')))
  t.regex(error.message, /none/)
})

test('bytes are samples only with a format', async (t) => {
  const model = await SequenceModel.create({ ...small, device: 'cpu' })
  const samples = noise(5)
  const want = model.predictSync({ data: samples, shape: [1, 5, 1] }).data
  const run = async (options: object, chunks: unknown[]) => {
    using stream = model.stream()
    const transform = stream.toTransform(options)
    const out: number[] = []
    const done = (async () => {
      for await (const y of transform) out.push(...(y as Float32Array))
    })()
    for (const chunk of chunks) transform.write(chunk)
    transform.end()
    await done
    return out
  }
  const bytes = Buffer.from(samples.buffer)
  const near = (a: number[]) =>
    a.length === want.length && a.every((x, i) => Math.abs(x - (want[i] as number)) < 1e-5)
  t.true(near(await run({}, [samples])))
  t.true(near(await run({ format: 'f32' }, [bytes.subarray(0, 3), bytes.subarray(3, 9), bytes.subarray(9)])))
  t.regex((await rejects(t, 'ERR_S4_DTYPE', run({}, [bytes]))).message, /format/)
  await rejects(t, 'ERR_S4_DATA', run({ format: 'i16' }, [Buffer.of(1, 2, 3)]))
  await rejects(t, 'ERR_S4_VALUE', run({ format: 'mp3' }, []))
})

test('what is too large is refused, and the process lives', async (t) => {
  if (process.platform !== 'linux') return t.pass()
  // Weights of four times this machine's memory: 2·features² and narrow·output numbers of four bytes.
  const features = Math.ceil(Math.sqrt(totalmem() / 2))
  const [narrow, output] = [Math.ceil(totalmem() / 2 ** 24), 2 ** 24]
  const error = await rejects(
    t,
    'ERR_S4_MEMORY',
    SequenceModel.create({ features, layers: 1, device: 'cpu' }),
  )
  t.regex(error.message, /GiB/)
  await rejects(
    t,
    'ERR_S4_MEMORY',
    SequenceModel.create({ features: narrow, layers: 1, output, device: 'cpu' }),
  )
  const layer = new S4Layer({ features: 256, state: 64, device: 'cpu' })
  refuses(t, 'ERR_S4_MEMORY', () => layer.initialState(1 << 24))
  t.is(layer.initialState(2).data.length, 2 * 256 * 64)
  refuses(t, 'ERR_S4_MEMORY', () => new S4Block({ features, device: 'cpu' }))
})

test('words name the option and say what to do', async (t) => {
  const of = async (options: object) =>
    (await rejects(t, 'ERR_S4_VALUE', SequenceModel.create({ device: 'cpu', ...options } as never))).message
  t.regex(await of({ features: '8' }), /features as a whole number/)
  t.regex(await of({ features: 8, glu: 1 }), /glu true or false/)
  t.regex(await of({ features: 8, norm: null }), /norm one of/)
  const layer = new S4Layer({ features: 1, state: 4, device: 'cpu' })
  t.regex(refuses(t, 'ERR_S4_VALUE', () => layer.initialState(2147483647)).message, /from 1 to 16777216/)
  refuses(t, 'ERR_S4_VALUE', () => new AdamW([layer]).step('x' as never))
  const files: [string, Buffer, RegExp][] = [
    ['pt', Buffer.from('PK\x03\x04rest of it'), /PyTorch/],
    ['txt', Buffer.from('time,value\n1,2\n'), /a text file/],
  ]
  for (const [name, bytes, word] of files) {
    const path = join(folder, name)
    writeFileSync(path, bytes)
    t.regex((await rejects(t, 'ERR_S4_CHECKPOINT', SequenceModel.load(path))).message, word)
    t.regex(refuses(t, 'ERR_S4_CHECKPOINT', () => readSafetensors(path)).message, word)
  }
  const csv = join(folder, 'w.csv')
  writeFileSync(csv, 'a,b\n1,2\n3,\n')
  t.regex(refuses(t, 'ERR_S4_DATA', () => readCsv(csv, { column: 8 })).message, /column 8/)
  t.regex(refuses(t, 'ERR_S4_DATA', () => readCsv(csv)).message, /gaps/)
})
