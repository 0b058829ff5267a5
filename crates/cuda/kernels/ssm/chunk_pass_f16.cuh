// The chunk pass of chunk_pass.cu for one input and one output channel, in split f16 (split16.cuh), from compute
// capability 8.0 on: the same arguments, fragments and rows; what differs is how a block gets its operands.
//
// The matrices of a head are split once per block and stay in shared memory; x is loaded one chunk ahead by
// asynchronous copies; a warp owns 16 segments, the rows of X and S, and keeps their states in registers. Powers of
// two: each row of X and of S has its own in each chunk, each matrix one for all its elements, and accumulators change
// from one to another exactly. States are always computed by three products of 16-bit numbers, outputs by PROD = 3 or
// 1.
//
// MODE: what a pass computes. A Unit multiplies: by warps (chunk_pass_f16.cu) or by warpgroups
// (chunk_pass_f16_sm90.cu).
#pragma once
#include "common/split16.cuh"
#include "ssm/chunk.cuh"

#if __CUDA_ARCH__ >= 800

constexpr int KT = T / 16;

// STATES: states only. LOWER: outputs too, from inputs at or before them (the lower triangle of Toep). UPPER: outputs
// from inputs at or after them.
constexpr int STATES = 0, LOWER = 1, UPPER = 2;

struct Pass {
  float* y;              // (B, H, L)
  const float* x;        // (B, H, L)
  const float4* frags;   // (H, toep | w | v | q)
  const float* init;     // (B, segments, H, NP): state entering each segment, or null: zero
  float* end;            // (B, segments, H, NP): state leaving each segment, or null
  float* states;         // (H, B, chunks, NP): state entering each chunk, or null
  float* state_at_end_chunk;            // (B, H, NP): state entering the end chunk, see end_chunk, or null
  const float* dstate_at_end_chunk;   // (B, H, NP): gradient of the state that enters the end chunk, from dstate_end (partial_chunk_backward);
                                      // an adjoint pass adds it to its state before it goes through the chunk ahead of that one, or at
                                      // its end where the end chunk is chunk 0. Or null
  const int* lengths;    // (B) or null
  int B, H, segments, chunks_per_segment, chunks, last_to_first, accumulate, vec;
  i64 L;
};

// One row of a warp's tile, a segment of sequence b: index of its first time step in x, and how many time steps follow
// there, up to the sequence's length (left) and up to L (allocated).
struct SegmentRow {
  i64 at, left, allocated;
  int b, seg;
};

// Largest magnitude in n fragments, by the block.
DEV float block_max(const float4* f, int n, float* part) {
  float m = 0.f;
  for (int e = threadIdx.x; e < n; e += blockDim.x) {
    const float4 v = f[e];
    m = fmaxf(m, fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
  }
  for (int k = 16; k; k >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, k));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = m;
  __syncthreads();
  for (int w = 0; w < (int)(blockDim.x >> 5); ++w) m = fmaxf(m, part[w]);
  return m;
}

#define EACH_STATE(n, u, v)                                                                     \
  _Pragma("unroll") for (int state_tile_ = 0, n = 2 * t; state_tile_ < NT; ++state_tile_, n += 8)                 \
    for (float &u = s[state_tile_][2 * r], &v = s[state_tile_][2 * r + 1], *once_ = &u; once_; once_ = nullptr)
#define EACH_ROW(r) _Pragma("unroll") for (int r = 0; r < 2; ++r)

