// npm run build:packages: the npm packages as tarballs in target/packages: the library, the command, and one for each platform
// that has an addon.
//   npm run build:packages                      builds the addon for this machine (Linux: for glibc 2.28 or musl, by Zig) and packs
//   npm run build:packages -- --addon [TARGET]  only builds the addon, for a target of Rust's, into target/packages/addons
//   npm run build:packages -- --pack [--all]    only packs what lies there; --all: every platform must be there
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { addonFor, addons, hostTarget } from './packages/addon.mjs'
import { command, library, manifest } from './packages/library.mjs'
import { licences } from './packages/licences.mjs'
import { buildJavaScript, installPackages, must, root, run } from './setup.mjs'

const packages = join(root, 'target', 'packages')
const stage = join(packages, 'stage')
const source = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** The addons that were built: 'linux-x64-gnu' and so on. */
const built = () =>
  (existsSync(addons) ? readdirSync(addons) : [])
    .map((name) => /^s4-node\.(.+)\.node$/.exec(name)?.[1])
    .filter(Boolean)

/** Folders of the platforms' packages, as the napi-rs CLI lays them out: their names. */
function platformPackages(all) {
  const folder = join(stage, 'platforms')
  mkdirSync(folder, { recursive: true })
  must('napi create-npm-dirs', run('npx', ['napi', 'create-npm-dirs', '--npm-dir', folder]))
  const platforms = readdirSync(folder)
  const there = built()
  if (all) {
    must(`Looking for the addons of ${platforms.join(', ')}`, there.length === platforms.length)
    must('napi artifacts', run('npx', ['napi', 'artifacts', '--npm-dir', folder, '--output-dir', addons]))
  } else {
    // The CLI takes every platform or none.
    for (const name of platforms.filter((platform) => !there.includes(platform)))
      rmSync(join(folder, name), { recursive: true })
    for (const platform of there)
      cpSync(join(addons, `s4-node.${platform}.node`), join(folder, platform, `s4-node.${platform}.node`))
  }
  const targets = new Map(source.napi.targets.map((target) => [platformOf(target), target]))
  for (const platform of there) {
    const place = join(folder, platform)
    must(`Looking for the addon in ${place}`, existsSync(join(place, `s4-node.${platform}.node`)))
    const path = join(place, 'package.json')
    const own = JSON.parse(readFileSync(path, 'utf8'))
    own.type = 'commonjs'
    own.description = `The addon of s4-node for ${platform}`
    own.files.push('THIRD-PARTY.md')
    const { repository, homepage } = manifest(source)
    writeFileSync(path, `${JSON.stringify({ ...own, repository, homepage }, null, 2)}\n`)
    writeFileSync(join(place, 'THIRD-PARTY.md'), licences(targets.get(platform)))
    cpSync(join(root, 'LICENSE'), join(place, 'LICENSE'))
  }
  return { platforms, there }
}

/** Rust's name of a target → napi-rs's of its platform. */
function platformOf(target) {
  const arch = target.startsWith('aarch64') ? 'arm64' : 'x64'
  if (target.includes('-linux-')) return `linux-${arch}-${target.endsWith('musl') ? 'musl' : 'gnu'}`
  return target.includes('-apple-') ? `darwin-${arch}` : `win32-${arch}-msvc`
}

/** Packs a folder; prints what is in the tarball. */
function pack(folder) {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', packages]
  const shell = process.platform === 'win32'
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8', shell })
  must(`npm pack in ${folder}: ${stderr}`, status === 0)
  // An array of packages, or since npm 12 an object of them by name.
  const [{ filename, files, size }] = Object.values(JSON.parse(stdout))
  console.log(`\n${basename(filename)} (${(size / 1e6).toFixed(1)} MB)`)
  for (const { path } of files) console.log(`  ${path}`)
}

const args = process.argv.slice(2)
const flag = (name) => args.includes(name)
installPackages()
if (!flag('--pack')) addonFor(args.find((arg) => !arg.startsWith('-')) ?? hostTarget())
if (!flag('--addon')) {
  must('The build of the JavaScript', buildJavaScript())
  rmSync(stage, { recursive: true, force: true })
  for (const name of readdirSync(packages)) if (name.endsWith('.tgz')) rmSync(join(packages, name))
  const { platforms, there } = platformPackages(flag('--all'))
  must('Looking for an addon (npm run build:packages -- --addon)', there.length > 0)
  await library(join(stage, 's4-node'), platforms)
  command(join(stage, 's4-node-cli'))
  for (const name of ['s4-node', 's4-node-cli', ...there.map((platform) => join('platforms', platform))])
    pack(join(stage, name))
}
