import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { readInputs } from '../data/examples.js'
import { filesOf, kindOf } from '../data/files.js'
import { readPictures } from 's4-node'
import { readOneTable, tableSpecs } from '../data/tables.js'
import { jsonSpec } from '../options/common.js'
import type { NumberSpec } from '../options/spec.js'
import { number } from '../output.js'
import { progress } from '../progress.js'
import { writeListOps, writePictures } from '../taskfiles.js'
import type { Command } from './command.js'

const count = (name: string, help: string, otherwise: string): NumberSpec => ({
  name,
  kind: 'count',
  min: name === 'seed' ? 0 : 1,
  help,
  otherwise,
})
const seedSpec = count('seed', 'the same seed gives the same files on every machine', '42')
const outOperand = { name: 'OUT', help: "folder; a task's file that is there is an error" }

/** Refuses a folder that has the task's file. */
function checkFree(out: string, file: string): void {
  if (existsSync(join(out, file))) throw new Error(`${join(out, file)} is there already`)
}

const listops: Command = {
  name: 'listops',
  summary: 'ListOps of the Long Range Arena: basic_train.tsv, basic_val.tsv, basic_test.tsv',
  operands: [outOperand],
  options: [
    count('train', 'expressions to train on', '96000'),
    count('validation', 'expressions to validate by', '2000'),
    count('test', 'expressions to test with', '2000'),
    seedSpec,
  ],
  notes:
    'Each file has a first line Source<TAB>Target, then an expression without parentheses, a tab and its value.',
  async run({ operands: [out], values }) {
    const { train = 96_000, validation = 2000, test = 2000, seed = 42 } = values as Record<string, number>
    checkFree(out as string, 'basic_train.tsv')
    await writeListOps(out as string, { train, validation, test }, seed)
    console.log(`data: ${out}`)
    return 0
  },
}

const pictures = (name: 'pathfinder' | 'pathx', side: number): Command => ({
  name,
  summary: `${name === 'pathx' ? 'Path-X' : 'Pathfinder'} of the Long Range Arena, ${side} × ${side}: pictures.npy, labels.npy`,
  operands: [outOperand],
  options: [count('count', 'pictures', '200000'), seedSpec],
  notes:
    'pictures.npy (count, side, side) and labels.npy (count) hold unsigned bytes; label 1 where one path joins the markers.',
  async run({ operands: [out], values }) {
    const { count: most = 200_000, seed = 42 } = values as Record<string, number>
    checkFree(out as string, 'pictures.npy')
    const bar = progress(`data ${name}`)
    await writePictures(out as string, name, most, seed, (done, total) => bar.update(done, total, 'pictures'))
    bar.end()
    console.log(`data: ${out}`)
    return 0
  },
})

const show: Command = {
  name: 'show',
  summary: 'what tables, recordings and pictures hold, as the other commands read them',
  operands: [{ name: 'DATA...', help: 'tables, recordings, pictures, folders' }],
  options: [jsonSpec, ...tableSpecs],
  async run({ operands, values }) {
    const files = await filesOf(operands)
    const shown: object[] = []
    for (const { file } of files.filter((one) => ['table', 'text'].includes(kindOf(one.file) ?? '')))
      shown.push({ file, ...(await tableSummary(file, values)) })
    const sounds = files.filter(({ file }) => kindOf(file) === 'audio')
    for (const { file } of sounds) {
      const { inputs, sampleRate } = await readInputs([file], {})
      const samples = (inputs[0]!.input as Float32Array).length
      shown.push({ file, sampleRate, samples, seconds: samples / (sampleRate as number) })
    }
    for (const { file } of files.filter((one) => kindOf(one.file) === 'picture')) {
      const { height, width, channels } = await readPictures([file])
      shown.push({ file, height, width, channels })
    }
    if (shown.length === 0) throw new Error(`${operands.join(', ')}: no tables, recordings or pictures`)
    for (const one of shown)
      console.log(values['json'] ? JSON.stringify(one) : textOf(one as Record<string, unknown>))
    return 0
  },
}

async function tableSummary(file: string, values: Parameters<typeof readOneTable>[1]) {
  const { rows, columns, texts, time, names } = await readOneTable(file, values)
  const dated = time?.filter((t) => !Number.isNaN(t))
  return {
    rows,
    ...(dated !== undefined &&
      dated.length > 0 && {
        from: new Date(dated[0] as number).toISOString(),
        to: new Date(dated.at(-1) as number).toISOString(),
      }),
    columns: names.map((name) => {
      const x = columns[name]
      if (x === undefined) return { name, texts: new Set(texts[name]).size }
      const there = x.filter((v) => !Number.isNaN(v))
      const mean = there.reduce((a, b) => a + b, 0) / there.length
      const squares = there.reduce((sum, v) => sum + (v - mean) ** 2, 0)
      return {
        name,
        missing: x.length - there.length,
        mean,
        deviation: Math.sqrt(squares / there.length),
        least: there.reduce((a, b) => Math.min(a, b), Infinity),
        most: there.reduce((a, b) => Math.max(a, b), -Infinity),
      }
    }),
  }
}

function textOf({ file, columns, ...rest }: Record<string, unknown>): string {
  const said = (x: object) =>
    Object.entries(x)
      .map(([name, value]) => `${name} ${typeof value === 'number' ? number(value) : String(value)}`)
      .join(', ')
  const lines = ((columns ?? []) as { name: string }[]).map(
    ({ name, ...others }) => `  ${name}: ${said(others)}`,
  )
  return [`${String(file)}: ${said(rest)}`, ...lines].join('\n')
}

export const data: Command = {
  name: 'data',
  summary: 'look at data, or make those of the Long Range Arena from a seed',
  operands: [],
  options: [],
  children: [show, listops, pictures('pathfinder', 32), pictures('pathx', 128)],
}
