/** What several tests share. */
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import {
  devices,
  diagnose,
  S4Error,
  SequenceModel,
  type Batch,
  type S4ErrorCode,
  type SequenceModelOptions,
  type Tensor,
} from '../index.js'

/** The project's folder (tests run from build/__test__). */
export const root = fileURLToPath(new URL('../../', import.meta.url))

/** The device that this run tests: the same bodies, on the GPU with `S4_DEVICE=cuda` or where one is found. */
export function device(): 'cpu' | 'cuda' {
  const asked = process.env['S4_DEVICE'] ?? 'auto'
  if (asked === 'cpu' || asked === 'cuda') return asked
  return devices().some((d) => d.kind === 'cuda') ? 'cuda' : 'cpu'
}

/** Whether f64 is tested here: the CPU alone computes it. A GPU run prints the reason. */
export function f64(t: ExecutionContext): boolean {
  if (device() === 'cpu') return true
  t.log('skipped: f64 is computed on the CPU alone')
  return false
}

/** A test that compares the GPU with the CPU, or provokes what only a GPU can do; elsewhere it prints why it is skipped. */
export function gpuTest(title: string, body: (t: ExecutionContext) => Promise<void> | void): void {
  test(title, async (t) => {
    const { cuda, devices: found } = diagnose()
    if (process.env['S4_DEVICE'] !== 'cpu' && found.some((d) => d.kind === 'cuda')) return body(t)
    t.log(`skipped: ${process.env['S4_DEVICE'] === 'cpu' ? 'this run is on the CPU' : cuda.split('\n')[0]}`)
    t.pass()
    return undefined
  })
}

/** Numbers that look random and are the same every time, in [-1, 1). */
export function noise(n: number, seed = 1): Float32Array {
  let state = seed >>> 0
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

export function noisy(shape: number[], seed = 1): { data: Float32Array; shape: number[] } {
  return {
    data: noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  }
}

/** ‖a − b‖/‖b‖; Infinity when something is not finite, so that a comparison fails closed. */
export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let [num, den] = [0, 0]
  for (let i = 0; i < a.length; i++) {
    num += ((a[i] as number) - (b[i] as number)) ** 2
    den += (b[i] as number) ** 2
  }
  const e = Math.sqrt(num / Math.max(den, 1e-300))
  return Number.isFinite(e) ? e : Infinity
}

export function close(
  t: ExecutionContext,
  what: string,
  a: Tensor | ArrayLike<number>,
  b: Tensor | ArrayLike<number>,
  tolerance: number,
): void {
  const flat = (x: Tensor | ArrayLike<number>) => ('data' in x ? (x.data as ArrayLike<number>) : x)
  const e = relative(flat(a), flat(b))
  t.true(e <= tolerance, `${what}: ${e} > ${tolerance}`)
}

/** The call must fail with this code, as an S4Error, saying what it expected. */
export function refuses(t: ExecutionContext, code: S4ErrorCode, call: () => unknown): S4Error {
  const error = t.throws(call, { instanceOf: S4Error }) as S4Error
  t.is(error?.code, code, error?.message)
  t.true(error.expected.length > 0 && error.op.length > 0)
  return error
}

export async function rejects(
  t: ExecutionContext,
  code: S4ErrorCode,
  call: Promise<unknown> | (() => Promise<unknown>),
): Promise<S4Error> {
  const error = (await t.throwsAsync(typeof call === 'function' ? call : () => call, {
    instanceOf: S4Error,
  })) as S4Error
  t.is(error?.code, code, error?.message)
  return error
}

export const small: SequenceModelOptions = {
  input: 1,
  output: 1,
  features: 8,
  layers: 2,
  state: 8,
  loss: 'mse',
}

export function model(options: Partial<SequenceModelOptions> = {}): Promise<SequenceModel> {
  return SequenceModel.create({ ...small, ...options })
}

export function batch(rows = 2, len = 50, seed = 1): Batch {
  const input = noisy([rows, len, 1], seed)
  return { input, target: { data: input.data.map((x) => 0.5 * x + 0.1), shape: [rows, len, 1] } }
}

export async function drain(events: AsyncIterable<unknown>): Promise<number> {
  let n = 0
  for await (const _ of events) n++
  return n
}
