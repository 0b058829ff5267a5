// The states that leave segments which begin with zero, of sequences of one direction or of both, x read once: what segment_scan.cu makes the
// states from that enter the segments for bidirectional_pass_sm90.cu.
//
// Where the pass goes from chunk to chunk, s ← Q·s + V·x, here four chunks are summed at once,
//   with time     s ← Q⁴·s + Q³V·x₀ + Q²V·x₁ + QV·x₂ + V·x₃,
//   against time  u = V′·x₀ + QV′·x₁ + Q²V′·x₂ + Q³V′·x₃,
// so that a state is split into f16 numbers once in four chunks. Against time the sums of a segment are put together from its beginning on:
// u₀ + Q⁴·u₁, and, of more than eight chunks, that sum + Q⁸·(u₂ + Q⁴·u₃) + Q¹⁶·…. Precision is that of the pass: PROD products for what x adds, three for what
// goes from state to state.
#include "ssm/segment_rows_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Chunks that are summed at once.
constexpr int AT_ONCE = 4;

// Order of a head's planes: per direction V, QV, Q²V and Q³V, of each the high plane and (PROD = 3) the low one; then Q⁴ high and low, and Q⁸ where there
// may be more than eight chunks.
// Exponents (H, 16): the same order, one for a matrix; Q⁴'s is at 8 and Q⁸'s at 9.
struct EndPlanes {
  int dirs, lows;
  __host__ __device__ constexpr int of_v(int dir, int power) const { return (dir * AT_ONCE + power) * lows; }
  __host__ __device__ constexpr int of_q(int which) const { return dirs * AT_ONCE * lows + 2 * which; }
};
constexpr int EXPONENTS = 16, Q_EXPONENT = 8;

// Arguments of the kernels.
struct Ends {
  SegmentInput input;
  const uint4* planes;
  const int* exps;
  float* end[2];  // (B, segments, H, NP): the state that leaves each segment, per direction
  int* largest;   // (H, 4), its first raised to the bits of the largest |x| that is written as rows; or null
  int count;
};

// A sum is never multiplied by more than 2^MOST_RISE when another product is to be added: below that, what is added would still change none of
// its bits, and a sum of f32 numbers stays in f32's range.
constexpr int MOST_RISE = 80;

// Sums of products, each row times a power of two.
struct Sums {
  float v[8][4];
  int e[2];

  __device__ __forceinline__ void scale_to(int r, int to) {
    const float f = power_of_two(to - e[r]);
#pragma unroll
    for (int n = 0; n < 8; ++n) v[n][2 * r] *= f, v[n][2 * r + 1] *= f;
    e[r] = to;
  }

  // As two f16 numbers each, row r times 2^es[r], es[r] at most `most`.
  __device__ __forceinline__ void split(u32 (&high)[KS][4], u32 (&low)[KS][4], int (&es)[2], const int (&most)[2]) const {
    EACH_ROW(r) {
      float m = 0.f;
#pragma unroll
      for (int n = 0; n < 8; ++n) m = fmaxf(m, fmaxf(fabsf(v[n][2 * r]), fabsf(v[n][2 * r + 1])));
      m = row_max(m);
      const int up = m == 0.f ? min(0, most[r]) - e[r] : f16_exponent(m, min(most[r] - e[r], 127));
      es[r] = up + e[r];
      const float scale = power_of_two(up);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        split_f16(high[n / 2][2 * (n & 1) + r], low[n / 2][2 * (n & 1) + r], v[n][2 * r], v[n][2 * r + 1], scale);
    }
  }
};

// s times the matrix at place q (its high and low planes), whose exponent is eq: its rows are states, which a chunk passes, or more than one.
DEV void multiply(Sums& s, u32 q, int eq) {
  u32 sh[KS][4], sl[KS][4];
  int es[2];
  s.split(sh, sl, es, {MOST_EXPONENT, MOST_EXPONENT});
  EACH_ROW(r) s.e[r] = es[r] + eq;
  wgmma_begin();
#pragma unroll
  for (int k = 0; k < KS; ++k) product<3, true>(s.v, sh[k], sl[k], q, PLANE, k);
  wgmma_end_group();
  wgmma_wait();
}

