/**
 * S4 and S4D (Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces, arXiv 2111.00396):
 * layers with gradients, deep models, training, checkpoints and streaming inference on long sequences.
 */
export {
  S4Layer,
  type BackwardResult,
  type ForwardOptions,
  type ForwardResult,
  type StepResult,
} from './api/layer.js'
export { S4Block } from './api/block.js'
export type {
  FromOfficialOptions,
  OfficialConfig,
  OfficialModelConfig,
  ToOfficialOptions,
} from './api/official.js'
export { SequenceModel, type PredictOptions, type SaveOptions } from './api/model.js'
export { ModelStream, type PushOptions } from './api/stream.js'
export type { StreamedTensor, StreamTimeOptions } from './api/stream-times.js'
export { ModelStreams, type StreamsOptions } from './api/streams.js'
export { LiveStream } from './api/live-stream.js'
export type { SampleTransformOptions, TimedFrame, TimedOutputs } from './api/transforms.js'
export type {
  GenerateOptions,
  GeneratedStep,
  SamplingOptions,
  TokenOptions,
  TokenSequences,
} from './api/generate.js'
export type {
  Durations,
  InspectedLayer,
  Inspection,
  InspectionAdvice,
  InspectionOptions,
} from './api/inspection.js'
export type { AdviceKind } from './api/step-advice.js'
export type { SampleFormat } from './api/samples.js'
export type { AbortOptions } from './api/background.js'
export type { FilePath } from './api/check.js'
export { AdamW, type AdamWOptions, type LoopOptions, type OwnParameter } from './api/adamw.js'
export { joinGroup, ProcessGroup, type JoinOptions } from './api/group.js'
export type { ParameterGroup } from './api/groups.js'
export { schedules, type Schedule } from './api/schedules.js'
export type { F1Scores, Scores } from './api/scores.js'
export type { EvaluateOptions, Metrics, Progress, TrainEvent, TrainOptions } from './api/train.js'
export {
  windows,
  type Batch,
  type Dataset,
  type DatasetOfPass,
  type DatasetPass,
  type Sample,
  type WindowOptions,
} from './api/dataset.js'
export {
  fftConv,
  fftConvAsync,
  hippo,
  hippoAsync,
  nplr,
  nplrAsync,
  type FftConvOptions,
  type HippoKind,
  type HippoMatrices,
  type NplrForm,
} from './api/math.js'
export {
  readCsv,
  readCsvAsync,
  readSafetensors,
  readSafetensorsAsync,
  writeSafetensors,
  writeSafetensorsAsync,
  type CsvOptions,
  type FileTensor,
  type SafetensorsFile,
} from './api/files.js'
export {
  generators,
  type GeneratorOptions,
  type ListOpsExamples,
  type PathfinderExamples,
  type PictureOptions,
} from './api/generators.js'
export { readPictures, type PictureFileOptions, type Pictures } from './api/pictures.js'
export { devices, diagnose, type Device, type Diagnosis } from './api/device.js'
export { S4Error, type S4ErrorCode, type S4ErrorDetail } from './api/error.js'
export type { Counters, Parameter } from './api/handle.js'
export {
  choices,
  type Activation,
  type AlgorithmOptions,
  type BlockConfig,
  type BlockOptions,
  type DeviceOptions,
  type LayerConfig,
  type LayerOptions,
  type LoadOptions,
  type ModelConfig,
  type ModelOptions,
  type ParameterTransform,
  type S4BlockOptions,
  type S4LayerOptions,
  type SequenceModelOptions,
  type SsmAlgorithm,
} from './api/options.js'
export type { Dtype, Floats, Integers, Shape, Tensor, TensorLike } from './api/tensor.js'
