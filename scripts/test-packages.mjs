// npm run test:packages: what a user does with the tarballs of npm run build:packages, in empty folders, offline, with a PATH that
// holds Node and npm alone. Apart from npm test, as it wants the release addon and some hundred megabytes of other people's tools.
//   npm run test:packages [-- FILE …]      of __test__/packages, such as programs
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must, root, run } from './setup.mjs'

const folder = join(root, '__test__', 'packages')
const packages = join(root, 'target', 'packages')
const packed = existsSync(packages) && readdirSync(packages).some((name) => name.endsWith('.tgz'))
must('Looking for the tarballs (npm run build:packages)', packed)

const stamp = join(folder, 'node_modules', '.s4-lock')
const wanted = createHash('sha256')
  .update(readFileSync(join(folder, 'package-lock.json')))
  .digest('hex')
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  // No scripts: Electron is here for its types, and its binary is not fetched.
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  must('npm ci of the tools', run('npm', ['ci', ...options], { cwd: folder }))
  writeFileSync(stamp, wanted)
}

const asked = process.argv.slice(2)
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.test.mjs'))
  .filter((name) => asked.length === 0 || asked.includes(name.replace('.test.mjs', '')))
  .map((name) => join(folder, name))
must(`Looking for ${asked.join(' ')} in ${folder}`, files.length > 0)
must(
  'The tests of the packages',
  run(process.execPath, ['--test', '--test-concurrency=1', '--test-reporter=spec', ...files]),
)
