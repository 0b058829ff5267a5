/** Stable codes of every failure. */
export type S4ErrorCode =
  | 'ERR_S4_SHAPE'
  | 'ERR_S4_DTYPE'
  | 'ERR_S4_VALUE'
  | 'ERR_S4_DEVICE'
  | 'ERR_S4_MEMORY'
  | 'ERR_S4_DISPOSED'
  | 'ERR_S4_CHECKPOINT'
  | 'ERR_S4_DATA'
  | 'ERR_S4_ABORTED'
  | 'ERR_S4_NONFINITE'
  | 'ERR_S4_BUSY'
  | 'ERR_S4_UNSUPPORTED'
  | 'ERR_S4_INTERNAL'

/** What an {@link S4Error} says beside its message. */
export interface S4ErrorDetail {
  /** The operation, in the words of the API. */
  op: string
  /** What would have been right. */
  expected: string
  /** What was given. */
  got: string
  /** The optimiser step that failed. */
  step?: number
  /** The parameter or tensor that failed. */
  tensor?: string
}

/**
 * Every error of this library. `code` is stable; the message says the operation, what it expected and what it got.
 *
 * @example
 * try { layer.forward({ data, shape: [1, 5, 3] }) } catch (e) { if (e.code === 'ERR_S4_SHAPE') … }
 */
export class S4Error extends Error {
  override readonly name = 'S4Error'
  /** Stable code. */
  readonly code: S4ErrorCode
  /** The operation, in the words of the API. */
  readonly op: string
  /** What would have been right. */
  readonly expected: string
  /** What was given. */
  readonly got: string
  /** The optimiser step that failed, for `ERR_S4_NONFINITE`. */
  readonly step?: number
  /** The tensor that failed, for `ERR_S4_NONFINITE`. */
  readonly tensor?: string

  constructor(code: S4ErrorCode, detail: S4ErrorDetail, options?: ErrorOptions) {
    const { op, expected, got, step, tensor } = checkDetail(code, detail)
    super(`${op}: expected ${expected}, got ${got}`, checkCause(options))
    this.code = code
    this.op = op
    this.expected = expected
    this.got = got
    if (step !== undefined) this.step = step
    if (tensor !== undefined) this.tensor = tensor
  }
}

/** What an error is made of, each read once; a program's own may be made of anything. */
function checkDetail(code: unknown, detail: unknown): S4ErrorDetail {
  const op = 'S4Error'
  if (typeof code !== 'string' || !/^ERR_S4_[A-Z]+$/.test(code))
    throw fail('ERR_S4_VALUE', op, "code as one that begins with 'ERR_S4_'", code)
  if (typeof detail !== 'object' || detail === null)
    throw fail('ERR_S4_VALUE', op, 'detail as { op, expected, got }', detail)
  const out: Record<string, unknown> = {}
  for (const name of ['op', 'expected', 'got', 'step', 'tensor'] as const) {
    const x: unknown = reading(op, `detail.${name}`, () => (detail as Partial<S4ErrorDetail>)[name])
    const right = name === 'step' ? Number.isSafeInteger(x) && (x as number) >= 0 : typeof x === 'string'
    const optional = name === 'step' || name === 'tensor'
    if (!right && !(optional && x === undefined))
      throw fail('ERR_S4_VALUE', op, `detail.${name} as ${name === 'step' ? 'a whole number' : 'a string'}`, describe(x))
    out[name] = x
  }
  return out as unknown as S4ErrorDetail
}

/** The cause of an error, if it has one. */
function checkCause(options: unknown): ErrorOptions | undefined {
  if (options === undefined) return undefined
  return reading('S4Error', 'options.cause', () => {
    if (Object.prototype.toString.call(options) !== '[object Object]')
      throw fail('ERR_S4_VALUE', 'S4Error', 'options in an object', describe(options))
    const { cause } = options as ErrorOptions
    return cause === undefined ? undefined : { cause }
  })
}

