// Which rank of which group this process is: from the caller's options, or from what launchers put into the environment.
import { wholeNumber } from './check.js'
import { fail } from './error.js'

/** What says which rank a process is. */
export type RankSource = 'options' | 'torch' | 'slurm' | 'openmpi' | 'pmi' | 'none'

/** The options of {@link joinGroup} that say which rank this is and where rank 0 is found. */
export interface PlaceOptions {
  /** Number of this process among all, from 0. Default that of the launcher. */
  rank?: number
  /** Number of processes. Default that of the launcher; 1 without one. */
  worldSize?: number
  /** Number of this process among those of its machine: it takes the GPU of that number. Default that of the launcher, or 0. */
  localRank?: number
  /** Name or address of rank 0's machine. Default `MASTER_ADDR`, or what the launcher says. */
  masterAddress?: string
  /** Port at which rank 0 is found there. Default `MASTER_PORT`, or one of the launcher's job. */
  masterPort?: number
  /** Tells the runs that share an address apart. Default that of the launcher. */
  runId?: string
}

/** Which rank of which group a process is, and where its ranks meet. */
export interface Place {
  readonly source: RankSource
  readonly rank: number
  readonly worldSize: number
  readonly localRank: number
  /** Where the ranks meet; undefined where there is one only. */
  readonly meeting: Meeting | undefined
}

/** Where the ranks of a group meet. */
export interface Meeting {
  readonly host: string
  readonly port: number
  /** What the keys of this group begin with. */
  readonly runId: string
  /** Whether the launcher keeps a store at the address; else rank 0 does. */
  readonly launcherStore: boolean
}

/** Variables of an environment. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The ports from which one is chosen by the number or name of a job: the last 4,096. */
const FIRST_JOB_PORT = 61440
const MOST_RANKS = 65536

/** A whole number of the environment; undefined where the variable is absent or empty. */
function numberOf(op: string, env: Environment, name: string, max = MOST_RANKS): number | undefined {
  const text = env[name]
  if (text === undefined || text === '') return undefined
  const x = /^\d{1,9}$/.test(text) ? Number(text) : NaN
  if (!(x <= max)) throw fail('ERR_S4_DISTRIBUTED', op, `${name} as a whole number from 0 to ${max}`, text)
  return x
}

/** What a launcher says, as far as it says it. */
interface Launched {
  readonly source: RankSource
  /** The names of the variables, for errors. */
  readonly names: { rank: string; worldSize: string }
  readonly rank: number | undefined
  readonly worldSize: number | undefined
  readonly localRank: number | undefined
  readonly localSize: number | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly runId: string
}

/** A number below 4,096 that a text determines. */
function hashOf(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193) >>> 0
  return (h ^ (h >>> 12) ^ (h >>> 24)) & 4095
}

/** The first machine of a list in Slurm's form: `node[03-05,9],other` begins with `node03`, `r[1-2]n[3-4]` with `r1n3`. */
export function firstSlurmHost(list: string): string | undefined {
  const [first = ''] = /^(?:[^[,\s]|\[[^\]]*\])*/.exec(list) ?? []
  const host = first.replace(/\[(\w+)[^\]]*\]/g, '$1')
  return /^[^[\],\s]+$/.test(host) ? host : undefined
}

/** What torchrun sets, and whatever follows its names: a PyTorchJob of Kubernetes, a shell loop. */
function torchRanks(op: string, env: Environment): Launched | undefined {
  if (!env['RANK'] && !env['WORLD_SIZE']) return undefined
  const restarts = env['TORCHELASTIC_RESTART_COUNT'] ?? '0'
  return {
    source: 'torch',
    names: { rank: 'RANK', worldSize: 'WORLD_SIZE' },
    rank: numberOf(op, env, 'RANK'),
    worldSize: numberOf(op, env, 'WORLD_SIZE'),
    localRank: numberOf(op, env, 'LOCAL_RANK'),
    localSize: numberOf(op, env, 'LOCAL_WORLD_SIZE'),
    runId: `${env['TORCHELASTIC_RUN_ID'] ?? 'run'}/${restarts}`,
  }
}

