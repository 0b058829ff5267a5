#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const main = new URL('../dist/src/main.js', import.meta.url)
if (!existsSync(fileURLToPath(main))) {
  console.error('s4: not built yet; run `npm run build` in the repository first')
  process.exit(2)
}
const { main: run } = await import(main.href)
process.exitCode = await run(process.argv.slice(2))
