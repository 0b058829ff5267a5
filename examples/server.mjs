// Serve a trained task over HTTP, without a framework: node server.mjs FILE [PORT]
//   POST /predict   { "inputs": [[…samples…], …] }                         a classifier: { "labels": […], "probabilities": […] }
//   POST /forecast  { "columns": { "OT": […] }, "known": { … } }           a forecaster: one line of JSON for each step ahead
//   POST /stream    lines of JSON, a row each: { "OT": 30.5 }               a forecaster: a line for each row, as it comes
//   GET  /health
// FILE is the best.safetensors of a run. Inputs that arrive within some milliseconds are classified together.
import { createServer } from 'node:http'
import { SequenceModel } from 's4-node'
import { Classifier, Forecaster } from 's4-node/tasks'

const [file, port = '8080'] = process.argv.slice(2)
/** Milliseconds that a request waits for others, inputs of one batch, bytes of a request, seconds until its body is there. */
const [WAIT, MOST_INPUTS, MOST_BYTES, MOST_SECONDS] = [5, 64, 16 << 20, 60]
/** Characters of a line of a stream. */
const MOST_OF_LINE = 1 << 16

const probe = await SequenceModel.load(file, { device: 'cpu' })
const { task } = JSON.parse(probe.extra ?? '{}')
probe.dispose()
const kinds = { classify: Classifier, forecast: Forecaster }
if (kinds[task] === undefined) throw new Error(`${file} is no classifier and no forecaster`)
const served = await kinds[task].load(file)

/** A mistake of the client: its status, and a sentence. */
class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/** Classifies what several requests bring together. */
const waiting = []
let timer
function classify(inputs) {
  return new Promise((resolve, reject) => {
    waiting.push({ inputs, resolve, reject })
    const count = waiting.reduce((sum, one) => sum + one.inputs.length, 0)
    if (count >= MOST_INPUTS) flush()
    else timer ??= setTimeout(flush, WAIT)
  })
}

async function flush() {
  clearTimeout(timer)
  timer = undefined
  const batch = waiting.splice(0)
  try {
    const answers = await served.predict(batch.flatMap(({ inputs }) => inputs))
    let at = 0
    for (const { inputs, resolve } of batch) resolve(answers.slice(at, (at += inputs.length)))
  } catch (error) {
    // One wrong input must not fail the requests beside it.
    if (batch.length === 1) return batch[0].reject(error)
    for (const { inputs, resolve, reject } of batch) served.predict(inputs).then(resolve, reject)
  }
}

/** The body of a request. What is too much is read on and dropped, so that the client gets its answer. */
function bodyOf(request) {
  return new Promise((resolve, reject) => {
    const pieces = []
    let bytes = 0
    request.on('data', (piece) => {
      bytes += piece.length
      if (bytes <= MOST_BYTES) pieces.push(piece)
      else reject(new Refused(413, `a body of at most ${MOST_BYTES} bytes`))
    })
    const late = setTimeout(() => reject(new Refused(408, 'the body takes too long')), MOST_SECONDS * 1000)
    request.on('close', () => clearTimeout(late))
    request.on('end', () => resolve(Buffer.concat(pieces)))
    request.on('error', reject)
  }).then((bytes) => parsed(bytes.toString('utf8')))
}

function parsed(text) {
  let value
  try {
    value = JSON.parse(text)
  } catch {
    throw new Refused(400, 'JSON was expected')
  }
  if (typeof value !== 'object' || value === null) throw new Refused(400, 'a JSON object was expected')
  return value
}

const send = (response, status, value) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
/** A line; waits where the client does not read. */
const line = (response, value) =>
  response.destroyed || response.write(`${JSON.stringify(value)}\n`)
    ? undefined
    : new Promise((resolve) => response.once('drain', resolve).once('close', resolve))
