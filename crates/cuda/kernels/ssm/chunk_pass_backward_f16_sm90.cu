// The gradients of chunk_pass_backward_bf16_sm90.cu where one product in f16 is enough: [dY | dS]ᵀ·[X | S] of each head, summed over
// (sequence, chunk), after the pass of bidirectional_pass_sm90.cu. The states are f16 already, with a power of two per chunk. A sum has one
// power of two: each of the four operands is scaled so that its largest number in a head lies in [2^14, 2^15).
//
// What a thread has copied to shared memory, two steps ahead of the product, it scales itself and writes where wgmma reads it, so that
// registers hold nothing but sums and most loads are on their way at any time.
#include "common/wgmma.cuh"
#include "ssm/chunk.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int NP = 64, I = T + NP;
constexpr int MK = 32;  // (sequence, chunk) of a step
using Core = CoreMatrices<false>;
constexpr int PLANE = Core::BYTES, OPERANDS = 2 * PLANE;  // A, B
constexpr int THREADS = 256, PIECE = 16 * THREADS;        // bytes of one copy of every thread
constexpr int RAW = 6 * PIECE + 2 * 4 * MK, AHEAD = 3;    // dY and X twice, dS, S; powers of two of dS and S
constexpr int MOST = 64;  // as in bidirectional_pass_sm90.cu: the largest power of two

// The state at a place of a row of states, as bidirectional_pass_sm90.cu writes it.
DEV int state_at(int place) {
  const int k = 2 * (place >> 5) + (place >> 2 & 1), t = place >> 3 & 3, j = place & 3;
  return 16 * k + 2 * t + (j & 1) + 8 * (j >> 1);
}

// 2^−d as two f16 numbers, 0 ≤ d ≤ 14.
DEV u32 f16_factors(int d) {
  const u32 factor = (u32)(15 - d) << 10;
  return factor | factor << 16;
}
DEV u32 multiply_f16(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

// The power of two of an operand whose largest number has these bits.
DEV int exponent_of(int bits) { return bits == 0 ? 0 : f16_exponent(__int_as_float(bits), MOST); }

// gradients (parts, H, I, I); dy, x (B, H, L); ds, s (H, B, chunks, NP) of f16 and their powers of two (H, B, chunks); lengths (B) or null.
// largest_dy, largest_x (H, 4): bits of the largest |dY| and |dS| per direction, and of |X| and |S|; ds_at and s_at: 1 + the direction.
// reciprocal: ⌈2^32 / chunks⌉. L is a multiple of 4. Two warpgroups, each for 64 × 128 cells; grid (H, parts), a part for each of equal
// ranges of steps; shared memory: AHEAD·RAW + 2·OPERANDS bytes.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    grad(float* gradients, const float* dy, const uint4* ds, const int* ds_exps, const float* x, const uint4* s, const int* s_exps,
         const int* largest_dy, const int* largest_x, int ds_at, int s_at, const int* lengths, int B, int H, int chunks,
         u32 reciprocal, i64 L) {
  extern __shared__ __align__(128) char memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, h = blockIdx.x, total = B * chunks;
  const int steps = (total + MK - 1) / MK, each = (steps + (int)gridDim.y - 1) / (int)gridDim.y;
  const int first = (int)blockIdx.y * each, end = min(steps, first + each);
  dy += (i64)h * L, x += (i64)h * L;
  const i64 line = (i64)h * total;
  ds += line * (NP / 8), s += line * (NP / 8), ds_exps += line, s_exps += line;
  // Places of a thread: 4 numbers of rows `row` and row + 16 of dY and X, 8 of row `state_row` of dS and S.
  const int row = threadIdx.x >> 4, from = 4 * (threadIdx.x & 15), state_row = threadIdx.x >> 3, part = threadIdx.x & 7;
  char* const raw = memory + 2 * OPERANDS;
  const u32 raw_address = shared_address(raw);

  auto copy = [&](int step, int slot) {
    const u32 to = raw_address + slot * RAW + 16 * threadIdx.x;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int at = step * MK + row + 16 * j;
      // The reciprocal is rounded up, so that the quotient is right or one too large.
      int b = chunks == 1 ? at : (int)__umulhi((u32)at, reciprocal), c = at - b * chunks;
      if (c < 0) --b, c += chunks;
      const bool there = at < total;
      const i64 len = !there ? 0 : lengths ? (i64)lengths[b] : L, left = len - ((i64)c * T + from);
      const int bytes = left >= 4 ? 16 : left > 0 ? 4 * (int)left : 0;
      const i64 offset = bytes ? (i64)b * H * L + (i64)c * T + from : 0;
      copy_16(to + (2 * j) * PIECE, dy + offset, bytes);
      copy_16(to + (2 * j + 1) * PIECE, x + offset, bytes);
    }
    const int at = step * MK + state_row, bytes = at < total ? 16 : 0;
    const i64 place = bytes ? at : 0;
    copy_16(to + 4 * PIECE, ds + place * (NP / 8) + part, bytes);
    copy_16(to + 5 * PIECE, s + place * (NP / 8) + part, bytes);
    if (part == 0) {
      copy_4(raw_address + slot * RAW + 6 * PIECE + 4 * state_row, ds_exps + place, bytes / 4);
      copy_4(raw_address + slot * RAW + 6 * PIECE + 4 * (MK + state_row), s_exps + place, bytes / 4);
    }
  };
  const int exp_dy = exponent_of(largest_dy[4 * h]), exp_ds = exponent_of(largest_dy[4 * h + ds_at]);
  const int exp_x = exponent_of(largest_x[4 * h]), exp_s = exponent_of(largest_x[4 * h + s_at]);
  // Byte of the thread's numbers among an operand's.
  const int at_row = Core::at(from, row), at_state = Core::at(T + 8 * part, state_row);
  auto scale = [&](int slot, char* operands) {
    const char* own = raw + slot * RAW + 16 * threadIdx.x;
    const float scale_dy = power_of_two(exp_dy), scale_x = power_of_two(exp_x);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float4 v = *(const float4*)(own + j * PIECE);
      const float f = j & 1 ? scale_x : scale_dy;
      *(uint2*)(operands + (j & 1) * PLANE + (j >> 1) * 2 * Core::INNER + at_row) =
          make_uint2(pack_f16(v.x * f, v.y * f), pack_f16(v.z * f, v.w * f));
    }
    const int* exps = (const int*)(raw + slot * RAW + 6 * PIECE) + state_row;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const uint4 v = *(const uint4*)(own + (4 + j) * PIECE);
      // In three factors: numbers are in [2^14, 2^15) at most, so that f16 holds something of them down to 2^−39.
      const int down = min(max(exps[j * MK] - (j ? exp_s : exp_ds), 0), 42);
      const u32 f0 = f16_factors(min(down, 14)), f1 = f16_factors(min(max(down - 14, 0), 14)), f2 = f16_factors(max(down - 28, 0));
      auto scaled = [&](u32 x) { return multiply_f16(multiply_f16(multiply_f16(x, f0), f1), f2); };
      *(uint4*)(operands + j * PLANE + at_state) = make_uint4(scaled(v.x), scaled(v.y), scaled(v.z), scaled(v.w));
    }
  };

  float acc[64];
