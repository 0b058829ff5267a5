/** Data made from a seed, and pictures read: what JavaScript gets, while it goes on. */
import { join } from 'node:path'
import test from 'ava'
import { generators, readPictures } from 's4-node'
import { rejects, root } from './helpers.js'

/** Value of an expression in words, by recursive descent. */
function valueOf(words: readonly string[]): number {
  let at = 0
  const node = (): number => {
    const word = words[at++] as string
    if (!word.startsWith('[')) return Number(word)
    const values: number[] = []
    while (words[at] !== ']') values.push(node())
    at++
    values.sort((a, b) => a - b)
    const n = values.length
    if (word === '[MIN') return values[0] as number
    if (word === '[MAX') return values[n - 1] as number
    if (word === '[SM') return values.reduce((a, b) => a + b, 0) % 10
    return Math.floor(((values[(n - 1) >> 1] as number) + (values[n >> 1] as number)) / 2)
  }
  const value = node()
  return at === words.length ? value : NaN
}

test('expressions have the values that they say, and are the same from the same seed', async (t) => {
  const made = await generators.listops({ count: 200, seed: 3 })
  t.deepEqual([made.offsets.length, made.labels.length, made.offsets[200]], [201, 200, made.tokens.length])
  for (let row = 0; row < 200; row++) {
    const tokens = made.tokens.subarray(made.offsets[row], made.offsets[row + 1])
    t.true(tokens.length > 500 && tokens.length < 2000, `row ${row}: ${tokens.length}`)
    const words = Array.from(tokens, (token) => made.words[token] as string)
    t.is(valueOf(words), made.labels[row] as number, `row ${row}`)
  }
  const fewer = await generators.listops({ count: 50, seed: 3 })
  t.deepEqual(fewer.tokens, made.tokens.slice(0, fewer.tokens.length))
  const other = await generators.listops({ count: 50 })
  t.notDeepEqual(other.tokens, fewer.tokens)
})

test('pictures come in pieces as they come whole', async (t) => {
  for (const [task, side] of [
    ['pathfinder', 32],
    ['pathx', 128],
  ] as const) {
    const whole = await generators[task]({ count: 8, seed: 5 })
    t.is(whole.side, side)
    t.deepEqual([whole.pixels.length, whole.labels.length], [8 * side * side, 8])
    t.true(whole.labels.every((label) => label === 0 || label === 1))
    for (let i = 0; i < 8; i++)
      t.is(Math.max(...whole.pixels.subarray(i * side * side, (i + 1) * side * side)), 255)
    const piece = await generators[task]({ count: 3, first: 4, seed: 5 })
    t.deepEqual(piece.pixels, whole.pixels.slice(4 * side * side, 7 * side * side))
    t.deepEqual(piece.labels, whole.labels.slice(4, 7))
    t.notDeepEqual((await generators[task]({ count: 8, seed: 6 })).pixels, whole.pixels)
  }
})

test.serial('JavaScript goes on while data are made', async (t) => {
  let turns = 0
  const timer = setInterval(() => turns++)
  await generators.listops({ count: 3000 })
  clearInterval(timer)
  // Work on the JavaScript thread would let no timer run before the promise is settled.
  t.true(turns > 0)
})

test('options that make nothing are refused before any work', async (t) => {
  for (const options of [
    {},
    { count: 0 },
    { count: 1.5 },
    { count: 1_000_001 },
    { count: 2, seed: -1 },
    { count: 2, seed: 0.5 },
    { count: 2, seeds: 1 },
    { count: 2, first: 1 },
  ])
    await rejects(t, 'ERR_S4_VALUE', generators.listops(options as { count: number }))
  for (const options of [{ count: 2 ** 22 }, { count: 1, first: -1 }, { count: 1, size: 32 }])
    await rejects(t, 'ERR_S4_VALUE', generators.pathfinder(options as { count: number }))
  await rejects(t, 'ERR_S4_VALUE', generators.pathx({ count: 2 ** 18 }))
})

/** Pillow wrote them: red 8y, green 8x, blue 4(x + y), grey as red (crates/data/tests/files/README.md). */
const picture = (name: string) => join(root, 'crates/data/tests/files', name)

test('pictures are read in order, as bytes', async (t) => {
  const read = await readPictures([picture('rgb.png'), picture('rgb.jpg')], { colours: 'rgb' })
  t.deepEqual([read.count, read.height, read.width, read.channels], [2, 32, 32, 3])
  for (let y = 0; y < 32; y++)
    for (let x = 0; x < 32; x++) {
      const at = 3 * (32 * y + x)
      const truth = [8 * y, 8 * x, 4 * (x + y)]
      t.deepEqual([...read.pixels.subarray(at, at + 3)], truth)
      for (let c = 0; c < 3; c++)
        t.true(Math.abs((read.pixels[3072 + at + c] as number) - (truth[c] as number)) <= 12)
    }
  const grey = await readPictures([picture('grey.png')])
  t.deepEqual([grey.channels, grey.pixels[32 * 5]], [1, 40])
})

test('what is no picture is refused with its path', async (t) => {
  await rejects(t, 'ERR_S4_VALUE', readPictures([]))
  await rejects(t, 'ERR_S4_VALUE', readPictures([picture('rgb.png')], { colours: 'cmyk' as 'rgb' }))
  await rejects(t, 'ERR_S4_VALUE', readPictures(['']))
  for (const paths of [
    [picture('f4.npy')],
    [picture('nowhere.png')],
    [picture('rgb.png'), picture('grey.png')],
  ]) {
    const error = await t.throwsAsync(readPictures(paths))
    t.is((error as { code?: string }).code, 'ERR_S4_DATA')
    t.true(error?.message.includes(paths.at(-1) as string), error?.message)
  }
})
