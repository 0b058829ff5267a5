/** The commands, in the order in which the help lists them. */
import { bench } from './bench.js'
import type { Command } from './command.js'
import { data } from './data.js'
import { demo } from './demo.js'
import { diagnose } from './diagnose.js'
import { evaluate } from './eval.js'
import { forecast } from './forecast.js'
import { generate } from './generate.js'
import { importOfficial } from './import.js'
import { inspect } from './inspect.js'
import { predict } from './predict.js'
import { stream } from './stream.js'
import { train } from './train.js'
import { verify } from './verify.js'

export const commands: readonly Command[] = [
  train,
  evaluate,
  predict,
  forecast,
  generate,
  stream,
  inspect,
  data,
  importOfficial,
  verify,
  bench,
  diagnose,
  demo,
]
