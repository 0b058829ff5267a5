// ListOps as the Long Range Arena has it: basic_{train,val,test}.tsv, a first line "Source<TAB>Target", then an expression and its value.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Token 0 is the end of an expression; parentheses, which the published files have around every argument, are dropped. */
const WORDS = ['<eos>', ...'0123456789', '[MIN', '[MAX', '[MED', '[SM', ']']
const TOKENS = new Map(WORDS.map((word, token) => [word, token]))
const [TAB, LINE, SPACE, OPEN, CLOSE] = ['\t', '\n', ' ', '(', ')'].map((c) => c.charCodeAt(0))

/** Examples of one file, at most `maxLength` tokens with the end. */
function examples(path, maxLength) {
  if (!existsSync(path)) throw new Error(`${path} is missing; s4 data listops makes it`)
  const bytes = readFileSync(path)
  const all = []
  // Half of the bytes are white space or more.
  const tokens = new Uint8Array((bytes.length >> 1) + maxLength)
  let [at, begin] = [bytes.indexOf(LINE) + 1, 0]
  for (let row = 2; at < bytes.length; row++) {
    let n = 0
    while (at < bytes.length && bytes[at] !== TAB) {
      const c = bytes[at]
      if (c === SPACE || c === OPEN || c === CLOSE) at++
      else {
        let end = at + 1
        while (end < bytes.length && bytes[end] !== SPACE && bytes[end] !== TAB) end++
        const token =
          end === at + 1 && c >= 48 && c < 58 ? c - 47 : TOKENS.get(bytes.toString('latin1', at, end))
        if (token === undefined)
          throw new Error(
            `${path}: line ${row}: '${bytes.toString('latin1', at, end)}' is no token of ListOps`,
          )
        if (n < maxLength - 1) tokens[begin + n++] = token
        at = end
      }
    }
    const end = bytes.indexOf(LINE, at) < 0 ? bytes.length : bytes.indexOf(LINE, at)
    const target = Number(bytes.toString('latin1', at + 1, end))
    if (!(target >= 0 && target < 10)) throw new Error(`${path}: line ${row}: no value of 0 to 9`)
    tokens[begin + n++] = 0
    all.push({ tokens: tokens.subarray(begin, begin + n), length: n, target })
    begin += n
    at = end + 1
  }
  return all
}

/** Published parts; validation chooses the checkpoint. */
export function listops(folder, { maxLength = 2048 } = {}) {
  const inside = existsSync(join(folder, 'listops')) ? join(folder, 'listops') : folder
  const [train, validation, test] = ['train', 'val', 'test'].map((part) =>
    examples(join(inside, `basic_${part}.tsv`), maxLength),
  )
  const tokens = (example) => example.tokens
  return {
    kind: 'classes',
    classes: 10,
    model: { encoder: 'embedding', vocabulary: WORDS.length, output: 10 },
    train,
    tokens,
    validation: { name: 'validation', examples: validation, tokens },
    tests: [{ name: 'test', examples: test, tokens }],
    summary: {
      train: train.length,
      validation: validation.length,
      test: test.length,
      vocabulary: WORDS.length,
    },
  }
}
