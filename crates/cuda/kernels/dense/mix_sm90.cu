// The mix with GLU (mix.cu) by Hopper's warpgroups: matrix products (tma_pipeline.cuh) that include the gate, dropout
// and the residual.
//   y = dropout(z₁·σ(z₂)) (+ residual), z = W a + b, a = dropout(f(s))      mix_forward
//   dz from dy and z, which is recomputed, and its sums over time           mix_dz
//   Σ dz·aᵀ                                                                 mix_dw
//   ds = (Wᵀ dz)·mask·f′(s)                                                 mix_ds, mix_ds_rows
//
// One block per multiprocessor goes through the tiles of the result. Arrays other than operands (residual, dy, s) come
// by boxes to a staging area while the tile's product runs, and results leave by boxes from the same area. Dropout
// masks are drawn while the tensor cores multiply.
//
// Each kernel is there for one product of f16 numbers and, named …_pairs, for three of pairs of them (tma_pipeline.cuh), with
// functions as exact as those of mix.cu. The former keep forward's dropout masks as bits for backward, the latter draw them again:
// what forward leaves is then nothing but largest magnitudes.
#include "codes.cuh"
#include "dense/mix_sm90.cuh"
#include "dense/product_tiles_sm90.cuh"
#include "ssm/chunk.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A thread's 64 dropout bits of one output's TILE_STEPS time steps: bit 2j + e stands for column 8j + 2t + e. Two
// neighbouring lanes need the same random words, so one draws those of even j, the other those of odd j, and they
// exchange them.
struct DropoutBits {
  u64 own;
  int done;
  DEV_MEMBER void draw(const DropoutKey& drop, u64 block, int t, int count) {
    for (int q = done; q < min(16, done + count); ++q) {
      const uint4 r = philox_of(drop, block + 4 * q + 2 * (t & 1) + (t >> 1));
      const u32 bits = (r.x >= drop.threshold) | (r.y >= drop.threshold) << 1 | (r.z >= drop.threshold) << 2 |
                       (r.w >= drop.threshold) << 3;
      own |= (u64)bits << (4 * q);
    }
    done = min(16, done + count);
  }
  DEV_MEMBER u64 bits(int t) const {
    const u64 other = __shfl_xor_sync(~0u, own, 1), pairs = 0x3333333333333333ull;
    const u64 even = t & 1 ? other >> 2 : own, odd = t & 1 ? own >> 2 : other;
    return (even & pairs) | (odd & pairs) << 2;
  }
};
// Whether each element has a draw of its own.
DEV bool draws_each(const DropoutKey& drop) { return drop.threshold && !drop.tied; }
// A thread's bits of line `line` of (batch·outputs).
DEV u64 kept_bits(const DropoutKey& drop, const DropoutBits& drawn, i64 line, int t) {
  if (draws_each(drop)) return drawn.bits(t);
  if (!drop.threshold) return ~0ull;
  const uint4 r = philox_of(drop, (u64)line / 4);
  const int q = (int)line & 3;
  return (q == 0 ? r.x : q == 1 ? r.y : q == 2 ? r.z : r.w) >= drop.threshold ? ~0ull : 0ull;
}
// Whether bit i is set: column as in DropoutBits.
DEV bool bit(u64 bits, int i) { return (i < 32 ? (u32)bits >> i : (u32)(bits >> 32) >> (i - 32)) & 1; }

// Boxes of y, residual and dy in a staging area: 32 outputs per warpgroup × TILE_STEPS columns.
constexpr int OUTPUT_BOX_BYTES = 32 * 128;  // 32 rows of 32 numbers
// Byte in the staging area of columns 8j + 2t, 2t + 1 of this thread's output.
DEV u32 output_offset(const AccumulatorPosition& l, int j) {
  return (j >> 2) * OUTPUT_BOX_BYTES + (8 * l.warp + l.g) * 128 + ((2 * (j & 3) + (l.t >> 1)) ^ l.g) * 16 + (l.t & 1) * 8;
}

