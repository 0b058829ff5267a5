// The wire format of PyTorch's TCPStore (torch/csrc/distributed/c10d/TCPStoreBackend.hpp): a query is its number in a byte, and then
// texts and byte arrays, each after its length in 64 bits; all numbers are little-endian.

/** The numbers of queries. A connection begins with `validate` and the number {@link MAGIC} in 32 bits. */
export const Query = {
  validate: 0,
  set: 1,
  get: 3,
  add: 4,
  check: 5,
  wait: 6,
  deleteKey: 8,
  cancelWait: 12,
  ping: 13,
} as const

/** What a client says at first, so that a stray connection is known. */
export const MAGIC = 0x3c85f7ce

/** Answers to `check`: all keys are there, or not. */
export const READY = 0
export const NOT_READY = 1
/** Answers to `wait`: all keys are there, or the wait was cancelled. */
export const STOP_WAITING = 0
export const WAIT_CANCELED = 1

/** Longest key and longest value that are taken from a connection, bytes. */
export const MOST_KEY_BYTES = 8 << 10
export const MOST_VALUE_BYTES = 64 << 20

/** Bytes with their length before them. */
export function lengthPrefixed(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([length, bytes])
}

/** A query with texts as its arguments; `count`: whether their number stands before them. */
export function query(number: number, keys: readonly string[], count = false): Buffer {
  const parts: Buffer[] = [Buffer.of(number)]
  if (count) {
    const n = Buffer.alloc(8)
    n.writeBigUInt64LE(BigInt(keys.length))
    parts.push(n)
  }
  for (const key of keys) parts.push(lengthPrefixed(Buffer.from(key)))
  return Buffer.concat(parts)
}

/** Bytes that arrive in pieces, taken off as numbers and arrays where enough of them are there. */
export class Incoming {
  #pieces: Buffer[] = []
  #length = 0

  /** Adds a piece that has arrived. */
  push(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#length += piece.length
  }

  /** How many bytes are there. */
  get length(): number {
    return this.#length
  }

  /** All bytes that are there, as one piece; they stay. */
  all(): Buffer {
    if (this.#pieces.length !== 1) this.#pieces = [Buffer.concat(this.#pieces)]
    return this.#pieces[0] as Buffer
  }

  /** A piece with the first `count` bytes, which are there; they stay. Other pieces are not joined with it unless it is shorter. */
  begin(count: number): Buffer {
    const [first] = this.#pieces
    return first !== undefined && first.length >= count ? first : this.all()
  }

  /** Takes off the first `count` bytes, which are there. */
  take(count: number): Buffer {
    const all = this.all()
    this.#pieces = [all.subarray(count)]
    this.#length -= count
    return all.subarray(0, count)
  }
}
