#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const main = new URL('../dist/src/main.js', import.meta.url)
if (!existsSync(fileURLToPath(main))) {
  console.error('s4: not built yet; run `npm run build` in the repository first')
  process.exit(2)
}
// A reader that has seen enough (`s4 stream … | head`) closes the pipe: the end, not an error.
process.stdout.on('error', (error) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(process.exitCode ?? 0)
})
process.stderr.on('error', (error) => {
  if (error.code !== 'EPIPE') throw error
})
const { main: run } = await import(main.href)
process.exitCode = await run(process.argv.slice(2))
