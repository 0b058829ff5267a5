/** Writes checkpoint files for the tests, as `torch.save` would and with any fault: zip archives, and pickles of protocol 2. */
import { crc32, deflateRawSync } from 'node:zlib'

/** An entry of an archive. What is not given is as it should be. */
export interface ZipEntry {
  readonly name: string
  readonly data: Uint8Array
  readonly deflated?: boolean
  /** Size that the headers say the entry unfolds to. */
  readonly size?: number
  readonly checksum?: number
  /** Where the directory says that the entry begins. */
  readonly offset?: number
}

export const bytes = (...parts: (string | Uint8Array | number[])[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))))

const u16 = (n: number) => Buffer.from(Uint16Array.of(n).buffer)
const u32 = (n: number) => Buffer.from(Uint32Array.of(n).buffer)

/** A zip archive of these entries. */
export function zip(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let at = 0
  for (const { name, data, deflated = false, ...said } of entries) {
    const stored = deflated ? deflateRawSync(data) : Buffer.from(data)
    const fields = bytes(
      u16(20),
      u16(0),
      u16(deflated ? 8 : 0),
      u32(0),
      u32(said.checksum ?? crc32(data)),
      u32(stored.length),
      u32(said.size ?? data.length),
      u16(Buffer.byteLength(name)),
      u16(0),
    )
    const local = bytes('PK\x03\x04', fields, name, stored)
    directory.push(
      bytes('PK\x01\x02', u16(20), fields, u16(0), u16(0), u16(0), u32(0), u32(said.offset ?? at), name),
    )
    parts.push(local)
    at += local.length
  }
  const list = bytes(...directory)
  const count = u16(entries.length)
  return bytes(...parts, list, 'PK\x05\x06', u16(0), u16(0), count, count, u32(list.length), u32(at), u16(0))
}

/** A checkpoint file of a pickle and its storages, `data/0`, `data/1`, …. */
export function checkpointFile(
  pickle: Uint8Array,
  storages: readonly Uint8Array[],
  more: ZipEntry[] = [],
): Buffer {
  return zip([
    { name: 'm/data.pkl', data: pickle },
    { name: 'm/byteorder', data: bytes('little') },
    ...storages.map((data, i) => ({ name: `m/data/${i}`, data })),
    { name: 'm/version', data: bytes('3\n') },
    ...more,
  ])
}

/** A pickle of protocol 2 from the bytes of its opcodes; the functions below give those of one value each. */
export const pickle = (...parts: (string | Uint8Array | number[])[]): Buffer =>
  bytes([0x80, 2], ...parts, '.')
export const text = (x: string): Buffer => bytes('X', u32(Buffer.byteLength(x)), x)
export const whole = (n: number | bigint): Buffer =>
  bytes([0x8a, 8], Buffer.from(BigInt64Array.of(BigInt(n)).buffer))
export const named = (module: string, name: string): Buffer => bytes(`c${module}\n${name}\n`)
export const tuple = (...items: Uint8Array[]): Buffer => bytes('(', ...items, 't')
export const dict = (items: Readonly<Record<string, Uint8Array>>): Buffer =>
  bytes('}(', ...Object.entries(items).flatMap(([key, value]) => [text(key), value]), 'u')
export const called = (function_: Uint8Array, ...args: Uint8Array[]): Buffer =>
  bytes(function_, tuple(...args), 'R')
export const storage = (kind: string, key: string, elements: number | bigint): Buffer =>
  bytes(tuple(text('storage'), named('torch', kind), text(key), text('cpu'), whole(elements)), 'Q')
/** A tensor that views a storage. */
export function view(
  of: Uint8Array,
  offset: number,
  size: readonly number[],
  stride: readonly number[],
): Buffer {
  const sizes = (list: readonly number[]) => tuple(...list.map(whole))
  const hooks = called(named('collections', 'OrderedDict'))
  const args = [of, whole(offset), sizes(size), sizes(stride), bytes([0x89]), hooks]
  return called(named('torch._utils', '_rebuild_tensor_v2'), ...args)
}

/** The file that `torch.save` writes of these tensors, under `key` where it is given, beside what `beside` holds. */
export function savedByTorch(
  tensors: Readonly<Record<string, { data: ArrayLike<number>; shape: readonly number[] }>>,
  key?: string,
  beside: Readonly<Record<string, Uint8Array>> = {},
): Buffer {
  const storages: Buffer[] = []
  const items = Object.entries(tensors).map(([name, { data, shape }]) => {
    const integers = name.endsWith('l_kernel') || name.endsWith('.L')
    const array = integers ? BigInt64Array.from(data as number[], BigInt) : Float32Array.from(data)
    const of = storage(integers ? 'LongStorage' : 'FloatStorage', `${storages.length}`, data.length)
    storages.push(Buffer.from(array.buffer))
    const stride = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1))
    return [name, view(of, 0, shape, stride)] as const
  })
  const weights = dict(Object.fromEntries(items))
  return checkpointFile(
    key === undefined ? pickle(weights) : pickle(dict({ ...beside, [key]: weights })),
    storages,
  )
}
