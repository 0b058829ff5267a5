// The main process: a window, and a process of its own for the model, so that neither a long computation nor a crash of a GPU's
// driver touches the window. It only hands each of them one end of a channel.
import { app, BrowserWindow, MessageChannelMain, utilityProcess, type UtilityProcess } from 'electron'
import { fileURLToPath } from 'node:url'

const below = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Starts the process that computes, and again whenever it has ended otherwise than with 0. */
function startCompute(window: BrowserWindow): UtilityProcess {
  const compute = utilityProcess.fork(below('compute.js'), [], { serviceName: 's4-node' })
  const connect = () => {
    const { port1, port2 } = new MessageChannelMain()
    compute.postMessage('connect', [port1])
    window.webContents.postMessage('connect', null, [port2])
  }
  compute.once('spawn', () => {
    connect()
    // A page that is loaded again needs a new channel.
    window.webContents.on('did-finish-load', connect)
  })
  compute.once('exit', (code) => {
    if (window.isDestroyed()) return
    window.webContents.off('did-finish-load', connect)
    if (code !== 0) startCompute(window)
  })
  window.once('closed', () => compute.kill())
  return compute
}

async function open(): Promise<void> {
  const window = new BrowserWindow({
    width: 900,
    height: 500,
    // contextIsolation and sandbox are Electron's defaults, said here because the example relies on neither being off.
    webPreferences: {
      preload: below('preload.cjs'),
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
    },
  })
  await window.loadFile(below('../index.html'))
  startCompute(window)
}

app.on('window-all-closed', () => app.quit())
// No await here: Electron is ready only when this module has ended.
void app.whenReady().then(open)
