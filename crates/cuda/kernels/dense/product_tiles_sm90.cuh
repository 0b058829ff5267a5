// What products with one matrix of weights on Hopper have in common (mix_sm90.cu, products_sm90.cu): tiles, shared memory,
// and the two products of the gradients.
//
// One block per multiprocessor goes through the tiles of the result. Arrays other than operands come by boxes to a
// staging area while the tile's product runs, and results leave by boxes from the same area.
#pragma once
#include "dense/f16_copies_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define PRODUCT extern "C" __global__ void __launch_bounds__(PIPE_BLOCK, 1)
extern __shared__ char shared[];

constexpr int STAGES = 3, TILE_STEPS = 256;
constexpr int STAGE_BYTES = 128 * 128 + TILE_STEPS * 128;
constexpr int STAGING_BYTES = 32 << 10;  // staging area per warpgroup: boxes of residual, dy, s and results

// The tiles of a result (batch, rows, L): 128 rows × TILE_STEPS time steps, in the order rows, time, batch.
struct Tile {
  int row, column, batch;
};
struct Tiles {
  int rows, columns, count;
  DEV_MEMBER Tiles(int r, i64 L, int batch) {
    rows = r, columns = (int)((L + TILE_STEPS - 1) / TILE_STEPS), count = rows * columns * batch;
  }
  DEV_MEMBER Tile operator[](int i) const {
    const int rest = i / rows;
    return {i - rest * rows, rest % columns, rest / columns};
  }
};

// Addresses in shared memory: stages of operands, a staging area for each warpgroup, barriers.
struct SharedLayout {
  char* at;
  u32 stages, staging, barriers, staging_ready;
};
DEV SharedLayout shared_layout() {
  const u32 address = shared_address(shared), start = (address + 1023) & ~1023u;
  SharedLayout m;
  m.at = shared + (start - address);
  m.stages = start, m.staging = start + STAGES * STAGE_BYTES, m.barriers = m.staging + 2 * STAGING_BYTES;
  m.staging_ready = m.barriers + 16 * STAGES;
  return m;
}

// Where a thread's numbers lie in wgmma's accumulator: its warpgroup, its warp, and within the warp row g = lane / 4
// and columns 2t, 2t + 1 with t = lane % 4 (wgmma.cuh). first: the one thread of a warpgroup that starts copies.
struct AccumulatorPosition {
  int group, warp, g, t;
  bool first;
};
DEV AccumulatorPosition accumulator_position() {
  const int i = threadIdx.x;
  return {i >> 7, i >> 5 & 3, (i & 31) >> 2, i & 3, (i & 127) == 0};
}

// Boxes of 64 rows × 32 numbers: a tile of 64 rows of a warpgroup is eight of them, which go through four places of the
// staging area.
constexpr int STAGED_BOX_BYTES = 64 * 128;

// Two numbers of s become the slopes of activation f there.
DEV void slopes_in_place(int f, float2* place) { *place = make_float2(activate_slope(f, place->x), activate_slope(f, place->y)); }

// ds (B, inputs, L) = unscale(Wᵀ dz)·mask·f′(s) for the `batch` sequences from b0 on, to which dz (batch, rows, L) belongs.
// masks: a bit per element as write_f16_a (f16_copies_sm90.cuh) keeps them, or null.
template <int PRODUCTS>
DEV void input_gradient(const TensorMap* ds, const TensorMap* s, const TensorMap* w, const TensorMap* dz, const u8* masks, Unscale<PRODUCTS> unscale, int b0,
                        int rows, int inputs, i64 L, int batch, int f) {
  const SharedLayout m = shared_layout();
  ProductPipeline<TILE_STEPS, false, false, STAGES, PRODUCTS> pipe;
  pipe.start(m.stages, m.barriers);
  if (threadIdx.x == 0)
    for (int i = 0; i < 8; ++i) barrier_init(m.staging_ready + 8 * i, 1);
  wait_for_barrier_init();
  const Tiles tiles((inputs + 127) / 128, L, batch);
  const int steps = (rows + pipe.K - 1) / pipe.K;
  if (threadIdx.x >= PRODUCER) {
    registers_decrease<24>();
    if (threadIdx.x == PRODUCER)
      for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const Tile at = tiles[i];
        for (int k = 0; k < steps; ++k) pipe.load(w, dz, {at.row * 128, at.column * TILE_STEPS, k * pipe.K, 0, at.batch});
      }
  } else {
    registers_increase<240>();
    const AccumulatorPosition l = accumulator_position();
    const u32 staging = m.staging + l.group * STAGING_BYTES, ready = m.staging_ready + 32 * l.group;
    char* mine = m.at + STAGES * STAGE_BYTES + l.group * STAGING_BYTES;
    float acc[TILE_STEPS / 2] = {};
    u32 phase = 0;
    for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
      const Tile at = tiles[i];
      const int m0 = at.row * 128 + l.group * 64, r0 = m0 + 16 * l.warp + l.g, n0 = at.column * TILE_STEPS, b = b0 + at.batch;
      auto load_box = [&](int q) {
        barrier_expect(ready + 8 * (q & 3), STAGED_BOX_BYTES);
        box_load(staging + (q & 3) * STAGED_BOX_BYTES, s, n0 + 32 * q, m0, b, ready + 8 * (q & 3));
      };
      // Bit 2t + e of byte j stands for column 8j + 2t + e.
      uint4 bits[4];
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const int row = r0 + 8 * (q >> 1);
        bits[q] = make_uint4(~0u, ~0u, ~0u, ~0u);
        if (masks && row < inputs)
          bits[q] = *(const uint4*)(masks + (((i64)b * tiles.columns + at.column) * inputs + row) * 32 + 16 * (q & 1));
      }
      pipe.multiply(acc, steps, [&](int k) {
        if (l.first && k == min(1, steps - 1)) {
          wait_boxes_read<0>();
          for (int q = 0; q < 4; ++q) load_box(q);
        }
      });
