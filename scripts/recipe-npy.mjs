// Bytes of a .npy file (numpy.lib.format): arrays of unsigned bytes in C order, as `s4 data` writes them.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/** Files up to here are held in memory; of larger ones a row is read when it is asked for. */
const HELD = 2 ** 30

/** { shape, row(i): the bytes of the first axis' place i }. */
export function npyBytes(path) {
  const file = openSync(path, 'r')
  const read = (at, length) => {
    const bytes = Buffer.allocUnsafe(length)
    if (readSync(file, bytes, 0, length, at) !== length) throw new Error(`${path}: the file ends too early`)
    return bytes
  }
  const start = read(0, 10)
  if (start.toString('latin1', 1, 6) !== 'NUMPY' || start[6] !== 1)
    throw new Error(`${path}: no .npy file of version 1`)
  const begin = 10 + start.readUInt16LE(8)
  const header = read(10, begin - 10).toString('latin1')
  const shape = /'shape': \(([\d, ]+)\)/
    .exec(header)?.[1]
    .split(',')
    .filter((n) => n.trim() !== '')
    .map(Number)
  if (shape === undefined || !/'descr': '\|u1'/.test(header) || !/'fortran_order': False/.test(header))
    throw new Error(`${path}: unsigned bytes in C order are read, this is ${header.trim()}`)
  const width = shape.slice(1).reduce((a, b) => a * b, 1)
  if (fstatSync(file).size !== begin + shape[0] * width)
    throw new Error(`${path}: the file has another length than its header says`)
  if (shape[0] * width > HELD) return { shape, row: (i) => read(begin + i * width, width) }
  const all = Buffer.allocUnsafe(shape[0] * width)
  for (let at = 0; at < all.length; at += 2 ** 28)
    read(begin + at, Math.min(2 ** 28, all.length - at)).copy(all, at)
  closeSync(file)
  return { shape, row: (i) => all.subarray(i * width, (i + 1) * width) }
}
