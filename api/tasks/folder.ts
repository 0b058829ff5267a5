// The folder that a task writes its checkpoints in.
import { accessSync, constants, statSync } from 'node:fs'
import { fail } from '../error.js'

/** Refuses a folder that cannot be written to, before any work. */
export function checkFolder(op: string, folder: string): void {
  try {
    accessSync(folder, constants.W_OK)
  } catch (error) {
    throw fail(
      'ERR_S4_CHECKPOINT',
      op,
      `a 'folder' to write checkpoints in`,
      `${folder}: ${(error as Error).message}`,
    )
  }
  if (!statSync(folder).isDirectory())
    throw fail('ERR_S4_CHECKPOINT', op, `a 'folder' to write checkpoints in`, `${folder}, which is a file`)
}
