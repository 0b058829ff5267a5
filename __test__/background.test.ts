/** Functions that compute and read off the event loop: the same numbers as their synchronous twins, and signals. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  fftConv,
  fftConvAsync,
  generators,
  hippo,
  hippoAsync,
  nplr,
  nplrAsync,
  readCsv,
  readCsvAsync,
  readPictures,
  readSafetensors,
  readSafetensorsAsync,
  S4Layer,
  writeSafetensors,
} from 's4-node'
import { rejects, root } from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 's4-background-'))
const csv = join(folder, 'two.csv')
writeFileSync(csv, 'a,b\n1,2\n3,\n5,6\n')
const tensors = join(folder, 'a.safetensors')
writeSafetensors(tensors, { x: { data: Float64Array.of(1, 2.5), shape: [2] } }, { note: 'n' })
const u = { data: Float32Array.from({ length: 2 * 50 * 3 }, (_, i) => Math.sin(i)), shape: [2, 50, 3] }
const kernel = { data: Float64Array.from({ length: 2 * 3 * 9 }, (_, i) => Math.cos(i * i)), shape: [2, 3, 9] }
const d = { data: [1, 2, 3], shape: [1, 3] }
const layer = new S4Layer({ features: 3, state: 8, device: 'cpu', seed: 4 })

test('the twins off the event loop give the same numbers', async (t) => {
  for (const kind of ['legs', 'legt', 'fourier'] as const) {
    t.deepEqual(await hippoAsync(kind, 16), hippo(kind, 16))
    t.deepEqual(await nplrAsync(kind, 16), nplr(kind, 16))
  }
  const convolution = fftConv(u, kernel, d, { twoSided: true })
  t.deepEqual(await fftConvAsync(u, kernel, d, { twoSided: true }), convolution)
  t.true(convolution.data.some((x) => x !== 0))
  t.deepEqual(await readCsvAsync(csv, { column: 'b', gaps: 'linear' }), Float64Array.of(2, 4, 6))
  t.deepEqual(readCsv(csv, { column: 'b', gaps: 'linear' }), Float64Array.of(2, 4, 6))
  t.deepEqual(await readSafetensorsAsync(tensors), readSafetensors(tensors))
  t.deepEqual(await layer.kernelAsync(40, { rate: 2 }), layer.kernel(40, { rate: 2 }))
})

test('the input of a convolution is taken when it is called, not when it is computed', async (t) => {
  const given = { data: Float32Array.from(u.data), shape: u.shape }
  const work = fftConvAsync(given, kernel)
  given.data.fill(0)
  t.deepEqual(await work, fftConv(u, kernel))
})

test('the event loop goes on while an eigenproblem of size 512 is solved', async (t) => {
  let turns = 0
  let busy = true
  const turn = (): void => {
    turns++
    if (busy) setImmediate(turn)
  }
  turn()
  const form = await nplrAsync('legs', 512)
  busy = false
  t.deepEqual(form.lambda.shape, [256, 2])
  t.true(turns > 100, `${turns} turns`)
})

test('what is wrong is refused with the same code as by the twin', async (t) => {
  await rejects(t, 'ERR_S4_VALUE', hippoAsync('legs', 0))
  await rejects(t, 'ERR_S4_VALUE', nplrAsync('legs', 3))
  await rejects(t, 'ERR_S4_SHAPE', fftConvAsync(u, { data: [1], shape: [1, 1, 1] }))
  await rejects(t, 'ERR_S4_DATA', readCsvAsync(csv, { column: 'b' }))
  await rejects(t, 'ERR_S4_DATA', readCsvAsync(join(folder, 'none.csv')))
  await rejects(t, 'ERR_S4_CHECKPOINT', readSafetensorsAsync(csv))
  await rejects(t, 'ERR_S4_VALUE', layer.kernelAsync(0))
})

test('a signal rejects before the work and at once during it', async (t) => {
  const fired = { signal: AbortSignal.abort('enough') }
  const picture = join(root, 'crates/data/tests/files/rgb.png')
  for (const work of [
    hippoAsync('legs', 8, fired),
    nplrAsync('legs', 8, fired),
    fftConvAsync(u, kernel, d, { twoSided: true, ...fired }),
    readCsvAsync(csv, { column: 'a', ...fired }),
    readSafetensorsAsync(tensors, fired),
    layer.kernelAsync(8, fired),
    generators.listops({ count: 1, ...fired }),
    generators.pathx({ count: 1, ...fired }),
    readPictures([picture], fired),
  ])
    await rejects(t, 'ERR_S4_ABORTED', work)

  const controller = new AbortController()
  const began = performance.now()
  const whole = nplrAsync('legs', 512)
  const cut = nplrAsync('legs', 512, { signal: controller.signal })
  setImmediate(() => controller.abort())
  await rejects(t, 'ERR_S4_ABORTED', cut)
  const rejected = performance.now() - began
  await whole
  t.true(rejected < performance.now() - began, 'before the work that it began with has ended')
})
