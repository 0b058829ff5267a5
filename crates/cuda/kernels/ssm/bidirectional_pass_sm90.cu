// The chunk pass by Hopper's warpgroups for sequences without an initial or a final state: both directions of a
// bidirectional layer at once, or one. It computes what chunk_pass_f16.cuh computes, with matrices that
// bidirectional_operands_sm90.cu prepared.
//
// A warpgroup takes 64 segments of sequences, of one head, as the rows of X and S, and goes from chunk to chunk; x is
// asked for one chunk ahead. Of a bidirectional layer one warpgroup goes with time and one against it, and
// they meet in the middle: each keeps the states of the chunks before the middle in shared memory, where the other
// reads them after the middle, so that
//   Y_c = X_c·Toepᵀ + S_c·Wᵀ + S′_c·W′ᵀ
// is written once and nothing but x is read. Powers of two are those of chunk_pass_f16.cuh. PROD = 3: everything takes three
// products of 16-bit numbers. PROD = 1: x is f16, outputs take one product, and of the other direction's states only the high parts are kept;
// what goes from state to state takes three still, since its rounding would add up over chunks.
//
// What enters the chunks goes to memory for the gradients: as f32, or (PROD = 1) as f16 with a power of two per chunk, and then x as well,
// as the products read it, for chunk_pass_backward_f16_sm90.cu.
#include "ssm/segment_rows_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

struct Pass {
  SegmentInput input;
  float* y;                // (B, H, L)
  const uint4* planes;     // (H, count, 64 × 64 of f16)
  const int* exps;         // (H, 8): V, V′, Q, W, W′, Toep
  const float* init[2];    // (B, segments, H, NP) per direction: state entering each segment, or null: zero
  void* states[2];         // (H, B, chunks, NP): state entering each chunk, or null
  int* state_exps[2];      // (H, exponents_of_head): powers of two of those states, where they are f16
  int* largest;            // (H, 4), raised to the bits of the largest |x| and, per direction, the largest |state|; or null
  int directions, last_to_first, count;
};

// Order of the planes in shared memory: V (V′) high and low, Q high and low, then W (W′) and Toep, first all high, then
// all low.
template <bool BOTH>
struct PlaneLayout {
  static constexpr int Q = BOTH ? 4 : 2, W = Q + 2, TOEP = W + 1 + BOTH, LOW = 2 + BOTH;
  __device__ static constexpr int used(bool out, int prod) { return out ? W + (prod == 3 ? 2 : 1) * LOW : W; }
};

// What one warpgroup does: one direction of the pass over 64 segments of one head. OUT: writes y; BOTH: the block's other
// warpgroup takes the other direction.
//
// A thread holds of X and S the rows g and g + 8 of its warp's sixteen. While the tensor cores work for one chunk, the next one's x is made f16 and
// x of the chunk after it is on its way; the sums of a chunk are the next state, times a power of two, until they are split for the next products.
template <int PROD, bool OUT, bool BOTH, Input IN>
struct OneDirectionPass : SegmentRows<PROD, IN, IN == ROWS> {
  using Rows = SegmentRows<PROD, IN, IN == ROWS>;
  using Rows::a, Rows::allocated, Rows::at, Rows::chunk_count, Rows::exponent_row, Rows::g, Rows::lane, Rows::largest_x, Rows::left, Rows::row, Rows::t,
      Rows::warp;
  static constexpr int USED = PlaneLayout<BOTH>::used(OUT, PROD), KEPT_STATE = PROD == 3 ? 2 * PLANE : PLANE;
  // Shared memory but for x that waits.
  __device__ __forceinline__ static int own_bytes(const SegmentInput& a) {
    return USED * PLANE + (BOTH ? a.chunks_per_segment * (KEPT_STATE + 64 * 4) : 0);
  }
  const Pass& pass;
  const int direction, against_time;  // index of this direction, and whether it goes against time
  u32 base, kept_states;  // shared addresses: the planes, and the states kept for the other direction
  int* kept_exps;
  int ev, eq, ew, ewo, et;
  float acc[8][4];     // the state times 2^es_acc, once the products of a chunk are done
  u32 sh[KS][4], sl[KS][4];  // the state that enters a chunk, times 2^es
  u32 xh[KS][4], xl[KS][4];  // x of a chunk, times 2^ex
  int es[2], ex[2], es_acc[2] = {};
  void* states;  // of this direction
  int* state_exps;
  float largest_state = 0.f;

