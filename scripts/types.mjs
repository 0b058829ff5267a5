// npm run build:types: bundles what tsc declared (build/types) into one documented .d.ts an entry point, with the public types
// alone. Ends with 1 when one of them needs something that is not public.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rollup } from 'rollup'
import { dts } from 'rollup-plugin-dts'
import { root } from './setup.mjs'

/** Entry points: the declarations of the source, and the file that the package ships. */
const entries = ['index', 'data', 'tasks'].map((name) => [`build/types/${name}.d.ts`, `${name}.d.ts`])

for (const [input, output] of entries) {
  const bundle = await rollup({ input: join(root, input), plugins: [dts()], external: /^(node:|#)/ })
  const { output: chunks } = await bundle.generate({ format: 'es' })
  await bundle.close()
  const { code, imports } = chunks[0]
  const internal = imports.filter((name) => !name.startsWith('node:'))
  if (chunks.length !== 1 || internal.length > 0) {
    console.error(
      `${output}: a public type needs ${internal.join(', ') || 'a second file'}, which no user has`,
    )
    process.exit(1)
  }
  const [comment] = /^\/\*\*[\s\S]*?\*\/\n/.exec(readFileSync(join(root, input), 'utf8')) ?? ['']
  writeFileSync(join(root, output), `${comment}${code.trimEnd()}\n`)
}
