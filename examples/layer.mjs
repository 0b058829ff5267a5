// One S4 layer by itself: the convolution, its gradients, the same map as a recurrence, and the kernel.
import { S4Layer } from 's4-node'

const [batch, len, features] = [2, 200, 8]
const layer = new S4Layer({ features, state: 64, mode: 's4', init: 'legs' })

// u and y are (batch, len, features); anything shaped { data, shape } will do
const u = {
  data: Float32Array.from({ length: batch * len * features }, (_, i) => Math.sin(i / 7)),
  shape: [batch, len, features],
}
const { y, state } = layer.forward(u)

// gradients of ½‖y‖²: du for the input, and one for every parameter
const { du } = layer.backward(y)
for (const { name, shape, grad } of layer.parameters())
  console.log(name.padEnd(16), JSON.stringify(shape).padEnd(12), norm(grad.data).toFixed(3))
console.log('‖du‖'.padEnd(29), norm(du.data).toFixed(3))

// sample by sample, with a state of `state` real numbers a feature: the same outputs and the same last state
let carried = layer.initialState(batch)
const stepped = new Float32Array(y.data.length)
for (let t = 0; t < len; t++) {
  const out = layer.step({ data: at(u, t), shape: [batch, features] }, carried)
  for (let b = 0; b < batch; b++)
    stepped.set(out.y.data.subarray(b * features, (b + 1) * features), (b * len + t) * features)
  carried = out.state
}
console.log(
  'recurrence − convolution:',
  distance(stepped, y.data).toExponential(1),
  'state:',
  distance(carried.data, state.data).toExponential(1),
)

console.log('kernel', layer.kernel(1024).shape)
layer.dispose()

function at({ data }, t) {
  const frame = new Float32Array(batch * features)
  for (let b = 0; b < batch; b++)
    frame.set(data.subarray((b * len + t) * features, (b * len + t + 1) * features), b * features)
  return frame
}
function norm(x) {
  return Math.hypot(...x)
}
function distance(a, b) {
  return norm(a.map((value, i) => value - b[i])) / norm(b)
}
