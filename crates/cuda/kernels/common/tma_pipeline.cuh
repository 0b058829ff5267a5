// A matrix product as a pipeline: one thread (the producer) loads boxes of both operands by TMA, two warpgroups
// multiply them.
//
// A block's tile is 128 × N, 64 rows per warpgroup, and STAGES steps of the pipeline are in shared memory at a time. A step
// is 64 values of k of one f16 number each (PRODUCTS = 1), or 32 of pairs of f16 numbers, x = high + low (PRODUCTS = 3):
// the product of two pairs is low·high + high·low + high·high, and low·low, 2⁻²² of it at most, is left out. Both kinds of
// step take the same memory; of pairs one byte serves half as many products again. An array of pairs has its
// matrices twice: matrix z as 2z, its high parts, and 2z + 1, its low parts.
#pragma once
#include "common/tma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define DEV_MEMBER __device__ __forceinline__
constexpr int PIPE_BLOCK = 384, PRODUCER = 256;  // threads; two warpgroups multiply, thread 256 loads

// First element of a step's boxes: row a of A, column b of B, k, and the matrices of the batch (za of A, zb of B).
struct BoxStart {
  int a, b, k, za, zb;
};

template <int N, bool AK, bool BK, int STAGES, int PRODUCTS>
struct ProductPipeline {
  static_assert(PRODUCTS == 1 || PRODUCTS == 3, "one product of f16, or three of pairs");
  static constexpr int PLANES = PRODUCTS == 1 ? 1 : 2, K = 64 / PLANES;
  // Bytes of a step: of one plane of each operand, of all.
  static constexpr int A = 128 * K * 2, B = N * K * 2, STAGE = PLANES * (A + B);
  // Boxes of B: 64 columns of K k, or K k of half the columns.
  static constexpr int BOXES = BK ? 2 : N / 64, COLUMNS = BK ? N / 2 : 64;

  u32 memory, full, empty;
  int stage;
  u32 phase;

  // at: shared address of the STAGES stages; barriers: of 2·STAGES barriers. Called by all threads, before
  // wait_for_barrier_init.
  DEV_MEMBER void start(u32 at, u32 barriers) {
    memory = at, full = barriers, empty = barriers + 8 * STAGES, stage = 0, phase = 0;
    if (threadIdx.x == 0)
      for (int i = 0; i < STAGES; ++i) {
        barrier_init(full + 8 * i, 1);
        barrier_init(empty + 8 * i, 8);
      }
  }

  // The next stage of the ring.
  DEV_MEMBER void next() {
    if (++stage == STAGES) stage = 0, phase ^= 1;
  }

  // Producer: waits until the stage is free, then starts the copies of one step's boxes of A and B.
  DEV_MEMBER void load(const TensorMap* a, const TensorMap* b, const BoxStart& p) {
    barrier_wait(empty + 8 * stage, phase ^ 1);
    const u32 ready = full + 8 * stage, to = memory + stage * STAGE;
    barrier_expect(ready, STAGE);
#pragma unroll
    for (int plane = 0; plane < PLANES; ++plane) {
      const u32 to_a = to + plane * A, to_b = to + PLANES * A + plane * B;
      const int za = PLANES * p.za + plane, zb = PLANES * p.zb + plane;
      if (AK) {
        box_load(to_a, a, p.k, p.a, za, ready);
      } else {
        box_load(to_a, a, p.a, p.k, za, ready);
        box_load(to_a + A / 2, a, p.a + 64, p.k, za, ready);
      }
#pragma unroll
      for (int i = 0; i < BOXES; ++i) {
        const int column = p.b + i * COLUMNS;
        box_load(to_b + i * (B / BOXES), b, BK ? p.k : column, BK ? column : p.k, zb, ready);
      }
    }
    next();
  }

  // Called by each warp when the tensor cores have read stage `at`.
  DEV_MEMBER void release(int at) {
    if ((threadIdx.x & 31) == 0) barrier_arrive(empty + 8 * at);
  }

  // acc = the product over `steps` steps; `meanwhile(s)` runs while the tensor cores do step s.
  template <class Meanwhile>
  DEV_MEMBER void multiply(float (&acc)[N / 2], int steps, Meanwhile meanwhile) {
    const int rows = (threadIdx.x >> 7) * (A / 2);
    int last = 0;
    for (int s = 0; s < steps; ++s) {
      barrier_wait(full + 8 * stage, phase);
      const u32 at = memory + stage * STAGE;
      const u64 a = BoxDescriptor<AK, K>::describe(at + rows, 0), b = BoxDescriptor<BK, K>::describe(at + PLANES * A, B / BOXES);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < K / 16; ++k) {
        const u64 ak = a + k * (BoxDescriptor<AK, K>::K16 >> 4), bk = b + k * (BoxDescriptor<BK, K>::K16 >> 4);
        if constexpr (PRODUCTS == 3) {
          wgmma_f16<AK, BK>(acc, ak + (A >> 4), bk, s | k);
          wgmma_f16<AK, BK>(acc, ak, bk + (B >> 4), 1);
        }
        wgmma_f16<AK, BK>(acc, ak, bk, PRODUCTS == 3 ? 1 : s | k);
      }
      wgmma_end_group();
      meanwhile(s);
      wgmma_wait_but<1>();
      if (s) release(last);
      last = stage;
      next();
    }
    wgmma_wait_but<0>();
    // Keeps the compiler from moving uses of the sums to before the wait.
#pragma unroll
    for (int e = 0; e < N / 2; ++e) asm volatile("" : "+f"(acc[e])::"memory");
    release(last);
  }
};

// Waits until thread 0's initialised barriers can be used by every thread and by the copy engine.
DEV void wait_for_barrier_init() {
  if (threadIdx.x == 0) fence_barrier_init();
  __syncthreads();
}

#endif
