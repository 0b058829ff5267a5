// The chunk pass: with segments of sequences as rows of X, Y and S, chunks of T = 64 time steps and states of NP reals,
//   Y_c = X_c·Toepᵀ + S_c·Wᵀ,   S_{c+1} = S_c·Qᵀ + X_c·Vᵀ,
// and its adjoint, which is the same pass with other matrices, from the last chunk to the first:
//   dX_c = dY_c·Toep + dS_{c+1}·V,   dS_c = dY_c·W + dS_{c+1}·Q.
// Toep, V, W, Q: the table in crates/ssm/src/lib.rs.
//
// A warp owns 16 segments of one head, one per row; nothing is shared between warps. Matrices come as fragments
// (chunk_matrices.cu, `pack`): every read is 16 bytes per thread, in order, and stays in L1. The state never leaves
// registers: the accumulators of one chunk are the operands of the next.
#include "common/mma.cuh"
#include "ssm/chunk.cuh"

struct Pass {
  float* y;              // (B, out_channels, H, L), or null: states only
  const float* x;        // (B, in_channels, H, L)
  const float4* frags;   // (H, toep | w | v | q)
  const float* init;     // (B, segments, H, NP): state entering each segment, or null: zero
  float* end;            // (B, segments, H, NP): state leaving each segment, or null
  float* states;         // (H, B, chunks, NP): state entering each chunk, or null
  float* state_at_end_chunk;            // (B, H, NP): state entering the end chunk, see end_chunk, or null
  const float* dstate_at_end_chunk;   // (B, H, NP): gradient of the state that enters the end chunk, from dstate_end (partial_chunk_backward);
                                      // an adjoint pass adds it to its state before it goes through the chunk ahead of that one, or at
                                      // its end where the end chunk is chunk 0. Or null
  const int* lengths;    // (B) or null
  int B, H, in_channels, out_channels, segments, chunks_per_segment, chunks, last_to_first, lower, accumulate, vec;
  i64 L;
};

// Four values of one sequence, p, from time step t on; zero from len on.
DEV float4 load4(const float* p, i64 t, i64 len, bool vec) {
  if (vec && t + 4 <= len) return *(const float4*)(p + t);
  return make_float4(t < len ? p[t] : 0.f, t + 1 < len ? p[t + 1] : 0.f, t + 2 < len ? p[t + 2] : 0.f,
                     t + 3 < len ? p[t + 3] : 0.f);
}

