import { type Tensor, type TensorLike } from './tensor.js';
/** Which measure the state remembers its input by. */
export type HippoKind = 'legs' | 'legt' | 'fourier';
/** HiPPO matrices in float64: A (N, N), B (N), P (rank, N) (paper eq. 2, Theorem 1). */
export declare function hippo(kind: HippoKind, n: number): {
    a: Tensor;
    b: Tensor;
    p: Tensor;
};
/** The diagonalised normal plus low-rank form in float64, half of the conjugate pairs, complex as trailing (re, im). */
export declare function nplr(kind: HippoKind, n: number): {
    lambda: Tensor;
    p: Tensor;
    b: Tensor;
    bUnclipped: Tensor;
};
/**
 * Linear convolution by FFT: u (batch, len, heads), kernel (channels, heads, kernelLen), d (channels, heads) →
 * (batch, len, channels·heads). Two-sided: the kernel has 2·channels rows, forward half first, y_t = Σ k0_j u_{t−j} + Σ k1_j u_{t+1+j}.
 */
export declare function fftConv(u: TensorLike, kernel: TensorLike, d?: TensorLike, options?: {
    twoSided?: boolean;
}): Tensor;
