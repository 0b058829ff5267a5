/** Cases in which the property test of the API (`npm run fuzz`) has found a fault, each run again; and that it draws every option. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { root } from './helpers.js'
import { entryPoints, surfaceOf } from './surface.js'

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
const folder = join(root, '__test__', 'fixtures', 'api-findings')
for (const name of readdirSync(folder)) {
  const { fault, case: found } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Case
  test(`${name}: ${fault}`, async (t) => {
    await replay(found)
    t.pass()
  })
}

test('every option of models, blocks and layers is drawn', async (t) => {
  const { optionNames } = (await importScript('options.mjs')) as {
    optionNames: Record<'model' | 'block' | 'layer', readonly string[]>
  }
  const surface = surfaceOf(entryPoints())
  const optionsOf = (callable: string) =>
    surface.callables
      .find(({ name }) => name === callable)
      ?.places.flatMap(({ steps }) => (steps.length === 2 && steps[0] === 0 ? [String(steps[1])] : []))
      .toSorted()
  t.deepEqual([...optionNames.model].toSorted(), optionsOf('SequenceModel.create'))
  t.deepEqual([...optionNames.block].toSorted(), optionsOf('new S4Block'))
  t.deepEqual([...optionNames.layer].toSorted(), optionsOf('new S4Layer'))
})
