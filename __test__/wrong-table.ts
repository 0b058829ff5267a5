/** Runs the table: every wrong value at every place of every callable, and every right one in other forms. */
import { createHash } from 'node:crypto'
import { AdamW, ModelStream, S4Block, S4Error, S4Layer, SequenceModel } from '../index.js'
import { entryPoints, type Callable, type Place, type Surface } from './surface.js'
import { rightForms, throwingProxy, Trap, wrongValues, type Candidate } from './wrong-values.js'

/** What a call is made on, and how to see whether it has changed. */
export interface Receiver {
  readonly self: object
  /** All that can be seen of it, as text. */
  observe(): string | Promise<string>
  close(): void
}

/** Right arguments, and what is said of the places under them. */
export interface Arguments {
  /** The places that these arguments are for: their texts begin so, or are so where they end in `$`. All others take those without. */
  readonly under?: string
  /** Fresh each time. */
  readonly args: () => unknown[]
  readonly receiver?: () => Receiver | Promise<Receiver>
  /** In the place of the recipe's. */
  readonly legal?: Recipe['legal']
}

/** How a callable is called rightly, and which of the values that are derived as wrong are right there. */
export interface Recipe {
  /** Every place has a right value in those that it takes. */
  readonly right: readonly Arguments[]
  /** Candidates that are right at a place; each must be accepted, and give finite numbers. `*` ends a place's beginning. */
  readonly legal?: Readonly<Record<string, readonly string[]>>
  /** Candidates that are not tried, with the reason. */
  readonly untried?: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** Other words for a place in messages. */
  readonly words?: Readonly<Record<string, readonly string[]>>
  /** More wrong values. */
  readonly more?: Readonly<Record<string, readonly Candidate[]>>
  /** How it is called, where its name does not say it. */
  readonly call?: (self: object | undefined, args: unknown[]) => unknown
}

export interface Outcome {
  cases: number
  places: number
  failures: string[]
}

/** Name of the candidate that throws when it is read. */
const TRAP = 'a throwing getter'

/** Callables without a recipe, and recipes without a callable. */
export function uncovered(surface: Surface, recipes: Readonly<Record<string, Recipe>>): string[] {
  const names = new Set(surface.callables.map((c) => c.name))
  return [
    ...[...names].filter((name) => !Object.hasOwn(recipes, name)).map((name) => `${name} has no recipe`),
    ...Object.keys(recipes)
      .filter((name) => !names.has(name))
      .map((name) => `${name} has a recipe and is nowhere`),
    ...surface.settable.map((name) => `${name} may be assigned to, and has no cases`),
    ...surface.callables.flatMap(({ name, places }) => {
      const recipe = recipes[name]
      if (recipe === undefined) return []
      const texts = places.map((p) => p.text)
      return Object.keys({ ...recipe.legal, ...recipe.untried, ...recipe.words, ...recipe.more })
        .filter((key) => !texts.some((text) => fits(key, text)))
        .map((key) => `${name} has cases for ${key}, which is nowhere`)
    }),
  ]
}

const fits = (key: string, text: string) =>
  key.endsWith('*')
    ? text.startsWith(key.slice(0, -1))
    : key.startsWith('*')
      ? text.endsWith(key.slice(1))
      : key === text
const ofPlace = <T>(table: Readonly<Record<string, T>> | undefined, { text }: Place): T[] =>
  Object.entries(table ?? {}).flatMap(([key, value]) => (fits(key, text) ? [value] : []))

/** What each entry point gives a program. */
const modules: ReadonlyMap<string, Record<string, Record<string, unknown>>> = new Map(
  await Promise.all(
    entryPoints().map(async ({ entry }) => [entry, await import(`s4-node${entry.slice(1)}`)] as const),
  ),
)
/** Names that each entry point exports when it runs. */
export const exported = (entry: string): string[] => Object.keys(modules.get(entry) ?? {}).toSorted()

