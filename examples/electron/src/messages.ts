// What the page and the process that computes say to each other. Results are small and are copied; weights never leave the process.

/** From the page. */
export interface Ask {
  /** Comes back with the answer. */
  id: number
  /** The next samples of the signal. */
  samples: Float32Array
}

/** To the page. */
export type Answer =
  | { id: number; predicted: Float32Array }
  /** An error as the page can show it: an S4Error's code and words. */
  | { id: number; code: string; message: string }