/** What a step of Slurm sets (`srun`). Its batch script has no list of the step's machines, and is no rank. */
function slurmRanks(op: string, env: Environment): Launched | undefined {
  const nodes = env['SLURM_STEP_NODELIST']
  if (!nodes || !env['SLURM_PROCID']) return undefined
  const job = env['SLURM_JOB_ID'] ?? '0'
  return {
    source: 'slurm',
    names: { rank: 'SLURM_PROCID', worldSize: 'SLURM_NTASKS' },
    rank: numberOf(op, env, 'SLURM_PROCID'),
    worldSize: numberOf(op, env, 'SLURM_STEP_NUM_TASKS') ?? numberOf(op, env, 'SLURM_NTASKS'),
    localRank: numberOf(op, env, 'SLURM_LOCALID'),
    localSize: undefined,
    host: firstSlurmHost(nodes),
    port: FIRST_JOB_PORT + (/^\d+$/.test(job) ? Number(BigInt(job) % 4096n) : hashOf(job)),
    runId: `slurm-${job}.${env['SLURM_STEP_ID'] ?? '0'}`,
  }
}

/** What a launcher of MPI sets, which says nothing of rank 0's machine unless there is one only. */
function mpiRanks(
  op: string,
  env: Environment,
  source: 'openmpi' | 'pmi',
  [rank, worldSize, localRank, localSize, job]: readonly [string, string, string, string, string | undefined],
): Launched | undefined {
  if (!env[rank] && !env[worldSize]) return undefined
  const count = numberOf(op, env, worldSize)
  const here = numberOf(op, env, localSize)
  const runId = (job && env[job]) ?? ''
  const oneMachine = count !== undefined && here === count
  return {
    source,
    names: { rank, worldSize },
    rank: numberOf(op, env, rank),
    worldSize: count,
    localRank: numberOf(op, env, localRank),
    localSize: here,
    ...(oneMachine && { host: '127.0.0.1', port: FIRST_JOB_PORT + hashOf(runId) }),
    runId: `mpi-${runId}`,
  }
}

/** What the first launcher that speaks says: torch's names before Slurm's, Open MPI's and those of PMI. */
function launched(op: string, env: Environment): Launched | undefined {
  const torch = torchRanks(op, env)
  if (torch !== undefined) checkLaunchers(op, env, torch)
  return torch ?? otherRanks(op, env).find((said) => said !== undefined)
}

/** What launchers say that have names of their own. */
function otherRanks(op: string, env: Environment): (Launched | undefined)[] {
  return [
    slurmRanks(op, env),
    mpiRanks(op, env, 'openmpi', [
      'OMPI_COMM_WORLD_RANK',
      'OMPI_COMM_WORLD_SIZE',
      'OMPI_COMM_WORLD_LOCAL_RANK',
      'OMPI_COMM_WORLD_LOCAL_SIZE',
      'PMIX_NAMESPACE',
    ]),
    // MPICH and Intel MPI give no name of the job that all ranks have: PMI_ID is the rank once more.
    mpiRanks(op, env, 'pmi', ['PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS', undefined]),
  ]
}

/**
 * Refuses torch's names that are of fewer processes than Slurm's step or `mpirun` has started, such as a WORLD_SIZE of 1 that an image
 * has left in the environment: every process would train alone. torchrun starts more.
 */
function checkLaunchers(op: string, env: Environment, { source, worldSize }: Launched): void {
  if (source !== 'torch' || worldSize === undefined || env['TORCHELASTIC_RUN_ID']) return
  for (const other of otherRanks(op, env)) {
    if (other?.worldSize !== undefined && worldSize < other.worldSize)
      throw fail(
        'ERR_S4_DISTRIBUTED',
        op,
        `WORLD_SIZE of all ${other.worldSize} processes of ${other.names.worldSize}, or none; or the options rank and worldSize`,
        `WORLD_SIZE ${worldSize}`,
      )
  }
}

