/** A training on the live page: its events as messages, its kernels of every epoch, its button. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { SequenceModel } from 's4-node'
import type { EpochForecast, TaskEvent } from 's4-node/tasks'
import type { LiveEpoch, LiveForecast, LiveKernels, LiveState } from './messages.js'
import { page, styles } from './page.js'
import { LiveServer } from './server.js'

/** Most losses of updates that are kept: beyond them every second one goes. */
const MOST_LOSSES = 2000
/** Milliseconds between two messages of losses. */
const OFTEN = 250
/** Kernels that are shown, and their taps. */
const KERNELS = 6
const TAPS = 128

/** Most classes whose confusions are shown, columns of forecasts, and numbers of each before the forecast and in it. */
const CLASSES = 12
const [COLUMNS, NUMBERS] = [3, 512]

/** What the page shows of a forecast, in five digits: of a long one the first steps. */
function liveForecast(epoch: number, { row, past, actual, mean }: EpochForecast): LiveForecast {
  const short = (x: readonly number[]) => x.map((value) => Number(value.toPrecision(5)))
  const columns = Object.keys(mean)
    .slice(0, COLUMNS)
    .map((name) => {
      const [before, steps] = [past[name]!.slice(-NUMBERS), mean[name]!.slice(0, NUMBERS)]
      const came = [...before, ...actual[name]!.slice(0, steps.length)]
      return { name, came: short(came), before: before.length, mean: short(steps) }
    })
  return { epoch, row, columns }
}

export class LivePage {
  #server!: LiveServer
  readonly #folder: string
  readonly #stop: AbortController
  #state: Omit<LiveState, 'losses' | 'epochs'> & { losses: [number, number][]; epochs: LiveEpoch[] }
  #waiting: [number, number][] = []
  /** Every how many updates one is kept. */
  #every = 1
  #sent = 0
  #reading: Promise<void> | undefined

  private constructor(folder: string, title: string, stop: AbortController) {
    this.#folder = folder
    this.#stop = stop
    this.#state = {
      title,
      plan: '',
      step: 0,
      of: 0,
      losses: [],
      epochs: [],
      kernels: undefined,
      forecast: undefined,
      confusion: undefined,
      ended: undefined,
      stopping: false,
    }
  }

  /** `folder`: that of the run; `stop` fires when the button is pressed. */
  static async open(folder: string, title: string, stop: AbortController): Promise<LivePage> {
    const script = readFileSync(new URL('browser/script.js', import.meta.url), 'utf8')
    const files = {
      '': { type: 'text/html; charset=utf-8', body: page },
      'page.css': { type: 'text/css; charset=utf-8', body: styles },
      'page.js': { type: 'text/javascript; charset=utf-8', body: script },
    }
    const live = new LivePage(folder, title, stop)
    live.#server = await LiveServer.open(
      files,
      // What waits is in the state too: those who watch already get it first.
      () => {
        live.#sendLosses()
        return live.#state
      },
      () => live.#press(),
    )
    return live
  }

  get url(): string {
    return this.#server.url
  }

  #press(): void {
    if (this.#stop.signal.aborted || this.#state.ended !== undefined) return
    this.#change({ stopping: true })
    this.#stop.abort()
  }

  #change(change: Partial<Omit<LiveState, 'losses' | 'epochs'>>): void {
    this.#state = { ...this.#state, ...change }
    this.#server.send({ type: 'change', change })
  }

  /** Tells the page of an event of the training. */
  event(event: TaskEvent): void {
    if (event.type === 'plan') this.#change({ plan: event.text })
    else if (event.type === 'step') this.#step(event.step, event.of, event.loss)
    else if (event.type === 'epoch') {
      this.#sendLosses()
      const { epoch, loss, mse, accuracy, validationLoss, best, seconds } = event
      const [name, figure] =
        mse !== undefined
          ? ['validation, mean squared error', mse]
          : accuracy !== undefined
            ? ['validation, part that is right', accuracy]
            : ['validation loss', validationLoss]
      const told: LiveEpoch = { epoch, loss, figure: figure ?? null, name, best, seconds }
      this.#state.epochs.push(told)
      this.#server.send({ type: 'epoch', epoch: told })
      const { forecast, confusion } = event
      if (forecast !== undefined) this.#change({ forecast: liveForecast(epoch, forecast) })
      if (confusion !== undefined && confusion.classes.length <= CLASSES)
        this.#change({
          confusion: { epoch, classes: confusion.classes.map(String), counts: confusion.counts },
        })
      // One at a time: where epochs are short some are not looked at.
      this.#reading ??= this.#kernels(epoch).finally(() => (this.#reading = undefined))
    } else this.#change({ stopping: true })
  }

  #step(step: number, of: number, loss: number): void {
    const { losses } = this.#state
    this.#state = { ...this.#state, step, of }
    if (step % this.#every === 0) {
      losses.push([step, loss])
      this.#waiting.push([step, loss])
      if (losses.length > MOST_LOSSES) {
        this.#every *= 2
        this.#state.losses = losses.filter(([n]) => n % this.#every === 0)
      }
    }
    if (Date.now() - this.#sent >= OFTEN) this.#sendLosses()
  }

  #sendLosses(): void {
    const { step, of } = this.#state
    if (step === 0) return
    this.#server.send({ type: 'losses', step, of, losses: this.#waiting })
    this.#waiting = []
    this.#sent = Date.now()
  }

  /** The kernels of the last whole epoch's checkpoint, of the last block's strongest heads. */
  async #kernels(epoch: number): Promise<void> {
    let kernels: LiveKernels
    try {
      using model = await SequenceModel.load(join(this.#folder, 'last.safetensors'), {
        device: 'cpu',
        threads: 1,
      })
      const { layers } = await model.inspect()
      const block = layers.length - 1
      const { strength } = layers[block]!
      const heads = [...strength.keys()].toSorted((a, b) => strength[b]! - strength[a]!).slice(0, KERNELS)
      const { data } = model.kernel(block, TAPS)
      const taps = (head: number) =>
        Array.from(data.subarray(head * TAPS, (head + 1) * TAPS), (x) => Number(x.toPrecision(4)))
      kernels = { epoch, block, kernels: heads.map(taps) }
    } catch {
      // The picture is an extra: a training goes on without it.
      return
    }
    this.#change({ kernels })
  }

  /** Says how it ended, and closes the page's connections. */
  async close(ended: string): Promise<void> {
    await this.#reading
    this.#sendLosses()
    this.#change({ ended })
    await this.#server.close()
  }
}
