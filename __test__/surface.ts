/**
 * What the package offers, read from the declarations that users get: every function, constructor and method of every entry
 * point, and under each all its parameters and options, as deep as their types go.
 */
import { readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from '@typescript/typescript6'

/** The project's folder (tests run from build/__test__). */
const root = fileURLToPath(new URL('../../', import.meta.url))

/** What a value may be, by its declared type. */
export type Kind =
  | 'number'
  | 'string'
  | 'words'
  | 'boolean'
  | 'bigint'
  | 'null'
  | 'unknown'
  | 'function'
  | 'array'
  | 'arraylike'
  | 'iterable'
  | 'bytes'
  | 'integers64'
  | 'signal'
  | 'date'
  | 'pattern'
  | 'url'
  | 'handle'
  | 'record'
  | 'object'

/** A parameter, an option, or a part of one: `options.rate`, `u.data[]`, `tensors{}`. */
export interface Place {
  /** The callable's name, for messages. */
  readonly callable: string
  readonly text: string
  /** The parameter's index, then names, `[]` for an element and `{}` for a value by name. */
  readonly steps: readonly (string | number)[]
  readonly kinds: ReadonlySet<Kind>
  readonly optional: boolean
  /** Members of an object that may not be left out. */
  readonly required: readonly string[]
}

/** Something that a user calls. */
export interface Callable {
  readonly entry: string
  /** In its entry point: `hippo`, `new S4Layer`, `SequenceModel.create`, `SequenceModel#predict`. */
  readonly member: string
  /** Of all entry points: that of another than the first begins with its path. */
  readonly name: string
  readonly async: boolean
  readonly parameters: readonly string[]
  readonly places: readonly Place[]
}

/** All of it. */
export interface Surface {
  /** Names that the entry points export as values. */
  readonly values: ReadonlyMap<string, readonly string[]>
  /** Names that are types alone. */
  readonly types: readonly string[]
  readonly callables: readonly Callable[]
  /** What a user may assign: accessors with a setter, properties that are not read-only, of classes. */
  readonly settable: readonly string[]
  /** Exported values that are no functions and hold none. */
  readonly data: readonly string[]
  /** Classes that cannot be made with `new`, with their entry points. */
  readonly closed: readonly (readonly [entry: string, name: string])[]
}

/** The declarations of each entry point in package.json. */
export function entryPoints(): { entry: string; types: string }[] {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, unknown>
  }
  return Object.entries(exports).flatMap(([entry, target]) => {
    const types = typesOf(target)
    return types === undefined ? [] : [{ entry, types: join(root, types) }]
  })
}

/** The declarations that a target names, under whatever conditions. */
function typesOf(target: unknown): string | undefined {
  if (typeof target !== 'object' || target === null) return undefined
  const { types, ...others } = target as Record<string, unknown>
  if (typeof types === 'string') return types
  return Object.values({ types, ...others })
    .map(typesOf)
    .find((found) => found !== undefined)
}

const BYTES = new Set(['Uint8Array'])
/** Members of every class that are none of a user's: its constructor's, and the mark of its private fields. */
const HIDDEN = new Set(['prototype', '#private'])

/**
 * The surface of these declarations. `texts` holds files that stand in the place of those on the disk.
 */
export function surfaceOf(
  entries: readonly { entry: string; types: string }[],
  texts: ReadonlyMap<string, string> = new Map(),
): Surface {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.dom.d.ts'],
    types: ['node'],
    strict: true,
    skipLibCheck: true,
    noEmit: true,
  }
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists } = host
  const given = new Map([...texts].map(([file, text]) => [resolve(file), text]))
  host.readFile = (file) => given.get(resolve(file)) ?? readFile(file)
  host.fileExists = (file) => given.has(resolve(file)) || fileExists(file)
  const program = ts.createProgram(
    entries.map((e) => e.types),
    options,
    host,
  )
  const reader = new Reader(program)
  for (const { entry, types } of entries) reader.read(entry, types)
  return reader
}

class Reader implements Surface {
  readonly values = new Map<string, string[]>()
  readonly types: string[] = []
  readonly callables: Callable[] = []
  readonly settable: string[] = []
  readonly data: string[] = []
  readonly closed: [string, string][] = []
  readonly #program: ts.Program
  readonly #checker: ts.TypeChecker
  readonly #own: ReadonlySet<string>
  readonly #seen = new Set<string>()

