/**
 * Every reader of `s4-node/data` against files that are damaged, cut short, of another kind or in another encoding: each gives a coded
 * error that names the file, and row and column where it has any; none is taken for data.
 */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { S4Error } from 's4-node'
import {
  audioChunks,
  audioFolder,
  imageFolder,
  labelledFolder,
  pcmFrames,
  readAudio,
  readCifar10,
  readIdx,
  readJsonl,
  readNpy,
  readNpz,
  readTable,
  tableRows,
  textFolder,
  type TableFormat,
} from 's4-node/data'
import { root } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-damaged-'))
let files = 0
function fileOf(content: Uint8Array | string, ending: string): string {
  const file = join(folder, `${files++}${ending}`)
  writeFileSync(file, content)
  return file
}
const fixture = (name: string) => new Uint8Array(readFileSync(join(root, 'crates/data/tests/files', name)))
const utf16 = (text: string, big: boolean) => {
  const bytes = Buffer.from(`\ufeff${text}`, 'utf16le')
  return new Uint8Array(big ? bytes.swap16() : bytes)
}
const latin1 = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))
async function walk(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}
const cases = new Map<string, number>()

/** One case: a reader must refuse a file with ERR_S4_DATA, and say these words. */
async function refused(
  t: ExecutionContext,
  reader: string,
  what: string,
  read: () => Promise<unknown>,
  words: readonly (string | RegExp)[],
): Promise<void> {
  cases.set(reader, (cases.get(reader) ?? 0) + 1)
  let error: unknown
  try {
    await read()
  } catch (caught) {
    error = caught
  }
  if (!(error instanceof S4Error))
    return t.fail(`${reader}, ${what}: ${error === undefined ? 'was read' : String(error)}`)
  t.is(error.code, 'ERR_S4_DATA', `${reader}, ${what}: ${error.message}`)
  for (const word of words) {
    const says = typeof word === 'string' ? error.message.includes(word) : word.test(error.message)
    t.true(says, `${reader}, ${what}: ${error.message} does not say ${String(word)}`)
  }
}

/** A text table that is wrong, through every way of reading one. */
async function wrongTable(
  t: ExecutionContext,
  what: string,
  content: Uint8Array | string,
  words: readonly (string | RegExp)[],
  options: TableFormat = {},
): Promise<void> {
  const file = fileOf(content, '.csv')
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
  await refused(t, 'readTable of a file', what, () => readTable(file, options), [file, ...words])
  await refused(t, 'tableRows of a file', what, () => walk(tableRows(file, options)), [file, ...words])
  if (bytes.length > 0) await refused(t, 'readTable of bytes', what, () => readTable(bytes, options), words)
}

const table = (change: (lines: string[][]) => void = () => undefined) => {
  const lines = [['day', 'load', 'site']]
  for (let i = 1; i <= 12; i++)
    lines.push([`2020-01-${String(i).padStart(2, '0')}`, `${i}.5`, i % 2 === 0 ? 'a' : 'b'])
  change(lines)
  return `${lines.map((fields) => fields.join(',')).join('\n')}\n`
}
const with_ = (row: number, column: number, field: string) =>
  table((lines) => {
    ;(lines[row - 1] as string[])[column] = field
  })

test('tables: ragged rows, by their line', async (t) => {
  t.timeout(120_000)
  for (const row of [2, 3, 7, 12, 13]) {
    await wrongTable(
      t,
      `line ${row} too short`,
      table((lines) => void lines[row - 1]!.pop()),
      [`row ${row}`, /expected (2|3) fields/],
    )
    await wrongTable(
      t,
      `line ${row} too long`,
      table((lines) => void lines[row - 1]!.push('x')),
      [`row ${row === 2 ? 2 : row}`, 'fields'],
    )
  }
})

