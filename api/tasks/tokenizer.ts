// Text as tokens and back: bytes, characters, or a caller's own tokeniser.
import { membersOf, oneOf, wholeNumber } from '../check.js'
import { describe, fail, readGiven } from '../error.js'
import { integers } from '../tensor.js'

/** Makes tokens of text, and text of tokens. Both must say the same every time. */
export interface Tokenizer {
  /** The tokens of a text: whole numbers from 0. */
  encode: (text: string) => ArrayLike<number>
  /** The text of tokens. Where they end within a character it may end in U+FFFD. */
  decode: (tokens: number[]) => string
  /** Number of different tokens. Default one more than the largest of the text that is learned. */
  size?: number
}

/** Tokens that a generator knows by itself, or a tokeniser. */
export type TokenKind = 'bytes' | 'characters' | Tokenizer

/** A tokeniser whose text comes piece by piece. */
export interface Codec {
  readonly kind: 'bytes' | 'characters' | 'own'
  /** Number of different tokens. */
  readonly size: number
  /** The characters, in the order of their tokens. */
  readonly characters?: string
  /** Whether characters that are none of these are one more token; else they are refused. */
  readonly hasOthers?: boolean
  encode: (op: string, what: string, text: string | Uint8Array) => Int32Array
  /** Gives the text of tokens as they come after those of a prompt, never a part of a character. */
  decoder: (prompt: Int32Array) => (token: number) => string
}

/** Bytes as text; `ERR_S4_DATA` where they are not UTF-8. */
export function textOfBytes(op: string, what: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw fail('ERR_S4_DATA', op, `${what} in UTF-8`, 'other bytes')
  }
}

const stringOf = (op: string, what: string, text: string | Uint8Array) =>
  typeof text === 'string' ? text : textOfBytes(op, what, text)

/** The 256 bytes; text is UTF-8. */
export const bytesCodec = (): Codec => ({
  kind: 'bytes',
  size: 256,
  encode: (op, what, text) =>
    // Bytes may be on a buffer that is gone.
    readGiven(op, what, () =>
      Int32Array.from(typeof text === 'string' ? new TextEncoder().encode(text) : text),
    ),
  decoder: () => {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    return (token) => decoder.decode(Uint8Array.of(token), { stream: true })
  },
})

/** The characters (code points) of a text; with `hasOthers` all others are one more token. */
export function charactersCodec(characters: string, hasOthers = false): Codec {
  const list = Array.from(characters)
  const other = hasOthers ? list.length : undefined
  const tokens = new Map(list.map((character, token) => [character, token]))
  return {
    kind: 'characters',
    size: list.length + (hasOthers ? 1 : 0),
    characters,
    hasOthers,
    encode: (op, what, text) => {
      const given = stringOf(op, what, text)
      const out = new Int32Array(given.length)
      let count = 0
      for (const character of given) {
        const token = tokens.get(character) ?? other
        if (token === undefined)
          throw fail('ERR_S4_DATA', op, `${what} of characters that were learned`, JSON.stringify(character))
        out[count++] = token
      }
      return out.slice(0, count)
    },
    decoder: () => (token) => list[token] ?? (token === other ? '\uFFFD' : ''),
  }
}

/** The codec of all characters in texts, in the order of their code points. */
export function charactersOf(texts: readonly string[]): Codec {
  const found = new Set<string>()
  for (const text of texts) for (const character of text) found.add(character)
  return charactersCodec(inOrder(found))
}

/** Characters in the order of their code points. */
export const inOrder = (characters: Iterable<string>): string =>
  [...characters].toSorted((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number)).join('')

/** A caller's tokeniser after the check. */
export interface CheckedTokenizer extends Tokenizer {
  size: number | undefined
}

/** Checks a caller's tokeniser. */
export function checkTokenizer(op: string, given: unknown): CheckedTokenizer {
  const { encode, decode, size } = membersOf(op, 'tokens', given, 'ERR_S4_VALUE', [
    'encode',
    'decode',
    'size',
  ])
  for (const [name, f] of Object.entries({ encode, decode }))
    if (typeof f !== 'function') throw fail('ERR_S4_VALUE', op, `tokens.${name} as a function`, describe(f))
  const call = given as Tokenizer
  return {
    encode: (text) => call.encode(text),
    decode: (tokens) => call.decode(tokens),
    size: size === undefined ? undefined : wholeNumber(op, 'tokens.size', size, 1, 2 ** 24),
  }
}

