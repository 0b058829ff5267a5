// Text as words, as PyTorch's word_language_model reads WikiText-2: a folder with train.txt, valid.txt and test.txt.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Ids of a file's words, split at white space, with `<eos>` at the end of each line; `ids` gives a new word the next number. */
function idsOf(path, ids) {
  const lines = readFileSync(path, 'utf8').split('\n')
  if (lines.at(-1) === '') lines.pop()
  const out = []
  for (const line of lines)
    for (const word of [...line.split(/\s+/).filter(Boolean), '<eos>']) {
      let id = ids.get(word)
      if (id === undefined) ids.set(word, (id = ids.size))
      out.push(id)
    }
  return Int32Array.from(out)
}

/**
 * Windows of a test text, each `stride` further on: `from` is the first of its labels that counts, so that every token but the very
 * first is scored once, and from the second window on with at least window − stride tokens before it.
 */
export function testWindows(count, window, stride) {
  const windows = []
  for (let start = 0, scored = 0; scored < count - 1; start += stride) {
    const length = Math.min(window, count - 1 - start)
    windows.push({ start, length, from: scored - start })
    scored = start + length
  }
  return windows
}

/**
 * The data set of words. Training windows of `window` tokens begin at random places, one in each stretch of `window` tokens an
 * epoch; states begin at zero in each. Validation and test are scored by overlapping windows, `stride` apart.
 */
export function words(folder, { window = 512, stride = window / 2 } = {}) {
  const ids = new Map()
  const [train, valid, test] = ['train', 'valid', 'test'].map((part) =>
    idsOf(join(folder, `${part}.txt`), ids),
  )
  if (train.length < window + 1) throw new Error(`${folder}: train.txt has fewer than ${window + 1} words`)
  const examples = Array.from({ length: Math.floor((train.length - 1) / window) }, (_, i) => ({
    text: train,
    start: i * window,
    length: window,
  }))
  const scored = (name, text) => ({
    name,
    examples: testWindows(text.length, window, stride).map((one) => ({ ...one, text })),
  })
  const batch = (group, random) => {
    const length = Math.max(...group.map((example) => example.length))
    const shape = [group.length, length]
    // What does not count: padding, and labels that another window scores.
    const [data, target] = [
      new Int32Array(group.length * length),
      new Int32Array(group.length * length).fill(-1),
    ]
    group.forEach(({ text, start, length: own, from = 0 }, row) => {
      const most = text.length - 1 - own
      const at = random === undefined ? start : Math.min(start + Math.floor(random() * window), most)
      data.set(text.subarray(at, at + own), row * length)
      target.set(text.subarray(at + 1 + from, at + 1 + own), row * length + from)
    })
    return { input: { data, shape }, target: { data: target, shape } }
  }
  return {
    kind: 'tokens',
    model: { encoder: 'embedding', vocabulary: ids.size, output: ids.size },
    train: examples,
    batch,
    validation: scored('validation', valid),
    tests: [scored('test', test)],
    summary: {
      train: train.length,
      validation: valid.length,
      test: test.length,
      vocabulary: ids.size,
      window,
      stride,
    },
  }
}
