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

// What follows in a branch is skipped where the condition is false, and not computed for nothing.
#define STAY_IN_BRANCH __syncwarp()
#define EACH_ROW(r) _Pragma("unroll") for (int r = 0; r < 2; ++r)

// Largest m of the four lanes that hold a row of the accumulator.
DEV float row_max(float m) {
  m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
  return fmaxf(m, __shfl_xor_sync(~0u, m, 2));
}

// Descriptors of wgmma: all matrices of a pass are stored the same way, so that one differs from another in its place alone, which the lower half
// counts in 16 bytes. Shared memory ends before that count would reach the other fields.
DEV u32 place(u32 address) { return address >> 4 | (8 * 128 >> 4) << 16; }
DEV u64 descriptor(u32 place) { return (u64)(128 >> 4) << 32 | place; }
__device__ constexpr u32 places(u32 bytes) { return bytes / 16; }

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
  const u32 at = matrix + places(2 * k * 8 * 128);
  if (FRESH && k == 0)
    wgmma_f16_first(c, high, descriptor(at));
  else
    wgmma_f16<64>(c, high, descriptor(at));
  if (P == 3) {
    wgmma_f16<64>(c, low, descriptor(at));
    wgmma_f16<64>(c, high, descriptor(at + places(behind)));
  }
}

// How x comes: as f32, as f32 that is normed as it is read, γ(x − mean)·rstd + β, or as rows of f16 with a power of two per chunk, in the
// order in which this pass writes such rows.
enum Input { PLAIN, NORMED, ROWS };

// What one warpgroup does: one direction of the pass over 64 segments of one head. OUT: writes y; BOTH: the block's other
// warpgroup takes the other direction.
//
// A thread holds of X and S the rows g and g + 8 of its warp's sixteen. While the tensor cores work for one chunk, the next one's x is made f16 and
// x of the chunk after it is on its way; the sums of a chunk are the next state, times a power of two, until they are split for the next products.
template <int PROD, bool OUT, bool BOTH, Input IN>
struct OneDirectionPass {
  static constexpr int USED = PlaneLayout<BOTH>::used(OUT, PROD), KEPT_STATE = PROD == 3 ? 2 * PLANE : PLANE;
  const Pass& a;
  const int lane, warp, g, t, direction, against_time;  // index of this direction, and whether it goes against time
  u32 base, kept_states;  // shared addresses: the planes, and the states kept for the other direction
  int* kept_exps;
  // Of each row: of its segment the first number in x and y, how many numbers are there and how many places, the first (sequence, chunk) among
  // those of all heads and of this head, and how many chunks.
  i64 at[2];
  int left[2], allocated[2], row[2], exponent_row[2], chunk_count[2];
  int ev, eq, ew, ewo, et;
  float acc[8][4];     // the state times 2^es_acc, once the products of a chunk are done
  u32 sh[KS][4], sl[KS][4];  // the state that enters a chunk, times 2^es
  u32 xh[KS][4], xl[KS][4];  // x of a chunk, times 2^ex
  int es[2], ex[2], es_acc[2] = {};
  void* states;  // of this direction
  int* state_exps;
  float largest_x = 0.f, largest_state = 0.f, mean, factor, shift;
  float4 next[2][4];
  uint4 next_rows[2][2];
  int next_exps[2];

  __device__ __forceinline__ OneDirectionPass(const Pass& a, char* memory)
      : a(a), lane(threadIdx.x & 31), warp(threadIdx.x >> 5 & 3), g(lane >> 2), t(lane & 3),
        direction(BOTH ? __shfl_sync(~0u, (int)threadIdx.x >> 7, 0) : (int)blockIdx.x % a.directions),
        against_time(a.directions == 2 ? direction : a.last_to_first) {
    const int h = blockIdx.y;
    states = direction ? a.states[1] : a.states[0], state_exps = direction ? a.state_exps[1] : a.state_exps[0];
    base = shared_address(memory), kept_states = base + USED * PLANE;
    kept_exps = (int*)(memory + USED * PLANE + a.chunks_per_segment * KEPT_STATE) + 16 * warp + g;
    const int* e = a.exps + 8 * h;
    if (IN == NORMED) mean = a.stats[h], factor = a.gamma[h] * a.stats[a.H + h], shift = a.beta[h];
    ev = e[direction], eq = e[2], ew = e[3 + direction], ewo = e[4 - direction], et = e[5];
    EACH_ROW(r) {
      const int b = sequence(r), first_chunk = segment(r) * a.chunks_per_segment;
      const i64 first = (i64)first_chunk * T, most = (i64)a.chunks_per_segment * T;
      const i64 len = b < 0 ? 0 : a.lengths ? (i64)a.lengths[b] : a.L;
      left[r] = (int)min(max(len - first, (i64)0), most) - 4 * t;
      allocated[r] = (b < 0 ? 0 : (int)min(max(a.L - first, (i64)0), most)) - 4 * t;
      at[r] = b < 0 ? 0 : ((i64)b * a.H + h) * a.L + first + 4 * t;
      chunk_count[r] = b < 0 ? 0 : min(a.chunks - first_chunk, a.chunks_per_segment);
      row[r] = b < 0 ? 0 : (h * a.B + b) * a.chunks + first_chunk;
      exponent_row[r] = b < 0 ? 0 : h * exponents_of_head(a.B, a.chunks) + b * a.chunks + first_chunk;
    }
  }

