// The gradients of chunk_pass_backward_bf16_sm90.cu where one product in f16 is enough: [dY | dS]ᵀ·[X | S] of each head and direction,
// summed over (sequence, chunk), after the passes of bidirectional_pass_sm90.cu. Those leave all operands as f16, with a power of two per
// chunk. A sum has one power of two: each operand is scaled so that its largest number in a head lies in [2^14, 2^15).
//
// Both directions of a layer go together, so that dY and X are read once. The copy engine brings rows to where wgmma reads them, some
// steps ahead of the product; there threads scale them, so that registers hold nothing but sums and most loads are on their way at any
// time.
#include "common/tma.cuh"
#include "ssm/chunk.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int NP = 64, I = T + NP;
static_assert(T == 64 && NP == 64, "rows of all operands have 64 numbers");

// Time step and state at a place of a row, as bidirectional_pass_sm90.cu writes rows of X or dY, and of states.
DEV int time_at(int place) { return 16 * (2 * (place >> 5) + (place >> 2 & 1)) + 4 * (place >> 3 & 3) + (place & 3); }
DEV int state_at(int place) {
  const int k = 2 * (place >> 5) + (place >> 2 & 1), t = place >> 3 & 3, j = place & 3;
  return 16 * k + 2 * t + (j & 1) + 8 * (j >> 1);
}

