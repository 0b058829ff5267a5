import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { recordings, rows, s4, scratch, small, tone, waves } from './helpers.js'

const program = fileURLToPath(new URL('../../../examples/server.mjs', import.meta.url))
const folder = scratch('server')
const running: ChildProcess[] = []
after(() => running.forEach((child) => child.kill()))

/** Starts the example on a free port of loopback. */
async function serve(run: string): Promise<{ url: string; child: ChildProcess; log: () => string }> {
  const child = spawn(process.execPath, [program, join(run, 'best.safetensors'), '0'])
  running.push(child)
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text))
  const ended = once(child, 'exit').then(() => [`it ended: ${log}`])
  const [line] = (await Promise.race([once(child.stdout.setEncoding('utf8'), 'data'), ended])) as [string]
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0]
  assert.ok(url !== undefined, line)
  return { url, child, log: () => log }
}

const post = (url: string, body: unknown) =>
  fetch(url, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })
const lines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

let classifier: Awaited<ReturnType<typeof serve>>
let forecaster: Awaited<ReturnType<typeof serve>>
before(async () => {
  const [tones, series] = [join(folder, 'tones'), join(folder, 'series')]
  const sounds = recordings(join(folder, 'wav'), 12, 8000, true)
  const heard = s4(['train', 'classify', sounds, '--out', tones, '--epochs', '10', ...small])
  assert.equal(heard.status, 0, heard.stderr)
  const table = join(folder, 'waves.csv')
  writeFileSync(table, waves(600))
  const seen = s4([
    'train',
    'forecast',
    table,
    '--columns',
    'a,b',
    '--targets',
    'a,b',
    '--horizon',
    '4',
    '--out',
    series,
    '--epochs',
    '1',
    ...small,
  ])
  assert.equal(seen.status, 0, seen.stderr)
  classifier = await serve(tones)
  forecaster = await serve(series)
})

test('a classifier answers many requests at once, each with its own', async () => {
  const health = (await (await fetch(`${classifier.url}/health`)).json()) as object
  assert.deepEqual(health, { task: 'classify', classes: ['high', 'low', 'middle'] })
  const names = ['low', 'middle', 'high']
  const answers = await Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      const inputs = Array.from({ length: 1 + (i % 3) }, () => Array.from(tone(i % 3, i, 8000)))
      const response = await post(`${classifier.url}/predict`, { inputs })
      const { labels } = (await response.json()) as { labels: string[] }
      assert.equal(labels.length, 1 + (i % 3))
      return labels.every((label) => label === names[i % 3])
    }),
  )
  assert.ok(answers.filter(Boolean).length >= 36, `${answers.filter(Boolean).length} of 40`)
})

test('bad requests are refused, and the good ones beside them are answered', async () => {
  const good = { inputs: [Array.from(tone(0, 1, 8000))] }
  const bad: [unknown, RegExp][] = [
    ['{', /JSON was expected/],
    ['null', /a JSON object/],
    [{}, /inputs: a list/],
    [{ inputs: [] }, /inputs: a list/],
    [{ inputs: ['/etc/passwd'] }, /^inputs: a list of lists of numbers$/],
    [{ inputs: [null] }, /^inputs: a list of lists of numbers$/],
    [{ inputs: [[1, null]] }, /each of inputs/],
    [{ inputs: [[1, 'a', 2]] }, /each of inputs/],
    [{ inputs: [{ data: [1, 2], shape: [2, 2] }] }, /each of inputs|shape/],
    [{ inputs: [[1e39]] }, /each of inputs/],
  ]
  const together = await Promise.all(
    bad.map(async ([body, message]) => {
      const [wrong, right] = await Promise.all([
        post(`${classifier.url}/predict`, body),
        post(`${classifier.url}/predict`, good),
      ])
      const { error } = (await wrong.json()) as { error: string }
      return { status: wrong.status, error, message, right: right.status }
    }),
  )
  for (const { status, error, message, right } of together) {
    assert.equal(status, 400, error)
    assert.match(error, message)
    assert.equal(right, 200)
  }
  assert.equal((await fetch(`${classifier.url}/nothing`)).status, 404)
  assert.equal((await fetch(`${classifier.url}//[`)).status, 404)
  assert.equal((await post(`${classifier.url}/forecast`, {})).status, 404)
  assert.equal((await post(`${classifier.url}/predict`, 'x'.repeat(17 << 20))).status, 413)
  const many = JSON.stringify({ inputs: Array.from({ length: 1000 }, () => [0]) })
  assert.equal((await post(`${classifier.url}/predict`, many)).status, 413)
  // What breaks off in the middle, and what is no HTTP.
  for (const text of ['POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{', 'hello\r\n\r\n']) {
    const socket = connect(Number(new URL(classifier.url).port), '127.0.0.1')
    await once(socket, 'connect')
    socket.write(text)
    socket.resume()
    setTimeout(() => socket.destroy(), 50)
    await once(socket, 'close')
  }
  assert.equal((await post(`${classifier.url}/predict`, good)).status, 200, 'it lives')
  assert.equal(classifier.log(), '', 'no mistake of a client is one of the server')
})

test('a forecaster streams its steps, and follows rows as they come', async () => {
  const values = rows(waves(300))
  const columns = { a: values.map((row) => Number(row[1])), b: values.map((row) => Number(row[2])) }
  const steps = lines(await (await post(`${forecaster.url}/forecast`, { columns })).text())
  assert.deepEqual(
    steps.map(({ step }) => step),
    [1, 2, 3, 4],
  )
  assert.ok(steps.every(({ a, b }) => Number.isFinite(a) && Number.isFinite(b)))
  const refused = await post(`${forecaster.url}/forecast`, { columns: { a: columns.a } })
  assert.equal(refused.status, 400)
  assert.match(await refused.text(), /column 'b'/)

  // One row at a time: each is answered before the next is sent.
  const answers: Record<string, unknown>[] = []
  let send: ReadableStreamDefaultController<Uint8Array> | undefined
  const body = new ReadableStream<Uint8Array>({ start: (controller) => void (send = controller) })
  const push = (row: unknown) => send?.enqueue(new TextEncoder().encode(`${JSON.stringify(row)}\n`))
  push({ a: columns.a[0], b: columns.b[0] })
  const response = await fetch(`${forecaster.url}/stream`, {
    method: 'POST',
    body,
    duplex: 'half',
  } as RequestInit)
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  for (let t = 0; t < 20; t++) {
    const { value } = await reader.read()
    answers.push(...lines(value as string))
    if (t < 19) push({ a: columns.a[t + 1], b: t === 9 ? null : columns.b[t + 1] })
  }
  assert.deepEqual(
    answers.map(({ row }) => row),
    Array.from({ length: 20 }, (_, t) => t),
  )
  push({ a: 'x' })
  assert.match((await reader.read()).value as string, /"error":".*row with a number for 'a'/)
  send?.close()
  assert.equal((await post(`${forecaster.url}/stream`, '{"a":"x"}\n')).status, 400)
  assert.equal((await post(`${forecaster.url}/stream`, 'x'.repeat(1 << 20))).status, 413)
  const odd = JSON.stringify({ columns: { a: { length: 2 ** 31 - 1, 0: 1 } } })
  assert.equal((await post(`${forecaster.url}/forecast`, odd)).status, 400)
  assert.equal(forecaster.log(), '')
})

test('it ends when it is told to', async () => {
  const exit = once(forecaster.child, 'exit')
  forecaster.child.kill('SIGTERM')
  const [code, signal] = (await exit) as [number | null, string | null]
  assert.deepEqual([code, signal], [0, null])
})
