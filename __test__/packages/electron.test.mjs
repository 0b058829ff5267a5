// examples/electron against Electron's own types, with the library as installed; and its packaging. Electron itself is not run.
import assert from 'node:assert/strict'
import { cpSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { installed, lend, must, root, tools } from './project.mjs'

const example = join(root, 'examples', 'electron')
const manifest = JSON.parse(readFileSync(join(example, 'package.json'), 'utf8'))

test('the example type-checks and compiles', () => {
  const folder = installed({ type: 'module' })
  lend(folder, 'electron', 'typescript', '@types/node')
  for (const name of ['src', 'tsconfig.json', 'tsconfig.page.json'])
    cpSync(join(example, name), join(folder, name), { recursive: true })
  for (const project of ['tsconfig.json', 'tsconfig.page.json'])
    must(folder, ['node', 'node_modules/typescript/bin/tsc', '-p', project])
  for (const name of ['main.js', 'compute.js', 'preload.cjs', 'renderer.js'])
    assert.ok(existsSync(join(folder, 'build', name)), name)
  // A sandboxed preload script can require Electron and nothing else; a page, nothing at all.
  const preload = readFileSync(join(folder, 'build', 'preload.cjs'), 'utf8')
  assert.deepEqual(
    [...preload.matchAll(/require\("([^"]+)"\)/g)].map((match) => match[1]),
    ['electron'],
  )
  assert.doesNotMatch(readFileSync(join(folder, 'build', 'renderer.js'), 'utf8'), /^import |require\(/m)
})

test('the types are those of the version that the example asks for', () => {
  const { version } = JSON.parse(readFileSync(join(tools, 'electron', 'package.json'), 'utf8'))
  assert.equal(manifest.devDependencies.electron, version)
  assert.deepEqual(manifest.build.asarUnpack, ['**/*.node'])
})
