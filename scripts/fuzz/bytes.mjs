// Changes of a file's bytes: cut, flipped, overwritten, repeated.
import * as fc from 'fast-check'
import { noise } from './values.mjs'

/** Descriptions of changes; places are parts of the length, so that they fit any file. */
export const bytes = fc.array(
  fc.record({
    kind: fc.constantFrom(
      'flip',
      'flip',
      'byte',
      'cut',
      'delete',
      'repeat',
      'digits',
      'noise',
      'zeros',
      'append',
    ),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    n: fc.nat(300),
  }),
  { minLength: 1, maxLength: 4 },
)

/** The file with the changes made one after the other. */
export function changedBytes(file, changes) {
  let out = Buffer.from(file)
  for (const { kind, at, n } of changes) {
    const place = Math.min(out.length, Math.floor(at * out.length))
    const end = Math.min(out.length, place + n)
    const rest = (middle) => Buffer.concat([out.subarray(0, place), Buffer.from(middle), out.subarray(end)])
    switch (kind) {
      case 'flip':
        if (place < out.length) out[place] ^= 1 << (n % 8)
        break
      case 'byte':
        if (place < out.length) out[place] = n
        break
      case 'cut':
        out = out.subarray(0, place)
        break
      case 'delete':
        out = rest([])
        break
      case 'repeat':
        out = Buffer.concat([out.subarray(0, end), out.subarray(place)])
        break
      case 'digits': {
        // Another number where the text has one: a size, an offset, a count.
        const text = out.toString('latin1')
        const numbers = [...text.slice(0, 4096).matchAll(/\d+/g)]
        if (numbers.length === 0) break
        const { 0: was, index } = numbers[place % numbers.length]
        const now = String([0, 1, 2 ** 31, 2 ** 40, 2 ** 53, '99999999999999999999', -1, '1e400'][n % 8])
        out = Buffer.from(text.slice(0, index) + now + text.slice(index + was.length), 'latin1')
        break
      }
      case 'noise':
        out = rest(Uint8Array.from(noise(n, n), (x) => 128 * (x + 1)))
        break
      case 'zeros':
        out = rest(new Uint8Array(n))
        break
      default:
        out = Buffer.concat([out, new Uint8Array(n)])
    }
  }
  return out
}
