// What a group of ranks does for training: values that every rank gives and takes, in the order of calls, and word of a rank that
// is gone. All of it goes through one store of keys, the launcher's or that of rank 0.
import { fail, S4Error } from './error.js'
import type { Place } from './group-environment.js'
import type { StoreClient } from './store-client.js'
import type { StoreServer } from './store-server.js'

/** Which rank is gone, and how. */
export interface LostRank {
  readonly rank: number
  readonly reason: string
  /** Number of rounds that it took part in, where it left by itself. */
  readonly rounds?: number
}

/** Milliseconds between two looks for a rank that is gone. */
const WATCH_EVERY = 400
/** Milliseconds that ranks are given to say that they are there, before the others are named in an error. */
const ROLL_CALL = 1500

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** A rank's side of its group. */
export class GroupCore {
  readonly place: Place
  /** Milliseconds that one rank waits for the others. */
  readonly timeout: number
  readonly client: StoreClient | undefined
  readonly #server: StoreServer | undefined
  readonly #prefix: string
  /** Number of runs so far, the same on every rank. */
  #runs = 0
  #lost: LostRank | undefined
  closed = false
  /** Whether a rank has been lost. */
  broken = false
  /** The run under way. */
  run: GroupRun | undefined
  #closing: Promise<void> | undefined

  constructor(
    place: Place,
    timeout: number,
    client: StoreClient | undefined,
    server: StoreServer | undefined,
    prefix: string,
  ) {
    this.place = place
    this.timeout = timeout
    this.client = client
    this.#server = server
    this.#prefix = prefix
    if (client !== undefined)
      client.onLost = (error) => {
        if (!this.closed) this.#lost ??= { rank: 0, reason: `the store is gone: ${error.message}` }
      }
    if (server !== undefined)
      server.onClosed = (keysSet) => {
        // A rank says that it is a member, and later that it leaves.
        const member = [...keysSet].find((key) => key.startsWith(`${prefix}/member/`))
        const rank = Number(member?.slice(`${prefix}/member/`.length))
        if (member === undefined || server.has(`${prefix}/left/${rank}`)) return
        const lost: LostRank = { rank, reason: 'its process has ended' }
        if (!server.has(`${prefix}/lost`)) server.set(`${prefix}/lost`, Buffer.from(JSON.stringify(lost)))
      }
  }

