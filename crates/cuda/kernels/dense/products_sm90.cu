// The products of a linear layer on Hopper, of f16 copies (product_copies_sm90.cu):
//   y = W x + b                              product_forward
//   dx = Wᵀ dy                               product_backward
//   ds = (Wᵀ dz)·mask·f′(s)                  product_backward_activated, where x = dropout(f(s))
//   Σ dy·xᵀ                                  product_weights_128, product_weights_256
// magnitudes: of x, W and dy, in this order.
#include "codes.cuh"
#include "dense/product_copies_sm90.cuh"
#include "dense/product_tiles_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

enum { OF_X, OF_W, OF_DY };
// What brings a product of two copies back.
DEV float unscaled(const Magnitudes* magnitudes, int i, int j) {
  return power_of_two(-copy_exponent(magnitudes[i]) - copy_exponent(magnitudes[j]));
}

// y (batch, rows, L) = scale·A·b + bias, with A (rows, inner) and b (batch, inner, L). AK: inner is the fast index of A. bias: one
// per row, or null.
template <bool AK>
DEV void product(const TensorMap* y, const TensorMap* a, const TensorMap* b, const float* bias, float scale, int rows, int inner, i64 L, int batch) {
  const SharedLayout m = shared_layout();
  ProductPipeline<TILE_STEPS, AK, false, STAGES, 1> pipe;
  pipe.start(m.stages, m.barriers);
  wait_for_barrier_init();
  const Tiles tiles((rows + 127) / 128, L, batch);
  const int steps = (inner + 63) / 64;
  if (threadIdx.x >= PRODUCER) {
    registers_decrease<24>();
    if (threadIdx.x == PRODUCER)
      for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const Tile at = tiles[i];
        for (int k = 0; k < steps; ++k) pipe.load(a, b, {at.row * 128, at.column * TILE_STEPS, k * 64, 0, at.batch});
      }
  } else {
    registers_increase<240>();
    const AccumulatorPosition l = accumulator_position();
    const u32 staging = m.staging + l.group * STAGING_BYTES;
    char* mine = m.at + STAGES * STAGE_BYTES + l.group * STAGING_BYTES;
    float acc[TILE_STEPS / 2] = {};
    for (int i = blockIdx.x; i < tiles.count; i += gridDim.x) {
      const Tile at = tiles[i];
      const int m0 = at.row * 128 + l.group * 64, r0 = m0 + 16 * l.warp + l.g, n0 = at.column * TILE_STEPS;
      const float above[2] = {bias && r0 < rows ? bias[r0] : 0.f, bias && r0 + 8 < rows ? bias[r0 + 8] : 0.f};
      pipe.multiply(acc, steps, [](int) {});
      // Two boxes at a time, in places whose boxes of before have been read.
#pragma unroll
      for (int h = 0; h < 4; ++h) {
        if (l.first) wait_boxes_read<1>();
        warpgroup_sync(1 + l.group);
#pragma unroll
        for (int q = 2 * h; q < 2 * h + 2; ++q) {
          char* const to = mine + (q & 3) * STAGED_BOX_BYTES + (16 * l.warp + l.g) * 128 + (l.t & 1) * 8;
#pragma unroll
          for (int k = 0; k < 8; ++k) {
            const int r = k >> 2, j = 4 * q + (k & 3);
            *(float2*)(to + r * 1024 + ((2 * (k & 3) + (l.t >> 1)) ^ l.g) * 16) =
                make_float2(fmaf(acc[4 * j + 2 * r], scale, above[r]), fmaf(acc[4 * j + 2 * r + 1], scale, above[r]));
          }
        }
        stores_before_wgmma();
        warpgroup_sync(1 + l.group);
        if (l.first) {
          for (int q = 2 * h; q < 2 * h + 2; ++q)
            if (m0 < rows && n0 + 32 * q < L) box_store(y, staging + (q & 3) * STAGED_BOX_BYTES, n0 + 32 * q, m0, at.batch);
          boxes_end_group();
        }
      }
    }
    if (l.first) wait_boxes_written();
  }
}

// y (batch, outputs, L).
PRODUCT product_forward(TENSOR_MAP y, TENSOR_MAP w, TENSOR_MAP x, const float* bias, const Magnitudes* magnitudes, int outputs, int inputs, i64 L, int batch) {
  product<true>(&y, &w, &x, bias, unscaled(magnitudes, OF_X, OF_W), outputs, inputs, L, batch);
}

// dx (batch, inputs, L).
PRODUCT product_backward(TENSOR_MAP dx, TENSOR_MAP w, TENSOR_MAP dy, const Magnitudes* magnitudes, int outputs, int inputs, i64 L, int batch) {
  product<false>(&dx, &w, &dy, nullptr, unscaled(magnitudes, OF_W, OF_DY), inputs, outputs, L, batch);
}

// ds (B, inputs, L) for the `batch` sequences from b0 on, to which dz belongs.
PRODUCT product_backward_activated(TENSOR_MAP ds, TENSOR_MAP s, TENSOR_MAP w, TENSOR_MAP dz, const u8* masks, const Magnitudes* magnitudes, int b0, int outputs,
                                   int inputs, i64 L, int batch, int f, float drop_scale) {
  input_gradient<1>(&ds, &s, &w, &dz, masks, unscaled(magnitudes, OF_W, OF_DY) * drop_scale, b0, outputs, inputs, L, batch, f);
}

// slices (parts, outputs, inputs).
PRODUCT product_weights_128(TENSOR_MAP dy, TENSOR_MAP x, float* slices, const Magnitudes* magnitudes, int outputs, int inputs, i64 L, int batch) {
  weight_gradient<128, 1>(&dy, &x, slices, unscaled(magnitudes, OF_X, OF_DY), 0, outputs, inputs, L, batch);
}
PRODUCT product_weights_256(TENSOR_MAP dy, TENSOR_MAP x, float* slices, const Magnitudes* magnitudes, int outputs, int inputs, i64 L, int batch) {
  weight_gradient<256, 1>(&dy, &x, slices, unscaled(magnitudes, OF_X, OF_DY), 0, outputs, inputs, L, batch);
}

#endif