test('tables: what is no number, by line and column', async (t) => {
  for (const field of [
    'x',
    '1.2.3',
    '1,5',
    '--1',
    '0x1F',
    '1e',
    '+-2',
    '1 2',
    '12a',
    '$5',
    '5%',
    '1_000',
    'inf',
    '-Infinity',
    '1e999',
    '½',
    '١',
  ])
    await wrongTable(t, `the number ${field}`, with_(6, 1, field.includes(',') ? `"${field}"` : field), [
      'row 6',
      'column load',
    ])
})

test('tables: what is no date, by line and column', async (t) => {
  const fields = [
    '2020-13-01',
    '2020-02-30',
    '2021-02-29',
    '2020-00-10',
    '2020-01-32',
    '20200101',
    'yesterday',
    '2020-01-01 25:00',
    '2020-01-01T10:60',
    '01/02/2020',
    '1.1',
    '31.13.2020',
    '2020/01/41',
    '2020-01-01T00:00+99:00',
    '0',
    '-',
  ]
  for (const field of fields)
    await wrongTable(t, `the date ${field}`, with_(5, 0, field), ['row 5', 'column day'], { time: 'day' })
  const american = 'day,x\n12/31/2020,1\n13/31/2020,2\n'
  await wrongTable(t, 'a month 13', american, ['row 3', 'column day'], {
    time: 'day',
    timeFormat: '%m/%d/%Y',
  })
})

test('tables: encodings, and what is no table', async (t) => {
  const text = table()
  await wrongTable(t, 'UTF-16, little-endian', utf16(text, false), ['UTF-16'])
  await wrongTable(t, 'UTF-16, big-endian', utf16(text, true), ['UTF-16'])
  await wrongTable(t, 'Latin-1 in a text', latin1(with_(4, 2, 'café')), ['row 4', 'column site', 'UTF-8'])
  await wrongTable(t, 'Latin-1 in a number', latin1(with_(4, 1, '½')), ['row 4', 'column load'])
  await wrongTable(t, 'Latin-1 in a date', latin1(with_(4, 0, '2020é')), ['row 4', 'column day'], {
    time: 'day',
  })
  await wrongTable(t, 'white space alone', '  \n \n\n', [])
  await wrongTable(t, 'no bytes', '', ['empty'])
  for (const name of ['rgb.png', 'tone.flac', 'two.npz'])
    await wrongTable(t, `the file ${name}`, fixture(name), [], { header: true, types: { load: 'number' } })
})

test('tables: columns, zones and headers that are not there', async (t) => {
  const text = table()
  await wrongTable(t, 'an unknown column', text, ['column nobody', 'day, load, site'], {
    columns: ['nobody'],
  })
  await wrongTable(t, 'a column beyond', text, ['column 4', '3 columns'], { columns: [3] })
  await wrongTable(t, 'an unknown column of times', text, ['column nobody'], { time: 'nobody' })
  await wrongTable(t, 'an unknown column with a type', text, ['column nobody'], { types: { nobody: 'text' } })
  await wrongTable(t, 'text as numbers', text, ['row 2', 'column site'], { types: { site: 'number' } })
  await wrongTable(t, 'text as times', text, ['row 2', 'column site'], { types: { site: 'time' } })
  await wrongTable(t, 'a name without a header', text, ['header'], { header: false, columns: ['load'] })
  await wrongTable(t, 'an unknown zone', text, ['time zone', 'Mars/Olympus'], { zone: 'Mars/Olympus' })
  for (const first of ['1,load,x', 'a,5,x'])
    await wrongTable(t, `the first line ${first}`, `${first}\n1,2,3\n4,5,6\n`, ['row 1', 'header'])
  await wrongTable(t, 'a header alone', 'day,load,site\n', ['row'])
  for (const [twice, at] of [
    ['load', 2],
    ['site', 1],
  ] as const)
    await wrongTable(
      t,
      `two columns ${twice}`,
      table((lines) => void (lines[0]![at] = twice)),
      [`column '${twice}' twice`],
    )
})

