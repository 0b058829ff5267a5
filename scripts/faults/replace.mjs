// Changes files while disk.mjs reads them: by renaming another over them, by writing them in place, by removing them.
//   node scripts/faults/replace.mjs CHECKPOINT TABLE PICTURE      runs until it is killed
import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { SequenceModel } from 's4-node'
import { generator } from '../recipe-random.mjs'

const paths = process.argv.slice(2)
const random = generator(1)
const models = [4, 8].map(async (features) => {
  const model = await SequenceModel.create({ input: 1, output: 1, features, layers: 1, device: 'cpu' })
  return model.toBytes()
})
const table = (sign) => Buffer.from(Array.from({ length: 20_000 }, (_, i) => sign * i).join('\n'))
const picture = (name) => readFileSync(new URL(`../../crates/data/tests/files/${name}`, import.meta.url))
const contents = [await Promise.all(models), [table(1), table(-1)], [picture('rgb.png'), picture('grey.png')]]
for (;;) {
  for (const [i, path] of paths.entries()) {
    const bytes = contents[i][Math.floor(random() * 2)]
    const way = Math.floor(random() * 5)
    if (way < 2) {
      writeFileSync(`${path}.new`, bytes)
      renameSync(`${path}.new`, path)
    } else if (way === 2) writeFileSync(path, bytes)
    else if (way === 3) rmSync(path, { force: true })
    else {
      writeFileSync(path, bytes)
      truncateSync(path, Math.floor(random() * bytes.length))
    }
  }
  await wait(random() * 3)
}
