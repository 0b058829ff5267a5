/** The store through which ranks meet: client and server with each other, and each with those of PyTorch, where it is installed. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { connect, createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import test, { type ExecutionContext } from 'ava'
import { StoreClient } from '../api/store-client.js'
import { StoreServer } from '../api/store-server.js'

/** A Python with PyTorch: `S4_TORCH_PYTHON`, or python3 where it has it. */
const python = [process.env['S4_TORCH_PYTHON'], 'python3']
  .filter((path) => path !== undefined)
  .find((path) => spawnSync(path, ['-c', 'import torch.distributed as d; d.TCPStore']).status === 0)

/** A test with PyTorch; elsewhere it says why it is skipped. */
function torchTest(title: string, body: (t: ExecutionContext, python: string) => Promise<void>): void {
  test.serial(title, async (t) => {
    if (python !== undefined) return body(t, python)
    t.log('skipped: no Python with PyTorch (S4_TORCH_PYTHON)')
    return t.pass()
  })
}

const soon = () => performance.now() + 20_000
const bytes = (text: string) => Buffer.from(text)

test('keys are set, read, counted and deleted', async (t) => {
  const server = await StoreServer.listen(0)
  const a = await StoreClient.connect('127.0.0.1', server.port, soon())
  const b = await StoreClient.connect('localhost', server.port, soon())
  t.false(await b.check(['x']))
  a.set('x', bytes('one'))
  a.set('empty', bytes(''))
  t.true(await a.check(['x', 'empty']))
  t.is((await b.get('x')).toString(), 'one')
  t.is((await b.get('empty')).length, 0)
  t.false(await b.check(['x', 'y']))
  // Many questions at once, and a value of several pieces.
  const large = Buffer.alloc(3_000_001, 7)
  a.set('large', large)
  t.true(await a.check(['large']))
  const all = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? b.get('large') : b.get('x'))))
  t.true(all.every((value, i) => value.equals(i % 2 ? large : bytes('one'))))
  t.deepEqual([await a.add('n', 2), await b.add('n', 3), await a.add('n', -10)], [2, 5, -5])
  t.deepEqual([await a.delete('x'), await a.delete('x'), await a.check(['x'])], [true, false, false])
  await Promise.all([a.close(), b.close()])
  await server.close()
})

