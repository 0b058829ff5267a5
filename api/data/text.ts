import { describe, fail, readGiven } from '../error.js'
import { textOf } from '../check.js'

/** Makes tokens of text, and text of tokens. */
export interface TextTokens {
  /** Number of different tokens. */
  readonly size: number
  /** The tokens of a text: whole numbers from 0. */
  encode(text: string): Int32Array
  /** The text of tokens. */
  decode(tokens: ArrayLike<number>): string
}

function tokenList(op: string, x: unknown, size: number): number[] {
  return readGiven(op, 'tokens', () => {
    const length: unknown = typeof x === 'object' && x !== null ? (x as ArrayLike<number>).length : undefined
    const isView = Object.prototype.toString.call(x) === '[object DataView]'
    if (isView || !Number.isSafeInteger(length) || (length as number) < 0 || (length as number) > 2 ** 30)
      throw fail('ERR_S4_DTYPE', op, 'tokens as an array of whole numbers', describe(x))
    const token = (i: number) => {
      const value: unknown = (x as ArrayLike<unknown>)[i]
      if (!Number.isInteger(value) || (value as number) < 0 || (value as number) >= size)
        throw fail('ERR_S4_VALUE', op, `tokens from 0 to ${size - 1}`, `${describe(value)} at index ${i}`)
      return value as number
    }
    if ((length as number) > 0) token((length as number) - 1)
    return Array.from({ length: length as number }, (_, i) => token(i))
  })
}

/** The 256 bytes of UTF-8 as tokens. */
export const byteTokens: TextTokens = Object.freeze({
  size: 256,
  encode: (text: string) =>
    Int32Array.from(new TextEncoder().encode(textOf('byteTokens.encode', 'text', text))),
  decode: (tokens: ArrayLike<number>) =>
    new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      Uint8Array.from(tokenList('byteTokens.decode', tokens, 256)),
    ),
})

/**
 * The characters (code points) of a text as tokens, in the order of their code points. A text with another character is
 * `ERR_S4_DATA`.
 */
export function characterTokens(text: string): TextTokens {
  const op = 'characterTokens'
  const list = [...new Set(textOf(op, 'text', text))].toSorted(
    (a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number),
  )
  if (list.length === 0) throw fail('ERR_S4_VALUE', op, 'text with characters', 'none')
  const places = new Map(list.map((character, token) => [character, token]))
  return Object.freeze({
    size: list.length,
    encode: (given: string) =>
      Int32Array.from(Array.from(textOf('characterTokens.encode', 'text', given)), (character) => {
        const token = places.get(character)
        if (token === undefined)
          throw fail(
            'ERR_S4_DATA',
            'characterTokens.encode',
            'text of characters that were seen',
            JSON.stringify(character),
          )
        return token
      }),
    decode: (tokens: ArrayLike<number>) =>
      tokenList('characterTokens.decode', tokens, list.length)
        .map((token) => list[token] as string)
        .join(''),
  })
}
