// The licences of what is linked into the addon: every crate of its normal dependencies for a target, with the texts that the crates
// carry, each text once.
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { must, root } from '../setup.mjs'

function cargo(args) {
  const { status, stdout, stderr } = spawnSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  must(`cargo ${args[0]}: ${stderr}`, status === 0)
  return stdout
}

/** Names and versions of the crates that the addon for a target links, ours aside. */
function linked(target) {
  const tree = [
    'tree',
    '-p',
    's4-node',
    '-e',
    'normal,no-proc-macro',
    '--target',
    target,
    '--prefix',
    'none',
    '--locked',
  ]
  return new Set(
    cargo([...tree, '--format', '{p}'])
      .split('\n')
      .map((line) => /^(\S+) v(\S+)(?: \(\*\))?$/.exec(line.trim()))
      .filter(Boolean)
      .map(([, name, version]) => `${name} ${version}`),
  )
}

/** Markdown for a target's package: a table of crates, then the texts. */
export function licences(target) {
  const names = linked(target)
  const { packages } = JSON.parse(cargo(['metadata', '--format-version', '1', '--locked']))
  const crates = packages
    .filter(({ name, version, source }) => source !== null && names.has(`${name} ${version}`))
    .toSorted((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version))
  must('Looking for the crates that are linked in', crates.length > 20 && crates.length === names.size)
  const texts = new Map()
  const rows = crates.map(
    ({ name, version, license, manifest_path: manifest, repository, license_file: own }) => {
      must(`Looking for the licence of ${name}`, Boolean(license ?? own))
      const folder = dirname(manifest)
      const files = readdirSync(folder).filter((file) =>
        /^(licen[cs]e|copying|notice|unlicense|copyright)/i.test(file),
      )
      for (const file of files) {
        const text = readFileSync(join(folder, file), 'utf8').replaceAll('\r\n', '\n').trim()
        texts.set(text, [...(texts.get(text) ?? []), `${name} ${version}`])
      }
      return `| ${name} | ${version} | ${license ?? own} | ${repository ?? ''} |`
    },
  )
  const zig = target.includes('-linux-')
    ? ', the LLVM runtime that Zig links (Apache-2.0 WITH LLVM-exception)'
    : ''
  return [
    '# What is linked into this file',
    '',
    `The addon is s4-node (Apache-2.0), the Rust standard library (MIT OR Apache-2.0, https://github.com/rust-lang/rust)${zig}`,
    'and these crates. The kernels for NVIDIA GPUs, where they are in it, were compiled by NVRTC against the headers of the CUDA',
    'runtime (NVIDIA CUDA Toolkit EULA); no library of NVIDIA is in it. Below are the texts that the crates carry; a crate without one',
    'is under the licence named, whose text is at https://spdx.org/licenses.',
    '',
    '| crate | version | licence | source |',
    '|---|---|---|---|',
    ...rows,
    '',
    ...[...texts].flatMap(([text, of]) => [
      '---',
      '',
      `Of ${of.join(', ')}:`,
      '',
      '```text',
      text,
      '```',
      '',
    ]),
  ].join('\n')
}
