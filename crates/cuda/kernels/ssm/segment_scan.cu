// The scan over the segments of each sequence: from the final state of each segment that starts at zero to the state
// that enters each segment.
#include "common/split16.cuh"

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

#if __CUDA_ARCH__ >= 800

// As scan<64, …>, for sixteen sequences by one warp: s·q by the tensor cores, in three products of f16 pairs, with a power of two for each
// row of s and one for q. A pair holds 22 bits, and what it multiplies is the change of s alone. Grid (B / 16, H, directions); block: 32
// threads.
DEV void scan_by_products(float* init, const float* e, const float* state0, const float* q, int B, int H, int segments, int last_to_first) {
  constexpr int NP = 64, KS = NP / 16, NT = NP / 8;
  const int lane = threadIdx.x, g = lane >> 2, t = lane & 3, h = blockIdx.y;
  q += (i64)h * NP * NP;
  // Operand B of mma for k from 16k and the columns from 8n: rows 2t, 2t + 1 and 2t + 8, 2t + 9, column g.
  float m = 0.f;
  for (int i = lane; i < NP * NP / 4; i += 32) {
    const float4 v = ((const float4*)q)[i];
    m = fmaxf(fmaxf(m, fmaxf(fabsf(v.x), fabsf(v.y))), fmaxf(fabsf(v.z), fabsf(v.w)));
  }
  for (int k = 16; k; k >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, k));
  const int eq = m == 0.f ? 0 : f16_exponent(m, 64);
  const float scale_q = power_of_two(eq), back_q = power_of_two(-eq);
  u32 high[KS][NT][2], low[KS][NT][2];
#pragma unroll
  for (int k = 0; k < KS; ++k)
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float* p = q + (16 * k + 8 * i + 2 * t) * NP + 8 * n + g;
        split_f16(high[k][n][i], low[k][n][i], p[0], p[NP], scale_q);
      }
  // Rows g and g + 8 of the sixteen sequences.
  int b[2];
  i64 first[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    b[r] = blockIdx.x * 16 + 8 * r + g;
    first[r] = ((i64)min(b[r], B - 1) * segments * H + h) * NP + 2 * t;
  }
  auto at = [&](int r, int k) { return first[r] + (i64)(last_to_first ? segments - 1 - k : k) * H * NP; };
  float s[NT][4];
  float2 next[2][NT];
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const float2 x = state0 ? *(const float2*)(state0 + ((i64)min(b[r], B - 1) * H + h) * NP + 8 * n + 2 * t) : make_float2(0.f, 0.f);
      s[n][2 * r] = x.x, s[n][2 * r + 1] = x.y;
      next[r][n] = *(const float2*)(e + at(r, 0) + 8 * n);
    }
  for (int k = 0; k < segments; ++k) {
    float change[NT][4] = {}, back[2];  // back: what brings a row of s back, whose states may be gradients of 1e-30
    u32 sh[KS][4], sl[KS][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float m = 0.f;
#pragma unroll
      for (int n = 0; n < NT; ++n) {
        if (b[r] < B) *(float2*)(init + at(r, k) + 8 * n) = make_float2(s[n][2 * r], s[n][2 * r + 1]);
        m = fmaxf(m, fmaxf(fabsf(s[n][2 * r]), fabsf(s[n][2 * r + 1])));
      }
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
      const int es = m == 0.f ? 0 : f16_exponent(m, 110);
      const float scale = power_of_two(es);
      back[r] = power_of_two(-es);
#pragma unroll
      for (int n = 0; n < NT; ++n)
        split_f16(sh[n / 2][2 * (n & 1) + r], sl[n / 2][2 * (n & 1) + r], s[n][2 * r], s[n][2 * r + 1], scale);
    }
#pragma unroll
    for (int i = 0; i < KS; ++i)
#pragma unroll
      for (int n = 0; n < NT; ++n) {
        mma_f16(change[n], sl[i], high[i][n][0], high[i][n][1]);
        mma_f16(change[n], sh[i], low[i][n][0], low[i][n][1]);
        mma_f16(change[n], sh[i], high[i][n][0], high[i][n][1]);
      }
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int n = 0; n < NT; ++n) {
        s[n][2 * r] += fmaf(change[n][2 * r] * back_q, back[r], next[r][n].x);
        s[n][2 * r + 1] += fmaf(change[n][2 * r + 1] * back_q, back[r], next[r][n].y);
        if (k + 1 < segments) next[r][n] = *(const float2*)(e + at(r, k + 1) + 8 * n);
      }
  }
}
extern "C" __global__ void __launch_bounds__(32)
    scan_64_16(float* init, float* init1, const float* e, const float* e1, const float* state0, const float* q, int B, int H, int segments, int last_to_first) {
  const bool second = blockIdx.z == 1;
  scan_by_products(second ? init1 : init, second ? e1 : e, state0, q, B, H, segments, second || last_to_first);
}

#endif