// What brings W a back: one factor also of pairs, 0 where the exponents' sum is above 149, since W a is then below 2^−100.
template <int PRODUCTS>
DEV float unscale_z(const LargestMagnitudes* l) {
  const int a = exponent_a<PRODUCTS>(l), w = exponent_w<PRODUCTS>(l);
  return PRODUCTS == 1 ? power_of_two(-a - w) : power_of_two(-a) * power_of_two(-w);
}

template <int PRODUCTS>
DEV float gate_of(float z) { return PRODUCTS == 1 ? sigmoid_near(z) : sigmoid_by_reciprocal(z); }

// Sum of the 64 numbers of a thread's output, in acc[4j] and acc[4j + 1], or of f of them; only those of the first `n` time steps.
template <class F>
DEV float sum_of_output(const float (&acc)[TILE_STEPS / 2], int t, int n, F f) {
  float s = 0.f;
  if (n >= TILE_STEPS) {
#pragma unroll
    for (int j = 0; j < TILE_STEPS / 8; ++j) s += f(acc[4 * j]) + f(acc[4 * j + 1]);
  } else {
#pragma unroll
    for (int j = 0; j < TILE_STEPS / 8; ++j)
      s += (8 * j + 2 * t < n ? f(acc[4 * j]) : 0.f) + (8 * j + 2 * t + 1 < n ? f(acc[4 * j + 1]) : 0.f);
  }
  s += __shfl_xor_sync(~0u, s, 1);
  return s + __shfl_xor_sync(~0u, s, 2);
}