  constructor(program: ts.Program) {
    this.#program = program
    this.#checker = program.getTypeChecker()
    this.#own = new Set(program.getRootFileNames().map((file) => dirname(resolve(file))))
  }

  read(entry: string, file: string): void {
    const source = this.#program.getSourceFile(file)
    const module = source && this.#checker.getSymbolAtLocation(source)
    if (source === undefined || module === undefined) throw new Error(`${file} is no module`)
    const broken = this.#program.getSemanticDiagnostics(source)[0]
    if (broken !== undefined)
      throw new Error(`${file}: ${ts.flattenDiagnosticMessageText(broken.messageText, '\n')}`)
    const values: string[] = []
    for (const exported of this.#checker.getExportsOfModule(module)) {
      const symbol =
        exported.flags & ts.SymbolFlags.Alias ? this.#checker.getAliasedSymbol(exported) : exported
      if (symbol.flags & ts.SymbolFlags.Value) {
        values.push(exported.name)
        this.#value(entry, exported.name, symbol)
      } else this.types.push(exported.name)
    }
    this.values.set(entry, values)
  }

  #value(entry: string, name: string, symbol: ts.Symbol): void {
    const type = this.#checker.getTypeOfSymbol(symbol)
    if (symbol.flags & ts.SymbolFlags.Class) {
      this.#constructors(entry, name, symbol, type)
      this.#members(entry, `${name}.`, type)
      this.#members(entry, `${name}#`, this.#checker.getDeclaredTypeOfSymbol(symbol))
    } else if (type.getCallSignatures().length > 0) this.#call(entry, name, type.getCallSignatures())
    else if (this.#members(entry, `${name}.`, type) === 0) this.data.push(name)
  }