test('lines of JSON: broken, cut short, no objects, other types, by row and column', async (t) => {
  const good = '{"a":1,"s":"x","d":"2020-01-01"}'
  const wrong = async (
    what: string,
    content: Uint8Array | string,
    words: readonly (string | RegExp)[],
    time?: string,
  ) => {
    const file = fileOf(content, '.jsonl')
    await refused(t, 'readJsonl', what, () => readJsonl(file, time === undefined ? {} : { time }), [
      file,
      ...words,
    ])
  }
  for (let cut = 1; cut < good.length; cut += 2)
    await wrong(`cut after ${cut}`, `${good}\n${good}\n${good.slice(0, cut)}\n`, ['row 3'])
  for (const line of [
    '[1]',
    '1',
    'null',
    '"text"',
    '{a:1}',
    "{'a':1}",
    '{"a":1,}',
    '{"a":NaN}',
    '{"a":1} {"a":2}',
    '//',
    '{"a":01}',
  ])
    await wrong(`the line ${line}`, `${good}\n\n${line}\n`, ['row 3'])
  for (const value of ['"x"', '[1]', '{}', '1e999'])
    await wrong(
      `a = ${value}`,
      `${good}\n${good.replace('1', value)}\n`,
      value === '1e999' ? ['row 2, column a'] : ['row 2, column a'],
    )
  for (const value of ['5', 'true', '[]'])
    await wrong(`s = ${value}`, `${good}\n${good.replace('"x"', value)}\n`, ['row 2, column s'])
  for (const value of ['2020-13-01', 'soon', '2020-02-32', '12'])
    await wrong(`d = ${value}`, `${good}\n${good.replace('2020-01-01', value)}\n`, ['row 2, column d'], 'd')
  await wrong('Latin-1', latin1(`${good}\n${good.replace('x', 'é')}\n`), ['row 2', 'UTF-8'])
  await wrong('UTF-16', utf16(good, false), ['row 1'])
  await wrong('nothing', ' \n\n', [])
})

/** Places at which a file is cut, through all of it. */
const cutsOf = (bytes: Uint8Array, count: number) =>
  Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) / count) * bytes.length))
const changed = (bytes: Uint8Array, at: number, ...to: number[]) => {
  const copy = bytes.slice()
  copy.set(to, at)
  return copy
}

test('arrays: cut anywhere, other kinds, sizes that lie', async (t) => {
  const idx = Uint8Array.of(0, 0, 0x0b, 2, 0, 0, 0, 2, 0, 0, 0, 3, ...Array.from({ length: 12 }, (_, i) => i))
  const readers = [
    ['readNpy', readNpy, fixture('f4.npy'), '.npy'],
    ['readNpy', readNpy, fixture('fortran.npy'), '.npy'],
    ['readNpz', readNpz, fixture('two.npz'), '.npz'],
    ['readNpz', readNpz, fixture('plain.npz'), '.npz'],
    ['readIdx', readIdx, idx, '.idx'],
  ] as const
  for (const [name, read, bytes, ending] of readers) {
    for (const cut of cutsOf(bytes, 12)) {
      const file = fileOf(bytes.slice(0, cut), ending)
      await refused(t, name, `cut at ${cut}`, () => read(file), [file])
      if (cut > 0) await refused(t, `${name} of bytes`, `cut at ${cut}`, () => read(bytes.slice(0, cut)), [])
    }
    for (const other of ['rgb.png', 'tone.flac', 'i16.wav']) {
      const file = fileOf(fixture(other), ending)
      await refused(t, name, `the file ${other}`, () => read(file), [file, /byte 0|expected/])
    }
  }
  const header = (text: string) => {
    const bytes = fixture('f4.npy')
    const old = new TextDecoder('latin1').decode(bytes.slice(10, 128))
    return changed(bytes, 10, ...Buffer.from(text.padEnd(old.length - 1).slice(0, old.length - 1), 'latin1'))
  }
  for (const text of [
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 3, }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (x,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000,), }",
    "{'fortran_order': False, 'shape': (3,), }",
    'nothing',
  ]) {
    const file = fileOf(header(text), '.npy')
    await refused(t, 'readNpy', text, () => readNpy(file), [file])
  }
  for (const [what, bytes] of [
    ['another type', changed(idx, 2, 7)],
    ['no axes', changed(idx, 3, 0)],
    ['too many axes', changed(idx, 3, 200)],
    ['a size that lies', changed(idx, 4, 0xff, 0xff, 0xff, 0xff)],
    ['gzip', changed(idx, 0, 0x1f, 0x8b)],
  ] as const) {
    const file = fileOf(bytes, '.idx')
    await refused(t, 'readIdx', what, () => readIdx(file), [file, /byte \d+/])
  }
  const npz = fixture('plain.npz')
  for (let at = 0; at < 12; at++) {
    const place = 140 + at
    const file = fileOf(changed(npz, place, (npz[place] as number) ^ 0x55), '.npz')
    await refused(t, 'readNpz', `byte ${place} changed`, () => readNpz(file), [file])
  }
})