test('what does not speak the format is cut off, and others are served', async (t) => {
  const server = await StoreServer.listen(0)
  const good = await StoreClient.connect('127.0.0.1', server.port, soon())
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(1n << 60n)
  const magic = Buffer.of(0, 0xce, 0xf7, 0x85, 0x3c)
  const garbage = [
    bytes('GET / HTTP/1.1\r\n\r\n'),
    Buffer.of(0, 1, 2, 3, 4),
    Buffer.of(5),
    Buffer.concat([magic, Buffer.of(1), length]),
    Buffer.concat([magic, Buffer.of(77)]),
  ]
  for (const piece of garbage) {
    const socket = connect(server.port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.write(piece)
    await once(socket, 'close')
  }
  good.set('x', bytes('1'))
  t.is((await good.get('x')).toString(), '1')
  // A question for a key that is not set ends the connection, and is rejected.
  await t.throwsAsync(good.get('never'))
  await server.close()
})

test('a connection in pieces of a byte is understood', async (t) => {
  const server = await StoreServer.listen(0)
  const socket = connect({ port: server.port, host: '127.0.0.1', noDelay: true })
  const part = (text: string) => {
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(text.length))
    return Buffer.concat([length, bytes(text)])
  }
  const message = Buffer.concat([
    Buffer.of(0, 0xce, 0xf7, 0x85, 0x3c),
    Buffer.of(1),
    part('key'),
    part('value'),
    Buffer.of(3),
    part('key'),
  ])
  for (const byte of message) {
    socket.write(Buffer.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  let answer = Buffer.alloc(0)
  while (answer.length < 13) answer = Buffer.concat([answer, ((await once(socket, 'data')) as [Buffer])[0]])
  t.deepEqual(answer, part('value'))
  socket.destroy()
  await server.close()
})

test('a client without a server gives up in time, and tells of one that has gone', async (t) => {
  const server = await StoreServer.listen(0)
  const { port } = server
  const client = await StoreClient.connect('127.0.0.1', port, soon())
  const lost = new Promise<Error>((resolve) => (client.onLost = resolve))
  await server.close()
  t.true((await lost) instanceof Error)
  await t.throwsAsync(client.check(['x']))
  const began = performance.now()
  await t.throwsAsync(StoreClient.connect('127.0.0.1', port, performance.now() + 300))
  t.true(performance.now() - began < 10_000)
})

test('a client that is closed has no question open, and a signal ends a connection attempt', async (t) => {
  // It takes connections and says nothing.
  const silent = createServer(() => undefined).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const client = await StoreClient.connect('127.0.0.1', port, soon())
  const question = client.check(['x'])
  const began = performance.now()
  await Promise.all([client.close(), t.throwsAsync(question, { message: 'closed' })])
  t.true(performance.now() - began < 20_000)
  silent.close()
  // An address of documentation, to which no packet comes; where there is no network at all the attempts fail at once.
  const attempt = StoreClient.connect('192.0.2.1', 9, soon(), 60_000, AbortSignal.timeout(200))
  await t.throwsAsync(attempt, { any: true })
  t.true(performance.now() - began < 19_000)
})

test('a large value that arrives in small pieces takes time by its size', async (t) => {
  const server = await StoreServer.listen(0, '127.0.0.1')
  const socket = connect(server.port, '127.0.0.1')
  const client = await StoreClient.connect('127.0.0.1', server.port, soon())
  const length = (n: number) => {
    const bytes64 = Buffer.alloc(8)
    bytes64.writeBigUInt64LE(BigInt(n))
    return bytes64
  }
  const size = 24 << 20
  const head = [Buffer.of(0, 0xce, 0xf7, 0x85, 0x3c), Buffer.of(1), length(1), bytes('k'), length(size)]
  const began = performance.now()
  socket.write(Buffer.concat(head))
  const piece = Buffer.alloc(16 << 10, 5)
  for (let i = 0; i < size / piece.length; i++) if (!socket.write(piece)) await once(socket, 'drain')
  while (!(await client.check(['k']))) await new Promise((resolve) => setTimeout(resolve, 20))
  t.is((await client.get('k')).length, size)
  // A copy of all that is there with each piece would be some 18 GB at the server, and 5 GB at the client.
  t.true(performance.now() - began < 30_000)
  socket.destroy()
  await client.close()
  await server.close()
})

/** A Python program, and its lines. */
function run(path: string, program: string): { child: ChildProcess; line: () => Promise<string> } {
  const child = spawn(path, ['-u', '-c', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  return { child, line: async () => (await lines.next()).value as string }
}

torchTest("the client speaks with PyTorch's store", async (t, path) => {
  for (const libuv of ['True', 'False']) {
    const { child, line } = run(
      path,
      `
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=${libuv})
store.set("theirs", "from python")
print(store.port)
print(store.get("ours").decode(), store.add("n", 5), store.check(["gone"]))
sys.stdin.read()
`,
    )
    const client = await StoreClient.connect('127.0.0.1', Number(await line()), soon())
    // PyTorch puts a slash before every key.
    t.is((await client.get('/theirs')).toString(), 'from python')
    t.is(await client.add('/n', 2), 2)
    client.set('/gone', bytes('x'))
    t.true(await client.check(['/gone', '/n']))
    t.true(await client.delete('/gone'))
    t.false(await client.check(['/gone']))
    client.set('/ours', bytes('from node'))
    t.is(await line(), 'from node 7 False')
    await client.close()
    child.stdin!.end()
    await once(child, 'exit')
  }
})

torchTest("PyTorch's client speaks with the server", async (t, path) => {
  const server = await StoreServer.listen(0)
  server.set('/theirs', bytes('from node'))
  const { child, line } = run(
    path,
    `
from datetime import timedelta
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", ${server.port}, is_master=False, timeout=timedelta(seconds=20))
store.set("ours", "from python")
print(store.get("theirs").decode(), store.add("n", 4), store.check(["nothing"]), store.delete_key("n"))
store.wait(["later"])
print(store.get("later").decode())
try:
    store.wait(["never"], timedelta(milliseconds=200))
except Exception as e:
    print(type(e).__name__)
print(store.get("later").decode())
`,
  )
  t.is(await line(), 'from node 4 False True')
  const client = await StoreClient.connect('127.0.0.1', server.port, soon())
  t.is((await client.get('/ours')).toString(), 'from python')
  client.set('/later', bytes('now'))
  t.is(await line(), 'now')
  t.regex(await line(), /Error/)
  t.is(await line(), 'now')
  await once(child, 'exit')
  await client.close()
  await server.close()
})
