// The chunk pass by Hopper's warpgroups for sequences without an initial or a final state: both directions of a
// bidirectional layer at once, or one. It computes what chunk_pass_f16.cuh computes, with matrices that
// bidirectional_operands_sm90.cu prepared.
//
// A warpgroup takes 64 segments of sequences, of one head, as the rows of X and S, and goes from chunk to chunk; x is
// loaded one chunk ahead into registers. Of a bidirectional layer one warpgroup goes with time and one against it, and
// they meet in the middle: each keeps the states of the chunks before the middle in shared memory, where the other
// reads them after the middle, so that
//   Y_c = X_c·Toepᵀ + S_c·Wᵀ + S′_c·W′ᵀ
// is written once and nothing but x is read. Powers of two are those of chunk_pass_f16.cuh. PROD = 3: everything takes three
// products of 16-bit numbers. PROD = 1: x is f16, outputs take one product, and of the other direction's states only the high parts are kept;
// what goes from state to state takes three still, since its rounding would add up over chunks.
//
// What enters the chunks goes to memory for the gradients: as f32, or (PROD = 1) as f16 with a power of two per chunk, and then x as well,
// as the products read it, for chunk_pass_backward_f16_sm90.cu.
#include "common/wgmma.cuh"
#include "ssm/chunk.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int NP = 64, KS = 4, PLANE = 64 * 64 * 2;

struct Pass {
  float* y;                // (B, H, L)
  const float* x;          // (B, H, L)
  const uint4* planes;     // (H, count, 64 × 64 of f16)
  const int* exps;         // (H, 8): V, V′, Q, W, W′, Toep
  const float* init[2];    // (B, segments, H, NP) per direction: state entering each segment, or null: zero
  float* end[2];           // (B, segments, H, NP): state leaving each segment, or null
  void* states[2];         // (H, B, chunks, NP): state entering each chunk, or null
  int* state_exps[2];      // (H, exponents_of_head): powers of two of those states, where they are f16
  uint4* x_rows;           // (H, B, chunks, T): x as f16, or null
  int* x_exps;             // (H, exponents_of_head): its powers of two
  int* largest;            // (H, 4), raised to the bits of the largest |x| and, per direction, the largest |state|; or null
  const int* lengths;      // (B) or null
  const float *stats, *gamma, *beta;  // NORMED: means and inverse deviations (2, H), scale and offset (H)
  int B, H, segments, chunks_per_segment, chunks, directions, last_to_first, count;
  i64 L;
};

// Order of the planes in shared memory: V (V′) high and low, Q high and low, then W (W′) and Toep, first all high, then
// all low.
template <bool BOTH>
struct PlaneLayout {
  static constexpr int Q = BOTH ? 4 : 2, W = Q + 2, TOEP = W + 1 + BOTH, LOW = 2 + BOTH;
  __device__ static constexpr int used(bool out, int prod) { return out ? W + (prod == 3 ? 2 : 1) * LOW : W; }
};

#define EACH_ROW(r) _Pragma("unroll") for (int r = 0; r < 2; ++r)

// Largest m of the four lanes that hold a row of the accumulator.
DEV float row_max(float m) {
  m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
  return fmaxf(m, __shfl_xor_sync(~0u, m, 2));
}
// Exponent of a row's power of two, m its largest magnitude; 0 for a row of zeros.
DEV int row_exponent(float m) { return m == 0.f ? 0 : f16_exponent(m, MOST_EXPONENT); }

DEV u64 describe(u32 address) { return (u64)(address >> 4 & 0x3fff) | (u64)(8 * 128 >> 4) << 16 | (u64)(128 >> 4) << 32; }

// a·scale and b·scale as f16, or (P = 3) as split f16.
template <int P>
DEV void to_f16(u32& high, u32& low, float a, float b, float scale) {
  if (P == 3) split_f16(high, low, a, b, scale);
  else high = pack_f16(a * scale, b * scale);
}