  /** A rank that is known to be gone from the group. */
  async lost(): Promise<LostRank | undefined> {
    return (this.#lost ??= await this.read<LostRank>(`${this.#prefix}/lost`).catch(() => undefined))
  }

  /** The value of a key as JSON, where it is set. */
  async read<T>(key: string): Promise<T | undefined> {
    if (this.client === undefined || !(await this.client.check([key]))) return undefined
    return JSON.parse((await this.client.get(key)).toString()) as T
  }

  /** Says that this rank is a member. */
  enter(): void {
    this.client?.set(`${this.#prefix}/member/${this.place.rank}`, Buffer.from('1'))
  }

  /** Begins a run: a training, or what the group does before one. Every rank does so in the same order. */
  begin(): GroupRun {
    return new GroupRun(this, `${this.#prefix}/run/${this.#runs++}`)
  }

  /**
   * Leaves the group, and ends its run where one is under way. Rank 0's store stays until the others have left, or the time is over.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    this.closed = true
    const { client, place } = this
    this.run?.cancel('it has left the group')
    if (client === undefined) return
    client.ref()
    client.set(`${this.#prefix}/left/${place.rank}`, Buffer.from('1'))
    if (this.#server !== undefined) {
      const others = Array.from({ length: place.worldSize }, (_, r) => `${this.#prefix}/left/${r}`)
      // After a loss the others need the store only to hear of it.
      const deadline = performance.now() + Math.min(this.timeout, this.broken ? 2000 : 10_000)
      while (performance.now() < deadline && !this.#server.has(`${this.#prefix}/lost`)) {
        if (others.every((key) => this.#server?.has(key))) break
        await sleep(20)
      }
    }
    await client.close()
    await this.#server?.close()
  }
}

/** What the ranks exchange in one run. */
export class GroupRun {
  readonly core: GroupCore
  readonly #prefix: string
  #exchanges = 0
  #watch: NodeJS.Timeout | undefined
  /** Ends the waits of this rank for others. */
  #stop: ((reason: string) => void) | undefined
  #cancelled: string | undefined
  /** Numbers of rounds (updates and exchanges) that this rank has begun and ended. */
  #begun = 0
  #ended = 0

  constructor(core: GroupCore, prefix: string) {
    this.core = core
    this.#prefix = prefix
  }

  /** Counts a round that needs all ranks as begun, and as ended. */
  beginRound(): void {
    this.#begun++
  }
  endRound(): void {
    this.#ended = this.#begun
  }

  /** A rank that is gone, and without which the round under way cannot end. */
  async gone(): Promise<LostRank | undefined> {
    const lost = await this.core.lost()
    if (lost !== undefined) return lost
    const failed = await this.core.read<LostRank>(`${this.#prefix}/failed`)
    const needed = failed !== undefined && failed.rank !== this.core.place.rank
    return needed && this.#begun > (failed.rounds ?? 0) ? failed : undefined
  }

  /** Looks every now and then for a rank that is gone, and calls `stop` once with what is known of it. */
  watch(stop: (reason: string) => void): void {
    this.#stop = stop
    let looking = false
    this.#watch = setInterval(() => {
      if (looking) return
      looking = true
      this.gone()
        .then((gone) => {
          if (gone === undefined || this.#watch === undefined) return
          this.unwatch()
          stop(reasonOf(gone))
        })
        .catch(() => undefined)
        .finally(() => (looking = false))
    }, WATCH_EVERY)
    this.#watch.unref()
  }

  /** Ends {@link GroupRun.watch}. */
  unwatch(): void {
    clearInterval(this.#watch)
    this.#watch = undefined
  }

  /** Ends this rank's part in the run, and tells the others. */
  cancel(reason: string): void {
    this.#cancelled = reason
    this.leave(reason)
    this.unwatch()
    this.#stop?.(reasonOf({ rank: this.core.place.rank, reason }))
  }

  /** Tells the other ranks that this one takes part in no further round, or that `lost` is gone. */
  leave(reason: string, lost?: LostRank): void {
    const { client, place } = this.core
    const word = lost ?? { rank: place.rank, reason, rounds: this.#ended }
    client?.set(`${this.#prefix}/failed`, Buffer.from(JSON.stringify(word)))
  }

  /**
   * Gives every rank's value, in the order of ranks. `ERR_S4_PEER` where one does not come within the time; where `signal` fires, its
   * reason.
   */
  async exchange<T>(op: string, value: T, signal?: AbortSignal): Promise<T[]> {
    const { client, place, timeout } = this.core
    if (client === undefined) return [value]
    const number = this.#exchanges++
    const keys = Array.from({ length: place.worldSize }, (_, r) => `${this.#prefix}/x/${number}/${r}`)
    const own = keys[place.rank] as string
    this.beginRound()
    client.set(own, Buffer.from(JSON.stringify(value)))
    const lost = (got: string) =>
      fail('ERR_S4_PEER', op, `an answer of all ranks (this is rank ${place.rank})`, got)
    const ask = <R>(question: Promise<R>): Promise<R> =>
      question.catch((error: unknown) => {
        const keeper = place.meeting?.launcherStore ? "the launcher's store" : 'rank 0'
        throw lost(`${keeper}: ${this.#cancelled ?? (error as Error).message}`)
      })
    const deadline = performance.now() + timeout
    for (let pause = 2; ; pause = Math.min(2 * pause, 50)) {
      signal?.throwIfAborted()
      if (this.#cancelled !== undefined) throw lost(reasonOf({ rank: place.rank, reason: this.#cancelled }))
      if (await ask(client.check(keys))) break
      const gone = await ask(this.gone())
      if (gone !== undefined) throw lost(reasonOf(gone))
      if (performance.now() > deadline) {
        const there = await ask(Promise.all(keys.map((key) => client.check([key]))))
        const missing = there.flatMap((is, rank) => (is ? [] : [rank]))
        throw lost(`nothing of rank ${missing.join(', ')} within ${timeout / 1000} s`)
      }
      await sleep(pause)
    }
    const values = await ask(Promise.all(keys.map((key) => client.get(key))))
    this.endRound()
    // Every rank has read the one before: all have come to this one.
    if (number > 0) await ask(client.delete(`${this.#prefix}/x/${number - 1}/${place.rank}`))
    return values.map((bytes) => JSON.parse(bytes.toString()) as T)
  }

  /** The error of a rank that waited for others in vain, with those that are gone by name where they can be known. */
  async explain(error: S4Error): Promise<S4Error> {
    // The store may be what is gone: rank 0 keeps it, or the launcher.
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<S4Error>((resolve) => {
      const silent = () =>
        this.core.place.meeting?.launcherStore
          ? error
          : fail('ERR_S4_PEER', error.op, error.expected, `rank 0, whose store is silent: ${error.got}`)
      timer = setTimeout(() => resolve(silent()), 2 * ROLL_CALL)
    })
    return Promise.race([this.#explained(error).catch(() => error), limit]).finally(() => clearTimeout(timer))
  }

  async #explained(error: S4Error): Promise<S4Error> {
    const { client, place } = this.core
    if (/\brank \d/.test(error.got) || client === undefined) return error
    const gone = await this.gone()
    if (gone !== undefined) return fail('ERR_S4_PEER', error.op, error.expected, reasonOf(gone))
    const here = (rank: number) => `${this.#prefix}/here/${rank}`
    client.set(here(place.rank), Buffer.from('1'))
    await sleep(ROLL_CALL)
    const ranks = Array.from({ length: place.worldSize }, (_, rank) => rank)
    const there = await Promise.all(ranks.map((rank) => client.check([here(rank)])))
    const missing = ranks.filter((rank) => !there[rank])
    if (missing.length === 0) return error
    this.leave('', { rank: missing[0] as number, reason: error.got })
    return fail('ERR_S4_PEER', error.op, error.expected, `rank ${missing.join(', ')}: ${error.got}`)
  }
}

/** A sentence on a rank that is gone. */
export function reasonOf({ rank, reason }: LostRank): string {
  return `rank ${rank}: ${reason}`
}