// 2^−d as two f16 numbers, 0 ≤ d ≤ 14.
DEV u32 f16_factors(int d) { return (u32)(15 - d) * 0x04000400u; }
DEV u32 multiply_f16(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
DEV uint4 multiply_f16(uint4 v, u32 b) {
  return make_uint4(multiply_f16(v.x, b), multiply_f16(v.y, b), multiply_f16(v.z, b), multiply_f16(v.w, b));
}

// The power of two of an operand whose largest number has these bits.
DEV int exponent_of(int bits) { return bits == 0 ? 0 : f16_exponent(__int_as_float(bits), MOST_EXPONENT); }

// Rows of f16 (H, B·chunks, 64), their powers of two (H, exponents_of_head), and the bits of the largest magnitude of head h at largest[4h].
struct Rows {
  const TensorMap* values;
  const int* exps;
  const int* largest;
};

// The arrays in turn of A and of B: dY, X, dS, S; of two directions dY, S′, dS, X, dS′, S, so that X stands beside the states of either
// direction (S of the direction with time, S′ of the other; dS and dS′ of their adjoints).
template <int DIRECTIONS>
struct GradientSizes {
  static constexpr int ARRAYS = 2 * (1 + DIRECTIONS), THREADS = 256 * DIRECTIONS;
  static constexpr int MK = THREADS / 8;  // (sequence, chunk) of a step: each thread scales eight numbers of a row of every array
  // Bytes of a box of MK rows of one array, and of all of a step, the arrays of A first; of the powers of two of a step.
  static constexpr int BOX = MK * 128, STAGE = ARRAYS * BOX, EXPONENTS = ARRAYS * MK * 4, STAGES = 4;
};

template <int DIRECTIONS>
DEV void gradients(float* const (&to)[2], const Rows (&arrays)[2 * (1 + DIRECTIONS)], int total, int H) {
  using Z = GradientSizes<DIRECTIONS>;
  using Boxes = BoxDescriptor<false, 64>;
  constexpr int MK = Z::MK;
  extern __shared__ char shared[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, h = blockIdx.x;
  const int steps = (total + MK - 1) / MK, each = (steps + (int)gridDim.y - 1) / (int)gridDim.y;
  const int first = (int)blockIdx.y * each, end = min(steps, first + each);
  const int row = threadIdx.x >> 3, part = threadIdx.x & 7;
  const u32 address = shared_address(shared), base = (address + 1023) & ~1023u;
  const u32 exponents = base + Z::STAGES * Z::STAGE, barriers = exponents + Z::STAGES * Z::EXPONENTS;
  char* const memory = shared + (base - address);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Z::STAGES; ++i) barrier_init(barriers + 8 * i, 1);
    fence_barrier_init();
  }
  __syncthreads();
  auto place_of = [](int q) { return ((q & 1) * (1 + DIRECTIONS) + (q >> 1)) * Z::BOX; };
  // By one thread. Rows beyond the last become zero.
  const int in_head = (total + 3) & ~3;
  auto copy = [&](int step, int slot) {
    const int bytes = 4 * min(MK, in_head - step * MK);
    const u32 ready = barriers + 8 * slot, to = base + slot * Z::STAGE, exps = exponents + slot * Z::EXPONENTS;
    barrier_expect(ready, Z::STAGE + Z::ARRAYS * bytes);
#pragma unroll
    for (int q = 0; q < Z::ARRAYS; ++q) {
      box_load(to + place_of(q), arrays[q].values, 0, step * MK, h, ready);
      bytes_load(exps + q * MK * 4, arrays[q].exps + (i64)h * in_head + step * MK, bytes, ready);
    }
  };
  if (threadIdx.x == 0)
    for (int k = 0; k < Z::STAGES - 1; ++k)
      if (first + k < end) copy(first + k, k);

  // Of the lanes of a row one for each array looks at its power of two.
  int common = 0;  // power of two of the sum
#pragma unroll
  for (int q = 0; q < Z::ARRAYS; ++q)
    if (part == q) common = exponent_of(arrays[q].largest[4 * h]);
  char* const mine = memory + row * 128 + (part ^ (row & 7)) * 16;
  const int* const powers = (const int*)(memory + Z::STAGES * Z::STAGE) + min(part, Z::ARRAYS - 1) * MK + row;
  auto scale = [&](int step, int slot) {
    char* const at = mine + slot * Z::STAGE;
    const bool there = part < Z::ARRAYS && step * MK + row < total;
    const int down = there ? min(max(powers[slot * (Z::EXPONENTS / 4)] - common, 0), 42) : 0;
    auto multiply = [&](u32 own) {
      uint4 v[Z::ARRAYS];
#pragma unroll
      for (int q = 0; q < Z::ARRAYS; ++q) v[q] = *(const uint4*)(at + place_of(q));
#pragma unroll
      for (int q = 0; q < Z::ARRAYS; ++q)
        *(uint4*)(at + place_of(q)) = multiply_f16(v[q], __shfl_sync(~0u, own, (lane & 24) | q));
    };
    // In up to three factors: numbers are in [2^14, 2^15) at most, so that f16 holds something of them down to 2^−39.
    multiply(f16_factors(min(down, 14)));
    if (__any_sync(~0u, down > 14)) multiply(f16_factors(min(max(down - 14, 0), 14))), multiply(f16_factors(max(down - 28, 0)));
  };

  // A warpgroup has 64 × 128 cells: the rows dY or dS of a direction, by the columns X and S of it (S′ and X of the other).
  const int group = warp >> 2, direction = group >> 1, of_states = group & 1;
  const u64 from_a = Boxes::describe(base + place_of(of_states ? 2 + 2 * direction : 0), 0),
            from_b = Boxes::describe(base + place_of(DIRECTIONS == 2 && direction == 0 ? 3 : 1), Z::BOX);
  float acc[64];
#pragma unroll
  for (int e = 0; e < 64; ++e) acc[e] = 0.f;
  int slot = 0;
  u32 phase = 0;
  for (int step = first; step < end; ++step) {
    barrier_wait(barriers + 8 * slot, phase);
    scale(step, slot);
    wgmma_wait();  // before the fence: NVRTC 12.8 crashes on the other order
    stores_before_wgmma();
    __syncthreads();
    wgmma_begin();
    const u64 to = slot * (Z::STAGE >> 4);
#pragma unroll
    for (int k = 0; k < MK / 16; ++k)
      wgmma_f16<false, false>(acc, from_a + to + k * (Boxes::K16 >> 4), from_b + to + k * (Boxes::K16 >> 4), 1);
    wgmma_end_group();
    // Into the place of the step before, which the whole block has left behind.
    if (threadIdx.x == 0 && step + Z::STAGES - 1 < end) copy(step + Z::STAGES - 1, slot == 0 ? Z::STAGES - 1 : slot - 1);
    if (++slot == Z::STAGES) slot = 0, phase ^= 1;
  }
  wgmma_wait();
  __syncthreads();
  const int g = lane >> 2, t = lane & 3;
  const Rows a = of_states ? (direction ? arrays[2 * DIRECTIONS] : arrays[2]) : arrays[0];
  const Rows x = arrays[DIRECTIONS == 2 ? 3 : 1], s = direction ? arrays[1] : arrays[2 * DIRECTIONS + 1];
  const float of_a = power_of_two(-exponent_of(a.largest[4 * h])), of_x = power_of_two(-exponent_of(x.largest[4 * h])),
              of_s = power_of_two(-exponent_of(s.largest[4 * h]));
  // A warp brings its sixteen lines in order in shared memory, so that whole lines leave it. Line i begins at a multiple of 512 bytes; its
  // fours of numbers are exchanged, that of column c lies at c / 4 ^ i % 8.
  float* const lines = (float*)memory + warp * 16 * I;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const int place = 8 * (j & 7) + 2 * t;
      const bool of_time = (j < 8) != (direction == 1);
      const int column = of_time ? time_at(place) : T + state_at(place);
      const float b = of_time ? of_x : of_s;
      *(float2*)(lines + (8 * r + g) * I + (column ^ 4 * g)) = make_float2(acc[4 * j + 2 * r] * of_a * b, acc[4 * j + 2 * r + 1] * of_a * b);
    }
  __syncwarp();
  float* o = (direction ? to[1] : to[0]) + ((i64)blockIdx.y * H + h) * I * I;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int place = 16 * (warp & 3) + i, line = of_states ? T + state_at(place) : time_at(place);
    *(float4*)(o + line * I + 4 * lane) = *(const float4*)(lines + i * I + (4 * lane ^ 4 * (i & 7)));
  }
}

// to0, to1 (parts, H, I, I): the gradients of the direction with time, and of the other. total: B·chunks. Grid (heads, parts), a part for
// each of equal ranges of steps; a warpgroup for every 64 × 128 cells; shared memory: STAGES·(STAGE + EXPONENTS + 8) bytes, and 1 KB to align.
#define ROWS_OF(i) TENSOR_MAP values##i, const int *exps##i, const int *largest##i
#define ROWS(i) {&values##i, exps##i, largest##i}
extern "C" __global__ void __launch_bounds__(256, 2)
    grad_one(float* to0, ROWS_OF(0), ROWS_OF(1), ROWS_OF(2), ROWS_OF(3), int total, int H) {
  gradients<1>({to0, nullptr}, {ROWS(0), ROWS(1), ROWS(2), ROWS(3)}, total, H);
}
extern "C" __global__ void __launch_bounds__(512, 1)
    grad_both(float* to0, float* to1, ROWS_OF(0), ROWS_OF(1), ROWS_OF(2), ROWS_OF(3), ROWS_OF(4), ROWS_OF(5), int total, int H) {
  gradients<2>({to0, to1}, {ROWS(0), ROWS(1), ROWS(2), ROWS(3), ROWS(4), ROWS(5)}, total, H);
}

#endif