// Writes (accumulate: adds) four values from time step t on: zero from len on, nothing from L on.
DEV void store4(float* p, i64 t, i64 len, i64 L, float4 v, bool vec, bool accumulate) {
  float o[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (t + i >= len) o[i] = 0.f;
  if (vec && t + 4 <= L) {
    float4* q = (float4*)(p + t);
    float4 w = make_float4(o[0], o[1], o[2], o[3]);
    if (accumulate) {
      float4 u = *q;
      w.x += u.x, w.y += u.y, w.z += u.z, w.w += u.w;
    }
    *q = w;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (t + i < L) p[t + i] = accumulate ? p[t + i] + o[i] : o[i];
  }
}

// The two state values of row r (0: g, 1: g + 8) that this thread holds in each tile: columns n and n + 1.
#define EACH_STATE(n, u, v)                                                                     \
  _Pragma("unroll") for (int state_tile_ = 0, n = 2 * t; state_tile_ < NT; ++state_tile_, n += 8)                 \
    for (float &u = s[state_tile_][2 * r], &v = s[state_tile_][2 * r + 1], *once_ = &u; once_; once_ = nullptr)

template <int NP>
DEV void chunk_pass(const Pass& a) {
  constexpr int NT = NP / 8, KS = NP / 16, KT = T / 16;
  constexpr int TT = KT * 8 * 32, ST = KS * 8 * 32, TS = KT * NT * 32, SS = KS * NT * 32;
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, h = blockIdx.y;
  // Number of the tile of 16 rows (segments of head h) that this warp takes.
  const int row_tile = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row_tile * 16 >= a.B * a.segments) return;
  const int nw = a.out_channels, nv = a.in_channels;
  const float4* frags = a.frags + (i64)h * (a.in_channels * a.out_channels * TT + nw * ST + nv * TS + SS) + lane;
  const float4 *toep = frags, *fw = toep + a.in_channels * a.out_channels * TT, *fv = fw + nw * ST, *fq = fv + nv * TS;

  int row_b[2], row_seg[2];
  i64 len[2];
  int end_chunk[2];  // the end chunk: the one that time step len falls in, i.e. chunk len / T, the first that the sequence does not fill
  bool row_exists[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = row_tile * 16 + g + 8 * r;
    row_exists[r] = row < a.B * a.segments;
    row_b[r] = row_exists[r] ? row / a.segments : 0;
    row_seg[r] = row_exists[r] ? row % a.segments : 0;
    len[r] = row_exists[r] ? (a.lengths ? (i64)a.lengths[row_b[r]] : a.L) : 0;
    end_chunk[r] = (int)(len[r] / T);
  }
  auto state_at = [&](int r) { return (((i64)row_b[r] * a.segments + row_seg[r]) * a.H + h) * NP; };
  auto end_chunk_at = [&](int r) { return ((i64)row_b[r] * a.H + h) * NP; };

  float s[NT][4] = {};
  // s[nt] holds columns 8nt + 2t, +1 of rows g (0, 1) and g + 8 (2, 3).
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (a.init && row_exists[r]) {
      const float* p = a.init + state_at(r);
      EACH_STATE(n, u, v) { u = p[n], v = p[n + 1]; }
    }

  for (int step = 0; step < a.chunks_per_segment; ++step) {
    const int i = a.last_to_first ? a.chunks_per_segment - 1 - step : step;
    int c[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      c[r] = row_seg[r] * a.chunks_per_segment + i;
      if (!row_exists[r]) continue;
      if (a.dstate_at_end_chunk && c[r] + 1 == end_chunk[r]) {
        const float* p = a.dstate_at_end_chunk + end_chunk_at(r);
        EACH_STATE(n, u, v) { u += p[n], v += p[n + 1]; }
      }
      if (a.state_at_end_chunk && c[r] == end_chunk[r]) {
        float* p = a.state_at_end_chunk + end_chunk_at(r);
        EACH_STATE(n, u, v) { p[n] = u, p[n + 1] = v; }
      }
      if (a.states && c[r] < a.chunks) {
        float* p = a.states + (((i64)h * a.B + row_b[r]) * a.chunks + c[r]) * NP;
        EACH_STATE(n, u, v) { *(float2*)(p + n) = make_float2(u, v); }
      }
    }
    float next[NT][4] = {};
    // next += X·Vᵀ: what the chunk's inputs add to the state after it. With one input channel y = X·Toepᵀ + S·Wᵀ as
    // well, one output channel at a time.
    for (int in = 0; in < a.in_channels; ++in) {
      float4 x[2][KT];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float* p = a.x + (((i64)row_b[r] * a.in_channels + in) * a.H + h) * a.L;
#pragma unroll
        for (int k = 0; k < KT; ++k) x[r][k] = load4(p, (i64)c[r] * T + 16 * k + 4 * t, len[r], a.vec);
      }
#pragma unroll
      for (int k = 0; k < KT; ++k) {
        const FragA lo = frag_a(x[0][k].x, x[1][k].x, x[0][k].y, x[1][k].y);
        const FragA hi = frag_a(x[0][k].z, x[1][k].z, x[0][k].w, x[1][k].w);
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          const float4 f = fv[in * TS + (k * NT + n) * 32];
          mma(next[n], lo, frag_b(f.x, f.y));
          mma(next[n], hi, frag_b(f.z, f.w));
        }
      }
      if (a.y && in == 0 && a.in_channels == 1) {
        for (int out = 0; out < a.out_channels; ++out) {
          float y[8][4] = {};
#pragma unroll
          for (int k = 0; k < KT; ++k) {
            const FragA lo = frag_a(x[0][k].x, x[1][k].x, x[0][k].y, x[1][k].y);
            const FragA hi = frag_a(x[0][k].z, x[1][k].z, x[0][k].w, x[1][k].w);
#pragma unroll
            for (int n = 0; n < 8; ++n) {
              // Half of Toep is zero.
              if (a.lower ? n / 2 < k : n / 2 > k) continue;
              const float4 f = toep[out * TT + (k * 8 + n) * 32];
              mma(y[n], lo, frag_b(f.x, f.y));
              mma(y[n], hi, frag_b(f.z, f.w));
            }
          }
#pragma unroll
          for (int k = 0; k < KS; ++k) {
            const FragA lo = frag_a(s[2 * k][0], s[2 * k][2], s[2 * k][1], s[2 * k][3]);
            const FragA hi = frag_a(s[2 * k + 1][0], s[2 * k + 1][2], s[2 * k + 1][1], s[2 * k + 1][3]);
#pragma unroll
            for (int n = 0; n < 8; ++n) {
              const float4 f = fw[out * ST + (k * 8 + n) * 32];
              mma(y[n], lo, frag_b(f.x, f.y));
              mma(y[n], hi, frag_b(f.z, f.w));
            }
          }
#pragma unroll
          for (int r = 0; r < 2; ++r)
            if (row_exists[r]) {
              float* p = a.y + (((i64)row_b[r] * a.out_channels + out) * a.H + h) * a.L;
#pragma unroll
              for (int n = 0; n < 8; n += 2)
                store4(p, (i64)c[r] * T + 8 * n + 4 * t, len[r], a.L,
                       make_float4(y[n][2 * r], y[n][2 * r + 1], y[n + 1][2 * r], y[n + 1][2 * r + 1]), a.vec, a.accumulate);
            }
        }
      }
    }
    if (a.y && a.in_channels > 1) {
      // Several input channels and one output channel, as in the adjoint of several output channels.
      float y[8][4] = {};
      for (int in = 0; in < a.in_channels; ++in)
#pragma unroll
        for (int k = 0; k < KT; ++k) {
          float4 x[2];
#pragma unroll
          for (int r = 0; r < 2; ++r)
            x[r] = load4(a.x + (((i64)row_b[r] * a.in_channels + in) * a.H + h) * a.L, (i64)c[r] * T + 16 * k + 4 * t, len[r],
                         a.vec);
          const FragA lo = frag_a(x[0].x, x[1].x, x[0].y, x[1].y), hi = frag_a(x[0].z, x[1].z, x[0].w, x[1].w);
#pragma unroll
          for (int n = 0; n < 8; ++n) {
            const float4 f = toep[in * TT + (k * 8 + n) * 32];
            mma(y[n], lo, frag_b(f.x, f.y));
            mma(y[n], hi, frag_b(f.z, f.w));
          }
        }
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        const FragA lo = frag_a(s[2 * k][0], s[2 * k][2], s[2 * k][1], s[2 * k][3]);
        const FragA hi = frag_a(s[2 * k + 1][0], s[2 * k + 1][2], s[2 * k + 1][1], s[2 * k + 1][3]);
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          const float4 f = fw[(k * 8 + n) * 32];
          mma(y[n], lo, frag_b(f.x, f.y));
          mma(y[n], hi, frag_b(f.z, f.w));
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (row_exists[r]) {
          float* p = a.y + ((i64)row_b[r] * a.H + h) * a.L;
#pragma unroll
          for (int n = 0; n < 8; n += 2)
            store4(p, (i64)c[r] * T + 8 * n + 4 * t, len[r], a.L,
                   make_float4(y[n][2 * r], y[n][2 * r + 1], y[n + 1][2 * r], y[n + 1][2 * r + 1]), a.vec, a.accumulate);
        }
    }
    // next += S·Qᵀ: what the state before the chunk adds to the state after it.
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      const FragA lo = frag_a(s[2 * k][0], s[2 * k][2], s[2 * k][1], s[2 * k][3]);
      const FragA hi = frag_a(s[2 * k + 1][0], s[2 * k + 1][2], s[2 * k + 1][1], s[2 * k + 1][3]);
