// Copies the experiments of the paper (recipes/, scripts/recipe*.mjs) beside the built command, which runs them by name.
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs'

const root = new URL('../', import.meta.url)
const to = new URL('cli/dist/experiments/', root)
rmSync(to, { recursive: true, force: true })
mkdirSync(new URL('scripts/', to), { recursive: true })
cpSync(new URL('recipes/', root), new URL('recipes/', to), { recursive: true })
for (const name of readdirSync(new URL('scripts/', root)))
  if (/^recipe(-.*)?\.mjs$/.test(name))
    cpSync(new URL(`scripts/${name}`, root), new URL(`scripts/${name}`, to))
