// Packs all files that a machine with an NVIDIA GPU and its driver needs to test and time this source tree: Node, the release addon
// with its kernels, the compiled tests of the API, the `s4` command, the Rust tests, the golden files.
//   node scripts/gpu-pack.mjs [--built]    fills .gpu/ (three files, about 50 MB); --built packs the addon as it stands
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fewImages, must, root, run, setup } from './setup.mjs'

const pack = join(root, '.gpu')
const rust = join(pack, 'rust')

/** The folders of these packages and of all packages that they need at run time, found as Node finds them. */
function closure(names, from = root) {
  const found = new Set()
  const todo = names.map((name) => [name, from])
  while (todo.length > 0) {
    const [name, user] = todo.pop()
    let folder = user
    while (!existsSync(join(folder, 'node_modules', name)) && folder !== root) folder = dirname(folder)
    const path = join(folder, 'node_modules', name)
    if (!existsSync(path)) must(`Looking for the package ${name} (npm ci)`, false)
    if (found.has(path)) continue
    found.add(path)
    const { dependencies = {} } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))
    for (const next of Object.keys(dependencies)) todo.push([next, path])
  }
  return [...found]
}

/** All files below a path, except in folders node_modules, whose packages `closure` lists separately. */
function files(path, keep = () => true) {
  const stat = lstatSync(path)
  if (!stat.isDirectory()) return keep(path) ? [path] : []
  return readdirSync(path)
    .filter((name) => name !== 'node_modules')
    .flatMap((name) => files(join(path, name), keep))
}

/** Builds the Rust tests and the timing example; copies them without debug information. */
function rustPrograms() {
  const { status, stdout } = spawnSync(
    'cargo',
    // Of one crate: the other crates' test programs would take most of the time.
    ['test', '--no-run', '--locked', '--message-format=json-render-diagnostics', '-p', 's4-cuda'],
    {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      maxBuffer: 1 << 28,
      // Each test program contains the kernel images, so that it gets only a few of them; the addon has all.
      env: { ...process.env, S4_CUDA_ARCHS: fewImages },
    },
  )
  must('The build of the Rust tests', status === 0)
  mkdirSync(rust, { recursive: true })
  for (const line of stdout.split('\n')) {
    if (!line.startsWith('{')) continue
    const { executable, target, package_id: id } = JSON.parse(line)
    if (!executable || !/\b(s4-)?cuda#/.test(id)) continue
    const name = target.kind.includes('lib') ? 'unit' : target.name
    copyFileSync(executable, join(rust, name))
    must(`strip ${name}`, run('strip', [join(rust, name)]))
  }
}

const size = (path) => `${(statSync(path).size / 1e6).toFixed(1)} MB`

if (!process.argv.includes('--built')) setup()
must('The compilation of the suite', run('npx', ['tsc', '-p', '__test__/tsconfig.json']))
// An addon that was built for some chips only would fail on a machine with another one.
const { diagnose } = await import('../build/index.js')
const held = diagnose().kernels
const wanted = process.env.S4_CUDA_ARCHS.split(' ').map((a) => (a.startsWith('compute_') ? a : `sm_${a}`))
const missing = wanted.filter((image) => !held.includes(image))
must(`Looking for ${missing.join(' ')} in the addon (npm run build)`, missing.length === 0)
rmSync(pack, { recursive: true, force: true })
rustPrograms()

const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], {
  cwd: root,
  encoding: 'utf8',
}).stdout.trim()
const changed =
  spawnSync('git', ['status', '--porcelain', '-uno'], { cwd: root, encoding: 'utf8' }).stdout !== ''
writeFileSync(join(pack, 'commit'), commit + (changed ? ' with changes' : ''))

// Of TypeScript, with which the table of wrong values reads the declarations, its one library and the types that it names.
const code = (path) =>
  path.includes('/@typescript/old/lib/')
    ? /\/(typescript\.js|lib\.[a-z0-9.]+\.d\.ts)$/.test(path)
    : /\.(m?js|cjs|json|node)$/.test(path) || /@types\/node\/.*\.d\.ts$/.test(path)
const commandPackage = JSON.parse(readFileSync(join(root, 'cli', 'package.json'), 'utf8'))
const list = [
  ...[
    'package.json',
    'index.d.ts',
    'data.d.ts',
    'tasks.d.ts',
    'build',
    'benches',
    'data',
    'examples',
    'recipes',
    'scripts',
    '__test__/fixtures',
  ]
    .concat('crates/data/tests/files')
    .flatMap((path) => files(join(root, path))),
  ...['cli/bin', 'cli/dist', 'cli/package.json', 'cli/recipe.schema.json'].flatMap((path) =>
    files(join(root, path)),
  ),
  ...files(join(root, 'crates', 'node'), (path) => /(\.node|binding\.js|load\.cjs)$/.test(path)),
  ...closure(['ava', '@typescript/typescript6', '@types/node', 'fast-check']).flatMap((path) =>
    files(path, code),
  ),
  ...closure(
    Object.keys(commandPackage.dependencies).filter((name) => name !== 's4-node'),
    join(root, 'cli'),
  ).flatMap((path) => files(path, code)),
  ...['s4-node', 's4-node-cli'].map((name) => join(root, 'node_modules', name)),
  ...files(rust),
  join(pack, 'commit'),
].map((path) => relative(root, path))
writeFileSync(join(pack, 'list'), list.join('\n'))
const shell = (command) => run('bash', ['-euo', 'pipefail', '-c', command])
// One stream with a window over all: the programs hold the same kernel images.
must('tar', shell(`tar -cf - -T .gpu/list | xz -T1 --x86 --lzma2=preset=6,dict=128MiB > .gpu/tree.tar.xz`))
must('xz of Node', shell(`xz -T1 --x86 --lzma2=preset=6,dict=64MiB < '${process.execPath}' > .gpu/node.xz`))
for (const name of ['rust', 'list', 'commit']) rmSync(join(pack, name), { recursive: true })
copyFileSync(join(root, 'scripts', 'gpu-run.sh'), join(pack, 'gpu-run.sh'))
console.log(`\n${pack}: Node ${size(join(pack, 'node.xz'))}, the rest ${size(join(pack, 'tree.tar.xz'))}`)
console.log('On the GPU machine: bash gpu-run.sh')
