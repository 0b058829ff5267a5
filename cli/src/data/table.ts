/** A table as the command uses one, from whatever file. */
export interface TableLike {
  readonly rows: number
  /** Columns of numbers, NaN where one is missing. */
  readonly columns: Readonly<Record<string, Float64Array>>
  /** Columns of texts, empty where one is missing. */
  readonly texts: Readonly<Record<string, readonly string[]>>
  /** The time of each row in milliseconds since 1970. */
  readonly time: Float64Array | undefined
  /** Names of columns and texts, in the order of the file. */
  readonly names: readonly string[]
}
