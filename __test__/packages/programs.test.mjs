// The README's programs, the examples, the test runners and the command, as a user runs them.
import assert from 'node:assert/strict'
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { command, empty, installed, lend, library, must, platform, root, run, tools } from './project.mjs'

/** The program of the README, with the data that it takes for granted. */
const readme = readFileSync(join(root, 'README.md'), 'utf8')
const programs = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)]
  .map(([, code]) => code)
  .filter((code) => code.includes("from 's4-node'"))
const given = `
const signal = Float32Array.from({ length: 200 }, (_, i) => Math.sin(i / 9))
const wave = { data: signal, shape: [1, 200, 1] }
const batches = [{ input: wave, target: wave }]
const microphone = [0, 1, 2].map((k) => ({ data: signal.slice(50 * k, 50 * k + 50), shape: [1, 50, 1] }))
`
const done = `\nconsole.log('finite:', y.data.every(Number.isFinite), 'length:', y.data.length)\n`
/** Imports first, then what is given, then the rest. */
function module(code) {
  const imports = code.match(/^import .*$/gm).join('\n')
  return `${imports}\n${given}${code.replace(/^import .*\n/gm, '')}${done}`
}
/** The same for CommonJS: `require`, in an async function. */
function commonjs(code) {
  const requires = code
    .match(/^import .*$/gm)
    .map((line) => line.replace(/^import (.*) from (.*)$/, 'const $1 = require($2)'))
  return `${requires.join('\n')}\nasync function main() {${given}${code.replace(/^import .*\n/gm, '')}${done}}\nmain()\n`
}

function checkOutput(folder, text) {
  assert.match(text, /finite: true length: 200/)
  assert.ok((text.match(/^\d+ [\d.e-]+$/gm) ?? []).length >= 10, text)
  assert.ok(existsSync(join(folder, 'model.safetensors')))
}

test('no compiler, no Rust, no Python within reach', () => {
  const folder = empty()
  for (const name of ['cc', 'gcc', 'clang', 'cargo', 'rustc', 'python3', 'make', 'node-gyp'])
    assert.match(run(folder, ['sh', '-c', `command -v ${name} || echo none`]).text, /^none/, name)
})

for (const [i, code] of programs.entries()) {
  test(`program ${i + 1} of the README: an ES module`, () => {
    const folder = installed()
    writeFileSync(join(folder, 'main.mjs'), module(code))
    checkOutput(folder, must(folder, ['node', 'main.mjs']))
  })

  test(`program ${i + 1} of the README: CommonJS`, () => {
    const folder = installed()
    writeFileSync(join(folder, 'main.cjs'), commonjs(code))
    checkOutput(folder, must(folder, ['node', 'main.cjs']))
  })

  test(`program ${i + 1} of the README: strict TypeScript, as ESM and CommonJS, each kind of resolution`, () => {
    const folder = installed({ type: 'module' })
    lend(folder, 'typescript', '@types/node')
    writeFileSync(join(folder, 'main.mts'), module(code))
    writeFileSync(
      join(folder, 'main.cts'),
      commonjs(code).replace(/^const (\{.*\}) = require\((.*)\)$/gm, 'import $1 from $2'),
    )
    const strict = {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
    }
    const ways = {
      node16: { module: 'node16', moduleResolution: 'node16' },
      nodenext: { module: 'nodenext', moduleResolution: 'nodenext' },
      bundler: { module: 'preserve', moduleResolution: 'bundler' },
    }
    for (const [name, way] of Object.entries(ways)) {
      const options = {
        target: 'es2022',
        lib: ['es2023', 'esnext.disposable'],
        types: ['node'],
        outDir: name,
        ...strict,
        ...way,
      }
      const files = name === 'bundler' ? ['main.mts'] : ['main.mts', 'main.cts']
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files }))
      must(folder, ['node', 'node_modules/typescript/bin/tsc'])
      for (const file of files)
        checkOutput(folder, must(folder, ['node', join(name, file.replace('ts', 'js'))]))
    }
  })

  test(`program ${i + 1} of the README: in a worker`, () => {
    const folder = installed()
    writeFileSync(join(folder, 'main.mjs'), module(code))
    writeFileSync(
      join(folder, 'start.mjs'),
      "import { Worker } from 'node:worker_threads'\nfor (let i = 0; i < 2; i++) new Worker(new URL('main.mjs', import.meta.url))\n",
    )
    const text = must(folder, ['node', 'start.mjs'])
    checkOutput(folder, text)
    assert.equal(text.match(/finite: true/g).length, 2)
  })
}

test('the README has a program', () => assert.ok(programs.length > 0))

