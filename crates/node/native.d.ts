/** What the addon exports: conversion only. The public API (index.ts) is the one to use. */
export type Floats = Float32Array | Float64Array
export type Data = Float32Array | Float64Array | Int32Array

export interface HostOptions {
  device?: string
  dtype?: string
  threads?: number
  precision?: string
  memoryLimit?: number
}

/** How one call runs. */
export interface CallOptions {
  state?: Floats
  lengths?: Int32Array
  rate?: number
  algorithm?: string
  training?: boolean
  wantState?: boolean
  save?: boolean
}

export interface Forward {
  y: Floats
  state?: Floats
}

export interface Backward {
  du?: Floats
  dstate?: Floats
}

export interface ParameterInfo {
  name: string
  shape: number[]
  group: string
}

export interface Counters {
  allocations: number
  hostWaits: number
  deviceMemory: number
}

export interface NamedArray {
  name: string
  shape: number[]
  data: Data
}

/** One batch of training or evaluation. */
export interface BatchInput {
  input: Data
  target: Data
  batch: number
  len: number
  lengths?: Int32Array
  weights?: Floats
  rate?: number
  algorithm?: string
}

export interface StepStats {
  step: number
  loss: number
  correct: number
  rows: number
  gradNorm: number
  lr: number
}

export interface Sums {
  loss: number
  correct: number
  rows: number
}

/** Cancels a queued call. */
export class Cancel {
  constructor()
  cancel(): void
}

export class NativeLayer {
  constructor(kind: string, config: string, host: HostOptions)
  static fromOfficialFile(path: string, config: string | undefined, host: HostOptions): NativeLayer
  static fromOfficial(tensors: NamedArray[], config: string, host: HostOptions): NativeLayer
  describe(): string
  forward(u: Data, batch: number, len: number, options: CallOptions, y: Floats): Floats | null
  forwardAsync(u: Data, batch: number, len: number, options: CallOptions, cancel?: Cancel): Promise<Forward>
  backward(dy: Data, dstate: Data | undefined, du: Floats): Floats | null
  backwardAsync(dy: Data, dstate: Data | undefined, cancel?: Cancel): Promise<Backward>
  step(u: Data, state: Data, interval: Data | undefined, batch: number, rate: number): Forward
  kernel(len: number, rate: number): Floats
  initialState(batch: number): Floats
  parameters(): ParameterInfo[]
  parameter(name: string): Floats
  gradient(name: string): Floats
  setParameter(name: string, value: Data): void
  zeroGrad(): void
  adamOpen(config: string): number
  adamUpdate(id: number, scale: number): number
  adamClose(id: number): void
  counters(): Counters
  dispose(): void
}

export class NativeModel {
  constructor()
  create(config: string, host: HostOptions): Promise<void>
  load(path: string, host: HostOptions): Promise<string | null>
  loadBytes(bytes: Uint8Array, host: HostOptions): Promise<string | null>
  save(path: string, optimizer: boolean, extra?: string): Promise<void>
  saveBytes(optimizer: boolean, extra?: string): Promise<Uint8Array>
  describe(): string
  outputShape(batch: number, len: number): number[]
  predict(x: Data, batch: number, len: number, options: CallOptions): Forward
  predictAsync(x: Data, batch: number, len: number, options: CallOptions, cancel?: Cancel): Promise<Forward>
  backward(doutput: Data, dstate?: Data): Backward
  kernel(block: number, len: number, rate: number): Floats
  trainBegin(config: string, resume: boolean): void
  trainStep(batch: BatchInput | undefined, cancel?: Cancel): Promise<void>
  trainAhead(batch: BatchInput): Promise<void>
  trainStats(): Promise<StepStats>
  trainEnd(): void
  accumulate(batch: BatchInput, cancel?: Cancel): Promise<void>
  update(cancel?: Cancel): Promise<StepStats>
  observe(metric: number): void
  resetState(): void
  swapAverage(): void
  evaluate(batch: BatchInput, cancel?: Cancel): Promise<Sums>
  streamOpen(batch: number, rate: number): number
  streamPush(id: number, x: Data, len: number, interval: Data | undefined, out: Floats): void
  streamPushAsync(id: number, x: Data, len: number, interval: Data | undefined, outLen: number, cancel?: Cancel): Promise<Floats>
  streamSave(id: number): Uint8Array
  streamRestore(id: number, bytes: Uint8Array): void
  streamFork(id: number): number
  streamReset(id: number): void
  streamPosition(id: number): number
  streamClose(id: number): void
  parameters(): ParameterInfo[]
  parameter(name: string): Floats
  gradient(name: string): Floats
  setParameter(name: string, value: Data): void
  zeroGrad(): void
  counters(): Counters
  dispose(): void
}

export function hippo(kind: string, n: number): NamedArray[]
export function nplr(kind: string, n: number): NamedArray[]
export function fftConv(
  u: Data,
  kernel: Data,
  d: Data | undefined,
  batch: number,
  heads: number,
  channels: number,
  len: number,
  kernelLen: number,
  twoSided: boolean,
): Floats
export function readSafetensors(path: string): { tensors: NamedArray[]; metadata: Record<string, string> }
export function writeSafetensors(path: string, tensors: NamedArray[], metadata: Record<string, string>): void
export function readColumn(
  path: string,
  name: string | undefined,
  place: number | undefined,
  gaps: string,
): Float64Array
export function diagnose(): string