template <class Unit, int NP, int MODE>
DEV void chunk_pass(const Pass& a) {
  constexpr int NT = NP / 8, KS = NP / 16, ROWS = 16, STAGE = ROWS * T / 4;
  constexpr int TT = KT * 8 * 32, ST = KS * 8 * 32, TS = KT * NT * 32, SS = KS * NT * 32;
  extern __shared__ uint4 memory[];
  __shared__ float part[32];
  Unit unit = {memory};
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, t = lane & 3;
  const int h = blockIdx.y, row_tile = blockIdx.x * warps + warp, segment_rows = a.B * a.segments;
  float4* ring = (float4*)(memory + Unit::MATRICES) + warp * 2 * STAGE;
  SegmentRow* row = (SegmentRow*)((float4*)(memory + Unit::MATRICES) + warps * 2 * STAGE) + warp * ROWS;

  int et, ew, ev, eq;
  {
    const float4* f = a.frags + (i64)h * (TT + ST + TS + SS);
    et = f16_exponent(block_max(f, TT, part), 24);
    ew = f16_exponent(block_max(f + TT, ST, part), 24);
    ev = f16_exponent(block_max(f + TT + ST, TS, part), 24);
    eq = f16_exponent(block_max(f + TT + ST + TS, SS, part), 24);
    if (MODE != STATES)
      for (int e = threadIdx.x; e < TT; e += blockDim.x) unit.template toep<MODE>(e, f[e], power_of_two(et));
    if (MODE != STATES)
      for (int e = threadIdx.x; e < ST; e += blockDim.x) unit.template w<MODE>(e, f[TT + e], power_of_two(ew));
    for (int e = threadIdx.x; e < TS; e += blockDim.x) unit.v(e, f[TT + ST + e], power_of_two(ev));
    for (int e = threadIdx.x; e < SS; e += blockDim.x) unit.q(e, f[TT + ST + TS + e], power_of_two(eq));
    unit.matrices_written();
  }
  for (int r = lane; r < ROWS; r += 32) {
    const int row_number = row_tile * ROWS + r;
    SegmentRow w = {0, 0, 0, 0, 0};
    if (row_number < segment_rows) {
      w.b = row_number / a.segments, w.seg = row_number % a.segments;
      const i64 from = (i64)w.seg * a.chunks_per_segment * T;
      w.at = ((i64)w.b * a.H + h) * a.L + from;
      w.left = (a.lengths ? (i64)a.lengths[w.b] : a.L) - from;
      w.allocated = a.L - from;
    } else {
      w.b = -1;
    }
    row[r] = w;
  }
  __syncthreads();
  if (row_tile / Unit::TOGETHER * Unit::TOGETHER * ROWS >= segment_rows) return;

  // x of chunk c → stage c % 2; 16-byte pieces p of odd rows lie at p ^ 4, so that reads have no conflicts.
  auto fetch = [&](int i, int stage) {
    float4* to = ring + stage * STAGE;
    if (a.vec) {
      const int piece = lane & 15;
#pragma unroll
      for (int k = 0; k < ROWS / 2; ++k) {
        const int r = 2 * k + (lane >> 4);
        const i64 at = (i64)i * T + 4 * piece, left = row[r].left - at;
        const int bytes = left >= 4 ? 16 : left > 0 ? 4 * (int)left : 0;
        copy_16(shared_address(to + r * 16 + (piece ^ ((r & 1) << 2))), a.x + (bytes ? row[r].at + at : 0), bytes);
      }
    } else {
      for (int k = 0; k < ROWS * 2; ++k) {
        const int r = k >> 1, j = lane + 32 * (k & 1);
        const i64 at = (i64)i * T + j;
        const int bytes = at < row[r].left ? 4 : 0;
        copy_4(shared_address((float*)(to + r * 16 + ((j >> 2) ^ ((r & 1) << 2))) + (j & 3)),
               a.x + (bytes ? row[r].at + at : 0), bytes);
      }
    }
  };

  // s[nt]: columns 8nt + 2t, +1 of rows g (0, 1) and g + 8 (2, 3).
  float s[NT][4] = {};
  if (a.init) {
    EACH_ROW(r) {
      const SegmentRow w = row[8 * r + g];
      if (w.b < 0) continue;
      const float* p = a.init + (((i64)w.b * a.segments + w.seg) * a.H + h) * NP;
      EACH_STATE(n, u, v) { u = p[n], v = p[n + 1]; }
    }
  }
  const bool marks = a.dstate_at_end_chunk || a.state_at_end_chunk || a.states;
  // The end chunk, which holds the first time step beyond the sequence, counted from the segment's first chunk.
  auto end_chunk = [&](const SegmentRow& w) { return (int)((w.left + (i64)w.seg * a.chunks_per_segment * T) / T) - w.seg * a.chunks_per_segment; };

  fetch(a.last_to_first ? a.chunks_per_segment - 1 : 0, 0);
  copies_end_group();
  for (int step = 0; step < a.chunks_per_segment; ++step) {
    const int c = a.last_to_first ? a.chunks_per_segment - 1 - step : step;
    if (step + 1 < a.chunks_per_segment) fetch(a.last_to_first ? c - 1 : c + 1, (step + 1) & 1);
    copies_end_group();
    if (marks) {
      EACH_ROW(r) {
        const SegmentRow w = row[8 * r + g];
        if (w.b < 0) continue;
        if (a.dstate_at_end_chunk && c + 1 == end_chunk(w)) {
          const float* p = a.dstate_at_end_chunk + ((i64)w.b * a.H + h) * NP;
          EACH_STATE(n, u, v) { u += p[n], v += p[n + 1]; }
        }
        if (a.state_at_end_chunk && c == end_chunk(w)) {
          float* p = a.state_at_end_chunk + ((i64)w.b * a.H + h) * NP;
          EACH_STATE(n, u, v) { p[n] = u, p[n + 1] = v; }
        }
        const int global = w.seg * a.chunks_per_segment + c;
        if (a.states && global < a.chunks) {
          float* p = a.states + (((i64)h * a.B + w.b) * a.chunks + global) * NP;
          EACH_STATE(n, u, v) { *(float2*)(p + n) = make_float2(u, v); }
        }
      }
    }
    // S as split f16.
    int es[2];
    u32 high[KS][4], low[KS][4];
    EACH_ROW(r) {
      float m = 0.f;
#pragma unroll
      for (int n = 0; n < NT; ++n) m = fmaxf(m, fmaxf(fabsf(s[n][2 * r]), fabsf(s[n][2 * r + 1])));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
      es[r] = f16_exponent(m, 64);
      const float scale = power_of_two(es[r]);
#pragma unroll
      for (int n = 0; n < NT; ++n)
        split_f16(high[n / 2][2 * (n & 1) + r], low[n / 2][2 * (n & 1) + r], s[n][2 * r], s[n][2 * r + 1],
                 scale);
    }
    float y[8][4] = {};
#pragma unroll
    for (int n = 0; n < NT; ++n)
      for (int e = 0; e < 4; ++e) s[n][e] = 0.f;
    unit.template states<MODE>(s, y, high, low);
    wait_copies<1>();
    __syncwarp();
    const float4* x = ring + (step & 1) * STAGE + g * 16 + t;
    const int swap = (g & 1) << 2;
    int ex[2];
    EACH_ROW(r) {
      float m = 0.f;
#pragma unroll
      for (int k = 0; k < KT; ++k) {
        const float4 v = x[8 * r * 16 + ((4 * k) ^ swap)];
        m = fmaxf(fmaxf(m, fmaxf(fabsf(v.x), fabsf(v.y))), fmaxf(fabsf(v.z), fabsf(v.w)));
      }
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
      ex[r] = f16_exponent(m, 64);
      const float fs = power_of_two(ex[r] + ev - es[r] - eq), fy = power_of_two(ex[r] + et - es[r] - ew);
#pragma unroll
      for (int n = 0; n < NT; ++n) s[n][2 * r] *= fs, s[n][2 * r + 1] *= fs;
      if (MODE != STATES) {
#pragma unroll
        for (int n = 0; n < 8; ++n) y[n][2 * r] *= fy, y[n][2 * r + 1] *= fy;
      }
    }
    // X as split f16, sixteen steps at a time.
    auto splits = [&](int k, u32(&xh)[4], u32(&xl)[4]) {
      EACH_ROW(r) {
        const float4 v = x[8 * r * 16 + ((4 * k) ^ swap)];
        const float scale = power_of_two(ex[r]);
        split_f16(xh[r], xl[r], v.x, v.y, scale);
        split_f16(xh[2 + r], xl[2 + r], v.z, v.w, scale);
      }
    };
    unit.template inputs<MODE>(s, y, splits);
    __syncwarp();  // the stage may be filled again
    EACH_ROW(r) {
      const float fs = power_of_two(-ex[r] - ev);
#pragma unroll
      for (int n = 0; n < NT; ++n) s[n][2 * r] *= fs, s[n][2 * r + 1] *= fs;
      if (MODE == STATES) continue;
      const float fy = power_of_two(-ex[r] - et);
      const SegmentRow& w = row[8 * r + g];
      const i64 from = (i64)c * T, left = w.left - from, allocated = w.allocated - from;
      float* p = a.y + w.at + from;
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        // Written up to L; zero from the sequence's length on.
        const int at = 8 * n + 4 * t;
        const int n0 = Unit::template accumulator_of<MODE>(n), n1 = Unit::template accumulator_of<MODE>(n + 1);
        float o[4] = {y[n0][2 * r] * fy, y[n0][2 * r + 1] * fy, y[n1][2 * r] * fy, y[n1][2 * r + 1] * fy};
        if (at + 4 > left) {
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (at + e >= left) o[e] = 0.f;
        }
        if (a.vec && at + 4 <= allocated) {
          float4 v = make_float4(o[0], o[1], o[2], o[3]);
          if (a.accumulate) {
            const float4 u = *(const float4*)(p + at);
            v.x += u.x, v.y += u.y, v.z += u.z, v.w += u.w;
          }
          *(float4*)(p + at) = v;
        } else {
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (at + e < allocated) p[at + e] = a.accumulate ? p[at + e] + o[e] : o[e];
        }
      }
    }
  }
  EACH_ROW(r) {
    const SegmentRow w = row[8 * r + g];
    if (w.b < 0) continue;
    const int ends = (int)((w.left + (i64)w.seg * a.chunks_per_segment * T) / T);
    if (a.dstate_at_end_chunk && ends == 0 && w.seg == 0) {
      const float* p = a.dstate_at_end_chunk + ((i64)w.b * a.H + h) * NP;
      EACH_STATE(n, u, v) { u += p[n], v += p[n + 1]; }
    }
    if (a.state_at_end_chunk && w.seg == a.segments - 1 && (w.seg + 1) * a.chunks_per_segment == ends) {
      float* p = a.state_at_end_chunk + ((i64)w.b * a.H + h) * NP;
      EACH_STATE(n, u, v) { p[n] = u, p[n + 1] = v; }
    }
    if (a.end) {
      float* p = a.end + (((i64)w.b * a.segments + w.seg) * a.H + h) * NP;
      EACH_STATE(n, u, v) { p[n] = u, p[n + 1] = v; }
    }
  }
}

#define PASS(name, UNIT, NP, PROD, MODE)                                                                             \
  extern "C" __global__ void __launch_bounds__(512, 1) name(                                                        \
      float* y, const float* x, const float4* frags, const float* init, float* end, float* states, float* state_at_end_chunk,        \
      const float* dstate_at_end_chunk, const int* lengths, int B, int H, int segments, int chunks_per_segment, int chunks, int last_to_first,  \
      int accumulate, int vec, i64 L) {                                                                                     \
    chunk_pass<UNIT<NP, PROD>, NP, MODE>({y, x, frags, init, end, states, state_at_end_chunk, dstate_at_end_chunk, lengths, B, H, segments,       \
                                          chunks_per_segment, chunks, last_to_first, accumulate, vec, L});                               \
  }
#define PASSES(UNIT, NP)                        \
  PASS(states_##NP, UNIT, NP, 3, STATES)        \
  PASS(lower_##NP##_3, UNIT, NP, 3, LOWER)      \
  PASS(upper_##NP##_3, UNIT, NP, 3, UPPER)      \
  PASS(lower_##NP##_1, UNIT, NP, 1, LOWER)      \
  PASS(upper_##NP##_1, UNIT, NP, 1, UPPER)

#endif
