// What must hold whatever the API is given: an error is an S4Error whose code is not ERR_S4_INTERNAL; what fails changes nothing.
import assert from 'node:assert/strict'
import { S4Error } from 's4-node'

const CODES = new Set(
  [
    'SHAPE',
    'DTYPE',
    'VALUE',
    'DEVICE',
    'MEMORY',
    'DISPOSED',
    'CHECKPOINT',
    'DATA',
    'ABORTED',
    'NONFINITE',
    'BUSY',
    'UNSUPPORTED',
  ].map((name) => `ERR_S4_${name}`),
)

/** Checks that this is an error that callers may be given, and gives it. */
export function checkError(error, what) {
  if (error instanceof assert.AssertionError) throw error
  const shown = error instanceof Error ? (error.stack ?? error.message) : String(error)
  assert.ok(error instanceof S4Error, `${what}: no S4Error: ${shown}`)
  assert.ok(CODES.has(error.code), `${what}: ${error.code}: ${shown}`)
  for (const part of ['op', 'expected', 'got'])
    assert.ok(typeof error[part] === 'string' && error[part] !== '', `${what}: no ${part}: ${shown}`)
  return error
}

/** Runs a call: `{ value }`, or `{ error }` where it fails as it may. */
export async function attempt(what, call) {
  try {
    return { value: await call() }
  } catch (error) {
    return { error: checkError(error, what) }
  }
}

/** Runs a call, which succeeds, once no other call is under way: those that were aborted go on to their end unseen. */
export async function whenFree(call) {
  for (;;) {
    try {
      return await call()
    } catch (error) {
      if (error.code !== 'ERR_S4_BUSY') throw error
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

export const bits = (array) =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('latin1')

/** All parameters' values, as text that is equal where they are equal bit for bit. */
export const parameterBits = (handle) =>
  handle
    .parameters()
    .map(({ name, value }) => `${name}=${bits(value.data)}`)
    .join()

/** Compares outputs that may differ by rounding: by at most `tolerance` of the largest expected value. */
export function assertClose(what, got, expected, tolerance, scale = 0) {
  assert.equal(got.length, expected.length, what)
  let [largest, difference] = [scale, 0]
  for (let i = 0; i < got.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]))
    difference = Math.max(difference, Math.abs(got[i] - expected[i]))
  }
  // What is not finite fails here.
  assert.ok(
    difference <= tolerance * largest,
    `${what}: they differ by ${difference}, the largest is ${largest}`,
  )
}

export const allFinite = (array) => array.every(Number.isFinite)
