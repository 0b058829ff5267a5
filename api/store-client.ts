// A client of a store of keys and values in PyTorch's wire format: torchrun's own, or that of rank 0 (store-server.ts).
import { connect, type Socket } from 'node:net'
import { MAGIC, Incoming, lengthPrefixed, MOST_VALUE_BYTES, Query, query, READY } from './store-wire.js'

/** A question that waits for its answer: the bytes that have arrived give it, or not yet. */
interface Question<T = unknown> {
  read: (incoming: Incoming) => T | undefined
  resolve: (answer: T) => void
  reject: (error: Error) => void
}

/** A connection to a store. Queries are answered in their order. */
export class StoreClient {
  readonly #socket: Socket
  readonly #incoming = new Incoming()
  readonly #patience: number
  #questions: Question[] = []
  #error: Error | undefined
  /** Called once where the connection has ended without {@link StoreClient.close}. */
  onLost: ((error: Error) => void) | undefined

  private constructor(socket: Socket, patience: number) {
    this.#socket = socket
    this.#patience = patience
    socket.on('data', (piece) => {
      this.#incoming.push(piece)
      this.#answer()
    })
    socket.on('error', (error) => this.#end(error))
    socket.on('close', () => this.#end(new Error('the store has closed the connection')))
    const magic = Buffer.alloc(4)
    magic.writeUInt32LE(MAGIC)
    socket.write(Buffer.concat([query(Query.validate, []), magic]))
  }

  /**
   * Connects, again and again until `deadline` (of `performance.now()`): the store may not have begun. `patience`: milliseconds that a
   * question waits for its answer; then the store counts as gone.
   */
  static async connect(
    host: string,
    port: number,
    deadline: number,
    patience = 60_000,
    signal?: AbortSignal,
  ): Promise<StoreClient> {
    for (let pause = 20; ; pause = Math.min(2 * pause, 500)) {
      signal?.throwIfAborted()
      let onAbort: (() => void) | undefined
      try {
        const socket = await new Promise<Socket>((resolve, reject) => {
          const s = connect({ host, port, noDelay: true, keepAlive: true })
          onAbort = () => s.destroy(new Error('the signal has fired'))
          signal?.addEventListener('abort', onAbort, { once: true })
          const timer = setTimeout(
            () => s.destroy(new Error('no answer')),
            Math.max(1, deadline - performance.now()),
          )
          s.once('error', reject)
          s.once('close', () => clearTimeout(timer))
          s.once('connect', () => {
            clearTimeout(timer)
            s.removeListener('error', reject)
            resolve(s)
          })
        })
        return new StoreClient(socket, patience)
      } catch (error) {
        signal?.throwIfAborted()
        if (performance.now() + pause > deadline) throw error
        await new Promise((resolve) => setTimeout(resolve, pause))
      } finally {
        if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
      }
    }
  }

  /** Gives the questions the answers that have arrived. */
  #answer(): void {
    for (;;) {
      const [first] = this.#questions
      if (first === undefined) return
      let answer: unknown
      try {
        answer = first.read(this.#incoming)
      } catch (error) {
        this.#end(error as Error)
        this.#socket.destroy()
        return
      }
      if (answer === undefined) return
      this.#questions.shift()
      first.resolve(answer)
    }
  }

  #end(error: Error): void {
    if (this.#error !== undefined) return
    this.#error = error
    for (const { reject } of this.#questions.splice(0)) reject(error)
    this.onLost?.(error)
  }

  #ask<T>(bytes: Buffer, read: (incoming: Incoming) => T | undefined): Promise<T> {
    if (this.#error !== undefined) return Promise.reject(this.#error)
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#end(new Error(`no answer of the store within ${this.#patience / 1000} s`))
        this.#socket.destroy()
      }, this.#patience)
      const question: Question = {
        read,
        resolve: (answer) => {
          clearTimeout(timer)
          resolve(answer as T)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      }
      this.#questions.push(question)
      this.#socket.write(bytes)
    })
  }

  /** Sets a key. There is no answer. */
  set(key: string, value: Uint8Array): void {
    if (this.#error === undefined)
      this.#socket.write(Buffer.concat([query(Query.set, [key]), lengthPrefixed(value)]))
  }

  /** Whether all of these keys are set. */
  check(keys: readonly string[]): Promise<boolean> {
    const read = (incoming: Incoming) => (incoming.length < 1 ? undefined : incoming.take(1)[0] === READY)
    return this.#ask(query(Query.check, keys, true), read)
  }

  /** The value of a key that is set. */
  get(key: string): Promise<Buffer> {
    return this.#ask(query(Query.get, [key]), (incoming) => {
      if (incoming.length < 8) return undefined
      const length = incoming.begin(8).readBigUInt64LE()
      if (length > BigInt(MOST_VALUE_BYTES)) throw new Error(`a value of ${length} bytes`)
      if (incoming.length < 8 + Number(length)) return undefined
      return Buffer.from(incoming.take(8 + Number(length)).subarray(8))
    })
  }

  /** Adds to the number of a key, 0 where it is not set, and gives the sum. */
  add(key: string, amount: number): Promise<number> {
    const number = Buffer.alloc(8)
    number.writeBigInt64LE(BigInt(amount))
    const read = (incoming: Incoming) =>
      incoming.length < 8 ? undefined : Number(incoming.take(8).readBigInt64LE())
    return this.#ask(Buffer.concat([query(Query.add, [key]), number]), read)
  }

  /** Deletes a key; gives whether there was one. */
  delete(key: string): Promise<boolean> {
    const read = (incoming: Incoming) =>
      incoming.length < 8 ? undefined : incoming.take(8).readBigInt64LE() > 0n
    return this.#ask(query(Query.deleteKey, [key]), read)
  }

  /** Whether the connection has ended. */
  get hasEnded(): boolean {
    return this.#error !== undefined
  }

  /** Lets the process end while the connection is open. */
  unref(): void {
    this.#socket.unref()
  }

  /** Keeps the process alive while the connection is open. */
  ref(): void {
    this.#socket.ref()
  }

  /** Ends the connection after what has been sent. Questions without an answer are rejected. */
  async close(): Promise<void> {
    this.#error ??= new Error('closed')
    for (const { reject } of this.#questions.splice(0)) reject(this.#error)
    await new Promise<void>((resolve) => {
      if (this.#socket.destroyed) return resolve()
      // A store that is silent does not end its side.
      const timer = setTimeout(() => this.#socket.destroy(), 1000)
      this.#socket.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      this.#socket.end()
    })
  }
}
