/** Groups of parameters by name, in `train`: the first update of AdamW moves each element by its rate, whatever its gradient. */
import test from 'ava'
import type { TrainOptions } from '../index.js'
import { batch, drain, model, rejects } from './helpers.js'

test('rates by name, and frozen parameters; a resumed run keeps them', async (t) => {
  using m = await model()
  const values = () => new Map(m.parameters().map((p) => [p.name, [...p.value.data]]))
  const groups = [
    { name: '*.A_*', freeze: true },
    { name: 'blocks.*.layer.kernel.inv_dt', lr: 1e-2 },
    { name: 'blocks.*.layer.kernel.B', lr: 2e-2 },
  ]
  const before = values()
  const options = { lr: 0, ssmLr: 1e-3, weightDecay: 0, groups }
  await drain(m.train([batch()], options))
  const first = values()
  /** Largest step of an element: the learning rate, where its gradient is well above eps. */
  const moved = (name: string) =>
    Math.max(...(first.get(name) as number[]).map((x, i) => Math.abs(x - (before.get(name)?.[i] as number))))
  const near = (name: string, want: number) => {
    const got = moved(name)
    t.true(Math.abs(got - want) <= 1e-2 * want, `${name}: ${got}`)
  }
  for (const name of before.keys()) {
    if (/\.A_|decoder|encoder|norm|output_linear|\.[CD]$/.test(name)) t.is(moved(name), 0, name)
    else if (name.endsWith('.inv_dt')) near(name, 1e-2)
    else if (name.endsWith('.B')) near(name, 2e-2)
    else near(name, 1e-3)
  }
  await drain(m.train([batch()], { resume: true, epochs: 2 }))
  const second = values()
  for (const name of before.keys())
    if (name.includes('.A_')) t.deepEqual(second.get(name), before.get(name), name)
  await drain(m.train([batch()], { resume: true, epochs: 3, groups: [] }))
  for (const name of before.keys())
    if (name.includes('.A_')) t.notDeepEqual(values().get(name), before.get(name), name)
})

test('groups that cannot be are refused before any work', async (t) => {
  using m = await model()
  const wrong = [
    5,
    [5],
    [{}],
    [{ name: 5 }],
    [{ name: 'decoder.weigth' }],
    [{ name: '*', lr: -1 }],
    [{ name: '*', lr: '1' }],
    [{ name: '*', freeze: 1 }],
    [{ name: '*', rate: 1 }],
  ]
  for (const groups of wrong)
    await rejects(t, 'ERR_S4_VALUE', drain(m.train([batch()], { groups } as TrainOptions)))
  t.is(m.progress.steps, 0)
})