// y (batch, outputs, L). masks: 64 bits per thread and tile, or null where nothing is dropped or the masks are not
// kept. moments (outputs, batch, L / TILE_STEPS): mean of each tile's time steps of y and Σ (y − mean)², up to the sequence's length; or null.
template <int PRODUCTS>
DEV void forward(const TensorMap* y, const TensorMap* residual, const TensorMap* w, const TensorMap* a, u64* masks, const LargestMagnitudes* largest,
                 const float* bias, float2* moments, const int* lengths, int outputs, int inputs, i64 L, int batch, int has_residual,
                 const DropoutKey& drop) {
  const SharedLayout m = shared_layout();
  ProductPipeline<TILE_STEPS, true, false, STAGES, PRODUCTS> pipe;
  pipe.start(m.stages, m.barriers);
  if (threadIdx.x == 0) barrier_init(m.staging_ready, 1), barrier_init(m.staging_ready + 8, 1);
  wait_for_barrier_init();
  const Tiles tiles((outputs + 63) / 64, L, batch);
  const int steps = (inputs + pipe.K - 1) / pipe.K;
  if (threadIdx.x >= PRODUCER) {
    registers_decrease<24>();
    if (threadIdx.x == PRODUCER)
      for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const Tile at = tiles[i];
        for (int s = 0; s < steps; ++s) pipe.load(w, a, {at.row * 128, at.column * TILE_STEPS, s * pipe.K, 0, at.batch});
      }
  } else {
    registers_increase<240>();
    const AccumulatorPosition l = accumulator_position();
    const u32 staging = m.staging + l.group * STAGING_BYTES, ready = m.staging_ready + 8 * l.group;
    char* mine = m.at + STAGES * STAGE_BYTES + l.group * STAGING_BYTES;
    const float scale = unscale_z<PRODUCTS>(largest);
    float acc[TILE_STEPS / 2] = {};
    u32 phase = 0;
    for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
      const Tile at = tiles[i];
      const int o0 = at.row * 64 + l.group * 32, o = o0 + 8 * l.warp + l.g, n0 = at.column * TILE_STEPS;
      const i64 line = (i64)at.batch * outputs + o;
      const u64 block = (line * L + n0) / 4;
      const float b1 = o < outputs ? bias[o] : 0.f, b2 = o < outputs ? bias[outputs + o] : 0.f;
      DropoutBits dropout_bits = {0, 0};
      const bool mask_per_element = draws_each(drop);
      pipe.multiply(acc, steps, [&](int s) {
        if (mask_per_element) dropout_bits.draw(drop, block, l.t, (16 + steps - 1) / steps);
        if (has_residual && l.first && s == min(1, steps - 1)) {
          wait_boxes_read<0>();
          barrier_expect(ready, STAGING_BYTES);
          for (int b = 0; b < 8; ++b) box_load(staging + b * OUTPUT_BOX_BYTES, residual, n0 + 32 * b, o0, at.batch, ready);
        }
      });
      const u64 keep = kept_bits(drop, dropout_bits, line, l.t);
      if (masks) masks[(i64)i * PRODUCER + threadIdx.x] = keep;
      if (has_residual) {
        barrier_wait(ready, phase);
        phase ^= 1;
      } else {
        if (l.first) wait_boxes_read<0>();
        warpgroup_sync(1 + l.group);
      }
#pragma unroll
      for (int j = 0; j < TILE_STEPS / 8; ++j) {
        float2* place = (float2*)(mine + output_offset(l, j));
        float2 x = has_residual ? *place : make_float2(0.f, 0.f);
        const float m0 = bit(keep, 2 * j) ? drop.scale : 0.f, m1 = bit(keep, 2 * j + 1) ? drop.scale : 0.f;
        x.x = fmaf(m0, fmaf(acc[4 * j], scale, b1) * gate_of<PRODUCTS>(fmaf(acc[4 * j + 2], scale, b2)), x.x);
        x.y = fmaf(m1, fmaf(acc[4 * j + 1], scale, b1) * gate_of<PRODUCTS>(fmaf(acc[4 * j + 3], scale, b2)), x.y);
        *place = x;
        acc[4 * j] = x.x, acc[4 * j + 1] = x.y;
      }
      stores_before_wgmma();
      warpgroup_sync(1 + l.group);
      if (l.first && o0 < outputs) {
        for (int b = 0; b < 8 && n0 + 32 * b < L; ++b) box_store(y, staging + b * OUTPUT_BOX_BYTES, n0 + 32 * b, o0, at.batch);
        boxes_end_group();
      }
      if (moments) {
        const int n = (int)min(max((lengths ? (i64)lengths[at.batch] : L) - n0, (i64)0), (i64)TILE_STEPS);
        const float mean = sum_of_output(acc, l.t, n, [](float y) { return y; }) / max(n, 1);
        const float squares = sum_of_output(acc, l.t, n, [=](float y) { return (y - mean) * (y - mean); });
        if (l.t == 0 && o < outputs) moments[((i64)o * batch + at.batch) * tiles.columns + at.column] = make_float2(mean, squares);
      }
    }
    if (l.first) wait_boxes_written();
  }
}
PRODUCT mix_forward(TENSOR_MAP y, TENSOR_MAP residual, TENSOR_MAP w, TENSOR_MAP a, u64* masks, const LargestMagnitudes* largest, const float* bias,
                    float2* moments, const int* lengths, int outputs, int inputs, i64 L, int batch, int has_residual, DROP) {
  DROP_HERE;
  forward<1>(&y, &residual, &w, &a, masks, largest, bias, moments, lengths, outputs, inputs, L, batch, has_residual, drop);
}
PRODUCT mix_forward_pairs(TENSOR_MAP y, TENSOR_MAP residual, TENSOR_MAP w, TENSOR_MAP a, u64* masks, const LargestMagnitudes* largest, const float* bias,
                    float2* moments, const int* lengths, int outputs, int inputs, i64 L, int batch, int has_residual, DROP) {
  DROP_HERE;
  forward<3>(&y, &residual, &w, &a, masks, largest, bias, moments, lengths, outputs, inputs, L, batch, has_residual, drop);
}

