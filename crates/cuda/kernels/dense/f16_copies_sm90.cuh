// f16 copies of arrays, x·2^e, as operands of products on Hopper: the exponent e is a guess that suits most arrays or,
// where the values do not fit, one that brings the largest magnitude below 2^15.
//
// One product of such copies holds 11 bits, as TF32 does. Three products (PRODUCTS = 3) are of pairs, x·2^e = high + low, with
// high = f16(x·2^e) and low = f16(x·2^e − high). That holds 22 bits, but nothing below 2^−25, since f16 numbers are multiples of
// 2^−24: an error of 3e-10 of the largest magnitude, by root mean square, where that is 2^6 in the copy, and of 1e-12 where it is
// 2^14. So a guess for pairs has to bring the largest magnitude to 2^6 or more; for single numbers 2^−4 is enough.
#pragma once
#include "common/tma_pipeline.cuh"
#include "dense/activation.cuh"
#include "dense/dropout.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

typedef unsigned char u8;
typedef unsigned short u16;

// The largest exponent. Products of pairs also serve gradients of 1e-30, as products of f32 do.
template <int PRODUCTS>
DEV int most_exponent() { return PRODUCTS == 1 ? 60 : 110; }

// The larger of m and |x|, or m where x is not finite: such a number says nothing of the range of the others, and the sums that it is
// not in stay what they are. (0·∞ is NaN, which fmaxf leaves out.)
DEV float larger_finite(float m, float x) { return fmaxf(m, fabsf(fmaf(x, 0.f, x))); }

// The exponent for an array: the guess, if it brings `largest`, the largest finite magnitude, between 2^−4 (pairs: 2^6) and 2^15, else one
// from `largest`.
template <int PRODUCTS>
DEV int exponent(u32 largest, int guess) {
  const float x = __uint_as_float(largest) * power_of_two(guess);
  return largest == 0 || (x >= (PRODUCTS == 1 ? 0.0625f : 64.f) && x <= 32768.f) ? guess : f16_exponent(__uint_as_float(largest), most_exponent<PRODUCTS>());
}

// What brings a product of arrays with exponents a and b back, times `by`. Of pairs these are two factors, since two exponents may be
// more than one number holds: the smaller one comes first, so that nothing overflows or vanishes that the result holds.
template <int PRODUCTS>
struct Unscale {
  float first, second;
  DEV_MEMBER Unscale(float factor) { first = factor, second = 1.f; }
  DEV_MEMBER Unscale(int a, int b, float by = 1.f) {
    first = power_of_two(PRODUCTS == 1 ? -a - b : -max(a, b)), second = power_of_two(-min(a, b));
    (PRODUCTS == 1 ? first : second) *= by;
  }
  DEV_MEMBER float operator()(float x) const { return PRODUCTS == 1 ? x * first : x * first * second; }
};

// *to ← max(*to, m of all threads of the block), of 256 threads. m: finite.
DEV void block_largest(u32* to, float m) {
  __shared__ float part[8];
#pragma unroll
  for (int k = 16; k; k >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, k));
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = m;
  __syncthreads();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 1; i < 8; ++i) m = fmaxf(m, part[i]);
    if (m > 0.f) atomicMax(to, __float_as_uint(m));
  }
}

// Writes the f16 copy of a for features first … first + lines − 1 of (batch·inputs), times `to`, and returns the
// thread's largest finite magnitude. Each lane takes eight neighbouring time steps of a feature, a warp 256. masks: one bit
// per element, drawn if `draw`, else read; without them masks are drawn and not kept. Of pairs (tma_pipeline.cuh) whole sequences are
// written, each as two planes. slopes: of single numbers also f′(s) in f16, 0 where dropped, or null.
template <int PRODUCTS, bool GELU>
DEV float write_f16_a(u16* a, u16* slopes, u8* masks, const float* s, float to, bool draw, i64 first, i64 lines, i64 L, int inputs, int f,
                     const DropoutKey& drop) {
  const i64 warps = stride() >> 5, tiles = (L + 255) / 256;
  const int lane = threadIdx.x & 31;
  float max_magnitude = 0.f;
  for (i64 u = index() >> 5; u < lines * tiles; u += warps) {
    const i64 line = quotient(u, tiles), tile = u - line * tiles, n = tile * 256 + 8 * lane;
    if (n >= L) continue;
    const i64 row = quotient(first + line, inputs), at = (first + line) * L + n;
    const float4 x0 = *(const float4*)(s + at), x1 = *(const float4*)(s + at + 4);
    float x[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
    u32 keep = 255;
    if (drop.threshold) {
      u8* mask = masks + ((row * tiles + tile) * inputs + (first + line - row * inputs)) * 32 + lane;
      if (draw && drop.tied) {
        keep = line_factor(drop, first + line) != 0.f ? 255u : 0u;
        if (masks) *mask = (u8)keep;
      } else if (draw) {
        keep = 0;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const uint4 r = philox_of(drop, at / 4 + h);
          keep |= ((r.x >= drop.threshold) | (r.y >= drop.threshold) << 1 | (r.z >= drop.threshold) << 2 | (r.w >= drop.threshold) << 3) << 4 * h;
        }
        if (masks) *mask = (u8)keep;
      } else {
        keep = *mask;
      }
    }
    float d[8];  // slopes
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool kept = keep >> i & 1;
      float v;
      if constexpr (GELU && PRODUCTS == 1) {
        v = gelu_and_slope_near(x[i], d[i]);
      } else {
        d[i] = PRODUCTS == 1 && slopes ? activate_slope(f, x[i]) : 0.f;
        v = activate(GELU ? ACTIVATION_GELU : f, x[i]);
      }
      d[i] = kept ? d[i] : 0.f, x[i] = kept ? drop.scale * v : 0.f;
      max_magnitude = larger_finite(max_magnitude, x[i]);
    }
    if (PRODUCTS == 1 && slopes)
      *(uint4*)(slopes + line * L + n) = make_uint4(pack_f16(d[0], d[1]), pack_f16(d[2], d[3]), pack_f16(d[4], d[5]), pack_f16(d[6], d[7]));
    if constexpr (PRODUCTS == 3) {
      u16* high = a + (line + (row - quotient(first, inputs)) * inputs) * L + n;
      uint4 h, l;
      split_f16(h.x, l.x, x[0], x[1], to), split_f16(h.y, l.y, x[2], x[3], to);
      split_f16(h.z, l.z, x[4], x[5], to), split_f16(h.w, l.w, x[6], x[7], to);
      *(uint4*)high = h;
      *(uint4*)(high + inputs * L) = l;
    } else {
      uint4 h;
      h.x = pack_f16(x[0] * to, x[1] * to), h.y = pack_f16(x[2] * to, x[3] * to);
      h.z = pack_f16(x[4] * to, x[5] * to), h.w = pack_f16(x[6] * to, x[7] * to);
      *(uint4*)(a + line * L + n) = h;
    }
  }
  return max_magnitude;
}

#endif
