// What kernels share in which a warpgroup of Hopper takes 64 segments of sequences, of one head, as the rows of its products: where the rows lie,
// how their x is read and made f16, and products by wgmma.
#pragma once
#include "common/wgmma.cuh"
#include "ssm/chunk.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int NP = 64, KS = 4, PLANE = 64 * 64 * 2;

// x and how its sequences are cut.
struct SegmentInput {
  const float* x;          // (B, H, L)
  uint4* x_rows;           // (H, B, chunks, T): x as f16; read (ROWS), or written, or null
  int* x_exps;             // (H, exponents_of_head): its powers of two
  const int* lengths;      // (B) or null
  const float *stats, *gamma, *beta;  // NORMED: means and inverse deviations (2, H), scale and offset (H)
  int B, H, segments, chunks_per_segment, chunks;
  i64 L;
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

// The rows of a warpgroup's thread: g and g + 8 of its warp's sixteen, each a segment of a sequence of head blockIdx.y. `tile`: which 64 of the
// segments of all sequences the warpgroup has. x that has been asked for waits in registers, or (STAGES > 0) in shared memory, as many chunks of it,
// where each thread reads what it has copied: the compiler moves loads into registers behind all else that it can.
template <int PROD, Input IN, int STAGES>
struct SegmentRows {
  static constexpr int PARTS = IN == ROWS ? 4 : 8;  // of 16 bytes, of a thread's x of a chunk
  // Bytes of shared memory of `threads` threads: the parts, and behind those of all stages two powers of two each.
  __host__ __device__ static constexpr int stage_bytes(int threads) { return STAGES * threads * (16 * PARTS + (IN == ROWS ? 8 : 0)); }
  const SegmentInput& a;
  const int lane, warp, g, t, tile;
  // Of each row: of its segment the first number in x and y, how many numbers are there and how many places, both from this thread's first number
  // on, the first (sequence, chunk) among those of all heads and of this head, and how many chunks.
  i64 at[2];
  int left[2], allocated[2], row[2], exponent_row[2], chunk_count[2];
  float largest_x = 0.f, mean, factor, shift;
  float4 next[2][4];
  uint4 next_rows[2][2];
  int next_exps[2];
  char* stages;

  __device__ __forceinline__ SegmentRows(const SegmentInput& a, int tile, char* stages)
      : a(a), stages(stages), lane(threadIdx.x & 31), warp(threadIdx.x >> 5 & 3), g(lane >> 2), t(lane & 3), tile(tile) {
    const int h = blockIdx.y;
    if (IN == NORMED) mean = a.stats[h], factor = a.gamma[h] * a.stats[a.H + h], shift = a.beta[h];
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
  __device__ __forceinline__ int segment_row(int r) const { return tile * 64 + 16 * warp + 8 * r + g; }
  __device__ __forceinline__ int sequence(int r) const { return segment_row(r) < a.B * a.segments ? segment_row(r) / a.segments : -1; }
  __device__ __forceinline__ int segment(int r) const { return sequence(r) < 0 ? 0 : segment_row(r) % a.segments; }
  // Of row r's sequence and segment its two numbers in an array of states (B, segments, H, NP).
  __device__ __forceinline__ i64 segment_state(int r) const {
    return (((i64)sequence(r) * a.segments + segment(r)) * a.H + blockIdx.y) * NP + 2 * t;
  }

  // Where part `part` of a stage lies, and a power of two.
  __device__ __forceinline__ char* staged(int stage, int part) const { return stages + ((stage * PARTS + part) * blockDim.x + threadIdx.x) * 16; }
  __device__ __forceinline__ char* staged_exponent(int stage, int r) const {
    return stages + STAGES * PARTS * blockDim.x * 16 + ((stage * 2 + r) * blockDim.x + threadIdx.x) * 4;
  }

  // Asks for x of chunk c of the segments; behind the last chunk, for zeros.
  __device__ __forceinline__ void fetch(int c, int stage = 0) {
    EACH_ROW(r) {
      if (IN == ROWS) {
        const bool there = c < chunk_count[r];
        const float4* p = (const float4*)(a.x_rows + (i64)(row[r] + c) * (T / 8) + t);
        const int* exponent = a.x_exps + exponent_row[r] + c;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          if (STAGES) {
            copy_16(shared_address(staged(stage, 2 * r + k)), p + 4 * k, there ? 16 : 0);
            continue;
          }
          const float4 v = read4_if((const float*)(p + 4 * k), there);
          next_rows[r][k] = make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w));
        }
        if (STAGES) copy_4(shared_address(staged_exponent(stage, r)), exponent, there ? 4 : 0);
        else next_exps[r] = __float_as_int(read_if((const float*)exponent, there));
      } else {
        const float* p = a.x + (at[r] + c * T);
#pragma unroll
        for (int k = 0; k < KS; ++k) {
          const bool there = left[r] - c * T > 16 * k;
          if (STAGES) copy_16(shared_address(staged(stage, 4 * r + k)), p + 16 * k, there ? 16 : 0);
          else next[r][k] = read4_if(p + 16 * k, there);
        }
      }
    }
    if (STAGES) copies_end_group();
  }

  // Reads what has been asked for into `next`, once it has arrived, whatever else follows in LATER groups of copies.
  template <int LATER>
  __device__ __forceinline__ void arrive(int stage) {
    if (!STAGES) return;
    wait_copies<LATER>();
    EACH_ROW(r) {
      if (IN == ROWS) {
#pragma unroll
        for (int k = 0; k < 2; ++k) next_rows[r][k] = *(const uint4*)staged(stage, 2 * r + k);
        next_exps[r] = *(const int*)staged_exponent(stage, r);
      } else {
#pragma unroll
        for (int k = 0; k < KS; ++k) next[r][k] = *(const float4*)staged(stage, 4 * r + k);
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

  // x of chunk c, from `next`, as the products read it: times 2^ex.
  __device__ __forceinline__ void convert(u32 (&xh)[KS][4], u32 (&xl)[KS][4], int (&ex)[2], int c) {
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

  // Eight numbers in one piece, in an order in which a lane has them; time_at and state_at of chunk_pass_backward_f16_sm90.cu undo it. And their
  // powers of two. Nothing behind the last chunk.
  __device__ __forceinline__ void write_rows(uint4* rows, int* exps, const u32 (&v)[KS][4], const int (&e)[2], int c) const {
    EACH_ROW(r) {
      const bool there = c < chunk_count[r];
      uint4* p = rows + (i64)(row[r] + c) * (T / 8) + t;
#pragma unroll
      for (int k = 0; k < KS; k += 2) write4_if(p + 2 * k, v[k][r], v[k][2 + r], v[k + 1][r], v[k + 1][2 + r], there);
      write_if(exps + exponent_row[r] + c, e[r], there && t == 0);
    }
  }

  // The powers of two behind a head's last row, as put_exponent leaves them, by one warpgroup of a head.
  __device__ __forceinline__ void end_exponents(int* exps) const {
    const int of_head = exponents_of_head(a.B, a.chunks), behind = a.B * a.chunks + (int)(threadIdx.x & 127);
    if (tile == 0 && behind < of_head) exps[blockIdx.y * of_head + behind] = 0;
  }

  // Raises *to to the bits of the largest m of the warp; numbers that are not negative are ordered as their bits are.
  __device__ __forceinline__ void raise(int* to, float m) const {
    for (int k = 4; k < 32; k *= 2) m = fmaxf(m, __shfl_xor_sync(~0u, m, k));
    if (lane == 0) atomicMax(to, __float_as_int(m));
  }
};

#endif
