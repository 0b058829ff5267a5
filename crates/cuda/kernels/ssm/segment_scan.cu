// The scan over the segments of each sequence: from the final state of each segment that starts at zero to the state
// that enters each segment.
#include "common/base.cuh"

// init (B, segments, H, NP): s ← s·Qᵀ + e over the segments in order (last_to_first: in reverse), e what each segment
// adds by itself, s written before each. q (H, NP, NP) f32 is Qᵀ − 1, which multiplies from the right, s′[m] = s[m] +
// Σ_n s[n] q[n][m], so that slow modes, whose Q is near 1, lose nothing to its rounding, which would add up over
// thousands of segments. PARTS threads divide a column of q, which they use for SEQUENCES sequences, and read AHEAD
// segments in advance. Block: NP·PARTS threads; grid (B / SEQUENCES, H, directions).
template <int NP, int SEQUENCES, int PARTS>
DEV void scan(float* init, const float* e, const float* state0, const float* q, int B, int H, int segments, int last_to_first) {
  constexpr int AHEAD = 16 / SEQUENCES, OWN = NP / 4 / PARTS;
  __shared__ float4 s[2][SEQUENCES][NP / 4];
  const int b0 = blockIdx.x * SEQUENCES, h = blockIdx.y, m = threadIdx.x / PARTS, part = threadIdx.x % PARTS;
  float4 column[OWN];
#pragma unroll
  for (int n = 0; n < OWN; ++n) {
    const float* p = q + ((i64)h * NP + 4 * (n * PARTS + part)) * NP + m;
    column[n] = make_float4(p[0], p[NP], p[2 * NP], p[3 * NP]);
  }
  auto at = [&](int r, int k) {
    return (((i64)min(b0 + r, B - 1) * segments + (last_to_first ? segments - 1 - k : k)) * H + h) * NP + m;
  };
  float x[SEQUENCES], next[AHEAD][SEQUENCES];
#pragma unroll
  for (int r = 0; r < SEQUENCES; ++r) {
    x[r] = state0 ? state0[((i64)min(b0 + r, B - 1) * H + h) * NP + m] : 0.f;
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) next[k][r] = k < segments ? e[at(r, k)] : 0.f;
  }
  for (int k0 = 0; k0 < segments; k0 += AHEAD)
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      const int k = k0 + i;
      if (k >= segments) break;
#pragma unroll
      for (int r = 0; r < SEQUENCES; ++r)
        if (part == 0) {
          if (b0 + r < B) init[at(r, k)] = x[r];
          ((float*)s[k & 1][r])[m] = x[r];
        }
      __syncthreads();
#pragma unroll
      for (int r = 0; r < SEQUENCES; ++r) {
        float4 a = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
          const float4 v = s[k & 1][r][n * PARTS + part];
          a.x = fmaf(v.x, column[n].x, a.x), a.y = fmaf(v.y, column[n].y, a.y);
          a.z = fmaf(v.z, column[n].z, a.z), a.w = fmaf(v.w, column[n].w, a.w);
        }
        float change = (a.x + a.y) + (a.z + a.w);
#pragma unroll
        for (int o = 1; o < PARTS; o *= 2) change += __shfl_xor_sync(~0u, change, o);
        x[r] += change + next[i][r];
        if (k + AHEAD < segments) next[i][r] = e[at(r, k + AHEAD)];
      }
    }
}
// blockIdx.z = 1 is the anticausal direction of a bidirectional layer.
#define SCAN(name, NP, SEQUENCES, PARTS)                                                                                   \
  extern "C" __global__ void __launch_bounds__(NP * PARTS) name(                                                      \
      float* init, float* init1, const float* e, const float* e1, const float* state0, const float* q, int B, int H, \
      int segments, int last_to_first) {                                                                                    \
    const bool second = blockIdx.z == 1;                                                                              \
    scan<NP, SEQUENCES, PARTS>(second ? init1 : init, second ? e1 : e, state0, q, B, H, segments, second || last_to_first);      \
  }
SCAN(scan_32_1, 32, 1, 4)
SCAN(scan_64_1, 64, 1, 4)
SCAN(scan_128_1, 128, 1, 4)
SCAN(scan_32_4, 32, 4, 1)
SCAN(scan_64_4, 64, 4, 1)
SCAN(scan_128_4, 128, 4, 1)
