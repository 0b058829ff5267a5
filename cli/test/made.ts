/** Pictures and texts whose classes only their order tells. */

/** Numbers in [0, 1), the same for the same seed. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** Grey levels of a square with a bright diagonal that falls (0) or rises (1), anywhere. */
export function diagonal(side: number, rises: number, random: () => number): Uint8Array {
  const shift = Math.floor(side * random())
  return Uint8Array.from({ length: side * side }, (_, k) => {
    const [row, column] = [Math.floor(k / side), k % side]
    const at = rises === 1 ? side * side + shift - row : shift + row
    return (at % side === column ? 180 : 0) + Math.floor(70 * random())
  })
}

/** An IDX file of unsigned bytes. */
export const idx = (sizes: readonly number[], body: Uint8Array): Buffer => {
  const head = Buffer.alloc(4 + 4 * sizes.length)
  head.set([0, 0, 8, sizes.length])
  sizes.forEach((size, i) => head.writeUInt32BE(size, 4 + 4 * i))
  return Buffer.concat([head, body])
}

/** Texts of the same letters in two orders. */
export function texts(count: number, seed: number): { text: string; label: 'pos' | 'neg' }[] {
  const random = uniform(seed)
  return Array.from({ length: count }, (_, i) => {
    const label = i % 2 === 0 ? 'pos' : 'neg'
    const words = Array.from({ length: 4 + Math.floor(8 * random()) }, () => {
      const turn = Math.floor(3 * random())
      return (label === 'pos' ? 'abcabc' : 'cbacba').slice(turn, turn + 3)
    })
    return { text: words.join(' '), label }
  })
}
