// Property test of the API with fast-check: random calls with right and hostile values, in random order, on models, layers, readers and
// tasks. Whatever they are given, an error is an S4Error of a code that is not ERR_S4_INTERNAL, a call that fails changes nothing, streams
// give what predictions give, what is saved loads with the same bits, and the process lives. Cases run in a child process with a limit of
// memory, which is watched: a case that ends it or does not end is found too.
//   node scripts/fuzz-api.mjs [--minutes 10 | --seconds 20] [--seed 1] [--kind model] [--findings FOLDER]
//   node scripts/fuzz-api.mjs --case FILE        runs one case that was kept, in this process
// Findings are written to the folder, by default __test__/fixtures/api-findings, as cases in plain JSON, shrunk; `npm test` runs again what
// stands there.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const here = fileURLToPath(import.meta.url)
const { values } = parseArgs({
  options: Object.fromEntries(
    ['minutes', 'seconds', 'seed', 'kind', 'findings', 'case', 'child', 'state'].map((name) => [
      name,
      { type: 'string' },
    ]),
  ),
})
/** A case that takes longer does not end. */
const LIMIT_SECONDS = 60
/** Bytes of address space that a child may have: Node itself reserves about two of these GiB. */
const MOST_MEMORY = 8 * 2 ** 30
const HEAP_MIB = 1024

if (values.child !== undefined)
  await child(values.child, Number(values.seed), Number(values.seconds), values.state)
else if (values.case !== undefined) {
  const { replay } = await import('./fuzz/kinds.mjs')
  console.log((await replay(JSON.parse(readFileSync(values.case, 'utf8')).case)) ?? 'ran to its end')
} else process.exitCode = (await parent()) ? 0 : 1

/** Draws and runs cases of a kind for so many seconds; each is written to the file `state` before it runs. */
async function child(kindName, seed, seconds, state) {
  const fc = await import('fast-check')
  const { kinds } = await import('./fuzz/kinds.mjs')
  const { casesOf, described, runCase } = await import('./fuzz/steps.mjs')
  const kind = kinds[kindName]
  let [cases, refused] = [0, 0]
  const property = fc.asyncProperty(casesOf(kind), async ([made, commands]) => {
    cases++
    writeFileSync(state, JSON.stringify(described(kind, made, commands)))
    if ((await runCase(kind, made, commands)) !== undefined) refused++
  })
  const { failed, counterexample, errorInstance } = await fc.check(property, {
    seed,
    numRuns: 1e9,
    interruptAfterTimeLimit: seconds * 1000,
    markInterruptAsFailure: false,
    endOnFailure: false,
  })
  const finding = failed &&
    counterexample && {
      case: described(
        kind,
        counterexample[0][0],
        [...counterexample[0][1]].filter(({ hasRan }) => hasRan),
      ),
      fault: errorInstance?.stack ?? String(errorInstance),
    }
  writeFileSync(`${state}.end`, JSON.stringify({ cases, refused, finding }))
}

/** Starts Node with the limits of memory, and kills it where a case takes longer than so many seconds. */
async function limited(args, state, seconds = LIMIT_SECONDS) {
  const command = [process.execPath, `--max-old-space-size=${HEAP_MIB}`, here, ...args]
  if (spawnSync('prlimit', ['--version']).status === 0) command.unshift('prlimit', `--as=${MOST_MEMORY}`)
  const run = spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
  let [err, hangs] = ['', false]
  run.stderr.setEncoding('utf8').on('data', (text) => (err = (err + text).slice(-20_000)))
  const began = Date.now()
  const watch = setInterval(() => {
    let last = began
    try {
      last = Math.max(began, statSync(state).mtimeMs)
    } catch {
      // Not written yet.
    }
    if (Date.now() - last < seconds * 1000) return
    hangs = true
    run.kill('SIGKILL')
  }, 500)
  const [code, signal] = await new Promise((resolve) => run.once('close', (...end) => resolve(end)))
  clearInterval(watch)
  const why = hangs ? `it did not end within ${seconds} s` : `it ended by ${signal ?? code}`
  return { ok: code === 0, hangs, why: `${why}\n${err}` }
}

