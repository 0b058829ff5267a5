// Groups of processes that train one model together, each on a GPU of its own.
import { rejectUnknownOptions, wholeNumber, textOf } from './check.js'
import { devices } from './device.js'
import { aborted, fail, hasFired, throwIfAborted, type S4Error } from './error.js'
import { GroupCore } from './group-core.js'
import { choices } from './options.js'
import { placeOf, type Place, type PlaceOptions } from './group-environment.js'
import { StoreClient } from './store-client.js'
import { StoreServer } from './store-server.js'

/** Options of {@link joinGroup}. */
export interface JoinOptions extends PlaceOptions {
  /** Milliseconds that a rank waits for the others, to join and in training. Default 60,000. */
  timeout?: number
  /** Ends the joining when it fires. */
  signal?: AbortSignal
}

const JOIN_OPTIONS = [
  'rank',
  'worldSize',
  'localRank',
  'masterAddress',
  'masterPort',
  'runId',
  'timeout',
  'signal',
] as const

const CORES = new WeakMap<object, GroupCore>()
/** The places of groups that joinGroup() makes. */
const JOINED = new WeakSet<object>()
let makeGroup: (place: Place, device: ProcessGroup['device'], core: GroupCore) => ProcessGroup

/** The group of ranks that a process has joined, see {@link joinGroup}. */
export class ProcessGroup {
  /** Number of this process among all, from 0. */
  readonly rank: number
  /** Number of processes. */
  readonly worldSize: number
  /** Number of this process among those of its machine. */
  readonly localRank: number
  /** Device for this process's models: `'cuda:1'` for local rank 1, `'cuda'` where one GPU alone can be seen, `'cpu'` without one. */
  readonly device: 'cpu' | 'cuda' | (typeof choices.gpu)[number]
  /** What has said which rank this is. */
  readonly source: 'options' | 'torch' | 'slurm' | 'openmpi' | 'pmi' | 'none'

  private constructor(place: Place, device: ProcessGroup['device']) {
    // JavaScript lets a caller get here with anything.
    if (!JOINED.has(place)) throw fail('ERR_S4_VALUE', 'ProcessGroup', 'joinGroup()', 'new')
    const { rank, worldSize, localRank, source } = place
    this.rank = rank
    this.worldSize = worldSize
    this.localRank = localRank
    this.device = device
    this.source = source
    Object.freeze(this)
  }

  static {
    makeGroup = (place, device, core) => {
      JOINED.add(place)
      const group = new ProcessGroup(place, device)
      CORES.set(group, core)
      return group
    }
  }

  /** Leaves the group, after the last training. */
  async close(): Promise<void> {
    await coreOf('ProcessGroup.close', this).close()
  }

