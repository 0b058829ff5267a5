import type { NativeModel, SlotResults } from '#binding'
import type { NativeAccess } from './access.js'
import { fail, fromNative } from './error.js'
import { LiveStream, type LiveStreams, type WaitingCall, type WaitingPush } from './live-stream.js'
import type { StreamTimeOptions } from './stream-times.js'
import { allocate, allocated, tensor, type Dtype, type Floats, type Tensor } from './tensor.js'

/** Options of {@link SequenceModel.streams}. */
export interface StreamsOptions extends StreamTimeOptions {
  /** Number of streams that may be open at a time. The memory of their states is taken at once. */
  slots: number
  /** Ratio of the sampling rate to that of training; multiplies every Δ. Default 1. */
  rate?: number
  /**
   * Milliseconds from the first push that waits to the tick that computes it: larger batches, later answers. Default 0: with the
   * next turn of the event loop, or when the tick under way has ended.
   */
  tickMilliseconds?: number
  /** Time steps, of all streams together, that start a tick at once. Default none. */
  tickSteps?: number
  /** Time steps that one stream may have waiting; a push beyond is `ERR_S4_BUSY`. Default 65,536. */
  maxWaiting?: number
}

/** What {@link ModelStreams} is made of: the checked options and the sizes of the model. */
export interface StreamsSetup {
  readonly slots: number
  /** About how many slots' pushes go to the addon in a call, where more wait, and how many such calls are under way at a time. */
  readonly slotsOfPush: number
  readonly pushesAtATime: number
  /** Time steps that several pushes of a stream have together at the most when they go to the addon, where many streams push. */
  readonly stepsOfPush: number
  readonly tickMilliseconds: number
  readonly tickSteps: number
  readonly maxWaiting: number
  /** The interval of times that counts as 1. */
  readonly usual: number | undefined
  /** Input values of a time step; undefined for tokens. */
  readonly input: number | undefined
  /** Outputs of a time step. */
  readonly output: number
}

/** The pushes of one stream in a tick. */
interface Pushing {
  readonly stream: LiveStream
  readonly slot: number
  readonly pushes: readonly WaitingPush[]
}

/** What the addon has computed: the time steps of each stream, and their outputs. */
interface Computed {
  readonly lens: Uint32Array
  readonly results: SlotResults
}

/** Streams from which the addon computes time steps in blocks (its `FEWEST_SEQUENCES`), for which {@link StreamsSetup.stepsOfPush} is. */
const FEWEST_SEQUENCES = 4

/** Frees the native states of streams that were garbage-collected without being disposed. */
const finalizer = new FinalizationRegistry<() => void>((free) => free())

/** In a function of its own: a closure made in the constructor would hold the streams themselves, which then were never collected. */
const closing = (access: NativeAccess<NativeModel>, id: number) => () =>
  access.free((handle) => handle.slotsClose(id))

/** Setups that {@link SequenceModel.streams} has made. */
const setups = new WeakSet<StreamsSetup>()

/**
 * Many live streams of one model, which come and go at any time and are computed together: what they push is gathered, and
 * computed in ticks off the event loop. Each gives what it would give alone. Beside a tick, as beside any call that runs off the event loop,
 * a synchronous call of the model is refused (`ERR_S4_BUSY`): of many streams, some have their outputs before the tick has ended.
 *
 * @example
 * const streams = model.streams({ slots: 1000 })
 * for (const sensor of sensors) {
 *   const stream = streams.open()
 *   sensor.on('frame', async (data) => console.log(sensor.name, await stream.push({ data, shape: [data.length, 1] })))
 *   sensor.on('end', () => stream.dispose())
 * }
 */
export class ModelStreams {
  readonly #access: NativeAccess<NativeModel>
  readonly #id: number
  readonly #setup: StreamsSetup
  readonly #link: LiveStreams
  /** The open streams by slot. */
  readonly #open = new Map<number, LiveStream>()
  /** Free slots, the lowest last: neighbours are computed where their states stand. */
  readonly #free: number[]
  /** Slots whose states are to be zeroed by the next call of the addon. */
  readonly #used = new Set<number>()
  /** Slots that the tick under way has taken and not ended with; and those of them whose streams have ended meanwhile. */
  readonly #inTick = new Set<number>()
  readonly #leaving = new Set<number>()
  #timer: NodeJS.Timeout | NodeJS.Immediate | undefined
  /** Whether a tick is under way that others have to wait for; and its end. */
  #isTicking = false
  #tickEnd: Promise<void> = Promise.resolve()
  /** What the addon is computing. */
  readonly #underWay = new Set<Promise<unknown>>()
  #disposed = false

