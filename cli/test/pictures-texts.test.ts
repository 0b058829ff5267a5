/** `s4 train classify` on pictures and texts: folders, files of many, tables; prediction, figures, streams; what is refused. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { deflateSync, gzipSync, crc32 } from 'node:zlib'
import { json, rows, s4, scratch } from './helpers.js'
import { diagonal, idx, texts, uniform } from './made.js'

const folder = scratch('pictures')
const small = ['--features', '16', '--layers', '2', '--state', '8', '--batch-size', '8', '--device', 'cpu']

interface Scores {
  examples: number
  accuracy: number
}
const scoresOf = (run: string) => json(join(run, 'result.json')) as { scores: Scores; classes: unknown[] }

/** A PNG of grey levels. */
function png(pixels: Uint8Array, side: number): Buffer {
  const chunk = (name: string, body: Buffer): Buffer => {
    const data = Buffer.concat([Buffer.from(name, 'latin1'), body])
    const out = Buffer.alloc(8 + data.length)
    out.writeUInt32BE(body.length, 0)
    data.copy(out, 4)
    out.writeUInt32BE(crc32(data), 4 + data.length)
    return out
  }
  const head = Buffer.from([0, 0, 0, side, 0, 0, 0, side, 8, 0, 0, 0, 0])
  const lines = Array.from({ length: side }, (_, r) => [0, ...pixels.subarray(r * side, (r + 1) * side)])
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]),
    chunk('IHDR', head),
    chunk('IDAT', deflateSync(Buffer.from(lines.flat()))),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

test('pictures in folders of train and test: learned, judged by the test part, told', () => {
  const random = uniform(1)
  const data = join(folder, 'png')
  for (const [part, count] of [
    ['train', 80],
    ['test', 20],
  ] as const)
    for (let i = 0; i < count; i++) {
      const place = join(data, part, i % 2 === 0 ? 'down' : 'up')
      mkdirSync(place, { recursive: true })
      writeFileSync(join(place, `${i}.png`), png(diagonal(6, i % 2, random), 6))
    }
  const run = join(folder, 'png-run')
  const trained = s4(['train', 'classify', data, '--out', run, '--epochs', '15', ...small])
  assert.equal(trained.status, 0, trained.stderr)
  const { scores, classes } = scoresOf(run)
  assert.deepEqual([scores.examples, classes], [20, ['down', 'up']])
  assert.ok(scores.accuracy >= 0.85, trained.stdout)
  const said = rows(s4(['predict', run, join(data, 'test')]).stdout)
  assert.equal(said.filter(([file, label]) => file!.includes(`/${label}/`)).length, scores.accuracy * 20)
  const shown = s4(['data', 'show', join(data, 'test', 'up', '1.png'), '--json'])
  const { height, width, channels } = JSON.parse(shown.stdout) as Record<string, number>
  assert.deepEqual([height, width, channels], [6, 6, 1])
  const inside = s4(['inspect', run, '--data', join(data, 'test', 'up')])
  assert.equal(
    inside.stdout.match(/input gradients \d, steps 1 to 6: \|[ ▁▂▃▄▅▆▇█]{6}\|/g)?.length,
    8,
    inside.stderr,
  )
  const html = readFileSync(join(run, 'report.html'), 'utf8')
  for (const label of ['timescales', 'frequency response', 'kernels of blocks.0', 'kernels of blocks.1'])
    assert.ok(html.includes(`aria-label="${label}"`), label)
  assert.equal(/NaN|undefined|Infinity/.exec(html)?.[0], undefined)
  // Of several folders each is a class.
  const each = s4([
    'eval',
    run,
    join(data, 'test', 'up'),
    join(data, 'test', 'down'),
    '--colours',
    'grey',
    '--json',
  ])
  assert.equal((JSON.parse(each.stdout) as Scores).accuracy, scores.accuracy, each.stderr)
})

test('IDX pairs, compressed too: the files of the name t10k are the test part; a step a pixel', () => {
  const random = uniform(2)
  const data = join(folder, 'idx')
  mkdirSync(data)
  for (const [name, count] of [
    ['train', 90],
    ['t10k', 24],
  ] as const) {
    const pictures = Array.from({ length: count }, (_, i) => diagonal(5, i % 2, random))
    const bytes = idx([count, 5, 5], Buffer.concat(pictures))
    const file = join(data, `${name}-images-idx3-ubyte`)
    writeFileSync(name === 'train' ? `${file}.gz` : file, name === 'train' ? gzipSync(bytes) : bytes)
    const labels = idx(
      [count],
      Uint8Array.from({ length: count }, (_, i) => i % 2),
    )
    const beside = join(data, `${name}-labels-idx1-ubyte`)
    writeFileSync(name === 'train' ? `${beside}.gz` : beside, name === 'train' ? gzipSync(labels) : labels)
  }
  const run = join(folder, 'idx-run')
  const trained = s4([
    'train',
    'classify',
    data,
    '--out',
    run,
    '--scan',
    'pixels',
    '--epochs',
    '30',
    ...small,
  ])
  assert.equal(trained.status, 0, trained.stderr)
  assert.match(trained.stderr, /25 steps in the middle/)
  const { scores, classes } = scoresOf(run)
  assert.deepEqual([scores.examples, classes], [24, [0, 1]])
  assert.ok(scores.accuracy >= 0.85, trained.stdout)
  const said = rows(s4(['predict', run, join(data, 't10k-images-idx3-ubyte')]).stdout)
  assert.equal(
    said.filter(([, label], i) => Number(label) === i % 2).length,
    Math.round(scores.accuracy * 24),
  )
})

