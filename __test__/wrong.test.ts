/**
 * Every entry point against every wrong thing: each value that is wrong at a place gets an S4Error with a code, naming the
 * place, and changes nothing; right values in other forms give the same bits. The places come from the declarations that
 * users get, so that a new export, parameter or option fails this test until it has cases.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { batch, drain, model, root } from './helpers.js'
import { entryPoints, surfaceOf } from './surface.js'
import { dataRecipes } from './wrong-data.js'
import { functionRecipes } from './wrong-functions.js'
import { generationRecipes } from './wrong-generation.js'
import { layerRecipes } from './wrong-layers.js'
import { liveRecipes } from './wrong-live.js'
import { modelRecipes, removeFolder } from './wrong-models.js'
import { taskRecipes } from './wrong-tasks.js'
import { exported, runCallable, runClosed, uncovered, type Outcome, type Recipe } from './wrong-table.js'

test.after.always(removeFolder)

/** Those of the first entry point, index.d.ts. */
const ofIndex: Readonly<Record<string, Recipe>> = {
  ...layerRecipes,
  ...modelRecipes,
  ...generationRecipes,
  ...liveRecipes,
  ...functionRecipes,
}
const recipes: Readonly<Record<string, Recipe>> = { ...ofIndex, ...dataRecipes, ...taskRecipes }

/** What the results of calls take in their turn, which no declaration of ours says: the frames of a stream's transform. */
const results = { entry: './results', types: join(root, 'results.d.ts') }
const surface = surfaceOf(
  [...entryPoints(), results],
  new Map([[results.types, 'export declare function transformed(frame: ArrayLike<number>): Promise<void>']]),
)

test('every export, parameter and option has cases', (t) => {
  t.deepEqual(uncovered(surface, recipes), [])
  for (const { entry } of entryPoints())
    t.deepEqual([...(surface.values.get(entry) ?? [])].toSorted(), exported(entry))
  t.deepEqual(surface.data, ['choices'])
})

/** The declarations with changes, as a next version may have them. */
function changed(...edits: readonly (readonly [from: string, to: string])[]) {
  const file = join(root, 'index.d.ts')
  let text = readFileSync(file, 'utf8')
  for (const [from, to] of edits) {
    if (!text.includes(from)) throw new Error(`index.d.ts has no ${from}`)
    text = text.replace(from, to)
  }
  return surfaceOf([{ entry: '.', types: file }], new Map([[file, text]]))
}

test('an export, a method, a parameter or an option without cases is found', async (t) => {
  const next = changed(
    ['declare function hippo(', 'declare function legs(n: number): void;\ndeclare function hippo('],
    ['export { AdamW,', 'export { legs, AdamW,'],
    ['    zeroGrad(): void;', '    zeroGrad(): void;\n    scaleGrad(by: number): void;\n    rate: number;'],
    ['interface FftConvOptions {', 'interface FftConvOptions {\n    colour?: string;'],
    [
      'declare function nplr(kind: HippoKind, n: number)',
      'declare function nplr(kind: HippoKind, n: number, p?: number)',
    ],
  )
  const names = ['S4Block', 'S4Layer', 'SequenceModel']
  const before = uncovered(surface, recipes)
  t.deepEqual(
    uncovered(next, ofIndex)
      .filter((line) => !before.includes(line) && !line.startsWith('results transformed'))
      .toSorted(),
    [
      'legs has no recipe',
      ...names.map((name) => `${name}#rate may be assigned to, and has no cases`),
      ...names.map((name) => `${name}#scaleGrad has no recipe`),
    ].toSorted(),
  )
  const outcome: Outcome = { cases: 0, places: 0, failures: [] }
  for (const callable of next.callables.filter(({ name }) => name === 'fftConv' || name === 'nplr'))
    await runCallable(callable, recipes[callable.name] as Recipe, outcome)
  t.deepEqual(outcome.failures, [
    'fftConv options.colour has no right value in its recipe',
    'nplr p has no right value in its recipe',
  ])
})

test('what a callback or an iterator of the caller throws comes back as it is, and frees the model', async (t) => {
  const own = new Error('of the caller')
  using trained = await model()
  let closed = 0
  function* broken(after: number) {
    try {
      for (let i = 0; i < after; i++) yield batch()
      throw own
    } finally {
      closed++
    }
  }
  async function* later() {
    yield* broken(1)
  }
  const onEvent = () => {
    throw own
  }
  for (const run of [
    () => trained.fit([batch()], { onEvent }),
    () => trained.fit(broken(0)),
    () => trained.fit(broken(2)),
    () => trained.fit(later()),
    () => trained.evaluate(later()),
    () => trained.fit([batch()], { validation: broken(1) }),
  ]) {
    t.is(await t.throwsAsync(run), own)
    t.is(await drain(trained.train([batch()])), 2)
  }
  t.is(closed, 5)
})

test('wrong values are refused by name and change nothing', async (t) => {
  const start = performance.now()
  const outcome: Outcome = { cases: 0, places: 0, failures: [] }
  // S4_TABLE_PART=2/4: the second of four parts, which may run beside each other.
  const [part = 1, parts = 1] = (process.env['S4_TABLE_PART'] ?? '1/1').split('/').map(Number)
  for (const [i, callable] of surface.callables.entries()) {
    const recipe = recipes[callable.name]
    if (recipe !== undefined && i % parts === part - 1) await runCallable(callable, recipe, outcome)
  }
  if (part === 1) runClosed(surface, outcome)
  t.log(
    `${[...surface.values.values()].flat().length} exports, ${surface.callables.length} callables, ${outcome.places} places, ` +
      `${outcome.cases} cases, ${outcome.failures.length} failures, ${((performance.now() - start) / 1000).toFixed(0)} s`,
  )
  t.is(outcome.failures.length, 0, outcome.failures.slice(0, 40).join('\n'))
})