// The sums, of which row i is what the inner index i of a matrix stands for, as planes, laid out as bidirectional_operands_sm90.cu lays its matrices
// out, and the power of two. low: null where there is none. memory: 2 planes.
DEV void write_planes(uint4* high, uint4* low, int* exponent, const Sums& s, uint4* memory) {
  __shared__ float part[4];
  float f[2], most = 0.f;
  EACH_ROW(r) {
    f[r] = power_of_two(-s.e[r]);
#pragma unroll
    for (int n = 0; n < 8; ++n) most = fmaxf(most, f[r] * fmaxf(fabsf(s.v[n][2 * r]), fabsf(s.v[n][2 * r + 1])));
  }
  for (int k = 16; k; k >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, k));
  __syncthreads();  // part and memory may still be read from the matrix before
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane == 0) part[warp] = most;
  __syncthreads();
  most = fmaxf(fmaxf(part[0], part[1]), fmaxf(part[2], part[3]));
  const int e = f16_exponent(most, 24);
  if (threadIdx.x == 0) *exponent = e;
  const float scale = power_of_two(e);
  // Core matrix (inner / 8, outer / 8) of 8 × 8 numbers, a row of which is one outer index: a tile of the sums, transposed. Four at a time: two of
  // the outer index for both of the inner one.
  const u32 to = shared_address(memory) + ((2 * warp + (lane >> 3 & 1)) * 8 + (lane >> 4)) * 128 + (lane & 7) * 16;
#pragma unroll
  for (int n = 0; n < 8; n += 2) {
    u32 a[4], b[4];
#pragma unroll
    for (int k = 0; k < 2; ++k)
      EACH_ROW(r) split_f16(a[2 * k + r], b[2 * k + r], s.v[n + k][2 * r] * f[r], s.v[n + k][2 * r + 1] * f[r], scale);
    store_transposed(to + n * 128, a);
    store_transposed(to + PLANE + n * 128, b);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < PLANE / 16; i += 128) {
    high[i] = memory[i];
    if (low) low[i] = memory[PLANE / 16 + i];
  }
}

// planes (H, count, 64 × 64) and exps (H, 16), from `chunk_planes` (H, chunk_count, 64 × 64) and `chunk_exps` (H, 8), which
// bidirectional_operands_sm90.cu made for the pass, or for its adjoint: V of each direction, of which this kernel's results begin, and Q, each a high
// and a low plane. Block: 128 threads; grid (H, 1 + dirs): the powers of Q, and those of each direction's V, by products of pairs of f16 as in the
// pass; shared memory: 4 planes.
extern "C" __global__ void __launch_bounds__(128, 4)
    segment_operands(uint4* planes, int* exps, const uint4* chunk_planes, const int* chunk_exps, int dirs, int lows, int count, int chunk_count) {
  extern __shared__ __align__(128) char memory[];
  const EndPlanes order = {dirs, lows};
  const int h = blockIdx.x, dir = (int)blockIdx.y - 1, lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  planes += (i64)h * count * (PLANE / 16), exps += h * EXPONENTS, chunk_planes += (i64)h * chunk_count * (PLANE / 16), chunk_exps += 8 * h;
  uint4 *q_planes = (uint4*)memory, *v_planes = (uint4*)(memory + 2 * PLANE);
  for (int i = threadIdx.x; i < 2 * (PLANE / 16); i += 128) {
    q_planes[i] = chunk_planes[2 * dirs * (PLANE / 16) + i];
    if (dir >= 0) v_planes[i] = chunk_planes[2 * dir * (PLANE / 16) + i];
  }
  const u32 q = place(shared_address(memory));
  const int eq = chunk_exps[2];
  stores_before_wgmma();
  __syncthreads();
  // Row i is what the inner index i stands for: of Q the identity's rows, of V its columns.
  Sums s;
  EACH_ROW(r) {
    s.e[r] = dir < 0 ? 0 : chunk_exps[dir];
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        // Number g of row 2t + i of the core matrix (2·warp + r, n).
        const unsigned short* at = (const unsigned short*)v_planes + ((2 * warp + r) * 8 + n) * 64 + (2 * t + i) * 8 + g;
        s.v[n][2 * r + i] = dir < 0 ? (float)(8 * n + 2 * t + i == 16 * warp + 8 * r + g) : unpack_f16(at[0]).x + unpack_f16(at[PLANE / 2]).x;
      }
  }
  if (dir < 0) {
    for (int which = 0; order.of_q(which) < count; ++which) {
      for (int k = 0; k < AT_ONCE; ++k) multiply(s, q, eq);
      uint4* high = planes + order.of_q(which) * (PLANE / 16);
      write_planes(high, high + PLANE / 16, exps + Q_EXPONENT + which, s, v_planes);
    }
    return;
  }
  for (int power = 0; power < AT_ONCE; ++power) {
    if (power) multiply(s, q, eq);
    uint4* high = planes + order.of_v(dir, power) * (PLANE / 16);
    write_planes(high, lows == 2 ? high + PLANE / 16 : nullptr, exps + dir * AT_ONCE + power, s, v_planes);
  }
}

