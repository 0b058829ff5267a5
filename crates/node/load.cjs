// Opens the addon, the compiled part of s4-node: the file beside this one in a clone that has been built, in a project that has
// installed s4-node the file of the package for its platform. Where that fails, the error says in a sentence what to do.
// CommonJS, and no static require of Node's modules, so that it still runs, and can say so, where a bundler has swallowed it.
'use strict'

const { name, version } = require('../../package.json')

/** Platforms with a package of their own. */
const built = [
  'linux-x64-gnu',
  'linux-x64-musl',
  'linux-arm64-gnu',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64-msvc',
]

function failure(sentence, cause) {
  const error = new Error(`${name} cannot load its compiled part: ${sentence}`, cause && { cause })
  error.name = 'S4Error'
  error.code = 'ERR_S4_LOAD'
  return error
}

const supported =
  typeof process !== 'undefined' && Boolean(process.versions?.node && process.getBuiltinModule)
const builtin = (module) => (supported ? process.getBuiltinModule(module) : {})
const fs = builtin('node:fs')
const path = builtin('node:path')
const { createRequire } = builtin('node:module')

/** This file; inside a bundle the bundle, or nothing where the bundle is an ES module. */
const here = typeof __filename === 'string' ? __filename : undefined
const bundled = here === undefined || !/[\\/]load\.cjs$/.test(here)

/** The first bytes of a file; fewer where it is shorter. */
function head(file, length) {
  const bytes = Buffer.alloc(length)
  const handle = fs.openSync(file, 'r')
  try {
    return bytes.subarray(0, fs.readSync(handle, bytes, 0, length, 0))
  } finally {
    fs.closeSync(handle)
  }
}

/** 'gnu' or 'musl': which C library this process runs on, by the loader that its executable names. */
function libc() {
  try {
    const start = head(process.execPath, 2048).toString('latin1')
    if (start.includes('/ld-musl-')) return 'musl'
    if (start.includes('/ld-linux')) return 'gnu'
  } catch {
    // An executable that cannot be read: the report knows as well, more slowly.
  }
  return process.report?.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'
}

/** As the napi-rs CLI names platforms. */
function thisPlatform() {
  const { platform, arch } = process
  if (platform === 'linux') return `linux-${arch}-${libc()}`
  return platform === 'win32' ? `win32-${arch}-msvc` : `${platform}-${arch}`
}

/**
 * What is wrong with a library file by its header, or nothing. A file that was cut short must be found here: opening it would end
 * the process with a bus error.
 */
function defect(file) {
  const size = fs.statSync(file).size
  const bytes = head(file, 64)
  const magic = bytes.toString('latin1', 0, 4)
  const format =
    magic === '\x7fELF'
      ? 'linux'
      : magic.startsWith('MZ')
        ? 'win32'
        : /^[\xcf\xce]\xfa\xed\xfe/.test(magic)
          ? 'darwin'
          : undefined
  if (format === undefined) return 'is damaged'
  if (format !== process.platform) return `is for ${format}, and this is ${process.platform}`
  if (format !== 'linux') return undefined
  if (bytes.length < 64) return 'is damaged (cut short)'
  // ELF: its sections are listed at its end.
  const end = Number(bytes.readBigUInt64LE(40)) + bytes.readUInt16LE(58) * bytes.readUInt16LE(60)
  if (size < end) return `is damaged (cut short: ${size} bytes of ${end})`
  const arch = { 62: 'x64', 183: 'arm64' }[bytes.readUInt16LE(18)]
  return arch === process.arch
    ? undefined
    : `is for ${arch ?? 'another processor'}, and this process is ${process.arch}`
}

/** Opens a library; `mend` ends the sentence where it cannot. */
function open(file, mend) {
  let problem
  try {
    problem = defect(file)
  } catch (cause) {
    throw failure(`${file} cannot be read (${cause.code ?? cause.message}); ${mend}`, cause)
  }
  if (problem !== undefined) throw failure(`${file} ${problem}; ${mend}`)
  try {
    return createRequire(file)(file)
  } catch (cause) {
    const text = String(cause.message)
    const needed = /version [`']GLIBC_([\d.]+)' not found/.exec(text)?.[1]
    if (needed !== undefined)
      throw failure(
        `it needs glibc 2.28 or newer (${needed} was asked for), which this system lacks: Debian 10, Ubuntu 20.04, ` +
          'RHEL 8 and later have it.',
        cause,
      )
    if (/ld-musl|libc\.musl|libc\.so\.6|ld-linux|symbol not found|GLIBC/.test(text))
      throw failure(`${file} is for another C library than this process's (${libc()}); ${mend}`, cause)
    throw failure(`${file} cannot be opened (${text.trim()}); ${mend}`, cause)
  }
}

/** The package.json of a package for a platform, where it is installed. */
function installed(platform) {
  if (here === undefined) return undefined
  try {
    return createRequire(here).resolve(`${name}-${platform}/package.json`)
  } catch {
    return undefined
  }
}

const again = `delete node_modules and run \`npm install\` on this machine, or \`npm install --force ${name}\`.`

function load() {
  if (!supported)
    throw failure(
      "it runs in Node.js (20.19 or newer) and in Electron's main and utility processes, not in a browser or a sandboxed " +
        'renderer; call it there and send the results over.',
    )
  const named = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  if (named) return open(named, 'NAPI_RS_NATIVE_LIBRARY_PATH names it: name another or none.')
  const platform = thisPlatform()
  if (!bundled) {
    const beside = path.join(path.dirname(here), `s4-node.${platform}.node`)
    if (fs.existsSync(beside)) return open(beside, '`npm run build` makes it again.')
  }
  const found = installed(platform)
  if (found !== undefined) {
    const { main, version: theirs } = JSON.parse(fs.readFileSync(found, 'utf8'))
    if (theirs !== version)
      throw failure(`${name} is ${version} and ${name}-${platform} is ${theirs}; ${again}`)
    return open(path.join(path.dirname(found), main), again)
  }
  if (bundled)
    throw failure(
      'it was put into a bundle, and native code cannot be. Leave it out and ship node_modules/s4-node* beside the bundle: ' +
        `esbuild --external:${name}; webpack externals: { '${name}': 'commonjs ${name}' }; Rollup external: ['${name}']; ` +
        `Vite ssr: { external: ['${name}'] }, or build.rollupOptions.external for Electron.`,
    )
  if (!built.includes(platform))
    throw failure(
      `there is none for ${platform}, only for ${built.join(', ')}; it can be built from its source, see the README.`,
    )
  const other = built.find((one) => installed(one) !== undefined)
  if (other !== undefined) {
    const what =
      other.replace(/-(gnu|musl)$/, '') === platform.replace(/-(gnu|musl)$/, '') ? 'C library' : 'platform'
    throw failure(
      `node_modules holds ${name}-${other}, for another ${what}: this is ${platform}. Was it copied here? If so, ${again} ` +
        `To install for both, give npm --os, --cpu and --libc.`,
    )
  }
  throw failure(
    `the package ${name}-${platform} is not installed. It is an optional dependency: install without --omit=optional (or ` +
      `--no-optional), and where package-lock.json was written on another platform delete it and node_modules, then ` +
      'run `npm install`.',
  )
}

// { binding } or { failure }, and no throw: what a CommonJS module throws while an ES module imports it ends Node 20, whoever would
// catch it. Those who ask throw it.
try {
  module.exports = { binding: load() }
} catch (problem) {
  module.exports = { failure: problem }
}
