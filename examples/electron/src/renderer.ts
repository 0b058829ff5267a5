// The page: no Node, no native code. It sends samples through the port and draws what comes back.
import type { Answer, Ask } from './messages.js'

const canvas = document.querySelector('canvas')!
const status = document.querySelector('output')!
const pen = canvas.getContext('2d')!

let port: MessagePort | undefined
let timer: ReturnType<typeof setInterval> | undefined
let sent = 0

function draw(values: Float32Array, color: string): void {
  pen.strokeStyle = color
  pen.beginPath()
  values.forEach((value, i) =>
    pen.lineTo((i / values.length) * canvas.width, (0.5 - value / 4) * canvas.height),
  )
  pen.stroke()
}

/** 64 samples of a sine, five times a second. */
function ask(): void {
  const samples = Float32Array.from({ length: 64 }, (_, i) => Math.sin((sent * 64 + i) / 9))
  const message: Ask = { id: sent++, samples }
  port?.postMessage(message)
  pen.clearRect(0, 0, canvas.width, canvas.height)
  draw(samples, 'gray')
}

function show(answer: Answer): void {
  if ('predicted' in answer) {
    draw(answer.predicted, 'teal')
    status.textContent = `${(answer.id + 1) * 64} samples streamed`
  } else status.textContent = `${answer.code}: ${answer.message}`
}

addEventListener('message', ({ source, data, ports: [given] }) => {
  // From the preload script of this very window, and from no frame in it.
  if (source !== window || data !== 'connect' || given === undefined) return
  port?.close()
  port = given
  port.addEventListener('message', (message) => show(message.data as Answer))
  port.start()
  clearInterval(timer)
  timer = setInterval(ask, 200)
})
