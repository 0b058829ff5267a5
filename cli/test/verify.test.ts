import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { findCases, type RunOptions } from '../src/verify/cases.js'
import { relativeError } from '../src/verify/compare.js'
import { verify } from '../src/verify/verify.js'

const golden = fileURLToPath(new URL('../../../__test__/fixtures/golden/', import.meta.url))
const command = fileURLToPath(new URL('../../bin/s4.mjs', import.meta.url))
const given = /^(u|g|state\.initial|from_initial\.(g|gs)|labels|(init|param)\.[a-zA-Z].*)$/
const f32: RunOptions = { dtype: 'f32', device: 'cpu' }

async function lines(folder: string, options: RunOptions) {
  const out: string[] = []
  const verdict = await verify(folder, options, (line) => out.push(line))
  return { verdict, out }
}

/** A safetensors file taken apart: header, and where each tensor's bytes are. */
function open(path: string) {
  const bytes = readFileSync(path)
  const size = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + size)) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >
  return {
    bytes,
    header,
    start: 8 + size,
    names: Object.keys(header).filter((name) => name !== '__metadata__'),
  }
}

/** Whether a case is of a layer by zero-order hold, which Algorithm 1 does not compute. */
function isZoh(path: string): boolean {
  const { __metadata__: metadata } = open(path).header as unknown as { __metadata__?: { config?: string } }
  const config = JSON.parse(metadata?.config ?? '{}') as { disc?: string; mode?: string }
  return config.disc === 'zoh' || (config.disc === undefined && config.mode === 'diag')
}

/** The file's bytes with one F64 tensor times 1.001 (a zero tensor plus 0.001). */
function disturbed(path: string, name: string): Buffer {
  const { bytes, header, start } = open(path)
  const {
    dtype,
    data_offsets: [from, to],
  } = header[name]
  assert.equal(dtype, 'F64', `${name} is F64`)
  const values = new Float64Array((to - from) / 8)
  for (let i = 0; i < values.length; i++) values[i] = bytes.readDoubleLE(start + from + 8 * i)
  const zero = values.every((value) => value === 0)
  for (let i = 0; i < values.length; i++)
    bytes.writeDoubleLE(zero ? 1e-3 : values[i] * 1.001, start + from + 8 * i)
  return bytes
}