#pragma unroll
  for (int e = 0; e < 64; ++e) acc[e] = 0.f;
#pragma unroll
  for (int k = 0; k < AHEAD - 1; ++k) {
    if (first + k < end) copy(first + k, k);
    copies_end_group();
  }
  const u32 base = shared_address(memory);
  int slot = 0;  // of this step's copies
  for (int step = first; step < end; ++step) {
    const int now = (step - first) & 1;
    wait_copies<AHEAD - 2>();
    __syncwarp();  // powers of two come from another lane
    scale(slot, memory + now * OPERANDS);
    wgmma_wait();  // before the fence: NVRTC 12.8 crashes on the other order
    stores_before_wgmma();
    __syncthreads();
    const u32 at_a = base + now * OPERANDS + (warp >> 2) * 8 * Core::OUTER, at_b = base + now * OPERANDS + PLANE;
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < MK / 16; ++k) {
      const int to = 2 * k * Core::INNER;
      wgmma_of_f16<false, false>(acc, Core::describe(at_a + to), Core::describe(at_b + to));
    }
    wgmma_end_group();
    // Into the place of the step before, which the whole block has left behind.
    if (step + AHEAD - 1 < end) copy(step + AHEAD - 1, slot == 0 ? AHEAD - 1 : slot - 1);
    copies_end_group();
    slot = slot == AHEAD - 1 ? 0 : slot + 1;
  }
  wgmma_wait();
  const int g = lane >> 2, t = lane & 3, of_states = warp >> 2;
  const float a = power_of_two(of_states ? -exp_ds : -exp_dy), to_x = power_of_two(-exp_x), to_s = power_of_two(-exp_s);
  float* o = gradients + ((i64)blockIdx.y * H + h) * I * I;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int place = 16 * (warp & 3) + 8 * r + g, to = of_states ? T + state_at(place) : place;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const int place = 8 * (j & 7) + 2 * t, column = j < 8 ? place : T + state_at(place);
      const float b = j < 8 ? to_x : to_s;
      *(float2*)(o + to * I + column) = make_float2(acc[4 * j + 2 * r] * a * b, acc[4 * j + 2 * r + 1] * a * b);
    }
  }
}

#endif