// c (64 × 64) += A·(rows 16k … 16k + 15 of a matrix in shared memory), whose low plane lies `behind` bytes after the
// high one, by P = 3 or 1 products. FRESH: k = 0 overwrites c.
template <int P, bool FRESH>
DEV void product(float (&c)[8][4], const u32 (&high)[4], const u32 (&low)[4], u32 matrix, u32 behind, int k) {
  const u32 at = matrix + 2 * k * 8 * 128;
  if (FRESH && k == 0)
    wgmma_f16_first(c, high, describe(at));
  else
    wgmma_f16<64>(c, high, describe(at));
  if (P == 3) {
    wgmma_f16<64>(c, low, describe(at));
    wgmma_f16<64>(c, high, describe(at + behind));
  }
}

// How x comes: as f32, as f32 that is normed as it is read, γ(x − mean)·rstd + β, or as rows of f16 with a power of two per chunk, in the
// order in which this pass writes such rows.
enum Input { PLAIN, NORMED, ROWS };

// What one warpgroup does: one direction of the pass over 64 segments of one head. OUT: writes y; BOTH: the block's other
// warpgroup takes the other direction.
template <int PROD, bool OUT, bool BOTH, Input IN>
struct OneDirectionPass {
  static constexpr int USED = PlaneLayout<BOTH>::used(OUT, PROD), KEPT_STATE = PROD == 3 ? 2 * PLANE : PLANE;
  const Pass& a;
  const int lane, warp, g, t, direction, against_time;  // index of this direction, and whether it goes against time
  u32 base, kept_states;  // shared addresses: the planes, and the states kept for the other direction
  int* kept_exps;
  i64 at[2];
  int left[2], allocated[2], b[2], seg[2], ev, eq, ew, ewo, et;
  float s[8][4], largest_x = 0.f, largest_state = 0.f, mean, factor, shift;
  float4 next[2][4];
  uint4 next_rows[2][2];
  int next_exps[2];

