// Where data come from: a file, bytes in memory, or a stream of them.
import { types } from 'node:util'
import { open } from 'node:fs/promises'
import { abortable } from '../background.js'
import { bytesOf, filePath } from '../check.js'
import { elementsOf as listElements } from '../dataset.js'
import { describe, fail, readGiven, throwIfAborted } from '../error.js'
import { allocated } from '../tensor.js'

/**
 * A file by its path or `file:` URL, the bytes of one, or its bytes in pieces: a stream of Node or of the web, `process.stdin`,
 * any iterable of bytes or text.
 */
export type DataSource =
  | string
  | URL
  | Uint8Array
  | Iterable<Uint8Array | string>
  | AsyncIterable<Uint8Array | string>

/** A source that was looked at, but not read. */
export type GivenSource =
  | { readonly path: string }
  | { readonly bytes: Uint8Array }
  | { readonly pieces: Iterable<unknown> | AsyncIterable<unknown> }

/** The source that a caller has given. */
export function givenSource(op: string, what: string, x: unknown): GivenSource {
  if (typeof x === 'string') return { path: filePath(op, x, what) }
  if (types.isUint8Array(x)) return { bytes: bytesOf(op, what, x) }
  const form = readGiven(op, what, () => {
    if (typeof x !== 'object' || x === null) return 'none'
    const { href, protocol } = x as Partial<URL>
    if (typeof href === 'string' && typeof protocol === 'string') return 'url'
    return isIterable(x) ? 'pieces' : 'none'
  })
  if (form === 'url') return { path: filePath(op, x, what) }
  if (form === 'pieces') return { pieces: x as AsyncIterable<unknown> }
  throw fail('ERR_S4_VALUE', op, `${what} as a path, a file: URL, bytes or a stream of bytes`, describe(x))
}

/** Whether it can be iterated, at once or asynchronously. Getters may throw. */
export function isIterable(x: object): boolean {
  if (types.isBoxedPrimitive(x)) return false
  const { [Symbol.iterator]: now, [Symbol.asyncIterator]: later } = x as Partial<
    Iterable<unknown> & AsyncIterable<unknown>
  >
  return typeof now === 'function' || typeof later === 'function'
}

/** Whether it can be iterated only once, by its form: an iterator or generator, a stream. */
export function isOnce(op: string, what: string, x: object): boolean {
  return readGiven(op, what, () => {
    const { next, getReader, pipe } = x as { next?: unknown; getReader?: unknown; pipe?: unknown }
    return [next, getReader, pipe].some((method) => typeof method === 'function')
  })
}

/**
 * What `walk` gives: again from the beginning each time it is iterated, or, where the source can be iterated only once, a
 * generator, by whose form that is seen.
 */
export function walkable<T>(once: boolean, walk: () => AsyncGenerator<T>): AsyncIterable<T> {
  return once ? walk() : { [Symbol.asyncIterator]: walk }
}

/** Whether a source's bytes are there only once. */
export const isOnceSource = (op: string, what: string, source: GivenSource): boolean =>
  'pieces' in source && isOnce(op, what, source.pieces)

/** Name of a source in errors: its path. */
export const nameOf = (source: GivenSource): string | undefined =>
  'path' in source ? source.path : undefined

/** What an iterable gives; the elements of an array are read here. What its own iterator throws passes as it is; one without `next` is refused. */
export async function* elementsOf(op: string, what: string, x: object): AsyncGenerator<unknown> {
  if (readGiven(op, what, () => Array.isArray(x))) {
    yield* listElements(op, what, x as readonly unknown[])
    return
  }
  const iterator = readGiven(op, what, () => {
    const d = x as Partial<Iterable<unknown> & AsyncIterable<unknown>>
    const made: unknown =
      typeof d[Symbol.asyncIterator] === 'function' ? d[Symbol.asyncIterator]?.() : d[Symbol.iterator]?.()
    if (typeof (made as Partial<Iterator<unknown>> | null | undefined)?.next !== 'function')
      throw fail('ERR_S4_DATA', op, `${what} whose iterator has next()`, describe(made))
    return made as AsyncIterator<unknown> | Iterator<unknown>
  })
  let done = false
  try {
    for (;;) {
      const result = await iterator.next()
      if (result.done) {
        done = true
        return
      }
      yield result.value
    }
  } catch (error) {
    done = true
    throw error
  } finally {
    if (!done) await iterator.return?.()
  }
}

/** The bytes of a source in pieces of any size. */
export async function* byteBlocks(op: string, what: string, source: GivenSource): AsyncGenerator<Uint8Array> {
  if ('bytes' in source) {
    yield source.bytes
    return
  }
  if ('path' in source) {
    yield* fileBlocks(op, source.path)
    return
  }
  const encoder = new TextEncoder()
  for await (const piece of elementsOf(op, what, source.pieces)) {
    // A copy: its memory may be shared, or gone.
    if (types.isUint8Array(piece)) yield readGiven(op, what, () => piece.slice())
    else if (typeof piece === 'string') yield encoder.encode(piece)
    else throw fail('ERR_S4_DATA', op, `${what} that gives bytes or text`, describe(piece))
  }
}

const BLOCK = 1 << 22

/** A file in blocks. The same memory is used for every block: it is to be copied. */
async function* fileBlocks(op: string, path: string): AsyncGenerator<Uint8Array> {
  const unreadable = (error: unknown) =>
    fail('ERR_S4_DATA', op, 'a file that can be read', `${path}: ${(error as Error).message}`)
  const file = await open(path).catch((error: unknown) => {
    throw unreadable(error)
  })
  try {
    const block = new Uint8Array(BLOCK)
    for (;;) {
      const { bytesRead } = await file.read(block, 0, BLOCK).catch((error: unknown) => {
        throw unreadable(error)
      })
      if (bytesRead === 0) return
      yield block.subarray(0, bytesRead)
    }
  } finally {
    await file.close()
  }
}

/** All bytes of a stream. */
export async function streamBytes(
  op: string,
  what: string,
  source: GivenSource,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const collect = async () => {
    const pieces: Uint8Array[] = []
    let total = 0
    for await (const piece of byteBlocks(op, what, source)) {
      throwIfAborted(op, signal)
      pieces.push(piece.slice())
      total += piece.length
    }
    const all = allocated(op, what, total, () => new Uint8Array(total))
    let at = 0
    for (const piece of pieces) {
      all.set(piece, at)
      at += piece.length
    }
    return bytesOf(op, what, all)
  }
  throwIfAborted(op, signal)
  return signal === undefined ? collect() : abortable(op, collect(), signal)
}

/** The source as the addon takes one: a path, or all of its bytes. */
export async function pathOrBytes(
  op: string,
  what: string,
  source: GivenSource,
  signal: AbortSignal | undefined,
): Promise<string | Uint8Array> {
  if ('path' in source) return source.path
  return 'bytes' in source ? source.bytes : streamBytes(op, what, source, signal)
}
