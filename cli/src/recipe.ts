/** Recipes: a training as a JSON file, which `s4 train --recipe` runs, and which every run folder holds as config.json. */
import { checkedValue, schemaOf, type Values } from './options/spec.js'
import { SCHEMA, taskNames, type Settings, type TaskName } from './task/settings.js'
import { taskOf } from './task/tasks.js'
import { UsageError } from './usage.js'

/** Reads a recipe; `file` names it in mistakes. */
export function settingsOf(text: string, file: string): Settings {
  let given: unknown
  try {
    given = JSON.parse(text)
  } catch (error) {
    throw new UsageError(`${file} is not JSON: ${(error as Error).message}`)
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new UsageError(`${file} is no recipe: it holds no object`)
  const { $schema: _schema, title: _title, task, data, ...rest } = given as Record<string, unknown>
  if (!taskNames.includes(task as TaskName)) {
    const paper =
      'model' in rest
        ? ' (an experiment of the paper is run by its name: s4 train --recipe lra-text --data FOLDER)'
        : ''
    throw new UsageError(
      `${file}: 'task' is one of ${taskNames.join(', ')}, not ${JSON.stringify(task)}${paper}`,
    )
  }
  if (data !== undefined && !(Array.isArray(data) && data.every((x) => typeof x === 'string' && x !== '')))
    throw new UsageError(`${file}: 'data' is a list of files and folders, not ${JSON.stringify(data)}`)
  const { specs } = taskOf(task as TaskName)
  const options: Values = {}
  for (const [name, value] of Object.entries(rest)) {
    const spec = specs.find((one) => one.name === name)
    if (spec === undefined)
      throw new UsageError(`${file}: '${name}' is no option of the task ${String(task)}`)
    options[name] = checkedValue(spec, value, `${file}: '${name}'`)
  }
  return { task: task as TaskName, data: (data as string[] | undefined) ?? [], options }
}

/** The JSON schema of recipes, which is published as recipe.schema.json. */
export function recipeSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: SCHEMA,
    title: 'A recipe of `s4 train`',
    oneOf: taskNames.map((name) => ({
      type: 'object',
      required: ['task'],
      additionalProperties: false,
      properties: {
        $schema: { type: 'string' },
        title: { description: 'what it is, in a sentence', type: 'string' },
        task: { const: name },
        data: {
          description:
            'files and folders, from the folder in which the command is called; on the command line others may be named',
          type: 'array',
          items: { type: 'string', minLength: 1 },
        },
        ...Object.fromEntries(taskOf(name).specs.map((spec) => [spec.name, schemaOf(spec)])),
      },
    })),
  }
}
