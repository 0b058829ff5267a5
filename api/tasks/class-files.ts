// Inputs of a classifier that are in files.
import { readAudio } from '../data/audio.js'
import { fail } from '../error.js'
import { readPictures } from '../pictures.js'
import { givenInput, type GivenInput, type InputPlan } from './class-inputs.js'

/** The input in a file: a recording at the rate of the call, or a picture. */
export async function fileInput(
  op: string,
  path: string,
  { kind, sampleRate, sizes }: InputPlan,
  rate: number,
  signal: AbortSignal | undefined,
): Promise<GivenInput> {
  const what = 'each of inputs'
  if (kind === 'series')
    throw fail('ERR_S4_UNSUPPORTED', op, `${what} as values, of a classifier of series`, path)
  if (kind === 'audio') {
    const options = { sampleRate: Math.round(sampleRate / rate), mono: true, ...(signal && { signal }) }
    const { samples } = await readAudio(path, options)
    return givenInput(op, what, { data: samples, shape: [samples.length, 1] })
  }
  const colours = sizes[2] === undefined || sizes[2] === 1 ? 'grey' : sizes[2] === 3 ? 'rgb' : 'asStored'
  const { pixels, height, width, channels } = await readPictures([path], {
    colours,
    ...(signal && { signal }),
  })
  const shape = sizes.length === 2 ? [height, width] : [height, width, channels]
  return givenInput(op, what, { data: Float32Array.from(pixels, (v) => v / 255), shape })
}
