// A user's folder: the tarballs of npm run build:packages installed offline, and a PATH with Node, npm and a shell alone.
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pick } from '../../scripts/packages/platform.mjs'

export const here = dirname(fileURLToPath(import.meta.url))
export const root = join(here, '..', '..')
/** The tools that a user may have: Jest, Vitest, TypeScript, bundlers. */
export const tools = join(here, 'node_modules')
const packages = join(root, 'target', 'packages')

/** The tarballs: their paths. */
export const tarballs = readdirSync(packages)
  .filter((name) => name.endsWith('.tgz'))
  .map((name) => join(packages, name))
export const { library, command, platform } = pick(tarballs)
/** Of every platform that was packed. */
export const platforms = tarballs.filter((path) => path !== library && path !== command)

/** Everything that the tests write, removed at the end. */
export const work = mkdtempSync(join(realpathSync(tmpdir()), 's4-packages-'))
process.on('exit', () => rmSync(work, { recursive: true, force: true }))

/** A folder of commands with nothing in it that compiles. */
const bin = join(work, 'bin')
mkdirSync(bin)
const nodeFolder = dirname(realpathSync(process.execPath))
symlinkSync(process.execPath, join(bin, 'node'))
for (const name of ['npm', 'npx']) {
  const found = [nodeFolder, ...process.env.PATH.split(':')]
    .map((folder) => join(folder, name))
    .find(existsSync)
  symlinkSync(realpathSync(found), join(bin, name))
}
symlinkSync('/bin/sh', join(bin, 'sh'))

/** What a user's shell has: no variable of ours, no compiler. */
export const env = {
  PATH: bin,
  HOME: work,
  npm_config_cache: join(work, 'cache'),
  npm_config_update_notifier: 'false',
  NO_COLOR: '1',
}

/** Runs a command in a folder; its whole output and how it ended. */
export function run(folder, words, more = {}) {
  const [file, ...args] = words
  const result = spawnSync(file, args, {
    cwd: folder,
    env: { ...env, ...more },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  return { status: result.status, text: `${result.stdout}${result.stderr}${result.error?.message ?? ''}` }
}

/** As `run`, of what must end well; its output. */
export function must(folder, words, more) {
  const { status, text } = run(folder, words, more)
  if (status !== 0) throw new Error(`${words.join(' ')} ended with ${status}:\n${text}`)
  return text
}

let projects = 0
/** An empty folder with a package.json. */
export function empty(manifest = {}) {
  const folder = join(work, `project-${projects++}`)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, ...manifest }))
  return folder
}

let first
/** A folder with the library installed from its tarballs, without network and with an empty cache. */
export function installed(manifest) {
  const folder = empty(manifest)
  if (first === undefined) {
    const options = ['--offline', '--no-audit', '--no-fund', '--no-save']
    must(folder, ['npm', 'install', ...options, library, platform])
    first = folder
  } else cpSync(join(first, 'node_modules'), join(folder, 'node_modules'), { recursive: true })
  return folder
}

/** Gives a project one of the tools. */
export function lend(folder, ...names) {
  for (const name of names) {
    const place = join(folder, 'node_modules', name)
    mkdirSync(dirname(place), { recursive: true })
    symlinkSync(join(tools, name), place)
  }
}
