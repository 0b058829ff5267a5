// What the data of a training are, in a few characters: a run goes on with the same ones alone.
import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { throwIfAborted } from '../error.js'

/** Bytes that are taken at a time: a hash takes less than 2 GiB, and between two pieces other work goes on. */
const PIECE = 2 ** 23

/** A digest (SHA-256) of arrays and texts in their order, the borders between them included. */
export async function dataDigest(
  op: string,
  parts: Iterable<ArrayBufferView | string>,
  signal: AbortSignal | undefined,
): Promise<string> {
  const hash = createHash('sha256')
  let waiting = 0
  for (const part of parts) {
    const bytes =
      typeof part === 'string'
        ? Buffer.from(part)
        : new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
    hash.update(`${bytes.length}:`)
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE)
      hash.update(piece)
      waiting += piece.length
      if (waiting < PIECE) continue
      waiting = 0
      await nextTurn()
      throwIfAborted(op, signal)
    }
  }
  return hash.digest('hex')
}
