/**
 * Event files as TensorBoard reads them: records of a protocol buffer `Event`, each between its length and its checksum. Only
 * the fields that a scalar needs are written.
 */
import { appendFileSync, closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** CRC-32C (Castagnoli), reflected polynomial 0x82F63B78, by a table of bytes. */
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1
  return c
})

export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff
  for (const byte of bytes) c = (c >>> 8) ^ (TABLE[(c ^ byte) & 0xff] as number)
  return (c ^ 0xffffffff) >>> 0
}

/** The checksum of a record: rotated and shifted, so that the checksum of bytes that hold checksums is no weak one. */
function masked(bytes: Uint8Array): Buffer {
  const crc = crc32c(bytes)
  const out = Buffer.alloc(4)
  out.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0)
  return out
}

/** A record: length, its checksum, the bytes, their checksum. */
export function record(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([length, masked(length), bytes, masked(bytes)])
}

/** An unsigned number of a protocol buffer: seven bits a byte, the lowest first. */
function varint(x: number): Buffer {
  const bytes: number[] = []
  let rest = x
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80)
  return Buffer.from([...bytes, rest])
}

const field = (number: number, type: number) => varint(number * 8 + type)
const delimited = (number: number, bytes: Uint8Array) =>
  Buffer.concat([field(number, 2), varint(bytes.length), bytes])

function double(number: number, x: number): Buffer {
  const out = Buffer.alloc(8)
  out.writeDoubleLE(x)
  return Buffer.concat([field(number, 1), out])
}

function float(number: number, x: number): Buffer {
  const out = Buffer.alloc(4)
  out.writeFloatLE(x)
  return Buffer.concat([field(number, 5), out])
}

/** Event { wall_time = 1, file_version = 3 }, the first of a file. */
export const versionEvent = (seconds: number): Buffer =>
  Buffer.concat([double(1, seconds), delimited(3, Buffer.from('brain.Event:2'))])

/** Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } }. */
export function scalarEvent(
  seconds: number,
  step: number,
  scalars: Readonly<Record<string, number>>,
): Buffer {
  const values = Object.entries(scalars).map(([tag, x]) =>
    delimited(1, Buffer.concat([delimited(1, Buffer.from(tag)), float(2, x)])),
  )
  // A step of 0 is the default of the format, and left out.
  const at = step === 0 ? [] : [field(2, 0), varint(step)]
  return Buffer.concat([double(1, seconds), ...at, delimited(5, Buffer.concat(values))])
}

/** Appends scalars to a new event file in a folder. */
export class EventFile {
  readonly path: string

  constructor(folder: string, now: number = Date.now()) {
    const seconds = String(Math.floor(now / 1000)).padStart(10, '0')
    this.path = join(folder, `events.out.tfevents.${seconds}.s4.${process.pid}`)
    const file = openSync(this.path, 'a')
    writeSync(file, record(versionEvent(now / 1000)))
    closeSync(file)
  }

  scalars(step: number, scalars: Readonly<Record<string, number>>, now: number = Date.now()): void {
    const finite = Object.fromEntries(Object.entries(scalars).filter(([, x]) => Number.isFinite(x)))
    if (Object.keys(finite).length > 0)
      appendFileSync(this.path, record(scalarEvent(now / 1000, step, finite)))
  }
}
