// One training run of a model by the ranks of a group: what they agree on before it, and how they end.
import { PeerStop } from '#binding'
import type { NativeModel, Sums } from '#binding'
import type { NativeAccess } from './access.js'
import { fail, throwIfAborted, type S4Error } from './error.js'
import { coreOf, type ProcessGroup } from './group.js'
import type { GroupCore, GroupRun } from './group-core.js'
import type { Shard } from './dataset.js'
import { addSums, noSums } from './scores.js'

/** What every rank must have alike, by the words of an error. */
interface Terms {
  readonly 'model configuration': unknown
  readonly 'number format': string
  readonly 'options of the run': unknown
  readonly dataset: string
}

/** What a rank says of its part in an evaluation. */
interface SentSums extends Omit<Sums, 'confusion'> {
  readonly confusion: number[] | undefined
  readonly hasBatch: boolean
}

/** A run that several ranks make together. */
export class DistributedRun {
  readonly shard: Shard
  readonly #access: NativeAccess<NativeModel>
  readonly #core: GroupCore
  readonly #run: GroupRun
  readonly #op: string
  readonly #stop = new PeerStop()
  #joined = false

  private constructor(op: string, access: NativeAccess<NativeModel>, core: GroupCore) {
    this.#op = op
    this.#access = access
    this.#core = core
    this.#run = core.begin()
    core.run = this.#run
    const { rank, worldSize } = core.place
    this.shard = { rank, worldSize }
  }

  /** A run in the group that the option `distributed` names; undefined where there is no other rank. */
  static of(
    op: string,
    access: NativeAccess<NativeModel>,
    group: ProcessGroup | undefined,
  ): DistributedRun | undefined {
    if (group === undefined) return undefined
    const core = coreOf(op, group)
    if (core.closed) throw fail('ERR_S4_DISTRIBUTED', op, 'a group that has not been closed', 'a closed one')
    if (core.place.worldSize === 1) return undefined
    if (core.run !== undefined) throw fail('ERR_S4_BUSY', op, 'one training of a group at a time', 'another')
    return new DistributedRun(op, access, core)
  }

  /**
   * Begins the run on every rank, where rank 0 is: with its parameters, moments, counts and options. `ERR_S4_DISTRIBUTED` where
   * models or options differ.
   */
  async begin(terms: Terms, config: string, resume: boolean, signal?: AbortSignal): Promise<void> {
    try {
      await this.#begin(terms, config, resume, signal)
    } catch (error) {
      // Where this rank's run has begun it ends before its first update, and what there was before is there again.
      await this.#access.afterReads('train', (handle) => handle.trainEnd(true)).catch(() => undefined)
      throw error
    }
  }

