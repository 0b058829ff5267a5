// A matrix product as a pipeline: one thread (the producer) loads boxes of both operands by TMA, two warpgroups
// multiply them.
//
// A block's tile is 128 × N, 64 rows per warpgroup; a step of the pipeline is 64 values of k, and STAGES steps are in
// shared memory at a time.
#pragma once
#include "common/tma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define DEV_MEMBER __device__ __forceinline__
constexpr int PIPE_BLOCK = 384, PRODUCER = 256;  // threads; two warpgroups multiply, thread 256 loads

// First element of a step's boxes: row a of A, column b of B, k, and the matrices of the batch (za of A, zb of B).
struct BoxStart {
  int a, b, k, za, zb;
};

template <int N, bool AK, bool BK, int STAGES>
struct ProductPipeline {
  static constexpr int A = 128 * 64 * 2, B = N * 64 * 2, STAGE = A + B;
  // Boxes of B: 64 columns of 64 k, or 64 k of half the columns.
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
    if (AK) {
      box_load(to, a, p.k, p.a, p.za, ready);
    } else {
      box_load(to, a, p.a, p.k, p.za, ready);
      box_load(to + A / 2, a, p.a + 64, p.k, p.za, ready);
    }
#pragma unroll
    for (int i = 0; i < BOXES; ++i) {
      const int column = p.b + i * COLUMNS;
      box_load(to + A + i * (B / BOXES), b, BK ? p.k : column, BK ? column : p.k, p.zb, ready);
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
      const u64 a = BoxDescriptor<AK>::describe(at + rows, 0), b = BoxDescriptor<BK>::describe(at + A, B / BOXES);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < 4; ++k)
        wgmma_f16<AK, BK>(acc, a + k * (BoxDescriptor<AK>::K16 >> 4), b + k * (BoxDescriptor<BK>::K16 >> 4), s | k);
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
