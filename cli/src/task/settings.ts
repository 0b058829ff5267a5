/** What a training is made from: a task, its data and its options, as a command line or a recipe gives them. */
import type { Values } from '../options/spec.js'

export const taskNames = ['forecast', 'classify', 'generate'] as const
export type TaskName = (typeof taskNames)[number]

export interface Settings {
  readonly task: TaskName
  /** Files and folders. */
  readonly data: readonly string[]
  /** The options that were given. */
  readonly options: Values
}

/** Where the JSON schema of recipes is published. */
export const SCHEMA = 'https://unpkg.com/s4-node-cli/recipe.schema.json'

/** Settings as a recipe. */
export const recipeOf = ({ task, data, options }: Settings): object => ({
  $schema: SCHEMA,
  task,
  data,
  ...options,
})
