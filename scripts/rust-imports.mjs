// Finds which file of a Rust crate imports which other file, by its `use` lines. `mod` lines and re-exports (`pub use`,
// `pub(crate) use`) do not count as imports; a name that is imported through a re-export counts as one of the file that defines it.
// Tests (`#[cfg(test)]`) are left out.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Rust code with comments, strings and character literals replaced by spaces, so that lines keep their numbers. */
export function codeOf(text) {
  const pattern =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'/g
  return text.replace(pattern, (found) => found.replace(/[^\n]/g, ' '))
}

/** The paths of a use tree such as `a::{b, c as d, e::*}`: their segments (`['a', 'b']`, …) and the name that each is imported as. */
export function pathsOf(tree, before = []) {
  const open = tree.indexOf('{')
  if (open >= 0) {
    const head = [...before, ...tree.slice(0, open).split('::').filter(Boolean)]
    const parts = []
    let depth = 0
    let start = open + 1
    for (let i = start; i < tree.length; i++) {
      if (tree[i] === '{') depth++
      else if (tree[i] === '}' && depth-- === 0) {
        parts.push(tree.slice(start, i))
        break
      } else if (tree[i] === ',' && depth === 0) {
        parts.push(tree.slice(start, i))
        start = i + 1
      }
    }
    return parts.filter((part) => part.trim() !== '').flatMap((part) => pathsOf(part.trim(), head))
  }
  const [path, name] = tree.split(/\s+as\s+/)
  const segments = [...before, ...path.split('::')].map((s) => s.trim()).filter(Boolean)
  if (segments.at(-1) === 'self' && segments.length > 1) segments.pop()
  return [{ segments, name: name?.trim() ?? segments.at(-1) }]
}

class Module {
  children = new Map()
  defined = new Set()
  /** Imports and re-exports: `{ segments, name, line, reexport }`. */
  uses = []

  constructor(file, parent) {
    this.file = file
    this.parent = parent
  }
}

