import * as binding from '#binding'
import { callNative } from './error.js'

/** A device that this process can compute on. */
export interface Device {
  /** Name of the device: `'cpu'` or `'cuda:0'`. */
  id: string
  /** Kind of the device. */
  kind: 'cpu' | 'cuda'
  /** Of a CPU: number of cores. */
  threads?: number
  /** Of a CPU: the vector instructions that are used. */
  simd?: 'portable' | 'avx2' | 'avx512'
  /** Of a GPU: its name. */
  name?: string
  /** Of a GPU: bytes of memory. */
  memory?: number
  /** Of a GPU: compute capability, such as `'9.0'`. */
  capability?: string
  /** Of a GPU: CUDA version of the driver. */
  driver?: string
}

/** What this package can compute on, on this machine. */
export interface Diagnosis {
  /** Version of this package. */
  version: string
  /** Operating system. */
  platform: string
  /** Architecture of the processor. */
  arch: string
  /** Number formats that models may have. */
  dtypes: string[]
  /** The devices to compute on, the CPU first. */
  devices: Device[]
  /** A sentence on the state of CUDA: what was found, or why no GPU can be used. */
  cuda: string
  /** GPU architectures that this build has kernels for. */
  kernels: string[]
}

/**
 * Describes what this package can compute on, on this machine, and why no GPU can be used where that is so. It does not
 * throw for want of a GPU.
 */
export function diagnose(): Diagnosis {
  return JSON.parse(callNative(() => binding.diagnose())) as Diagnosis
}

/** The devices to compute on. */
export function devices(): Device[] {
  return diagnose().devices
}
