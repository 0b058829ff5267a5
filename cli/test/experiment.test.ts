import assert from 'node:assert/strict'
import { test } from 'node:test'
import { experimentPage, type Entry, type Experiment } from '../src/report/experiment.js'

const made = (tests: Experiment['result']['tests']): Experiment => ({
  recipe: {
    name: 'x',
    title: 'An <experiment>',
    paper: { accuracy: 88.65, table: 'docs/results.md' },
    differs: ['less & more'],
  },
  result: {
    seed: 1,
    device: 'cpu',
    parameters: 1234,
    epochs: 3,
    minutes: 0.5,
    chosenBy: 'validation',
    settings: ['train.epochs=3'],
    checkpoint: { file: 'best.safetensors', sha256: 'abc' },
    tests,
  },
  isSmoke: false,
})
const points = (page: string) => page.match(/<circle/g)?.length ?? 0
const captions = (page: string) =>
  [...page.matchAll(/<figcaption>(.*?)<\/figcaption>/g)].map(([, text]) => text?.replaceAll(/<[^>]*>/g, ''))

test('an epoch that was left within is no point, and one that was run twice is one', () => {
  const epoch = (n: number, loss: number, more: object = {}): Entry => ({
    event: 'epoch',
    epoch: n,
    loss,
    accuracy: 0,
    ...more,
  })
  const history: Entry[] = [
    { event: 'start' },
    epoch(1, 3),
    epoch(2, 2, { validation: { loss: 2.5, accuracy: 0.25 } }),
    epoch(2, 9, { batch: 5 }),
    { event: 'start' },
    epoch(2, 2, { validation: { loss: 2.5, accuracy: 0.25 } }),
    epoch(3, 1),
  ]
  const page = experimentPage(
    made({
      test: {
        accuracy: 0.5,
        loss: 1,
        correct: 1,
        of: 2,
        confusion: [
          [1, 0],
          [1, 0],
        ],
      },
    }),
    history,
  )
  // Accuracy, which is 0 in every epoch of training, and loss: three points of training and one of validation each.
  assert.equal(points(page), 8)
  assert.deepEqual(captions(page), ['training validation set', 'training validation set'])
  assert.ok(page.includes('<b>50.00 %</b>') && page.includes('<th>said 1</th>'))
  assert.ok(page.includes('An &lt;experiment&gt;') && page.includes('less &amp; more'))
  assert.ok(page.includes('The paper: accuracy 88.65.') && !page.includes('docs/results.md'))
})

test('figures that only the judged epochs have are drawn alone, and all figures of a test are shown', () => {
  const history: Entry[] = [1, 2].map((n) => ({
    event: 'epoch',
    epoch: n,
    loss: 1 / n,
    validation: { mse: 2 / n, mae: 1 / n },
  }))
  const page = experimentPage(made({ test: { mse: 0.404, mae: 0.428 } }), history)
  assert.deepEqual(captions(page), ['validation set', 'validation set', 'training'])
  assert.equal(points(page), 6)
  assert.ok(page.includes('<b>0.404</b>') && page.includes('<b>0.428</b>'))
  const words = experimentPage(
    made({ test: { loss: 0.539, perplexity: 1.715, bitsPerDimension: 0.778 } }),
    history,
  )
  for (const text of ['0.539', '1.715', '0.778']) assert.ok(words.includes(`<b>${text}</b>`), text)
})
