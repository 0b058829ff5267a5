// What the data of a training are, in a few characters: a run goes on with the same ones alone.
import { createHash } from 'node:crypto'

/** A digest (SHA-256) of arrays and texts in their order, the borders between them included. */
export function dataDigest(parts: Iterable<ArrayBufferView | string>): string {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes =
      typeof part === 'string'
        ? Buffer.from(part)
        : new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
    hash.update(`${bytes.length}:`).update(bytes)
  }
  return hash.digest('hex')
}