// dz (batch, rows, L) in f16 for the `batch` sequences from b0 on; part (B, L / 256, rows): sums of dz over each tile's
// time steps. masks: as forward kept them, of pairs not read. fit = 0: with a guessed power of two; fit = 1: again, only where the guess did not fit.
template <int PRODUCTS>
DEV void gate_gradient(const TensorMap* dz, const TensorMap* dy, const TensorMap* w, const TensorMap* a, float* part, const u64* masks,
                       const LargestMagnitudes* largest, LargestGradients* back, const float* bias, int b0, int a0, int outputs, int inputs, i64 L,
                       int batch, int fit, const DropoutKey& drop) {
  const float drop_scale = drop.scale;
  const int guess = guessed_exponent_dz<PRODUCTS>(back, drop_scale), fitted = fit ? exponent_dz<PRODUCTS>(back, drop_scale) : guess;
  if (fit && fitted == guess) return;
  const SharedLayout m = shared_layout();
  ProductPipeline<TILE_STEPS, true, false, STAGES, PRODUCTS> pipe;
  pipe.start(m.stages, m.barriers);
  if (threadIdx.x == 0) barrier_init(m.staging_ready, 1), barrier_init(m.staging_ready + 8, 1);
  wait_for_barrier_init();
  const Tiles tiles((outputs + 63) / 64, L, batch);
  const int steps = (inputs + pipe.K - 1) / pipe.K, rows = (outputs + 7) / 8 * 16;
  if (threadIdx.x >= PRODUCER) {
    registers_decrease<24>();
    if (threadIdx.x == PRODUCER)
      for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const Tile at = tiles[i];
        for (int s = 0; s < steps; ++s) pipe.load(w, a, {at.row * 128, at.column * TILE_STEPS, s * pipe.K, 0, a0 + at.batch});
      }
  } else {
    registers_increase<240>();
    const AccumulatorPosition l = accumulator_position();
    const u32 staging = m.staging + l.group * STAGING_BYTES, ready = m.staging_ready + 8 * l.group;
    char* mine = m.at + STAGES * STAGE_BYTES + l.group * STAGING_BYTES;
    const float scale = unscale_z<PRODUCTS>(largest), to = power_of_two(fitted);
    float acc[TILE_STEPS / 2] = {}, max_magnitude = 0.f;
    u32 phase = 0;
    for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
      const Tile at = tiles[i];
      const int o0 = at.row * 64 + l.group * 32, o = o0 + 8 * l.warp + l.g, n0 = at.column * TILE_STEPS, b = b0 + at.batch;
      const float b1 = o < outputs ? bias[o] : 0.f, b2 = o < outputs ? bias[outputs + o] : 0.f;
      const i64 line = (i64)b * outputs + o;
      const u64 kept =
          PRODUCTS == 1 && masks ? masks[((i64)b0 * tiles.rows * tiles.columns + i) * PRODUCER + threadIdx.x] : ~0ull;
      DropoutBits dropout_bits = {0, 0};
      pipe.multiply(acc, steps, [&](int s) {
        if (PRODUCTS == 3 && draws_each(drop)) dropout_bits.draw(drop, (line * L + n0) / 4, l.t, (16 + steps - 1) / steps);
        if (l.first && s == min(1, steps - 1)) {
          wait_boxes_read<0>();
          barrier_expect(ready, STAGING_BYTES);
          for (int q = 0; q < 8; ++q) box_load(staging + q * OUTPUT_BOX_BYTES, dy, n0 + 32 * q, o0, b, ready);
        }
      });
      const u64 keep = PRODUCTS == 3 ? kept_bits(drop, dropout_bits, line, l.t) : kept;
      barrier_wait(ready, phase);
      phase ^= 1;
      float s1 = 0.f, s2 = 0.f;
#pragma unroll
      for (int j = 0; j < TILE_STEPS / 8; ++j) {
        const float2 x = *(const float2*)(mine + output_offset(l, j));
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float open = gate_of<PRODUCTS>(fmaf(acc[4 * j + 2 + e], scale, b2));
          const float d = (bit(keep, 2 * j + e) ? drop_scale * (e ? x.y : x.x) : 0.f) * open;
          const float d2 = d * fmaf(acc[4 * j + e], scale, b1) * (1.f - open);
          s1 += d, s2 += d2;
          max_magnitude = larger_finite(larger_finite(max_magnitude, d), d2);
          acc[4 * j + e] = d * to, acc[4 * j + 2 + e] = d2 * to;
        }
      }
