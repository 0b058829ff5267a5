// C = A·B (+ bias) for the matrices of dense layers: batched, any strides, on the tensor cores in the precision of f32
// (split TF32, mma.cuh).
//
// Operands are addressed as A(m, k) = a[m·am + k·ak] with one of the two strides 1, so one kernel for each combination
// of transposed operands serves forward and backward. Tiles of 128 × 128 × 16, 8 warps of 64 × 32 each.
#include "common/mma.cuh"

constexpr int TM = 128, TN = 128, TK = 16, PAD = 8;

constexpr int LOADS = TM * TK / 256;

// A thread's elements of a (TK × 128) tile on the way from global memory (`fetch`, before the product that hides the
// wait) to shared memory as tile[k][i] (`put`). KFAST: k has stride 1 in memory.
template <bool KFAST>
DEV void fetch(float (&r)[LOADS], const float* src, i64 si, i64 sk, int i0, i64 k0, int ni, i64 nk) {
#pragma unroll
  for (int l = 0; l < LOADS; ++l) {
    const int e = l * 256 + threadIdx.x;
    const int i = KFAST ? e / TK : e % TM, k = KFAST ? e % TK : e / TM;
    r[l] = i0 + i < ni && k0 + k < nk ? src[(i64)(i0 + i) * si + (k0 + k) * sk] : 0.f;
  }
}
template <bool KFAST>
DEV void put(float (*tile)[TM + PAD], const float (&r)[LOADS]) {
#pragma unroll
  for (int l = 0; l < LOADS; ++l) {
    const int e = l * 256 + threadIdx.x;
    tile[KFAST ? e % TK : e / TM][KFAST ? e / TK : e % TM] = r[l];
  }
}

// c[z][m][n] = Σ_k a[z][m, k] b[z][k, n] (+ bias). Grid: (tiles of n, tiles of m, batch · parts). The sum over k is cut
// into `parts` ranges, each of which writes an array of its own, `cpart` elements apart, for reduce_parts to add.
template <bool AK, bool BK>
DEV void gemm(float* c, const float* a, const float* b, const float* bias_m, const float* bias_n, int M, int N, i64 K,
              i64 am, i64 ak, i64 bk, i64 bn, i64 cm, i64 abatch, i64 bbatch, i64 cbatch, i64 cpart, int parts) {
  __shared__ float As[2][TK][TM + PAD], Bs[2][TK][TN + PAD];
  const int part = blockIdx.z % parts, z = blockIdx.z / parts;
  a += z * abatch, b += z * bbatch, c += z * cbatch + part * cpart;
  const int m0 = blockIdx.y * TM, n0 = blockIdx.x * TN;
  const i64 steps = (K + TK - 1) / TK, each = (steps + parts - 1) / parts;
  const i64 first = part * each, last = min(steps, first + each);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int wm = (warp & 1) * 64, wn = (warp >> 1) * 32;
  float acc[4][4][4] = {};
  float ra[LOADS], rb[LOADS];
  if (first < last) {
    fetch<AK>(ra, a, am, ak, m0, first * TK, M, K);
    fetch<BK>(rb, b, bn, bk, n0, first * TK, N, K);
    put<AK>(As[0], ra);
    put<BK>(Bs[0], rb);
  }
  __syncthreads();
  for (i64 s = first; s < last; ++s) {
    const int now = (s - first) & 1;
    if (s + 1 < last) {
      fetch<AK>(ra, a, am, ak, m0, (s + 1) * TK, M, K);
      fetch<BK>(rb, b, bn, bk, n0, (s + 1) * TK, N, K);
    }
#pragma unroll
    for (int k = 0; k < TK; k += 8) {
      FragB fb[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) fb[j] = frag_b(Bs[now][k + t][wn + 8 * j + g], Bs[now][k + t + 4][wn + 8 * j + g]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = wm + 16 * i + g;
        FragA fa = frag_a(As[now][k + t][m], As[now][k + t][m + 8], As[now][k + t + 4][m], As[now][k + t + 4][m + 8]);
#pragma unroll
        for (int j = 0; j < 4; ++j) mma(acc[i][j], fa, fb[j]);
      }
    }
    if (s + 1 < last) {
      put<AK>(As[now ^ 1], ra);
      put<BK>(Bs[now ^ 1], rb);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int m = m0 + wm + 16 * i + g + (e >> 1) * 8, n = n0 + wn + 8 * j + 2 * t + (e & 1);
        if (m < M && n < N) {
          float v = acc[i][j][e];
          if (bias_m) v += bias_m[m];
          if (bias_n) v += bias_n[n];
          c[m * cm + n] = v;
        }
      }
}

#define GEMM(name, AK, BK)                                                                                            \
  extern "C" __global__ void __launch_bounds__(256) name(                                                            \
      float* c, const float* a, const float* b, const float* bias_m, const float* bias_n, int M, int N, i64 K, i64 am, \
      i64 ak, i64 bk, i64 bn, i64 cm, i64 abatch, i64 bbatch, i64 cbatch, i64 cpart, int parts, int) {                 \
    gemm<AK, BK>(c, a, b, bias_m, bias_n, M, N, K, am, ak, bk, bn, cm, abatch, bbatch, cbatch, cpart, parts);        \
  }
GEMM(gemm_mn, false, false)
GEMM(gemm_kn, true, false)
GEMM(gemm_mk, false, true)
GEMM(gemm_kk, true, true)

// dst[i] += Σ_p src[p·n + i], in order of p.
KERNEL reduce_parts(float* dst, const float* src, i64 n, int parts) {
  for (i64 i = index(); i < n; i += stride()) {
    float s = 0.f;
    for (int p = 0; p < parts; ++p) s += src[p * n + i];
    dst[i] += s;
  }
}

// dst[m] += Σ_{b, n} x[b][m][n], x (batch, rows, len). One block per row m, whose threads go through all sequences' quads.
KERNEL row_sums(float* dst, const float* x, int batch, int rows, i64 len) {
  const int m = blockIdx.x;
  const bool vec = len % 4 == 0 && aligned(x);
  const int width = vec ? 4 : 1;
  const i64 quads = len / width, all = batch * quads;
  float s = 0.f;
#pragma unroll 4
  for (i64 q = threadIdx.x; q < all; q += blockDim.x) {
    const i64 b = quotient(q, quads), n = (q - b * quads) * width;
    float v[4];
    read4(v, x + (b * rows + m) * len + n, width, vec);
    s += (v[0] + v[1]) + (v[2] + v[3]);
  }
  s = block_sum(s);
  if (threadIdx.x == 0) dst[m] += s;
}

// dst[n] += Σ_m x[m][n], x (rows, width) with many rows. One block (32, 8) per 32 columns.
KERNEL col_sums(float* dst, const float* x, i64 rows, int width) {
  __shared__ float part[8][32];
  const int n = blockIdx.x * 32 + threadIdx.x;
  float s = 0.f;
  if (n < width)
    for (i64 m = threadIdx.y; m < rows; m += 8) s += x[m * width + n];
  part[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  if (threadIdx.y == 0 && n < width) {
    for (int k = 1; k < 8; ++k) s += part[k][threadIdx.x];
    dst[n] += s;
  }
}