  /** Called at the end of an `await using` declaration's scope: closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** The inner side of a group that joinGroup() gave. */
export function coreOf(op: string, group: unknown): GroupCore {
  const core = typeof group === 'object' && group !== null ? CORES.get(group) : undefined
  if (core === undefined) throw fail('ERR_S4_VALUE', op, 'distributed as a group of joinGroup()', group)
  return core
}

/** The device for a rank of this machine. */
function deviceOf(op: string, { localRank, worldSize }: Place): ProcessGroup['device'] {
  const gpus = devices().filter((device) => device.kind === 'cuda').length
  if (gpus === 0) return 'cpu'
  if (gpus === 1) return 'cuda'
  const device = choices.gpu[localRank]
  if (device !== undefined && localRank < gpus) return device
  if (worldSize === 1) return 'cuda'
  throw fail('ERR_S4_DISTRIBUTED', op, `a local rank below the number of GPUs, ${gpus}`, localRank)
}

/**
 * Joins the group of processes that a launcher has started: `torchrun --no-python`, `srun`, `mpirun`, a PyTorchJob of Kubernetes, or
 * a loop that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Without one it is a group of one, and training is as
 * without a group. Resolves when all ranks have come. `ERR_S4_DISTRIBUTED` where the environment contradicts itself or the ranks do
 * not find each other within the time. The traffic is not encrypted: for networks that are trusted.
 *
 * @example
 * const group = await joinGroup()
 * const model = await SequenceModel.create({ ...options, device: group.device })
 * for await (const e of model.train(data, { batchSize: 32, distributed: group })) if (group.rank === 0) console.log(e.loss)
 * await group.close()
 */
export async function joinGroup(options: JoinOptions = {}): Promise<ProcessGroup> {
  const op = 'joinGroup'
  const given = rejectUnknownOptions(op, options, JOIN_OPTIONS)
  const { timeout = 60_000, signal } = given
  wholeNumber(op, 'timeout', timeout, 1, 2 ** 31 - 1)
  throwIfAborted(op, signal)
  for (const name of ['masterAddress', 'runId'] as const) {
    const text = given[name]
    // Neither a host's name nor a key of a store has any of these in it.
    if (text !== undefined && !/^[^\s\0]+$/.test(textOf(op, name, text)))
      throw fail('ERR_S4_VALUE', op, `${name} of one character or more, without spaces`, text)
  }
  if (given.masterPort !== undefined) wholeNumber(op, 'masterPort', given.masterPort, 1, 65535)
  const place = placeOf(op, given, process.env)
  const device = deviceOf(op, place)
  const core = await meet(op, place, timeout, signal)
  return makeGroup(place, device, core)
}

/** Meets the other ranks at the place's store, which rank 0 opens where the launcher has none. */
async function meet(
  op: string,
  place: Place,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<GroupCore> {
  const { meeting, rank, worldSize } = place
  if (meeting === undefined) return new GroupCore(place, timeout, undefined, undefined, '')
  const { host, port, runId, launcherStore } = meeting
  const prefix = `s4-node/${runId}`
  const deadline = performance.now() + timeout
  let server: StoreServer | undefined
  let client: StoreClient | undefined
  try {
    if (rank === 0 && !launcherStore) server = await StoreServer.listen(port, loopbackOf(host))
    for (;;) {
      client = await StoreClient.connect(host, port, deadline, timeout, signal)
      // What a group of the same name has left in a launcher's store is of other numbers.
      try {
        const generation = await generationOf(client, prefix, rank)
        const core = new GroupCore(place, timeout, client, server, `${prefix}/${generation}`)
        core.enter()
        await agree(op, core, worldSize, signal)
        client.unref()
        return core
      } catch (error) {
        // A store that closes is of a group before this one: rank 0 opens another.
        if (!client.hasEnded || performance.now() > deadline) throw error
      }
    }
  } catch (error) {
    await client?.close()
    await server?.close()
    if (signal !== undefined && hasFired(op, 'signal', signal)) throw aborted(op, signal)
    const { code, got, message } = error as Partial<S4Error> & { message: string }
    if (code === 'ERR_S4_DISTRIBUTED') throw error
    const where = `${host}:${port}${rank === 0 && !launcherStore ? ', where this rank 0 listens' : ''}`
    throw fail('ERR_S4_DISTRIBUTED', op, `all ${worldSize} ranks to meet at ${where}`, got ?? message)
  }
}

/** Waits for all ranks, and refuses those of a group of another size. */
async function agree(
  op: string,
  core: GroupCore,
  worldSize: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const all = await core.begin().exchange(op, { worldSize }, signal)
  const other = all.findIndex((rank) => rank.worldSize !== worldSize)
  if (other >= 0)
    throw fail('ERR_S4_DISTRIBUTED', op, `${worldSize} ranks`, `${all[other]?.worldSize} on rank ${other}`)
}

/** Number of the group among those of the same name that this rank has joined. */
async function generationOf(client: StoreClient, prefix: string, rank: number): Promise<number> {
  const count = await client.add(`${prefix}/joins/${rank}`, 1)
  // Of another server the bytes of an answer are no such number.
  if (!(count >= 1 && count < 2 ** 32)) throw new Error("no store in the format of PyTorch's TCPStore")
  return count - 1
}

/** The address at which a store listens that only this machine is to reach; undefined for all addresses. */
function loopbackOf(host: string): string | undefined {
  if (host === 'localhost' || host.startsWith('127.')) return '127.0.0.1'
  return host === '::1' ? host : undefined
}
