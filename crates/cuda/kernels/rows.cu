// One sample a row, as a stream's step has it: rows lie one after the other, and a weight is read for few of them. The
// tiles of gemm.cu would leave the chip idle, and each launch costs as much as the work: so one kernel does
//   y (B, M) = residual + gate(W f(x) + bias),  x (B, K), W (M or 2M with GLU, K),
// and a norm's row is one block's.
#include "pointwise.cuh"

// A warp an output, T rows of the batch at once; x of these rows, activated, is in shared memory (T·K floats).
template <int T>
DEV void rows_product(float* y, const float* x, const float* w, const float* bias, const float* residual, int B, int K,
                      int M, int glu, int before, int after) {
  extern __shared__ float4 memory[];
  float* a = (float*)memory;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int first = blockIdx.y * T, rows = min(T, B - first);
  for (int i = threadIdx.x; i < T * K; i += blockDim.x)
    a[i] = i < rows * K ? activate(before, x[(i64)first * K + i]) : 0.f;
  __syncthreads();
  const int m = blockIdx.x * warps + warp;
  if (m >= M) return;
  const float *w1 = w + (i64)m * K, *w2 = w + (i64)(m + (glu ? M : 0)) * K;
  float s[T] = {}, g[T] = {};
  if (K % 4 == 0 && ((u64)w & 15) == 0) {
    for (int k = 4 * lane; k < K; k += 128) {
      const float4 p = *(const float4*)(w1 + k), q = *(const float4*)(w2 + k);
#pragma unroll
      for (int t = 0; t < T; ++t) {
        const float4 v = *(const float4*)(a + t * K + k);
        s[t] += p.x * v.x + p.y * v.y + p.z * v.z + p.w * v.w;
        g[t] += q.x * v.x + q.y * v.y + q.z * v.z + q.w * v.w;
      }
    }
  } else {
    for (int k = lane; k < K; k += 32) {
#pragma unroll
      for (int t = 0; t < T; ++t) s[t] += w1[k] * a[t * K + k], g[t] += w2[k] * a[t * K + k];
    }
  }
#pragma unroll
  for (int t = 0; t < T; ++t) {
    s[t] = warp_sum(s[t]), g[t] = warp_sum(g[t]);
    if (lane != t || t >= rows) continue;
    const i64 at = (i64)(first + t) * M + m;
    const float z = s[t] + (bias ? bias[m] : 0.f);
    const float out = glu ? z * sigmoid(g[t] + (bias ? bias[m + M] : 0.f)) : activate(after, z);
    y[at] = out + (residual ? residual[at] : 0.f);
  }
}

#define ROWS(name, T)                                                                                                 \
  KERNEL name(float* y, const float* x, const float* w, const float* bias, const float* residual, int B, int K, int M, \
              int glu, int before, int after) {                                                                       \
    rows_product<T>(y, x, w, bias, residual, B, K, M, glu, before, after);                                            \
  }
ROWS(rows_1, 1)
ROWS(rows_8, 8)

// Layer norm of rows of H numbers; a block a row. stats (B, 2): mean, 1/σ.
KERNEL layer_norm_rows(float* y, float* stats, const float* x, const float* gamma, const float* beta, float eps, int H) {
  const i64 b = blockIdx.x;
  x += b * H, y += b * H;
  float s = 0.f;
  for (int h = threadIdx.x; h < H; h += blockDim.x) s += x[h];
  const float mean = block_sum(s) / H;
  s = 0.f;
  for (int h = threadIdx.x; h < H; h += blockDim.x) s += (x[h] - mean) * (x[h] - mean);
  const float rstd = 1.f / sqrtf(block_sum(s) / H + eps);
  for (int h = threadIdx.x; h < H; h += blockDim.x) y[h] = fmaf(gamma[h] * rstd, x[h] - mean, beta[h]);
  if (threadIdx.x == 0) stats[2 * b] = mean, stats[2 * b + 1] = rstd;
}
