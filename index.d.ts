/**
 * S4 and S4D (Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces, arXiv 2111.00396):
 * layers with gradients, deep models, training, checkpoints and streaming inference on long sequences.
 */
export { S4Layer, type BackwardResult, type ForwardOptions, type ForwardResult, type StepResult, } from './api/layer.js';
export { S4Block, type OfficialConfig } from './api/block.js';
export { SequenceModel, type LoadOptions, type PredictOptions, type SaveOptions } from './api/model.js';
export { Stream, type PushOptions } from './api/stream.js';
export { AdamW } from './api/adamw.js';
export { constant, plateau, stepDecay, warmup, warmupCosine } from './api/train.js';
export type { AdamWOptions, EvaluateOptions, Metrics, Schedule, TrainEvent, TrainOptions, } from './api/train.js';
export { windows, type Batch, type Dataset, type Sample, type WindowOptions } from './api/dataset.js';
export { fftConv, hippo, nplr, type HippoKind } from './api/math.js';
export { readCsv, readSafetensors, writeSafetensors, type CsvOptions, type FileTensor } from './api/files.js';
export { devices, diagnose, type Device, type Diagnosis } from './api/device.js';
export { S4Error, type S4ErrorCode, type S4ErrorDetail } from './api/error.js';
export type { Parameter } from './api/handle.js';
export type { Activation, Algorithm, BlockOptions, DeviceOptions, LayerOptions, ModelOptions, S4BlockOptions, S4LayerOptions, SequenceModelOptions, Transform, } from './api/options.js';
export type { Dtype, Floats, Integers, Shape, Tensor, TensorLike } from './api/tensor.js';
