/** Saves a forecaster in one file and loads it: the checkpoint of its network, whose field `extra` holds the scale of the series as JSON. */
import { SequenceModel, type DeviceOptions } from 's4-node'
import { Forecaster, type SeriesAbout } from './forecaster.js'

export async function saveForecaster({ model, about }: Forecaster, path: string): Promise<void> {
  await model.save(path, { extra: JSON.stringify({ series: about }) })
}

export async function loadForecaster(path: string, options: DeviceOptions): Promise<Forecaster> {
  const model = await SequenceModel.load(path, options)
  const about =
    model.extra === undefined ? undefined : (JSON.parse(model.extra) as { series?: SeriesAbout }).series
  if (about === undefined) {
    model.dispose()
    throw new Error(
      `${path} is a model, but not one of \`s4 train\`: it does not say how its series is scaled`,
    )
  }
  return new Forecaster(model, about)
}
