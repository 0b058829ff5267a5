/** The codes of all errors. A code keeps its meaning in later versions. */
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
  | 'ERR_S4_DISTRIBUTED'
  | 'ERR_S4_PEER'
  | 'ERR_S4_INTERNAL'

/** The parts of an {@link S4Error}, of which its message is made. */
export interface S4ErrorDetail {
  /** The operation that failed, as the API names it: `S4Layer.forward`. */
  op: string
  /** What was expected. */
  expected: string
  /** What was found instead. */
  got: string
  /** Number of the update that failed. */
  step?: number
  /** Name of the parameter or tensor that was not finite. */
  tensor?: string
}

/**
 * The class of all errors of this library. `code` keeps its meaning in later versions; the message says the operation, what
 * it expected and what it got.
 *
 * @example
 * try { layer.forward({ data, shape: [1, 5, 3] }) } catch (e) { if (e.code === 'ERR_S4_SHAPE') … }
 */
export class S4Error extends Error {
  override readonly name = 'S4Error'
  /** Code of the error, which keeps its meaning in later versions. */
  readonly code: S4ErrorCode
  /** The operation that failed, as the API names it: `S4Layer.forward`. */
  readonly op: string
  /** What was expected. */
  readonly expected: string
  /** What was found instead. */
  readonly got: string
  /** Number of the update that failed, for `ERR_S4_NONFINITE`. */
  readonly step?: number
  /** Name of the tensor that was not finite, for `ERR_S4_NONFINITE`. */
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
    const x: unknown = readGiven(op, `detail.${name}`, () => (detail as Partial<S4ErrorDetail>)[name])
    const right = name === 'step' ? Number.isSafeInteger(x) && (x as number) >= 0 : typeof x === 'string'
    const optional = name === 'step' || name === 'tensor'
    if (!right && !(optional && x === undefined))
      throw fail(
        'ERR_S4_VALUE',
        op,
        `detail.${name} as ${name === 'step' ? 'a whole number' : 'a string'}`,
        describe(x),
      )
    out[name] = x
  }
  return out as unknown as S4ErrorDetail
}

/** The cause of an error, if it has one. */
function checkCause(options: unknown): ErrorOptions | undefined {
  if (options === undefined) return undefined
  return readGiven('S4Error', 'options.cause', () => {
    if (Object.prototype.toString.call(options) !== '[object Object]')
      throw fail('ERR_S4_VALUE', 'S4Error', 'options in an object', describe(options))
    const { cause } = options as ErrorOptions
    return cause === undefined ? undefined : { cause }
  })
}

/** Describes a value for an error message. Does not throw, even where reading the value does (a getter, a proxy). */
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

/** Makes (does not throw) the error of a failed check: `throw fail(…)`. */
export function fail(code: S4ErrorCode, op: string, expected: string, got: unknown): S4Error {
  const text = typeof got === 'string' || typeof got === 'number' ? String(got) : describe(got)
  return new S4Error(code, { op, expected, got: text === '' ? 'an empty text' : text })
}

/**
 * Reads a caller's argument by `read`. Where a getter or a proxy of it throws, the error is an S4Error that names the
 * argument `what`.
 */
export function readGiven<R>(op: string, what: string, read: () => R): R {
  try {
    return read()
  } catch (error) {
    if (error instanceof S4Error) throw error
    const detail = { op, expected: `${what} that can be read`, got: `an error: ${messageOf(error)}` }
    throw new S4Error('ERR_S4_VALUE', detail, { cause: error })
  }
}

const NATIVE_ERROR_PREFIX = 'S4:'

/**
 * The message of anything that was thrown. An error is known by its properties: those of the addon are of the main realm,
 * where `instanceof` may fail.
 */
function messageOf(error: unknown): string {
  try {
    const message: unknown = (error as Partial<Error> | null | undefined)?.message
    return typeof message === 'string' ? message : String(error)
  } catch {
    return describe(error)
  }
}

/** The codes of the errors that napi-rs throws where an argument has another type than it declares. */
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

/**
 * The S4Error for anything that a native call has thrown. The addon's own errors have JSON in their message; other errors
 * become `ERR_S4_VALUE` (an argument of a wrong type) or `ERR_S4_INTERNAL`.
 */
export function fromNative(error: unknown): Error {
  if (error instanceof S4Error) return error
  const message = messageOf(error)
  if (message.startsWith(NATIVE_ERROR_PREFIX)) {
    const { code, ...detail } = JSON.parse(message.slice(NATIVE_ERROR_PREFIX.length)) as S4ErrorDetail & {
      code: S4ErrorCode
    }
    return new S4Error(code, detail)
  }
  const isArgumentError = ARGUMENT_CODES.has((error as { code?: unknown } | null | undefined)?.code)
  return isArgumentError
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

/** Makes a synchronous native call; what it throws becomes an S4Error. */
export function callNative<R>(call: () => R): R {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Makes an asynchronous native call; what it throws or rejects with becomes an S4Error. */
export async function callNativeAsync<R>(call: () => Promise<R>): Promise<R> {
  try {
    return await call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Throws `ERR_S4_ABORTED` if the signal has fired, and `ERR_S4_VALUE` if it is no AbortSignal. */
export function throwIfAborted(op: string, signal?: AbortSignal): void {
  if (signal !== undefined && hasFired(op, 'signal', signal)) throw aborted(op, signal)
}

/** Whether a signal has fired; refuses what is no AbortSignal. `what` names the option. */
export function hasFired(op: string, what: string, signal: AbortSignal): boolean {
  const { aborted: fired, addEventListener } = readGiven(op, what, () =>
    typeof signal === 'object' && signal !== null
      ? { aborted: signal.aborted as unknown, addEventListener: signal.addEventListener as unknown }
      : { aborted: undefined, addEventListener: undefined },
  )
  if (typeof fired !== 'boolean' || typeof addEventListener !== 'function')
    throw fail('ERR_S4_VALUE', op, `an AbortSignal for the option ${what}`, signal)
  return fired
}

/** Makes the error of an operation that a signal has aborted. Its `cause` is the signal's reason. */
export function aborted(op: string, signal: AbortSignal): S4Error {
  const reason: unknown = signal.reason
  const detail = {
    op,
    expected: 'to run to its end',
    got: `an abort (${messageOf(reason)})`,
  }
  return new S4Error('ERR_S4_ABORTED', detail, { cause: reason })
}
