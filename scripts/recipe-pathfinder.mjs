// Pathfinder and Path-X: pictures.npy (count, side, side) and labels.npy (count), which `s4 data pathfinder` and `s4 data pathx` make.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { npyBytes } from './recipe-npy.mjs'
import { generator, shuffle } from './recipe-random.mjs'

/** Pixels in [0, 1], uncentred; a random tenth validates and another tests. */
export function pathfinder(folder, { name = 'pathfinder', splitSeed = 42 } = {}) {
  const inside = existsSync(join(folder, name)) ? join(folder, name) : folder
  const [pictures, labels] = ['pictures.npy', 'labels.npy'].map((file) => {
    const path = join(inside, file)
    if (!existsSync(path)) throw new Error(`${path} is missing; s4 data ${name} makes it`)
    return npyBytes(path)
  })
  const [count, side] = pictures.shape
  const length = side * side
  const order = shuffle(
    Array.from({ length: count }, (_, i) => i),
    generator(splitSeed),
  )
  const part = (from, to) =>
    order
      .slice(Math.round(from * count), Math.round(to * count))
      .map((at) => ({ at, target: labels.row(at)[0], length }))
  const values = ({ at }) => {
    const pixels = pictures.row(at)
    const out = new Float32Array(length)
    for (let i = 0; i < length; i++) out[i] = pixels[i] / 255
    return out
  }
  const [train, validation, test] = [part(0, 0.8), part(0.8, 0.9), part(0.9, 1)]
  return {
    kind: 'classes',
    classes: 2,
    model: { input: 1, output: 2 },
    train,
    values,
    validation: { name: 'validation', examples: validation, values },
    tests: [{ name: 'test', examples: test, values }],
    summary: { train: train.length, validation: validation.length, test: test.length, side },
  }
}