#pragma unroll
      for (int k = 1; k < 4; k <<= 1) s1 += __shfl_xor_sync(~0u, s1, k), s2 += __shfl_xor_sync(~0u, s2, k);
      if (l.t == 0 && o < outputs) {
        float* sums = part + ((i64)b * tiles.columns + at.column) * rows + (o >> 3) * 16 + (o & 7);
        sums[0] = s1, sums[8] = s2;
      }
      // dz overwrites dy in the staging area, once all threads of the warpgroup have read dy: boxes of 64 rows × 64
      // numbers. The low parts of pairs overwrite the high ones, once those have left.
#pragma unroll
      for (int plane = 0; plane < pipe.PLANES; ++plane) {
        if (plane && l.first) wait_boxes_read<0>();
        warpgroup_sync(1 + l.group);
#pragma unroll
        for (int j = 0; j < TILE_STEPS / 8; ++j) {
          char* place = mine + (j >> 3) * 8192 + (16 * l.warp + l.g) * 128 + ((j & 7) ^ l.g) * 16 + 4 * l.t;
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            float &x = acc[4 * j + 2 * r], &y = acc[4 * j + 2 * r + 1];
            const u32 two = pack_f16(x, y);
            *(u32*)(place + 1024 * r) = two;
            if (plane + 1 < pipe.PLANES) {
              const float2 high = unpack_f16(two);
              x -= high.x, y -= high.y;
            }
          }
        }
        stores_before_wgmma();
        warpgroup_sync(1 + l.group);
        if (l.first && o0 < outputs) {
          for (int q = 0; q < 4 && n0 + 64 * q < L; ++q)
            box_store(dz, staging + q * 8192, n0 + 64 * q, 2 * o0, pipe.PLANES * at.batch + plane);
          boxes_end_group();
        }
      }
    }
    if (l.first) wait_boxes_written();
#pragma unroll
    for (int k = 16; k; k >>= 1) max_magnitude = fmaxf(max_magnitude, __shfl_xor_sync(~0u, max_magnitude, k));
    if ((threadIdx.x & 31) == 0 && max_magnitude > 0.f) atomicMax(&back->dz, __float_as_uint(max_magnitude));
  }
}

PRODUCT mix_dz(TENSOR_MAP dz, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP a, float* part, const u64* masks, const LargestMagnitudes* largest, LargestGradients* back,
               const float* bias, int b0, int a0, int outputs, int inputs, i64 L, int batch, int fit, DROP) {
  DROP_HERE;
  gate_gradient<1>(&dz, &dy, &w, &a, part, masks, largest, back, bias, b0, a0, outputs, inputs, L, batch, fit, drop);
}
PRODUCT mix_dz_pairs(TENSOR_MAP dz, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP a, float* part, const u64* masks, const LargestMagnitudes* largest,
                     LargestGradients* back, const float* bias, int b0, int a0, int outputs, int inputs, i64 L, int batch, int fit, DROP) {
  DROP_HERE;
  gate_gradient<3>(&dz, &dy, &w, &a, part, masks, largest, back, bias, b0, a0, outputs, inputs, L, batch, fit, drop);
}

// ds (B, inputs, L) for the `batch` sequences from b0 on, to which dz belongs.
template <int PRODUCTS>
DEV Unscale<PRODUCTS> unscale_ds(const LargestMagnitudes* largest, const LargestGradients* back, float drop_scale) {
  return {exponent_w<PRODUCTS>(largest), exponent_dz<PRODUCTS>(back, drop_scale), drop_scale};
}
PRODUCT mix_ds(TENSOR_MAP ds, TENSOR_MAP s, TENSOR_MAP w, TENSOR_MAP dz, const u8* masks, const LargestMagnitudes* largest, const LargestGradients* back, int b0,
               int outputs, int inputs, i64 L, int batch, int f, float drop_scale) {
  input_gradient<1>(&ds, &s, &w, &dz, masks, unscale_ds<1>(largest, back, drop_scale), b0, (outputs + 7) / 8 * 16, inputs, L, batch, f);
}
PRODUCT mix_ds_pairs(TENSOR_MAP ds, TENSOR_MAP s, TENSOR_MAP w, TENSOR_MAP dz, const u8* masks, const LargestMagnitudes* largest, const LargestGradients* back,
                     int b0, int outputs, int inputs, i64 L, int batch, int f, float drop_scale) {
  input_gradient<3>(&ds, &s, &w, &dz, masks, unscale_ds<3>(largest, back, drop_scale), b0, (outputs + 7) / 8 * 16, inputs, L, batch, f);
}

