import type { ForecastScores } from 's4-node/tasks'

/** The ways to forecast that scores compare, as a reader names them. */
export const ways = (
  season: number,
): readonly (readonly [keyof Omit<ForecastScores, 'windows'>, string])[] => [
  ['model', 'S4'],
  ['linear', 'linear'],
  ['seasonalNaive', `${season} rows before`],
  ['persistence', 'persistence'],
]

/** Scores as a table of text. */
export function scoreLines(scores: ForecastScores, season: number): string {
  const rows = ways(season).map(([key, name]) => {
    const { mse, mae, mase, smape } = scores[key]
    return [name.padEnd(18), ...[mse, mae, mase, smape].map((x) => x.toFixed(4).padStart(9))].join('')
  })
  return [
    `errors over ${scores.windows} windows (MSE, MAE in deviations of the training part; sMAPE 0 to 2):`,
    `${''.padEnd(18)}${['MSE', 'MAE', 'MASE', 'sMAPE'].map((name) => name.padStart(9)).join('')}`,
    ...rows,
  ].join('\n')
}