/** What a value is, for a message. Never throws, whatever the value does when it is looked at. */
export function describe(x: unknown): string {
  if (x === null || x === undefined) return String(x)
  if (typeof x === 'bigint') return `${x}n`
  if (typeof x === 'function') return 'a function'
  if (typeof x === 'string') return `string ${x.length > 60 ? `${x.slice(0, 60)}…` : x}`
  if (typeof x !== 'object') return `${typeof x} ${String(x)}`
  try {
    return x.constructor?.name || 'an object'
  } catch {
    return 'an object'
  }
}

/** A new error, for the API's own checks. */
export function fail(code: S4ErrorCode, op: string, expected: string, got: unknown): S4Error {
  const text = typeof got === 'string' || typeof got === 'number' ? String(got) : describe(got)
  return new S4Error(code, { op, expected, got: text })
}

/** Reads what a caller gave; what its getters or its proxy throw is an error that names it. */
export function reading<R>(op: string, what: string, read: () => R): R {
  try {
    return read()
  } catch (error) {
    if (error instanceof S4Error) throw error
    const detail = { op, expected: `${what} that can be read`, got: `an error: ${messageOf(error)}` }
    throw new S4Error('ERR_S4_VALUE', detail, { cause: error })
  }
}

const PREFIX = 'S4:'

/** The message of an error of any realm: the addon's errors are of the main one, wherever this runs. */
function messageOf(error: unknown): string {
  try {
    const message: unknown = (error as Partial<Error> | null | undefined)?.message
    return typeof message === 'string' ? message : String(error)
  } catch {
    return describe(error)
  }
}

/** What N-API says of an argument of another type than declared. */
const ARGUMENT_CODES: ReadonlySet<unknown> = new Set([
  'InvalidArg',
  'ObjectExpected',
  'StringExpected',
  'FunctionExpected',
  'NumberExpected',
  'BooleanExpected',
  'ArrayExpected',
  'BigintExpected',
  'ArrayBufferExpected',
])

/** The addon sends an error as JSON in its message; anything else passes as `ERR_S4_INTERNAL`, or as it is when it is ours. */
export function fromNative(error: unknown): Error {
  if (error instanceof S4Error) return error
  const message = messageOf(error)
  if (message.startsWith(PREFIX)) {
    const { code, ...detail } = JSON.parse(message.slice(PREFIX.length)) as S4ErrorDetail & {
      code: S4ErrorCode
    }
    return new S4Error(code, detail)
  }
  const argument = ARGUMENT_CODES.has((error as { code?: unknown } | null | undefined)?.code)
  return argument
    ? new S4Error(
        'ERR_S4_VALUE',
        { op: 's4-node', expected: 'arguments of the types that are declared', got: message },
        { cause: error },
      )
    : new S4Error(
        'ERR_S4_INTERNAL',
        { op: 's4-node', expected: 'the addon to answer', got: message },
        { cause: error },
      )
}

/** Runs a synchronous native call. */
export function native<R>(call: () => R): R {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Runs an asynchronous native call, failures of its start included. */
export async function nativeAsync<R>(call: () => Promise<R>): Promise<R> {
  try {
    return await call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Throws `ERR_S4_ABORTED` when the signal has fired. */
export function throwIfAborted(op: string, signal?: AbortSignal): void {
  if (signal === undefined) return
  const { aborted: fired, addEventListener } = reading(op, 'signal', () =>
    typeof signal === 'object' && signal !== null
      ? { aborted: signal.aborted as unknown, addEventListener: signal.addEventListener as unknown }
      : { aborted: undefined, addEventListener: undefined },
  )
  if (typeof fired !== 'boolean' || typeof addEventListener !== 'function')
    throw fail('ERR_S4_VALUE', op, 'an AbortSignal for the option signal', signal)
  if (fired) throw aborted(op, signal)
}

/** The error of aborted work; `cause` is the signal's reason. */
export function aborted(op: string, signal: AbortSignal): S4Error {
  const reason: unknown = signal.reason
  const detail = {
    op,
    expected: 'to run to its end',
    got: `an abort (${messageOf(reason)})`,
  }
  return new S4Error('ERR_S4_ABORTED', detail, { cause: reason })
}