// ds as rows of f16 (inputs, B, chunks, T) for the SSM's backward pass (bidirectional_pass_sm90.cu, whose order of time steps these are), with
// a power of two per chunk, exps (inputs, exponents_of_head); zero from the sequences' lengths on. heads: raised at [4·input] to the bits of the
// input's largest |ds|. slopes (B, inputs, L): f′(s)·mask in f16, as mix_f16_copies wrote them. all: B; batch: sequences of dz, from b0 on.
PRODUCT mix_ds_rows(TENSOR_MAP ds, TENSOR_MAP slopes, TENSOR_MAP w, TENSOR_MAP dz, int* exps, int* heads, const int* lengths, const LargestMagnitudes* largest,
                    const LargestGradients* back, int b0, int outputs, int inputs, i64 L, int all, int batch, float drop_scale) {
  constexpr int BOX = 64 * 128;  // 64 inputs × T time steps
  const Unscale<1> unscale = unscale_ds<1>(largest, back, drop_scale);
  const SharedLayout m = shared_layout();
  ProductPipeline<TILE_STEPS, false, false, STAGES, 1> pipe;
  pipe.start(m.stages, m.barriers);
  if (threadIdx.x == 0) barrier_init(m.staging_ready, 1), barrier_init(m.staging_ready + 8, 1);
  wait_for_barrier_init();
  const Tiles tiles((inputs + 127) / 128, L, batch);
  const int rows = (outputs + 7) / 8 * 16, steps = (rows + pipe.K - 1) / pipe.K, chunks = (int)((L + T - 1) / T);
  if (threadIdx.x >= PRODUCER) {
    registers_decrease<24>();
    if (threadIdx.x == PRODUCER)
      for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const Tile at = tiles[i];
        for (int k = 0; k < steps; ++k) pipe.load(&w, &dz, {at.row * 128, at.column * TILE_STEPS, k * pipe.K, 0, at.batch});
      }
  } else {
    registers_increase<240>();
    const AccumulatorPosition l = accumulator_position();
    const u32 staging = m.staging + l.group * STAGING_BYTES, ready = m.staging_ready + 8 * l.group;
    char* mine = m.at + STAGES * STAGE_BYTES + l.group * STAGING_BYTES;
    float acc[TILE_STEPS / 2] = {};
    u32 phase = 0;
    for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
      const Tile at = tiles[i];
      const int m0 = at.row * 128 + l.group * 64, n0 = at.column * TILE_STEPS, b = b0 + at.batch;
      pipe.multiply(acc, steps, [&](int k) {
        if (l.first && k == min(1, steps - 1)) {
          wait_boxes_read<0>();
          barrier_expect(ready, STAGING_BYTES);
          for (int q = 0; q < 4; ++q) box_load(staging + q * BOX, &slopes, n0 + T * q, m0, b, ready);
        }
      });
      const int end = lengths ? lengths[b] - n0 : TILE_STEPS;
      barrier_wait(ready, phase);
      phase ^= 1;
      float most[2] = {0.f, 0.f};
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        char* const box = mine + q * BOX + (16 * l.warp + l.g) * 128;
        float to[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float m = 0.f;
#pragma unroll
          for (int k = 0; k < 8; ++k) {
            float &x = acc[4 * (8 * q + k) + 2 * r], &y = acc[4 * (8 * q + k) + 2 * r + 1];
            const float2 slope = unpack_f16(*(const u32*)(box + 1024 * r + (k ^ l.g) * 16 + 4 * l.t));
            const int left = end - (T * q + 8 * k + 2 * l.t);
            x = left > 0 ? unscale(x) * slope.x : 0.f, y = left > 1 ? unscale(y) * slope.y : 0.f;
            m = fmaxf(m, fmaxf(fabsf(x), fabsf(y)));
          }
          m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
          m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
          most[r] = fmaxf(most[r], m);
          const int e = m == 0.f ? 0 : f16_exponent(m, MOST_EXPONENT), input = m0 + 16 * l.warp + 8 * r + l.g, c = n0 / T + q;
          if (l.t == 0 && input < inputs && c < chunks) put_exponent(exps, input, all, chunks, b * chunks + c, e);
          to[r] = power_of_two(e);
        }
        // A row is of four lanes, which have read all its slopes.
        __syncwarp();
#pragma unroll
        for (int r = 0; r < 2; ++r)
#pragma unroll
          for (int k = 0; k < 8; ++k) {
            // The place of time steps 8k + 2t, 8k + 2t + 1: 32·(k / 4) + 16·(k % 2) + 8·(t / 2) + 4·(k / 2 % 2) + 2·(t % 2).
            const int part = 4 * (k >> 2) + 2 * (k & 1) + (l.t >> 1);
            *(u32*)(box + 1024 * r + (part ^ l.g) * 16 + 8 * (k >> 1 & 1) + 4 * (l.t & 1)) =
                pack_f16(acc[4 * (8 * q + k) + 2 * r] * to[r], acc[4 * (8 * q + k) + 2 * r + 1] * to[r]);
          }
      }
      stores_before_wgmma();
      warpgroup_sync(1 + l.group);
      if (l.first && m0 < inputs) {
        for (int q = 0; q < 4 && n0 + T * q < L; ++q) box_store(&ds, staging + q * BOX, n0 + T * q, m0, b);
        boxes_end_group();
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int input = m0 + 16 * l.warp + 8 * r + l.g;
        if (l.t == 0 && input < inputs && most[r] > 0.f) atomicMax(heads + 4 * input, __float_as_int(most[r]));
      }
    }
    if (l.first) wait_boxes_written();
  }
}

