import { classify } from './classify.js'
import { forecast } from './forecast.js'
import { generate } from './generate.js'
import type { TaskName } from './settings.js'
import type { Task } from './task.js'

const tasks: Readonly<Record<TaskName, Task>> = { forecast, classify, generate }

export const taskOf = (name: TaskName): Task => tasks[name]
