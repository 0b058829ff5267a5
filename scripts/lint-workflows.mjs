// npm run lint:workflows: runs actionlint on .github/workflows; exits with 1 when it finds a fault.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createLinter } from 'actionlint'
import { root } from './setup.mjs'

/** Machines of GitHub's that are newer than this actionlint, which takes no list of them. */
const runners = ['ubuntu-24.04-arm', 'macos-15-intel']
const known = ({ kind, message }) =>
  kind === 'runner-label' && runners.some((runner) => message.startsWith(`label "${runner}" is unknown`))

const lint = await createLinter()
const folder = '.github/workflows'
const files = readdirSync(join(root, folder)).filter((name) => /\.ya?ml$/.test(name))
const found = files.flatMap((name) => {
  const path = join(folder, name)
  return lint(readFileSync(join(root, path), 'utf8'), path).filter((problem) => !known(problem))
})
for (const { file, line, column, message, kind } of found)
  console.error(`${file}:${line}:${column}: ${message} [${kind}]`)
console.log(`${files.length} workflows, ${found.length} problems`)
process.exit(files.length > 0 && found.length === 0 ? 0 : 1)