// slices (parts, rows, inputs): Σ dz·aᵀ.
template <int N, int PRODUCTS>
DEV void dw(const TensorMap* dz, const TensorMap* a, float* slices, const LargestMagnitudes* largest, const LargestGradients* back, int a0,
            int rows, int inputs, i64 L, int batch, float drop_scale) {
  const Unscale<PRODUCTS> unscale(exponent_a<PRODUCTS>(largest), exponent_dz<PRODUCTS>(back, drop_scale));
  weight_gradient<N, PRODUCTS>(dz, a, slices, unscale, a0, rows, inputs, L, batch);
}
PRODUCT mix_dw_128(TENSOR_MAP dz, TENSOR_MAP a, float* slices, const LargestMagnitudes* largest, const LargestGradients* back, int a0, int rows,
                   int inputs, i64 L, int batch, float scale) {
  dw<128, 1>(&dz, &a, slices, largest, back, a0, rows, inputs, L, batch, scale);
}
PRODUCT mix_dw_256(TENSOR_MAP dz, TENSOR_MAP a, float* slices, const LargestMagnitudes* largest, const LargestGradients* back, int a0, int rows,
                   int inputs, i64 L, int batch, float scale) {
  dw<256, 1>(&dz, &a, slices, largest, back, a0, rows, inputs, L, batch, scale);
}
PRODUCT mix_dw_128_pairs(TENSOR_MAP dz, TENSOR_MAP a, float* slices, const LargestMagnitudes* largest, const LargestGradients* back, int a0, int rows,
                         int inputs, i64 L, int batch, float scale) {
  dw<128, 3>(&dz, &a, slices, largest, back, a0, rows, inputs, L, batch, scale);
}
PRODUCT mix_dw_256_pairs(TENSOR_MAP dz, TENSOR_MAP a, float* slices, const LargestMagnitudes* largest, const LargestGradients* back, int a0, int rows,
                         int inputs, i64 L, int batch, float scale) {
  dw<256, 3>(&dz, &a, slices, largest, back, a0, rows, inputs, L, batch, scale);
}

#endif
