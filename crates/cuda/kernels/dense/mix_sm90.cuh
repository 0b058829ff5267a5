// What the kernels of the mix with GLU on Hopper have in common (mix_sm90.cu, mix_f16_copies_sm90.cu).
//
// Operands are f16 copies, x·2^e, single numbers or pairs (f16_copies_sm90.cuh).
//
// The rows of W and dz are ordered so that a thread of wgmma holds z₁ and z₂ of the same output: of every sixteen rows
// the first eight are z₁ and the last eight z₂ of the same eight outputs. The last sixteen may be filled with zeros.
#pragma once
#include "dense/f16_copies_sm90.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Row of the matrix W (2·outputs, inputs) at position p of that order; −1 for rows of zeros.
DEV int weight_row(int p, int outputs) {
  const int o = (p >> 4) * 8 + (p & 7);
  return o < outputs ? o + (p & 8 ? outputs : 0) : -1;
}

// Largest finite magnitudes of a and W, as bits of f32.
struct LargestMagnitudes {
  u32 a, w;
};
// Largest finite magnitudes, as bits of f32, of a random subset of dy and of all of dz.
struct LargestGradients {
  u32 dy, dz;
};

// Exponents that suit most networks: of pairs, where the largest magnitude of a is between 1/4 and 128, that of W between
// 1/64 and 8.
template <int PRODUCTS>
DEV int guess_a() { return PRODUCTS == 1 ? 0 : 8; }
template <int PRODUCTS>
DEV int guess_w() { return PRODUCTS == 1 ? 8 : 12; }

template <int PRODUCTS>
DEV int exponent_a(const LargestMagnitudes* l) { return exponent<PRODUCTS>(l->a, guess_a<PRODUCTS>()); }
template <int PRODUCTS>
DEV int exponent_w(const LargestMagnitudes* l) { return exponent<PRODUCTS>(l->w, guess_w<PRODUCTS>()); }
// dz is about as large as dy, of which the largest magnitude in a random subset is known: room for 2^10 times that, of
// pairs for 2^4 times. (Where scale·dy is beyond f32 that is too small an exponent, and the largest of dz gives another.)
template <int PRODUCTS>
DEV int guessed_exponent_dz(const LargestGradients* l, float scale) {
  return f16_exponent(scale * __uint_as_float(l->dy), most_exponent<PRODUCTS>()) - (PRODUCTS == 1 ? 10 : 4);
}
template <int PRODUCTS>
DEV int exponent_dz(const LargestGradients* l, float scale) {
  return exponent<PRODUCTS>(l->dz, guessed_exponent_dz<PRODUCTS>(l, scale));
}

#endif
