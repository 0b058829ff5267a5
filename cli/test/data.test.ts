import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { generators } from 's4-node'
import { npyHeader } from '../src/taskfiles.js'

const command = fileURLToPath(new URL('../../bin/s4.mjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 's4-data-'))
after(() => rmSync(folder, { recursive: true }))
const s4 = (...args: string[]) => spawnSync(process.execPath, [command, ...args], { encoding: 'utf8' })
const make = (out: string, ...args: string[]) => {
  const { status, stderr, stdout } = s4('data', args[0], join(folder, out), ...args.slice(1))
  assert.equal(status, 0, stderr)
  assert.equal(stdout, `data: ${join(folder, out)}\n`)
  return join(folder, out)
}

/** Value of an expression by a stack of open operators. */
function valueOf(expression: string): number {
  const open: { operator: string; values: number[] }[] = [{ operator: '', values: [] }]
  for (const word of expression.split(' ')) {
    if (word === ']') {
      const { operator, values } = open.pop()!
      const sorted = values.toSorted((a, b) => a - b)
      assert.ok(values.length >= 2 && values.length <= 10, expression)
      const middle = sorted.length / 2
      const value = {
        '[MIN': sorted[0],
        '[MAX': sorted.at(-1)!,
        '[SM': values.reduce((a, b) => a + b) % 10,
        '[MED': Math.trunc((sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2),
      }[operator]
      assert.ok(value !== undefined, operator)
      open.at(-1)!.values.push(value)
    } else if (word.startsWith('[')) open.push({ operator: word, values: [] })
    else {
      assert.match(word, /^\d$/)
      open.at(-1)!.values.push(Number(word))
    }
  }
  assert.deepEqual([open.length, open[0].values.length], [1, 1], expression)
  return open[0].values[0]
}

test('ListOps: every label is what its expression says, and the shares are the published ones', () => {
  const out = make('listops', 'listops', '--train', '20000', '--validation', '30', '--test', '20')
  assert.deepEqual(readdirSync(out).toSorted(), ['basic_test.tsv', 'basic_train.tsv', 'basic_val.tsv'])
  const parts = ['train', 'val', 'test'].map((part) => {
    const [head, ...lines] = readFileSync(join(out, `basic_${part}.tsv`), 'utf8')
      .trimEnd()
      .split('\n')
    assert.equal(head, 'Source\tTarget')
    return lines.map((line) => line.split('\t'))
  })
  assert.deepEqual(
    parts.map((part) => part.length),
    [20_000, 30, 20],
  )
  const all = parts.flat()
  assert.equal(new Set(all.map(([expression]) => expression)).size, all.length, 'no two are the same')
  const counts = Array.from({ length: 10 }, () => 0)
  for (const [expression, label] of all) {
    const length = expression.split(' ').length
    assert.ok(length > 500 && length < 2000, `${length} tokens`)
    assert.equal(valueOf(expression), Number(label), expression)
    counts[Number(label)]++
  }
  // Of 20,050 a share of 17 % has a deviation of .27 points.
  const shares = counts.map((n) => (100 * n) / all.length)
  assert.ok(Math.abs(shares[0] - 17.4) < 1 && Math.abs(shares[9] - 16.7) < 1, `${shares}`)
  assert.ok(
    shares.slice(1, 9).every((share) => share > 7.5 - 1 && share < 8.8 + 1),
    `${shares}`,
  )
})

test('the same seed makes the same files', async () => {
  const read = (out: string, file: string) => readFileSync(join(out, file))
  for (const [task, files, ...args] of [
    [
      'listops',
      ['basic_train.tsv', 'basic_val.tsv', 'basic_test.tsv'],
      '--train',
      '40',
      '--test',
      '3',
      '--validation',
      '3',
    ],
    ['pathfinder', ['pictures.npy', 'labels.npy'], '--count', '50'],
    ['pathx', ['pictures.npy', 'labels.npy'], '--count', '5'],
  ] as [string, string[], ...string[]][]) {
    const [a, b, c] = [
      make(`${task}-a`, task, ...args),
      make(`${task}-b`, task, ...args, '--seed', '42'),
      make(`${task}-c`, task, ...args, '--seed', '43'),
    ]
    for (const file of files) assert.deepEqual(read(a, file), read(b, file), file)
    assert.notDeepEqual(read(a, files[0]), read(c, files[0]))
  }
})

test('pictures and labels are arrays of NumPy, also of several pieces', async () => {
  const count = 8200
  const out = make('pieces', 'pathfinder', '--count', String(count), '--seed', '7')
  const [pictures, labels] = ['pictures.npy', 'labels.npy'].map((file) => readFileSync(join(out, file)))
  const header = (bytes: Buffer) => bytes.toString('latin1', 10, 10 + bytes.readUInt16LE(8))
  assert.deepEqual([...pictures.subarray(0, 8)], [0x93, ...Buffer.from('NUMPY'), 1, 0])
  assert.match(
    header(pictures),
    /^\{'descr': '\|u1', 'fortran_order': False, 'shape': \(8200, 32, 32\), \} *\n$/,
  )
  assert.match(header(labels), /'shape': \(8200,\)/)
  assert.deepEqual([pictures.length, labels.length], [128 + count * 1024, 128 + count])
  // The last picture of the first piece and the first ones of the second.
  const made = await generators.pathfinder({ count: 3, first: 8191, seed: 7 })
  assert.deepEqual(
    Uint8Array.from(pictures.subarray(128 + 8191 * 1024, 128 + 8194 * 1024)),
    Uint8Array.from(made.pixels),
  )
  assert.deepEqual([...labels.subarray(128 + 8191, 128 + 8194)], [...made.labels])
  const ones = labels.subarray(128).reduce((a, b) => a + b, 0)
  // A fair coin: one deviation is 45.
  assert.ok(Math.abs(ones - count / 2) < 200, `${ones} of ${count}`)
})

test('a header of any length ends at a multiple of 64 bytes', () => {
  for (let digits = 1; digits <= 12; digits++) {
    const head = npyHeader([10 ** digits, 32, 32])
    assert.equal(head.length % 64, 0)
    assert.equal(head.readUInt16LE(8), head.length - 10)
    assert.equal(head.at(-1), 10)
  }
})

test('mistakes and what is there already', () => {
  const one = (args: string[], status: number, message: RegExp) => {
    const { status: code, stderr } = s4('data', ...args)
    assert.equal(code, status, `${args.join(' ')}: ${stderr}`)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at /, 'no stack')
  }
  const out = join(folder, 'mistakes')
  one([], 2, /show.*listops.*pathfinder/s)
  one(['listops'], 2, /missing required argument 'OUT'/)
  one(['sudoku', out], 2, /unknown command 'sudoku'/)
  one(['listops', out, '--count', '3'], 2, /unknown option '--count'/)
  one(['pathx', out, '--train', '3'], 2, /unknown option '--train'/)
  one(['pathfinder', out, '--count', '0'], 2, /--count is a whole number of at least 1/)
  const made = make('there', 'pathfinder', '--count', '4')
  const before = readFileSync(join(made, 'pictures.npy'))
  one(['pathfinder', made, '--count', '5'], 1, /pictures\.npy is there already/)
  assert.deepEqual(readFileSync(join(made, 'pictures.npy')), before)
})
