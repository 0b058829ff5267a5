// Checks the layout of the source: no file of more than 500 lines, no import circle in a Rust crate (oxlint checks TypeScript),
// and no function in the paper's map that does not exist. Prints a line for each fault and then exits with 1.
//   node scripts/check-source.mjs [FOLDER]     the project, or another checkout of it
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { circlesOf, codeOf, importsOf } from './rust-imports.mjs'

const root = resolve(process.argv[2] ?? dirname(dirname(fileURLToPath(import.meta.url))))
const maxLines = 500
const problems = []

const { stdout } = spawnSync('git', ['ls-files', '-co', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
const files = [...new Set(stdout.split('\n'))].filter(
  (file) => /\.(rs|ts|mjs|cu|cuh)$/.test(file) && existsSync(join(root, file)),
)
const isTest = (file) => /(^|\/)(tests?|__test__|fixtures|testing)\/|(^|\/)tests\.rs$/.test(file)
const isGenerated = (file) => file.endsWith('.d.ts')
for (const file of files.filter((name) => !isTest(name) && !isGenerated(name))) {
  const lines = readFileSync(join(root, file), 'utf8').split('\n').length - 1
  if (lines > maxLines) problems.push(`${file} has ${lines} lines; ${maxLines} are the most`)
}

const crates = readdirSync(join(root, 'crates')).filter((name) =>
  existsSync(join(root, 'crates', name, 'src/lib.rs')),
)
let imports = 0
for (const crate of crates) {
  const edges = importsOf(join(root, 'crates', crate, 'src/lib.rs'))
  imports += edges.length
  for (const circle of circlesOf(edges)) {
    const steps = circle.map(
      ({ from, to, line }) => `${relative(root, from)}:${line} → ${relative(root, to)}`,
    )
    problems.push(`files that import each other:\n    ${steps.join('\n    ')}`)
  }
}
if (imports === 0) problems.push('no import was found in any crate')

// The paper's map is the table that begins with `| paper |` in the documentation of crates/ssm. Names are in backticks, with their
// crate (`cpu::`, `cuda::`) before them, or without one for crates/ssm. CUDA kernels count as functions of cuda.
const map = []
let isInMap = false
for (const line of readFileSync(join(root, 'crates/ssm/src/lib.rs'), 'utf8').split('\n')) {
  if (line.startsWith('//! | paper |')) isInMap = true
  else if (!line.startsWith('//! |')) isInMap = false
  else if (isInMap) {
    const [, , ...cells] = line.split('|')
    map.push(...[...cells.join('|').matchAll(/`([^`]+)`/g)].map(([, name]) => name.replace(/\(\)$/, '')))
  }
}
if (map.length < 10) problems.push("the paper's map in crates/ssm/src/lib.rs was not found")
const definition =
  /(?:\bfn|\bstruct|\benum|\btrait|\bKERNEL|__global__ void(?: __launch_bounds__\([^)]*\))?)\s+(\w+)\s*[(<{:;]/g
const names = new Map()
for (const file of files.filter((name) => /^crates\/\w+\/(src|kernels)\//.test(name) && !isTest(name))) {
  const crate = file.split('/')[1]
  if (!names.has(crate)) names.set(crate, new Set())
  const code = codeOf(readFileSync(join(root, file), 'utf8'))
  for (const [, name] of code.matchAll(definition)) names.get(crate).add(name)
}
for (const path of map) {
  const segments = path.split('::')
  const crate = segments.length > 1 && names.has(segments[0]) ? segments[0] : 'ssm'
  if (!names.get(crate)?.has(segments.at(-1)))
    problems.push(`the paper's map names ${path}, which crates/${crate} does not have`)
}

for (const problem of problems) console.error(problem)
console.log(
  problems.length === 0
    ? `${files.length} files, ${imports} imports in ${crates.length} crates, ${map.length} names of the paper's map`
    : `\n${problems.length} problems`,
)
process.exit(problems.length === 0 ? 0 : 1)
