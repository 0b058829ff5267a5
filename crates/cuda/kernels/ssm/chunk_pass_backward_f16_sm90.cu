// The gradients of chunk_pass_backward_bf16_sm90.cu where one product in f16 is enough: [dY | dS]ᵀ·[X | S] of each head, summed over
// (sequence, chunk), after the pass of bidirectional_pass_sm90.cu. The states are f16 already, with a power of two per chunk. A sum has one
// power of two: each of the four operands is scaled so that its largest number in a head lies in [2^14, 2^15).
#include "ssm/chunk_pass_backward_bf16.cuh"
#include "common/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int MK = 32;
using Core = CoreMatrices<false>;
constexpr int PLANE = Core::BYTES, STAGE = 2 * PLANE;  // A, B
constexpr int MOST = 64;  // as in bidirectional_pass_sm90.cu: the largest power of two

struct Operands {
  const float *dy, *x;          // (B, H, L)
  const uint2 *ds, *s;          // (H, B, chunks, NP) of f16
  const int *ds_exps, *s_exps;  // (H, B, chunks)
  const int *lengths;           // (B) or null
  int B, H, chunks;
  i64 L;
};

// The state at a place of a row of states, as bidirectional_pass_sm90.cu writes it.
DEV int place_of_state(int place) {
  const int k = 2 * (place >> 5) + (place >> 2 & 1), t = place >> 3 & 3, j = place & 3;
  return 16 * k + 2 * t + (j & 1) + 8 * (j >> 1);
}

// x·2^−d of two f16 numbers, d ≥ 0.
DEV u32 scale_down(u32 x, int d) {
  const u32 factor = d <= 14 ? (u32)(15 - d) << 10 : 1u << 24 >> min(d, 25);
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(x), "r"(factor | factor << 16));
  return r;
}

DEV uint2 read8_if(const uint2* p, bool there) {
  uint2 v;
  asm volatile("{.reg .pred q; setp.ne.s32 q, %3, 0; mov.b32 %0, 0; mov.b32 %1, 0; @q ld.global.v2.b32 {%0, %1}, [%2];}"
               : "=r"(v.x), "=r"(v.y)
               : "l"(p), "r"((int)there));
  return v;
}

// What one thread reads: four numbers of one operand, of every fourth (sequence, chunk). A warp reads one operand, two rows at a time.
struct HalfReader {
  const Operands& o;
  const int kind, within;  // 0: dY, 1: dS, 2: X, 3: S; the first of its four numbers
  const char* from;
  const int* exps;
  i64 len;
  int at, total, b, c;

  __device__ HalfReader(const Operands& o, int first)
      : o(o), kind(threadIdx.x >> 5 & 3), within((threadIdx.x & 15) * 4), total(o.B * o.chunks) {
    const int h = blockIdx.x;
    at = first + row(), b = min(at / o.chunks, o.B - 1), c = at - b * o.chunks;
    len = length();
    const i64 line = (i64)h * total + at;
    exps = (kind == 1 ? o.ds_exps : o.s_exps) + line;
    from = kind & 1 ? (const char*)((kind == 1 ? o.ds : o.s) + line * (NP / 4) + within / 4)
                    : (const char*)((kind == 0 ? o.dy : o.x) + ((i64)b * o.H + h) * o.L + (i64)c * T + within);
  }
  // Its first row of the MK of a step.
  __device__ static int row() { return (threadIdx.x >> 4 & 1) + 2 * (threadIdx.x >> 7); }
  __device__ i64 length() const { return o.lengths ? (i64)o.lengths[b] : o.L; }

  // Loads the next N rows: four f32, or four f16 and their power of two. Zero beyond a sequence's length and beyond the last row.
  template <int N>
  __device__ __forceinline__ void fetch(uint4 (&next)[N]) {
    if (kind & 1) {
#pragma unroll
      for (int l = 0; l < N; ++l) {
        const uint2 v = read8_if((const uint2*)from, at < total);
        next[l] = make_uint4(v.x, v.y, at < total ? (u32)*exps : 0u, 0u);
        at += 4, from += 4 * 2 * NP, exps += 4;
      }
    } else {
#pragma unroll
      for (int l = 0; l < N; ++l) {
        const i64 left = at < total ? len - (i64)c * T - within : 0;
        float4 v = read4_if((const float*)from, left > 0);
        if (left > 0 && left < 4) {
          v.w = 0.f;
          if (left < 3) v.z = 0.f;
          if (left < 2) v.y = 0.f;
        }
        next[l] = make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w));
        at += 4, c += 4, from += 4 * 4 * T;
        while (c >= o.chunks && at < total) {
          c -= o.chunks, ++b, from += 4 * ((i64)o.H * o.L - (i64)o.chunks * T);
          len = length();
        }
      }
    }
  }
};

