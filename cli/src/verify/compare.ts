/** The relative error of a computed tensor, and the tolerance for it. */
import type { RunOptions } from './cases.js'

/** ‖computed − truth‖/‖truth‖, or ‖computed‖ where the truth is zero; infinite where values are missing, too many or not finite. */
export function relativeError(computed: ArrayLike<number> | undefined, truth: ArrayLike<number>): number {
  if (computed === undefined || computed.length !== truth.length) return Infinity
  let difference = 0
  let norm = 0
  for (let i = 0; i < truth.length; i++) {
    difference += (Number(computed[i]) - Number(truth[i])) ** 2
    norm += Number(truth[i]) ** 2
  }
  const error = norm > 0 ? Math.sqrt(difference / norm) : Math.sqrt(difference)
  return Number.isFinite(error) ? error : Infinity
}

/**
 * The tolerance for a tensor of a golden file. Outputs, kernels and states: 1e-5 in f32 and 1e-10 in f64, but 1e-9 for the two
 * initialisations for which C cannot be computed more exactly from C̃. Gradients, and results of twenty training steps: 1e-4 in f32 and
 * 1e-8 in f64. Initial matrices are always computed in f64: 1e-10.
 */
export function tolerance(
  quantity: string,
  config: Readonly<Record<string, unknown>>,
  { dtype, precision = 'highest' }: RunOptions,
): number {
  const f64 = dtype === 'f64'
  const recovered = config.init === 'fourier' || config.init === 'hippo'
  if (/^(legs|legt|fourier)\.\d+\./.test(quantity)) return 1e-10
  if (/(^|\.)grad0?\./.test(quantity) || quantity === 'losses' || quantity.startsWith('final.'))
    return f64 ? 1e-8 : loosened(1e-4, precision)
  return f64 ? (recovered ? 1e-9 : 1e-10) : loosened(1e-5, precision)
}

/** The tolerance in the reduced precisions of a GPU, in place of the f32 tolerance `exact`, which holds for 'highest'. */
function loosened(exact: number, precision: NonNullable<RunOptions['precision']>): number {
  const output = exact < 1e-4
  if (precision === 'high') return output ? 2e-3 : 5e-3
  if (precision === 'bf16') return output ? 1e-2 : 5e-2
  return exact
}
