import { readFileSync } from 'node:fs'
import { SequenceModel, type OfficialModelConfig } from 's4-node'
import type { Command } from './command.js'

/** `import` is a word of the language. */
export const importOfficial: Command = {
  name: 'import',
  summary: 'make a checkpoint of this library of one that the official PyTorch S4 code wrote',
  operands: [
    { name: 'OFFICIAL', help: 'a checkpoint of the official code: .pt, .ckpt, safetensors' },
    { name: 'OUT.safetensors', help: 'the checkpoint to write' },
  ],
  options: [
    {
      name: 'config',
      kind: 'text',
      word: 'file',
      help: 'its configuration, in JSON',
      otherwise: 'what the checkpoint says',
    },
  ],
  notes: `OFFICIAL is a .pt or .ckpt file of the official train.py or example.py, or its tensors as safetensors; OUT is loaded by
SequenceModel.load. No code in OFFICIAL is run. What the tensors do not say is read from the hyper-parameters of a Lightning
checkpoint; --config FILE, in JSON, gives it where there are none: the configuration of train.py, or the options of its layer
with pooling (none, mean, last, first or sum), and for example.py prenorm. Hydra writes it as YAML beside a run:
python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)' < .hydra/config.yaml > config.json

A tensor or an option that has no counterpart is refused by its name. What had to be assumed is said on standard error.`,
  async run({ operands, values }) {
    const [official, out] = operands as [string, string]
    const file = values['config'] as string | undefined
    const config = file === undefined ? undefined : readConfig(file)
    using model = await SequenceModel.fromOfficial(official, { device: 'cpu', ...(config && { config }) })
    for (const note of model.notes) console.error(`assumed: ${note}`)
    await model.save(out, { optimizer: false })
    const { layers, features, state, mode, encoder, input, vocabulary, output, pooling } = model.config
    const from = encoder === 'embedding' ? `${vocabulary} tokens` : `${input} values`
    console.log(
      `${out}: ${mode}, ${layers} × ${features}, state ${state}, from ${from} to ${output}, pooling ${pooling}`,
    )
    return 0
  },
}

/** The configuration in a JSON file. */
function readConfig(file: string): OfficialModelConfig {
  const text = readFileSync(file, 'utf8')
  try {
    return JSON.parse(text) as OfficialModelConfig
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`, { cause: error })
  }
}