// What one warpgroup does for 64 segments. DIRS: 1 with time, 2 against it, 3 both.
template <int PROD, int DIRS, Input IN>
struct SegmentEnds : SegmentRows<PROD, IN, PROD == 3 ? 2 : 4> {
  static constexpr int STAGES = PROD == 3 ? 2 : 4;
  using Rows = SegmentRows<PROD, IN, STAGES>;
  using Rows::a;
  static constexpr bool AHEAD = DIRS & 1, BACK = DIRS & 2;
  static constexpr EndPlanes ORDER = {1 + (DIRS == 3), PROD == 3 ? 2 : 1};
  static constexpr int OF_BACK = DIRS == 3;  // which direction's matrices are those against time
  const u32 planes;  // place of the first one
  int ev[2] = {}, eq;  // exponents of the planes, a byte each
  // x of a chunk and of the next one, times 2^ex.
  u32 xh[2][KS][4], xl[2][KS][4];
  int ex[2][2];
  Sums ahead, four, back;  // with time; against time those of four chunks, and those of all groups of four

  __device__ __forceinline__ SegmentEnds(const Ends& p, int tile, char* memory)
      : Rows(p.input, tile, memory + p.count * PLANE), planes(place(shared_address(memory))) {
    const int* exps = p.exps + EXPONENTS * blockIdx.y;
    for (int dir = 0; dir < ORDER.dirs; ++dir)
      for (int k = 0; k < AT_ONCE; ++k) ev[dir] |= (exps[AT_ONCE * dir + k] & 255) << 8 * k;
    eq = (exps[Q_EXPONENT] & 255) | (exps[Q_EXPONENT + 1] & 255) << 8;
    EACH_ROW(r) {
      // Zeros, which the first chunk scales to its own power of two.
      ahead.e[r] = 200;
#pragma unroll
      for (int n = 0; n < 8; ++n) ahead.v[n][2 * r] = ahead.v[n][2 * r + 1] = 0.f;
    }
  }

  // Makes x of chunk c ready and asks for that of a later one. C: c but for a multiple of four. LATER: as in arrive.
  template <int C, int LATER>
  __device__ __forceinline__ void take(int c) {
    this->template arrive<LATER>(C % STAGES);
    this->convert(xh[C & 1], xl[C & 1], ex[C & 1], c);
    this->fetch(c + STAGES, C % STAGES);
    if (PROD == 1 && IN != ROWS && a.x_rows) this->write_rows(a.x_rows, a.x_exps, xh[C & 1], ex[C & 1], c);
  }

