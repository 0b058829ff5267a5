/** One column of a CSV file: what could be read in two ways is refused or said, and no value is lost or shifted. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { readCsv, type CsvOptions } from 's4-node'
import { refuses } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-csv-'))
let files = 0
function read(text: string, options?: CsvOptions): number[] {
  const file = join(folder, `${files++}.csv`)
  writeFileSync(file, text)
  return Array.from(readCsv(file, options))
}

test('a blank line in the only column is a gap, not the end and not nothing', (t) => {
  const error = refuses(t, 'ERR_S4_DATA', () => read('1\n\n3\n'))
  t.regex(error.message, /row 2.*empty field.*gaps: 'linear'/)
  t.deepEqual(read('1\n\n3\n', { gaps: 'linear' }), [1, 2, 3])
  t.regex(refuses(t, 'ERR_S4_DATA', () => read('x\n1\n\n3\n')).message, /row 3/)
  t.deepEqual(read('x\n1\n3\n\n'), [1, 3], 'the last line may be blank')
})

test('a header of numbers is data unless the options say that it is one', (t) => {
  const text = '2020,2021\n1,2\n3,4\n'
  t.deepEqual(read(text), [2021, 2, 4])
  t.deepEqual(read(text, { header: true }), [2, 4])
  t.deepEqual(read(text, { column: '2021' }), [2, 4], 'a name asks for names')
  t.deepEqual(read(text, { column: 0, header: false }), [2020, 1, 3])
})

test('a bad first value is not taken for a header', (t) => {
  for (const options of [undefined, { column: 0 }])
    t.regex(refuses(t, 'ERR_S4_DATA', () => read('x1,2\n3,4\n', options)).message, /row 1.*option header/)
  t.deepEqual(read('x1,2\n3,4\n', { header: true }), [4])
  t.regex(refuses(t, 'ERR_S4_DATA', () => read('x1,2\n3,4\n', { column: 0, header: false })).message, /row 1/)
})

test('semicolons separate fields, and the comma is then the decimal sign', (t) => {
  t.deepEqual(read('2020;1,5\n2021;2,5\n'), [1.5, 2.5])
  t.deepEqual(read('2020;1,5\n2021;2,5\n', { column: 0 }), [2020, 2021])
  t.deepEqual(read('year;price\n2020;1,5\n2021;-0,25\n', { column: 'price' }), [1.5, -0.25])
  t.deepEqual(read('a\tb\n1\t2\n3\t4\n'), [2, 4])
})
