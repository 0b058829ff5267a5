// A model that the official PyTorch S4 code trained, run without Python, and given back: node official.mjs epoch=9.ckpt back.safetensors
import { writeFile } from 'node:fs/promises'
import { SequenceModel } from 's4-node'

const [checkpoint, back] = process.argv.slice(2)
const model = await SequenceModel.fromOfficial(checkpoint) // a bare state dict needs { config }: that of train.py, as an object
console.log(model.config.layers, '×', model.config.features, model.notes)

const { input } = model.config
const y = await model.predict({ data: new Float32Array(100 * input).fill(0.5), shape: [1, 100, input] })
console.log('outputs', y.shape)

await writeFile(back, await model.toOfficial(checkpoint)) // safetensors.torch.load_file(…) gives the state dict
model.dispose()
