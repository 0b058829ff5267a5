// All kinds of worlds, by name, with their share of the time.
import { functionKind } from './functions.mjs'
import { layerKind } from './layer.mjs'
import { modelKind } from './model.mjs'
import { classifierKind, forecasterKind } from './tasks.mjs'
import { commandsOf, runCase } from './steps.mjs'

export const kinds = {
  model: modelKind,
  layer: layerKind,
  functions: functionKind,
  forecaster: forecasterKind,
  classifier: classifierKind,
}
/** Parts of the time, in hundredths. */
export const shares = { model: 45, layer: 25, functions: 15, forecaster: 8, classifier: 7 }

/** Runs a case in plain JSON; an AssertionError where it finds something. */
export const replay = ({ kind, made, steps }) => runCase(kinds[kind], made, commandsOf(kinds[kind], steps))
