/** The live page of `s4 train --live`: what it answers and what it does not, and in Chromium the curves and the button. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { request, type IncomingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { Forecaster } from 's4-node/tasks'
import { LivePage } from '../src/live/live.js'
import type { LiveMessage, LiveState } from '../src/live/messages.js'
import { LiveServer } from '../src/live/server.js'
import { Browser, chromium } from './chromium.js'
import { command, history, json, rows, s4, scratch, small, waves } from './helpers.js'

const folder = scratch('live')
const table = join(folder, 'waves.csv')
writeFileSync(table, waves(700))

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** One request, with headers as a browser of another page would send them. */
const ask = (port: number, path: string, headers: Record<string, string> = {}, method = 'GET') =>
  new Promise<Answer>((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, headers, method, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => (body += text))
      response.on('end', () =>
        resolve({ status: response.statusCode as number, headers: response.headers, body }),
      )
    })
    sent.on('error', reject)
    sent.end()
  })

const state: LiveState = {
  title: 't',
  plan: '',
  step: 0,
  of: 0,
  losses: [],
  epochs: [],
  kernels: undefined,
  forecast: undefined,
  confusion: undefined,
  ended: undefined,
  stopping: false,
}

test('without the token, by another host name or from another origin there is no answer', async () => {
  let stops = 0
  const page = { '': { type: 'text/html', body: 'the page' } }
  const live = await LiveServer.open(
    page,
    () => state,
    () => void stops++,
  )
  const { port, pathname, hostname } = new URL(live.url)
  assert.equal(hostname, '127.0.0.1')
  const at = Number(port)
  assert.match(pathname, /^\/[\w-]{32}\/$/)
  const right = await ask(at, pathname)
  assert.deepEqual([right.status, right.body], [200, 'the page'])
  assert.match(
    right.headers['content-security-policy'] as string,
    /default-src 'none'.*frame-ancestors 'none'/,
  )
  assert.equal(right.headers['referrer-policy'], 'no-referrer')
  const own = `127.0.0.1:${port}`
  const others: [string, Record<string, string>, string][] = [
    ['/', {}, 'GET'],
    ['/events', {}, 'GET'],
    ['/stop', {}, 'POST'],
    [`/${'A'.repeat(32)}/`, {}, 'GET'],
    [`${pathname.slice(0, -2)}/`, {}, 'GET'],
    [`${pathname}stop`, {}, 'GET'],
    [`${pathname}constructor`, {}, 'GET'],
    [`${pathname}../..`, {}, 'GET'],
    [pathname, {}, 'POST'],
    [pathname, { host: `evil.example:${port}` }, 'GET'],
    [pathname, { host: '127.0.0.1' }, 'GET'],
    [`${pathname}stop`, { host: `evil.example:${port}` }, 'POST'],
    [`${pathname}stop`, { origin: 'http://evil.example' }, 'POST'],
    [`${pathname}stop`, { origin: 'null' }, 'POST'],
    [`${pathname}events`, { origin: `https://${own}` }, 'GET'],
  ]
  for (const [path, headers, method] of others) {
    const { status, body } = await ask(at, path, headers, method)
    assert.deepEqual([status, body], [404, ''], `${method} ${path} ${JSON.stringify(headers)}`)
  }
  assert.equal(stops, 0)
  const pressed = await ask(at, `${pathname}stop`, { origin: `http://${own}` }, 'POST')
  assert.deepEqual([pressed.status, pressed.body, stops], [204, '', 1])
  // A browser that does not read holds nothing up, and all of it ends.
  const watching = ask(at, `${pathname}events`)
  await new Promise((resolve) => setTimeout(resolve, 50))
  live.send({ type: 'change', change: { plan: 'p' } })
  await live.close()
  const { body, headers } = await watching
  assert.match(headers['content-type'] as string, /^text\/event-stream/)
  assert.match(body, /^retry: 1000\ndata: \{"type":"state"/)
  assert.match(body, /data: \{"type":"change","change":\{"plan":"p"\}\}\n\n$/)
  await assert.rejects(ask(at, pathname), /ECONNREFUSED/)
})

/** Begins a training with a live page; gives its address, and a promise of its end. */
async function training(run: string, epochs: number) {
  const args = ['train', 'forecast', table, '--targets', 'a,b', '--horizon', '4', '--live', '--out', run]
  const long = ['--epochs', String(epochs), '--patience', String(epochs), ...small]
  const child = spawn(process.execPath, [command, ...args, ...long], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [stderr, stdout] = ['', '']
  const address = new Promise<string>((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      const found = /live: (http:\S+)\n/.exec(stderr)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.on('exit', () => reject(new Error(stderr)))
  })
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  const ended = new Promise<{ code: number | null; stderr: string; stdout: string }>((resolve) =>
    child.on('close', (code) => resolve({ code, stderr, stdout })),
  )
  return { url: await address, ended, child }
}

/** The forecast that a page was told of: before its rows and beside them is what the table says of them. */
function checkForecast(messages: string): void {
  const states = messages
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line) => JSON.parse(line.slice(6)) as LiveMessage)
  const told = states.flatMap((message) =>
    message.type === 'state'
      ? [message.state.forecast]
      : message.type === 'change'
        ? [message.change.forecast]
        : [],
  )
  const last = told.findLast((one) => one !== undefined)!
  assert.deepEqual(
    last.columns.map(({ name }) => name),
    ['a', 'b'],
  )
  const lines = rows(waves(700))
  for (const [i, { came, before, mean }] of last.columns.entries()) {
    assert.deepEqual([before, came.length, mean.length], [8, 12, 4])
    came.forEach((value, k) => {
      const want = Number(lines[last.row - before + k]![i + 1])
      assert.ok(Math.abs(value! - want) < 1e-3, `${value} in the place of ${want}`)
    })
    mean.forEach((value, k) => assert.ok(Math.abs(value - came[before + k]!) < 2, `${value}`))
  }
  // The validation part is rows 490 to 560.
  assert.ok(last.row > 490 && last.row < 560, String(last.row))
}