  // Rows of x in f16 by 2^−k[r], for the products of one chunk: a row that is that much smaller than the sums.
  __device__ __forceinline__ void lower(int buffer, const int (&k)[2]) {
    EACH_ROW(r) {
      const float f = power_of_two(-k[r]);
      ex[buffer][r] -= min(k[r], 126);
#pragma unroll
      for (int i = 0; i < KS; ++i)
#pragma unroll
        for (int j = r; j < 4; j += 2) {
          const float2 h = unpack_f16(xh[buffer][i][j]);
          xh[buffer][i][j] = pack_f16(h.x * f, h.y * f);
          if (PROD == 3) {
            const float2 l = unpack_f16(xl[buffer][i][j]);
            xl[buffer][i][j] = pack_f16(l.x * f, l.y * f);
          }
        }
    }
  }

  // Adds what chunk c = 4i + J adds.
  template <int J>
  __device__ __forceinline__ void add(int c) {
    constexpr int NOW = J & 1;
    const int ev_ahead = (signed char)(ev[0] >> 8 * (AT_ONCE - 1 - J)), ev_back = (signed char)(ev[OF_BACK] >> 8 * J);
    int over[2];
    EACH_ROW(r) {
      over[r] = 0;
      if (AHEAD) over[r] = max(over[r], ex[NOW][r] + ev_ahead - ahead.e[r] - MOST_RISE);
      if (BACK && J) over[r] = max(over[r], ex[NOW][r] + ev_back - four.e[r] - MOST_RISE);
    }
    if (__any_sync(~0u, over[0] | over[1])) lower(NOW, over);
    EACH_ROW(r) {
      if (AHEAD) ahead.scale_to(r, ex[NOW][r] + ev_ahead);
      if (BACK && J) four.scale_to(r, ex[NOW][r] + ev_back);
      if (BACK && !J) four.e[r] = ex[NOW][r] + ev_back;
    }
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) {
      if (AHEAD)
        product<PROD, false>(ahead.v, xh[NOW][k], xl[NOW][k], planes + places(ORDER.of_v(0, AT_ONCE - 1 - J) * PLANE), PLANE, k);
      if (BACK) product<PROD, J == 0>(four.v, xh[NOW][k], xl[NOW][k], planes + places(ORDER.of_v(OF_BACK, J) * PLANE), PLANE, k);
    }
    wgmma_end_group();
    take<(J + 1) % AT_ONCE, STAGES - 1>(c + 1);
    wgmma_wait();
  }

  // `to` (FRESH: overwritten) += Q⁴ (which = 0) or Q⁸ times `from`, which may be `to` where it is overwritten.
  template <bool FRESH>
  __device__ __forceinline__ void carry(Sums& to, const Sums& from, int which) const {
    const int eq = (signed char)(this->eq >> 8 * which);
    u32 sh[KS][4], sl[KS][4];
    int es[2], most[2];
    EACH_ROW(r) most[r] = FRESH ? MOST_EXPONENT : min(MOST_EXPONENT, to.e[r] + MOST_RISE - eq);
    from.split(sh, sl, es, most);
    EACH_ROW(r) {
      if (FRESH) to.e[r] = es[r] + eq;
      else to.scale_to(r, es[r] + eq);
    }
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) product<3, FRESH>(to.v, sh[k], sl[k], planes + places(ORDER.of_q(0) * PLANE) + which * places(2 * PLANE), PLANE, k);
    wgmma_end_group();
    wgmma_wait();
  }

  // Writes a state that leaves the segments, or adds to what was written.
  __device__ __forceinline__ void write(float* end, const Sums& s, bool added) const {
    EACH_ROW(r) {
      const bool there = this->sequence(r) >= 0;
      float* p = end + (there ? this->segment_state(r) : 0);
      const float f = power_of_two(-s.e[r]);
      float2 before[8] = {};
      if (added && there)
#pragma unroll
        for (int n = 0; n < 8; ++n) before[n] = *(const float2*)(p + 8 * n);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        write2_if(p + 8 * n, fmaf(s.v[n][2 * r], f, before[n].x), fmaf(s.v[n][2 * r + 1], f, before[n].y), there);
    }
  }

  __device__ __forceinline__ void run(const Ends& p) {
    const int count = a.chunks_per_segment;
    float* end_back = p.end[OF_BACK];
    for (int c = 0; c < count; c += AT_ONCE) {
      add<0>(c), add<1>(c + 1), add<2>(c + 2), add<3>(c + 3);
      if (AHEAD && c + AT_ONCE < count) carry<true>(ahead, ahead, 0);
      if (!BACK) continue;
      if (c / AT_ONCE % 2 == 0) back = four;
      else carry<false>(back, four, 0);
      if (count <= 2 * AT_ONCE || c / AT_ONCE % 2 == 0) continue;
      // Of more than eight chunks the sums of eight at a time, each times the power of Q⁸ that is due, are added up in memory.
      const int eight = c / (2 * AT_ONCE);
      for (int k = 0; k < eight; ++k) carry<true>(back, back, 1);
      write(end_back, back, eight > 0);
    }
    if (AHEAD) write(p.end[0], ahead, false);
    if (BACK && count <= 2 * AT_ONCE) write(end_back, back, false);
    if (PROD == 1 && IN != ROWS && a.x_rows) {
      this->end_exponents(a.x_exps);
      if (p.largest) this->raise(p.largest + 4 * blockIdx.y, this->largest_x);
    }
  }
};