async function scratch<R>(body: (folder: string) => Promise<R> | R): Promise<R> {
  const folder = mkdtempSync(join(tmpdir(), 's4-verify-'))
  try {
    return await body(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

for (const dtype of ['f32', 'f64'] as const) {
  for (const algorithm of ['auto', 'fft', 'chunk', 'cauchy'] as const) {
    test(`every golden case holds in ${dtype} with ${algorithm}`, async () => {
      const { verdict, out } = await lines(golden, { dtype, device: 'cpu', algorithm })
      assert.equal(verdict.failures, 0, out.filter((line) => /past|unknown|cannot/.test(line)).join('\n'))
      const files = readdirSync(golden).filter((file) => file.endsWith('.golden.safetensors'))
      const skipped = algorithm === 'cauchy' ? files.filter((file) => isZoh(join(golden, file))) : []
      assert.equal(verdict.skipped, skipped.length)
      assert.ok(algorithm !== 'cauchy' || (skipped.length > 5 && skipped.length < files.length - 10))
      const expected = files
        .filter((file) => !skipped.includes(file))
        .reduce(
          (sum, file) => sum + open(join(golden, file)).names.filter((name) => !given.test(name)).length,
          0,
        )
      assert.equal(verdict.tensors, expected)
      assert.match(out[out.length - 1], /^worst \S+ \S+ \S+$/)
      assert.match(out[out.length - 2], new RegExp(`^${expected} tensors`))
      const told = out.filter((line) => line.includes(' skipped: ')).length
      assert.equal(told, skipped.length)
    })
  }
}

test('each quantity of each case, disturbed by 1e-3, is named', { timeout: 600_000 }, async () => {
  let count = 0
  for (const { name, golden: path, checkpoint } of findCases(golden)) {
    await scratch(async (folder) => {
      if (checkpoint !== undefined) copyFileSync(checkpoint, join(folder, basename(checkpoint)))
      for (const quantity of open(path).names.filter((q) => !given.test(q))) {
        writeFileSync(join(folder, basename(path)), disturbed(path, quantity))
        const { verdict, out } = await lines(folder, f32)
        assert.equal(
          verdict.failures,
          1,
          `${name} ${quantity}: ${out.filter((line) => /past|unknown|cannot/.test(line)).join('\n')}`,
        )
        assert.ok(
          out.some((line) => line.startsWith(`${name} ${quantity} `) && line.includes(' past ')),
          `${name} ${quantity}`,
        )
        count += 1
      }
    })
  }
  assert.ok(count > 500, `${count}`)
})

test('the command exits 1 and names a disturbed quantity, 0 without it, 2 without a folder', () =>
  scratch((folder) => {
    for (const part of ['golden', 'ckpt'])
      copyFileSync(
        join(golden, `dplr_legs.${part}.safetensors`),
        join(folder, `dplr_legs.${part}.safetensors`),
      )
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [command, 'verify', ...args], { encoding: 'utf8' })
    const good = run(folder)
    assert.equal(good.status, 0, good.stdout + good.stderr)
    assert.match(good.stdout, /^dplr_legs y \d\.\d+e-\d+$/m)
    const errorOf = (text: string) => Number(/^dplr_legs y (\S+)$/m.exec(text)?.[1])
    const double = run(folder, '--f64', '--algorithm', 'chunk')
    assert.ok(errorOf(double.stdout) < errorOf(good.stdout) / 1e4, double.stdout)
    writeFileSync(
      join(folder, 'dplr_legs.golden.safetensors'),
      disturbed(join(golden, 'dplr_legs.golden.safetensors'), 'grad.layer.kernel.P'),
    )
    const bad = run(folder)
    assert.equal(bad.status, 1)
    assert.match(bad.stdout, /^worst dplr_legs grad\.layer\.kernel\.P /m)
    assert.equal(run(join(folder, 'nowhere')).status, 2)
    assert.equal(run(folder, '--algorithm', 'magic').status, 2)
  }))

test('unknown tensors, stray files, damaged files and empty folders fail', () =>
  scratch(async (folder) => {
    assert.ok((await lines(folder, f32)).verdict.failures > 0, 'empty')
    const file = join(folder, 'dplr_odd.golden.safetensors')
    copyFileSync(join(golden, 'dplr_odd.ckpt.safetensors'), join(folder, 'dplr_odd.ckpt.safetensors'))

    const { bytes, header, start } = open(join(golden, 'dplr_odd.golden.safetensors'))
    const renamed = Buffer.from(
      JSON.stringify(
        Object.fromEntries(
          Object.entries(header).map(([name, entry]) => [name === 'kernel' ? 'mystery' : name, entry]),
        ),
      ),
    )
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(renamed.length))
    writeFileSync(file, Buffer.concat([size, renamed, bytes.subarray(start)]))
    const unknown = await lines(folder, f32)
    assert.equal(unknown.verdict.failures, 1)
    assert.ok(unknown.out.includes('dplr_odd mystery unknown tensor'))

    writeFileSync(file, bytes.subarray(0, bytes.length / 2))
    assert.ok((await lines(folder, f32)).out.some((line) => line.startsWith('dplr_odd cannot be run')))

    copyFileSync(join(golden, 'dplr_odd.golden.safetensors'), file)
    copyFileSync(join(golden, 'dplr_legs.ckpt.safetensors'), join(folder, 'stray.ckpt.safetensors'))
    assert.ok((await lines(folder, f32)).out.some((line) => line.startsWith('stray cannot be run')))
  }))

test('an error is infinite where anything is missing or not finite', () => {
  assert.equal(relativeError(undefined, [1]), Infinity)
  assert.equal(relativeError([1, 2], [1]), Infinity)
  assert.equal(relativeError([Number.NaN], [1]), Infinity)
  assert.equal(relativeError([0.5], [0]), 0.5)
  assert.ok(Math.abs(relativeError([1.1, 0], [1, 0]) - 0.1) < 1e-12)
})
