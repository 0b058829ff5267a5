// Linear layers of sequences of one time step, as in a stream. Weights are read for few sequences, so the tiles of
// gemm.cu would leave most of the chip idle, and a launch costs as much as the work: one kernel computes
//   y (B, M) = residual + gate(W f(x) + bias),  x (B, K), W (M or, with GLU, 2M; K).
#include "dense/activation.cuh"

// The sums over the warp of N values per lane, N a power of two: lane l gets the sum of v[l·N/32]. Each exchange halves
// the number of sums that a lane keeps.
template <int N>
DEV float warp_sums(float (&v)[N]) {
  const int lane = threadIdx.x & 31;
  int left = N;
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    if (left == 1) {
      v[0] += __shfl_xor_sync(~0u, v[0], o);
      continue;
    }
    left /= 2;
    const bool upper = lane & o;
#pragma unroll
    for (int i = 0; i < N / 2; ++i)
      if (i < left) {
        const float given = __shfl_xor_sync(~0u, upper ? v[i] : v[i + left], o);
        v[i] = (upper ? v[i + left] : v[i]) + given;
      }
  }
  return v[0];
}

// A warp computes OUTPUTS outputs of SEQUENCES sequences. Their f(x) is in shared memory (SEQUENCES·K floats). Weights
// are loaded DEPTH·128 columns before they are needed, the first of them before x is read. Grid (outputs, sequences /
// SEQUENCES).
template <int SEQUENCES, int OUTPUTS, int DEPTH>
DEV void matvec(float* y, const float* x, const float* w, const float* bias, const float* residual, int B, int K,
                      int M, int glu, int before, int after) {
  extern __shared__ float4 memory[];
  float* a = (float*)memory;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int first = blockIdx.y * SEQUENCES, rows = min(SEQUENCES, B - first), m = (blockIdx.x * warps + warp) * OUTPUTS;
  // Rows of the matrix W that this warp reads: of OUTPUTS outputs, then of their gates.
  const float* from[2 * OUTPUTS];
#pragma unroll
  for (int i = 0; i < 2 * OUTPUTS; ++i) from[i] = w + (i64)(min(m + i % OUTPUTS, M - 1) + (glu && i >= OUTPUTS ? M : 0)) * K;
  const bool vec = K % 4 == 0 && ((u64)w & 15) == 0;
  float4 next[DEPTH][2 * OUTPUTS];
  auto fetch = [&](float4 (&to)[2 * OUTPUTS], int k) {
#pragma unroll
    for (int i = 0; i < 2 * OUTPUTS; ++i)
      to[i] = k < K ? *(const float4*)(from[i] + k) : make_float4(0.f, 0.f, 0.f, 0.f);
  };
  if (vec)
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) fetch(next[d], 128 * d + 4 * lane);
  for (int i = threadIdx.x; i < SEQUENCES * K; i += blockDim.x)
    a[i] = i < rows * K ? activate(before, x[(i64)first * K + i]) : 0.f;
  __syncthreads();
  if (m >= M) return;
  float s[2 * OUTPUTS * SEQUENCES] = {};
  if (vec) {
    for (int k0 = 0; k0 < K; k0 += 128 * DEPTH) {
#pragma unroll
      for (int d = 0; d < DEPTH; ++d) {
        const int k = k0 + 128 * d + 4 * lane;
        if (k < K)
#pragma unroll
          for (int t = 0; t < SEQUENCES; ++t) {
            const float4 v = *(const float4*)(a + t * K + k);
#pragma unroll
            for (int i = 0; i < 2 * OUTPUTS; ++i) {
              const float4 p = next[d][i];
              s[i * SEQUENCES + t] += p.x * v.x + p.y * v.y + p.z * v.z + p.w * v.w;
            }
          }
        fetch(next[d], k + 128 * DEPTH);
      }
    }
  } else {
    for (int k = lane; k < K; k += 32) {
#pragma unroll
      for (int t = 0; t < SEQUENCES; ++t)
#pragma unroll
        for (int i = 0; i < 2 * OUTPUTS; ++i) s[i * SEQUENCES + t] += from[i][k] * a[t * K + k];
    }
  }
  // Lanes 0 … 15 hold the outputs, lanes 16 … 31 their gates.
  constexpr int EACH = 16 / (OUTPUTS * SEQUENCES);
  const float own = warp_sums(s), gate = __shfl_xor_sync(~0u, own, 16);
  const int which = lane / EACH, t = which % SEQUENCES, o = m + which / SEQUENCES;
  if (lane >= 16 || lane % EACH || t >= rows || o >= M) return;
  const i64 at = (i64)(first + t) * M + o;
  const float z = own + (bias ? bias[o] : 0.f);
  const float out = glu ? z * sigmoid(gate + (bias ? bias[o + M] : 0.f)) : activate(after, z);
  y[at] = out + (residual ? residual[at] : 0.f);
}

#define MATVEC(name, SEQUENCES, OUTPUTS, DEPTH)                                                                                    \
  KERNEL name(float* y, const float* x, const float* w, const float* bias, const float* residual, int B, int K, int M, \
              int glu, int before, int after) {                                                                       \
    matvec<SEQUENCES, OUTPUTS, DEPTH>(y, x, w, bias, residual, B, K, M, glu, before, after);                                \
  }
MATVEC(matvec_1, 1, 1, 4)
MATVEC(matvec_8, 8, 2, 2)
