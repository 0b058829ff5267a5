/** Files of the Long Range Arena's tasks, made by the library's generators: each whole or not there. */
import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { generators, type ListOpsExamples } from 's4-node'

/** Told how many of how many examples are done. */
export type Report = (done: number, total: number) => void

/** Examples of each part. */
export interface ListOpsSizes {
  readonly train: number
  readonly validation: number
  readonly test: number
}

/** Pictures made and written at once: 8 MB. */
const PIECE = { pathfinder: 8192, pathx: 512 } as const

/** Fills a file under another name, then renames it. */
function whole(path: string, fill: (file: number) => void): void {
  const file = openSync(`${path}.part`, 'w')
  try {
    fill(file)
  } finally {
    closeSync(file)
  }
  renameSync(`${path}.part`, path)
}

/** The header of a .npy file (numpy.lib.format, version 1) of unsigned bytes. */
export function npyHeader(shape: readonly number[]): Buffer {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${sizes}), }`
  const padding = 63 - ((10 + text.length) % 64)
  const head = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1')
  head.writeUInt16LE(text.length + padding + 1, 8)
  return Buffer.concat([head, Buffer.from(`${text}${' '.repeat(padding)}\n`, 'latin1')])
}

/** Lines of an expression, a tab and its value, under a first line "Source<TAB>Target". */
function tsv({ tokens, offsets, labels, words }: ListOpsExamples, from: number, to: number): Buffer {
  const spelled = words.map((word) => Buffer.from(`${word} `, 'latin1'))
  const head = 'Source\tTarget\n'
  // The longest word is four letters and a space.
  const bytes = Buffer.allocUnsafe(head.length + 5 * (offsets[to] - offsets[from]) + 4 * (to - from))
  let at = bytes.write(head, 'latin1')
  for (let row = from; row < to; row++) {
    for (let i = offsets[row]; i < offsets[row + 1]; i++) {
      const word = spelled[tokens[i]]
      for (let k = 0; k < word.length; k++) bytes[at++] = word[k]
    }
    // Over the last space.
    at += bytes.write(`\t${labels[row]}\n`, at - 1, 'latin1') - 1
  }
  return bytes.subarray(0, at)
}

/** `basic_train.tsv`, `basic_val.tsv` and `basic_test.tsv`: no two of all expressions are the same. */
export async function writeListOps(folder: string, sizes: ListOpsSizes, seed: number): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const made = await generators.listops({ count: sizes.train + sizes.validation + sizes.test, seed })
  let from = 0
  for (const [name, size] of [
    ['train', sizes.train],
    ['val', sizes.validation],
    ['test', sizes.test],
  ] as const) {
    const part = tsv(made, from, from + size)
    whole(join(folder, `basic_${name}.tsv`), (file) => writeFileSync(file, part))
    from += size
  }
}

/** `pictures.npy` (count, side, side) and `labels.npy` (count), unsigned bytes. */
export async function writePictures(
  folder: string,
  task: keyof typeof PIECE,
  count: number,
  seed: number,
  report: Report = () => {},
): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const labels = new Uint8Array(count)
  const path = join(folder, 'pictures.npy')
  const file = openSync(`${path}.part`, 'w')
  try {
    for (let first = 0; first < count; first += PIECE[task]) {
      const piece = Math.min(PIECE[task], count - first)
      const made = await generators[task]({ count: piece, first, seed })
      if (first === 0) writeSync(file, npyHeader([count, made.side, made.side]))
      writeFileSync(file, made.pixels)
      labels.set(made.labels, first)
      report(first + piece, count)
    }
  } finally {
    closeSync(file)
  }
  renameSync(`${path}.part`, path)
  whole(join(folder, 'labels.npy'), (target) =>
    writeFileSync(target, Buffer.concat([npyHeader([count]), labels])),
  )
}
