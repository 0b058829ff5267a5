/** Cases in which the property test of the API (`npm run fuzz`) has found a fault, each run again; and that it draws every option. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { S4Block, S4Layer, SequenceModel } from '../index.js'
import { root } from './helpers.js'
import { declarations } from './surface.js'

interface Case {
  /** What was at fault. */
  readonly fault: string
  readonly case: { readonly kind: string; readonly made: unknown; readonly steps: readonly unknown[] }
}
const importScript = (name: string): Promise<unknown> =>
  import(pathToFileURL(join(root, 'scripts', 'fuzz', name)).href) as Promise<unknown>
const { replay } = (await importScript('kinds.mjs')) as {
  replay: (found: Case['case']) => Promise<string | undefined>
}
const findings = JSON.parse(
  readFileSync(join(root, '__test__', 'fixtures', 'api-findings.json'), 'utf8'),
) as readonly Case[]

for (const [i, { fault, case: found }] of findings.entries())
  test(`${i}: ${fault}`, async (t) => {
    await replay(found)
    t.pass()
  })
