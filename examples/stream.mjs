// The same weights as a recurrent network: constant memory, any chunk size, and a state that can be kept, copied, and put back.
import { SequenceModel } from 's4-node'

const model = await SequenceModel.create({
  input: 1,
  output: 1,
  features: 16,
  layers: 2,
  state: 32,
  loss: 'mse',
})
const signal = Float32Array.from({ length: 1000 }, (_, t) => Math.sin(t / 20))
const whole = await model.predict({ data: signal, shape: [1, signal.length, 1] })

const stream = model.stream({ batch: 1 })
const out = []
for (const value of signal.subarray(0, 500))
  out.push(...stream.push({ data: [value], shape: [1, 1, 1] }).data) // one sample at a time
const fork = stream.fork() // an independent future from here
out.push(...stream.push({ data: signal.subarray(500), shape: [1, 500, 1] }).data) // and the rest at once

const worst = Math.max(...out.map((value, t) => Math.abs(value - whole.data[t])))
console.log(`${out.length} outputs, streamed − predicted at most ${worst.toExponential(1)}`)
console.log('what if it stayed at zero?', fork.push({ data: new Float32Array(3), shape: [1, 3, 1] }).data)

fork.dispose()
stream.dispose()
model.dispose()
