// Configurations of the official PyTorch S4 code: their types, their checks, and their form for the addon.
import {
  booleanOf,
  filePath,
  membersOf,
  oneOf,
  rejectUnknownOptions,
  textOf,
  type FilePath,
} from './check.js'
import { readGiven } from './error.js'
import {
  choices,
  nativeLoadOptions,
  DEVICE_OPTIONS,
  type LoadOptions,
  type NativeOptions,
  type ParameterTransform,
} from './options.js'

/**
 * Options of a layer of the official PyTorch S4 code that its state dicts do not say. They have the official names and
 * defaults.
 */
export interface OfficialConfig {
  /** Structure of A: diagonal plus low rank, or diagonal. */
  mode?: 'dplr' | 'nplr' | 's4' | 'diag' | 's4d'
  /** How continuous time becomes steps. */
  disc?: (typeof choices.discretization)[number]
  /** How inv_dt becomes the step size. */
  dt_transform?: ParameterTransform
  /** How A_real becomes −Re Λ. */
  real_transform?: ParameterTransform
  /** How A_imag becomes −Im Λ. */
  imag_transform?: ParameterTransform
  /** Whether outputs depend on later inputs too. */
  bidirectional?: boolean
  /** Activation after the SSM. */
  activation?: string
  /** What follows the linear: `'glu'`, or an activation. */
  final_act?: string
  /** Other options of the official code: one that this library does not have is refused, any other is not read. */
  [other: string]: unknown
}

/**
 * What the file of an official model does not say: the whole configuration of `train.py` (`model`, `decoder`, `task`,
 * `dataset`, …; `.hydra/config.yaml` of a run, as an object), or the options of its layer with these.
 */
export interface OfficialModelConfig extends OfficialConfig {
  /** What the decoder does with the time steps, where there is no configuration of the decoder. */
  pooling?: 'none' | 'mean' | 'last' | 'first' | 'sum'
  /** Whether the norm stands before the SSM: asked for with a model of `example.py`, where tensors do not tell. */
  prenorm?: boolean
}

/** Options of {@link SequenceModel.fromOfficial}. */
export interface FromOfficialOptions extends LoadOptions {
  /** The configuration. Default what a Lightning checkpoint holds under `hyper_parameters`. */
  config?: OfficialModelConfig
}

/** Options of {@link SequenceModel.toOfficial}. */
export interface ToOfficialOptions {
  /** The configuration with which {@link SequenceModel.fromOfficial} loaded the original. */
  config?: OfficialModelConfig
}

/** What the options of the official code may be, where they are given; its other options are left to the addon. */
const OFFICIAL: Readonly<Record<string, 'boolean' | 'text' | readonly string[]>> = {
  mode: ['dplr', 'nplr', 's4', 'diag', 's4d'],
  disc: choices.discretization,
  dt_transform: choices.transform,
  real_transform: choices.transform,
  imag_transform: choices.transform,
  bidirectional: 'boolean',
  activation: 'text',
  final_act: 'text',
  pooling: ['none', 'mean', 'last', 'first', 'sum'],
  prenorm: 'boolean',
}

/** A caller's configuration object as JSON; `undefined` where there is none. */
export function officialConfigText(op: string, config: unknown): string | undefined {
  if (config === undefined) return undefined
  const members = membersOf(op, 'config', config)
  for (const [name, kind] of Object.entries(OFFICIAL)) {
    const value = members[name]
    if (value === undefined) continue
    if (kind === 'boolean') booleanOf(op, name, value)
    else if (kind === 'text') textOf(op, name, value)
    else oneOf(op, name, value, kind)
  }
  return readGiven(op, 'config', () => JSON.stringify(members))
}

/** The arguments of {@link SequenceModel.fromOfficial} in the form that the addon takes. */
export function fromOfficialCall(
  op: string,
  path: unknown,
  options: FromOfficialOptions,
): Omit<NativeOptions, 'config'> & { file: string; json: string | undefined } {
  const { config, ...load } = rejectUnknownOptions(op, options, [...DEVICE_OPTIONS, 'config'])
  const { algorithm, host } = nativeLoadOptions(op, load)
  return { algorithm, host, json: officialConfigText(op, config), file: filePath(op, path) }
}

/** The arguments of {@link SequenceModel.toOfficial} in the form that the addon takes. */
export function toOfficialCall(
  op: string,
  original: FilePath,
  options: ToOfficialOptions,
): [file: string, json: string | undefined] {
  const { config } = rejectUnknownOptions(op, options, ['config'])
  return [filePath(op, original, 'a path for original'), officialConfigText(op, config)]
}