  __device__ __forceinline__ OneDirectionPass(const Pass& pass, char* memory)
      : Rows(pass.input, BOTH ? blockIdx.x : blockIdx.x / pass.directions, memory + own_bytes(pass.input)),
        pass(pass),
        direction(BOTH ? __shfl_sync(~0u, (int)threadIdx.x >> 7, 0) : (int)blockIdx.x % pass.directions),
        against_time(pass.directions == 2 ? direction : pass.last_to_first) {
    states = direction ? pass.states[1] : pass.states[0], state_exps = direction ? pass.state_exps[1] : pass.state_exps[0];
    base = shared_address(memory), kept_states = base + USED * PLANE;
    kept_exps = (int*)(memory + USED * PLANE + a.chunks_per_segment * KEPT_STATE) + 16 * warp + g;
    const int* e = pass.exps + 8 * blockIdx.y;
    ev = e[direction], eq = e[2], ew = e[3 + direction], ewo = e[4 - direction], et = e[5];
  }

  // Number, in time, of the i-th chunk that this direction visits; behind the last one, that of none. So the last chunk needs no code of its own.
  __device__ __forceinline__ int chunk(int i) const {
    return i >= a.chunks_per_segment ? a.chunks_per_segment : against_time ? a.chunks_per_segment - 1 - i : i;
  }

  // The state that enters the i-th visited chunk, `acc` by 2^−es_acc, as the products read it; written where states in f32 are kept.
  __device__ __forceinline__ void enter(int i) {
    EACH_ROW(r) {
      if (PROD == 3 && states) {
        float* p = (float*)states + (i64)(row[r] + chunk(i)) * NP + 2 * t;
        const float f = power_of_two(-es_acc[r]);
#pragma unroll
        for (int n = 0; n < 8; ++n) write2_if(p + 8 * n, acc[n][2 * r] * f, acc[n][2 * r + 1] * f, chunk(i) < chunk_count[r]);
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
    const float* init = direction ? pass.init[1] : pass.init[0];
    EACH_ROW(r) {
      const bool there = init && this->sequence(r) >= 0;
      const float* p = init + (there ? this->segment_state(r) : 0);
#pragma unroll
      for (int n = 0; n < 8; ++n) acc[n][2 * r] = there ? p[8 * n] : 0.f, acc[n][2 * r + 1] = there ? p[8 * n + 1] : 0.f;
    }
    enter(0);
    this->template arrive<1>(0);  // and then the planes
    this->convert(xh, xl, ex, chunk(0));
    this->fetch(chunk(1));
    if (PROD == 1 && states) this->end_exponents(state_exps);
    if (PROD == 1 && IN != ROWS && direction == 0 && a.x_rows) this->end_exponents(a.x_exps);
  }

  // Begins what the x that has been made f16 adds to the state.
  __device__ __forceinline__ void add_x() {
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < KS; ++k) product<PROD, true>(acc, xh[k], xl[k], place(base) + (BOTH ? direction : 0) * places(2 * PLANE), PLANE, k);
    wgmma_end_group();
  }

  // The i-th visited chunk. OUT: add_x has been called for it, and is for the next one, so that outputs are written while the tensor cores work.
  // WRITE: writes its outputs; KEEP: keeps its state for the other warpgroup.
  template <bool WRITE, bool KEEP>
  __device__ __forceinline__ void step(int i) {
    using P = PlaneLayout<BOTH>;
    const int c = chunk(i), own = BOTH ? direction : 0;
    const u32 planes = place(base), q = planes + places(P::Q * PLANE), w = planes + places(P::W * PLANE) + own * places(PLANE), toep = planes + places(P::TOEP * PLANE),
              other = planes + places((P::W + 1) * PLANE) - own * places(PLANE);
    constexpr u32 LOW = P::LOW * PLANE;
    float y[8][4];
    if (!OUT) add_x();
    if (WRITE) {
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < KS; ++k) product<PROD, true>(y, xh[k], xl[k], toep, LOW, k);
      wgmma_end_group();
    }
    // While the tensor cores work: what is kept of x and of the state. Of two directions each keeps x of the chunks that it is the first to visit.
    if (PROD == 1 && IN != ROWS && (BOTH ? KEEP : direction == 0) && a.x_rows) this->write_rows(a.x_rows, a.x_exps, xh, ex, c);
    if (PROD == 1 && states) this->write_rows((uint4*)states, state_exps, sh, es, c);
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
    this->template arrive<0>(0);
    this->convert(xh, xl, ex, chunk(i + 1));
    this->fetch(chunk(i + 2));
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
    if (WRITE && BOTH) wgmma_wait();
    if (OUT) add_x();
    if constexpr (WRITE) write_outputs(y, ey, c);
  }

