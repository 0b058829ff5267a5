/** Text that comes in pieces, up to the first of some texts: what may be the beginning of one is held back. */
export class StopText {
  readonly #stops: readonly string[]
  #held = ''
  #found = false

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** Whether one has been found. */
  get found(): boolean {
    return this.#found
  }

  /** One more piece; gives what is before every stop for certain. */
  add(piece: string): string {
    const text = this.#held + piece
    const places = this.#stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
    if (places.length > 0) {
      this.#found = true
      this.#held = ''
      return text.slice(0, Math.min(...places))
    }
    const kept = Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)))
    this.#held = text.slice(text.length - kept)
    return text.slice(0, text.length - kept)
  }

  /** What was held back, where no more pieces come. */
  end(): string {
    const held = this.#held
    this.#held = ''
    return held
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n--)
    if (text.endsWith(stop.slice(0, n))) return n
  return 0
}