/** The function behind a name of the surface. */
function invoke(
  { entry, member }: Callable,
  recipe: Recipe,
  self: object | undefined,
  args: unknown[],
): unknown {
  if (recipe.call !== undefined) return recipe.call(self, args)
  const module = modules.get(entry) as Record<string, Record<string, unknown>>
  const made = /^new (\w+)$/.exec(member)?.[1]
  if (made !== undefined) return Reflect.construct(module[made] as never, args) as unknown
  const [, holder, method] = /^(\w+)[.#]?(.*)$/.exec(member) as unknown as [string, string, string]
  if (method === '') return (module[holder] as unknown as (...a: unknown[]) => unknown)(...args)
  const symbol = /^\[Symbol\.(\w+)\]$/.exec(method)?.[1]
  const key = symbol === undefined ? method : (Symbol[symbol as never] as symbol)
  const target = (member.includes('#') ? self : module[holder]) as Record<string | symbol, unknown>
  return (target[key] as (...a: unknown[]) => unknown).apply(target, args)
}

/** Answers of a call: what it gave to its end, or what it threw. */
type Answer = { value: unknown } | { error: unknown; early: boolean }

async function answer(call: () => unknown): Promise<Answer> {
  let out: unknown
  try {
    out = call()
  } catch (error) {
    return { error, early: true }
  }
  try {
    return { value: await settled(out) }
  } catch (error) {
    return { error, early: false }
  }
}

async function settled(out: unknown): Promise<unknown> {
  const it = out as Partial<AsyncGenerator & Generator> | null | undefined
  if (typeof it?.next !== 'function') return out
  const all: unknown[] = []
  for await (const x of it as AsyncGenerator) all.push(x)
  return all
}

/** Rejects when a call has no answer after a while. */
async function within<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer after 20 s')), 20_000)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** A hash of bytes: two saves of one model, or of one stream, are the same. */
export const hashOf = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('base64')

/** All that a value holds, as text; of handles their parameters. Speeds are left out. Handles are disposed. */
export function digest(x: unknown): string {
  if (ArrayBuffer.isView(x)) {
    if (x instanceof Float32Array || x instanceof Float64Array)
      if (!x.every((v) => Number.isFinite(v))) return `not finite: ${[...x].slice(0, 8).join()}`
    return `${x.constructor.name} ${hashOf(new Uint8Array(x.buffer, x.byteOffset, x.byteLength))}`
  }
  if (x instanceof S4Layer || x instanceof S4Block || x instanceof SequenceModel) {
    const text = digest([x.config, x.dtype, x.parameters().map((p) => [p.name, p.value])])
    x.dispose()
    return text
  }
  if (x instanceof ModelStream) {
    const text = digest([x.position, x.save()])
    x.dispose()
    return text
  }
  if (typeof x !== 'object' || x === null)
    return typeof x === 'symbol' ? x.toString() : `${typeof x} ${String(x)}`
  if (x instanceof Error) return `${x.name} ${x.message}`
  if (x instanceof AdamW) {
    x.dispose()
    return 'AdamW'
  }
  if (Array.isArray(x)) return `[${x.map(digest).join()}]`
  if (typeof (x as { pipe?: unknown }).pipe === 'function') {
    ;(x as { destroy(): void }).destroy()
    return 'a stream'
  }
  const members = Object.entries(x).filter(([key]) => key !== 'samplesPerSecond')
  return `{${members.map(([key, value]) => `${key}: ${digest(value)}`).join()}}`
}

/** The arguments with another value at a place: what is on the way there is copied. */
function put(
  at: unknown,
  steps: readonly (string | number)[],
  set: (holder: object, key: string | number) => void,
  element: unknown,
): unknown {
  const [step, ...rest] = steps as [string | number, ...(string | number)[]]
  if (typeof at !== 'object' || at === null) throw new Error(`nothing right stands above ${String(step)}`)
  let copy: Record<string | number, unknown>
  if (ArrayBuffer.isView(at)) {
    const typed = (at as Float32Array).slice()
    const holds = typeof element === 'number' && !/Int/.test(typed.constructor.name)
    copy = (holds ? typed : Array.from(typed)) as never
  } else copy = (Array.isArray(at) ? [...(at as unknown[])] : { ...at }) as never
  const key = step === '[]' ? 0 : step === '{}' ? (Object.keys(at)[0] as string) : step
  if (rest.length === 0) set(copy, key)
  else copy[key] = put(copy[key], rest, set, element)
  return copy
}
function valueAt(at: unknown, steps: readonly (string | number)[]): unknown {
  let x = at as Record<string | number, unknown>
  for (const step of steps) {
    if (typeof x !== 'object' || x === null) return undefined
    x = x[step === '[]' ? 0 : step === '{}' ? (Object.keys(x)[0] as string) : step] as never
  }
  return x
}
function lastName(args: unknown[], steps: readonly (string | number)[]): string | undefined {
  const i = steps.lastIndexOf('{}')
  if (i < 0 || steps.slice(i + 1).some((s) => s !== '[]' && s !== 'data' && s !== 'shape')) return undefined
  return Object.keys(valueAt(args, steps.slice(0, i)) as object)[0]
}

/** Words by one of which a message must name a place. */
function namesOf(place: Place, parameters: readonly string[], recipe: Recipe, args: unknown[]): string[] {
  const names = place.steps.flatMap((step) => {
    if (typeof step === 'number') return [parameters[step] as string]
    return step === '[]' || step === '{}' ? [] : [step]
  })
  const last = names.at(-1) as string
  const key = lastName(args, place.steps)
  return [
    last,
    // An object without one of these is refused by its name.
    ...place.required,
    ...(last === 'data' || last === 'shape' ? names.slice(-2, -1) : []),
    ...(key === undefined ? [] : [key]),
    ...ofPlace(recipe.words, place).flat(),
  ]
}

function says(error: S4Error, names: readonly string[]): boolean {
  const text = `${error.expected} ${error.got} ${error.tensor ?? ''}`
  return names.some((name) => {
    const plain = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    return new RegExp(`(?<![A-Za-z0-9_])${plain}(?![A-Za-z0-9_])`).test(text)
  })
}

const short = (x: unknown) => {
  try {
    return x instanceof Error ? `${x.name}: ${x.message}`.slice(0, 200) : digest(x).slice(0, 120)
  } catch {
    return 'something unreadable'
  }
}

/** What is wrong with an answer to a wrong value, if anything. */
function judge(
  callable: Callable,
  given: Answer,
  names: readonly string[],
  trapped: boolean,
): string | undefined {
  if ('value' in given) return `was accepted and gave ${short(given.value)}`
  const { error, early } = given
  if (callable.async && early) return `was thrown at once instead of rejected: ${short(error)}`
  if (!(error instanceof S4Error)) return `gave no S4Error but ${short(error)}`
  if (error.code === 'ERR_S4_INTERNAL') return `gave ${error.code}: ${error.message}`
  // An error of memory says what was asked and what there is.
  if (error.code !== 'ERR_S4_MEMORY' && !says(error, names))
    return `does not name ${names.join(' or ')}: ${error.message}`
  if (trapped && !(error.cause instanceof Trap))
    return `has not what was thrown as its cause: ${error.message}`
  return undefined
}

/** The table of one callable. */
export async function runCallable(callable: Callable, recipe: Recipe, outcome: Outcome): Promise<void> {
  const plain = recipe.right.find((r) => r.under === undefined)
  if (plain === undefined) return void outcome.failures.push(`${callable.name} has no right arguments`)
  const references = new Map<Arguments, string>()
  for (const right of recipe.right) {
    const receiver = await right.receiver?.()
    const given = await within(answer(() => invoke(callable, recipe, receiver?.self, right.args())))
    if ('value' in given) references.set(right, digest(given.value))
    else
      outcome.failures.push(
        `${callable.name} with right arguments ${right.under ?? ''}: ${short(given.error)}`,
      )
    if ('value' in given && references.get(right)?.includes('not finite'))
      outcome.failures.push(`${callable.name} with right arguments ${right.under ?? ''} is not finite`)
    receiver?.close()
  }
  for (const place of callable.places) {
    const own = recipe.right.filter(({ under }) => under !== undefined && isUnder(under, place.text))
    outcome.places++
    for (const right of own.length > 0 ? own : [plain]) {
      const reference = references.get(right)
      if (reference !== undefined) await runPlace(callable, recipe, place, right, reference, outcome)
    }
  }
  await runDisposed(callable, recipe, plain, outcome)
}

const isUnder = (under: string, text: string) =>
  under.endsWith('$') ? text === under.slice(0, -1) : text.startsWith(under)

/** What is disposed says so. */
async function runDisposed(
  callable: Callable,
  recipe: Recipe,
  right: Arguments,
  outcome: Outcome,
): Promise<void> {
  if (!callable.name.includes('#') || /dispose\]?$/.test(callable.name)) return
  const receiver = await right.receiver?.()
  const self = receiver?.self as Partial<Disposable>
  if (typeof self[Symbol.dispose] !== 'function') return
  self[Symbol.dispose]?.()
  outcome.cases++
  const given = await within(answer(() => invoke(callable, recipe, self, right.args())))
  receiver?.close()
  const code = 'error' in given && given.error instanceof S4Error ? given.error.code : short(given)
  if (code !== 'ERR_S4_DISPOSED') outcome.failures.push(`${callable.name} of what is disposed gave ${code}`)
}

