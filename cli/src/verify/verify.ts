/** The command `s4 verify`: runs golden cases through the public API and prints a line for each tensor. */
import { S4Error } from 's4-node'
import {
  findCases,
  readGolden,
  type Computed,
  type GoldenCase,
  type GoldenFile,
  type RunOptions,
} from './cases.js'
import { relativeError, tolerance } from './compare.js'
import { runBlock } from './block.js'
import { runInit } from './init.js'
import { runLong } from './long.js'
import { runTrain } from './train.js'

/** How a kind of golden case is run, and which of its tensors are inputs or parameters, and are not compared. */
interface Runner {
  readonly inputs: RegExp
  readonly parameters?: RegExp
  readonly run: (golden: GoldenFile, checkpoint: string | undefined, options: RunOptions) => Promise<Computed>
}

const blockRunner: Runner = {
  inputs: /^(u|g|state\.initial|from_initial\.(g|gs))$/,
  parameters:
    /^(layer\.D|layer\.kernel\.(inv_dt|A_real|A_imag|B|C|P|l_kernel)|output_linear\.0\.(weight|bias))$/,
  run: runBlock,
}
const initRunner: Runner = { inputs: /^$/, run: runInit }
const trainRunner: Runner = { inputs: /^(u|labels|init\..+)$/, run: runTrain }
const longRunner: Runner = { inputs: /^param\.(inv_dt|A_real|A_imag|B|C|P)$/, run: runLong }

function runnerOf({ name, checkpoint }: GoldenCase): Runner | undefined {
  if (checkpoint !== undefined) return blockRunner
  if (name === 'init') return initRunner
  if (name.startsWith('train_')) return trainRunner
  if (name.startsWith('long_')) return longRunner
  return undefined
}

export interface Verdict {
  readonly tensors: number
  readonly failures: number
  /** Number of cases that the chosen algorithm cannot compute. */
  readonly skipped: number
  readonly worst?: { readonly name: string; readonly quantity: string; readonly error: number }
}

/** Whether an error means that a case is skipped: 'cauchy' must refuse a layer with zero-order hold. */
function isSkipped({ config }: GoldenFile, { algorithm }: RunOptions, error: unknown): boolean {
  const zoh = config.disc === 'zoh' || (config.disc === undefined && config.mode === 'diag')
  return zoh && algorithm === 'cauchy' && error instanceof S4Error && error.code === 'ERR_S4_UNSUPPORTED'
}

/** Runs all golden cases of a folder. `failures` counts tensors with a too large error, unknown tensors, and files that cannot be run. */
export async function verify(
  folder: string,
  options: RunOptions,
  print: (line: string) => void,
): Promise<Verdict> {
  let tensors = 0
  let failures = 0
  let skipped = 0
  let worst: Verdict['worst']
  const fail = (line: string) => {
    failures += 1
    print(line)
  }
  const cases = findCases(folder)
  if (cases.length === 0) fail(`${folder} holds no .safetensors file`)
  for (const goldenCase of cases) {
    const runner = runnerOf(goldenCase)
    if (runner === undefined) {
      fail(`${goldenCase.name} cannot be run: not a known kind of golden file`)
      continue
    }
    let golden: GoldenFile | undefined
    try {
      golden = readGolden(goldenCase.golden)
      if (goldenCase.checkpoint !== undefined) {
        for (const name of readGolden(goldenCase.checkpoint).tensors.keys())
          if (!runner.parameters?.test(name))
            fail(`${goldenCase.name} ${name} unknown tensor in the checkpoint`)
      }
      const computed = await runner.run(golden, goldenCase.checkpoint, options)
      let compared = 0
      for (const [quantity, truth] of golden.tensors) {
        if (runner.inputs.test(quantity)) continue
        if (!computed.has(quantity)) {
          fail(`${goldenCase.name} ${quantity} unknown tensor`)
          continue
        }
        const error = relativeError(computed.get(quantity), truth.data)
        const allowed = tolerance(quantity, golden.config, options)
        const ok = error <= allowed
        const line = `${goldenCase.name} ${quantity} ${error.toExponential(2)}`
        compared += 1
        if (ok) print(line)
        else fail(`${line} past ${allowed.toExponential(0)}`)
        if (worst === undefined || error > worst.error) worst = { name: goldenCase.name, quantity, error }
      }
      tensors += compared
      if (compared === 0) fail(`${goldenCase.name} cannot be run: nothing in it to compare`)
    } catch (error) {
      const reason = (error as Error).message.split('\n')[0]
      if (golden !== undefined && isSkipped(golden, options, error)) {
        skipped += 1
        print(`${goldenCase.name} skipped: ${reason}`)
      } else {
        fail(`${goldenCase.name} cannot be run: ${reason}`)
      }
    }
  }
  const counts = [
    `${tensors} tensors`,
    skipped > 0 && `${skipped} cases skipped`,
    failures > 0 && `${failures} failed`,
  ]
  print(counts.filter(Boolean).join(', '))
  if (worst !== undefined) print(`worst ${worst.name} ${worst.quantity} ${worst.error.toExponential(2)}`)
  return { tensors, failures, skipped, ...(worst === undefined ? {} : { worst }) }
}
