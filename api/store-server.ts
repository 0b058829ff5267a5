// The store that rank 0 keeps where no launcher does: keys and values in PyTorch's wire format, so that one client serves both.
import { createServer, type Server, type Socket } from 'node:net'
import {
  Incoming,
  lengthPrefixed,
  MAGIC,
  MOST_KEY_BYTES,
  MOST_VALUE_BYTES,
  NOT_READY,
  Query,
  READY,
  STOP_WAITING,
  WAIT_CANCELED,
} from './store-wire.js'

/** Most keys in a query. */
const MOST_KEYS = 128 << 10

/** Thrown where a query has not arrived as a whole yet: it is read again once so many bytes are there. */
class Incomplete {
  constructor(readonly needed: number) {}
}

/** Reads the arguments of a query from the bytes that have arrived. */
class QueryReader {
  at = 0
  constructor(readonly bytes: Buffer) {}

  take(count: number): Buffer {
    if (this.at + count > this.bytes.length) throw new Incomplete(this.at + count)
    this.at += count
    return this.bytes.subarray(this.at - count, this.at)
  }
  number(): number {
    return this.take(1)[0] as number
  }
  count(most: number): number {
    const n = this.take(8).readBigUInt64LE()
    if (n > BigInt(most)) throw new Error(`a length of ${n}`)
    return Number(n)
  }
  key(): string {
    return this.take(this.count(MOST_KEY_BYTES)).toString()
  }
  keys(): string[] {
    return Array.from({ length: this.count(MOST_KEYS) }, () => this.key())
  }
  value(): Buffer {
    return Buffer.from(this.take(this.count(MOST_VALUE_BYTES)))
  }
}

/** A 64-bit number as bytes. */
function int64(x: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(x)
  return bytes
}

/** A client, as the server knows it. */
interface Connection {
  readonly socket: Socket
  readonly incoming: Incoming
  /** Bytes without which the first query is not whole. */
  needed: number
  validated: boolean
  /** Keys that it waits for. */
  awaited: string[] | undefined
  /** Keys that it has set. */
  readonly set: Set<string>
}

/** A server of keys and values. */
export class StoreServer {
  readonly #server: Server
  readonly #values = new Map<string, Buffer>()
  readonly #connections = new Set<Connection>()
  /** Called where a connection has ended, with the keys that it had set, before other clients are answered. */
  onClosed: ((keysSet: ReadonlySet<string>) => void) | undefined

  private constructor() {
    this.#server = createServer({ noDelay: true, keepAlive: true }, (socket) => this.#accept(socket))
  }

  /** A server that listens at `host`, or without it on all addresses; `port` 0 takes any. It keeps no process alive. */
  static async listen(port: number, host?: string): Promise<StoreServer> {
    const store = new StoreServer()
    await new Promise<void>((resolve, reject) => {
      store.#server.once('error', reject)
      store.#server.listen({ port, ...(host !== undefined && { host }) }, () => {
        store.#server.removeListener('error', reject)
        resolve()
      })
    })
    // An error of a server that listens is one of accepting a connection, whose client sees it too.
    store.#server.on('error', () => undefined)
    store.#server.unref()
    return store
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** Sets a key, as a client would. */
  set(key: string, value: Uint8Array): void {
    this.#values.set(key, Buffer.from(value))
    for (const connection of this.#connections) this.#wake(connection)
  }

  /** Whether a key is set. */
  has(key: string): boolean {
    return this.#values.has(key)
  }

  #accept(socket: Socket): void {
    socket.unref()
    const connection: Connection = {
      socket,
      incoming: new Incoming(),
      needed: 1,
      validated: false,
      awaited: undefined,
      set: new Set(),
    }
    this.#connections.add(connection)
    socket.on('data', (piece) => {
      connection.incoming.push(piece)
      try {
        while (this.#serve(connection)) continue
      } catch {
        // It does not speak the format.
        socket.destroy()
      }
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#connections.delete(connection)
      this.onClosed?.(connection.set)
    })
  }

  /** Answers the first query that has arrived; gives whether there was a whole one. */
  #serve(connection: Connection): boolean {
    // What has arrived is joined only then: with each piece of a large value it would be copied again and again.
    if (connection.incoming.length < connection.needed) return false
    const reader = new QueryReader(connection.incoming.all())
    try {
      this.#query(connection, reader)
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error
      connection.needed = error.needed
      return false
    }
    connection.needed = 1
    connection.incoming.take(reader.at)
    return true
  }

  #query(connection: Connection, reader: QueryReader): void {
    const { socket } = connection
    const number = reader.number()
    if (!connection.validated && number !== Query.validate) throw new Error('no validation')
    switch (number) {
      case Query.validate:
        if (reader.take(4).readUInt32LE() !== MAGIC) throw new Error('another number')
        connection.validated = true
        return
      case Query.set: {
        const [key, value] = [reader.key(), reader.value()]
        connection.set.add(key)
        this.set(key, value)
        return
      }
      case Query.get: {
        const value = this.#values.get(reader.key())
        // As PyTorch's server does: a client asks for keys that it knows to be set.
        if (value === undefined) throw new Error('a key that is not set')
        socket.write(lengthPrefixed(value))
        return
      }
      case Query.add: {
        const [key, amount] = [reader.key(), reader.take(8).readBigInt64LE()]
        const before = this.#values.get(key)?.toString() ?? '0'
        const sum = BigInt(/^-?\d{1,18}$/.test(before) ? before : '0') + amount
        connection.set.add(key)
        this.set(key, Buffer.from(String(sum)))
        socket.write(int64(sum))
        return
      }
      case Query.check: {
        const all = reader.keys().every((key) => this.#values.has(key))
        socket.write(Buffer.of(all ? READY : NOT_READY))
        return
      }
      case Query.wait:
        connection.awaited = reader.keys()
        this.#wake(connection)
        return
      case Query.cancelWait:
        connection.awaited = undefined
        socket.write(Buffer.of(WAIT_CANCELED))
        return
      case Query.deleteKey: {
        const key = reader.key()
        const deleted = this.#values.delete(key)
        connection.set.delete(key)
        socket.write(int64(deleted ? 1n : 0n))
        return
      }
      case Query.ping:
        socket.write(reader.take(4))
        return
      default:
        throw new Error(`query ${number}`)
    }
  }

  /** Answers a client that waits, where all its keys are set. */
  #wake(connection: Connection): void {
    if (connection.awaited?.every((key) => this.#values.has(key)) !== true) return
    connection.awaited = undefined
    connection.socket.write(Buffer.of(STOP_WAITING))
  }

  /** Ends the server and all connections. */
  async close(): Promise<void> {
    for (const { socket } of this.#connections) socket.end()
    this.#server.ref()
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    const timer = setTimeout(() => {
      for (const { socket } of this.#connections) socket.destroy()
    }, 1000)
    await closed
    clearTimeout(timer)
  }
}