test('the button ends a training as if it had come to its end: a task file, figures, a report', async () => {
  const run = join(folder, 'pressed')
  const { url, ended } = await training(run, 100_000)
  const { port, pathname } = new URL(url)
  while (!existsSync(join(run, 'last.safetensors'))) await new Promise((resolve) => setTimeout(resolve, 20))
  const watching = ask(Number(port), `${pathname}events`)
  assert.equal((await ask(Number(port), `${pathname}stop`, {}, 'POST')).status, 204)
  const { code, stderr, stdout } = await ended
  assert.equal(code, 0, stderr)
  assert.match(stderr, /\(stopped\)/)
  assert.match(stdout, /errors over \d+ windows/)
  const messages = (await watching).body
  assert.match(messages, /"type":"state"/)
  assert.match(messages, /"ended":"Ended: /)
  checkForecast(messages)
  const end = history(run).at(-1) as { type: string; reason: string }
  assert.deepEqual([end.type, end.reason], ['end', 'stop'])
  assert.ok(existsSync(join(run, 'report.html')))
  assert.ok('scores' in json(join(run, 'result.json')))
  using forecaster = await Forecaster.load(join(run, 'best.safetensors'), { device: 'cpu' })
  assert.equal(forecaster.horizon, 4)
  assert.match(s4(['train', '--resume', run]).stderr, /has ended/)
})

const required = process.env['S4_CHROMIUM_REQUIRE'] === '1'
const skip =
  chromium === undefined && !required ? 'no Chromium is installed: the page is not looked at' : false

test(
  'in Chromium: curves and kernels while it learns; the button ends it with a saved checkpoint',
  { skip },
  async () => {
    assert.ok(chromium, 'S4_CHROMIUM_REQUIRE is set, and there is no Chromium')
    const run = join(folder, 'watched')
    const { url, ended } = await training(run, 100_000)
    const browser = new Browser()
    try {
      await browser.open(url)
      await browser.until(`document.querySelectorAll('#epochs tbody tr').length >= 3`)
      await browser.until(`document.querySelectorAll('#kernels path').length > 1`)
      assert.match(
        (await browser.value(`document.getElementById('status').textContent`)) as string,
        /^Update \d+ of \d+, epoch \d+$/,
      )
      for (const id of ['losses', 'figures', 'kernels'])
        assert.ok(Number(await browser.value(`document.getElementById('${id}').getBBox().width`)) > 400, id)
      // A forecast of each target beside what came: the line of four steps begins where that of the rows before ends.
      assert.equal(await browser.value(`document.querySelectorAll('#forecasts figure').length`), 2)
      for (const kind of ['came', 'mean'])
        assert.deepEqual(
          await browser.value(
            `JSON.stringify([...document.querySelectorAll('#forecasts .${kind}')].map((p) => p.getAttribute('d').split('L').length))`,
          ),
          JSON.stringify(kind === 'came' ? [12, 12] : [4, 4]),
        )
      const left = (kind: string) =>
        `document.querySelector('#forecasts .${kind}').getBoundingClientRect().left`
      assert.ok(Number(await browser.value(`${left('mean')} - ${left('came')}`)) > 100)
      assert.match(
        (await browser.value(`document.getElementById('forecast-name').textContent`)) as string,
        /^A forecast of the validation part after epoch \d+, from row 5\d\d on/,
      )
      assert.equal(await browser.value(`document.getElementById('confusions').hidden`), true)
      assert.doesNotMatch(
        (await browser.value('document.body.innerHTML')) as string,
        /NaN|undefined|Infinity/,
      )
      if (process.env['S4_PICTURE'] !== undefined)
        writeFileSync(process.env['S4_PICTURE'], Buffer.from(await browser.picture(), 'base64'))
      assert.equal(existsSync(join(run, 'result.json')), false)
      await browser.press('#stop')
      const { code, stderr } = await ended
      assert.equal(code, 0, stderr)
      assert.match(stderr, /\(stopped\)/)
      await browser.until(`document.getElementById('status').textContent.startsWith('Ended: ')`)
      assert.equal(await browser.value(`document.getElementById('stop').disabled`), true)
      assert.deepEqual(browser.complaints, [])
    } finally {
      await browser.close()
    }
    using forecaster = await Forecaster.load(join(run, 'best.safetensors'), { device: 'cpu' })
    assert.equal(forecaster.horizon, 4)
  },
)

test(
  'in Chromium: closing it changes nothing, and the process ends with the training',
  { skip },
  async () => {
    const [watched, alone] = [join(folder, 'closed'), join(folder, 'alone')]
    // The browser first: on a busy machine it takes longer to start than sixty epochs take.
    const browser = new Browser()
    let ended: Awaited<ReturnType<typeof training>>['ended']
    try {
      await browser.open('about:blank')
      const watch = await training(watched, 60)
      ended = watch.ended
      await browser.open(watch.url)
      await browser.until(`document.querySelectorAll('#epochs tbody tr').length >= 1`)
    } finally {
      await browser.close()
    }
    const { code, stderr } = await ended
    assert.equal(code, 0, stderr)
    const undisturbed = await training(alone, 60)
    assert.equal((await undisturbed.ended).code, 0)
    const losses = (run: string) => history(run).flatMap(({ type, loss }) => (type === 'epoch' ? [loss] : []))
    assert.equal(losses(watched).length, 60)
    assert.deepEqual(losses(watched), losses(alone))
  },
)

test('a page of a classifier is told which classes are taken for which', { skip }, async () => {
  const page = await LivePage.open(folder, 'classes', new AbortController())
  const browser = new Browser()
  try {
    await browser.open(page.url)
    const confusion = {
      classes: ['cat', 'dog'],
      counts: [
        [5, 2],
        [1, 9],
      ],
    }
    page.event({ type: 'step', epoch: 1, step: 1, of: 2, loss: 1 })
    page.event({
      type: 'epoch',
      epoch: 1,
      epochs: 2,
      loss: 1,
      accuracy: 14 / 17,
      best: true,
      seconds: 1,
      confusion,
    })
    await browser.until(`document.querySelectorAll('#confusion tbody tr').length === 2`)
    const cells = `JSON.stringify([...document.querySelectorAll('#confusion tr')].map((r) => [...r.children].map((c) => c.textContent)))`
    assert.deepEqual(JSON.parse((await browser.value(cells)) as string), [
      ['', 'cat', 'dog'],
      ['cat', '5', '2'],
      ['dog', '1', '9'],
    ])
    assert.equal(await browser.value(`document.querySelectorAll('#confusion .right').length`), 2)
    assert.equal(await browser.value(`document.getElementById('forecasts').hidden`), true)
  } finally {
    await browser.close()
    await page.close('done')
  }
})
