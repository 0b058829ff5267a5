// Rows of a table picked by token, and the gradient of the table.
#include "common/base.cuh"

// y (B, H, L) = table (V, H) at tokens (B, L).
KERNEL embedding(float* y, const float* table, const int* tokens, i64 n, i64 H, i64 L) {
  for (i64 i = index(); i < n; i += stride()) {
    const i64 t = i % L, h = i / L % H, b = i / L / H;
    y[i] = table[(i64)tokens[b * L + t] * H + h];
  }
}

// part (splits, V, H): gradient of each token's row of the table from one of `splits` equal ranges of the positions (b,
// t), added in their order. A thread adds for one token and one head. Block: 128 threads; grid (V, heads / 128,
// splits).
KERNEL embedding_backward(float* part, const float* dy, const int* tokens, i64 positions, int V, int H, i64 L) {
  const int v = blockIdx.x, h = blockIdx.y * 128 + threadIdx.x;
  const i64 each = (positions + gridDim.z - 1) / gridDim.z, first = blockIdx.z * each;
  const i64 last = min(first + each, positions);
  __shared__ int hit[128];
  float s = 0.f;
  for (i64 p0 = first; p0 < last; p0 += 128) {
    const i64 p = p0 + threadIdx.x;
    hit[threadIdx.x] = p < last && tokens[p] == v;
    const int any = __syncthreads_or(hit[threadIdx.x]);
    if (any && h < H)
      for (int k = 0; k < 128; ++k)
        if (hit[k]) {
          const i64 q = p0 + k;
          s += dy[(q / L * H + h) * L + q % L];
        }
    __syncthreads();
  }
  if (h < H) part[((i64)blockIdx.z * V + v) * H + h] = s;
}