/** Classes whose constructor is not for callers refuse them. */
export function runClosed(surface: Surface, outcome: Outcome): void {
  for (const [entry, name] of surface.closed)
    for (const args of [[], [null], [{}], [throwingProxy()], [5, 'f32', 1, {}]]) {
      outcome.cases++
      try {
        Reflect.construct(modules.get(entry)?.[name] as never, args)
        outcome.failures.push(`new ${name} was accepted`)
      } catch (error) {
        if (!(error instanceof S4Error) || error.code === 'ERR_S4_INTERNAL')
          outcome.failures.push(`new ${name} gave ${short(error)}`)
      }
    }
}

async function runPlace(
  callable: Callable,
  recipe: Recipe,
  place: Place,
  right: Arguments,
  reference: string,
  outcome: Outcome,
): Promise<void> {
  const report = (what: string, problem: string) =>
    outcome.failures.push(`${callable.name} ${place.text} = ${what} ${problem}`)
  const standing = valueAt(right.args(), place.steps)
  if (standing === undefined && !place.kinds.has('unknown'))
    return void outcome.failures.push(`${callable.name} ${place.text} has no right value in its recipe`)
  const names = namesOf(place, callable.parameters, recipe, right.args())
  const legal = new Set(ofPlace(right.legal ?? recipe.legal, place).flat())
  const untried = Object.assign({}, ...ofPlace(recipe.untried, place)) as Record<string, string>
  const candidates = [...wrongValues(place, standing), ...ofPlace(recipe.more, place).flat()]
  const forms = rightForms(place, standing)
  const derived = new Set([...candidates, ...forms, { name: TRAP }].map((c) => c.name))
  for (const name of [...legal, ...Object.keys(untried)])
    if (!derived.has(name) && !isPattern(right.legal ?? recipe.legal, place, name))
      report(name, 'is stated and not derived')
  let receiver = await right.receiver?.()
  const before = receiver && (await seen(receiver))
  const attempt = (arrange: (args: unknown[]) => unknown[]) =>
    within(answer(() => invoke(callable, recipe, receiver?.self, arrange(right.args()))))
  const wrong: { name: string; trapped: boolean; arrange: (args: unknown[]) => unknown[] }[] = []
  for (const { name, make } of candidates) {
    if (legal.has(name) || name in untried) continue
    const arrange = (args: unknown[]) => {
      const value = make(valueAt(args, place.steps))
      const out = put(args, place.steps, (holder, key) => Reflect.set(holder, key, value), value) as unknown[]
      return out
    }
    wrong.push({ name, trapped: false, arrange })
  }
  if (place.steps.length > 1 && !(TRAP in untried))
    wrong.push({
      name: TRAP,
      trapped: true,
      arrange: (args) => put(args, place.steps, throwingAt, undefined) as unknown[],
    })
  for (const { name, trapped, arrange } of wrong) {
    outcome.cases++
    const given = await attempt(arrange)
    const problem = judge(callable, given, names, trapped)
    if (problem !== undefined) report(name, problem)
    if (receiver === undefined) continue
    const after = await seen(receiver)
    if (after === before && 'error' in given) continue
    if (problem === undefined) report(name, `changed what it was refused by: ${after.slice(0, 100)}`)
    receiver.close()
    receiver = await right.receiver?.()
  }
  // What was refused has left nothing behind, hidden or seen: the right call gives what it gives at first.
  const again = await attempt((args) => args)
  if (!('value' in again)) report('the right value after wrong ones', `gave ${short(again.error)}`)
  else if (digest(again.value) !== reference)
    report('the right value after wrong ones', 'gave something else')
  receiver?.close()
  const accepted = [
    ...forms.map((c) => ({ ...c, equal: true })),
    ...candidates.filter((c) => legal.has(c.name)).map((c) => ({ ...c, equal: false })),
  ]
  for (const { name, make, equal } of accepted) {
    if (name in untried) continue
    outcome.cases++
    receiver = await right.receiver?.()
    const given = await attempt((args) => {
      const value = make(valueAt(args, place.steps))
      return put(args, place.steps, (holder, key) => Reflect.set(holder, key, value), value) as unknown[]
    })
    if (!('value' in given)) report(name, `is right and gave ${short(given.error)}`)
    else {
      const text = digest(given.value)
      if (text.includes('not finite')) report(name, `is right and gave what is ${text.slice(0, 100)}`)
      else if (equal && text !== reference) report(name, 'is right and gave another result')
    }
    receiver?.close()
  }
}

/** What can be seen of a receiver; a call that goes on after its answer keeps it from being seen. */
async function seen(receiver: Receiver): Promise<string> {
  try {
    return await receiver.observe()
  } catch (error) {
    return short(error)
  }
}

/** Whether it is several places by `*` that this name is stated for: it need not be derived at each of them. */
const isPattern = (legal: Recipe['legal'], place: Place, name: string) =>
  Object.entries(legal ?? {}).some(
    ([key, all]) => key.includes('*') && fits(key, place.text) && all.includes(name),
  )

function throwingAt(holder: object, key: string | number): void {
  Object.defineProperty(holder, key, {
    enumerable: true,
    get: () => {
      throw new Trap('a getter of the caller')
    },
  })
}