test('pictures of CIFAR-10: cut anywhere, labels that are none', async (t) => {
  const two = new Uint8Array(2 * 3073)
  for (const cut of cutsOf(two, 10).filter((n) => n % 3073 !== 0)) {
    const file = fileOf(two.slice(0, cut), '.bin')
    await refused(t, 'readCifar10', `cut at ${cut}`, () => readCifar10([file]), [file, /byte (0|3073)\b/])
  }
  for (const label of [10, 99, 255]) {
    const file = fileOf(changed(two, 3073, label), '.bin')
    await refused(t, 'readCifar10', `the label ${label}`, () => readCifar10([file]), [
      file,
      'byte 3073',
      String(label),
    ])
  }
  await refused(t, 'readCifar10', 'no file', () => readCifar10([join(folder, 'nowhere.bin')]), [
    'nowhere.bin',
  ])
})

test('recordings: cut anywhere, other kinds, formats that lie', async (t) => {
  for (const name of [
    'u8.wav',
    'i16.wav',
    'i24.wav',
    'i32.wav',
    'f32.wav',
    'f64.wav',
    'alaw.wav',
    'mulaw.wav',
    'extensible.wav',
    'tone.flac',
  ]) {
    const bytes = fixture(name)
    for (const cut of cutsOf(bytes, 5)) {
      const file = fileOf(bytes.slice(0, cut), name)
      await refused(t, 'readAudio', `${name} cut at ${cut}`, () => readAudio(file), [file])
      await refused(
        t,
        'audioChunks',
        `${name} cut at ${cut}`,
        () => walk(audioChunks(file, { length: 0.01, mono: true })),
        [file],
      )
    }
  }
  for (const name of ['tone.mp3', 'tone.ogg']) {
    const file = fileOf(fixture(name).slice(0, 20), name)
    await refused(t, 'readAudio', `${name} cut at 20`, () => readAudio(file), [file])
  }
  for (const name of ['rgb.png', 'rgb.jpg', 'f4.npy', 'two.npz']) {
    const file = fileOf(fixture(name), '.wav')
    await refused(t, 'readAudio', `the file ${name}`, () => readAudio(file, { sampleRate: 8000 }), [file])
  }
  const wav = fixture('i16.wav')
  for (const [what, at, ...to] of [
    ['another format', 20, 99, 0],
    ['no channels', 22, 0, 0],
    ['no rate', 24, 0, 0, 0, 0],
    ['frames of 3 bytes', 32, 3, 0],
    ['samples of 5 bits', 34, 5, 0],
    ['a format of 4 bytes', 16, 4, 0, 0, 0],
    ['another first word', 0, 88],
    ['no WAVE', 8, 88],
  ] as const) {
    const file = fileOf(changed(wav, at, ...to), '.wav')
    await refused(t, 'readAudio', what, () => readAudio(file), [file])
  }
  for (const [format, size] of [
    ['s16le', 2],
    ['s24le', 3],
    ['f32le', 4],
    ['f64le', 8],
  ] as const)
    for (let left = 1; left < size; left++)
      await refused(
        t,
        'pcmFrames',
        `${left} of ${size} bytes`,
        () => walk(pcmFrames([new Uint8Array(3 * size + left)], { format })),
        [`${left} bytes`],
      )
})

