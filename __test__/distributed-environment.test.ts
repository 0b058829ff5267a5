/** Which rank a process is: what each launcher sets, in which order it counts, and what is refused. */
import test from 'ava'
import { firstSlurmHost, placeOf, type Environment, type PlaceOptions } from '../api/group-environment.js'
import { S4Error, type S4ErrorCode } from '../index.js'

const torch = { RANK: '3', WORLD_SIZE: '8', LOCAL_RANK: '1', MASTER_ADDR: 'a', MASTER_PORT: '29500' }
const slurm = {
  SLURM_PROCID: '5',
  SLURM_NTASKS: '16',
  SLURM_LOCALID: '1',
  SLURM_JOB_ID: '5000',
  SLURM_STEP_ID: '2',
  SLURM_STEP_NODELIST: 'gpu[07-09],gpu12',
}
const openmpi = {
  OMPI_COMM_WORLD_RANK: '1',
  OMPI_COMM_WORLD_SIZE: '2',
  OMPI_COMM_WORLD_LOCAL_RANK: '1',
  OMPI_COMM_WORLD_LOCAL_SIZE: '2',
  PMIX_NAMESPACE: 'prterun-host-123@1',
}
/** What torchrun says besides the names that others use too. */
const elastic = { TORCHELASTIC_RUN_ID: 'none' }
const pmi = { PMI_RANK: '2', PMI_SIZE: '4', MPI_LOCALRANKID: '0', MPI_LOCALNRANKS: '2' }
const master = { MASTER_ADDR: 'head', MASTER_PORT: '1234' }

/** The environment, the options, and [source, rank, worldSize, localRank, host, port, runId, launcherStore]. */
type Row = [string, Environment, PlaceOptions, (string | number | boolean | undefined)[]]

const rows: Row[] = [
  ['nothing', {}, {}, ['none', 0, 1, 0]],
  ['a shell loop', torch, {}, ['torch', 3, 8, 1, 'a', 29500, 'run/0', false]],
  [
    'torchrun',
    {
      ...torch,
      LOCAL_WORLD_SIZE: '2',
      TORCHELASTIC_RUN_ID: 'x',
      TORCHELASTIC_RESTART_COUNT: '2',
      TORCHELASTIC_USE_AGENT_STORE: 'True',
    },
    {},
    ['torch', 3, 8, 1, 'a', 29500, 'x/2', true],
  ],
  [
    'a PyTorchJob of Kubernetes, one process a pod',
    { RANK: '1', WORLD_SIZE: '2', MASTER_ADDR: 'job-master-0', MASTER_PORT: '23456' },
    {},
    ['torch', 1, 2, 0, 'job-master-0', 23456, 'run/0', false],
  ],
  ['srun', slurm, {}, ['slurm', 5, 16, 1, 'gpu07', 61440 + (5000 % 4096), 'slurm-5000.2', false]],
  [
    'srun with fewer tasks than its job',
    { ...slurm, SLURM_STEP_NUM_TASKS: '8' },
    {},
    ['slurm', 5, 8, 1, 'gpu07', 61440 + (5000 % 4096), 'slurm-5000.2', false],
  ],
  ['a batch script of Slurm, which is no step', { ...slurm, SLURM_STEP_NODELIST: '' }, {}, ['none', 0, 1, 0]],
  [
    'torchrun under Slurm',
    { ...slurm, ...torch, ...elastic },
    {},
    ['torch', 3, 8, 1, 'a', 29500, 'none/0', false],
  ],
  [
    'Slurm over Open MPI',
    { ...openmpi, ...slurm },
    {},
    ['slurm', 5, 16, 1, 'gpu07', 62344, 'slurm-5000.2', false],
  ],
  [
    'mpirun on two machines',
    { ...openmpi, OMPI_COMM_WORLD_LOCAL_SIZE: '1', OMPI_COMM_WORLD_LOCAL_RANK: '0', ...master },
    {},
    ['openmpi', 1, 2, 0, 'head', 1234, 'mpi-prterun-host-123@1', false],
  ],
  ['PMI', { ...pmi, ...master }, {}, ['pmi', 2, 4, 0, 'head', 1234, 'mpi-', false]],
  [
    'MPICH, whose PMI_ID is the rank',
    { ...pmi, ...master, PMI_ID: '2' },
    {},
    ['pmi', 2, 4, 0, 'head', 1234, 'mpi-', false],
  ],
  [
    "a script that gives Slurm's numbers torch's names",
    { ...slurm, RANK: '5', WORLD_SIZE: '16', LOCAL_RANK: '1', ...master },
    {},
    ['torch', 5, 16, 1, 'head', 1234, 'run/0', false],
  ],
  [
    'options with the local rank of the environment',
    { ...torch },
    { rank: 1, worldSize: 2 },
    ['options', 1, 2, 1, 'a', 29500, 'run', false],
  ],
  [
    'an IPv6 address in brackets',
    { ...torch, MASTER_ADDR: '[fd00::1]' },
    {},
    ['torch', 3, 8, 1, 'fd00::1', 29500, 'run/0', false],
  ],
  [
    'options before everything',
    { ...torch, TORCHELASTIC_USE_AGENT_STORE: 'True' },
    { rank: 0, worldSize: 2, masterAddress: 'here', masterPort: 99, runId: 'mine' },
    ['options', 0, 2, 1, 'here', 99, 'mine', false],
  ],
  [
    'an address of the options with the ranks of torchrun',
    { ...torch, TORCHELASTIC_USE_AGENT_STORE: 'True' },
    { masterPort: 99 },
    ['torch', 3, 8, 1, 'a', 99, 'run/0', false],
  ],
  ['a group of one needs no address', { RANK: '0', WORLD_SIZE: '1' }, {}, ['torch', 0, 1, 0]],
]

