import * as binding from '#binding'
import { native } from './error.js'

/** A device that this process can compute on. */
export interface Device {
  /** `'cpu'`, `'cuda:0'`. */
  id: string
  /** What it is. */
  kind: 'cpu' | 'cuda'
  /** CPU: cores. */
  threads?: number
  /** CPU: instruction set of the hot loops. */
  simd?: 'portable' | 'avx2' | 'avx512'
  /** GPU: its name. */
  name?: string
  /** GPU: bytes of memory. */
  memory?: number
  /** GPU: compute capability, `'9.0'`. */
  capability?: string
  /** GPU: CUDA version of the driver. */
  driver?: string
}

/** What this machine offers, and in words why not more. */
export interface Diagnosis {
  /** Of this package. */
  version: string
  /** As `process.platform` says it. */
  platform: string
  /** As `process.arch` says it. */
  arch: string
  /** Number formats. */
  dtypes: string[]
  /** The devices to compute on, the CPU first. */
  devices: Device[]
  /** The state of CUDA, in words. */
  cuda: string
  /** GPU architectures that this build has kernels for. */
  kernels: string[]
}

/** What this machine offers, and in words why not more. Never throws for want of a GPU. */
export function diagnose(): Diagnosis {
  return JSON.parse(native(() => binding.diagnose())) as Diagnosis
}

/** The devices to compute on. */
export function devices(): Device[] {
  return diagnose().devices
}