/** The lines of a body, as they come. */
async function* linesOf(request) {
  let rest = ''
  request.setEncoding('utf8')
  for await (const piece of request) {
    const lines = (rest + piece).split(/\r?\n/)
    rest = lines.pop()
    yield* lines
    if (rest.length > MOST_OF_LINE) throw new Refused(413, `lines of at most ${MOST_OF_LINE} characters`)
  }
  yield rest
}
/** Numbers of a row: null, as JSON has it, is a missing one. */
const row = (values) => Object.fromEntries(Object.entries(values).map(([name, x]) => [name, x ?? NaN]))

const routes = {
  'GET /health': async (_, response) =>
    send(response, 200, {
      task,
      ...(task === 'classify'
        ? { classes: served.classes }
        : { targets: served.targets, lookBack: served.lookBack }),
    }),
  'POST /predict': async (request, response) => {
    if (task !== 'classify') throw new Refused(404, 'this is a forecaster')
    const { inputs } = await bodyOf(request)
    // A text would be the path of a file of this machine.
    const isInput = (x) => Array.isArray(x) || Array.isArray(x?.data)
    const isList = Array.isArray(inputs) && inputs.length > 0 && inputs.every(isInput)
    if (!isList) throw new Refused(400, 'inputs: a list of lists of numbers')
    if (inputs.length > MOST_INPUTS) throw new Refused(413, `at most ${MOST_INPUTS} inputs`)
    const answers = await classify(inputs)
    send(response, 200, {
      labels: answers.map(({ label }) => label),
      probabilities: answers.map(({ probability }) => probability),
    })
  },
  'POST /forecast': async (request, response) => {
    if (task !== 'forecast') throw new Refused(404, 'this is a classifier')
    const { columns, known } = await bodyOf(request)
    if (
      ![columns, known ?? {}].every(
        (x) => typeof x === 'object' && x && Object.values(x).every(Array.isArray),
      )
    )
      throw new Refused(400, 'columns: lists of numbers by name; known as well')
    const made = await served.forecast(columns, known === undefined ? {} : { known })
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    for (let k = 0; k < served.horizon && !response.destroyed; k++)
      await line(response, {
        step: k + 1,
        ...Object.fromEntries(served.targets.map((name) => [name, made[name].mean[k]])),
      })
    response.end()
  },
  'POST /stream': async (request, response) => {
    if (task !== 'forecast') throw new Refused(404, 'this is a classifier')
    const live = served.stream()
    try {
      for await (const text of linesOf(request)) {
        if (response.destroyed) break
        if (text.trim() === '') continue
        const said = live.push(row(parsed(text)))
        if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/x-ndjson' })
        await line(response, said)
      }
    } finally {
      live.dispose()
    }
    response.end()
  },
}

const server = createServer(async (request, response) => {
  response.on('error', () => undefined)
  try {
    const [path] = request.url.split('?')
    const route = routes[`${request.method} ${path}`]
    if (route === undefined) throw new Refused(404, `one of ${Object.keys(routes).join(', ')}`)
    await route(request, response)
  } catch (error) {
    // What the client sent is its mistake; all else is told to the log alone.
    const status =
      error.status ?? (/^ERR_S4_(DATA|SHAPE|VALUE|DTYPE|NONFINITE|UNSUPPORTED)$/.test(error.code) ? 400 : 500)
    if (status === 500 && !request.destroyed) console.error(error)
    const said = { error: status === 500 ? 'the server failed' : error.message }
    if (response.headersSent) response.end(`${JSON.stringify(said)}\n`)
    else send(response, status, said)
    request.resume()
  }
})
// A stream goes on for as long as its client likes; bodies of other requests have a time of their own.
server.requestTimeout = 0
server.headersTimeout = MOST_SECONDS * 1000
server.keepAliveTimeout = MOST_SECONDS * 1000
server.listen(Number(port), '127.0.0.1', () =>
  console.log(`${task} at http://127.0.0.1:${server.address().port}`),
)
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    server.close(() => served.dispose())
    server.closeIdleConnections()
    setTimeout(() => server.closeAllConnections(), 1000).unref()
  })
