/** Tables: from files, bytes and streams, with times, gaps and texts; from what other libraries give. */
import { execFileSync } from 'node:child_process'
import { createReadStream, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import {
  jsonlRows,
  readJsonl,
  readTable,
  tableFrom,
  tableRows,
  type DataSource,
  type DataTable,
} from 's4-node/data'
import { rejects, root } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-table-'))
let files = 0
function fileOf(text: string, ending = 'csv'): string {
  const file = join(folder, `${files++}.${ending}`)
  writeFileSync(file, text)
  return file
}
const plain = (table: DataTable) => ({
  rows: table.rows,
  names: [...table.names],
  columns: Object.fromEntries(Object.entries(table.columns).map(([name, x]) => [name, [...x]])),
  texts: table.texts,
  time: table.time && [...table.time],
})

const weather = [
  'date;load;temperature;site',
  '2024-03-30 23:00;1.234,5;-2,5;north',
  '2024-03-31 01:00;;3;"south; old"',
  '2024-03-31 03:00;0,25;NA;north',
].join('\n')

test('one table from a path, a URL, bytes, a stream of Node, of the web, and pieces of text', async (t) => {
  const text = weather.replace('1.234,5', '1234,5')
  const file = fileOf(text)
  const bytes = new TextEncoder().encode(text)
  const sources: DataSource[] = [
    file,
    pathToFileURL(file),
    bytes,
    createReadStream(file, { highWaterMark: 7 }),
    Readable.from(Array.from(bytes, (byte) => Uint8Array.of(byte))),
    new Blob([bytes]).stream() as unknown as AsyncIterable<Uint8Array>,
    Array.from(text.matchAll(/[^]{1,5}/g), ([piece]) => piece),
  ]
  for (const source of sources) {
    const table = await readTable(source, { zone: 'Europe/Berlin' })
    t.deepEqual(plain(table), {
      rows: 3,
      names: ['load', 'temperature', 'site'],
      columns: { load: [1234.5, NaN, 0.25], temperature: [-2.5, 3, NaN] },
      texts: { site: ['north', 'south; old', 'north'] },
      // Summer time begins in the night to the 31st: 01:00 is +01:00, 03:00 is +02:00.
      time: [Date.UTC(2024, 2, 30, 22), Date.UTC(2024, 2, 31, 0), Date.UTC(2024, 2, 31, 1)],
    })
    t.deepEqual(
      Object.entries(table.missing).map(([name, mask]) => [name, [...mask]]),
      [
        ['load', [0, 1, 0]],
        ['temperature', [0, 0, 1]],
      ],
    )
  }
})

test('what options say: columns, types, header, separators, words for a gap, formats of time', async (t) => {
  const of = async (text: string, options: Parameters<typeof readTable>[1]) =>
    plain(await readTable(new TextEncoder().encode(text), options))
  t.deepEqual((await of('1,2\n3,4\n', { header: false })).columns, { 1: [1, 3], 2: [2, 4] })
  t.deepEqual((await of('1,2\n3,4\n', { header: true })).columns, { 1: [3], 2: [4] })
  t.deepEqual((await of('a,b,c\n1,2,3\n', { columns: ['c', 0] })).columns, { c: [3], a: [1] })
  t.deepEqual((await of('a,b\n1,2\n', { types: { b: 'text' } })).texts, { b: ['2'] })
  t.deepEqual((await of('a|b\n1,5|2,5\n', { delimiter: '|', decimal: ',' })).columns, { a: [1.5], b: [2.5] })
  t.deepEqual((await of('a,b\n-9999,?\n1,2\n', { missing: ['-9999', '?'] })).columns, {
    a: [NaN, 1],
    b: [NaN, 2],
  })
  const american = await of('when,x\n12/31/2020,1\n01/01/2021,2\n', { time: 'when', timeFormat: '%m/%d/%Y' })
  t.deepEqual(american.time, [Date.UTC(2020, 11, 31), Date.UTC(2021, 0, 1)])
  const second = await of('made,due\n2020-01-01,2021-01-01\n', { time: 'due' })
  t.deepEqual(second.time, [Date.UTC(2021, 0, 1)])
  t.deepEqual(second.columns, { made: [Date.UTC(2020, 0, 1)] })
  const placed = await of('2020-01-01,5\n2020-01-02,6\n', { time: 0, header: false })
  t.deepEqual([placed.time, placed.columns], [[Date.UTC(2020, 0, 1), Date.UTC(2020, 0, 2)], { 2: [5, 6] }])
  const chosen = await of('day,x,y\n2020-01-01,1,2\n', { time: 'day', columns: ['y'] })
  t.deepEqual([chosen.time, chosen.columns], [[Date.UTC(2020, 0, 1)], { y: [2] }])
})

test('parts of a table', async (t) => {
  const table = await readTable(
    new TextEncoder().encode('day,x,who\n2020-01-01,1,a\n2020-01-02,2,b\n2020-01-03,3,c\n'),
  )
  t.deepEqual(plain(table.head(2)).columns, { x: [1, 2] })
  t.deepEqual(plain(table.tail(2)), { ...plain(table.slice(1)), rows: 2 })
  t.deepEqual([...table.slice(1, 2).column('x')], [2])
  t.deepEqual([...(table.tail(1).time as Float64Array)], [Date.UTC(2020, 0, 3)])
  t.deepEqual(plain(table.select(['who'])).texts, { who: ['a', 'b', 'c'] })
  t.is(table.head(99).rows, 3)
  t.is(table.slice(0).column('x').buffer, table.column('x').buffer, 'parts share memory')
})

test('rows of a file larger than a block come in tables of the size asked for, twice alike', async (t) => {
  const rows = 300_000
  const lines = ['i,name,half']
  for (let i = 0; i < rows; i++)
    lines.push(`${i},${i % 3 === 0 ? `"n, ${i % 7}"` : `n${i % 7}`},${i % 5 === 0 ? '' : i / 2}`)
  const file = fileOf(lines.join('\n'))
  const walk = tableRows(file, { batch: 7000 })
  for (let again = 0; again < 2; again++) {
    let at = 0
    const sizes = new Set<number>()
    for await (const part of walk) {
      sizes.add(part.rows)
      for (let k = 0; k < part.rows; k++, at++) {
        if (part.columns['i']?.[k] !== at) return t.fail(`row ${at}`)
        const name = at % 3 === 0 ? `n, ${at % 7}` : `n${at % 7}`
        if (part.texts['name']?.[k] !== name) return t.fail(`name in row ${at}`)
        const half = part.columns['half']?.[k] as number
        if (at % 5 === 0 ? !Number.isNaN(half) || part.missing['half']?.[k] !== 1 : half !== at / 2)
          return t.fail(`half in row ${at}`)
      }
    }
    t.is(at, rows)
    t.deepEqual([...sizes], [7000, rows % 7000])
  }
  const once = tableRows(createReadStream(file), { batch: 100_000 })
  t.is(typeof (once as AsyncGenerator).next, 'function', 'a stream can be walked once, which can be seen')
  let count = 0
  for await (const part of once) count += part.rows
  t.is(count, rows)
  return undefined
})

test('a stream that goes on for ever gives its rows as they come', async (t) => {
  let given = 0
  async function* endless() {
    yield 'x,y\n'
    for (;;) yield `${++given},${given / 4}\n`
  }
  for await (const part of tableRows(endless(), { batch: 4 })) {
    t.is(part.rows, 4)
    t.deepEqual([...part.column('y')].slice(0, 2), [part.column('x')[0]! / 4, part.column('x')[1]! / 4])
    if (given > 40) break
  }
  t.true(given < 100, `${given} rows were read for 40`)
})

test('errors name file, row and column, whatever the source', async (t) => {
  const file = fileOf('a,b\n1,2\n\n3,4\n5,oops\n')
  for (const read of [
    () => readTable(file),
    async () => {
      for await (const _ of tableRows(file));
    },
  ]) {
    const { message } = await rejects(t, 'ERR_S4_DATA', read)
    t.true(message.includes(`${file}: row 5, column b: expected a number, got "oops"`), message)
  }
  const ragged = fileOf('a,b\n1,2\n3\n')
  t.regex(
    (await rejects(t, 'ERR_S4_DATA', () => readTable(ragged))).message,
    /row 3: expected 2 fields, got 1/,
  )
  const twice = await rejects(t, 'ERR_S4_DATA', () => readTable(fileOf('a,a\n1,2\n')))
  t.regex(twice.message, /column 'a' twice/)
  const nowhere = join(folder, 'nowhere.csv')
  t.true((await rejects(t, 'ERR_S4_DATA', () => readTable(nowhere))).message.includes(nowhere))
  await rejects(t, 'ERR_S4_ABORTED', () => readTable(file, { signal: AbortSignal.abort() }))
})

test('tables of columns and of rows: numbers, booleans, bigints, dates, text, gaps', async (t) => {
  const day = (n: number) => new Date(Date.UTC(2020, 0, n))
  const columns = {
    f: Float32Array.of(1.5, 2.5, 3.5),
    big: BigInt64Array.of(1n, -2n, 2n ** 53n - 1n),
    mixed: [1, null, 3n],
    ok: [true, false, undefined],
    name: ['a', null, 'c'],
    when: [day(1), day(2), day(3)],
  }
  const expected = {
    rows: 3,
    names: ['f', 'big', 'mixed', 'ok', 'name'],
    columns: { f: [1.5, 2.5, 3.5], big: [1, -2, 2 ** 53 - 1], mixed: [1, NaN, 3], ok: [1, 0, NaN] },
    texts: { name: ['a', '', 'c'] },
    time: [1, 2, 3].map((n) => Date.UTC(2020, 0, n)),
  }
  t.deepEqual(plain(await tableFrom(columns)), expected)
  const rows = [0, 1, 2].map((i) =>
    Object.fromEntries(Object.entries(columns).map(([name, x]) => [name, x[i]])),
  )
  t.deepEqual(plain(await tableFrom(rows)), expected)
  async function* later() {
    yield* rows
  }
  t.deepEqual(plain(await tableFrom(later())), expected)
  const kept = Float64Array.of(1, NaN)
  const table = await tableFrom({ kept })
  t.is(table.columns['kept'], kept)
  t.deepEqual([...(table.missing['kept'] as Uint8Array)], [0, 1])
  const late = await tableFrom([{ a: 1 }, { a: 2, b: 'x' }, { b: 'y' }])
  t.deepEqual(plain(late).columns, { a: [1, 2, NaN] })
  t.deepEqual(late.texts, { b: ['', 'x', 'y'] })
  t.regex(
    (await rejects(t, 'ERR_S4_DATA', () => tableFrom([{ a: 1 }, { a: 'x' }]))).message,
    /row 2, column a/,
  )
  const own = new Error('of the database')
  const broken = (async function* () {
    yield { a: 1 }
    throw own
  })()
  t.is(await t.throwsAsync(() => tableFrom(broken)), own)
})

test('lines of JSON, as a table and as objects', async (t) => {
  const file = fileOf(
    '{"ds":"2020-01-01","y":1,"id":"a"}\n\n{"ds":"2020-01-02T06:00","y":null,"id":"b"}\r\n',
    'jsonl',
  )
  t.deepEqual(plain(await readJsonl(file, { time: 'ds' })), {
    rows: 2,
    names: ['y', 'id'],
    columns: { y: [1, NaN] },
    texts: { id: ['a', 'b'] },
    time: [Date.UTC(2020, 0, 1), Date.UTC(2020, 0, 2, 6)],
  })
  const rows = jsonlRows(file)
  for (let again = 0; again < 2; again++) {
    const ids = []
    for await (const row of rows) ids.push(row['id'])
    t.deepEqual(ids, ['a', 'b'])
  }
  for (const [text, words] of [
    ['{"a":1}\n{"a":\n', 'row 2'],
    ['[1]\n', 'row 1'],
    ['{"a":1}\n\n{"a":"x"}\n', 'row 3, column a'],
  ] as const) {
    const bad = fileOf(text, 'jsonl')
    const { message } = await rejects(t, 'ERR_S4_DATA', () => readJsonl(bad))
    t.true(message.includes(`${bad}: ${words}`), message)
  }
})

test('a table comes through standard input', (t) => {
  const program = `import { readTable, tableRows } from 's4-node/data'
    if (process.argv[1] === 'whole') console.log((await readTable(process.stdin)).columns.b.join())
    else for await (const part of tableRows(process.stdin, { batch: 2 })) console.log(part.columns.b.join())`
  for (const [how, out] of [
    ['whole', '2,4,6\n'],
    ['rows', '2,4\n6\n'],
  ] as const) {
    const args = ['--input-type=module', '-e', program, how]
    t.is(
      execFileSync(process.execPath, args, { cwd: root, input: 'a;b\n1;2\n3;4\n5;6\n', encoding: 'utf8' }),
      out,
    )
  }
})
