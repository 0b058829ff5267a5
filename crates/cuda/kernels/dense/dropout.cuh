// Dropout masks, drawn as s4_backend::random says.
#pragma once
#include "common/base.cuh"

// The random generator Philox 4×32 of ten rounds: four random words of counter c0 … c3 and key k0, k1.
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

// One dropout: the key of its random numbers (s4_backend::random), and what it does with them.
struct DropoutKey {
  u64 seed, step;
  u32 site, threshold;  // threshold 0: nothing is dropped
  float scale;
  int tied;             // one draw for all time steps of a feature
};

// Random words of elements 4·block … 4·block + 3; an element whose word is below the threshold is dropped.
DEV uint4 philox_of(const DropoutKey& d, u64 block) {
  const u32 rot = (d.site << 16) | (d.site >> 16);
  return philox((u32)block, (u32)(block >> 32) ^ rot, (u32)d.step, (u32)(d.step >> 32) ^ d.site, (u32)d.seed,
                (u32)(d.seed >> 32));
}

// Factors of the same four elements: 0 where dropped, else 1/(1 − p).
DEV float4 drop_factors(const DropoutKey& d, u64 block) {
  const uint4 r = philox_of(d, block);
  return make_float4(r.x >= d.threshold ? d.scale : 0.f, r.y >= d.threshold ? d.scale : 0.f,
                     r.z >= d.threshold ? d.scale : 0.f, r.w >= d.threshold ? d.scale : 0.f);
}

// The factor of all time steps of a line (sequence, feature), where dropout is tied.
DEV float line_factor(const DropoutKey& d, i64 line) {
  const float4 v = drop_factors(d, (u64)line / 4);
  return (line & 3) == 0 ? v.x : (line & 3) == 1 ? v.y : (line & 3) == 2 ? v.z : v.w;
}

// Factors of elements 4·block … 4·block + 3 of an array (batch·features, len): drawn per element, or per feature of a
// sequence when tied.
DEV void factors(const DropoutKey& d, u64 block, i64 len, float (&f)[4]) {
  if (d.threshold == 0) {
    f[0] = f[1] = f[2] = f[3] = 1.f;
  } else if (!d.tied) {
    const float4 v = drop_factors(d, block);
    f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
  } else {
    const i64 line = quotient((i64)block * 4, len), rest = (line + 1) * len - (i64)block * 4;
    f[0] = f[1] = f[2] = f[3] = line_factor(d, line);
    if (rest >= 4) return;
    // The four lie in several lines.
#pragma unroll
    for (int i = 1; i < 4; ++i)
      if (i >= rest) f[i] = line_factor(d, quotient((i64)block * 4 + i, len));
  }
}

#define DROP u64 seed, u64 step, u32 site, u32 threshold, float scale, int tied
#define DROP_HERE const DropoutKey drop = {seed, step, site, threshold, scale, tied}
