// Checks the TypeScript declarations of the package: committed (or staged) as the build writes them, every member documented,
// nothing internal in them, and no export with the name of a global of Node or the web. Prints a line for each fault and then exits
// with 1.
//   node scripts/check-types.mjs [FOLDER]     FOLDER: a build of the addon, whose declarations must be the committed ones
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { root } from './setup.mjs'

/** The generated declarations of the package's entry points and of the addon. */
const declarations = ['index.d.ts', 'data.d.ts', 'tasks.d.ts']
const generated = [...declarations, 'crates/node/native.d.ts']
const problems = []

const { stdout } = spawnSync('git', ['status', '--porcelain', '--', ...generated], {
  cwd: root,
  encoding: 'utf8',
})
for (const line of stdout.split('\n')) {
  // Only changes that are not staged count: staged ones will be committed.
  if (line !== '' && line[1] !== ' ')
    problems.push(`${line.slice(3)} is not what its source gives: commit what the build wrote`)
}

const [buildFolder] = process.argv.slice(2)
const built = buildFolder && join(buildFolder, 'native.d.ts')
if (built) {
  if (!existsSync(built)) problems.push(`${built} is missing: that folder holds no build of the addon`)
  else if (readFileSync(built, 'utf8') !== readFileSync(join(root, 'crates/node/native.d.ts'), 'utf8'))
    problems.push(
      'crates/node/native.d.ts is not what crates/node gives: npm run build:native, and commit it',
    )
}

const texts = declarations.map((file) => readFileSync(join(root, file), 'utf8'))
const lines = texts.flatMap((text, k) =>
  text
    .split('\n')
    .map((line, i, all) => ({ line, before: all[i - 1] ?? '', at: `${declarations[k]}:${i + 1}` })),
)
for (const { line, before, at } of lines) {
  const declared = /^(?:declare )?(?:abstract )?(?:class|interface|type|const|function) /.test(line)
  const member = /^ {4}(?:readonly |static |abstract )*[a-zA-Z]+\??[:(]/.test(line)
  // Fields of a schedule are documented at the function that creates it, the name of an error at its class.
  const plain = /^ {4}(?:constructor|kind|warmup|total|floor|every|factor|patience|readonly name)\b/
  if ((declared || member) && !plain.test(line) && !before.endsWith('*/'))
    problems.push(`${at} has no documentation: ${line.trim()}`)
}
for (const word of ['@internal', '#binding', 'Native'])
  for (const [k, text] of texts.entries())
    if (text.includes(word)) problems.push(`${declarations[k]} names ${word}, which is internal`)

/** Names that the `.d.ts` files of a package declare. */
function declaredIn(name, below = '.') {
  const folder = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), below)
  const declaration =
    /^\s*(?:export |declare )*(?:abstract )?(?:interface|type|var|let|const|function|class|namespace|enum) (\w+)/gm
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  return new Set(
    files
      // Of TypeScript the libraries alone, not the compiler's own types.
      .filter(
        (file) => file.endsWith('.d.ts') && !/node_modules|^(?:typescript|tsserverlibrary)\./.test(file),
      )
      .flatMap((file) =>
        [...readFileSync(join(folder, file), 'utf8').matchAll(declaration)].map((match) => match[1]),
      ),
  )
}
const taken = new Set([...declaredIn('@typescript/old', 'lib'), ...declaredIn('@types/node')])
const names = [...texts.join('\n').matchAll(/^export (?:type )?\{ (.*) \};$/gm)].flatMap(([, list]) =>
  list.split(', '),
)
if (!taken.has('ReadableStream') || !taken.has('Transform') || names.length < 50)
  problems.push('the names of Node, of the web or of the declarations were not found')
// The third of the tasks beside Forecaster and Classifier. In a module that imports it, it hides TypeScript's type of what a function* gives.
const chosen = new Set(['Generator'])
for (const name of names.filter((n) => !chosen.has(n) && (taken.has(n) || n in globalThis)))
  problems.push(`the export ${name} has a name of Node's or the web's`)

for (const problem of problems) console.error(problem)
if (problems.length === 0) console.log(`${names.length} exports, documented and current`)
process.exit(problems.length === 0 ? 0 : 1)