/** Whether a case that took too long ends by itself in more time, as on a machine that has little of it. */
async function isSlow(found, folder) {
  const path = join(folder, 'case.json')
  writeFileSync(path, JSON.stringify({ case: found }))
  return (await limited(['--case', path], path, 5 * LIMIT_SECONDS)).ok
}

/** Leaves out steps of a case that ends its process, as long as it still does. */
async function shortened(found, folder) {
  const path = join(folder, 'case.json')
  let best = found
  for (let i = best.steps.length - 1; i >= 0; i--) {
    const fewer = { ...best, steps: best.steps.toSpliced(i, 1) }
    writeFileSync(path, JSON.stringify({ case: fewer }))
    if (!(await limited(['--case', path], path)).ok) best = fewer
  }
  return best
}

async function parent() {
  const { shares } = await import('./fuzz/kinds.mjs')
  const seconds = values.seconds === undefined ? 60 * Number(values.minutes ?? 1) : Number(values.seconds)
  const seed = Number(values.seed ?? 1)
  assert.ok(
    seconds > 0 && Number.isSafeInteger(seed),
    'expected --minutes or --seconds above 0 and a whole --seed',
  )
  const names = Object.keys(shares).filter((name) => values.kind === undefined || name === values.kind)
  assert.ok(names.length > 0, `--kind: expected one of ${Object.keys(shares).join(', ')}`)
  const all = names.reduce((sum, name) => sum + shares[name], 0)
  const kept = values.findings ?? join(here, '..', '..', '__test__', 'fixtures', 'api-findings')
  const folder = mkdtempSync(join(tmpdir(), 's4-fuzz-'))
  const state = join(folder, 'state.json')
  let [total, faults] = [0, 0]
  for (const name of names) {
    const until = Date.now() + (seconds * 1000 * shares[name]) / all
    const counts = { cases: 0, refused: 0, seeds: 0, faults: 0 }
    const seen = new Set()
    for (let round = 0; Date.now() < until; round++) {
      for (const file of [state, `${state}.end`]) rmSync(file, { force: true })
      const left = Math.min(120, Math.ceil((until - Date.now()) / 1000))
      const { ok, hangs, why } = await limited(
        ['--child', name, '--seed', String(seed + round), '--seconds', String(left), '--state', state],
        state,
      )
      counts.seeds++
      let finding
      if (ok) {
        const end = JSON.parse(readFileSync(`${state}.end`, 'utf8'))
        counts.cases += end.cases
        counts.refused += end.refused
        finding = end.finding
      } else {
        const found = JSON.parse(readFileSync(state, 'utf8'))
        if (hangs && (await isSlow(found, folder))) {
          console.log(`  ${name}, seed ${seed + round}: a case was slow, and is none of the findings`)
          continue
        }
        finding = { case: await shortened(found, folder), fault: why }
      }
      if (!finding) continue
      counts.faults++
      const text = JSON.stringify(finding.case)
      const id = createHash('sha256').update(text).digest('hex').slice(0, 12)
      if (seen.has(id)) continue
      seen.add(id)
      const path = join(kept, `${name}-${id}.json`)
      mkdirSync(kept, { recursive: true })
      const fault = finding.fault.trim().split('\n')[0]
      writeFileSync(path, `${JSON.stringify({ fault, case: finding.case }, undefined, 1)}\n`)
      console.log(
        `  ${name}, seed ${seed + round}: ${finding.fault.trim().split('\n').slice(0, 6).join('\n    ')}\n    ${path}`,
      )
    }
    total += counts.cases
    faults += counts.faults
    console.log(
      `${name.padEnd(11)} ${String(counts.cases).padStart(7)} cases, of which ${counts.refused} were refused what they begin with; ` +
        `${counts.seeds} seeds from ${seed}; ${counts.faults} faults`,
    )
  }
  rmSync(folder, { recursive: true })
  console.log(`the API: ${total} cases, ${faults} faults`)
  return faults === 0
}
