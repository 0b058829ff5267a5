// What a network gives back, before anything is told of it.
import { fail } from '../error.js'

/** Refuses outputs that are not finite: a probability or a forecast made of them would be NaN. */
export function checkOutputs(op: string, outputs: ArrayLike<number>): void {
  for (let i = 0; i < outputs.length; i++)
    if (!Number.isFinite(outputs[i]))
      throw fail(
        'ERR_S4_NONFINITE',
        op,
        'finite outputs of the network',
        'NaN or infinity: its parameters, or the values of the input, are too large',
      )
}