  __device__ __forceinline__ OneDirectionPass(const Pass& a, char* memory)
      : a(a), lane(threadIdx.x & 31), warp(threadIdx.x >> 5 & 3), g(lane >> 2), t(lane & 3),
        direction(BOTH ? __shfl_sync(~0u, (int)threadIdx.x >> 7, 0) : (int)blockIdx.x % a.directions),
        against_time(a.directions == 2 ? direction : a.last_to_first) {
    const int h = blockIdx.y, row_tile = BOTH ? blockIdx.x : blockIdx.x / a.directions;
    base = shared_address(memory), kept_states = base + USED * PLANE;
    kept_exps = (int*)(memory + USED * PLANE + a.chunks_per_segment * KEPT_STATE);
    const int* e = a.exps + 8 * h;
    if (IN == NORMED) mean = a.stats[h], factor = a.gamma[h] * a.stats[a.H + h], shift = a.beta[h];
    ev = e[direction], eq = e[2], ew = e[3 + direction], ewo = e[4 - direction], et = e[5];
    EACH_ROW(r) {
      const int row = row_tile * 64 + 16 * warp + 8 * r + g;
      const bool in = row < a.B * a.segments;
      b[r] = in ? row / a.segments : -1, seg[r] = in ? row % a.segments : 0;
      const i64 first = (i64)seg[r] * a.chunks_per_segment * T, most = (i64)a.chunks_per_segment * T;
      const i64 len = !in ? 0 : a.lengths ? (i64)a.lengths[b[r]] : a.L;
      left[r] = (int)min(max(len - first, (i64)0), most), allocated[r] = in ? (int)min(max(a.L - first, (i64)0), most) : 0;
      at[r] = in ? ((i64)b[r] * a.H + h) * a.L + first : 0;
    }
#pragma unroll
    for (int n = 0; n < 8; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.f;
    if (const float* init = (direction ? a.init[1] : a.init[0])) EACH_ROW(r) {
        if (b[r] < 0) continue;
        const float* p = init + (((i64)b[r] * a.segments + seg[r]) * a.H + h) * NP + 2 * t;
#pragma unroll
        for (int n = 0; n < 8; ++n) s[n][2 * r] = p[8 * n], s[n][2 * r + 1] = p[8 * n + 1];
      }
  }

  // Number, in time, of the i-th chunk that this direction visits.
  __device__ __forceinline__ int chunk(int i) const { return against_time ? a.chunks_per_segment - 1 - i : i; }

  // Place of the power of two of a row's chunk.
  __device__ __forceinline__ i64 exponent_at(int r, int chunk) const {
    return (i64)blockIdx.y * exponents_of_head(a.B, a.chunks) + b[r] * a.chunks + chunk;
  }

  // Loads x of the i-th visited chunk into `next`.
  __device__ __forceinline__ void fetch(int i) {
    if (IN == ROWS) {
      EACH_ROW(r) {
        const int global = seg[r] * a.chunks_per_segment + chunk(i);
        const bool there = b[r] >= 0 && global < a.chunks;
        const i64 row = there ? ((i64)blockIdx.y * a.B + b[r]) * a.chunks + global : 0;
        const float4 *p = (const float4*)(a.x_rows + row * (T / 8) + t);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float4 v = read4_if((const float*)(p + 4 * k), there);
          next_rows[r][k] = make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w));
        }
        next_exps[r] = __float_as_int(read_if((const float*)(a.x_exps + (there ? exponent_at(r, global) : 0)), there));
      }
      return;
    }
    const int from = chunk(i) * T + 4 * t;
    EACH_ROW(r) {
      const float* p = a.x + at[r] + from;
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        const int rest = left[r] - from - 16 * k;
        next[r][k] = read4_if(p + 16 * k, rest > 0);
      }
    }
  }

  // Sets `next` to zero beyond the sequence's length, in the four values in which it ends. Not in fetch: that would
  // wait for the loads.
  __device__ __forceinline__ void cut(int c) {
    EACH_ROW(r)
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      const int rest = left[r] - c * T - 4 * t - 16 * k;
      if (rest < 4) next[r][k].w = 0.f;
      if (rest < 3) next[r][k].z = 0.f;
      if (rest < 2) next[r][k].y = 0.f;
    }
  }

  // Norms `next`; zero stays what is beyond the sequence, in fours.
  __device__ __forceinline__ void norm(int c) {
    EACH_ROW(r)
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      const bool in = left[r] - c * T - 4 * t - 16 * k > 0;
      const float from = in ? mean : 0.f, to = in ? shift : 0.f;
      float4& v = next[r][k];
      v.x = fmaf(factor, v.x - from, to), v.y = fmaf(factor, v.y - from, to);
      v.z = fmaf(factor, v.z - from, to), v.w = fmaf(factor, v.w - from, to);
    }
  }

  // The i-th visited chunk. WRITE: writes its outputs; KEEP: keeps its state for the other warpgroup.
  template <bool WRITE, bool KEEP>
  __device__ __forceinline__ void step(int i) {
    using P = PlaneLayout<BOTH>;
    const int c = chunk(i), h = blockIdx.y, own = BOTH ? direction : 0;
    const u32 v = base + 2 * own * PLANE, q = base + P::Q * PLANE, w = base + (P::W + own) * PLANE,
              toep = base + P::TOEP * PLANE, other = base + (P::W + 1 - own) * PLANE;
    constexpr u32 LOW = P::LOW * PLANE;
    u32 xh[KS][4], xl[KS][4];
    int ex[2], es[2];
    if (IN == NORMED) norm(c);
    if (IN != ROWS && a.lengths) cut(c);
    EACH_ROW(r) {
      if (IN == ROWS) {
        ex[r] = next_exps[r];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const uint4 v = next_rows[r][k];
          xh[2 * k][r] = v.x, xh[2 * k][2 + r] = v.y, xh[2 * k + 1][r] = v.z, xh[2 * k + 1][2 + r] = v.w;
        }
        continue;
      }
      float m = 0.f;
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        const float4 u = next[r][k];
        m = fmaxf(fmaxf(m, fmaxf(fabsf(u.x), fabsf(u.y))), fmaxf(fabsf(u.z), fabsf(u.w)));
      }
      m = row_max(m);
      ex[r] = row_exponent(m);
      if (PROD == 1) largest_x = fmaxf(largest_x, m);
      const float scale = power_of_two(ex[r]);
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        to_f16<PROD>(xh[k][r], xl[k][r], next[r][k].x, next[r][k].y, scale);
        to_f16<PROD>(xh[k][2 + r], xl[k][2 + r], next[r][k].z, next[r][k].w, scale);
      }
    }
    // Of two directions each keeps x of the chunks that it is the first to visit.
    if (PROD == 1 && IN != ROWS && (BOTH ? KEEP : direction == 0) && a.x_rows) EACH_ROW(r) {
        const int global = seg[r] * a.chunks_per_segment + c;
        if (b[r] < 0 || global >= a.chunks) continue;
        const i64 row = ((i64)h * a.B + b[r]) * a.chunks + global;
        // In an order in which each lane writes eight numbers at once; time_at there undoes it.
        uint4* p = a.x_rows + row * (T / 8) + t;
#pragma unroll
        for (int k = 0; k < KS; k += 2) p[2 * k] = make_uint4(xh[k][r], xh[k][2 + r], xh[k + 1][r], xh[k + 1][2 + r]);
        if (t == 0) put_exponent(a.x_exps, h, a.B, a.chunks, b[r] * a.chunks + global, ex[r]);
      }
    if (OUT && i + 1 < a.chunks_per_segment) fetch(i + 1);
    float acc[8][4], y[8][4];
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      product<PROD, true>(acc, xh[k], xl[k], v, PLANE, k);
      if (WRITE) product<PROD, true>(y, xh[k], xl[k], toep, LOW, k);
    }
    wgmma_end_group();
    // While the tensor cores work: S as split f16.
    u32 sh[KS][4], sl[KS][4];
    EACH_ROW(r) {
      const int global = seg[r] * a.chunks_per_segment + c;
      void* states = direction ? a.states[1] : a.states[0];
      if (b[r] < 0 || global >= a.chunks) states = nullptr;
      const i64 row = ((i64)h * a.B + b[r]) * a.chunks + global;
      if (PROD == 3 && states) {
        float* p = (float*)states + row * NP + 2 * t;
#pragma unroll
        for (int n = 0; n < 8; ++n) *(float2*)(p + 8 * n) = make_float2(s[n][2 * r], s[n][2 * r + 1]);
      }
      float m = 0.f;
#pragma unroll
      for (int n = 0; n < 8; ++n) m = fmaxf(m, fmaxf(fabsf(s[n][2 * r]), fabsf(s[n][2 * r + 1])));
      m = row_max(m);
      es[r] = row_exponent(m);
      if (PROD == 1) largest_state = fmaxf(largest_state, m);
      const float scale = power_of_two(es[r]);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        split_f16(sh[n / 2][2 * (n & 1) + r], sl[n / 2][2 * (n & 1) + r], s[n][2 * r], s[n][2 * r + 1], scale);
      if (PROD == 1 && states) {
        // In an order in which each lane writes eight numbers at once; state_at there undoes it.
        uint4* p = (uint4*)states + row * (NP / 8) + t;
#pragma unroll
        for (int k = 0; k < KS; k += 2) p[2 * k] = make_uint4(sh[k][r], sh[k][2 + r], sh[k + 1][r], sh[k + 1][2 + r]);
        if (t == 0) put_exponent(direction ? a.state_exps[1] : a.state_exps[0], h, a.B, a.chunks, b[r] * a.chunks + global, es[r]);
      }
      if (KEEP && t == 0) kept_exps[64 * c + 16 * warp + 8 * r + g] = es[r];
    }
    if (KEEP) {
      // Each lane gives the address of row lane % 8 of tile lane / 8: tiles of 8 rows × 8 states, four at a time.
      const u32 to = kept_states + c * KEPT_STATE + (lane >> 4) * 1024 + (2 * warp + (lane >> 3 & 1)) * 128 + (lane & 7) * 16;
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        store_tiles(to + k * 2048, sh[k]);
        if (PROD == 3) store_tiles(to + PLANE + k * 2048, sl[k]);
      }
    }
    wgmma_wait();
    EACH_ROW(r) {
      const float fs = power_of_two(es[r] + eq - ex[r] - ev), fy = power_of_two(es[r] + ew - ex[r] - et);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        acc[n][2 * r] *= fs, acc[n][2 * r + 1] *= fs;
        if (WRITE) y[n][2 * r] *= fy, y[n][2 * r + 1] *= fy;
      }
    }
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      product<3, false>(acc, sh[k], sl[k], q, PLANE, k);
      if (WRITE) product<PROD, false>(y, sh[k], sl[k], w, LOW, k);
    }
    wgmma_end_group();
    if (!OUT && i + 1 < a.chunks_per_segment) fetch(i + 1);
    wgmma_wait();
    int ey[2];
    EACH_ROW(r) ey[r] = es[r] + ew;
    if (WRITE && BOTH) {
      EACH_ROW(r) {
        const int eo = kept_exps[64 * c + 16 * warp + 8 * r + g] + ewo;
        const float fy = power_of_two(eo - ey[r]);
#pragma unroll
        for (int n = 0; n < 8; ++n) y[n][2 * r] *= fy, y[n][2 * r + 1] *= fy;
        ey[r] = eo;
      }
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        const u32 to = 2 * k * 8 * 128, theirs = kept_states + c * KEPT_STATE + to;
        if (PROD == 3) {
          wgmma_f16_shared(y, describe(theirs + PLANE), describe(other + to));
          wgmma_f16_shared(y, describe(theirs), describe(other + LOW + to));
        }
        wgmma_f16_shared(y, describe(theirs), describe(other + to));
      }
      wgmma_end_group();
    }
    EACH_ROW(r) {
      const float fs = power_of_two(-es[r] - eq);
#pragma unroll
      for (int n = 0; n < 8; ++n) s[n][2 * r] = acc[n][2 * r] * fs, s[n][2 * r + 1] = acc[n][2 * r + 1] * fs;
    }
    if (!WRITE) return;
    if (BOTH) wgmma_wait();
    EACH_ROW(r) {
      const float fy = power_of_two(-ey[r]);
      float* p = a.y + at[r] + c * T;
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        // Written up to L; zero from the sequence's length on.
        const int to = 8 * n + 4 * t, rest = left[r] - c * T - to;
        float4 o = make_float4(y[n][2 * r] * fy, y[n][2 * r + 1] * fy, y[n + 1][2 * r] * fy, y[n + 1][2 * r + 1] * fy);
        if (a.lengths && rest < 4) {
          o.w = 0.f;
          if (rest < 3) o.z = 0.f;
          if (rest < 2) o.y = 0.f;
          if (rest < 1) o.x = 0.f;
        }
        if (allocated[r] - c * T > to) *(float4*)(p + to) = o;
      }
    }
  }
};