/** What the option `tokens` may be, after the check. */
export type CheckedTokens = 'bytes' | 'characters' | CheckedTokenizer

/** Checks the option `tokens`. */
export function checkTokens(op: string, tokens: unknown): CheckedTokens {
  if (typeof tokens === 'object' && tokens !== null) return checkTokenizer(op, tokens)
  return oneOf(op, 'tokens', tokens, ['bytes', 'characters'] as const)
}

/** A caller's tokeniser as a codec; what it throws comes back as it is. */
export function ownCodec(tokenizer: CheckedTokenizer, size: number): Codec {
  return {
    kind: 'own',
    size,
    encode: (op, what, text) => ownTokens(op, what, tokenizer, stringOf(op, what, text), size),
    decoder: (prompt) => ownDecoder(tokenizer, prompt),
  }
}

/** What a caller's tokeniser makes of a text, checked. */
export function ownTokens(
  op: string,
  what: string,
  tokenizer: CheckedTokenizer,
  text: string,
  size = tokenizer.size ?? 2 ** 24,
): Int32Array {
  const given: unknown = tokenizer.encode(text)
  const isList = typeof given === 'object' && given !== null
  const length: unknown = readGiven(op, 'tokens.encode', () =>
    isList ? (given as { length?: unknown }).length : undefined,
  )
  if (typeof length !== 'number')
    throw fail('ERR_S4_VALUE', op, 'an array of tokens from tokens.encode', describe(given))
  const tokens = Int32Array.from(integers(op, `the tokens of ${what}`, given as ArrayLike<number>))
  const wrong = tokens.find((token) => token < 0 || token >= size)
  if (wrong !== undefined)
    throw fail('ERR_S4_VALUE', op, `tokens from 0 to ${size - 1} from tokens.encode`, wrong)
  return tokens
}

/** Most tokens before those that are new, which a tokeniser may look at. */
const CONTEXT = 8

/**
 * The text of tokens as they come. What a token adds is the difference of two decodings that begin at the same place, so that
 * a tokeniser that strips a space at the beginning of a text loses none, nor that between a prompt and what follows; while the text ends in U+FFFD a character is not whole.
 */
function ownDecoder(tokenizer: CheckedTokenizer, prompt: Int32Array): (token: number) => string {
  let tokens = Array.from(prompt.subarray(-CONTEXT))
  let given = tokens.length
  return (token) => {
    tokens.push(token)
    const before = given === 0 ? '' : tokenizer.decode(tokens.slice(0, given))
    const all = tokenizer.decode([...tokens])
    if (typeof all !== 'string' || typeof before !== 'string')
      throw fail('ERR_S4_VALUE', 'Generator.generate', 'a text from tokens.decode', describe(all))
    if (all.endsWith('\uFFFD') && tokens.length - given < CONTEXT) return ''
    const text = all.slice(before.length)
    tokens = tokens.slice(-CONTEXT)
    given = tokens.length
    return text
  }
}

/** What a file says of tokens, as JSON. */
export type SavedTokens = Pick<Codec, 'kind' | 'size' | 'characters' | 'hasOthers'>

export const savedTokens = ({ kind, size, characters, hasOthers }: Codec): SavedTokens => ({
  kind,
  size,
  ...(characters !== undefined && { characters }),
  ...(hasOthers === true && { hasOthers }),
})

/**
 * The codec that a file of `task` says, a caller's tokeniser in it where that is one. Undefined where the file is damaged;
 * `ERR_S4_VALUE` where there is no tokeniser, or one too many.
 */
export function savedCodec(
  op: string,
  task: 'generator' | 'classifier',
  saved: Partial<SavedTokens> | undefined,
  tokenizer: CheckedTokenizer | undefined,
): Codec | undefined {
  const { kind, size, characters, hasOthers } = saved ?? {}
  if (kind === 'own' && tokenizer === undefined)
    throw fail('ERR_S4_VALUE', op, `'tokens', the tokeniser that the ${task} was made with`, 'none')
  if (kind !== 'own' && tokenizer !== undefined)
    throw fail('ERR_S4_VALUE', op, `no 'tokens' for a ${task} of ${String(kind)}`, 'a tokeniser')
  const codec =
    kind === 'bytes'
      ? bytesCodec()
      : kind === 'characters' && typeof characters === 'string'
        ? charactersCodec(characters, hasOthers === true)
        : kind === 'own' && tokenizer !== undefined && Number.isSafeInteger(size)
          ? ownCodec(tokenizer, size as number)
          : undefined
  return codec?.size === size ? codec : undefined
}
