/** A device that this process can compute on. */
export interface Device {
    /** `'cpu'`, `'cuda:0'`. */
    id: string;
    kind: 'cpu' | 'cuda';
    /** CPU: cores, and the instruction set of the hot loops. */
    threads?: number;
    simd?: 'portable' | 'avx2' | 'avx512';
    /** GPU: name, bytes of memory, compute capability, CUDA version of the driver. */
    name?: string;
    memory?: number;
    capability?: string;
    driver?: string;
}
/** What this machine offers, and in words why not more. */
export interface Diagnosis {
    version: string;
    platform: string;
    arch: string;
    dtypes: string[];
    devices: Device[];
    /** The state of CUDA, in words. */
    cuda: string;
    /** GPU architectures that this build has kernels for. */
    kernels: string[];
}
/** What this machine offers, and in words why not more. Never throws for want of a GPU. */
export declare function diagnose(): Diagnosis;
/** The devices to compute on. */
export declare function devices(): Device[];