template <int PROD, bool OUT, bool BOTH, Input IN>
DEV void pass(const Pass& a) {
  using D = OneDirectionPass<PROD, OUT, BOTH, IN>;
  extern __shared__ __align__(128) char memory[];
  D one_pass(a, memory);
  one_pass.fetch(0);
  // A pass for states of one direction of two loads its own V, and Q.
  const bool one_of_two = !BOTH && a.directions == 2;
  const uint4* planes = a.planes + (i64)blockIdx.y * a.count * (PLANE / 16);
  for (int e = threadIdx.x; e < D::USED * (PLANE / 16); e += blockDim.x) {
    const int skip = !one_of_two ? 0 : e >= 2 * (PLANE / 16) ? 2 : 2 * one_pass.direction;
    copy_16(one_pass.base + 16 * e, planes + e + skip * (PLANE / 16), 16);
  }
  copies_end_group();
  wait_copies<0>();
  stores_before_wgmma();
  __syncthreads();
  if (BOTH) {
    const int first = one_pass.against_time ? a.chunks_per_segment - a.chunks_per_segment / 2 : a.chunks_per_segment / 2;
    for (int i = 0; i < first; ++i) one_pass.template step<false, true>(i);
    stores_before_wgmma();
    __syncthreads();
    for (int i = first; i < a.chunks_per_segment; ++i) one_pass.template step<true, false>(i);
  } else {
    for (int i = 0; i < a.chunks_per_segment; ++i) one_pass.template step<OUT, false>(i);
  }
  if (PROD == 1 && a.largest) {
    float x = one_pass.largest_x, state = one_pass.largest_state;
    for (int k = 4; k < 32; k *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, k)), state = fmaxf(state, __shfl_xor_sync(~0u, state, k));
    // Numbers that are not negative are ordered as their bits are.
    if (one_pass.lane == 0) {
      atomicMax(a.largest + 4 * blockIdx.y, __float_as_int(x));
      // A pass that only ends segments begins them with zero: its states are not those that enter.
      if (one_pass.direction ? a.states[1] : a.states[0])
        atomicMax(a.largest + 4 * blockIdx.y + 1 + one_pass.direction, __float_as_int(state));
    }
  }
  if (float* end = one_pass.direction ? a.end[1] : a.end[0]) EACH_ROW(r) {
      if (one_pass.b[r] < 0) continue;
      float* p = end + (((i64)one_pass.b[r] * a.segments + one_pass.seg[r]) * a.H + blockIdx.y) * NP + 2 * one_pass.t;
#pragma unroll
      for (int n = 0; n < 8; ++n) p[8 * n] = one_pass.s[n][2 * r], p[8 * n + 1] = one_pass.s[n][2 * r + 1];
    }
}