test('one library, whether it is required or imported', () => {
  const folder = installed()
  const code =
    "import { createRequire } from 'node:module';" +
    "import { S4Error } from 's4-node'; import { Forecaster } from 's4-node/tasks'; import { Scaler } from 's4-node/data';" +
    'const required = (entry, name) => createRequire(import.meta.url)(entry)[name];' +
    "console.log(required('s4-node', 'S4Error') === S4Error, required('s4-node/tasks', 'Forecaster') === Forecaster," +
    " required('s4-node/data', 'Scaler') === Scaler)"
  assert.equal(must(folder, ['node', '--input-type=module', '-e', code]).trim(), 'true true true')
})

const examples = {
  layer: [],
  stream: [],
  train: [],
  streams: ['20', '1'],
  classify: [],
  generate: [join(root, 'README.md'), '3'],
  table: [join(root, 'data/sunspots_monthly.csv')],
}
for (const [name, args] of Object.entries(examples))
  test(`examples/${name}.mjs`, () => {
    const folder = installed()
    cpSync(join(root, 'examples', `${name}.mjs`), join(folder, `${name}.mjs`))
    must(folder, ['node', `${name}.mjs`, ...args])
  })

test('Jest, as examples/jest has it', () => {
  const folder = installed()
  cpSync(join(root, 'examples/jest/model.test.js'), join(folder, 'model.test.js'))
  const jest = ['node', join(tools, 'jest/bin/jest.js'), '--rootDir', folder, '--no-cache']
  assert.match(must(folder, jest), /Tests: +3 passed, 3 total/)
})

test('Jest with ES modules', () => {
  const folder = installed({ type: 'module', jest: { transform: {} } })
  const code = readFileSync(join(root, 'examples/jest/model.test.js'), 'utf8')
  writeFileSync(
    join(folder, 'model.test.js'),
    code.replace(/const (.*) = require\((.*)\)/, 'import $1 from $2'),
  )
  const jest = [
    'node',
    '--experimental-vm-modules',
    join(tools, 'jest/bin/jest.js'),
    '--rootDir',
    folder,
    '--no-cache',
  ]
  assert.match(must(folder, jest), /Tests: +3 passed, 3 total/)
})

test('Vitest, as examples/vitest has it', () => {
  const folder = installed({ type: 'module' })
  lend(folder, 'vitest')
  cpSync(join(root, 'examples/vitest/model.test.ts'), join(folder, 'model.test.ts'))
  const vitest = ['node', join(tools, 'vitest/vitest.mjs'), 'run', '--root', folder]
  assert.match(must(folder, vitest), /Tests +3 passed \(3\)/)
})

test('node:test, as examples/node-test has it', () => {
  const folder = installed()
  cpSync(join(root, 'examples/node-test/model.test.mjs'), join(folder, 'model.test.mjs'))
  assert.match(must(folder, ['node', '--test', 'model.test.mjs']), /pass 3\b/)
})

test('the command: its own package, with npx, from a series to a forecast', () => {
  const folder = empty()
  // What the command depends on comes from npm's own cache, or the network where that lacks it; the tarballs are these.
  const install = [
    'npm',
    'install',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    library,
    command,
    platform,
  ]
  must(folder, install, { npm_config_cache: join(process.env.HOME, '.npm') })
  assert.match(must(folder, ['npx', '--no-install', 's4', '--help']), /Usage: s4 \[options\] \[command\]/)
  assert.match(
    must(folder, ['npx', '--no-install', 's4-node-cli', 'diagnose']),
    /id: cpu[\s\S]*version: \d+\.\d+\.\d+/,
  )
  const rows = Array.from({ length: 600 }, (_, i) => Math.sin(i / 6) + Math.sin(i / 17))
  writeFileSync(join(folder, 'waves.csv'), `t,x\n${rows.map((x, i) => `${i},${x}`).join('\n')}\n`)
  const small = ['--horizon', '5', '--layers', '1', '--features', '8', '--state', '8', '--epochs', '1']
  must(folder, [
    'npx',
    '--no-install',
    's4',
    'train',
    'forecast',
    'waves.csv',
    '--targets',
    'x',
    ...small,
    '--out',
    'waves',
    '--device',
    'cpu',
  ])
  const forecast = must(folder, ['npx', '--no-install', 's4', 'forecast', 'waves', 'waves.csv'])
  assert.equal((forecast.match(/^\d+,,x,[-\d.e]+,[-\d.e]+,[-\d.e]+$/gm) ?? []).length, 5, forecast)
  const wrong = run(folder, ['npx', '--no-install', 's4', 'train', 'waves.csv'])
  assert.equal(wrong.status, 2, wrong.text)
  // The series of the demo comes with the package; so few updates cannot beat what it compares with, which is exit code 1.
  const demo = run(folder, [
    'npx',
    '--no-install',
    's4',
    'demo',
    '--updates',
    '2',
    '--out',
    'report',
    '--device',
    'cpu',
  ])
  assert.ok(existsSync(join(folder, 'report', 'index.html')), demo.text)
})
