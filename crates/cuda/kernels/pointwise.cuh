// Activations with their derivatives, and dropout masks drawn as s4_backend::random says.
#pragma once
#include "common.cuh"

DEV float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// Codes of s4_backend::Activation, in its order: identity, gelu (exact), relu, silu, tanh, sigmoid.
DEV float activate(int f, float x) {
  switch (f) {
    case 1: return 0.5f * x * (1.f + erff(x * 0.70710678118654752f));
    case 2: return x < 0.f ? 0.f : x;
    case 3: return x * sigmoid(x);
    case 4: return tanhf(x);
    case 5: return sigmoid(x);
    default: return x;
  }
}
DEV float activate_slope(int f, float x) {
  switch (f) {
    case 1:
      return 0.5f * (1.f + erff(x * 0.70710678118654752f)) + x * 0.39894228040143268f * expf(-0.5f * x * x);
    case 2: return x > 0.f ? 1.f : 0.f;
    case 3: {
      float s = sigmoid(x);
      return s * (1.f + x * (1.f - s));
    }
    case 4: {
      float y = tanhf(x);
      return 1.f - y * y;
    }
    case 5: {
      float s = sigmoid(x);
      return s * (1.f - s);
    }
    default: return 1.f;
  }
}

#if __CUDA_ARCH__ >= 750
// The same from the special function units, a few times 1e-7 off.
DEV float exp2_near(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEV float reciprocal_near(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEV float sigmoid_near(float x) { return reciprocal_near(1.f + exp2_near(-1.44269504f * x)); }

// Φ(x) with e = exp(−x²/2): Abramowitz and Stegun 7.1.26, absolute error 8e-8.
DEV float normal_near(float x, float& e) {
  const float t = reciprocal_near(fmaf(0.3275911f * 0.70710678f, fabsf(x), 1.f));
  float p = fmaf(t, 0.5f * 1.061405429f, 0.5f * -1.453152027f);
  p = fmaf(t, p, 0.5f * 1.421413741f);
  p = fmaf(t, p, 0.5f * -0.284496736f);
  p = fmaf(t, p, 0.5f * 0.254829592f);
  e = exp2_near(-0.72134752f * x * x);
  const float tail = p * t * e;
  return x < 0.f ? tail : 1.f - tail;
}
DEV float gelu_near(float x) {
  float e;
  return x * normal_near(x, e);
}
DEV float gelu_slope_near(float x) {
  float e;
  const float p = normal_near(x, e);
  return fmaf(0.39894228f * x, e, p);
}
#endif

// Philox 4×32, ten rounds.
DEV uint4 philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
  for (int r = 0; r < 10; ++r) {
    const u32 h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    const u32 h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0, c1 = l1, c2 = h0 ^ c3 ^ k1, c3 = l0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return make_uint4(c0, c1, c2, c3);
}

struct Drop {
  u64 seed, step;
  u32 site, threshold;  // threshold 0: nothing is dropped
  float scale;
  int tied;
};

// The draws of elements 4·block … 4·block + 3; what lies below the threshold is dropped.
DEV uint4 philox_of(const Drop& d, u64 block) {
  const u32 rot = (d.site << 16) | (d.site >> 16);
  return philox((u32)block, (u32)(block >> 32) ^ rot, (u32)d.step, (u32)(d.step >> 32) ^ d.site, (u32)d.seed,
                (u32)(d.seed >> 32));
}

// Their factors, 0 or 1/(1 − p).
DEV float4 drop_factors(const Drop& d, u64 block) {
  const uint4 r = philox_of(d, block);
  return make_float4(r.x >= d.threshold ? d.scale : 0.f, r.y >= d.threshold ? d.scale : 0.f,
                     r.z >= d.threshold ? d.scale : 0.f, r.w >= d.threshold ? d.scale : 0.f);
}

// Factors of the four elements from 4·block on of an array of (lines, len): one an element, or one a line when tied.
DEV void factors(const Drop& d, u64 block, i64 len, float (&f)[4]) {
  if (d.threshold == 0) {
    f[0] = f[1] = f[2] = f[3] = 1.f;
  } else if (!d.tied) {
    const float4 v = drop_factors(d, block);
    f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const u64 line = (block * 4 + i) / len;
      const float4 v = drop_factors(d, line / 4);
      f[i] = (line & 3) == 0 ? v.x : (line & 3) == 1 ? v.y : (line & 3) == 2 ? v.z : v.w;
    }
  }
}

#define DROP u64 seed, u64 step, u32 site, u32 threshold, float scale, int tied
#define DROP_HERE const Drop drop = {seed, step, site, threshold, scale, tied}
