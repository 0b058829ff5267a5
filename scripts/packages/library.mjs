// What the two packages for users hold, laid out in folders: the library and the command.
// The library is one implementation, CommonJS, which the ES module re-exports: a CommonJS `require` of an ES module does not exist
// under Jest, and two implementations would make two of every class.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { rollup } from 'rollup'
import { must, root } from '../setup.mjs'

const read = (...path) => readFileSync(join(root, ...path), 'utf8')
const json = (value) => `${JSON.stringify(value, null, 2)}\n`

/** Where the project is kept, for links and for npm's provenance; `owner/name` in GitHub's workflows. */
const repository = process.env.GITHUB_REPOSITORY && `https://github.com/${process.env.GITHUB_REPOSITORY}`

/** The fields that a user's package.json has of ours. */
export function manifest(source) {
  const { name, version, description, keywords, license, engines } = source
  const known = repository
    ? { repository: { type: 'git', url: `git+${repository}.git` }, homepage: `${repository}#readme` }
    : {}
  return { name, version, description, ...(keywords && { keywords }), license, ...known, engines }
}

/** A README whose relative links lead into the package, or to the repository, or are plain text where neither has the file. */
function readme(text, folder, from) {
  return text.replace(
    /(!?)\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)/g,
    (all, picture, words, path, part = '') => {
      if (existsSync(join(folder, path))) return all
      const place = join(from, path)
      if (repository)
        return `${picture}[${words}](${repository}/${picture ? 'raw' : 'blob'}/HEAD/${place}${part})`
      return picture ? '' : words
    },
  )
}

/** Entry points by the exports of package.json: './data' → { name: 'data', code, types }. */
function entryPoints(source) {
  return Object.entries(source.exports)
    .filter(([key]) => key !== './package.json')
    .map(([key, { types, default: code }]) => ({
      key,
      name: key === '.' ? 'index' : key.slice(2),
      types,
      code,
    }))
}

/** Who asks load.cjs, and throws what it met: an ES module before all others, or CommonJS. */
const asks = {
  'check.js': "import load from './load.cjs'\n\nif (load.failure) throw load.failure\n",
  'binding.cjs':
    "const { binding, failure } = require('./load.cjs')\n\nif (failure) throw failure\nmodule.exports = binding\n",
}

/** Bundles the compiled API into CommonJS; each entry loads the addon first, so that a problem of it is told before any other. */
async function bundle(entries, folder) {
  const first = 'first:'
  const made = await rollup({
    input: Object.fromEntries(entries.map(({ name }) => [name, `${first}${name}`])),
    external: /^node:|^#binding$/,
    plugins: [
      {
        name: 'addon-first',
        resolveId: (id) => (id.startsWith(first) ? id : null),
        load(id) {
          const entry = entries.find(({ name }) => id === `${first}${name}`)
          return entry && `import '#binding'\nexport * from ${JSON.stringify(join(root, entry.code))}`
        },
      },
    ],
  })
  const { output } = await made.write({
    dir: folder,
    format: 'cjs',
    exports: 'named',
    esModule: true,
    entryFileNames: '[name].cjs',
    chunkFileNames: 'shared/[name].cjs',
    paths: { '#binding': '#native' },
  })
  await made.close()
  return new Map(output.filter((chunk) => chunk.isEntry).map((chunk) => [chunk.name, chunk.exports]))
}

/** The library's package, without an addon; `platforms` are those that have a package. */
export async function library(folder, platforms) {
  const source = JSON.parse(read('package.json'))
  const entries = entryPoints(source)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, 'lib', 'native'), { recursive: true })
  const names = await bundle(entries, join(folder, 'lib'))
  for (const { name, types } of entries) {
    const list = names.get(name).toSorted()
    must(`Looking for the exports of ${name}`, list.length > 0)
    writeFileSync(
      join(folder, 'lib', `${name}.js`),
      `import '#native'\nexport { ${list.join(', ')} } from './${basename(name)}.cjs'\n`,
    )
    const text = read(types)
    mkdirSync(dirname(join(folder, `${name}.d.ts`)), { recursive: true })
    writeFileSync(join(folder, `${name}.d.ts`), text)
    writeFileSync(join(folder, `${name}.d.cts`), text.replace(/(from '\.{1,2}\/[^']+)\.js'/g, "$1.cjs'"))
  }
  const native = join(folder, 'lib', 'native')
  cpSync(join(root, 'crates', 'node', 'load.cjs'), join(native, 'load.cjs'))
  for (const [file, text] of Object.entries(asks)) writeFileSync(join(native, file), text)
  const forms = (name) => ({
    import: { types: `./${name}.d.ts`, default: `./lib/${name}.js` },
    require: { types: `./${name}.d.cts`, default: `./lib/${name}.cjs` },
  })
  writeFileSync(
    join(folder, 'package.json'),
    json({
      ...manifest(source),
      type: 'module',
      main: './lib/index.cjs',
      types: './index.d.cts',
      exports: {
        ...Object.fromEntries(entries.map(({ key, name }) => [key, forms(name)])),
        './package.json': './package.json',
      },
      imports: { '#native': { import: './lib/native/check.js', require: './lib/native/binding.cjs' } },
      optionalDependencies: Object.fromEntries(
        platforms.map((platform) => [`${source.name}-${platform}`, source.version]),
      ),
    }),
  )
  for (const name of ['LICENSE', 'CHANGELOG.md']) cpSync(join(root, name), join(folder, name))
  for (const name of ['CHANGELOG.md', 'README.md'])
    writeFileSync(join(folder, name), readme(read(name), folder, ''))
}

/** The command's package. */
export function command(folder) {
  const source = JSON.parse(read('cli', 'package.json'))
  rmSync(folder, { recursive: true, force: true })
  for (const path of ['bin', 'recipes', 'recipe.schema.json', join('dist', 'src')])
    cpSync(join(root, 'cli', path), join(folder, path), { recursive: true })
  const { version } = JSON.parse(read('package.json'))
  writeFileSync(
    join(folder, 'package.json'),
    json({
      ...manifest(source),
      type: 'module',
      bin: source.bin,
      dependencies: { ...source.dependencies, 's4-node': version },
    }),
  )
  mkdirSync(join(folder, 'data'))
  for (const name of readdirSync(join(root, 'data')))
    if (name === 'README.md' || name === 'ecg_mitdb208.csv')
      cpSync(join(root, 'data', name), join(folder, 'data', name))
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  writeFileSync(join(folder, 'README.md'), readme(read('cli', 'README.md'), folder, 'cli'))
}