#pragma unroll
      for (int n = 0; n < NT; ++n) {
        const float4 f = fq[(k * NT + n) * 32];
        mma(next[n], lo, frag_b(f.x, f.y));
        mma(next[n], hi, frag_b(f.z, f.w));
      }
    }
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) s[n][e] = next[n][e];
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (!row_exists[r]) continue;
    if (a.dstate_at_end_chunk && end_chunk[r] == 0 && row_seg[r] == 0) {
      const float* p = a.dstate_at_end_chunk + end_chunk_at(r);
      EACH_STATE(n, u, v) { u += p[n], v += p[n + 1]; }
    }
    if (a.state_at_end_chunk && row_seg[r] == a.segments - 1 && (row_seg[r] + 1) * a.chunks_per_segment == end_chunk[r]) {
      float* p = a.state_at_end_chunk + end_chunk_at(r);
      EACH_STATE(n, u, v) { p[n] = u, p[n + 1] = v; }
    }
    if (a.end) {
      float* p = a.end + state_at(r);
      EACH_STATE(n, u, v) { p[n] = u, p[n + 1] = v; }
    }
  }
}

#define PASS(name, NP)                                                                                                \
  extern "C" __global__ void __launch_bounds__(128) name(                                                            \
      float* y, const float* x, const float4* frags, const float* init, float* end, float* states, float* state_at_end_chunk,        \
      const float* dstate_at_end_chunk, const int* lengths, int B, int H, int in_channels, int out_channels, int segments, int chunks_per_segment,        \
      int chunks, int last_to_first, int lower, int accumulate, int vec, i64 L) {                                                  \
    chunk_pass<NP>({y, x, frags, init, end, states, state_at_end_chunk, dstate_at_end_chunk, lengths, B, H, in_channels, out_channels, segments, chunks_per_segment,    \
                    chunks, last_to_first, lower, accumulate, vec, L});                                                           \
  }
PASS(pass_32, 32)
PASS(pass_64, 64)
PASS(pass_128, 128)
