// IMDB reviews as characters, Long Range Arena's "Text": aclImdb/{train,test}/{pos,neg}/*.txt.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

function reviews(folder, part) {
  return ['neg', 'pos'].flatMap((name, target) => {
    const inside = join(folder, part, name)
    if (!existsSync(inside)) throw new Error(`${inside} is missing; --data names the folder aclImdb`)
    return readdirSync(inside)
      .filter((file) => file.endsWith('.txt'))
      .toSorted()
      .map((file) => ({ text: readFileSync(join(inside, file), 'utf8'), target }))
  })
}

/**
 * The data set of IMDB reviews. Token 0 stands for every rare character, token 1 for the end of a review; the others stand for the
 * characters that occur at least `minFrequency` times in the training reviews, most frequent first. Reviews are cut to `maxLength`
 * tokens, including the end. There is no validation set: with `chooseByTest` the test set chooses the epoch, as in the published
 * protocol.
 */
export function aclImdb(folder, { maxLength = 4096, minFrequency = 15, chooseByTest = false } = {}) {
  const inside = existsSync(join(folder, 'aclImdb')) ? join(folder, 'aclImdb') : folder
  const [train, test] = [reviews(inside, 'train'), reviews(inside, 'test')]
  const counts = new Map()
  for (const { text } of train) for (const c of text) counts.set(c, (counts.get(c) ?? 0) + 1)
  const kept = [...counts]
    .filter(([, n]) => n >= minFrequency)
    .toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
  const token = new Map(kept.map(([c], i) => [c, i + 2]))
  for (const example of [...train, ...test]) {
    const tokens = new Uint16Array(Math.min(maxLength, example.text.length + 1))
    let n = 0
    for (const c of example.text) {
      if (n === maxLength - 1) break
      tokens[n++] = token.get(c) ?? 0
    }
    tokens[n++] = 1
    example.tokens = tokens.subarray(0, n)
    example.length = n
    delete example.text
  }
  const vocabulary = kept.length + 2
  const tokens = (example) => example.tokens
  const tests = [{ name: 'test', examples: test, tokens }]
  return {
    kind: 'classes',
    classes: 2,
    model: { encoder: 'embedding', vocabulary, output: 2 },
    train,
    tokens,
    ...(chooseByTest ? { validation: tests[0] } : {}),
    tests,
    summary: { train: train.length, test: test.length, vocabulary },
  }
}