function folderOf(content: Record<string, Uint8Array | string>): string {
  const path = join(folder, `folder${files++}`)
  mkdirSync(path)
  for (const [name, bytes] of Object.entries(content)) {
    mkdirSync(join(path, name, '..'), { recursive: true })
    writeFileSync(join(path, name), bytes)
  }
  return path
}

test('folders: no labels, nothing in them, one damaged file, pictures of other sizes', async (t) => {
  const png = fixture('rgb.png')
  const small = new Uint8Array(
    Buffer.from(
      'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
      'base64',
    ),
  )
  for (const cut of cutsOf(png, 12)) {
    const path = folderOf({ 'a/1.png': png, 'b/2.png': png.slice(0, cut) })
    await refused(t, 'imageFolder', `PNG cut at ${cut}`, () => walk(imageFolder(path)), [
      join(path, 'b', '2.png'),
    ])
  }
  const jpg = fixture('rgb.jpg')
  for (const cut of cutsOf(jpg, 8)) {
    const path = folderOf({ 'a/1.jpg': jpg.slice(0, cut) })
    await refused(t, 'imageFolder', `JPEG cut at ${cut}`, () => walk(imageFolder(path)), [
      join(path, 'a', '1.jpg'),
    ])
  }
  const sizes = folderOf({ 'a/1.png': png, 'b/2.png': small })
  await refused(t, 'imageFolder', 'two sizes', () => walk(imageFolder(sizes, { colours: 'rgb' })), [
    join(sizes, 'b', '2.png'),
    '1 × 1',
  ])
  const many = folderOf({
    ...Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`a/${i + 100}.png`, png])),
    'b/1.png': small,
  })
  await refused(t, 'imageFolder', 'two sizes, far apart', () => walk(imageFolder(many, { colours: 'rgb' })), [
    join(many, 'b', '1.png'),
  ])
  const wav = fixture('i16.wav')
  for (const cut of cutsOf(wav, 8)) {
    const path = folderOf({ 'a/1.wav': wav, 'b/2.wav': wav.slice(0, cut) })
    await refused(t, 'audioFolder', `WAV cut at ${cut}`, () => walk(audioFolder(path)), [
      join(path, 'b', '2.wav'),
    ])
  }
  for (const [name, text] of [
    ['latin1', latin1('café')],
    ['utf16', utf16('text', false)],
    ['binary', png],
  ] as const) {
    const path = folderOf({ 'a/1.txt': 'fine', 'b/2.txt': text })
    await refused(t, 'textFolder', name, () => walk(textFolder(path)), [join(path, 'b', '2.txt')])
  }
  const flat = folderOf({ '1_x.wav': wav })
  const none = folderOf({})
  for (const [name, make] of Object.entries({ audioFolder, imageFolder, textFolder })) {
    await refused(t, name, 'an empty folder', () => walk(make(none)), [none])
    await refused(t, name, 'no folder', () => walk(make(join(folder, 'nowhere'))), [join(folder, 'nowhere')])
    await refused(t, name, 'files in no folder', () => walk(make(flat, { endings: ['.wav'] })), [
      join(flat, '1_x.wav'),
    ])
    await refused(
      t,
      name,
      'a pattern that fits none',
      () => walk(make(flat, { endings: ['.wav'], label: /^y/ })),
      [join(flat, '1_x.wav')],
    )
    const label = () => null as never
    await refused(
      t,
      name,
      'a function that gives no label',
      () => walk(make(flat, { endings: ['.wav'], label })),
      [join(flat, '1_x.wav')],
    )
  }
  await refused(t, 'labelledFolder', 'a file', () => labelledFolder(join(flat, '1_x.wav')), [flat])
})

test.after('as many cases as promised', (t) => {
  const total = [...cases.values()].reduce((a, b) => a + b, 0)
  t.log([...cases].map(([name, count]) => `${name} ${count}`).join(', '))
  t.log(`${total} cases`)
  t.true(total >= 300)
})