const item =
  /^(?:pub(?:\([^)]*\))?\s+)?(?:(?:async|const|unsafe|default|extern\s*(?:"[^"]*")?)\s+)*(?:fn|struct|enum|union|trait|type|const|static(?:\s+mut)?|macro_rules!)\s+(\w+)/

/** Reads a module's file and those of its child modules, which are in `folder`. */
function read(module, folder) {
  const code = codeOf(readFileSync(module.file, 'utf8'))
  // The module that the text is in, from brace to brace; `undefined` in tests.
  const stack = [{ module, folder }]
  const lineOf = (at) => code.slice(0, at).split('\n').length
  const attributeBefore = (at) => /(?:#\[[^\]]*\]\s*)*$/.exec(code.slice(Math.max(0, at - 400), at))[0]
  const token = /[{}]|\b(?:pub(?:\([^)]*\))?\s+)?(?:mod\s+(\w+)\s*([;{])|use\s+([^;]+);)|[;}\n]\s*/g
  for (let match = token.exec(code); match !== null; match = token.exec(code)) {
    const [text, child, opening, tree] = match
    const at = stack.at(-1)
    if (child !== undefined) {
      const attributes = attributeBefore(match.index)
      const test = /cfg\((?:all\()?test\b/.test(attributes)
      if (opening === '{') {
        const inner = test || at.module === undefined ? undefined : new Module(at.module.file, at.module)
        if (inner) at.module.children.set(child, inner)
        stack.push({ module: inner, folder: join(at.folder, child) })
      } else if (!test && at.module !== undefined) {
        // The path attribute is a string, which `codeOf` has blanked.
        const source = readFileSync(module.file, 'utf8').slice(Math.max(0, match.index - 200), match.index)
        const given = /#\[path\s*=\s*"([^"]+)"\]\s*(?:pub(?:\([^)]*\))?\s*)?$/.exec(source)?.[1]
        const candidates = given
          ? [join(dirname(module.file), given)]
          : [join(at.folder, `${child}.rs`), join(at.folder, child, 'mod.rs')]
        const file = candidates.find((path) => existsSync(path))
        if (file === undefined) continue
        const next = new Module(file, at.module)
        at.module.children.set(child, next)
        read(next, given ? dirname(file) : join(at.folder, child))
      }
    } else if (tree !== undefined) {
      const test = /cfg\((?:all\()?test\b/.test(attributeBefore(match.index))
      if (at.module !== undefined && !test)
        for (const path of pathsOf(tree.trim()))
          at.module.uses.push({ ...path, line: lineOf(match.index), reexport: text.startsWith('pub') })
    } else if (text[0] === '{') {
      stack.push({ module: at.module, folder: at.folder, body: true })
    } else if (text[0] === '}' && stack.length > 1) {
      stack.pop()
    }
    // Items stand at the beginning of a line, outside bodies.
    const top = stack.at(-1)
    if (top.module !== undefined && !top.body) {
      const rest = code.slice(token.lastIndex)
      const defined = item.exec(rest.replace(/^(?:\s*#!?\[[^\]]*\])*\s*/, ''))
      if (defined) top.module.defined.add(defined[1])
    }
  }
}

/** The module that a path names, or that defines the item it names; `undefined` for a path of another crate. */
function resolve(module, segments, visited = new Set()) {
  const key = `${module.file}|${segments.join('::')}`
  if (visited.has(key)) return undefined
  visited.add(key)
  let at = module
  let rest = segments
  if (rest[0] === 'crate') {
    while (at.parent) at = at.parent
    rest = rest.slice(1)
  } else if (rest[0] === 'self') rest = rest.slice(1)
  else if (rest[0] !== 'super' && !at.children.has(rest[0]) && !visited.has('within')) return undefined
  while (rest[0] === 'super') {
    at = at.parent ?? at
    rest = rest.slice(1)
  }
  for (; rest.length > 0; rest = rest.slice(1)) {
    const [name] = rest
    if (name === '*') return at
    const child = at.children.get(name)
    if (child !== undefined) {
      at = child
      continue
    }
    if (at.defined.has(name)) return at
    for (const use of at.uses) {
      if (use.name === name) {
        const target = resolve(at, [...use.segments, ...rest.slice(1)], visited)
        if (target !== undefined) return target
      }
    }
    for (const use of at.uses) {
      if (use.name !== '*') continue
      const within = resolve(at, use.segments, visited)
      if (within === undefined || within === at) continue
      const target = resolve(within, ['self', ...rest], visited)
      if (target?.defined.has(name)) return target
    }
    return at
  }
  return at
}

/** All imports in the crate with this root file: `{ from, to, line }`, where from and to are paths of files. */
export function importsOf(rootFile) {
  const crate = new Module(rootFile)
  read(crate, dirname(rootFile))
  const edges = []
  const visit = (module) => {
    for (const { segments, line, reexport } of module.uses) {
      if (reexport) continue
      const target = resolve(module, segments)
      if (target !== undefined && target.file !== module.file)
        edges.push({ from: module.file, to: target.file, line })
    }
    for (const child of module.children.values()) visit(child)
  }
  visit(crate)
  return edges
}

/** Circles of imports: for each group of files that import each other, directly or through others, one shortest circle. */
export function circlesOf(edges) {
  const next = new Map()
  for (const edge of edges) next.set(edge.from, [...(next.get(edge.from) ?? []), edge])
  /** The shortest chain of imports from a file to another, by breadth-first search. */
  const shortestChain = (from, to) => {
    const arrivedBy = new Map()
    const queue = [from]
    for (const file of queue) {
      for (const edge of next.get(file) ?? []) {
        if (edge.to === to) {
          const path = [edge]
          for (let back = file; back !== from; back = path[0].from) path.unshift(arrivedBy.get(back))
          return path
        }
        if (!arrivedBy.has(edge.to) && edge.to !== from) {
          arrivedBy.set(edge.to, edge)
          queue.push(edge.to)
        }
      }
    }
    return undefined
  }
  const circles = []
  const filesInCircles = new Set()
  for (const file of [...next.keys()].toSorted()) {
    if (filesInCircles.has(file)) continue
    const circle = shortestChain(file, file)
    if (circle === undefined) continue
    for (const edge of circle) filesInCircles.add(edge.from)
    circles.push(circle)
  }
  return circles
}
