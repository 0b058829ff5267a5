import type { ClassScores } from 's4-node/tasks'

/** The pairs of classes that are confused most: actual, predicted, how often. */
export function confusions(
  { confusion }: ClassScores,
  classes: readonly (string | number)[],
  most = 5,
): { actual: string; predicted: string; count: number }[] {
  return confusion
    .flatMap((row, i) =>
      row.map((count, j) => ({
        actual: String(classes[i]),
        predicted: String(classes[j]),
        count,
        wrong: i !== j,
      })),
    )
    .filter(({ wrong, count }) => wrong && count > 0)
    .toSorted((a, b) => b.count - a.count)
    .slice(0, most)
    .map(({ actual, predicted, count }) => ({ actual, predicted, count }))
}

/** Scores in lines of text. */
export function classLines(scores: ClassScores, classes: readonly (string | number)[]): string {
  const { examples, accuracy, top3, loss, f1 } = scores
  const lines = [
    `right: ${(100 * accuracy).toFixed(1)} % (${Math.round(accuracy * examples)} of ${examples}); among the first three ${(100 * top3).toFixed(1)} %; F1 ${f1.macro.toFixed(3)}; cross-entropy ${loss.toFixed(3)}`,
  ]
  const wrong = confusions(scores, classes)
  if (wrong.length > 0)
    lines.push(
      `confused: ${wrong.map(({ actual, predicted, count }) => `${actual} as ${predicted} ${count}×`).join(', ')}`,
    )
  return lines.join('\n')
}
