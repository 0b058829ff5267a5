// What the fault programs share: options of the command line, random numbers with a seed, child processes.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/**
 * The numbers given on the command line, with these defaults; `--short` takes the smaller of a pair.
 *   const { kills, seed } = numbers({ kills: [100, 6], seed: [1, 1] })
 */
export function numbers(defaults) {
  const options = Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: 'string' }]))
  const { values } = parseArgs({ options: { ...options, short: { type: 'boolean', default: false } } })
  const chosen = Object.entries(defaults).map(([name, [long, short]]) => {
    const number = Number(values[name] ?? (values.short ? short : long))
    if (!(Number.isFinite(number) && number >= 0))
      throw new TypeError(`--${name} ${values[name]}: not a number`)
    return [name, number]
  })
  return Object.fromEntries(chosen)
}

/** The path of a program beside this file. */
export const beside = (name) => fileURLToPath(new URL(name, import.meta.url))

/** Starts Node on a program; `ended` gives its exit code or signal, and what it wrote. */
export function start(args, options = {}) {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
  let [out, err] = ['', '']
  child.stdout?.setEncoding('utf8').on('data', (text) => (out += text))
  child.stderr?.setEncoding('utf8').on('data', (text) => (err += text))
  const ended = new Promise((resolve) =>
    child.once('close', (code, signal) => resolve({ code, signal, out, err })),
  )
  return { child, ended, out: () => out }
}

/** Runs Node on a module given as text, for at most so many seconds. */
export function runText(text, { seconds = 60, args = [], ...options } = {}) {
  const run = start([...args, '--input-type=module', '-e', text], options)
  const timer = setTimeout(() => run.child.kill('SIGKILL'), seconds * 1000)
  return run.ended.finally(() => clearTimeout(timer))
}

/** Seconds since a moment of `performance.now()`, as text. */
export const since = (began) => `${((performance.now() - began) / 1000).toFixed(1)} s`
