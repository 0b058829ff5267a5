// npm run fuzz: random calls of the API (scripts/fuzz-api.mjs) and changed files for every reader of foreign bytes (crates/fuzz).
//   npm run fuzz -- --minutes 10                    ten minutes each
//   npm run fuzz -- --only api --minutes 10         one of the two: api or readers
//   npm run fuzz -- --only readers --reader wav …   other options go to the one
import { root, run } from './setup.mjs'

const given = process.argv.slice(2)
const at = given.indexOf('--only')
const only = at < 0 ? undefined : given.splice(at, 2)[1]
if (at >= 0 && only !== 'api' && only !== 'readers') {
  console.error(`--only: expected api or readers, got ${only}`)
  process.exit(1)
}
const programs = {
  api: () => run(process.execPath, ['scripts/fuzz-api.mjs', ...given], { cwd: root }),
  // As the tests are built, with checks of overflow, which a release build lets pass silently.
  readers: () => run('cargo', ['run', '--quiet', '-p', 's4-fuzz', '--', ...given]),
}
const ended = Object.entries(programs)
  .filter(([name]) => only === undefined || name === only)
  .map(([, program]) => program())
process.exit(ended.every(Boolean) ? 0 : 1)