  private constructor(access: NativeAccess<NativeModel>, dtype: Dtype, id: number, setup: StreamsSetup) {
    // JavaScript lets a caller get here with anything.
    if (!setups.has(setup)) throw fail('ERR_S4_VALUE', 'ModelStreams', 'SequenceModel.streams()', 'new')
    this.#access = access
    this.#id = id
    this.#setup = setup
    this.#free = Array.from({ length: setup.slots }, (_, i) => setup.slots - 1 - i)
    this.#link = {
      dtype,
      input: setup.input,
      maxWaiting: setup.maxWaiting,
      usual: setup.usual,
      wake: () => this.#wake(),
      leave: (slot) => this.#leave(slot),
    }
    finalizer.register(this, closing(access, id), this)
  }

  /** @internal The streams with number `id` of the addon. */
  static make(
    access: NativeAccess<NativeModel>,
    dtype: Dtype,
    id: number,
    setup: StreamsSetup,
  ): ModelStreams {
    setups.add(setup)
    return new ModelStreams(access, dtype, id, setup)
  }

  #checkLive(op: string): string {
    const name = `ModelStreams.${op}`
    if (this.#disposed) throw fail('ERR_S4_DISPOSED', name, 'live streams', 'disposed ones')
    return name
  }

  /** Number of streams that may be open at a time. */
  get slots(): number {
    return this.#setup.slots
  }

  /** Number of open streams. */
  get size(): number {
    return this.#open.size
  }

  /** Opens a stream with zero states. `ERR_S4_BUSY` where all slots are taken. */
  open(): LiveStream {
    const op = this.#checkLive('open')
    this.#access.checkLive('streams')
    const slot = this.#free.pop()
    if (slot === undefined) throw fail('ERR_S4_BUSY', op, 'a free slot', `${this.#setup.slots} open streams`)
    const stream = LiveStream.open(this.#link, slot)
    this.#open.set(slot, stream)
    return stream
  }

  /** Computes what waits, after the tick under way; gives the number of time steps. */
  async tick(): Promise<number> {
    this.#checkLive('tick')
    while (this.#isTicking) await this.#tickEnd
    this.#unschedule()
    return this.#run(true)
  }

  /** Ends all streams and frees their native states, after the calls under way. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#unschedule()
    finalizer.unregister(this)
    for (const stream of this.#open.values())
      stream.end(fail('ERR_S4_DISPOSED', 'LiveStream.push', 'live streams', 'disposed ones'))
    this.#open.clear()
    this.#access.free((handle) => handle.slotsClose(this.#id))
  }

  /** Called at the end of a `using` declaration's scope: disposes. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** A stream has ended: its slot is free when its part of a tick has ended, and its states are zeroed before they are used. */
  #leave(slot: number): void {
    if (this.#disposed) return
    this.#open.delete(slot)
    if (this.#inTick.has(slot)) this.#leaving.add(slot)
    else this.#release(slot)
  }

  #release(slot: number): void {
    this.#used.add(slot)
    this.#free.push(slot)
    this.#free.sort((a, b) => b - a)
  }

  /** The streams of which a tick may take something: a call is under way of the others. */
  #takeable(): LiveStream[] {
    return [...this.#open].flatMap(([slot, stream]) => (this.#inTick.has(slot) ? [] : [stream]))
  }

  /** Sees to it that a tick comes. */
  #wake(): void {
    if (this.#isTicking || this.#disposed) return
    const { tickMilliseconds, tickSteps } = this.#setup
    if (tickSteps !== Infinity && this.#waitingSteps() >= tickSteps) this.#unschedule()
    else if (this.#timer !== undefined) return
    const run = () => {
      this.#timer = undefined
      void this.#run(false)
    }
    const since = this.#waitingSince()
    // Where calls are under way of all streams that wait, their ends see to it.
    if (since === Infinity) return
    // What came during a tick has waited from then on, not from the tick's end.
    const left = tickMilliseconds === 0 ? 0 : tickMilliseconds - (performance.now() - since)
    this.#timer = left <= 0 || this.#waitingSteps() >= tickSteps ? setImmediate(run) : setTimeout(run, left)
  }

  /** When the first of what waits has come. */
  #waitingSince(): number {
    let since = Infinity
    for (const stream of this.#takeable()) since = Math.min(since, stream.waitingSince ?? Infinity)
    return since
  }

  #waitingSteps(): number {
    let steps = 0
    for (const stream of this.#takeable()) steps += stream.waiting
    return steps
  }

  #unschedule(): void {
    if (this.#timer === undefined) return
    clearTimeout(this.#timer as NodeJS.Timeout)
    clearImmediate(this.#timer as NodeJS.Immediate)
    this.#timer = undefined
  }

  /** One tick, and those that it makes necessary; gives the number of time steps. A tick that is `whole` lets no other begin before its end. */
  async #run(whole: boolean): Promise<number> {
    if (this.#isTicking || this.#disposed) return 0
    this.#isTicking = true
    const steps: Promise<number>[] = []
    this.#tickEnd = this.#rounds(whole, steps)
    await this.#tickEnd
    this.#isTicking = false
    if (this.#takeable().some((stream) => !stream.isIdle)) this.#wake()
    return (await Promise.all(steps)).reduce((sum, count) => sum + count, 0)
  }

  /**
   * Computes what waited when it began, round by round, since a round takes only so much of a stream; and what is tried again. The first
   * round takes what comes while it is under way, too; the others take nothing of streams that have had their turn. When a tick is due the last
   * calls of the one before it may still be under way, so that no thread of the addon waits for the others.
   */
  async #rounds(whole: boolean, steps: Promise<number>[]): Promise<void> {
    const begin = performance.now()
    await this.#round(({ isIdle }) => !isIdle, steps)
    const goesOn = ({ isRetrying, waitingSince = Infinity }: LiveStream) =>
      isRetrying || waitingSince <= begin
    for (;;) {
      if (this.#takeable().some(goesOn)) {
        // Whoever waits for outputs that are there goes on first.
        await new Promise((resolve) => setImmediate(resolve))
        await this.#round(goesOn, steps)
      } else if (this.#underWay.size === 0) return
      else if (!whole && performance.now() - this.#waitingSince() >= this.#setup.tickMilliseconds) return
      else await Promise.race(this.#underWay)
    }
  }

  /**
   * What waits of some streams, except where it is their turn already; `steps` gets the numbers of time steps that are computed. Streams whose
   * slots are neighbours go to the addon together, in several calls at a time, and the next ones take what waits by then: so none waits until all
   * the others have been computed. The addon has more calls than threads, so that it never waits for JavaScript, which gives the outputs of each
   * when it has ended.
   */
  async #round(takes: (stream: LiveStream) => boolean, steps: Promise<number>[]): Promise<void> {
    const open = [...this.#open].toSorted(([a], [b]) => a - b)
    const many = this.#takeable().filter(takes).length >= FEWEST_SEQUENCES
    const stepsOfPush = many ? this.#setup.stepsOfPush : Infinity
    let at = 0
    while (at < open.length) {
      const pushing: Pushing[] = []
      const calls: { stream: LiveStream; slot: number; call: WaitingCall }[] = []
      for (; at < open.length; at++) {
        const [slot, stream] = open[at] as (typeof open)[number]
        if (this.#endsPart(pushing, slot)) break
        const isFree = !this.#inTick.has(slot) && takes(stream)
        const taken = isFree ? stream.takeForTick(stepsOfPush) : undefined
        if (taken === undefined) continue
        this.#inTick.add(slot)
        if ('call' in taken) calls.push({ stream, slot, call: taken.call })
        else pushing.push({ stream, slot, pushes: taken.pushes })
      }
      if (pushing.length > 0) {
        const delivery = this.#deliver(pushing)
        steps.push(delivery)
        this.#underWay.add(delivery)
        void delivery.finally(() => this.#underWay.delete(delivery))
      }
      // Calls have the addon to themselves.
      const most = calls.length > 0 ? 0 : this.#setup.pushesAtATime - 1
      while (this.#underWay.size > most) await Promise.race(this.#underWay)
      for (const { stream, slot, call } of calls) {
        await this.#answer(stream, slot, call)
        this.#endOf(slot)
      }
    }
  }

  /** Whether `pushing` goes to the addon before `slot` is looked at: at borders of its groups, where it has enough to do. */
  #endsPart(pushing: readonly Pushing[], slot: number): boolean {
    const { slotsOfPush } = this.#setup
    const last = pushing.at(-1)
    const part = (of: number) => Math.floor(of / slotsOfPush)
    return last !== undefined && pushing.length >= slotsOfPush / 2 && part(last.slot) !== part(slot)
  }

  /** Has pushes computed, hands their outputs to their streams, and frees the slots of those that have ended. Gives the number of time steps. */
  async #deliver(pushing: readonly Pushing[]): Promise<number> {
    let computed: Computed | undefined
    try {
      computed = await this.#compute(pushing)
    } catch (error) {
      // Not one push's fault: the model was disposed, or the device is lost.
      for (const { stream, pushes } of pushing) stream.refuse(pushes, error)
    }
    const steps = computed ? this.#give(pushing, computed.lens, computed.results) : 0
    for (const { slot } of pushing) this.#endOf(slot)
    return steps
  }

  /**
   * A slot's part of the tick has ended: another stream may have it, if its own has ended meanwhile, and what has come to its stream meanwhile, or is
   * tried again, has its tick.
   */
  #endOf(slot: number): void {
    this.#inTick.delete(slot)
    if (this.#leaving.delete(slot)) this.#release(slot)
    else if (this.#open.get(slot)?.isIdle === false) {
      // It may have waited for longer than those that the timer is for.
      this.#unschedule()
      this.#wake()
    }
  }

  /** Makes one call of a stream. */
  async #answer(stream: LiveStream, slot: number, call: WaitingCall): Promise<void> {
    try {
      if (call.kind === 'reset') this.#used.add(slot)
      await this.#compute([])
      if (call.kind === 'reset') return stream.answer(call, 0)
      const saved = await this.#access.read<Uint8Array | number>('streams', (handle) =>
        call.kind === 'save'
          ? handle.slotsSave(this.#id, slot)
          : handle.slotsRestore(this.#id, slot, call.state as Uint8Array),
      )
      return typeof saved === 'number' ? stream.answer(call, saved) : stream.answer(call, undefined, saved)
    } catch (error) {
      call.reject(error)
    }
  }

  /** Gives the outputs of pushes to their streams; gives the number of time steps that were computed. */
  #give(pushing: readonly Pushing[], lens: Uint32Array, results: SlotResults): number {
    const failures = new Map(
      results.failed.map((i, k) => [i, fromNative(new Error(results.messages[k]))] as const),
    )
    let [begin, computed] = [0, 0]
    for (const [i, { stream, pushes }] of pushing.entries()) {
      const len = lens[i] as number
      const failure = failures.get(i)
      if (failure === undefined) {
        try {
          stream.succeed(pushes, this.#outputsOf(pushes, results.outputs, begin))
          computed += len
        } catch (error) {
          // No memory for its outputs.
          stream.refuse(pushes, error)
        }
      } else if (pushes.length > 1) stream.tryAlone(pushes)
      else stream.refuse(pushes, failure)
      begin += len
    }
    return computed
  }

  /** A call of the addon, which zeroes the states of slots whose streams have ended before it pushes. */
  async #compute(pushing: readonly Pushing[]): Promise<Computed> {
    const call = joined(pushing, this.#setup.input, this.#link.dtype)
    // Of the slots of this part alone: another part, which is under way, may have those of others. A call has the addon to itself.
    const zero =
      pushing.length > 0 ? call.slots.filter((slot) => this.#used.has(slot)) : Uint32Array.from(this.#used)
    for (const slot of zero) this.#used.delete(slot)
    try {
      const results = await this.#access.read('streams', (handle) =>
        handle.slotsPush(this.#id, zero, call.data, call.slots, call.lens, call.timed, call.intervals),
      )
      return { lens: call.lens, results }
    } catch (error) {
      for (const slot of zero) this.#used.add(slot)
      throw error
    }
  }

  /** The outputs (len, output) of each of a stream's pushes, the first of which begins with time step `begin`. */
  #outputsOf(pushes: readonly WaitingPush[], outputs: Floats, begin: number): Tensor[] {
    const { output } = this.#setup
    let step = begin
    return pushes.map(({ len }) => {
      const shape = [len, output] as const
      const cut = () => outputs.slice(step * output, (step + len) * output)
      const data = allocated('LiveStream.push', 'a result', len * output * outputs.BYTES_PER_ELEMENT, cut)
      step += len
      return tensor(data, shape)
    })
  }
}

/** The arrays of a part of a tick: those of its streams, one after the other. */
function joined(
  taken: readonly Pushing[],
  input: number | undefined,
  dtype: Dtype,
): {
  data: Floats | Int32Array
  slots: Uint32Array
  lens: Uint32Array
  timed: Uint8Array
  intervals: Floats | undefined
} {
  const all = taken.flatMap(({ pushes }) => pushes)
  const steps = all.reduce((sum, { len }) => sum + len, 0)
  const lens = Uint32Array.from(taken, ({ pushes }) => pushes.reduce((sum, { len }) => sum + len, 0))
  const timed = Uint8Array.from(taken, ({ pushes }) => (pushes.some((p) => p.intervals) ? 1 : 0))
  const width = input ?? 1
  const op = 'LiveStream.push'
  const data =
    input === undefined
      ? allocated(op, 'tokens', 4 * steps, () => new Int32Array(steps))
      : allocate(op, [steps, width], dtype)
  const intervals = timed.includes(1) ? allocate(op, [steps], dtype) : undefined
  intervals?.fill(1)
  let begin = 0
  for (const push of all) {
    data.set(push.data, begin * width)
    if (push.intervals !== undefined) {
      if (push.intervals.length === 1) intervals?.fill(push.intervals[0] as number, begin, begin + push.len)
      else intervals?.set(push.intervals, begin)
    }
    begin += push.len
  }
  return { data, slots: Uint32Array.from(taken, ({ slot }) => slot), lens, timed, intervals }
}