  // Row r's number among the segments of all sequences; its sequence, or −1 behind the last one; its segment there.
  __device__ __forceinline__ int segment_row(int r) const { return (BOTH ? blockIdx.x : blockIdx.x / a.directions) * 64 + 16 * warp + 8 * r + g; }
  __device__ __forceinline__ int sequence(int r) const { return segment_row(r) < a.B * a.segments ? segment_row(r) / a.segments : -1; }
  __device__ __forceinline__ int segment(int r) const { return sequence(r) < 0 ? 0 : segment_row(r) % a.segments; }
  // Of row r's sequence and segment its two numbers in an array of states (B, segments, H, NP).
  __device__ __forceinline__ i64 segment_state(int r) const {
    return (((i64)sequence(r) * a.segments + segment(r)) * a.H + blockIdx.y) * NP + 2 * t;
  }

  // Number, in time, of the i-th chunk that this direction visits; behind the last one, that of none. So the last chunk needs no code of its own.
  __device__ __forceinline__ int chunk(int i) const {
    return i >= a.chunks_per_segment ? a.chunks_per_segment : against_time ? a.chunks_per_segment - 1 - i : i;
  }

  // Loads x of the i-th visited chunk into `next`.
  __device__ __forceinline__ void fetch(int i) {
    const int c = chunk(i);
    EACH_ROW(r) {
      if (IN == ROWS) {
        const bool there = c < chunk_count[r];
        const float4* p = (const float4*)(a.x_rows + (i64)(row[r] + c) * (T / 8) + t);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float4 v = read4_if((const float*)(p + 4 * k), there);
          next_rows[r][k] = make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w));
        }
        next_exps[r] = __float_as_int(read_if((const float*)(a.x_exps + exponent_row[r] + c), there));
      } else {
        const float* p = a.x + (at[r] + c * T);
#pragma unroll
        for (int k = 0; k < KS; ++k) next[r][k] = read4_if(p + 16 * k, left[r] - c * T > 16 * k);
      }
    }
  }

  // Sets `next` to zero beyond the sequence's length, in the four values in which it ends. Not in fetch: that would
  // wait for the loads.
  __device__ __forceinline__ void cut(int c) {
    STAY_IN_BRANCH;
    EACH_ROW(r)
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      const int rest = left[r] - c * T - 16 * k;
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
      const bool in = left[r] - c * T > 16 * k;
      const float from = in ? mean : 0.f, to = in ? shift : 0.f;
      float4& v = next[r][k];
      v.x = fmaf(factor, v.x - from, to), v.y = fmaf(factor, v.y - from, to);
      v.z = fmaf(factor, v.z - from, to), v.w = fmaf(factor, v.w - from, to);
    }
  }

  // x of the i-th visited chunk, from `next`, as the products read it.
  __device__ __forceinline__ void convert(int i) {
    if (IN == NORMED) norm(chunk(i));
    if (IN != ROWS && a.lengths) cut(chunk(i));
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
      ex[r] = m == 0.f ? 0 : f16_exponent(m, MOST_EXPONENT);
      if (PROD == 1) largest_x = fmaxf(largest_x, m);
      const float scale = power_of_two(ex[r]);
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        to_f16<PROD>(xh[k][r], xl[k][r], next[r][k].x, next[r][k].y, scale);
        to_f16<PROD>(xh[k][2 + r], xl[k][2 + r], next[r][k].z, next[r][k].w, scale);
      }
    }
  }

  // The state that enters the i-th visited chunk, `acc` by 2^−es_acc, as the products read it; written where states in f32 are kept.
  __device__ __forceinline__ void enter(int i) {
    EACH_ROW(r) {
      if (PROD == 3 && states && chunk(i) < chunk_count[r]) {
        float* p = (float*)states + (i64)(row[r] + chunk(i)) * NP + 2 * t;
        const float f = power_of_two(-es_acc[r]);
#pragma unroll
        for (int n = 0; n < 8; ++n) *(float2*)(p + 8 * n) = make_float2(acc[n][2 * r] * f, acc[n][2 * r + 1] * f);
      }
      float m = 0.f;
#pragma unroll
      for (int n = 0; n < 8; ++n) m = fmaxf(m, fmaxf(fabsf(acc[n][2 * r]), fabsf(acc[n][2 * r + 1])));
      m = row_max(m);
      // What brings acc into f16's range. A row of zeros has the exponent 0, as in convert.
      const int e = m == 0.f ? -es_acc[r] : f16_exponent(m, min(MOST_EXPONENT - es_acc[r], 127));
      es[r] = e + es_acc[r];
      if (PROD == 1) largest_state = fmaxf(largest_state, i < a.chunks_per_segment ? m * power_of_two(-es_acc[r]) : 0.f);
      const float scale = power_of_two(e);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        split_f16(sh[n / 2][2 * (n & 1) + r], sl[n / 2][2 * (n & 1) + r], acc[n][2 * r], acc[n][2 * r + 1], scale);
    }
  }

  // Loads what the first chunk needs.
  __device__ __forceinline__ void begin() {
    const float* init = direction ? a.init[1] : a.init[0];
    EACH_ROW(r) {
      const bool there = init && sequence(r) >= 0;
      const float* p = init + (there ? segment_state(r) : 0);
#pragma unroll
      for (int n = 0; n < 8; ++n) acc[n][2 * r] = there ? p[8 * n] : 0.f, acc[n][2 * r + 1] = there ? p[8 * n + 1] : 0.f;
    }
    enter(0);
    convert(0);
    fetch(1);
    // Powers of two behind the last row, as put_exponent leaves them: of the states, and (the first direction) of x.
    const int of_head = exponents_of_head(a.B, a.chunks), behind = a.B * a.chunks + (int)(threadIdx.x & 127);
    if (PROD == 1 && segment_row(0) < 64 && behind < of_head) {
      if (states) state_exps[blockIdx.y * of_head + behind] = 0;
      if (IN != ROWS && direction == 0 && a.x_rows) a.x_exps[blockIdx.y * of_head + behind] = 0;
    }
  }

  // Eight numbers in one piece, in an order in which a lane has them; time_at and state_at of chunk_pass_backward_f16_sm90.cu undo it.
  __device__ __forceinline__ void write_row(uint4* rows, const u32 (&v)[KS][4], int r, int c) const {
    uint4* p = rows + (i64)(row[r] + c) * (T / 8) + t;
#pragma unroll
    for (int k = 0; k < KS; k += 2) p[2 * k] = make_uint4(v[k][r], v[k][2 + r], v[k + 1][r], v[k + 1][2 + r]);
  }

  // The i-th visited chunk. WRITE: writes its outputs; KEEP: keeps its state for the other warpgroup.
  template <bool WRITE, bool KEEP>
  __device__ __forceinline__ void step(int i) {
    using P = PlaneLayout<BOTH>;
    const int c = chunk(i), own = BOTH ? direction : 0;
    const u32 planes = place(base), v = planes + own * places(2 * PLANE), q = planes + places(P::Q * PLANE),
              w = planes + places(P::W * PLANE) + own * places(PLANE), toep = planes + places(P::TOEP * PLANE),
              other = planes + places((P::W + 1) * PLANE) - own * places(PLANE);
    constexpr u32 LOW = P::LOW * PLANE;
    float y[8][4];
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      product<PROD, true>(acc, xh[k], xl[k], v, PLANE, k);
      if (WRITE) product<PROD, true>(y, xh[k], xl[k], toep, LOW, k);
    }
    wgmma_end_group();
    // While the tensor cores work: what is kept of x and of the state. Of two directions each keeps x of the chunks that it is the first to visit.
    if (PROD == 1) EACH_ROW(r) {
        if (c >= chunk_count[r]) continue;
        if (IN != ROWS && (BOTH ? KEEP : direction == 0) && a.x_rows) {
          write_row(a.x_rows, xh, r, c);
          if (t == 0) a.x_exps[exponent_row[r] + c] = ex[r];
        }
        if (states) {
          write_row((uint4*)states, sh, r, c);
          if (t == 0) state_exps[exponent_row[r] + c] = es[r];
        }
      }
    if (KEEP) {
      // Each lane gives the address of row lane % 8 of tile lane / 8: tiles of 8 rows × 8 states, four at a time.
      const u32 to = kept_states + c * KEPT_STATE + (lane >> 4) * 1024 + (2 * warp + (lane >> 3 & 1)) * 128 + (lane & 7) * 16;
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        store_tiles(to + k * 2048, sh[k]);
        if (PROD == 3) store_tiles(to + PLANE + k * 2048, sl[k]);
      }
      if (t == 0) EACH_ROW(r) kept_exps[64 * c + 8 * r] = es[r];
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
    convert(i + 1);
    fetch(i + 2);
    wgmma_wait();
    int ey[2];
    EACH_ROW(r) ey[r] = es[r] + ew, es_acc[r] = es[r] + eq;
    if (WRITE && BOTH) {
      EACH_ROW(r) {
        const int eo = kept_exps[64 * c + 8 * r] + ewo;
        const float fy = power_of_two(eo - ey[r]);
#pragma unroll
        for (int n = 0; n < 8; ++n) y[n][2 * r] *= fy, y[n][2 * r + 1] *= fy;
        ey[r] = eo;
      }
      wgmma_begin();
      const u32 theirs = place(kept_states + c * KEPT_STATE);
#pragma unroll
      for (int k = 0; k < KS; ++k) {
        const u32 to = places(2 * k * 8 * 128);
        if (PROD == 3) {
          wgmma_f16_shared(y, descriptor(theirs + places(PLANE) + to), descriptor(other + to));
          wgmma_f16_shared(y, descriptor(theirs + to), descriptor(other + places(LOW) + to));
        }
        wgmma_f16_shared(y, descriptor(theirs + to), descriptor(other + to));
      }
      wgmma_end_group();
    }
    enter(i + 1);
    if (!WRITE) return;
    if (BOTH) wgmma_wait();
    EACH_ROW(r) {
      const float fy = power_of_two(-ey[r]);
#pragma unroll
      for (int n = 0; n < 8; ++n) y[n][2 * r] *= fy, y[n][2 * r + 1] *= fy;
    }
    if (a.lengths) {
      STAY_IN_BRANCH;
      EACH_ROW(r)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          if (left[r] - c * T <= 16 * (n / 2) + 2 * (n & 1) + j) y[n][2 * r + j] = 0.f;
    }
    EACH_ROW(r) {
      float* p = a.y + (at[r] + c * T);
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        // Written up to L; zero from the sequence's length on.
        if (allocated[r] - c * T > 8 * n)
          *(float4*)(p + 8 * n) = make_float4(y[n][2 * r], y[n][2 * r + 1], y[n + 1][2 * r], y[n + 1][2 * r + 1]);
      }
    }
  }

  // Writes what leaves the segments.
  __device__ __forceinline__ void finish() const {
    if (PROD == 1 && a.largest) {
      float x = largest_x, state = largest_state;
      for (int k = 4; k < 32; k *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, k)), state = fmaxf(state, __shfl_xor_sync(~0u, state, k));
      // Numbers that are not negative are ordered as their bits are.
      if (lane == 0) {
        atomicMax(a.largest + 4 * blockIdx.y, __float_as_int(x));
        // A pass that only ends segments begins them with zero: its states are not those that enter.
        if (states) atomicMax(a.largest + 4 * blockIdx.y + 1 + direction, __float_as_int(state));
      }
    }
    if (float* end = direction ? a.end[1] : a.end[0]) EACH_ROW(r) {
        if (sequence(r) < 0) continue;
        float* p = end + segment_state(r);
        const float f = power_of_two(-es_acc[r]);
#pragma unroll
        for (int n = 0; n < 8; ++n) p[8 * n] = acc[n][2 * r] * f, p[8 * n + 1] = acc[n][2 * r + 1] * f;
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
  one_pass.begin();
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
  one_pass.finish();
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