  async #begin(
    terms: Terms,
    config: string,
    resume: boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const op = this.#op
    const { rank, worldSize } = this.shard
    const { timeout, client } = this.#core
    client?.ref()
    this.#run.watch((reason) => this.#stop.stop(reason))
    const all = await this.#exchange(terms, signal)
    for (const name of Object.keys(terms) as (keyof Terms)[]) {
      const texts = all.map((theirs) => JSON.stringify(theirs[name]))
      const other = texts.findIndex((text) => text !== texts[0])
      if (other >= 0)
        throw fail(
          'ERR_S4_DISTRIBUTED',
          op,
          `the same ${name} on all ranks: ${texts[0]} on rank 0`,
          `${texts[other]} on rank ${other}`,
        )
    }
    const access = this.#access
    let first: { state: string; id: string } | undefined
    if (rank === 0) {
      await access.afterReads('train', (handle) => handle.trainBegin(config, resume))
      const state = await access.afterReads('train', (handle) => handle.runState())
      const carried = JSON.parse(state) as { carried: number | null; progress: { items: number } }
      if (carried.carried !== null && carried.progress.items > 0)
        throw fail(
          'ERR_S4_UNSUPPORTED',
          op,
          'an epoch that begins anew: states that carryState carries are of other ranks too',
          'one under way',
        )
      const id = await access.read('train', (handle) => handle.peerId())
      first = { state, id: Buffer.from(id).toString('base64') }
    }
    const [ofFirst] = await this.#exchange(first ?? null, signal)
    if (ofFirst === null || ofFirst === undefined)
      throw fail('ERR_S4_DISTRIBUTED', op, 'the state of the run from rank 0', 'none')
    if (rank !== 0) await access.afterReads('train', (handle) => handle.beginSharedRun(ofFirst.state))
    const id = Buffer.from(ofFirst.id, 'base64')
    const onAbort = () => this.#stop.stop(`rank ${rank}: its signal has fired`)
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      await this.round(() =>
        access.read('train', (handle) => handle.joinPeers(id, { rank, worldSize, timeout }, this.#stop)),
      )
      this.#joined = true
    } catch (error) {
      throwIfAborted(op, signal)
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Gives every rank's value; `ERR_S4_ABORTED` where the signal of this one fires. */
  async #exchange<T>(value: T, signal: AbortSignal | undefined): Promise<T[]> {
    try {
      return await this.#run.exchange(this.#op, value, signal)
    } catch (error) {
      throwIfAborted(this.#op, signal)
      throw error
    }
  }

  /** Work that ends when all ranks have done it. A loss or gradient that is not finite is so on all of them. */
  async round<R>(work: () => Promise<R>): Promise<R> {
    this.#run.beginRound()
    try {
      const result = await work()
      this.#run.endRound()
      return result
    } catch (error) {
      if ((error as Partial<S4Error>).code === 'ERR_S4_NONFINITE') this.#run.endRound()
      throw error
    }
  }

  /** Waits until every rank has come here. */
  async meet(signal?: AbortSignal): Promise<void> {
    await this.#exchange(1, signal)
  }

  /** Sums of an evaluation over all ranks, the same bits on each. */
  async sum(sums: Sums, hasBatch: boolean, signal?: AbortSignal): Promise<{ sums: Sums; hasBatch: boolean }> {
    const sent: SentSums = { ...sums, confusion: sums.confusion && Array.from(sums.confusion), hasBatch }
    const all = await this.#exchange(sent, signal)
    const total = noSums()
    for (const { hasBatch: _, ...part } of all)
      addSums(total, {
        ...part,
        // JSON has no numbers that are not finite.
        loss: part.loss ?? NaN,
        metrics: {
          ...part.metrics,
          sums: part.metrics.sums.map((sum) => sum ?? NaN) as Sums['metrics']['sums'],
        },
        confusion: part.confusion && Float64Array.from(part.confusion),
      })
    return { sums: total, hasBatch: all.some((part) => part.hasBatch) }
  }

  /**
   * Ends the run. `error`: for which it has ended early, or null where the caller has ended the loop; gives the error to throw, which
   * names the rank that is gone where it can be known.
   */
  async end(error: unknown): Promise<unknown> {
    const isPeer = (error as Partial<S4Error> | null | undefined)?.code === 'ERR_S4_PEER'
    let reported = error
    if (isPeer) {
      this.#core.broken = true
      reported = await this.#run.explain(error as S4Error)
      // The device may have gone on with sums that were not whole.
      if (this.#joined) this.#access.refuse(reported as S4Error)
    } else if (error !== undefined) {
      const reason =
        error === null ? 'it has ended its training' : `it has failed: ${(error as Error).message}`
      this.#run.leave(reason)
    }
    this.#run.unwatch()
    if (error !== undefined) this.#stop.stop('this rank has ended its training')
    this.#core.client?.unref()
    this.#core.run = undefined
    return reported
  }

  /** Trains alone from here on; a model that is refused keeps what it has until it is disposed of. */
  async leave(): Promise<void> {
    if (this.#joined) await this.#access.read('train', (handle) => handle.leavePeers()).catch(() => undefined)
  }
}
