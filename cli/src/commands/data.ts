import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Args, UsageError } from '../args.js'
import { progress } from '../progress.js'
import { writeListOps, writePictures } from '../taskfiles.js'
import type { Command } from './command.js'

const TASKS = ['listops', 'pathfinder', 'pathx'] as const

export const data: Command = {
  name: 'data',
  summary: 'make the data of a task of the Long Range Arena from a seed',
  usage: `data listops OUT [--train N] [--validation N] [--test N] [--seed N]
       s4 data pathfinder|pathx OUT [--count N] [--seed N]

ListOps (96,000, 2,000 and 2,000 expressions): basic_train.tsv, basic_val.tsv, basic_test.tsv, each with a first line
Source<TAB>Target, then an expression without parentheses, a tab and its value. Pathfinder (32 × 32) and Path-X (128 × 128),
200,000 pictures: pictures.npy (count, side, side) and labels.npy (count), unsigned bytes; label 1 where one path joins the
markers. The same seed (42) gives the same files on every machine. What is in OUT is kept: a task's file that is there is an error.`,
  async run(argv) {
    const text = { type: 'string' } as const
    const options = { train: text, validation: text, test: text, count: text, seed: text }
    const args = new Args(argv, options, ['TASK', 'OUT'])
    const [task, out] = args.positionals as [(typeof TASKS)[number], string]
    if (!TASKS.includes(task)) throw new UsageError(`'${task}' is none of ${TASKS.join(', ')}`)
    const others = task === 'listops' ? ['count'] : ['train', 'validation', 'test']
    const wrong = others.find((name) => args.text(name) !== undefined)
    if (wrong !== undefined) throw new UsageError(`--${wrong} is not of ${task}`)
    const seed = args.count('seed', 42, 0)
    const there = [task === 'listops' ? 'basic_train.tsv' : 'pictures.npy'].find((name) =>
      existsSync(join(out, name)),
    )
    if (there !== undefined) throw new Error(`${join(out, there)} is there already`)
    if (task === 'listops') {
      const sizes = {
        train: args.count('train', 96_000),
        validation: args.count('validation', 2000),
        test: args.count('test', 2000),
      }
      await writeListOps(out, sizes, seed)
    } else {
      const bar = progress(`data ${task}`)
      await writePictures(out, task, args.count('count', 200_000), seed, (done, total) =>
        bar.update(done, total, 'pictures'),
      )
      bar.end()
    }
    console.log(`data: ${out}`)
    return 0
  },
}