// The power of two of an operand whose largest number has these bits.
DEV int exponent_of(int bits) { return bits == 0 ? 0 : f16_exponent(__int_as_float(bits), MOST); }

// gradients (parts, H, I, I). largest_dy, largest_x (H, 4): bits of the largest |dY| and |dS| per direction, and of |X| and |S|; ds_at
// and s_at: 1 + the direction. Block: 256 threads, two warpgroups, each for 64 × 128 cells; grid (H, parts); shared memory: two stages.
extern "C" __global__ void __launch_bounds__(256, 2)
    grad(float* gradients, const float* dy, const uint2* ds, const int* ds_exps, const float* x, const uint2* s, const int* s_exps,
         const int* largest_dy, const int* largest_x, int ds_at, int s_at, const int* lengths, int B, int H, int chunks, i64 L) {
  extern __shared__ __align__(128) char planes[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, h = blockIdx.x;
  int first, end;
  steps_of_block(B * chunks, MK, first, end);
  const Operands operands = {dy, x, ds, s, ds_exps, s_exps, lengths, B, H, chunks, L};
  HalfReader reader(operands, first * MK);
  const int kind = reader.kind, i = (kind & 1) * T + reader.within;
  const int own = exponent_of(kind < 2 ? largest_dy[4 * h + (kind ? ds_at : 0)] : largest_x[4 * h + (kind == 3 ? s_at : 0)]);
  const float scale = power_of_two(own);
  char* mine = planes + (kind >= 2 ? PLANE : 0);
  uint4 next[MK / 4];
  auto put = [&](int stage) {
#pragma unroll
    for (int l = 0; l < MK / 4; ++l) {
      const uint4 v = next[l];
      uint2 half;
      if (kind & 1) {
        const int down = max((int)v.z - own, 0);
        half = make_uint2(scale_down(v.x, down), scale_down(v.y, down));
      } else {
        half = make_uint2(pack_f16(__uint_as_float(v.x) * scale, __uint_as_float(v.y) * scale),
                          pack_f16(__uint_as_float(v.z) * scale, __uint_as_float(v.w) * scale));
      }
      *(uint2*)(mine + stage * STAGE + Core::at(i, 4 * l + HalfReader::row())) = half;
    }
  };
  float acc[64];
#pragma unroll
  for (int e = 0; e < 64; ++e) acc[e] = 0.f;
  const u32 base = shared_address(planes);
  if (first < end) {
    reader.fetch(next);
    put(0);
  }
  stores_before_wgmma();
  __syncthreads();
  for (int step = first; step < end; ++step) {
    const int now = (step - first) & 1;
    if (step + 1 < end) reader.fetch(next);
    const u32 at_a = base + now * STAGE + (warp >> 2) * 8 * Core::OUTER, at_b = base + now * STAGE + PLANE;
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < MK / 16; ++k) {
      const int to = 2 * k * Core::INNER;
      wgmma_of_f16<false, false>(acc, Core::describe(at_a + to), Core::describe(at_b + to));
    }
    wgmma_end_group();
    if (step + 1 < end) put(now ^ 1);
    wgmma_wait();
    stores_before_wgmma();  // in this order: NVRTC 12.8 crashes on the other one
    __syncthreads();
  }
  const int state_rows = warp >> 2;
  const float a = power_of_two(-exponent_of(largest_dy[4 * h + (state_rows ? ds_at : 0)]));
  const float to_x = power_of_two(-exponent_of(largest_x[4 * h])), to_s = power_of_two(-exponent_of(largest_x[4 * h + s_at]));
  float* o = gradients + ((i64)blockIdx.y * H + h) * I * I;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int line = 16 * (warp & 3) + 8 * r + g, row = state_rows ? T + place_of_state(line) : line;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const int place = 8 * (j & 7) + 2 * t, column = j < 8 ? place : T + place_of_state(place);
      const float b = j < 8 ? to_x : to_s;
      *(float2*)(o + row * I + column) = make_float2(acc[4 * j + 2 * r] * a * b, acc[4 * j + 2 * r + 1] * a * b);
    }
  }
}

#endif
