// npm run schema -w cli: writes the published JSON schema of recipes.
import { writeFileSync } from 'node:fs'
import { recipeSchema } from './recipe.js'

writeFileSync(
  new URL('../../recipe.schema.json', import.meta.url),
  `${JSON.stringify(recipeSchema(), undefined, 2)}\n`,
)