  #constructors(entry: string, name: string, symbol: ts.Symbol, type: ts.Type): void {
    const declared = symbol.declarations?.flatMap((d) =>
      ts.isClassDeclaration(d) ? d.members.filter((m) => ts.isConstructorDeclaration(m)) : [],
    )
    const hidden = declared?.some((d) => ts.getCombinedModifierFlags(d) & ts.ModifierFlags.Private)
    if (hidden) this.closed.push([entry, name])
    else this.#call(entry, `new ${name}`, type.getConstructSignatures())
  }

  /** Methods of a type; how many there are. */
  #members(entry: string, prefix: string, type: ts.Type): number {
    let count = 0
    for (const member of type.getProperties()) {
      const at = member.declarations ?? []
      if (HIDDEN.has(member.name.replace(/^__#\d+@/, '')) || !at.some((d) => this.#isOwn(d))) continue
      const flags = at.reduce((f, d) => f | ts.getCombinedModifierFlags(d), 0)
      if (flags & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) continue
      const name = `${prefix}${member.name.replace(/^__@(\w+?)(?:@\d+)?$/, '[Symbol.$1]')}`
      const signatures = this.#checker.getTypeOfSymbol(member).getCallSignatures()
      if (signatures.length > 0) {
        count++
        this.#call(entry, name, signatures)
        continue
      }
      const getter = at.some((d) => ts.isGetAccessor(d))
      const setter = at.some((d) => ts.isSetAccessor(d))
      const readOnly = getter ? !setter : (flags & ts.ModifierFlags.Readonly) !== 0
      if (prefix.endsWith('#') && !readOnly) this.settable.push(name)
    }
    return count
  }

  #isOwn(node: ts.Node): boolean {
    return this.#own.has(dirname(resolve(node.getSourceFile().fileName)))
  }

  #call(entry: string, member: string, signatures: readonly ts.Signature[]): void {
    const name = entry === '.' ? member : `${entry.slice(2)} ${member}`
    if (this.#seen.has(name)) return
    this.#seen.add(name)
    const [signature] = signatures
    if (signature === undefined) throw new Error(`${name} has no signature`)
    if (signatures.length > 1) throw new Error(`${name} is overloaded: the table wants one signature`)
    const places: Place[] = []
    const parameters = signature.getParameters().map((parameter, index) => {
      const declared = parameter.valueDeclaration
      const type = this.#checker.getTypeOfSymbol(parameter)
      const optional =
        declared !== undefined &&
        ts.isParameter(declared) &&
        (declared.questionToken !== undefined || declared.initializer !== undefined)
      this.#place(name, places, [index], parameter.name, [type], optional)
      return parameter.name
    })
    const result = signature.getReturnType().getSymbol()?.name
    this.callables.push({ entry, member, name, async: result === 'Promise', parameters, places })
  }

  /** A place and those under it. */
  #place(
    callable: string,
    out: Place[],
    steps: readonly (string | number)[],
    text: string,
    types: readonly ts.Type[],
    optional: boolean,
  ): void {
    if (steps.length > 9) throw new Error(`${callable}: ${text} goes on for ever`)
    const kinds = new Set<Kind>()
    const below = new Map<string, { types: ts.Type[]; optional: boolean }>()
    const under = (step: string, type: ts.Type, open: boolean) => {
      const found = below.get(step)
      below.set(step, {
        types: [...(found?.types ?? []), type],
        optional: open || (found?.optional ?? false),
      })
    }
    let mayBeOmitted = optional
    for (const type of types.flatMap((t) => (t.isUnion() ? t.types : [t]))) {
      if (type.flags & ts.TypeFlags.Undefined) mayBeOmitted = true
      else kinds.add(this.#kind(callable, text, type, under))
    }
    const members = [...below].filter(([step]) => step !== '[]' && step !== '{}')
    const required = members.filter(([, member]) => !member.optional).map(([name]) => name)
    out.push({ callable, text, steps, kinds, optional: mayBeOmitted, required })
    for (const [step, member] of below) {
      const name = step === '[]' || step === '{}' ? `${text}${step}` : `${text}.${step}`
      this.#place(callable, out, [...steps, step], name, member.types, member.optional)
    }
  }

  #kind(
    callable: string,
    text: string,
    type: ts.Type,
    under: (step: string, type: ts.Type, optional: boolean) => void,
  ): Kind {
    const { flags } = type
    // What is generic may be anything.
    if (flags & (ts.TypeFlags.Unknown | ts.TypeFlags.Any | ts.TypeFlags.TypeParameter)) return 'unknown'
    if (flags & ts.TypeFlags.NumberLike) return 'number'
    if (flags & ts.TypeFlags.StringLiteral) return 'words'
    if (flags & ts.TypeFlags.StringLike) return 'string'
    if (flags & ts.TypeFlags.BooleanLike) return 'boolean'
    if (flags & ts.TypeFlags.BigIntLike) return 'bigint'
    if (flags & ts.TypeFlags.Null) return 'null'
    if (type.getCallSignatures().length > 0) return 'function'
    const symbol = type.getSymbol()
    const name = symbol?.name ?? ''
    const foreign = symbol?.declarations?.every((d) => !this.#isOwn(d)) ?? false
    if (foreign && name !== '__type') {
      const [element] = this.#checker.getTypeArguments(type as ts.TypeReference)
      const listed: Record<string, Kind> = {
        Array: 'array',
        ReadonlyArray: 'array',
        ArrayLike: 'arraylike',
        Iterable: 'iterable',
        AsyncIterable: 'iterable',
      }
      const list = listed[name]
      if (list !== undefined && element !== undefined) {
        under('[]', element, false)
        return list
      }
      if (BYTES.has(name)) return 'bytes'
      if (/^Big(?:Int|Uint)64Array$/.test(name)) return 'integers64'
      if (/^\w+\d+Array$/.test(name)) {
        under('[]', this.#checker.getNumberType(), false)
        return 'arraylike'
      }
      if (name === 'AbortSignal') return 'signal'
      if (name === 'URL') return 'url'
      if (name === 'Date') return 'date'
      if (name === 'RegExp') return 'pattern'
    }
    if (symbol !== undefined && symbol.flags & ts.SymbolFlags.Class) return 'handle'
    const values = type.getStringIndexType()
    const properties = this.#checker.getPropertiesOfType(type)
    for (const property of properties)
      under(
        property.name,
        this.#checker.getTypeOfSymbol(property),
        (property.flags & ts.SymbolFlags.Optional) !== 0,
      )
    if (values !== undefined) {
      under('{}', values, false)
      if (properties.length === 0) return 'record'
    }
    if (properties.length === 0 && values === undefined)
      throw new Error(`${callable}: no cases are known for the type of ${text}`)
    return 'object'
  }
}
