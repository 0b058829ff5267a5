// What the kernels of a mix with GLU on Hopper share (mix_sm90.cu, mix_f16_copies_sm90.cu).
//
// Operands are f16 planes, x·2^e, where e is a guess that fits what most networks hold, or, where it does not, brings
// the largest magnitude below 2^15. One product of such planes holds TF32's 11 bits.
//
// The rows of W and of dz stand so that a thread of wgmma has z₁ and z₂ of one output: of each sixteen the first eight
// belong to z₁ and the last eight to z₂ of the same eight outputs. The last sixteen may be filled up with zeros.
#pragma once
#include "common/tma_pipeline.cuh"
#include "dense/activation.cuh"
#include "dense/dropout.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

typedef unsigned char u8;
typedef unsigned short u16;

// The row of W at place p, −1 for none.
DEV int weight_row(int p, int outputs) {
  const int o = (p >> 4) * 8 + (p & 7);
  return o < outputs ? o + (p & 8 ? outputs : 0) : -1;
}

// LargestMagnitudes magnitudes, as bits.
struct LargestMagnitudes {
  u32 a, w;
};
// Of a sample of dy, and of all of dz.
struct LargestGradients {
  u32 dy, dz;
};

constexpr int GUESS_A = 0, GUESS_W = 8;

// The guess, if it brings `largest` between 2^−4 and 2^15.
DEV int exponent(u32 largest, int guess) {
  const float x = __uint_as_float(largest) * power_of_two(guess);
  return largest == 0 || (x >= 0.0625f && x <= 32768.f) ? guess : f16_exponent(__uint_as_float(largest), 60);
}
DEV int exponent_a(const LargestMagnitudes* l) { return exponent(l->a, GUESS_A); }
DEV int exponent_w(const LargestMagnitudes* l) { return exponent(l->w, GUESS_W); }
// dz is about as large as dy: room for 2^10 times the sample's largest.
DEV int guessed_exponent_dz(const LargestGradients* l, float scale) { return f16_exponent(scale * __uint_as_float(l->dy), 60) - 10; }
DEV int exponent_dz(const LargestGradients* l, float scale) { return exponent(l->dz, guessed_exponent_dz(l, scale)); }

#endif
