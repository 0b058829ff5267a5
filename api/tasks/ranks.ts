// Training of a task by several ranks: what rank 0 decides, because it depends on the clock, on a signal or on a folder, it tells the others.
import { fail } from '../error.js'
import { coreOf, type ProcessGroup } from '../group.js'
import type { GroupRun } from '../group-core.js'

/** Characters of a value that are exchanged at once. */
const PIECE = 16 << 20

/** The ranks of a task's training; one alone without a group. */
export class Ranks {
  readonly #op: string
  readonly #run: GroupRun | undefined
  /** How many there are. */
  readonly count: number
  /** Whether this is rank 0, which alone reads and writes the folder. */
  readonly isFirst: boolean

  constructor(op: string, group: ProcessGroup | undefined) {
    this.#op = op
    const core = group && coreOf(op, group)
    if (core?.closed) throw fail('ERR_S4_DISTRIBUTED', op, 'a group that has not been closed', 'a closed one')
    this.count = core?.place.worldSize ?? 1
    this.isFirst = (core?.place.rank ?? 0) === 0
    this.#run = this.count > 1 ? core?.begin() : undefined
  }

  /** Rank 0's value, on every rank: something that JSON has. `ERR_S4_PEER` where a rank does not come to this point within the time. */
  async ofFirst<T>(value: T): Promise<T> {
    if (this.#run === undefined) return value
    const [first] = await this.#run.exchange<T | null>(this.#op, this.isFirst ? value : null)
    return first as T
  }

  /** Rank 0's bytes, on every rank. */
  async bytesOfFirst(bytes: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    if (this.#run === undefined) return bytes
    const text = bytes === undefined ? '' : Buffer.from(bytes).toString('base64')
    const length = await this.ofFirst(bytes === undefined ? -1 : text.length)
    if (length < 0) return undefined
    const pieces = []
    for (let at = 0; at < length; at += PIECE) pieces.push(await this.ofFirst(text.slice(at, at + PIECE)))
    return Buffer.from(pieces.join(''), 'base64')
  }

  /** Tells the others, where this rank ends by an error, that they need not wait for it. */
  leave(error: unknown): void {
    this.#run?.leave(`it has failed: ${(error as Error).message}`)
  }
}
