// The tarballs on a machine that has Node and npm, whatever the system: installed offline into an empty folder, then a model trained,
// streamed, saved and loaded, as an ES module and as CommonJS. `npm run test:packages` does more, and wants more.
//   node scripts/packages/smoke.mjs FOLDER_OF_TARBALLS
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pick, thisPlatform } from './platform.mjs'

const tarballs = resolve(process.argv[2] ?? 'target/packages')
const { library, platform } = pick(
  readdirSync(tarballs)
    .filter((name) => name.endsWith('.tgz'))
    .map((name) => join(tarballs, name)),
)
const folder = mkdtempSync(join(tmpdir(), 's4-smoke-'))
const options = { cwd: folder, stdio: 'inherit', shell: process.platform === 'win32' }
writeFileSync(join(folder, 'package.json'), '{"private":true}')
execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', library, platform], options)

const body = `
  const wave = { data: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i / 5)), shape: [1, 64, 1] }
  const model = await SequenceModel.create({ features: 8, layers: 2, state: 16, loss: 'mse', seed: 1 })
  const epochs = await model.fit([{ input: wave, target: wave }], { epochs: 20, lr: 1e-2 })
  if (!(epochs.at(-1).loss < epochs[0].loss)) throw new Error('training did not lower the loss')
  await model.save('model.safetensors')
  const same = await SequenceModel.load('model.safetensors')
  const { data } = await model.predict(wave)
  const streamed = same.stream({ batch: 1 }).push(wave).data
  if (!data.every((y, t) => Math.abs(y - streamed[t]) < 1e-4)) throw new Error('the stream differs')
  console.log(diagnose().version, diagnose().devices[0].simd, 'ran')
`
const names = '{ SequenceModel, diagnose }'
writeFileSync(join(folder, 'main.mjs'), `import ${names} from 's4-node'\n${body}`)
writeFileSync(
  join(folder, 'main.cjs'),
  `const ${names} = require('s4-node')\nasync function main() {${body}}\nmain()\n`,
)
for (const file of ['main.mjs', 'main.cjs'])
  execFileSync(process.execPath, [file], { cwd: folder, stdio: 'inherit' })
rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
console.log(`${thisPlatform()}, Node ${process.version}: installed and ran`)
