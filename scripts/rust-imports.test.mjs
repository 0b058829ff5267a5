// node --test scripts/rust-imports.test.mjs: a checker that finds nothing must be able to find something.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { circlesOf, codeOf, importsOf, pathsOf } from './rust-imports.mjs'

/** The circles of a crate with these files, each as names in order. */
function circles(files) {
  const root = mkdtempSync(join(tmpdir(), 's4-imports-'))
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true })
      writeFileSync(join(root, name), text)
    }
    return circlesOf(importsOf(join(root, 'lib.rs'))).map((circle) =>
      circle.map(({ from }) => relative(root, from)),
    )
  } finally {
    rmSync(root, { recursive: true })
  }
}

test('files that import each other', () => {
  const found = circles({
    'lib.rs': 'mod a;\nmod b;\n',
    'a.rs': 'use crate::b::B;\npub struct A(B);\n',
    'b.rs': 'use super::a::A;\npub struct B(Box<A>);\n',
  })
  assert.deepEqual(found, [['a.rs', 'b.rs']])
})

test('around a corner, through re-exports and globs of the root', () => {
  const found = circles({
    'lib.rs': 'mod a;\nmod b;\nmod c;\npub use a::*;\npub(crate) use b::{self, B as Bee};\npub use c::C;\n',
    'a.rs': 'use crate::{Bee, other::X};\npub struct A(Bee);\n',
    'b.rs': 'use crate::C;\npub struct B(C);\n',
    'c.rs': 'fn f() {\n    use crate::A;\n}\npub struct C;\n',
  })
  assert.deepEqual(found, [['a.rs', 'b.rs', 'c.rs']])
})

test('a child and the file that it is declared in', () => {
  const parent = 'mod child;\nuse child::Child;\npub fn shared(c: Child) {}\n'
  const found = circles({
    'lib.rs': 'mod parent;\n',
    'parent.rs': parent,
    'parent/child.rs': 'use super::shared;\npub struct Child;\n',
  })
  assert.deepEqual(found, [['parent.rs', 'parent/child.rs']])
  // A re-export and the mod line alone import nothing.
  const fine = circles({
    'lib.rs': 'mod parent;\n',
    'parent.rs': parent.replace('use child', 'pub use child'),
    'parent/child.rs': 'use super::shared;\npub struct Child;\n',
  })
  assert.deepEqual(fine, [])
})

test('tests, comments, strings and inner modules of one file are no imports', () => {
  const found = circles({
    'lib.rs': 'mod a;\nmod b;\n',
    'a.rs': [
      '// use crate::b::B;',
      'const S: &str = "use crate::b::B;";',
      'pub struct A;',
      "const Q: char = '\"';",
      'mod inner { use super::A; }',
      '#[cfg(test)]',
      'mod tests { use crate::b::B; }',
      '#[cfg(test)]',
      'mod more;',
    ].join('\n'),
    'a/more.rs': 'use crate::b::B;',
    'b.rs': 'use crate::a::A;\npub struct B(A);\n',
  })
  assert.deepEqual(found, [])
})

test('use trees', () => {
  assert.deepEqual(
    pathsOf('crate::{a::{self, B as Bee}, c::*}').map(({ segments, name }) => [segments.join('::'), name]),
    [
      ['crate::a', 'a'],
      ['crate::a::B', 'Bee'],
      ['crate::c::*', '*'],
    ],
  )
  assert.equal(codeOf('a /* x\n */ b // c').replaceAll(' ', ''), 'a\nb')
})
