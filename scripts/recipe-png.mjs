// Reads 8-bit greyscale PNG pictures, in which MNIST is stored where it is not stored as IDX, and writes them. Uses nothing but Node's own zlib.
import { crc32, deflateSync, inflateSync } from 'node:zlib'

const SIGNATURE = '89504e470d0a1a0a'

/** Pixels of a greyscale PNG (8 bits, not interlaced) as { width, height, pixels }; PNG specification, sections 9 and 11. */
export function readGreyPng(bytes) {
  if (bytes.toString('hex', 0, 8) !== SIGNATURE) throw new Error('not a PNG file')
  const width = bytes.readUInt32BE(16)
  const height = bytes.readUInt32BE(20)
  const [depth, colour, , , interlace] = bytes.subarray(24, 29)
  if (depth !== 8 || colour !== 0 || interlace !== 0)
    throw new Error(`an 8-bit greyscale PNG is read, this one has depth ${depth}, colour type ${colour}`)
  const parts = []
  for (let at = 8; at < bytes.length;) {
    const size = bytes.readUInt32BE(at)
    if (bytes.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(bytes.subarray(at + 8, at + 8 + size))
    at += size + 12
  }
  const raw = inflateSync(Buffer.concat(parts))
  const pixels = new Uint8Array(width * height)
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (width + 1)]
    for (let x = 0; x < width; x++) {
      const left = x > 0 ? pixels[y * width + x - 1] : 0
      const above = y > 0 ? pixels[(y - 1) * width + x] : 0
      const corner = x > 0 && y > 0 ? pixels[(y - 1) * width + x - 1] : 0
      pixels[y * width + x] = raw[y * (width + 1) + 1 + x] + predicted(filter, left, above, corner)
    }
  }
  return { width, height, pixels }
}

function predicted(filter, left, above, corner) {
  if (filter === 0) return 0
  if (filter === 1) return left
  if (filter === 2) return above
  if (filter === 3) return (left + above) >> 1
  if (filter !== 4) throw new Error(`PNG filter ${filter}`)
  const p = left + above - corner
  const [a, b, c] = [Math.abs(p - left), Math.abs(p - above), Math.abs(p - corner)]
  return a <= b && a <= c ? left : b <= c ? above : corner
}

/** One chunk of a PNG file: length, type, data, checksum. */
function chunk(type, data) {
  const bytes = Buffer.alloc(data.length + 12)
  bytes.writeUInt32BE(data.length, 0)
  bytes.write(type, 4, 'latin1')
  data.copy(bytes, 8)
  bytes.writeUInt32BE(crc32(bytes.subarray(4, data.length + 8)), data.length + 8)
  return bytes
}

/** The bytes of a PNG of 8 bits, greyscale or of `channels` 3 in colour; `pixels` row by row. */
export function pngOf({ width, height, pixels, channels = 1 }) {
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(height, 4)
  head[8] = 8
  head[9] = channels === 3 ? 2 : 0
  const row = channels * width
  const raw = Buffer.alloc(height * (row + 1))
  for (let y = 0; y < height; y++) raw.set(pixels.subarray(y * row, (y + 1) * row), y * (row + 1) + 1)
  return Buffer.concat([
    Buffer.from(SIGNATURE, 'hex'),
    chunk('IHDR', head),
    chunk('IDAT', deflateSync(raw)),
    chunk('IEND', Buffer.alloc(0)),
  ])
}
