// Cases of the property test: what is made first, then steps on it, each a name and a description in plain JSON. fast-check draws and
// shrinks them as commands of model-based testing; a finding is kept as the case itself, and runs again without fast-check.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { attempt } from './invariants.mjs'

/** One step of a case on a world of this kind. */
class Step {
  constructor(kind, name, given) {
    Object.assign(this, { kind, name, given })
  }
  /** Whether the step makes sense where so many things are expected to be there. */
  check(expected) {
    return this.kind.steps[this.name].may?.(expected) ?? true
  }
  async run(expected, world) {
    const { call, verify, changes = [] } = this.kind.steps[this.name]
    const before = await world.snapshot()
    const result = await attempt(this.name, () => call(world, this.given))
    const after = await world.snapshot()
    const mayChange = new Set(
      result.error === undefined
        ? changes
        : (world.changedByFailure?.(this.name, result.error, this.given) ?? []),
    )
    for (const [what, text] of Object.entries(before))
      if (!mayChange.has(what.split(' ')[0]) && what in after)
        assert.ok(
          after[what] === text,
          `${this.name} ${result.error === undefined ? 'that succeeded' : `that failed (${result.error.message})`} changed ${what}`,
        )
    if (result.error === undefined) await verify?.(world, this.given, result.value)
    world.expect(expected)
  }
  toString() {
    return JSON.stringify([this.name, this.given])
  }
  toJSON() {
    return [this.name, this.given]
  }
}

/** Descriptions of what a kind of world is made of and what is done with it. */
export const casesOf = (kind) =>
  fc.tuple(
    kind.made,
    fc.commands(
      Object.entries(kind.steps).flatMap(([name, { given, weight = 1 }]) =>
        Array.from({ length: weight }, () => given.map((g) => new Step(kind, name, g))),
      ),
      { maxCommands: kind.most, size: 'max' },
    ),
  )

/** A case in plain JSON. */
export const described = (kind, made, commands) => ({
  kind: kind.name,
  made,
  steps: Array.from(commands, (command) => (command.cmd ?? command).toJSON()),
})

/** Runs a case: makes its world, unless that is refused, takes its steps and frees everything. */
export async function runCase(kind, made, commands) {
  const world = kind.world()
  try {
    const { error } = await attempt('create', () => world.make(made))
    if (error !== undefined) return error.code
    await fc.asyncModelRun(() => {
      const expected = {}
      world.expect(expected)
      return { model: expected, real: world }
    }, commands)
    return undefined
  } finally {
    await world.dispose()
  }
}

/** The commands of a case that was kept. */
export const commandsOf = (kind, steps) => steps.map(([name, given]) => new Step(kind, name, given))