for (const [name, env, options, want] of rows) {
  test(name, (t) => {
    const { source, rank, worldSize, localRank, meeting } = placeOf('joinGroup', options, env)
    const { host, port, runId, launcherStore } = meeting ?? {}
    const got = [source, rank, worldSize, localRank, host, port, runId, launcherStore]
    t.deepEqual(got.slice(0, want.length), want)
    t.true(got.slice(want.length).every((x) => x === undefined))
  })
}

test('mpirun on one machine has a port of its job', (t) => {
  const meeting = (env: Environment) => placeOf('joinGroup', {}, env).meeting
  const { host, port = 0 } = meeting(openmpi) ?? {}
  t.is(host, '127.0.0.1')
  t.true(port >= 61440 && port < 65536)
  t.is(meeting({ ...openmpi, OMPI_COMM_WORLD_RANK: '0' })?.port, port)
  t.not(meeting({ ...openmpi, PMIX_NAMESPACE: 'prterun-host-124@1' })?.port, port)
})

const refused: [string, Environment, PlaceOptions, S4ErrorCode, RegExp][] = [
  ['RANK alone', { RANK: '0' }, {}, 'ERR_S4_DISTRIBUTED', /RANK without WORLD_SIZE/],
  ['WORLD_SIZE alone', { WORLD_SIZE: '2' }, {}, 'ERR_S4_DISTRIBUTED', /WORLD_SIZE without RANK/],
  ['a rank outside', { ...torch, RANK: '8' }, {}, 'ERR_S4_DISTRIBUTED', /RANK 8 of WORLD_SIZE 8/],
  ['no ranks', { ...torch, RANK: '0', WORLD_SIZE: '0' }, {}, 'ERR_S4_DISTRIBUTED', /WORLD_SIZE 0/],
  ['a rank that is no number', { ...torch, RANK: '1x' }, {}, 'ERR_S4_DISTRIBUTED', /got 1x/],
  ['a rank below 0', { ...torch, RANK: '-1' }, {}, 'ERR_S4_DISTRIBUTED', /got -1/],
  ['a huge rank', { ...torch, RANK: '99999999999' }, {}, 'ERR_S4_DISTRIBUTED', /RANK/],
  ['no address', { RANK: '0', WORLD_SIZE: '2', MASTER_PORT: '1' }, {}, 'ERR_S4_DISTRIBUTED', /MASTER_ADDR/],
  ['no port', { RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: 'a' }, {}, 'ERR_S4_DISTRIBUTED', /no port/],
  ['the port 0', { ...torch, MASTER_PORT: '0' }, {}, 'ERR_S4_DISTRIBUTED', /MASTER_PORT/],
  ['an address with a space', { ...torch, MASTER_ADDR: 'a b' }, {}, 'ERR_S4_DISTRIBUTED', /MASTER_ADDR/],
  [
    'one process by torch of many by Slurm',
    { ...slurm, RANK: '0', WORLD_SIZE: '1' },
    {},
    'ERR_S4_DISTRIBUTED',
    /16 processes of SLURM_NTASKS/,
  ],
  [
    'one process by torch of two by Open MPI',
    { ...openmpi, RANK: '0', WORLD_SIZE: '1' },
    {},
    'ERR_S4_DISTRIBUTED',
    /2 processes of OMPI_COMM_WORLD_SIZE/,
  ],
  ['a port beyond', { ...torch, MASTER_PORT: '65536' }, {}, 'ERR_S4_DISTRIBUTED', /MASTER_PORT/],
  [
    'a local rank beyond its machine',
    { ...torch, LOCAL_WORLD_SIZE: '1' },
    {},
    'ERR_S4_DISTRIBUTED',
    /1 of 1/,
  ],
  ['a Slurm rank outside', { ...slurm, SLURM_PROCID: '16' }, {}, 'ERR_S4_DISTRIBUTED', /SLURM_PROCID 16/],
  ['MPI on machines without an address', pmi, {}, 'ERR_S4_DISTRIBUTED', /no address/],
  ['an option without the other', torch, { rank: 0 }, 'ERR_S4_DISTRIBUTED', /rank without worldSize/],
  ['an option that is no number', {}, { rank: '0' as never, worldSize: 2 }, 'ERR_S4_VALUE', /rank/],
  ['an option outside', {}, { rank: 2, worldSize: 2 }, 'ERR_S4_DISTRIBUTED', /rank 2 of worldSize 2/],
]

for (const [name, env, options, code, text] of refused) {
  test(`${name} is refused`, (t) => {
    const error = t.throws(() => placeOf('joinGroup', options, env), { instanceOf: S4Error })
    t.is(error.code, code)
    t.regex(error.message, text)
  })
}

test('the first machine of a list of Slurm', (t) => {
  const lists = {
    node1: 'node1',
    'a[3,5]': 'a3',
    'n[001-004,7],x': 'n001',
    'b,c': 'b',
    'r[1-2]c': 'r1c',
    'rack[1-2]n[3-4],x': 'rack1n3',
    'a-b.c,d': 'a-b.c',
    '': undefined,
  }
  for (const [list, host] of Object.entries(lists)) t.is(firstSlurmHost(list), host)
})