// Grid (segments of all sequences / 128, H), of 4 chunks each, 8, or a multiple of 8; block: 256 threads; shared memory: `count` planes, and
// x that waits: STAGES times 128 bytes a thread, or (ROWS) 72.
template <int PROD, int DIRS, Input IN>
DEV void ends(const Ends& p) {
  extern __shared__ __align__(128) char shared[];
  using E = SegmentEnds<PROD, DIRS, IN>;
  E rows(p, 2 * blockIdx.x + __shfl_sync(~0u, (int)threadIdx.x >> 7, 0), shared);
#pragma unroll
  for (int c = 0; c < E::STAGES; ++c) rows.fetch(c, c);
  const u32 base = shared_address(shared);
  const uint4* planes = p.planes + (i64)blockIdx.y * p.count * (PLANE / 16);
  for (int e = threadIdx.x; e < p.count * (PLANE / 16); e += blockDim.x) copy_16(base + 16 * e, planes + e, 16);
  copies_end_group();
  rows.template take<0, E::STAGES>(0);
  wait_copies<1>();
  stores_before_wgmma();
  __syncthreads();
  rows.run(p);
}

#define ENDS(name, PROD, DIRS, IN)                                                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 1) name(                                                                                  \
      float* end0, float* end1, const float* x, const uint4* planes, const int* exps, uint4* x_rows, int* x_exps, int* largest,               \
      const int* lengths, const float* stats, const float* gamma, const float* beta, int B, int H, int segments, int chunks_per_segment,      \
      int chunks, int count, i64 L) {                                                                                                         \
    ends<PROD, DIRS, IN>({{x, x_rows, x_exps, lengths, stats, gamma, beta, B, H, segments, chunks_per_segment, chunks, L}, planes, exps,      \
                          {end0, end1}, largest, count});                                                                                     \
  }
// With time goes the pass itself, whose input may be normed, and against it its adjoint, whose input may be rows; both directions together may be
// either.
ENDS(ends_1_ahead, 1, 1, PLAIN)
ENDS(ends_1_ahead_norm, 1, 1, NORMED)
ENDS(ends_3_ahead, 3, 1, PLAIN)
ENDS(ends_3_ahead_norm, 3, 1, NORMED)
ENDS(ends_1_back, 1, 2, PLAIN)
ENDS(ends_1_back_rows, 1, 2, ROWS)
ENDS(ends_3_back, 3, 2, PLAIN)
ENDS(ends_1_both, 1, 3, PLAIN)
ENDS(ends_1_both_norm, 1, 3, NORMED)
ENDS(ends_1_both_rows, 1, 3, ROWS)
ENDS(ends_3_both, 3, 3, PLAIN)
ENDS(ends_3_both_norm, 3, 3, NORMED)

#endif