// Grid (segments of all sequences / 64, H); shared memory: the planes in use. Both directions: blocks of 256 threads,
// and shared memory per chunk of a segment for PLANE (PROD = 3: 2·PLANE) bytes of states and 256 of exponents. Else
// blocks of 128; where there are two directions, a block for each.
#define PASS(name, threads, blocks, PROD, OUT, BOTH)             \
  PASS_OF(name, threads, blocks, PROD, OUT, BOTH, PLAIN)         \
  PASS_OF(name##_norm, threads, blocks, PROD, OUT, BOTH, NORMED)
#define PASS_OF(name, threads, blocks, PROD, OUT, BOTH, IN)                                                                   \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(                                                 \
      float* y, const float* x, const uint4* planes, const int* exps, const float* init0, const float* init1,           \
      float* end0, float* end1, void* states0, void* states1, int* exps0, int* exps1, uint4* x_rows, int* x_exps, int* largest, \
      const int* lengths, const float* stats, const float* gamma, const float* beta, int B, int H, int segments, \
      int chunks_per_segment, int chunks, int directions, int last_to_first, int count, i64 L) {                                                  \
    pass<PROD, OUT, BOTH, IN>({y, x, planes, exps, {init0, init1}, {end0, end1}, {states0, states1}, {exps0, exps1}, x_rows, x_exps, largest, lengths, stats, gamma, beta, B, H,         \
                           segments, chunks_per_segment, chunks, directions, last_to_first, count, L});                                           \
  }
PASS(states_1, 128, 3, 1, false, false)
PASS(states_3, 128, 3, 3, false, false)
PASS(outputs_1, 128, 2, 1, true, false)
PASS(outputs_3, 128, 2, 3, true, false)
PASS(both_1, 256, 1, 1, true, true)
PASS(both_3, 256, 1, 3, true, true)
PASS_OF(states_1_rows, 128, 4, 1, false, false, ROWS)
PASS_OF(outputs_1_rows, 128, 2, 1, true, false, ROWS)
PASS_OF(both_1_rows, 256, 1, 1, true, true, ROWS)

#endif
