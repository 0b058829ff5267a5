/** A mistake in the command line, or in a recipe: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
