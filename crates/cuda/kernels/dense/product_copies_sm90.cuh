// What the kernels of products_sm90.cu and product_copies_sm90.cu have in common.
#pragma once
#include "dense/f16_copies_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Largest finite magnitudes of an array, as bits of f32: of a sample of it (0: none was taken) and of all of it.
struct Magnitudes {
  u32 sample, all;
};

// The exponent with which an array is copied first: room for 2^10 times the largest magnitude of the sample.
DEV int guessed_exponent(const Magnitudes& m) { return m.sample ? f16_exponent(__uint_as_float(m.sample), 60) - 10 : 0; }
// The exponent of the copy.
DEV int copy_exponent(const Magnitudes& m) { return exponent<1>(m.all, guessed_exponent(m)); }

#endif
