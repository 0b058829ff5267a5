// The operands of products_sm90.cu: f16 copies of up to three arrays in a launch, each multiplied by a power of two that
// brings it into the range of f16.
#include "codes.cuh"
#include "dense/product_copies_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// An array of 8·octets numbers and its copy.
struct CopiedArray {
  u16* to;
  const float* from;
  i64 octets;
};
#define ARRAYS u16 *to0, const float *from0, i64 octets0, u16 *to1, const float *from1, i64 octets1, u16 *to2, const float *from2, i64 octets2
// The array of this block: blockIdx.y.
#define ARRAY_HERE                                                                             \
  const CopiedArray array = blockIdx.y == 0   ? CopiedArray{to0, from0, octets0} \
                            : blockIdx.y == 1 ? CopiedArray{to1, from1, octets1} \
                                              : CopiedArray{to2, from2, octets2}

DEV void read_octet(float (&x)[8], const float* p, bool vec) {
  float a[4], b[4];
  read4(a, p, 4, vec), read4(b, p + 4, 4, vec);
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = a[i], x[4 + i] = b[i];
}

// magnitudes[i].sample ← the largest finite magnitude of a sample of array i: a thread reads eight neighbouring numbers somewhere in
// its part of the array. Grid (blocks, arrays); block: 256 threads.
KERNEL sample_magnitudes(Magnitudes* magnitudes, ARRAYS) {
  ARRAY_HERE;
  if (array.octets == 0) return;
  const i64 i = index(), first = i * array.octets / stride(), end = max(first + 1, (i + 1) * array.octets / stride());
  const i64 at = first + (i * 0x9E3779B1ll & 0x7fffffff) % (end - first);
  float x[8], largest = 0.f;
  read_octet(x, array.from + 8 * at, aligned(array.from));
#pragma unroll
  for (int k = 0; k < 8; ++k) largest = larger_finite(largest, x[k]);
  block_largest(&magnitudes[blockIdx.y].sample, largest);
}

// Writes the copies. mode: F16_COPIES_GUESS: by the power of two that the sample suggests, and finds the largest magnitudes;
// F16_COPIES_FIT: again each array that did not fit, by a power of two from its largest magnitude. Grid and block as above.
KERNEL f16_copies(Magnitudes* magnitudes, ARRAYS, int mode) {
  ARRAY_HERE;
  if (array.octets == 0) return;
  const Magnitudes known = magnitudes[blockIdx.y];
  const int guess = guessed_exponent(known), e = mode == F16_COPIES_GUESS ? guess : exponent<1>(known.all, guess);
  if (mode == F16_COPIES_FIT && e == guess) return;
  const float to = power_of_two(e);
  const bool vec = aligned(array.from);
  float largest = 0.f;
  for (i64 i = index(); i < array.octets; i += stride()) {
    float x[8];
    read_octet(x, array.from + 8 * i, vec);
#pragma unroll
    for (int k = 0; k < 8; ++k) largest = larger_finite(largest, x[k]);
    *(uint4*)(array.to + 8 * i) = make_uint4(pack_f16(x[0] * to, x[1] * to), pack_f16(x[2] * to, x[3] * to),
                                             pack_f16(x[4] * to, x[5] * to), pack_f16(x[6] * to, x[7] * to));
  }
  if (mode == F16_COPIES_GUESS) block_largest(&magnitudes[blockIdx.y].all, largest);
}

// The copy of a = dropout(f(s)), s (lines / inputs, inputs, L) at a multiple of 16 bytes, for the sequences from `first` / inputs
// on of a batch whose masks are drawn. masks: a bit per element, written by GUESS and read by FIT. Block: 256 threads.
KERNEL activated_copy(Magnitudes* magnitudes, u16* a, u8* masks, const float* s, i64 first, i64 lines, i64 L, int inputs, int mode, int f, DROP) {
  DROP_HERE;
  const int guess = guessed_exponent(*magnitudes), e = mode == F16_COPIES_GUESS ? guess : exponent<1>(magnitudes->all, guess);
  if (mode == F16_COPIES_FIT && e == guess) return;
  const float to = power_of_two(e);
  const bool draw = mode == F16_COPIES_GUESS;
  const float largest = f == ACTIVATION_GELU ? write_f16_a<1, true>(a, nullptr, masks, s, to, draw, first, lines, L, inputs, f, drop)
                                             : write_f16_a<1, false>(a, nullptr, masks, s, to, draw, first, lines, L, inputs, f, drop);
  if (draw) block_largest(&magnitudes->all, largest);
}

#endif
