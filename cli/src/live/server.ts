/**
 * A page on this machine that shows a training while it runs, and can stop it: HTTP on the loopback address, at a port and below a token that
 * are random. What does not name the token, or comes by another host name, gets an empty answer.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { LiveMessage, LiveState } from './messages.js'

/** A file of the page. */
export interface PageFile {
  readonly type: string
  readonly body: string
}

/** What a browser is allowed to do with the page: to load its own three files and to call back. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
}

/** Browsers that watch at a time. */
const MOST_WATCHERS = 16
/** Bytes that may wait for a browser that does not read, before it is let go: it comes back by itself. */
const MOST_WAITING = 1 << 22
/** Milliseconds between signs of life. */
const ALIVE = 15_000

const digest = (text: string) => createHash('sha256').update(text).digest()

export class LiveServer {
  readonly #server: Server
  readonly #token: string
  readonly #files: Readonly<Record<string, PageFile>>
  readonly #state: () => LiveState
  readonly #stop: () => void
  readonly #watchers = new Set<ServerResponse>()
  readonly #alive: NodeJS.Timeout

  private constructor(files: Readonly<Record<string, PageFile>>, state: () => LiveState, stop: () => void) {
    this.#token = randomBytes(24).toString('base64url')
    this.#files = files
    this.#state = state
    this.#stop = stop
    this.#server = createServer((request, response) => this.#answer(request, response))
    this.#server.headersTimeout = 10_000
    this.#server.requestTimeout = 10_000
    this.#server.maxHeadersCount = 64
    this.#alive = setInterval(() => this.#write(':\n\n'), ALIVE)
    this.#alive.unref()
  }

  /**
   * `files`: those of the page, by name, `''` being the page itself. `state`: everything so far, for a browser that comes. `stop` is
   * called when the button is pressed.
   */
  static async open(
    files: Readonly<Record<string, PageFile>>,
    state: () => LiveState,
    stop: () => void,
  ): Promise<LiveServer> {
    const live = new LiveServer(files, state, stop)
    await new Promise<void>((resolve, reject) => {
      live.#server.once('error', reject)
      live.#server.listen(0, '127.0.0.1', resolve)
    })
    return live
  }

  get #port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** The page's address, token and all. */
  get url(): string {
    return `http://127.0.0.1:${this.#port}/${this.#token}/`
  }

  /** Tells all browsers. */
  send(message: LiveMessage): void {
    this.#write(`data: ${JSON.stringify(message)}\n\n`)
  }

  /** Ends it; what was sent arrives before. */
  async close(): Promise<void> {
    clearInterval(this.#alive)
    for (const watcher of this.#watchers) watcher.end()
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeIdleConnections()
    // A browser that does not read holds up nothing.
    const late = setTimeout(() => this.#server.closeAllConnections(), 500)
    await closed
    clearTimeout(late)
  }

  #write(text: string): void {
    for (const watcher of this.#watchers) {
      watcher.write(text)
      if (watcher.writableLength > MOST_WAITING) watcher.destroy()
    }
  }

  /** The path below the token, where a request may have it at all. */
  #pathOf({ headers, url = '' }: IncomingMessage): string | undefined {
    const own = [`127.0.0.1:${this.#port}`, `localhost:${this.#port}`]
    // A page of another name that leads here (DNS rebinding) has that name as its host.
    if (headers.host === undefined || !own.includes(headers.host)) return undefined
    // And a page of another origin says so where it sends something.
    if (headers.origin !== undefined && !own.some((host) => headers.origin === `http://${host}`))
      return undefined
    const [, token = '', ...path] = url.split('/')
    // Compared in constant time, which tells nothing of the token.
    return timingSafeEqual(digest(token), digest(this.#token)) && path.length === 1 ? path[0] : undefined
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    request.resume()
    const path = this.#pathOf(request)
    const nothing = () => response.writeHead(404, { 'content-length': 0 }).end()
    if (path === undefined) return void nothing()
    const file = Object.hasOwn(this.#files, path) ? this.#files[path] : undefined
    if (file !== undefined && request.method === 'GET') {
      response.writeHead(200, { ...HEADERS, 'content-type': file.type }).end(file.body)
    } else if (path === 'events' && request.method === 'GET') this.#watch(response)
    else if (path === 'stop' && request.method === 'POST') {
      response.writeHead(204, HEADERS).end()
      this.#stop()
    } else nothing()
  }

  /** Server-sent events: everything so far, then what comes. */
  #watch(response: ServerResponse): void {
    if (this.#watchers.size >= MOST_WATCHERS)
      return void response.writeHead(503, { 'content-length': 0 }).end()
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream; charset=utf-8' })
    response.on('close', () => this.#watchers.delete(response))
    const message: LiveMessage = { type: 'state', state: this.#state() }
    response.write(`retry: 1000\ndata: ${JSON.stringify(message)}\n\n`)
    this.#watchers.add(response)
  }
}
