// An inspection in lines of text.

/** The q-quantile of numbers, 0 to 1, between the two that are next to it. */
export function quantileOf(x: Float64Array, q: number): number {
  const sorted = x.toSorted()
  const at = q * (sorted.length - 1)
  const [low, high] = [sorted[Math.floor(at)] as number, sorted[Math.ceil(at)] as number]
  return low === high ? low : low + (at - Math.floor(at)) * (high - low)
}

/** The median of numbers. */
export const medianOf = (x: Float64Array): number => quantileOf(x, 0.5)

/** A number in three digits, without trailing zeros. */
const short = (x: number) => (Number.isFinite(x) ? String(Number(x.toPrecision(3))) : '∞')

const UNITS = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
  [1, 's'],
  [1e-3, 'ms'],
  [1e-6, 'µs'],
] as const

/** Seconds in the unit that suits them. */
export function secondsText(seconds: number): string {
  const [size, unit] = UNITS.find(([least]) => seconds >= least) ?? [1e-9, 'ns']
  return `${short(seconds / size)} ${unit}`
}

/** A time in steps, and in seconds where they are known. */
export function durationText(steps: number, samplingInterval: number | undefined): string {
  const text = `${short(steps)} ${steps === 1 ? 'step' : 'steps'}`
  return samplingInterval === undefined || !Number.isFinite(steps)
    ? text
    : `${text} (${secondsText(steps * samplingInterval)})`
}

/** What the text is made from. */
interface Figures {
  readonly samplingInterval?: number
  readonly length?: number
  readonly rate?: number
  readonly frequencies: Float64Array
  readonly layers: readonly {
    readonly name: string
    readonly stepSizes: Float64Array
    readonly timescales: { readonly steps: Float64Array }
    readonly memory: Readonly<Record<'half' | 'most' | 'nearlyAll', { readonly steps: Float64Array }>>
    readonly eigenvalues: { readonly data: Float64Array }
    readonly gain: { readonly data: Float64Array }
    readonly unresolved: number
    readonly idleHeads: readonly number[]
    readonly strength: Float64Array
    readonly change?: number
  }[]
  readonly influence?: { readonly data: Float64Array; readonly shape: readonly number[] }
  readonly advice: readonly { readonly text: string }[]
}

/** The frequency at which the heads together answer most strongly. */
function strongest(gain: Float64Array, frequencies: Float64Array): number {
  const sums = frequencies.map((_, f) => {
    let sum = 0
    for (let i = f; i < gain.length; i += frequencies.length) sum += (gain[i] as number) ** 2
    return sum
  })
  return frequencies[sums.indexOf(sums.reduce((a, b) => Math.max(a, b), 0))] as number
}

/** How far back half and 90 % of an output's dependence on the inputs lie, the mean over sequences. */
function influenceLine(
  { data, shape }: { data: Float64Array; shape: readonly number[] },
  time: (n: number) => string,
) {
  const [batch, len] = shape as [number, number]
  const back = (part: number) => {
    let steps = 0
    for (let row = 0; row < batch; row++) {
      const own = data.subarray(row * len, (row + 1) * len)
      const whole = own.reduce((a, b) => a + b, 0)
      let [sum, t] = [0, len]
      while (t > 0 && sum < part * whole) sum += own[--t] as number
      steps += (len - t) / batch
    }
    return steps
  }
  return `the last output depends on the inputs: half within ${time(back(0.5))} before the end, 90 % within ${time(back(0.9))}`
}

/** The text of an inspection. */
export function inspectionText(figures: Figures): string {
  const { samplingInterval: interval, length, rate = 1, frequencies, layers, influence, advice } = figures
  // Of the layers time steps are those of the training.
  const samplingInterval = interval === undefined ? undefined : interval / rate
  const time = (steps: number) => durationText(steps, samplingInterval)
  const middle = (x: { steps: Float64Array }) => time(medianOf(x.steps))
  const lines: string[] = []
  if (length !== undefined)
    lines.push(
      `for sequences of ${durationText(length, interval)}${rate === 1 ? '' : `, each as long as ${rate} of the training; in those:`}`,
    )
  for (const layer of layers) {
    const {
      name,
      stepSizes,
      timescales,
      memory,
      eigenvalues,
      gain,
      unresolved,
      idleHeads,
      strength,
      change,
    } = layer
    const [re, im] = [0, 1].map((k) => eigenvalues.data.filter((_, i) => i % 2 === k).map(Math.abs)) as [
      Float64Array,
      Float64Array,
    ]
    const peak = strongest(gain.data, frequencies)
    const hertz = samplingInterval === undefined ? '' : ` (${short(peak / samplingInterval)} Hz)`
    lines.push(
      `${name}: ${stepSizes.length} heads`,
      `  Δ ${short(quantileOf(stepSizes, 0))} to ${short(quantileOf(stepSizes, 1))}; timescales 1/Δ ${time(quantileOf(timescales.steps, 0))} ` +
        `to ${time(quantileOf(timescales.steps, 1))}, in the middle ${middle(timescales)}`,
      `  memory of the middle head: 50 % within ${middle(memory.half)}, 90 % within ${middle(memory.most)}, 99 % within ${middle(memory.nearlyAll)}`,
      `  eigenvalues: decay ${short(quantileOf(re, 0))} to ${short(quantileOf(re, 1))}, turn ${short(quantileOf(im, 0))} to ${short(quantileOf(im, 1))}; ` +
        `${(100 * unresolved).toFixed(0)} % of the modes are finer than a step`,
      `  strongest at ${short(peak)} cycles a step${hertz}${change === undefined ? '' : `; changes its input by ${(100 * change).toFixed(1)} %`}` +
        (idleHeads.length === 0 ? '' : `; ${idleHeads.length} of ${strength.length} heads do nothing`),
    )
  }
  if (influence !== undefined) lines.push(influenceLine(influence, (steps) => durationText(steps, interval)))
  lines.push(...(advice.length === 0 ? ['nothing looks wrong'] : advice.map(({ text }) => `! ${text}`)))
  return lines.join('\n')
}