  // Writes the outputs y·2^−ey of chunk c: up to L, zero from the sequence's length on.
  __device__ __forceinline__ void write_outputs(float (&y)[8][4], const int (&ey)[2], int c) const {
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
      float* p = pass.y + (at[r] + c * T);
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        if (allocated[r] - c * T > 8 * n)
          *(float4*)(p + 8 * n) = make_float4(y[n][2 * r], y[n][2 * r + 1], y[n + 1][2 * r], y[n + 1][2 * r + 1]);
      }
    }
  }

  __device__ __forceinline__ void finish() const {
    if (PROD != 1 || !pass.largest) return;
    this->raise(pass.largest + 4 * blockIdx.y, largest_x);
    if (states) this->raise(pass.largest + 4 * blockIdx.y + 1 + direction, largest_state);
  }
};

template <int PROD, bool OUT, bool BOTH, Input IN>
DEV void run(const Pass& a) {
  using D = OneDirectionPass<PROD, OUT, BOTH, IN>;
  extern __shared__ __align__(128) char memory[];
  D one_pass(a, memory);
  const int chunks = a.input.chunks_per_segment;
  one_pass.fetch(one_pass.chunk(0));
  // A pass for states of one direction of two loads its own V, and Q.
  const bool one_of_two = !BOTH && a.directions == 2;
  const uint4* planes = a.planes + (i64)blockIdx.y * a.count * (PLANE / 16);
  for (int e = threadIdx.x; e < D::USED * (PLANE / 16); e += blockDim.x) {
    const int skip = !one_of_two ? 0 : e >= 2 * (PLANE / 16) ? 2 : 2 * one_pass.direction;
    copy_16(one_pass.base + 16 * e, planes + e + skip * (PLANE / 16), 16);
  }
  copies_end_group();
  one_pass.begin();
  wait_copies<IN == ROWS>();  // but for x of the next chunk
  stores_before_wgmma();
  __syncthreads();
  if (OUT) one_pass.add_x();
  if (BOTH) {
    const int first = one_pass.against_time ? chunks - chunks / 2 : chunks / 2;
    for (int i = 0; i < first; ++i) one_pass.template step<false, true>(i);
    stores_before_wgmma();
    __syncthreads();
    for (int i = first; i < chunks; ++i) one_pass.template step<true, false>(i);
  } else {
    for (int i = 0; i < chunks; ++i) one_pass.template step<OUT, false>(i);
  }
  if (OUT) wgmma_wait();
  one_pass.finish();
}

// Grid (segments of all sequences / 64, H); shared memory: the planes in use. Both directions: blocks of 256 threads,
// and shared memory per chunk of a segment for PLANE (PROD = 3: 2·PLANE) bytes of states and 256 of exponents. Else
// blocks of 128; where there are two directions, a block for each. ROWS: and 72 bytes a thread.
#define PASS(name, threads, blocks, PROD, OUT, BOTH)             \
  PASS_OF(name, threads, blocks, PROD, OUT, BOTH, PLAIN)         \
  PASS_OF(name##_norm, threads, blocks, PROD, OUT, BOTH, NORMED)
#define PASS_OF(name, threads, blocks, PROD, OUT, BOTH, IN)                                                                   \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(                                                 \
      float* y, const float* x, const uint4* planes, const int* exps, const float* init0, const float* init1,           \
      void* states0, void* states1, int* exps0, int* exps1, uint4* x_rows, int* x_exps, int* largest,                  \
      const int* lengths, const float* stats, const float* gamma, const float* beta, int B, int H, int segments, \
      int chunks_per_segment, int chunks, int directions, int last_to_first, int count, i64 L) {                                                  \
    run<PROD, OUT, BOTH, IN>({{x, x_rows, x_exps, lengths, stats, gamma, beta, B, H, segments, chunks_per_segment, chunks, L}, \
                              y, planes, exps, {init0, init1}, {states0, states1}, {exps0, exps1}, largest, directions,  \
                              last_to_first, count});                                                                \
  }
PASS_OF(states_1, 128, 3, 1, false, false, PLAIN)
PASS_OF(states_3, 128, 3, 3, false, false, PLAIN)
PASS(outputs_1, 128, 2, 1, true, false)
PASS(outputs_3, 128, 2, 3, true, false)
PASS(both_1, 256, 1, 1, true, true)
PASS(both_3, 256, 1, 3, true, true)
PASS_OF(states_1_rows, 128, 3, 1, false, false, ROWS)
PASS_OF(outputs_1_rows, 128, 2, 1, true, false, ROWS)
PASS_OF(both_1_rows, 256, 1, 1, true, true, ROWS)

#endif
