// How many epochs a run's learning rate is drawn over, so that it ends with the time.

/** Share of the minutes that the curve is drawn over; the rest is for the last evaluation and for misjudging. */
const PLANNED = 0.92

/**
 * Epochs in all, seen from the end of epoch `done`. `plan` gives them epoch by epoch; else `secondsPerEpoch`, once known, says how many
 * fit into what is left of `minutes` and of the minutes that later calls will add (`ahead`); `most` is the recipe's number.
 */
export function plannedEpochs({ plan, done, most, minutes, ahead, elapsed, secondsPerEpoch }) {
  if (plan !== undefined) return plan[done] ?? done
  if (secondsPerEpoch === undefined || minutes === Infinity) return most
  const seconds = ahead > 0 ? (minutes + ahead * PLANNED) * 60 : minutes * 60 * PLANNED
  return Math.min(most, done + Math.max(Math.floor((seconds - elapsed) / secondsPerEpoch), 0))
}
