/** What the tests know about the electrocardiogram without any model: where its beats are normal, and how to disturb it. */
import { uniform } from '../src/demo/forecaster.js'
import { quantile } from '../src/demo/series.js'

export const rate = 360

export interface Stretch {
  readonly from: number
  readonly to: number
}

interface Beat {
  readonly at: number
  readonly normal: boolean
}

/**
 * R waves, and whether they look normal by the textbook: narrow, of the usual height, and no deep trough behind (ventricular and
 * fusion beats of this record are wide, or tall, with a trough).
 */
export function beats(x: ArrayLike<number>): Beat[] {
  const found: { at: number; height: number; width: number; trough: number }[] = []
  const level = (t: number) =>
    quantile(
      Array.from({ length: 2 * rate }, (_, i) => x[Math.min(x.length - 1, Math.max(0, t - rate + i))]),
      0.5,
    )
  for (let t = 20; t + 180 < x.length; t++) {
    if (!(x[t] > x[t - 1] && x[t] >= x[t + 1])) continue
    let top = true
    for (let k = -54; k <= 54 && top; k++) top = !(x[t + k] > x[t])
    if (!top) continue
    const base = level(t)
    const height = x[t] - base
    if (height < 0.7) continue
    let [left, right] = [t, t]
    while (left > 0 && x[left] - base > height / 2) left -= 1
    while (right < x.length && x[right] - base > height / 2) right += 1
    let trough = 0
    for (let k = 25; k <= 130; k++) trough = Math.min(trough, x[t + k] - base)
    found.push({ at: t, height, width: right - left, trough })
  }
  const usual = quantile(
    found.filter((beat) => beat.width <= 16).map((beat) => beat.height),
    0.5,
  )
  return found.map(({ at, height, width, trough }) => ({
    at,
    normal: width <= 16 && height > 0.7 * usual && height < 1.3 * usual && trough > -0.35,
  }))
}

/** Stretches of at least two normal beats in a row, clear of the other beats around them. */
export function normalStretches(x: ArrayLike<number>, from: number, to: number): Stretch[] {
  const all = beats(x)
  const stretches: Stretch[] = []
  for (let i = 0; i < all.length; i++) {
    if (!all[i].normal) continue
    let last = i
    while (last + 1 < all.length && all[last + 1].normal) last += 1
    if (last > i) {
      const start = Math.max(from, all[i].at - 72, i > 0 ? all[i - 1].at + 250 : 0)
      const end = Math.min(to, all[last].at + 126, last + 1 < all.length ? all[last + 1].at - 100 : x.length)
      if (end - start > rate / 2) stretches.push({ from: start, to: end })
    }
    i = last
  }
  return stretches
}

export interface Disturbance extends Stretch {
  readonly kind: 'spike' | 'flat line' | 'level shift'
}

/**
 * Disturbs a copy of x at `count` places spread over [from, to): a spike of two samples, a flat line of most of a second (as of a lead
 * that fell off), a shift of the level for the rest of a second.
 */
export function disturb(
  x: Float64Array,
  count: number,
  from: number,
  to: number,
  seed: number,
): { x: Float64Array; disturbances: Disturbance[] } {
  const out = x.slice()
  const random = uniform(seed)
  const slot = (to - from) / count
  const disturbances = Array.from({ length: count }, (_, i): Disturbance => {
    const start = Math.round(from + i * slot + 0.2 * slot + random() * 0.3 * slot)
    const sign = random() < 0.5 ? -1 : 1
    if (i % 3 === 0) {
      const height = sign * (0.8 + 0.7 * random())
      for (let t = start; t < start + 2; t++) out[t] += height
      return { kind: 'spike', from: start, to: start + 2 }
    }
    if (i % 3 === 1) {
      const end = start + Math.round((0.7 + 0.3 * random()) * rate)
      for (let t = start; t < end; t++) out[t] = x[start]
      return { kind: 'flat line', from: start, to: end }
    }
    const end = start + Math.round(0.8 * rate)
    const height = sign * (0.5 + 0.4 * random())
    for (let t = start; t < end; t++) out[t] += height
    return { kind: 'level shift', from: start, to: end }
  })
  return { x: out, disturbances }
}