#pragma unroll
      for (int q = 0; q < 8; ++q) {
        if ((q & 3) == 0 && q) phase ^= 1;
        barrier_wait(ready + 8 * (q & 3), phase);
        char* const from = mine + (q & 3) * STAGED_BOX_BYTES + (16 * l.warp + l.g) * 128 + (l.t & 1) * 8;
        if (f != ACTIVATION_GELU)
#pragma unroll 1
          for (int k = 0; k < 8; ++k) slopes_in_place(f, (float2*)(from + (k >> 2) * 1024 + ((2 * (k & 3) + (l.t >> 1)) ^ l.g) * 16));
        else if (PRODUCTS == 3)
#pragma unroll 2
          for (int k = 0; k < 8; ++k)
            slopes_in_place(ACTIVATION_GELU, (float2*)(from + (k >> 2) * 1024 + ((2 * (k & 3) + (l.t >> 1)) ^ l.g) * 16));
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const int r = k >> 2, j = 4 * q + (k & 3);
          float2* place = (float2*)(from + r * 1024 + ((2 * (k & 3) + (l.t >> 1)) ^ l.g) * 16);
          const uint4& of = bits[2 * r + (q >> 2)];
          const u32 word = (q & 3) == 0 ? of.x : (q & 3) == 1 ? of.y : (q & 3) == 2 ? of.z : of.w;
          const u32 two = word >> (8 * (k & 3) + 2 * l.t);
          float2 x = *place;
          if (PRODUCTS == 1 && f == ACTIVATION_GELU) x = make_float2(gelu_slope_near(x.x), gelu_slope_near(x.y));
          x.x = two & 1 ? unscale(acc[4 * j + 2 * r]) * x.x : 0.f;
          x.y = two & 2 ? unscale(acc[4 * j + 2 * r + 1]) * x.y : 0.f;
          *place = x;
        }
        stores_before_wgmma();
        warpgroup_sync(1 + l.group);
        if (l.first) {
          if (m0 < inputs && n0 + 32 * q < L) box_store(ds, staging + (q & 3) * STAGED_BOX_BYTES, n0 + 32 * q, m0, b);
          boxes_end_group();
          if (q >= 1 && q <= 4) {
            wait_boxes_read<1>();
            load_box(q + 3);
          }
        }
      }
      phase ^= 1;
    }
    if (l.first) wait_boxes_written();
  }
}

// slices (parts, rows, inputs): unscale(Σ dz·aᵀ) over `batch` sequences, of a from a0 on, and all time steps, cut into `parts`
// ranges. Grid (rows / 128, inputs / N, parts).
template <int N, int PRODUCTS>
DEV void weight_gradient(const TensorMap* dz, const TensorMap* a, float* slices, Unscale<PRODUCTS> unscale, int a0, int rows, int inputs, i64 L, int batch) {
  constexpr int DW_STAGES = 4;
  const u32 start = (shared_address(shared) + 1023) & ~1023u;
  ProductPipeline<N, true, true, DW_STAGES, PRODUCTS> pipe;
  pipe.start(start, start + DW_STAGES * pipe.STAGE);
  wait_for_barrier_init();
  const int steps_per_matrix = (int)((L + pipe.K - 1) / pipe.K), total_steps = batch * steps_per_matrix, steps_per_block = (total_steps + (int)gridDim.z - 1) / (int)gridDim.z;
  const int first = blockIdx.z * steps_per_block, steps = min(total_steps, first + steps_per_block) - first;
  const int m0 = blockIdx.x * 128, n0 = blockIdx.y * N;
  if (threadIdx.x >= PRODUCER) {
    registers_decrease<24>();
    if (threadIdx.x == PRODUCER)
      for (int s = first; s < first + steps; ++s) {
        const int z = s / steps_per_matrix;
        pipe.load(dz, a, {m0, n0, (s - z * steps_per_matrix) * pipe.K, z, a0 + z});
      }
  } else {
    registers_increase<240>();
    const AccumulatorPosition l = accumulator_position();
    float acc[N / 2];
#pragma unroll
    for (int e = 0; e < N / 2; ++e) acc[e] = 0.f;
    if (steps > 0) pipe.multiply(acc, steps, [](int) {});
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int m = m0 + l.group * 64 + 16 * l.warp + 8 * r + l.g;
      float* to = slices + ((i64)blockIdx.z * rows + m) * inputs + n0 + 2 * l.t;
#pragma unroll
      for (int j = 0; j < N / 8; ++j)
        if (m < rows && n0 + 8 * j < inputs)
          *(float2*)(to + 8 * j) = make_float2(unscale(acc[4 * j + 2 * r]), unscale(acc[4 * j + 2 * r + 1]));
    }
  }
}

#endif
