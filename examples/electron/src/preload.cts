// Runs in the page's process, apart from the page. It hands the page its end of the channel and nothing else of Electron: with
// contextIsolation a port can only be posted.
import { ipcRenderer } from 'electron'

const loaded = new Promise<void>((resolve) => {
  addEventListener('load', () => resolve(), { once: true })
})

ipcRenderer.on('connect', (event) => {
  const { ports } = event
  void loaded.then(() => postMessage('connect', '*', ports))
})
