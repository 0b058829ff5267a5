// The tokens of the texts that a classifier learns from.
import { fail } from '../error.js'
import {
  bytesCodec,
  charactersCodec,
  inOrder,
  ownCodec,
  ownTokens,
  type CheckedTokens,
  type Codec,
} from './tokenizer.js'

/**
 * What makes tokens of the texts of a training, and of those that come later. Characters that only one of the texts has tell nothing of
 * others: with those that none has they are one token, so that no text is refused for its characters.
 */
export function textCodec(op: string, texts: readonly string[], kind: CheckedTokens): Codec {
  if (kind === 'bytes') return bytesCodec()
  if (kind === 'characters') {
    const [once, often] = [new Set<string>(), new Set<string>()]
    for (const text of texts)
      for (const character of new Set(text)) (once.has(character) ? often : once).add(character)
    return charactersCodec(inOrder(often), true)
  }
  if (kind.size !== undefined) return ownCodec(kind, kind.size)
  let most = -1
  for (const text of texts)
    for (const token of ownTokens(op, 'input of each of examples', kind, text)) most = Math.max(most, token)
  if (most < 0) throw fail('ERR_S4_DATA', op, 'input of each of examples as a text with tokens', 'empty ones')
  return ownCodec(kind, most + 1)
}
