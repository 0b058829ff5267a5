// How many epochs a run's learning rate is drawn over, so that it ends with the time.

/** The share of the allowed time that is planned for training; the rest is for the last evaluation and for errors of the plan. */
const PLANNED_SHARE = 0.92

/**
 * Epochs in all, seen from the end of epoch `done`. `plan` gives them epoch by epoch; else `secondsPerEpoch`, once known, says how many
 * fit into what is left of `minutes` and of the minutes that later calls will add (`ahead`); `most` is the recipe's number.
 */
export function plannedEpochs({ plan, done, most, minutes, ahead, elapsed, secondsPerEpoch }) {
  if (plan !== undefined) return plan[done] ?? done
  if (secondsPerEpoch === undefined || minutes === Infinity) return most
  const seconds = ahead > 0 ? (minutes + ahead * PLANNED_SHARE) * 60 : minutes * 60 * PLANNED_SHARE
  return Math.min(most, done + Math.max(Math.floor((seconds - elapsed) / secondsPerEpoch), 0))
}
