// Reductions of x (B, H, L) over the valid time steps of each sequence, and their gradients.
#include "codes.cuh"
#include "common/base.cuh"

// Time step of the first largest of x[0 … n − 1], by one warp; NaN counts as largest.
DEV int warp_first_max(const float* x, int n) {
  const int lane = threadIdx.x & 31;
  auto before = [](float v, int i, float w, int j) {  // whether (v, i) wins over (w, j)
    const bool nv = v != v, nw = w != w;
    if (nv != nw) return nv;
    if (!nv && v != w) return v > w;
    return i < j;
  };
  float best = 0.f;
  int at = 0x7fffffff;
  for (int t = lane; t < n; t += 32)
    if (at == 0x7fffffff || before(x[t], t, best, at)) best = x[t], at = t;
  for (int k = 16; k; k >>= 1) {
    const float v = __shfl_xor_sync(~0u, best, k);
    const int i = __shfl_xor_sync(~0u, at, k);
    if (i != 0x7fffffff && (at == 0x7fffffff || before(v, i, best, at))) best = v, at = i;
  }
  return at;
}

// log((1/n) Σ e^x) of x[0 … n − 1], by one warp, relative to the largest x so that nothing overflows.
DEV float warp_log_mean_exp(const float* x, int n) {
  const float top = x[warp_first_max(x, n)];
  double total = 0;
  for (int t = threadIdx.x & 31; t < n; t += 32) total += exp((double)x[t] - top);
  return (float)(top + log(warp_sum(total) / n));
}

// y (B, H); kind: a POOLING_… of s4_backend. One warp for each of rows = B·H (sequence, head); block: 128 threads.
KERNEL pool(float* y, const float* x, const int* lengths, int kind, i64 rows, int H, i64 L) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31, n = sequence_len(lengths, (int)(r / H), (int)L);
  const float* p = x + r * L;
  float v = 0.f;
  if (kind == POOLING_MEAN || kind == POOLING_SUM) {
    const bool vec = L % 4 == 0 && aligned(x);
#pragma unroll 4
    for (int t = 4 * lane; t < n; t += 128) {
      float q[4];
      read4(q, p + t, n - t, vec && t + 4 <= n);
      v += (q[0] + q[1]) + (q[2] + q[3]);
    }
    v = warp_sum(v);
    if (kind == POOLING_MEAN) v /= n;
  } else if (kind == POOLING_LOG_MEAN_EXP) {
    v = warp_log_mean_exp(p, n);
  } else {
    v = p[kind == POOLING_LAST ? n - 1 : kind == POOLING_FIRST ? 0 : warp_first_max(p, n)];
  }
  if (lane == 0) y[r] = v;
}

// dx (B, H, L) from dy (B, H); 0 beyond each sequence's length. Warps as for pool.
KERNEL pool_backward(float* dx, const float* dy, const float* x, const int* lengths, int kind, i64 rows, int H, i64 L) {
  const i64 r = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (r >= rows) return;
  const int lane = threadIdx.x & 31, n = sequence_len(lengths, (int)(r / H), (int)L);
  const float d = dy[r];
  const int at = kind == POOLING_MAX ? warp_first_max(x + r * L, n) : kind == POOLING_LAST ? n - 1 : 0;
  if (kind == POOLING_LOG_MEAN_EXP) {
    const float y = warp_log_mean_exp(x + r * L, n);
    for (i64 t = lane; t < L; t += 32) dx[r * L + t] = t < n ? d / n * expf(x[r * L + t] - y) : 0.f;
    return;
  }
  const bool vec = L % 4 == 0 && aligned(dx), all = kind == POOLING_MEAN || kind == POOLING_SUM;
  const float v = kind == POOLING_MEAN ? d / n : d;
  for (i64 t = 4 * lane; t < L; t += 128) {
    float q[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = (all ? t + i < n : t + i == at) ? v : 0.f;
    write4(dx + r * L + t, q, L - t, vec);
  }
}
