// The operands of the mix with GLU on Hopper (mix_sm90.cu): f16 copies of a = dropout(f(s)) and of W, single numbers or pairs, each
// multiplied by a power of two that brings it into the range of f16; and the last sums of the gradients of weight and bias.
#include "codes.cuh"
#include "dense/f16_copies_sm90.cuh"
#include "dense/mix_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Writes the f16 copy of W times `to`, its rows in the order of mix_sm90.cuh; returns the thread's largest finite magnitude.
template <int PRODUCTS>
DEV float write_f16_w(u16* plane, const float* w, float to, int outputs, int inputs) {
  const int rows = (outputs + 7) / 8 * 16, quads = inputs / 4;
  const bool vec = aligned(w);
  float max_magnitude = 0.f;
  for (i64 q = index(); q < (i64)rows * quads; q += stride()) {
    const int p = (int)(q / quads), k = (int)(q - (i64)p * quads) * 4, row = weight_row(p, outputs);
    float x[4] = {};
    if (row >= 0) read4(x, w + (i64)row * inputs + k, 4, vec);
#pragma unroll
    for (int i = 0; i < 4; ++i) max_magnitude = larger_finite(max_magnitude, x[i]);
    u16* place = plane + (i64)p * inputs + k;
    if constexpr (PRODUCTS == 3) {
      uint2 h, l;
      split_f16(h.x, l.x, x[0], x[1], to), split_f16(h.y, l.y, x[2], x[3], to);
      *(uint2*)place = h;
      *(uint2*)(place + (i64)rows * inputs) = l;
    } else {
      *(uint2*)place = make_uint2(pack_f16(x[0] * to, x[1] * to), pack_f16(x[2] * to, x[3] * to));
    }
  }
  return max_magnitude;
}

// Writes the f16 copies of a (blockIdx.y = 0) and W (1). mode, an F16_COPIES_… of src/dense/f16_copies.rs: GUESS writes
// both with the powers of two that most networks need, draws the dropout masks and finds the largest magnitudes; FIT
// writes again each array that did not fit, with a power of two from its largest magnitude; RECOMPUTE writes a,
// features from `first` on, again for backward, and W where the grid's second dimension is 2; with the masks that forward kept or, of pairs,
// masks drawn again. masks: null where they are not kept. slopes: where GUESS writes the slopes of f at s, or null. Grid (blocks, 1 or 2);
// block: 256 threads.
template <int PRODUCTS>
DEV void f16_copies(u16* a, u16* w, u16* slopes, u8* masks, LargestMagnitudes* largest, const float* s, const float* weight, i64 first, i64 lines,
                    i64 L, int outputs, int inputs, int mode, int f, const DropoutKey& drop) {
  const bool second = blockIdx.y;
  const int guess = second ? guess_w<PRODUCTS>() : guess_a<PRODUCTS>();
  const int e = mode == F16_COPIES_GUESS ? guess : second ? exponent_w<PRODUCTS>(largest) : exponent_a<PRODUCTS>(largest);
  if (mode == F16_COPIES_FIT && e == guess) return;
  const float to = power_of_two(e);
  const bool draw = mode == F16_COPIES_GUESS || !masks || (PRODUCTS == 3 && mode == F16_COPIES_RECOMPUTE);
  if (mode != F16_COPIES_GUESS) slopes = nullptr;
  float max_magnitude;
  if (second) max_magnitude = write_f16_w<PRODUCTS>(w, weight, to, outputs, inputs);
  else if (f == ACTIVATION_GELU) max_magnitude = write_f16_a<PRODUCTS, true>(a, slopes, masks, s, to, draw, first, lines, L, inputs, f, drop);
  else max_magnitude = write_f16_a<PRODUCTS, false>(a, slopes, masks, s, to, draw, first, lines, L, inputs, f, drop);
  if (mode == F16_COPIES_GUESS) block_largest(second ? &largest->w : &largest->a, max_magnitude);
}
KERNEL mix_f16_copies(u16* a, u16* w, u16* slopes, u8* masks, LargestMagnitudes* largest, const float* s, const float* weight, i64 first, i64 lines,
                  i64 L, int outputs, int inputs, int mode, int f, DROP) {
  DROP_HERE;
  f16_copies<1>(a, w, slopes, masks, largest, s, weight, first, lines, L, outputs, inputs, mode, f, drop);
}
extern "C" __global__ void __launch_bounds__(256, 3) mix_f16_copies_pairs(u16* a, u16* w, u16* slopes, u8* masks, LargestMagnitudes* largest, const float* s, const float* weight, i64 first, i64 lines,
                  i64 L, int outputs, int inputs, int mode, int f, DROP) {
  DROP_HERE;
  f16_copies<3>(a, w, slopes, masks, largest, s, weight, first, lines, L, outputs, inputs, mode, f, drop);
}

// *to ← max(*to, largest finite magnitude of a sample of dy (lines, L)): of four numbers somewhere in a line, and its last
// four.
KERNEL mix_largest_of_subset(u32* to, const float* dy, i64 lines, i64 L) {
  const i64 i = index(), line = i * lines / stride(), q = (i * 0x9E3779B1ll & 0x7fffffff) % (L / 4);
  const float4 x = *(const float4*)(dy + line * L + 4 * q), y = *(const float4*)(dy + line * L + L - 4);
  const float sample[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
  float largest = 0.f;
#pragma unroll
  for (int k = 0; k < 8; ++k) largest = larger_finite(largest, sample[k]);
  block_largest(to, largest);
}

// dW (2·outputs, inputs) += Σ of the slices (parts, rows, inputs), whose rows are in the order of mix_sm90.cuh.
KERNEL mix_dw_sum(float* dw, const float* slices, int parts, int outputs, int inputs) {
  const int rows = (outputs + 7) / 8 * 16, quads = inputs / 4;
  const bool vec = aligned(dw);
  for (i64 q = index(); q < (i64)rows * quads; q += stride()) {
    const int p = (int)(q / quads), k = (int)(q - (i64)p * quads) * 4, row = weight_row(p, outputs);
    if (row < 0) continue;
    float* to = dw + (i64)row * inputs + k;
    float s[4], x[4];
    read4(s, to, 4, vec);
#pragma unroll 8
    for (int i = 0; i < parts; ++i) {
      read4(x, slices + ((i64)i * rows + p) * inputs + k, 4, true);
#pragma unroll
      for (int j = 0; j < 4; ++j) s[j] += x[j];
    }
    write4(to, s, 4, vec);
  }
}

// db (2·outputs) += Σ_i part[i] of part (parts, rows), rows in the order of mix_sm90.cuh. Block (32, 32), for 32 rows.
KERNEL mix_db(float* db, const float* part, i64 parts, int outputs) {
  __shared__ float partial_sums[32][33];
  const int rows = (outputs + 7) / 8 * 16, p = blockIdx.x * 32 + threadIdx.x;
  float s = 0.f;
  if (p < rows)
    for (i64 i = threadIdx.y; i < parts; i += 32) s += part[i * rows + p];
  partial_sums[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  s = warp_sum(partial_sums[threadIdx.x][threadIdx.y]);
  const int own = blockIdx.x * 32 + threadIdx.y, row = own < rows ? weight_row(own, outputs) : -1;
  if (threadIdx.x == 0 && row >= 0) db[row] += s;
}

#endif