test('CIFAR-10: names of the classes, and the batch that is the test', () => {
  const random = uniform(3)
  const data = join(folder, 'cifar')
  mkdirSync(data)
  const names = ['airplane', 'automobile', ...Array.from('abcdefgh')]
  writeFileSync(join(data, 'batches.meta.txt'), `${names.join('\n')}\n\n`)
  for (const [file, count] of [
    ['data_batch_1.bin', 40],
    ['test_batch.bin', 20],
  ] as const)
    writeFileSync(
      join(data, file),
      Buffer.concat(
        Array.from({ length: count }, (_, i) => {
          const plane = diagonal(32, i % 2, random)
          return Buffer.concat([Buffer.of(i % 2), plane, plane.map((v) => v >> 1), Buffer.alloc(1024)])
        }),
      ),
    )
  const run = join(folder, 'cifar-run')
  const trained = s4(['train', 'classify', data, '--out', run, '--epochs', '20', ...small])
  assert.equal(trained.status, 0, trained.stderr)
  const { scores, classes } = scoresOf(run)
  assert.deepEqual([scores.examples, classes], [20, ['airplane', 'automobile']])
  assert.ok(scores.accuracy >= 0.85, trained.stdout)
})

test('texts as aclImdb has them: classes that are taken, the rest left out aloud; a stream of text', () => {
  const data = join(folder, 'aclImdb')
  const put = (place: string, name: string, text: string) => {
    mkdirSync(join(data, place), { recursive: true })
    writeFileSync(join(data, place, name), text)
  }
  texts(90, 4).forEach(({ text, label }, i) => put(`train/${label}`, `${i}.txt`, text))
  texts(30, 5).forEach(({ text, label }, i) => put(`test/${label}`, `${i}.txt`, text))
  put('train/unsup', '0.txt', 'abc')
  put('train', 'urls_pos.txt', 'x')
  const run = join(folder, 'texts-run')
  const args = ['train', 'classify', data, '--out', run, '--epochs', '25', '--max-length', '40', ...small]
  assert.match(s4(args).stderr, /urls_pos\.txt is in no folder of a class/)
  const trained = s4([...args, '--classes', 'pos,neg'])
  assert.equal(trained.status, 0, trained.stderr)
  assert.match(trained.stderr, /left out by --classes: 1 of 'unsup', 1 of no class/)
  const { scores, classes } = scoresOf(run)
  assert.deepEqual([scores.examples, classes], [30, ['neg', 'pos']])
  assert.ok(scores.accuracy >= 0.85, trained.stdout)
  const figures = s4(['eval', run, join(data, 'test'), '--json'])
  assert.equal((JSON.parse(figures.stdout) as Scores).accuracy, scores.accuracy, figures.stderr)
  const heard = s4(
    ['stream', run, '--window', '24', '--hop', '8', '--reports'],
    'abc '.repeat(20) + 'cba '.repeat(20),
  )
  assert.deepEqual(
    rows(heard.stdout).map(([, label]) => label),
    ['pos', 'neg'],
    heard.stderr,
  )
  // What no one learned cannot be judged.
  put('test/other', '0.txt', 'abc')
  const unknown = s4([...args, '--out', join(folder, 'unknown'), '--classes', 'pos,neg,other'])
  assert.equal(unknown.status, 2)
  assert.match(unknown.stderr, /the test part has examples of classes that are not learned: 1 of 'other'/)
})

test('texts in a table: the one column of text, or the named one', () => {
  const table = join(folder, 'reviews.csv')
  const lines = texts(110, 6).map(({ text, label }, i) => `"${text},\n${text}",${label},${i % 5}`)
  writeFileSync(table, `review,sentiment,stars\n${lines.join('\n')}\n`)
  const run = join(folder, 'table-run')
  const args = ['train', 'classify', table, '--label-column', 'sentiment', '--tokens', 'characters']
  const trained = s4([...args, '--text-column', 'review', '--out', run, '--epochs', '25', ...small])
  assert.equal(trained.status, 0, trained.stderr)
  const { scores } = scoresOf(run)
  assert.ok(scores.accuracy >= 0.85, trained.stdout)
  const said = rows(s4(['predict', run, table, '--text-column', 'review']).stdout)
  const right = said.filter(([, label], i) => label === (i % 2 === 0 ? 'pos' : 'neg'))
  assert.ok(right.length >= 0.85 * 110, `${right.length}`)
  const missing = join(folder, 'missing.csv')
  writeFileSync(missing, 'review,sentiment\nabc,pos\n,neg\n')
  const more = (...others: string[]) =>
    s4(['train', 'classify', missing, '--label-column', 'sentiment', ...others]).stderr
  assert.match(more(), /missing\.csv: row 2 has no text in column 'review'/)
  assert.match(more('--text-column', 'stars'), /no column of text 'stars': review, sentiment/)
  assert.match(s4(['predict', run, table]).stderr, /columns of text review, sentiment: --text-column/)
  const audio = s4(['predict', run, join(folder, 'png')])
  assert.match(audio.stderr, /no data of a classifier of the kind 'text'/)
})
