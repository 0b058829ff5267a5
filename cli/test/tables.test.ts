import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readParquet } from '../src/data/parquet.js'
import { SampleBytes } from '../src/data/sample-bytes.js'
import { fixtures, recordings, s4, scratch, waves } from './helpers.js'

const folder = scratch('tables')

// Written by pyarrow 22 with a compression for each column: snappy, zstd, gzip, lz4, none, brotli.
const parquet = join(fixtures, 'mixed.parquet')

test('Parquet: every kind of column, in every compression', async () => {
  const { rows, names, columns, texts, time } = await readParquet(parquet, { time: 'when' })
  assert.deepEqual([rows, names], [40, ['load', 'count', 'small', 'on', 'tag']])
  for (let i = 0; i < 40; i++) {
    assert.equal(time?.[i], Date.UTC(2024, 0, 1, i))
    if (i === 7) assert.ok(Number.isNaN(columns['load']?.[i]))
    else assert.ok(Math.abs(columns['load']![i]! - Math.sin(i / 3)) < 1e-15)
    assert.equal(columns['count']?.[i], 1e12 + i * i)
    assert.equal(columns['small']?.[i], i / 4)
    assert.equal(columns['on']?.[i], i % 3 === 0 ? 1 : 0)
    assert.equal(texts['tag']?.[i], i % 2 ? 'odd' : 'even')
  }
  const some = await readParquet(parquet, { names: ['small'] })
  assert.deepEqual([some.names, Object.keys(some.columns), some.time], [['small'], ['small'], undefined])
  await assert.rejects(readParquet(parquet, { names: ['nope'] }), /no column 'nope': when, load/)
  await assert.rejects(readParquet(parquet, { time: 'never' }), /no column 'never'/)
  const cut = join(folder, 'cut.parquet')
  writeFileSync(cut, readFileSync(parquet).subarray(0, 3000))
  await assert.rejects(readParquet(cut, {}), /cut\.parquet is no Parquet file that can be read/)
})

test('data show: what is in tables and recordings', () => {
  const shown = s4(['data', 'show', parquet, '--time', 'when', '--json'])
  assert.equal(shown.status, 0, shown.stderr)
  const { rows, from, to, columns } = JSON.parse(shown.stdout) as {
    rows: number
    from: string
    to: string
    columns: Record<string, unknown>[]
  }
  assert.deepEqual([rows, from, to], [40, '2024-01-01T00:00:00.000Z', '2024-01-02T15:00:00.000Z'])
  assert.deepEqual(
    columns.map(({ name, missing, texts }) => [name, missing ?? texts]),
    [
      ['load', 1],
      ['count', 0],
      ['small', 0],
      ['on', 0],
      ['tag', 2],
    ],
  )
  const small = columns.find(({ name }) => name === 'small') as { mean: number; least: number; most: number }
  assert.deepEqual([small.mean, small.least, small.most], [4.875, 0, 9.75])
  const sounds = recordings(join(folder, 'sounds'), 1, 8000)
  assert.match(
    s4(['data', 'show', sounds]).stdout,
    /low_0\.wav: sampleRate 8000, samples 2000, seconds 0\.25/,
  )
  assert.match(s4(['data', 'show', join(folder, 'sounds', '..', 'none')]).stderr, /none does not exist/)
})

test('how tables are read: delimiter, decimal sign, header, missing values, times', () => {
  const file = join(folder, 'german.csv')
  const lines = rowsOf(waves(60)).map(
    ([when, a, b]) => `${when};${a!.replace('.', ',')};${b === '10.00000' ? 'k.A.' : b!.replace('.', ',')}`,
  )
  writeFileSync(file, `${lines.join('\n')}\n`)
  const read = (more: string[]) => {
    const { status, stdout, stderr } = s4(['data', 'show', file, '--json', ...more])
    assert.equal(status, 0, stderr)
    return JSON.parse(stdout) as {
      rows: number
      from?: string
      columns: { name: string; missing: number; mean: number }[]
    }
  }
  const first = read(['--header', 'false', '--delimiter', ';', '--decimal', ',', '--missing', 'k.A.'])
  assert.equal(first.rows, 60)
  assert.ok(first.columns.some(({ mean }) => mean > 9 && mean < 11))
  writeFileSync(
    file,
    `when;a;b\n${lines.map((line) => line.replace(/^(\d+)-(\d+)-(\d+)/, '$3.$2.$1')).join('\n')}\n`,
  )
  const second = read([
    '--header',
    'true',
    '--time',
    'when',
    '--time-format',
    '%d.%m.%Y %H:%M',
    '--zone',
    'Europe/Berlin',
    '--decimal',
    ',',
    '--missing',
    'k.A.',
  ])
  assert.equal(second.from, '2023-12-31T23:00:00.000Z', 'midnight in Berlin')
  assert.deepEqual(
    second.columns.map(({ name }) => name),
    ['a', 'b'],
  )
  assert.deepEqual(
    read(['--columns', 'a', '--decimal', ',']).columns.map(({ name }) => name),
    ['a'],
  )
})

const rowsOf = (csv: string) =>
  csv
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','))

test('JSONL: columns by name, times, gaps; what is of text alone is refused', () => {
  const file = join(folder, 'rows.jsonl')
  const lines = Array.from({ length: 9 }, (_, t) =>
    JSON.stringify({ at: new Date(Date.UTC(2024, 1, 1 + t)), x: t === 4 ? null : t / 2, y: 'w' }),
  )
  writeFileSync(file, `${lines.join('\n')}\n`)
  const { stdout, status, stderr } = s4(['data', 'show', file, '--time', 'at', '--columns', 'x', '--json'])
  assert.equal(status, 0, stderr)
  const { from, rows, columns } = JSON.parse(stdout) as {
    from: string
    rows: number
    columns: { name: string; missing: number }[]
  }
  assert.deepEqual([from, rows, columns.length], ['2024-02-01T00:00:00.000Z', 9, 1])
  assert.equal(columns[0]!.missing, 1)
  assert.match(
    s4(['data', 'show', file, '--decimal', ',']).stderr,
    /--decimal is of tables of text, which .*rows\.jsonl is not/,
  )
  assert.match(
    s4(['data', 'show', parquet, '--time-format', '%Y']).stderr,
    /--time-format is of tables of text/,
  )
})

test('raw samples in pieces of any size are those of the whole', () => {
  const samples = Float32Array.from({ length: 100 }, (_, t) => Math.fround(Math.sin(t)))
  const bytes = Buffer.from(samples.buffer)
  const reader = new SampleBytes('f32')
  const got: number[] = []
  for (let at = 0; at < bytes.length; at += 7) got.push(...reader.push(bytes.subarray(at, at + 7)))
  assert.deepEqual(got, Array.from(samples))
  assert.deepEqual(
    [...new SampleBytes('u8').push(Buffer.from([0, 128, 255]))],
    [-1, 0, Math.fround(127 / 128)],
  )
  assert.deepEqual(
    [...new SampleBytes('i16').push(Buffer.from([0, 128, 255, 127]))],
    [-1, Math.fround(32767 / 32768)],
  )
})