/** Refuses a rank without a number of ranks or outside it; gives both, or undefined where neither is there. */
function checkRank(
  op: string,
  names: { rank: string; worldSize: string },
  rank: number | undefined,
  worldSize: number | undefined,
): { rank: number; worldSize: number } {
  if (rank === undefined || worldSize === undefined) {
    const [has, lacks] = rank === undefined ? [names.worldSize, names.rank] : [names.rank, names.worldSize]
    throw fail('ERR_S4_DISTRIBUTED', op, `${names.rank} and ${names.worldSize}`, `${has} without ${lacks}`)
  }
  if (worldSize < 1 || rank >= worldSize)
    throw fail(
      'ERR_S4_DISTRIBUTED',
      op,
      `${names.rank} from 0 to below ${names.worldSize}`,
      `${names.rank} ${rank} of ${names.worldSize} ${worldSize}`,
    )
  return { rank, worldSize }
}

/**
 * Which rank this process is, by its options before torch's names (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), Slurm's,
 * Open MPI's and those of PMI; the one rank of a group of one where nothing says otherwise. `ERR_S4_DISTRIBUTED` where what is said
 * is incomplete, contradicts itself, or does not say where rank 0 is.
 */
export function placeOf(op: string, options: PlaceOptions, env: Environment): Place {
  const explicit = options.rank !== undefined || options.worldSize !== undefined
  const said = explicit ? undefined : launched(op, env)
  const source: RankSource = explicit ? 'options' : (said?.source ?? 'none')
  const names = said?.names ?? { rank: 'rank', worldSize: 'worldSize' }
  const given = explicit
    ? {
        rank: options.rank === undefined ? undefined : wholeNumber(op, 'rank', options.rank, 0, MOST_RANKS),
        worldSize:
          options.worldSize === undefined
            ? undefined
            : wholeNumber(op, 'worldSize', options.worldSize, 1, MOST_RANKS),
      }
    : (said ?? { rank: 0, worldSize: 1 })
  const { rank, worldSize } = checkRank(op, names, given.rank, given.worldSize)
  const localRank =
    options.localRank === undefined
      ? ((said === undefined ? numberOf(op, env, 'LOCAL_RANK') : said.localRank) ?? 0)
      : wholeNumber(op, 'localRank', options.localRank, 0, MOST_RANKS)
  if (said?.localSize !== undefined && localRank >= said.localSize)
    throw fail(
      'ERR_S4_DISTRIBUTED',
      op,
      'a local rank below the number of ranks on this machine',
      `${localRank} of ${said.localSize}`,
    )
  const meeting = worldSize === 1 ? undefined : meetingOf(op, options, env, said)
  return { source, rank, worldSize, localRank, meeting }
}

/** Where the ranks meet. */
function meetingOf(op: string, options: PlaceOptions, env: Environment, said: Launched | undefined): Meeting {
  // IPv6 addresses may stand in brackets.
  const given = options.masterAddress ?? (env['MASTER_ADDR'] || undefined) ?? said?.host
  const host = given?.replace(/^\[(.*)\]$/, '$1')
  if (host !== undefined && !/^[^\s\0]+$/.test(host))
    throw fail('ERR_S4_DISTRIBUTED', op, 'MASTER_ADDR as the name or address of a machine', host)
  const port = options.masterPort ?? numberOf(op, env, 'MASTER_PORT', 65535) ?? said?.port
  if (port === 0) throw fail('ERR_S4_DISTRIBUTED', op, 'MASTER_PORT from 1 to 65535', 0)
  if (host === undefined || port === undefined)
    throw fail(
      'ERR_S4_DISTRIBUTED',
      op,
      'where rank 0 is found: MASTER_ADDR and MASTER_PORT, or the options masterAddress and masterPort',
      host === undefined ? 'no address' : 'no port',
    )
  const runId = options.runId ?? said?.runId ?? 'run'
  if (runId.length > 200) throw fail('ERR_S4_VALUE', op, 'runId as a string of 1 to 200 characters', runId)
  // torchrun keeps a store at the address, and says so; an address of the caller's own is not torchrun's.
  const launcherStore =
    said?.source === 'torch' &&
    env['TORCHELASTIC_USE_AGENT_STORE'] === 'True' &&
    options.masterAddress === undefined &&
    options.masterPort === undefined
  return { host, port, runId, launcherStore }
}
