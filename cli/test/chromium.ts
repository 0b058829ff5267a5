/** Chromium by the DevTools protocol over a pipe: enough to open a page, ask it something, and press a button. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'

const NAMES = [
  'chromium-headless-shell',
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
]

/** The program of Chromium: what `S4_CHROMIUM` names, or one that is installed. */
export const chromium: string | undefined = [process.env['S4_CHROMIUM'] ?? [], NAMES]
  .flat()
  .find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0)

interface Answer {
  readonly id?: number
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly message: string }
}

export class Browser {
  readonly #child: ChildProcess
  readonly #profile = mkdtempSync(join(tmpdir(), 's4-chromium-'))
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  readonly #ended: Promise<unknown>
  #session: string | undefined
  #next = 1
  /** What the page complained of: exceptions, refused loads, violations of its policy. */
  readonly complaints: string[] = []

  constructor() {
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--remote-debugging-pipe']
    this.#child = spawn(chromium as string, [...flags, `--user-data-dir=${this.#profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      // A group of its own, which ends with all of its processes.
      detached: true,
    })
    this.#ended = new Promise((resolve) => this.#child.on('exit', resolve))
    let rest = ''
    const output = this.#child.stdio[4] as Readable
    output.setEncoding('utf8').on('data', (text: string) => {
      const messages = (rest + text).split('\0')
      rest = messages.pop() as string
      for (const message of messages) this.#take(JSON.parse(message) as Answer)
    })
  }

  #take(answer: Answer): void {
    const { id, method, params } = answer
    if (id !== undefined) {
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    } else if (method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded')
      this.complaints.push(JSON.stringify(params))
  }

  async send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = this.#next++
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve))
    const session = this.#session === undefined ? {} : { sessionId: this.#session }
    ;(this.#child.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`)
    const { result, error } = await answer
    if (error !== undefined) throw new Error(`${method}: ${error.message}`)
    return result as Record<string, unknown>
  }

  /** Opens a page. */
  async open(url: string): Promise<void> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    this.#session = sessionId as string
    await this.send('Runtime.enable')
    await this.send('Log.enable')
    await this.send('Page.enable')
    await this.send('Page.navigate', { url })
  }

  /** The value of an expression in the page. */
  async value(expression: string): Promise<unknown> {
    const { result } = (await this.send('Runtime.evaluate', { expression, returnByValue: true })) as {
      result: { value?: unknown }
    }
    return result.value
  }

  /** Waits until an expression in the page is true. */
  async until(expression: string, seconds = 180): Promise<void> {
    for (const end = Date.now() + 1000 * seconds; ;) {
      if ((await this.value(expression)) === true) return
      if (Date.now() > end)
        throw new Error(
          `${expression} did not come true: ${String(await this.value('document.body.innerText'))}`,
        )
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  /** Presses the mouse in the middle of an element. */
  async press(selector: string): Promise<void> {
    const place = `(({ x, y, width, height }) => [x + width / 2, y + height / 2])(document.querySelector('${selector}').getBoundingClientRect())`
    const [x, y] = (await this.value(place)) as [number, number]
    for (const type of ['mousePressed', 'mouseReleased'])
      await this.send('Input.dispatchMouseEvent', { type, x, y, button: 'left', clickCount: 1 })
  }

  /** A picture of the page, PNG in base 64. */
  async picture(): Promise<string> {
    return (await this.send('Page.captureScreenshot'))['data'] as string
  }

  /** Ends the browser at once. */
  async close(): Promise<void> {
    process.kill(-(this.#child.pid as number), 'SIGKILL')
    await this.#ended
    for (const stream of this.#child.stdio) stream?.destroy()
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}
